//! The tokenizer of a folder as GGUF metadata: `tokenizer.json`, the model file of SentencePiece, `vocab.txt`, and what
//! `tokenizer_config.json` adds. What comes out is what llama.cpp's converter writes, but for two things: the
//! pre-tokenizer is found by its patterns (`pre.rs`), and scores of merges are made where only merges are there.

mod json;
mod pre;
mod sentencepiece;
mod special;
mod tiktoken;

use std::collections::{BTreeMap, HashMap};

use self::json::{Added, Kind, TokenizerJson};
use self::sentencepiece::{Algorithm, Model};
use self::tiktoken::Ranks;
use super::ConvertOptions;
use super::hf::{Folder, Section, read_file};
use super::metadata::Keys;
use super::names::HfFamily;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::KeyValue;

/// Kinds of tokens as GGUF numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The blank of SentencePiece.
const BLANK: &str = "\u{2581}";

/// Scores that llama.cpp's converter gives to added tokens, and to rows of the embeddings without a token.
const ADDED_SCORE: f32 = -1000.0;
const ABSENT_SCORE: f32 = -10000.0;

/// A token of the file to be.
#[derive(Clone, Debug)]
struct Token {
    text: Vec<u8>,
    score: f32,
    kind: i32,
}

/// A vocabulary of the file to be.
#[derive(Debug)]
struct Vocabulary {
    /// `tokenizer.ggml.model`.
    model: &'static str,
    /// `tokenizer.ggml.pre`, where readers look for one.
    pre: Option<String>,
    /// One for each row of the embeddings.
    tokens: Vec<Token>,
    /// Whether scores mean anything.
    scored: bool,
    /// `left right`.
    merges: Option<Vec<String>>,
    add_space_prefix: Option<bool>,
    collapse_spaces: Option<bool>,
    charsmap: Vec<u8>,
    lowercase: Option<bool>,
}

/// Writes the keys of the tokenizer for `n_vocab` rows of embeddings.
///
/// # Errors
/// [`ErrorKind::Model`] when the folder has no tokenizer, or one that GGUF cannot say; file and key are named.
pub(super) fn write(
    family: &HfFamily,
    folder: &Folder,
    n_vocab: u64,
    options: &ConvertOptions,
    keys: &mut Keys,
    notes: &mut Vec<String>,
) -> Result<()> {
    let path = folder.path.join("tokenizer.json");
    let json = match Section::read_if_present(&path)? {
        Some(file) => Some(TokenizerJson::new(file)?),
        None => None,
    };
    let reader = Reader { family, folder, options, json: json.as_ref(), n_vocab, added: added(folder, json.as_ref())? };
    let vocabulary = reader.read(notes)?;
    let ids = special::write(folder, json.as_ref(), &vocabulary.tokens, keys)?;
    if let Some(eos) = ids {
        special::further_ends(folder, eos, keys)?;
    }
    special::templates(folder, keys)?;
    vocabulary.write(keys);
    Ok(())
}

/// Tokens beside the model's own, from all files that may name them; later ones hold.
fn added(folder: &Folder, json: Option<&TokenizerJson>) -> Result<BTreeMap<u32, Added>> {
    let mut all = BTreeMap::new();
    if let Some(file) = Section::read_if_present(&folder.path.join("added_tokens.json"))? {
        for text in file.keys() {
            if let Some(id) = file.uint(text)? {
                all.insert(id, Added { text: text.to_owned(), special: false });
            }
        }
    }
    if let Some(json) = json {
        all.extend(json.added()?);
    }
    let decoder = folder.tokenizer_config.as_ref().map(|c| c.section("added_tokens_decoder"));
    if let Some(decoder) = decoder.transpose()?.flatten() {
        for key in decoder.keys() {
            let id = key.parse().map_err(|_| decoder.error(key, "another name", "the id of a token"))?;
            let token = decoder.value(key).and_then(|v| v.as_object()).and_then(json::added);
            let token = token.ok_or_else(|| decoder.error(key, "another value", "a token with `content`"))?;
            all.insert(id, token);
        }
    }
    Ok(all)
}

struct Reader<'a> {
    family: &'a HfFamily,
    folder: &'a Folder,
    options: &'a ConvertOptions,
    json: Option<&'a TokenizerJson>,
    n_vocab: u64,
    added: BTreeMap<u32, Added>,
}

impl Reader<'_> {
    fn read(&self, notes: &mut Vec<String>) -> Result<Vocabulary> {
        if self.json.is_none()
            && let Some(ranks) = Ranks::find(&self.folder.path)?
        {
            return self.ranks(&ranks, notes);
        }
        let pieces = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"];
        let pieces = pieces.iter().map(|n| self.folder.path.join(n)).find(|p| p.is_file());
        match (self.json.map(|j| Ok::<_, Error>((j, j.kind()?))).transpose()?, pieces) {
            (Some((json, Kind::SpmBpe)), _) if self.family.raw_merges => self.raw_merges(json, notes),
            // The library's own file has the scores that `tokenizer.json` lacks.
            (None | Some((_, Kind::SpmBpe)), Some(path)) => self.sentencepiece(Model::read(&path)?, notes),
            (Some((json, Kind::SpmBpe)), None) => self.spm_of_merges(json, notes),
            (Some((json, Kind::ByteBpe)), _) => self.bpe(json, notes),
            (Some((json, Kind::Unigram)), _) => self.unigram(json, notes),
            (Some((json, Kind::WordPiece)), _) => {
                let vocabulary = json.vocabulary()?.into_iter().map(|(id, text)| (id, text.to_owned())).collect();
                self.wordpiece(vocabulary, Some(json), notes)
            }
            (None, None) => {
                let path = self.folder.path.join("vocab.txt");
                if !path.is_file() {
                    let message = "the folder has no tokenizer: no `tokenizer.json`, `tokenizer.model` or `vocab.txt`";
                    let hint = match self.folder.path.join("tekken.json").is_file() {
                        true => "`tekken.json` is not read: get the `tokenizer.json` of the same model",
                        false => "download the files of the tokenizer too",
                    };
                    return Err(Error::new(ErrorKind::Model, message).in_file(&self.folder.path).with_hint(hint));
                }
                let text = String::from_utf8(read_file(&path)?)
                    .map_err(|e| Error::new(ErrorKind::Model, "no UTF-8").in_file(&path).caused_by(e))?;
                let vocabulary = (0..).zip(text.lines().map(str::to_owned)).collect();
                self.wordpiece(vocabulary, None, notes)
            }
        }
    }

    fn vocabulary(&self, model: &'static str, tokens: Vec<Token>) -> Vocabulary {
        Vocabulary {
            model,
            pre: Some("default".into()),
            tokens,
            scored: false,
            merges: None,
            add_space_prefix: None,
            collapse_spaces: None,
            charsmap: Vec::new(),
            lowercase: None,
        }
    }

    /// One token for each row of the embeddings: the model's own, those added to it, and fillers.
    fn tokens(
        &self,
        own: impl IntoIterator<Item = (u32, Token)>,
        absent: f32,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Token>> {
        let n = usize::try_from(self.n_vocab).unwrap_or(usize::MAX);
        let filler = |i: usize| Token { text: format!("[PAD{i}]").into_bytes(), score: absent, kind: UNUSED };
        let mut tokens: Vec<Token> = (0..n).map(filler).collect();
        let mut filled = vec![false; n];
        let mut beyond = 0usize;
        for (id, token) in own {
            let at = id as usize;
            match tokens.get_mut(at) {
                Some(_) if filled[at] => {
                    let text = printable(&String::from_utf8_lossy(&token.text));
                    let message = format!("token {id} is both `{text}` and another one");
                    return Err(Error::new(ErrorKind::Model, message).in_file(&self.folder.path));
                }
                Some(slot) => {
                    *slot = token;
                    filled[at] = true;
                }
                None => beyond += 1,
            }
        }
        for (id, added) in &self.added {
            let kind = if added.special || looks_special(&added.text) { CONTROL } else { USER_DEFINED };
            let text = if kind == CONTROL { added.text.clone() } else { added.text.replace(BLANK, " ") };
            match tokens.get_mut(*id as usize) {
                Some(slot) => *slot = Token { text: text.into_bytes(), score: ADDED_SCORE, kind },
                None => beyond += 1,
            }
        }
        if beyond > 0 {
            notes.push(format!("{beyond} tokens beyond the {n} rows of the embeddings are left out"));
        }
        Ok(tokens)
    }

    fn sentencepiece(&self, model: Model, notes: &mut Vec<String>) -> Result<Vocabulary> {
        let own = (0u32..).zip(&model.pieces);
        let own = own.map(|(id, p)| (id, Token { text: p.text.clone(), score: p.score, kind: p.kind.into() }));
        let tokens = self.tokens(own, ABSENT_SCORE, notes)?;
        let unigram = model.algorithm == Algorithm::Unigram && self.json.is_none();
        let mut vocabulary = self.vocabulary(if unigram { "t5" } else { "llama" }, tokens);
        vocabulary.scored = true;
        vocabulary.add_space_prefix = match self.json {
            Some(json) => Some(prepends(json)),
            None => Some(model.add_space_prefix),
        };
        if unigram {
            vocabulary.collapse_spaces = Some(model.collapse_spaces);
            vocabulary.charsmap = model.charsmap;
        } else {
            // What readers take for granted.
            vocabulary.add_space_prefix = vocabulary.add_space_prefix.filter(|add| !add);
        }
        Ok(vocabulary)
    }

    fn spm_of_merges(&self, json: &TokenizerJson, notes: &mut Vec<String>) -> Result<Vocabulary> {
        let merges = json.merges()?;
        let scores = json::scores_of_ranks(&merges);
        let token = |(id, text): (u32, &str)| {
            let kind = if is_byte(text) { BYTE } else { NORMAL };
            (id, Token { text: text.into(), score: scores.get(text).copied().unwrap_or(0.0), kind })
        };
        let own: Vec<(u32, Token)> = json.vocabulary()?.into_iter().map(token).collect();
        let mut vocabulary = self.vocabulary("llama", self.tokens(own, ABSENT_SCORE, notes)?);
        vocabulary.scored = true;
        vocabulary.add_space_prefix = Some(prepends(json)).filter(|add| !add);
        notes.push("scores of tokens are made from the order of merges: there is no `tokenizer.model`".into());
        Ok(vocabulary)
    }

    /// Merges of characters by their order, where readers know the rest from the model's name.
    fn raw_merges(&self, json: &TokenizerJson, notes: &mut Vec<String>) -> Result<Vocabulary> {
        let token = |(id, text): (u32, &str)| {
            let kind = if is_byte(text) { BYTE } else { NORMAL };
            (id, Token { text: text.into(), score: ADDED_SCORE, kind })
        };
        let own: Vec<(u32, Token)> = json.vocabulary()?.into_iter().map(token).collect();
        let mut vocabulary = self.vocabulary("gemma4", self.tokens(own, ADDED_SCORE, notes)?);
        vocabulary.pre = None;
        vocabulary.scored = true;
        vocabulary.add_space_prefix = Some(false);
        vocabulary.merges = Some(json.merges()?.into_iter().map(|(a, b)| format!("{a} {b}")).collect());
        Ok(vocabulary)
    }

    /// A vocabulary of tiktoken, whose patterns stand in Python beside it.
    fn ranks(&self, ranks: &Ranks, notes: &mut Vec<String>) -> Result<Vocabulary> {
        let own = ranks.texts().map(|(id, text)| (id, Token { text: text.into_bytes(), score: 0.0, kind: NORMAL }));
        let mut vocabulary = self.vocabulary("gpt2", self.tokens(own, 0.0, notes)?);
        let named = self.options.overrides.iter().find(|(key, _)| key == pre::PRE);
        vocabulary.pre = match (named, self.family.tiktoken_pre) {
            (Some((_, KeyValue::Str(name))), _) => Some(String::from_utf8_lossy(name).into_owned()),
            (_, Some(name)) => {
                notes.push(format!("the patterns of the tokenizer stand in Python; those of `{name}` are used"));
                Some(name.to_owned())
            }
            (_, None) => {
                let message = "the patterns of a vocabulary of tiktoken are not known for this class of models";
                let hint = format!("name one that cuts text alike: `--override-kv {}=str:NAME`", pre::PRE);
                return Err(Error::new(ErrorKind::Model, message).in_file(ranks.path()).with_hint(hint));
            }
        };
        vocabulary.merges = Some(ranks.merges().into_iter().map(|(a, b)| format!("{a} {b}")).collect());
        Ok(vocabulary)
    }

    fn bpe(&self, json: &TokenizerJson, notes: &mut Vec<String>) -> Result<Vocabulary> {
        let own = json.vocabulary()?.into_iter();
        let own = own.map(|(id, text)| (id, Token { text: text.into(), score: 0.0, kind: NORMAL }));
        let mut vocabulary = self.vocabulary("gpt2", self.tokens(own, 0.0, notes)?);
        let ignore_merges = json.ignores_merges()?;
        let named = self.options.overrides.iter().find(|(key, _)| key == pre::PRE);
        let merged = json.merges()?;
        let unmixed = || {
            let is_mixed = |text: String| text.contains(char::is_numeric) && !text.chars().all(char::is_numeric);
            !merged.iter().any(|(a, b)| is_mixed(format!("{a}{b}")))
        };
        match (named, pre::recognize(json.pre_tokenizer(), ignore_merges, self.family.pre, unmixed)) {
            (Some((_, KeyValue::Str(name))), _) => vocabulary.pre = Some(String::from_utf8_lossy(name).into_owned()),
            (_, Ok(found)) => {
                vocabulary.pre = Some(found.name.to_owned());
                // As transformers, which changes the tokenizer to what its configuration says.
                let configured = self.folder.tokenizer_config.as_ref().map(|c| c.flag("add_prefix_space"));
                let configured = configured.transpose()?.flatten();
                vocabulary.add_space_prefix = configured.or(found.prefix_space.then_some(true));
                if !found.exact {
                    let whole = if ignore_merges { "takes words that are tokens whole" } else { "merges every word" };
                    notes.push(format!("the tokenizer {whole}; of equal patterns none does: `{}` is used", found.name));
                }
            }
            (_, Err(e)) => return Err(e.in_file(&self.folder.path.join("tokenizer.json"))),
        }
        for step in json.steps("normalizer") {
            if let Some(kind) = step.get("type").and_then(|t| t.as_str()).filter(|t| *t != "NFC") {
                notes.push(format!("the normalizer `{}` of the tokenizer is not part of GGUF", printable(kind)));
            }
        }
        // A blank separates the two in the file; the byte alphabet writes it as U+0120.
        let safe = |s: &str| s.replace(' ', "\u{120}");
        vocabulary.merges = Some(merged.iter().map(|(a, b)| format!("{} {}", safe(a), safe(b))).collect());
        Ok(vocabulary)
    }

    fn unigram(&self, json: &TokenizerJson, notes: &mut Vec<String>) -> Result<Vocabulary> {
        let unknown = json.unknown_id()?;
        let token = |(id, (text, score)): (u32, (&str, f32))| {
            let kind = match text {
                _ if Some(id) == unknown => UNKNOWN,
                text if is_byte(text) => BYTE,
                _ => NORMAL,
            };
            (id, Token { text: text.into(), score, kind })
        };
        let own: Vec<(u32, Token)> = (0u32..).zip(json.scored()?).map(token).collect();
        let mut tokens = self.tokens(own.iter().cloned(), ABSENT_SCORE, notes)?;
        for (token, (_, own)) in tokens.iter_mut().zip(&own) {
            token.score = own.score;
            if own.kind == UNKNOWN {
                token.kind = UNKNOWN;
            }
        }
        let mut vocabulary = self.vocabulary("t5", tokens);
        vocabulary.scored = true;
        vocabulary.add_space_prefix = Some(prepends(json));
        vocabulary.collapse_spaces = Some(collapses(json));
        for step in json.steps("normalizer") {
            if let Some(text) = step.get("precompiled_charsmap").and_then(|m| m.as_str()) {
                vocabulary.charsmap = base64(text).ok_or_else(|| {
                    let message = "key `normalizer.precompiled_charsmap`: found no base64";
                    Error::new(ErrorKind::Model, message).in_file(&self.folder.path.join("tokenizer.json"))
                })?;
            }
        }
        Ok(vocabulary)
    }

    fn wordpiece(
        &self,
        own: Vec<(u32, String)>,
        json: Option<&TokenizerJson>,
        notes: &mut Vec<String>,
    ) -> Result<Vocabulary> {
        // Pieces inside of words have no mark in GGUF, those that begin one have the blank's.
        let marked = |text: &str| match text.strip_prefix("##") {
            Some(inside) => inside.to_owned(),
            None if text.starts_with('[') && text.ends_with(']') => text.to_owned(),
            None => format!("{BLANK}{text}"),
        };
        let own = own.into_iter().map(|(id, text)| {
            let special = text.starts_with('[') && text.ends_with(']') && !text.starts_with("[unused");
            let kind = if special && json.is_none() { CONTROL } else { NORMAL };
            (id, Token { text: marked(&text).into_bytes(), score: 0.0, kind })
        });
        let mut vocabulary = self.vocabulary("bert", self.tokens(own, 0.0, notes)?);
        let lowercase = json.and_then(|j| j.steps("normalizer").iter().find_map(|s| s.get("lowercase")?.as_bool()));
        vocabulary.lowercase = match (lowercase, &self.folder.tokenizer_config) {
            (Some(lowercase), _) => Some(lowercase),
            (None, Some(config)) => config.flag("do_lower_case")?,
            (None, None) => None,
        };
        Ok(vocabulary)
    }
}

impl Vocabulary {
    fn write(self, keys: &mut Keys) {
        let mut set = |name: &str, value: KeyValue| keys.set(format!("tokenizer.ggml.{name}"), value);
        set("model", self.model.into());
        if let Some(pre) = self.pre {
            set("pre", pre.into());
        }
        if self.scored {
            set("scores", self.tokens.iter().map(|t| t.score).collect::<Vec<f32>>().into());
        }
        set("token_type", self.tokens.iter().map(|t| t.kind).collect::<Vec<i32>>().into());
        set("tokens", KeyValue::strings(self.tokens.into_iter().map(|t| t.text)));
        if let Some(merges) = self.merges {
            set("merges", KeyValue::strings(merges));
        }
        if let Some(add) = self.add_space_prefix {
            set("add_space_prefix", add.into());
        }
        if let Some(collapse) = self.collapse_spaces {
            set("remove_extra_whitespaces", collapse.into());
        }
        if !self.charsmap.is_empty() {
            set("precompiled_charsmap", self.charsmap.into());
        }
        if let Some(lowercase) = self.lowercase {
            set("normalizer.lowercase", lowercase.into());
        }
    }
}

/// `<0x0A>`: the token of a byte.
fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    hex.is_some_and(|h| h.len() == 2 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Tokens that are control tokens even where their file does not say so. Source: llama.cpp's converter
/// (`does_token_look_special`).
fn looks_special(text: &str) -> bool {
    let between = |a: &str, b: &str| text.starts_with(a) && text.ends_with(b);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<\u{ff5c}", "\u{ff5c}>")
        || between("<unused", ">")
}

/// Whether text gets a blank in front.
fn prepends(json: &TokenizerJson) -> bool {
    let is = |step: &serde_json::Map<String, serde_json::Value>, kind: &str| {
        step.get("type").and_then(|t| t.as_str()).is_some_and(|t| t == kind)
    };
    let by_metaspace = json.steps("pre_tokenizer").into_iter().any(|s| {
        let scheme = s.get("prepend_scheme").and_then(|p| p.as_str());
        let old = s.get("add_prefix_space").and_then(|p| p.as_bool());
        is(s, "Metaspace") && scheme.map_or(old.unwrap_or(true), |scheme| scheme != "never")
    });
    by_metaspace || json.steps("normalizer").into_iter().any(|s| is(s, "Prepend"))
}

/// Whether runs of blanks become one.
fn collapses(json: &TokenizerJson) -> bool {
    json.steps("normalizer").into_iter().any(|s| {
        let regex = s.get("pattern").and_then(|p| p.get("Regex")).and_then(|r| r.as_str());
        regex.is_some_and(|r| r.contains(" {2,}"))
    })
}

/// Bytes of base64 with its usual alphabet.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut n) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        n += 6;
        if n >= 8 {
            n -= 8;
            out.push(u8::try_from(bits >> n & 0xff).ok()?);
        }
    }
    Some(out)
}

/// Ids of tokens by their text; the first of several of one text counts.
fn ids(tokens: &[Token]) -> HashMap<&[u8], u32> {
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, token) in (0u32..).zip(tokens) {
        ids.entry(token.text.as_slice()).or_insert(id);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        assert_eq!(base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("AAEC/w=="), Some(vec![0, 1, 2, 255]));
        assert_eq!(base64("a*"), None);
    }

    #[test]
    fn tokens_of_bytes_and_of_control_are_told_from_text() {
        assert!(is_byte("<0x0A>") && !is_byte("<0xZZ>") && !is_byte("<0x0A"));
        assert!(looks_special("<|im_end|>") && looks_special("<unused7>") && !looks_special("<b>"));
    }
}
