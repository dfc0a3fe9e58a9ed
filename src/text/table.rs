//! Hash tables over integers: text to id, pairs of ids to merges, and byte tries.
//!
//! They are keyed at random, so no file can choose colliding keys; results never depend on the key.

use std::hash::{BuildHasher, RandomState};

/// No token.
pub(super) const NONE: u32 = u32::MAX;

/// Multiplies to 128 bits and folds; the mixing step of wyhash.
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    // The halves are wanted, nothing more.
    #[expect(clippy::cast_possible_truncation, reason = "takes the low half")]
    let low = wide as u64;
    let high = (wide >> 64) as u64;
    low ^ high
}

fn random_key() -> u64 {
    RandomState::new().hash_one(0u8) | 1
}

/// Odd constant with balanced bits: the golden ratio in 64 bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn hash_bytes(key: u64, bytes: &[u8]) -> u64 {
    let mut h = key ^ (bytes.len() as u64).wrapping_mul(GOLDEN);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.try_into().map_or(0, u64::from_le_bytes);
        h = fold(h ^ word, key ^ GOLDEN);
    }
    let mut tail = [0; 8];
    let rest = chunks.remainder();
    tail[..rest.len()].copy_from_slice(rest);
    fold(h ^ u64::from_le_bytes(tail), GOLDEN ^ key.rotate_left(32))
}

/// Text to token id; the texts stay where they are.
pub(super) struct TextTable {
    /// 0, or the upper half of the hash above `id + 1`.
    slots: Vec<u64>,
    key: u64,
}

impl TextTable {
    pub(super) fn with_capacity(n: usize) -> Self {
        Self { slots: vec![0; (2 * n).next_power_of_two().max(16)], key: random_key() }
    }

    /// Enters `id` for `text` unless an equal text has one; says whether it did.
    pub(super) fn insert<'a>(&mut self, text: &[u8], id: u32, text_of: impl Fn(u32) -> &'a [u8]) -> bool {
        let hash = hash_bytes(self.key, text);
        let mask = self.slots.len() - 1;
        let mut at = index(hash, mask);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                self.slots[at] = (hash & TAG) | (u64::from(id) + 1);
                return true;
            }
            if (slot ^ hash) & TAG == 0 && text_of(id_of(slot)) == text {
                return false;
            }
            at = (at + 1) & mask;
        }
    }

    pub(super) fn find<'a>(&self, text: &[u8], text_of: impl Fn(u32) -> &'a [u8]) -> Option<u32> {
        let hash = hash_bytes(self.key, text);
        let mask = self.slots.len() - 1;
        let mut at = index(hash, mask);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if (slot ^ hash) & TAG == 0 && text_of(id_of(slot)) == text {
                return Some(id_of(slot));
            }
            at = (at + 1) & mask;
        }
    }
}

const TAG: u64 = 0xffff_ffff_0000_0000;

#[expect(clippy::cast_possible_truncation, reason = "the lower half of a slot is the id")]
fn id_of(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

#[expect(clippy::cast_possible_truncation, reason = "masked to the table's length")]
fn index(hash: u64, mask: usize) -> usize {
    hash as usize & mask
}

/// (u32, u32) to (u32, u32).
pub(super) struct PairTable {
    /// Key + 1 (0 = free), value.
    slots: Vec<(u64, u32, u32)>,
    len: usize,
    key: u64,
}

impl PairTable {
    pub(super) fn with_capacity(n: usize) -> Self {
        Self { slots: vec![(0, 0, 0); (n + n / 2).next_power_of_two().max(16)], len: 0, key: random_key() }
    }

    fn slot(&self, a: u32, b: u32) -> (usize, u64) {
        let key = (u64::from(a) << 32 | u64::from(b)).wrapping_add(1);
        let mask = self.slots.len() - 1;
        let mut at = index(fold(key ^ self.key, GOLDEN), mask);
        while self.slots[at].0 != 0 && self.slots[at].0 != key {
            at = (at + 1) & mask;
        }
        (at, key)
    }

    pub(super) fn find(&self, a: u32, b: u32) -> Option<(u32, u32)> {
        let (key, x, y) = self.slots[self.slot(a, b).0];
        (key != 0).then_some((x, y))
    }

    /// Enters a value unless the key has one; says whether it did.
    pub(super) fn insert(&mut self, a: u32, b: u32, value: (u32, u32)) -> bool {
        if (self.len + 1) * 3 > self.slots.len() * 2 {
            let bigger = vec![(0, 0, 0); self.slots.len() * 2];
            let old = std::mem::replace(&mut self.slots, bigger);
            let mask = self.slots.len() - 1;
            for slot in old.into_iter().filter(|s| s.0 != 0) {
                let mut at = index(fold(slot.0 ^ self.key, GOLDEN), mask);
                while self.slots[at].0 != 0 {
                    at = (at + 1) & mask;
                }
                self.slots[at] = slot;
            }
        }
        let (at, key) = self.slot(a, b);
        if self.slots[at].0 != 0 {
            return false;
        }
        self.slots[at] = (key, value.0, value.1);
        self.len += 1;
        true
    }
}

/// Longest text that a [`Trie`] takes; longer ones are never matched, of which the load warns. Real tokens stay below 400 bytes.
pub(super) const MAX_TRIE_TEXT: usize = 1024;

/// Texts by their bytes: all that begin at a place are found in one walk.
pub(super) struct Trie {
    /// (node, byte) to (child, its number in `ids`).
    edges: PairTable,
    ids: Vec<u32>,
}

impl Trie {
    pub(super) fn new() -> Self {
        Self { edges: PairTable::with_capacity(64), ids: vec![NONE] }
    }

    /// Enters a text; the first id of equal texts stays. Says no to texts that are empty or too long.
    pub(super) fn insert(&mut self, text: &[u8], id: u32) -> bool {
        if text.is_empty() || text.len() > MAX_TRIE_TEXT {
            return false;
        }
        let mut node = 0u32;
        for &byte in text {
            node = match self.edges.find(node, u32::from(byte)) {
                Some((child, _)) => child,
                None => {
                    let Ok(child) = u32::try_from(self.ids.len()) else { return false };
                    self.edges.insert(node, u32::from(byte), (child, 0));
                    self.ids.push(NONE);
                    child
                }
            };
        }
        let slot = usize::try_from(node).ok().and_then(|n| self.ids.get_mut(n));
        if let Some(slot) = slot.filter(|s| **s == NONE) {
            *slot = id;
        }
        true
    }

    /// Lengths and ids of all texts that `bytes` begins with, shortest first.
    pub(super) fn matches(&self, bytes: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let mut node = 0u32;
        bytes
            .iter()
            .map_while(move |&b| {
                node = self.edges.find(node, u32::from(b))?.0;
                usize::try_from(node).ok().and_then(|n| self.ids.get(n)).copied()
            })
            .enumerate()
            .filter(|(_, id)| *id != NONE)
            .map(|(i, id)| (i + 1, id))
    }

    /// Length and id of the longest text that `bytes` begins with.
    pub(super) fn longest(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        self.matches(bytes).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_texts_keeps_its_id() {
        let texts: [&[u8]; 4] = [b"a", b"b", b"a", b"longer than eight"];
        let mut table = TextTable::with_capacity(4);
        let entered: Vec<bool> =
            (0..4).map(|i| table.insert(texts[i], u32::try_from(i).unwrap(), |id| texts[id as usize])).collect();
        assert_eq!(entered, [true, true, false, true]);
        assert_eq!(table.find(b"a", |id| texts[id as usize]), Some(0));
        assert_eq!(table.find(b"longer than eight", |id| texts[id as usize]), Some(3));
        assert_eq!(table.find(b"c", |id| texts[id as usize]), None);
    }

    #[test]
    fn a_trie_finds_every_prefix() {
        let mut trie = Trie::new();
        for (i, text) in ["a", "ab", "abcd", "b"].iter().enumerate() {
            assert!(trie.insert(text.as_bytes(), u32::try_from(i).unwrap()));
        }
        assert_eq!(trie.matches(b"abcx").collect::<Vec<_>>(), [(1, 0), (2, 1)]);
        assert_eq!(trie.longest(b"abcd!"), Some((4, 2)));
        assert_eq!(trie.longest(b"x"), None);
        assert!(!trie.insert(b"", 9) && !trie.insert(&[b'a'; MAX_TRIE_TEXT + 1], 9));
    }
}
