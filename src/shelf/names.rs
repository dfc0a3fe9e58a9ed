//! Names: one for each model, and what people type for it.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::{Found, Keeper};

/// What a word means on the shelf.
#[derive(Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// One model.
    One(&'a Found),
    /// Several models that the word names equally well, at least two.
    Several(Vec<&'a Found>),
    /// No model; names that look like the word, the likeliest first, at most five.
    None(Vec<&'a str>),
}

/// Counts each file once, gives every model a name of its own, and puts all in order.
pub(super) fn settle(models: &mut Vec<Found>) {
    let mut seen = HashSet::new();
    models.retain(|m| {
        let file = fs::canonicalize(&m.path).unwrap_or_else(|_| m.path.clone());
        // Tags of ollama are names that people chose, so each of them counts.
        let tag = if m.keeper == Keeper::Ollama { m.name.clone() } else { String::new() };
        seen.insert((file, tag))
    });
    let words: Vec<String> = models.iter().map(|m| tame(&m.name)).collect();
    let mut uses: HashMap<String, usize> = HashMap::new();
    for word in &words {
        *uses.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut taken = HashSet::new();
    for (model, word) in models.iter_mut().zip(words) {
        let mut name = word;
        if uses[&name.to_lowercase()] > 1 {
            // Two files of one repository may end in the same word: the name of the file tells them apart.
            let stem = tame(&model.path.file_stem().unwrap_or_default().to_string_lossy());
            let base = name.split(':').next().unwrap_or(&name).to_owned();
            if !name.ends_with(&stem) && !stem.starts_with("sha256") {
                name = format!("{base}/{stem}");
            }
        }
        let first = name.clone();
        let mut n = 1;
        while !taken.insert(name.to_lowercase()) {
            n += 1;
            name = format!("{first}#{n}");
        }
        model.name = name;
    }
    models.sort_by_key(|m| (m.keeper, m.name.to_lowercase()));
}

/// A name that can be typed and shown: what is blank or a control character becomes `_`.
fn tame(name: &str) -> String {
    let odd = |c: char| c.is_whitespace() || crate::error::escaped(c.encode_utf8(&mut [0; 4])) != c.to_string();
    name.chars().map(|c| if odd(c) { '_' } else { c }).collect()
}

pub(super) fn find<'a>(models: &'a [Found], word: &str) -> Match<'a> {
    let word = word.to_lowercase();
    let word = word.strip_suffix(".gguf").unwrap_or(&word);
    if let Some(model) = models.iter().find(|m| m.name.to_lowercase() == word) {
        return Match::One(model);
    }
    let hits: Vec<&Found> = models.iter().filter(|m| aliases(m).iter().any(|a| a == word)).collect();
    match hits[..] {
        [one] => Match::One(one),
        [] => Match::None(similar(models, word)),
        _ => Match::Several(hits),
    }
}

/// What a model may be called beside its name: without publisher, without tag, without both, and by its file, with or
/// without the type of its weights.
fn aliases(model: &Found) -> Vec<String> {
    let name = model.name.to_lowercase();
    let short = name.rsplit('/').next().unwrap_or(&name).to_owned();
    let bare = |text: &str| text.split(':').next().unwrap_or(text).to_owned();
    let stem = model.path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let prefix = crate::gguf::ShardName::of(&model.path).map(|n| n.prefix.to_lowercase());
    let untyped = prefix.as_ref().unwrap_or(&stem).rsplit_once(['-', '.']).filter(|(_, last)| is_type(last));
    let mut all = vec![bare(&name), bare(&short), short];
    all.extend(untyped.map(|(rest, _)| rest.to_owned()));
    all.push(stem);
    all.extend(prefix);
    all
}

/// Is a word the name of a type of weights, as in `q4_k_m`, `iq2_xs`, `bf16`?
fn is_type(word: &str) -> bool {
    ["q", "iq", "tq", "f", "bf", "mxfp"]
        .iter()
        .any(|letters| word.strip_prefix(letters).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
}

/// Names that hold the word, then those that differ from it, or from a part of it, by few letters.
fn similar<'a>(models: &'a [Found], word: &str) -> Vec<&'a str> {
    let score = |m: &'a Found| {
        let name = m.name.to_lowercase();
        let near = |a: &str| distance(a, word) as f64 / a.chars().count().max(word.chars().count()).max(1) as f64;
        let nearest = aliases(m).iter().map(|a| near(a)).chain([near(&name)]).fold(1.0, f64::min);
        if word.chars().count() >= 3 && name.contains(word) { nearest / 10.0 } else { nearest }
    };
    let mut scored: Vec<(f64, &str)> = models.iter().map(|m| (score(m), m.name.as_str())).collect();
    scored.retain(|(score, _)| *score <= 0.4);
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(5).map(|(_, name)| name).collect()
}

/// Longest text whose letters are compared: names are shorter, and the work is its square.
const MAX_COMPARED: usize = 200;

/// Letters to insert, delete or replace between two texts (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(MAX_COMPARED).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(MAX_COMPARED).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
