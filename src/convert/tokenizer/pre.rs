//! Which pre-tokenizer a folder has: what its patterns *are* is compared with those that `text` knows by name.
//!
//! Patterns are compared as parsed, so spelling does not matter: order of classes, escapes, `(?i:'s)` or `'[sS]`.

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result, escaped};
use crate::text::{Step, Tail, pre_tokenizer, pre_tokenizers};

/// A pre-tokenizer by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: &'static str,
    /// Does the named one take whole words as the folder's does?
    pub(super) exact: bool,
    /// A blank is put before the text.
    pub(super) prefix_space: bool,
}

/// Longest patterns that are looked at, all passes together; the longest known have 4 kB. A class of letters takes a
/// thousand times its text when it is parsed.
const MAX_PATTERN_BYTES: usize = 16 << 10;

/// The key that names a pre-tokenizer.
pub(super) const PRE: &str = "tokenizer.ggml.pre";

/// The name of the pre-tokenizer of `tokenizer.json`: of those with its patterns one that treats whole words alike,
/// of these the first of `preferred`. `unmixed` tells whether no merge joins digits of the byte alphabet to other
/// characters: then it is all the same whether words are cut between them, as Falcon's are.
///
/// # Errors
/// [`ErrorKind::Model`] printing the patterns, when none is known.
pub(super) fn recognize(
    json: Option<&Value>,
    ignore_merges: bool,
    preferred: &[&str],
    unmixed: impl FnOnce() -> bool,
) -> Result<Found> {
    let mut own = Passes::default();
    let readable = json.is_none_or(|json| own.add(json)) && (!own.cuts_bytes || !ignore_merges && unmixed());
    let wanted = readable.then(|| own.steps.iter().map(parsed).collect::<Option<Vec<_>>>()).flatten();
    let equal: Vec<&'static str> = match &wanted {
        Some(wanted) if !wanted.is_empty() => pre_tokenizers().filter(|name| has(name, wanted)).collect(),
        _ => Vec::new(),
    };
    let alike: Vec<&'static str> = equal.iter().copied().filter(|n| takes_words(n) == ignore_merges).collect();
    let exact = !alike.is_empty();
    let from = if exact { alike } else { equal };
    let name = preferred.iter().find_map(|p| from.iter().find(|n| *n == p)).or(from.first());
    match name {
        Some(name) => Ok(Found { name, exact, prefix_space: own.prefix_space }),
        None => {
            let text = json.map_or("null".to_owned(), Value::to_string);
            // Patterns are long, and the whole is what a reader needs; control characters are escaped in JSON.
            let cut = text.char_indices().nth(4096).map_or(text.as_str(), |(end, _)| &text[..end]);
            let message = format!("the pre-tokenizer is none that is known: {}", escaped(cut));
            let hint = format!("if you know one that cuts text alike, name it: `--override-kv {PRE}=str:NAME`");
            Err(Error::new(ErrorKind::Model, message).with_hint(hint))
        }
    }
}

fn has(name: &str, wanted: &[Parsed]) -> bool {
    let Some(pre) = pre_tokenizer(name).filter(|p| !p.raw && p.steps.len() == wanted.len()) else { return false };
    pre.steps.iter().zip(wanted).all(|(step, want)| parsed(step).is_some_and(|p| p == *want))
}

fn takes_words(name: &str) -> bool {
    pre_tokenizer(name).is_some_and(|p| p.ignore_merges)
}

/// A step in a form that can be compared.
#[derive(Debug, PartialEq)]
enum Parsed {
    /// The syntax tree as text: its own type is not exported by the parser.
    Pattern(String, Tail),
    Other(Step),
}

fn parsed(step: &Step) -> Option<Parsed> {
    match step {
        Step::Pattern(body, tail) => {
            let hir = regex_automata::util::syntax::parse(&plain(body)).ok()?;
            Some(Parsed::Pattern(format!("{hir:?}"), *tail))
        }
        other => Some(Parsed::Other(other.clone())),
    }
}

/// The passes over the text that a `pre_tokenizer` makes.
#[derive(Debug, Default)]
struct Passes {
    steps: Vec<Step>,
    prefix_space: bool,
    /// Of patterns so far.
    bytes: usize,
    /// The rest is about the byte alphabet.
    in_bytes: bool,
    /// Digits of the byte alphabet are cut from the rest.
    cuts_bytes: bool,
}

impl Passes {
    /// False for what no pre-tokenizer of GGUF does.
    fn add(&mut self, json: &Value) -> bool {
        let flag = |key: &str, default: bool| json.get(key).and_then(Value::as_bool).unwrap_or(default);
        let plain = |pattern: &str| Step::Pattern(pattern.to_owned(), Tail::None);
        match json.get("type").and_then(Value::as_str) {
            Some("Sequence") => match json.get("pretokenizers").and_then(Value::as_array) {
                Some(list) => return list.len() <= 16 && list.iter().all(|p| is_flat(p) && self.add(p)),
                None => return false,
            },
            Some("ByteLevel") => {
                self.in_bytes = true;
                self.prefix_space |= flag("add_prefix_space", true);
                if flag("use_regex", true) {
                    self.steps.push(Step::Pattern(GPT2.to_owned(), Tail::Leave));
                }
            }
            Some("Punctuation")
                if !self.in_bytes && json.get("behavior").and_then(Value::as_str) == Some("Contiguous") =>
            {
                self.steps.push(plain(PUNCTUATION));
            }
            Some("Digits") if flag("individual_digits", false) => self.steps.push(plain(r"\p{N}")),
            Some("Digits") if self.in_bytes => self.cuts_bytes = true,
            Some("Digits") => self.steps.push(plain(r"\p{N}+")),
            Some("Split") => {
                let behavior = json.get("behavior").and_then(Value::as_str);
                // What matches is kept and what lies between is dropped: the same, where patterns match everything.
                let kept = match behavior {
                    Some("Isolated") => !flag("invert", false),
                    Some("Removed") => flag("invert", false),
                    _ => false,
                };
                let pattern = json.get("pattern");
                let regex = pattern.and_then(|p| p.get("Regex")).and_then(Value::as_str);
                self.bytes += regex.map_or(0, str::len);
                match regex {
                    Some(regex) if kept && self.bytes <= MAX_PATTERN_BYTES => self.steps.push(split(regex)),
                    _ => return false,
                }
            }
            _ => return false,
        }
        true
    }
}

fn is_flat(json: &Value) -> bool {
    json.get("type").and_then(Value::as_str) != Some("Sequence")
}

/// Runs of what `Punctuation` takes: Unicode's, and all signs of ASCII. Source: the tokenizers library,
/// `punctuation.rs`.
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";

/// What `ByteLevel` cuts by. Source: the tokenizers library, `byte_level.rs`.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+";

/// A pattern and what it does with white space at its end.
fn split(regex: &str) -> Step {
    let tails = [
        (r"|\s+(?!\S)|\s+", Tail::Leave),
        (r"|\s+(?!\S)|\s", Tail::Leave),
        (r"|\s+(?!\S)", Tail::Leave),
        (
            r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
            Tail::Powers,
        ),
    ];
    for (text, tail) in tails {
        if let Some(body) = regex.strip_suffix(text) {
            return Step::Pattern(body.to_owned(), tail);
        }
    }
    Step::Pattern(regex.to_owned(), Tail::None)
}

/// A pattern with the forms of one thing made the same: contractions, case by flag, quantifiers that do not give back.
fn plain(pattern: &str) -> String {
    const ANY_CASE: &str = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
    let mut text = pattern
        .replace("'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])", ANY_CASE)
        .replace("'(?i:[sdmt]|ll|ve|re)", ANY_CASE)
        .replace("'(?:[sdmt]|ll|ve|re)", "'s|'t|'re|'ve|'m|'ll|'d");
    for (from, to) in [("?+", "?"), ("*+", "*"), ("++", "+")] {
        text = text.replace(from, to);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("(?i:") {
        let (before, group) = rest.split_at(at);
        let Some(end) = group.find(')') else { break };
        let inner = &group[4..end];
        let simple = inner.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '\'' | '|'));
        out.push_str(before);
        if !simple {
            out.push_str("(?i:");
            rest = &group[4..];
            continue;
        }
        out.push_str("(?:");
        for c in inner.chars() {
            match c {
                'a'..='z' => out.extend(['[', c, c.to_ascii_uppercase(), ']']),
                other => out.push(other),
            }
        }
        out.push(')');
        rest = &group[end + 1..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn split_and_bytes(regex: &str) -> Value {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
    }

    fn name(json: &Value, ignore_merges: bool, preferred: &[&str]) -> &'static str {
        recognize(Some(json), ignore_merges, preferred, || true).unwrap().name
    }

    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    #[test]
    fn patterns_of_published_models_are_known() {
        assert_eq!(name(&split_and_bytes(LLAMA3), true, &[]), "llama3");
        assert_eq!(name(&split_and_bytes(LLAMA3), true, &["llama-bpe"]), "llama-bpe");
        assert_eq!(name(&split_and_bytes(LLAMA3), false, &["llama-bpe", "dbrx"]), "dbrx");
        assert_eq!(name(&split_and_bytes(&LLAMA3.replace("{1,3}", "")), false, &[]), "qwen2");
        // Another spelling: classes in another order, contractions by class, quantifiers that do not give back.
        let other = r"'(?i:[sdmt]|ll|ve|re)|[^\p{N}\p{L}\r\n]?+\p{L}+|\p{N}{1,3}| ?[^\p{N}\s\p{L}]++[\n\r]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        assert_eq!(name(&split_and_bytes(other), true, &[]), "llama3");
        let o200k = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        assert_eq!(name(&split_and_bytes(o200k), false, &[]), "gpt-4o");
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
        assert_eq!(name(&bytes, false, &[]), "gpt-2");
        let digits =
            json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes]});
        assert_eq!(name(&digits, false, &["llama-bpe", "smollm"]), "smollm");
        let falcon = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Punctuation", "behavior": "Contiguous"}, bytes, {"type": "Digits", "individual_digits": false},
            {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated", "invert": false}]});
        assert_eq!(name(&falcon, false, &[]), "falcon");
        assert!(recognize(Some(&falcon), false, &[], || false).is_err());
        let cjk = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}"}, "behavior": "Isolated", "invert": false},
            {"type": "Split", "pattern": {"Regex": "[一-龥\u{3040}-ゟ゠-ヿ]+"}, "behavior": "Isolated", "invert": false},
            {"type": "Split", "pattern": {"Regex": r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]});
        assert_eq!(name(&cjk, false, &[]), "deepseek-v3");
    }

    #[test]
    fn words_taken_whole_are_said_when_no_name_has_them() {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true});
        let found = recognize(Some(&bytes), true, &[], || true).unwrap();
        assert_eq!(found, Found { name: "gpt-2", exact: false, prefix_space: true });
    }

    #[test]
    fn an_unknown_pattern_is_printed_with_the_way_out() {
        for json in [
            split_and_bytes(r"\p{L}{2}|\p{N}"),
            split_and_bytes(r"(?<=x)y"),
            json!({"type": "Metaspace"}),
            json!({"type": "Split", "pattern": {"Regex": r"\p{N}"}, "behavior": "MergedWithNext", "invert": false}),
            json!(7),
            split_and_bytes(&r"\p{L}".repeat(1 << 20)),
            Value::Null,
        ] {
            let e = recognize(Some(&json), false, &[], || true).unwrap_err();
            assert!(e.to_string().contains("none that is known"), "{e}");
            assert!(e.hint().is_some_and(|h| h.contains("--override-kv tokenizer.ggml.pre=str:NAME")));
        }
        let e = recognize(Some(&split_and_bytes(r"\p{L}{2}|\p{N}")), false, &[], || true).unwrap_err();
        assert!(e.to_string().contains(r"\\p{L}{2}|\\p{N}"), "{e}");
    }
}
