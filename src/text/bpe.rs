//! Byte-pair encoding: the lowest-ranked adjacent pair is merged until none is left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::bytes::{ALPHABET, Seams, char_len, escape_blanks};
use super::pretokenizer::Pre;
use super::split::Splitter;
use super::table::{NONE, PairTable};
use super::tokens::Tokens;

/// Words of up to this many symbols are merged by looking at all pairs each time: cheaper than a heap, since most
/// words have fewer than ten.
const SMALL_WORD: usize = 48;
/// Longest word and most ids of a cache entry, and number of entries; a page of text has a few hundred words.
const CACHE_WORD: usize = 15;
const CACHE_IDS: usize = 4;
const CACHE_ENTRIES: usize = 4096;

pub(super) struct Bpe {
    /// (left, right) to (rank, merged).
    merges: PairTable,
    splitter: Splitter,
    ignore_merges: bool,
    raw: bool,
    escape_blanks: bool,
    /// A word of newlines that is a token is not cut (gemma4).
    whole_newlines: bool,
    lowercase: bool,
    /// Ids of single bytes: of the byte alphabet, or of `<0xHH>` if raw.
    byte_ids: [u32; 256],
    /// For raw text: where no merge can reach across.
    seams: Option<Seams>,
}

/// What the loading of merges found.
#[derive(Default)]
pub(super) struct MergeReport {
    pub(super) n_dropped: usize,
    pub(super) first_dropped: Option<usize>,
}

/// A word met before, and its tokens.
#[derive(Clone, Copy)]
struct Cached {
    word: [u8; CACHE_WORD],
    word_len: u8,
    n_id: u8,
    ids: [u32; CACHE_IDS],
}

impl Bpe {
    pub(super) fn new<'a>(
        tokens: &Tokens,
        pre: &Pre,
        merges: impl Iterator<Item = &'a [u8]>,
        n_merge: usize,
        byte_ids: [u32; 256],
    ) -> (Self, MergeReport) {
        let mut table = PairTable::with_capacity(n_merge);
        let mut report = MergeReport::default();
        let (mut joined, mut guess) = (Vec::new(), 0);
        for (i, merge) in merges.enumerate() {
            let rank = u32::try_from(i).unwrap_or(NONE);
            match parts(tokens, merge, guess, &mut joined) {
                // A pair that comes again keeps its first rank.
                Some((left, right, merged)) => {
                    table.insert(left, right, (rank, merged));
                    guess = merged;
                }
                None => {
                    report.n_dropped += 1;
                    report.first_dropped.get_or_insert(i);
                }
            }
        }
        let seams = pre.escape_blanks.then(|| Seams::new(tokens.iter().map(|(_, t)| t)));
        let bpe = Self {
            merges: table,
            splitter: Splitter::new(pre.steps.clone()),
            ignore_merges: pre.ignore_merges,
            raw: pre.raw,
            escape_blanks: pre.escape_blanks,
            whole_newlines: false,
            lowercase: false,
            byte_ids,
            seams,
        };
        (bpe, report)
    }

    pub(super) fn with_whole_newlines(mut self, on: bool) -> Self {
        self.whole_newlines = on;
        self
    }

    pub(super) fn with_lowercase(mut self, on: bool) -> Self {
        self.lowercase = on;
        self
    }

    /// Appends the tokens of one fragment of text.
    pub(super) fn encode(&self, tokens: &Tokens, text: &[u8], out: &mut Vec<u32>) {
        let mut changed = None;
        if self.lowercase {
            changed = Some(String::from_utf8_lossy(text).to_lowercase().into_bytes());
        }
        if self.escape_blanks {
            changed = Some(escape_blanks(changed.as_deref().unwrap_or(text), false));
        }
        let text = changed.as_deref().unwrap_or(text);
        let mut run = Run { bpe: self, tokens, symbols: Vec::new(), ranks: Vec::new(), scratch: String::new() };
        let pieces = self.splitter.split(text);
        let empty = Cached { word: [0; CACHE_WORD], word_len: 0, n_id: 0, ids: [0; CACHE_IDS] };
        let mut cache = vec![empty; if pieces.len() > 256 && !self.raw { CACHE_ENTRIES } else { 0 }];
        for piece in pieces {
            let word = &text[piece];
            if self.raw {
                run.raw_word(word, out);
                continue;
            }
            if cache.is_empty() || word.len() > CACHE_WORD {
                run.byte_word(word, out);
                continue;
            }
            let mut key = [0; CACHE_WORD];
            key[..word.len()].copy_from_slice(word);
            let slot = key.iter().fold(word.len(), |h, b| h.wrapping_mul(31).wrapping_add(usize::from(*b)));
            let slot = &mut cache[(slot ^ slot >> 12) % CACHE_ENTRIES];
            if usize::from(slot.word_len) == word.len() && slot.word == key {
                out.extend_from_slice(&slot.ids[..usize::from(slot.n_id)]);
                continue;
            }
            let before = out.len();
            run.byte_word(word, out);
            let ids = &out[before..];
            if let (Ok(n_id), Ok(word_len)) = (u8::try_from(ids.len()), u8::try_from(word.len()))
                && ids.len() <= CACHE_IDS
            {
                (slot.word, slot.word_len, slot.n_id) = (key, word_len, n_id);
                slot.ids[..ids.len()].copy_from_slice(ids);
            }
        }
    }
}

/// Ids of both parts of a merge "left right" and of their concatenation, for which `joined` lends its memory. Merges
/// mostly stand in the order of their results, so the result of the last one, `guess`, and its successor are looked at
/// before the index.
fn parts(tokens: &Tokens, merge: &[u8], guess: u32, joined: &mut Vec<u8>) -> Option<(u32, u32, u32)> {
    // The first character may itself be a blank.
    let at = 1 + memchr::memchr(b' ', merge.get(1..)?)?;
    let (left, right) = (&merge[..at], &merge[at + 1..]);
    joined.clear();
    joined.extend_from_slice(left);
    joined.extend_from_slice(right);
    let near = [guess, guess.saturating_add(1)].into_iter().find(|id| tokens.text(*id) == joined.as_slice());
    // Of equal texts the index has the first.
    let merged = near.filter(|_| tokens.n_duplicate == 0).or_else(|| tokens.find(joined))?;
    Some((tokens.find(left)?, tokens.find(right)?, merged))
}

/// Buffers of one call.
struct Run<'a> {
    bpe: &'a Bpe,
    tokens: &'a Tokens,
    symbols: Vec<u32>,
    ranks: Vec<u32>,
    scratch: String,
}

impl Run<'_> {
    /// A word in GPT-2's byte alphabet. Bytes that have no token give none.
    fn byte_word(&mut self, word: &[u8], out: &mut Vec<u32>) {
        if self.bpe.ignore_merges {
            self.scratch.clear();
            self.scratch.extend(word.iter().map(|b| ALPHABET[usize::from(*b)]));
            if let Some(id) = self.tokens.find(self.scratch.as_bytes()) {
                out.push(id);
                return;
            }
        }
        self.symbols.clear();
        self.symbols.extend(word.iter().map(|b| self.bpe.byte_ids[usize::from(*b)]));
        self.merge();
        out.extend(self.symbols.iter().filter(|id| **id != NONE));
    }

    /// A word of UTF-8 text. Characters that have no token give their byte tokens.
    fn raw_word(&mut self, word: &[u8], out: &mut Vec<u32>) {
        let newlines = self.bpe.whole_newlines && word.iter().all(|b| *b == b'\n');
        if (newlines || self.bpe.ignore_merges)
            && let Some(id) = self.tokens.find(word)
        {
            out.push(id);
            return;
        }
        match &self.bpe.seams {
            Some(seams) => seams.parts(word).for_each(|part| self.raw_part(part, out)),
            None => self.raw_part(word, out),
        }
    }

    fn raw_part(&mut self, part: &[u8], out: &mut Vec<u32>) {
        self.symbols.clear();
        // Characters without a token never merge, so they come out in the order in which they went in.
        let mut unknown = Vec::new();
        let mut at = 0;
        while at < part.len() {
            let end = at + char_len(&part[at..]);
            let id = self.tokens.find(&part[at..end]).unwrap_or(NONE);
            if id == NONE {
                unknown.push(at..end);
            }
            self.symbols.push(id);
            at = end;
        }
        self.merge();
        let mut unknown = unknown.into_iter();
        for &id in &self.symbols {
            if id != NONE {
                out.push(id);
            } else if let Some(range) = unknown.next() {
                let bytes = part[range].iter().map(|b| self.bpe.byte_ids[usize::from(*b)]);
                out.extend(bytes.filter(|id| *id != NONE));
            }
        }
    }

    fn rank(&self, left: u32, right: u32) -> u32 {
        self.bpe.merges.find(left, right).map_or(NONE, |(rank, _)| rank)
    }

    /// Merges `symbols` until no pair is left.
    fn merge(&mut self) {
        if self.symbols.len() > SMALL_WORD {
            self.merge_long();
            return;
        }
        let mut ranks = std::mem::take(&mut self.ranks);
        ranks.clear();
        ranks.extend(self.symbols.windows(2).map(|p| self.rank(p[0], p[1])));
        // `min_by_key` keeps the first of equals: the leftmost pair.
        while let Some((i, _)) = ranks.iter().enumerate().min_by_key(|(_, rank)| **rank) {
            let Some((_, merged)) = self.bpe.merges.find(self.symbols[i], self.symbols[i + 1]) else { break };
            self.symbols[i] = merged;
            self.symbols.remove(i + 1);
            ranks.remove(i);
            if i > 0 {
                ranks[i - 1] = self.rank(self.symbols[i - 1], merged);
            }
            if i < ranks.len() {
                ranks[i] = self.rank(merged, self.symbols[i + 1]);
            }
        }
        self.ranks = ranks;
    }

    /// The same with a heap and a linked list, in n log n.
    fn merge_long(&mut self) {
        let n = self.symbols.len();
        let mut next: Vec<usize> = (1..=n).collect();
        let mut previous: Vec<usize> = (0..n).map(|i| i.wrapping_sub(1)).collect();
        let mut alive = vec![true; n];
        let mut heap = BinaryHeap::with_capacity(n);
        let push = |heap: &mut BinaryHeap<_>, symbols: &[u32], left: usize, right: usize| {
            if let Some((rank, _)) = self.bpe.merges.find(symbols[left], symbols[right]) {
                heap.push(Reverse((rank, left)));
            }
        };
        for i in 1..n {
            push(&mut heap, &self.symbols, i - 1, i);
        }
        while let Some(Reverse((rank, left))) = heap.pop() {
            let right = next[left];
            if !alive[left] || right >= n {
                continue;
            }
            // An entry counts if its place still holds a pair of its rank.
            let pair = self.bpe.merges.find(self.symbols[left], self.symbols[right]);
            let Some((_, merged)) = pair.filter(|(r, _)| *r == rank) else { continue };
            self.symbols[left] = merged;
            alive[right] = false;
            next[left] = next[right];
            if next[left] < n {
                previous[next[left]] = left;
                push(&mut heap, &self.symbols, left, next[left]);
            }
            if previous[left] < n {
                push(&mut heap, &self.symbols, previous[left], left);
            }
        }
        let mut at = 0;
        self.symbols.retain(|_| {
            at += 1;
            alive[at - 1]
        });
    }
}
