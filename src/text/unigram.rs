//! SentencePiece's unigram model (T5, XLM-R): the segmentation of the highest total score.

use super::bytes::{BLANK, char_len};
use super::table::Trie;
use super::tokens::{TokenKind, Tokens};

/// How far below the lowest score an unknown character counts (SentencePiece `kUnkPenalty`).
const UNK_PENALTY: f64 = 10.0;

pub(super) struct Unigram {
    trie: Trie,
    scores: Vec<f32>,
    user_defined: Option<Trie>,
    charsmap: Option<Charsmap>,
    pub(super) add_space_prefix: bool,
    pub(super) remove_extra_blanks: bool,
    unk: u32,
    unk_score: f64,
}

/// The best way to reach a byte position.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    from: usize,
    id: u32,
}

impl Unigram {
    pub(super) fn new(
        tokens: &Tokens,
        scores: Vec<f32>,
        charsmap: Option<Charsmap>,
        unk: u32,
        add_space_prefix: bool,
        remove_extra_blanks: bool,
    ) -> Self {
        let (mut trie, mut user, mut lowest) = (Trie::new(), None, f64::INFINITY);
        for (id, text) in tokens.iter() {
            let kind = tokens.kind(id);
            if matches!(kind, TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused) {
                trie.insert(text, id);
            }
            if kind == TokenKind::UserDefined {
                user.get_or_insert_with(Trie::new).insert(text, id);
            }
            if kind == TokenKind::Normal {
                lowest = lowest.min(score_of(&scores, id));
            }
        }
        let unk_score = if lowest.is_finite() { lowest - UNK_PENALTY } else { -UNK_PENALTY };
        Self { trie, scores, user_defined: user, charsmap, add_space_prefix, remove_extra_blanks, unk, unk_score }
    }

    /// Appends the tokens of one fragment of text.
    pub(super) fn encode(&self, tokens: &Tokens, text: &[u8], out: &mut Vec<u32>) {
        let text = self.normalise(text);
        if text.is_empty() {
            return;
        }
        let unreached = Best { score: f64::NEG_INFINITY, from: 0, id: self.unk };
        let mut best = vec![unreached; text.len() + 1];
        best[0].score = 0.0;
        let mut at = 0;
        while at < text.len() {
            let here = best[at].score;
            let one = char_len(&text[at..]);
            let mut covered = false;
            let mut offer = |len: usize, score: f64, id: u32| {
                let there = &mut best[at + len];
                if here + score > there.score {
                    *there = Best { score: here + score, from: at, id };
                }
            };
            for (len, id) in self.trie.matches(&text[at..]) {
                covered |= len == one;
                let score = if tokens.kind(id) == TokenKind::UserDefined { 0.0 } else { score_of(&self.scores, id) };
                offer(len, score, id);
            }
            if !covered {
                offer(one, self.unk_score, self.unk);
            }
            at += one;
        }
        let first = out.len();
        let mut end = text.len();
        while end > 0 {
            let Best { from, id, .. } = best[end];
            if id != self.unk || out.len() == first || out.last() != Some(&self.unk) {
                out.push(id);
            }
            end = from;
        }
        out[first..].reverse();
    }

    fn normalise(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + text.len() / 2);
        let (mut in_word, mut prefixed) = (false, false);
        let mut emit = |bytes: &[u8]| {
            for &b in bytes {
                if b == b' ' {
                    in_word = false;
                    if !self.remove_extra_blanks {
                        out.extend_from_slice(BLANK);
                    }
                    continue;
                }
                if !in_word {
                    in_word = true;
                    if self.remove_extra_blanks || (self.add_space_prefix && !prefixed) {
                        out.extend_from_slice(BLANK);
                        prefixed = true;
                    }
                }
                out.push(b);
            }
        };
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            if let Some((len, _)) = self.user_defined.as_ref().and_then(|t| t.longest(rest)) {
                emit(&rest[..len]);
                at += len;
            } else if let Some((len, replacement)) = self.charsmap.as_ref().and_then(|c| c.longest(rest)) {
                emit(replacement);
                at += len;
            } else {
                let len = char_len(rest);
                let valid = len > 1 || rest[0] < 0x80;
                emit(if valid { &rest[..len] } else { "\u{fffd}".as_bytes() });
                at += len;
            }
        }
        out
    }
}

fn score_of(scores: &[f32], id: u32) -> f64 {
    usize::try_from(id).ok().and_then(|i| scores.get(i)).map_or(0.0, |s| f64::from(*s))
}

/// SentencePiece's `precompiled_charsmap`: a double array over bytes, and the replacements that it leads to.
pub(super) struct Charsmap {
    nodes: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// A map from the bytes of the key; `None` if its length is a lie.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (nodes, replacements) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        let nodes: Vec<u32> = nodes.chunks_exact(4).filter_map(|c| c.try_into().ok().map(u32::from_le_bytes)).collect();
        (!nodes.is_empty()).then(|| Self { nodes, replacements: replacements.to_vec() })
    }

    fn node(&self, i: u32) -> Option<u32> {
        usize::try_from(i).ok().and_then(|i| self.nodes.get(i)).copied()
    }

    /// Length and replacement of the longest entry that `bytes` begins with. Any step out of the array ends the walk.
    fn longest(&self, bytes: &[u8]) -> Option<(usize, &[u8])> {
        let base = |node: u32| (node >> 10) << ((node & 0x200) >> 6);
        let mut i = base(self.node(0)?);
        let mut found = None;
        for (at, &byte) in bytes.iter().take_while(|b| **b != 0).enumerate() {
            i ^= u32::from(byte);
            let Some(node) = self.node(i).filter(|n| n & 0x8000_00ff == u32::from(byte)) else { break };
            i ^= base(node);
            if node >> 8 & 1 == 1 {
                let Some(leaf) = self.node(i) else { break };
                found = Some((at + 1, leaf & 0x7fff_ffff));
            }
        }
        let (len, offset) = found?;
        let text = self.replacements.get(usize::try_from(offset).ok()?..)?;
        Some((len, &text[..memchr::memchr(0, text)?]))
    }
}
