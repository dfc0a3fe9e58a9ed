//! SentencePiece's BPE: the adjacent pair whose text is the token of the highest score is merged first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::bytes::{Seams, char_len, escape_blanks};
use super::table::NONE;
use super::tokens::Tokens;

pub(super) struct Spm {
    scores: Vec<f32>,
    byte_ids: [u32; 256],
    add_space_prefix: bool,
    unk: Option<u32>,
    /// Longest token in bytes: longer pairs need not be looked up.
    max_token: usize,
    seams: Seams,
}

/// A neighbour pair that may merge; ordered so that the heap gives the highest score, then the leftmost.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    score: i32,
    left: Reverse<usize>,
    right: usize,
    /// Bytes of both together when this was found.
    len: usize,
    id: u32,
}

#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// 0: merged into its left neighbour.
    len: usize,
    previous: usize,
    next: usize,
    id: u32,
}

/// A float as an integer of the same order; -0 and 0 are one.
fn ordered(score: f32) -> i32 {
    let bits = (score + 0.0).to_bits().cast_signed();
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

impl Spm {
    pub(super) fn new(
        tokens: &Tokens,
        scores: Vec<f32>,
        byte_ids: [u32; 256],
        add_space_prefix: bool,
        unk: Option<u32>,
    ) -> Self {
        let max_token = tokens.iter().map(|(_, t)| t.len()).max().unwrap_or(0);
        let seams = Seams::new(tokens.iter().map(|(_, t)| t));
        Self { scores, byte_ids, add_space_prefix, unk, max_token, seams }
    }

    /// Appends the tokens of one fragment of text.
    pub(super) fn encode(&self, tokens: &Tokens, text: &[u8], out: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let text = escape_blanks(text, self.add_space_prefix);
        let (mut symbols, mut heap) = (Vec::new(), BinaryHeap::new());
        for part in self.seams.parts(&text) {
            self.part(tokens, part, &mut symbols, &mut heap, out);
        }
    }

    fn part(
        &self,
        tokens: &Tokens,
        text: &[u8],
        symbols: &mut Vec<Symbol>,
        heap: &mut BinaryHeap<Pair>,
        out: &mut Vec<u32>,
    ) {
        symbols.clear();
        let mut start = 0;
        while start < text.len() {
            let len = char_len(&text[start..]);
            let i = symbols.len();
            symbols.push(Symbol { start, len, previous: i.wrapping_sub(1), next: i + 1, id: NONE });
            start += len;
        }
        let n = symbols.len();
        let push = |heap: &mut BinaryHeap<Pair>, symbols: &[Symbol], left: usize, right: usize| {
            let (a, b) = (symbols[left], symbols[right]);
            let len = a.len + b.len;
            if len > self.max_token {
                return;
            }
            let Some(id) = tokens.find(&text[a.start..a.start + len]) else { return };
            let score = usize::try_from(id).ok().and_then(|i| self.scores.get(i)).copied().unwrap_or(0.0);
            heap.push(Pair { score: ordered(score), left: Reverse(left), right, len, id });
        };
        for i in 1..n {
            push(heap, symbols, i - 1, i);
        }
        while let Some(pair) = heap.pop() {
            let (left, right) = (pair.left.0, pair.right);
            let (a, b) = (symbols[left], symbols[right]);
            if a.len == 0 || b.len == 0 || a.len + b.len != pair.len || a.next != right {
                continue;
            }
            symbols[left] = Symbol { len: pair.len, next: b.next, id: pair.id, ..a };
            symbols[right].len = 0;
            if b.next < n {
                symbols[b.next].previous = left;
                push(heap, symbols, left, b.next);
            }
            if a.previous < n {
                push(heap, symbols, a.previous, left);
            }
        }
        for symbol in symbols.iter().filter(|s| s.len > 0) {
            let bytes = &text[symbol.start..symbol.start + symbol.len];
            let id = if symbol.id == NONE { tokens.find(bytes) } else { Some(symbol.id) };
            match id {
                Some(id) => out.push(id),
                None => super::push_bytes(bytes, &self.byte_ids, self.unk, out),
            }
        }
    }
}
