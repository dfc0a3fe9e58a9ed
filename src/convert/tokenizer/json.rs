//! `tokenizer.json` of the tokenizers library: the model's vocabulary, and the tokens added to it.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::convert::hf::Section;
use crate::error::Result;

/// What a `tokenizer.json` says.
#[derive(Debug)]
pub(super) struct TokenizerJson {
    file: Section,
    model: Section,
}

/// How a model cuts words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Merges over the byte alphabet of GPT-2.
    ByteBpe,
    /// Merges over characters, with byte tokens: SentencePiece's.
    SpmBpe,
    /// The most probable sequence.
    Unigram,
    /// Longest piece first.
    WordPiece,
}

/// A token that was added to a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) text: String,
    pub(super) special: bool,
}

impl TokenizerJson {
    /// # Errors
    /// [`crate::ErrorKind::Model`] when there is no model in it.
    pub(super) fn new(mut file: Section) -> Result<Self> {
        match file.take("model")? {
            Some(model) => Ok(Self { file, model }),
            None => Err(file.error("model", "nothing", "a tokenizer's model")),
        }
    }

    /// # Errors
    /// [`crate::ErrorKind::Model`] for a kind that GGUF has no name for.
    pub(super) fn kind(&self) -> Result<Kind> {
        // Files of before 2021 say no type.
        let guess = if self.model.value("merges").is_some() { "BPE" } else { "WordPiece" };
        match self.model.text("type")?.unwrap_or(guess) {
            "BPE" if self.model.flag("byte_fallback")? == Some(true) => Ok(Kind::SpmBpe),
            "BPE" => Ok(Kind::ByteBpe),
            "Unigram" => Ok(Kind::Unigram),
            "WordPiece" => Ok(Kind::WordPiece),
            other => Err(self.model.error("type", format!("`{other}`"), "BPE, Unigram or WordPiece")),
        }
    }

    /// Texts of the model's own tokens by id.
    pub(super) fn vocabulary(&self) -> Result<Vec<(u32, &str)>> {
        let bad = || self.model.error("vocab", "other values", "ids by text");
        let vocab = self.model.value("vocab").and_then(Value::as_object).ok_or_else(bad)?;
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        vocab.iter().map(|(text, v)| Some((id(v)?, text.as_str()))).collect::<Option<_>>().ok_or_else(bad)
    }

    /// Texts and scores of a Unigram model, by id.
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds: scores are single")]
    pub(super) fn scored(&self) -> Result<Vec<(&str, f32)>> {
        let bad = || self.model.error("vocab", "other values", "pairs of text and score");
        let vocab = self.model.value("vocab").and_then(Value::as_array).ok_or_else(bad)?;
        vocab
            .iter()
            .map(|v| Some((v.get(0)?.as_str()?, v.get(1)?.as_f64()? as f32)))
            .collect::<Option<_>>()
            .ok_or_else(bad)
    }

    /// Pairs that are merged, in order; both forms of the library.
    pub(super) fn merges(&self) -> Result<Vec<(&str, &str)>> {
        let bad = || self.model.error("merges", "other values", "pairs of text");
        let list = self.model.value("merges").and_then(Value::as_array).ok_or_else(bad)?;
        list.iter().map(pair).collect::<Option<_>>().ok_or_else(bad)
    }

    /// The token that stands for what is not in a Unigram vocabulary.
    pub(super) fn unknown_id(&self) -> Result<Option<u32>> {
        self.model.uint("unk_id")
    }

    /// A word that is a token is not cut.
    pub(super) fn ignores_merges(&self) -> Result<bool> {
        Ok(self.model.flag("ignore_merges")?.unwrap_or(false))
    }

    /// Tokens added to the model's own, by id.
    pub(super) fn added(&self) -> Result<Vec<(u32, Added)>> {
        let bad = || self.file.error("added_tokens", "other values", "tokens with `id` and `content`");
        let Some(list) = self.file.value("added_tokens") else { return Ok(Vec::new()) };
        let token = |v: &Value| {
            let token = v.as_object()?;
            let id = token.get("id")?.as_u64().and_then(|n| u32::try_from(n).ok())?;
            Some((id, added(token)?))
        };
        list.as_array().and_then(|l| l.iter().map(token).collect()).ok_or_else(bad)
    }

    /// The part that cuts text into words.
    pub(super) fn pre_tokenizer(&self) -> Option<&Value> {
        self.file.value("pre_tokenizer")
    }

    /// The steps of a part that may be a sequence: `normalizer`, `post_processor`.
    pub(super) fn steps(&self, part: &str) -> Vec<&Map<String, Value>> {
        let Some(part) = self.file.value(part).and_then(Value::as_object) else { return Vec::new() };
        let list = ["normalizers", "processors", "pretokenizers"].iter().find_map(|k| part.get(*k)?.as_array());
        match list {
            Some(list) => list.iter().filter_map(Value::as_object).collect(),
            None => vec![part],
        }
    }
}

/// `"a b"` or `["a", "b"]`.
fn pair(v: &Value) -> Option<(&str, &str)> {
    match v {
        Value::String(text) => text.split_once(' '),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(a), Value::String(b)] => Some((a, b)),
            _ => None,
        },
        _ => None,
    }
}

/// A token of `added_tokens` or `added_tokens_decoder`.
pub(super) fn added(token: &Map<String, Value>) -> Option<Added> {
    let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
    Some(Added { text: token.get("content")?.as_str()?.to_owned(), special })
}

/// Scores that make merges by score the merges by rank: what comes out of an earlier merge wins.
#[expect(clippy::cast_precision_loss, reason = "ranks are below 2^24")]
pub(super) fn scores_of_ranks<'a>(merges: &[(&'a str, &'a str)]) -> HashMap<String, f32> {
    let mut scores = HashMap::with_capacity(merges.len());
    for (rank, (a, b)) in merges.iter().enumerate() {
        scores.entry(format!("{a}{b}")).or_insert(-(rank as f32) - 1.0);
    }
    scores
}
