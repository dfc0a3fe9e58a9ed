//! The token list of a file: texts stay in the memory map; here are only their places, kinds and an index.

use std::sync::Arc;

use super::table::{NONE, TextTable};
use crate::gguf::Gguf;

/// What a token is for (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenKind {
    /// Not said.
    Undefined,
    /// Ordinary text.
    Normal,
    /// Stands for what the vocabulary cannot write.
    Unknown,
    /// Steers the model, `<|im_end|>` say; not text.
    Control,
    /// Added by the model's makers; is text and is always recognised in text.
    UserDefined,
    /// A hole in the numbering.
    Unused,
    /// One byte.
    Byte,
}

impl TokenKind {
    pub(super) fn from_id(id: i64) -> Option<Self> {
        Some(match id {
            0 => Self::Undefined,
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

pub(super) struct Tokens {
    pub(super) file: Arc<Gguf>,
    /// Each text's position in [`Gguf::metadata_bytes`], and below it its length in [`LEN_BITS`] bits: one word, since
    /// an index over 128k tokens is bound by memory.
    spans: Vec<u64>,
    table: TextTable,
    pub(super) kinds: Vec<TokenKind>,
    pub(super) n_duplicate: usize,
    pub(super) n_empty: usize,
}

impl Tokens {
    /// Tokens at these places of the file; `None` if a place is not in it.
    pub(super) fn new(file: &Arc<Gguf>, places: impl ExactSizeIterator<Item = (u64, usize)>) -> Option<Self> {
        let bytes = file.metadata_bytes();
        let mut spans = Vec::with_capacity(places.len());
        for (at, len) in places {
            let start = usize::try_from(at).ok()?;
            bytes.get(start..start.checked_add(len)?)?;
            if at >> (64 - LEN_BITS) != 0 || len >> LEN_BITS != 0 {
                return None;
            }
            spans.push(at << LEN_BITS | len as u64);
        }
        let n = u32::try_from(spans.len()).ok().filter(|n| *n < NONE)?;
        let mut table = TextTable::with_capacity(spans.len());
        let text = |id: u32| span(bytes, &spans, id);
        let (mut n_duplicate, mut n_empty) = (0, 0);
        for id in 0..n {
            if text(id).is_empty() {
                n_empty += 1;
            } else if !table.insert(text(id), id, text) {
                n_duplicate += 1;
            }
        }
        let kinds = vec![TokenKind::Normal; spans.len()];
        Some(Self { file: Arc::clone(file), spans, table, kinds, n_duplicate, n_empty })
    }

    #[expect(clippy::cast_possible_truncation, reason = "`new` refuses more than u32 holds")]
    pub(super) fn len(&self) -> u32 {
        self.spans.len() as u32
    }

    pub(super) fn text(&self, id: u32) -> &[u8] {
        span(self.file.metadata_bytes(), &self.spans, id)
    }

    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let bytes = self.file.metadata_bytes();
        self.table.find(text, |id| span(bytes, &self.spans, id))
    }

    pub(super) fn kind(&self, id: u32) -> TokenKind {
        usize::try_from(id).ok().and_then(|i| self.kinds.get(i)).copied().unwrap_or(TokenKind::Undefined)
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: TokenKind) {
        if let Some(slot) = usize::try_from(id).ok().and_then(|i| self.kinds.get_mut(i)) {
            *slot = kind;
        }
    }

    /// All ids with their texts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0..self.len()).map(|id| (id, self.text(id)))
    }
}

/// Bits for the length of a text; the other 40 reach over a terabyte of metadata.
const LEN_BITS: u32 = 24;

/// The text of a token; nothing for an id that is no token.
fn span<'a>(bytes: &'a [u8], spans: &[u64], id: u32) -> &'a [u8] {
    let place = usize::try_from(id).ok().and_then(|i| spans.get(i)).copied().unwrap_or(0);
    let at = usize::try_from(place >> LEN_BITS).unwrap_or(usize::MAX);
    let len = usize::try_from(place & ((1 << LEN_BITS) - 1)).unwrap_or(0);
    at.checked_add(len).and_then(|end| bytes.get(at..end)).unwrap_or_default()
}
