//! RWKV's greedy longest match, and PLaMo-2's segmentation of least cost.

use super::table::{NONE, Trie};
use super::tokens::{TokenKind, Tokens};

pub(super) struct Rwkv {
    trie: Trie,
    unk: Option<u32>,
}

impl Rwkv {
    pub(super) fn new(tokens: &Tokens, unk: Option<u32>) -> Self {
        let mut trie = Trie::new();
        for (id, text) in tokens.iter() {
            trie.insert(&unescape(text), id);
        }
        Self { trie, unk }
    }

    /// Appends the tokens of one fragment of text.
    pub(super) fn encode(&self, text: &[u8], out: &mut Vec<u32>) {
        let mut at = 0;
        while at < text.len() {
            match self.trie.longest(&text[at..]) {
                Some((len, id)) => {
                    out.push(id);
                    at += len;
                }
                None => {
                    out.extend(self.unk);
                    at += 1;
                }
            }
        }
    }
}

/// The bytes of an RWKV token text: `\t`, `\n`, `\r`, `\xHH`, and `\` before any other character.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next() {
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let byte = digit().and_then(|h| Some(h << 4 | digit()?)).and_then(|v| u8::try_from(v).ok());
                out.extend(byte);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// What a character that no token covers costs; a token costs its score times -10^4.
const UNKNOWN_COST: i64 = 10_000_000;

pub(super) struct Plamo2 {
    trie: Trie,
    scores: Vec<f32>,
    byte_ids: [u32; 256],
    unk: Option<u32>,
}

impl Plamo2 {
    pub(super) fn new(tokens: &Tokens, scores: Vec<f32>, byte_ids: [u32; 256], unk: Option<u32>) -> Self {
        let mut trie = Trie::new();
        for (id, text) in tokens.iter() {
            let score = usize::try_from(id).ok().and_then(|i| scores.get(i)).copied().unwrap_or(0.0);
            if matches!(tokens.kind(id), TokenKind::Normal | TokenKind::UserDefined) && score.is_finite() {
                trie.insert(text, id);
            }
        }
        Self { trie, scores, byte_ids, unk }
    }

    /// Appends the tokens of one fragment of text.
    pub(super) fn encode(&self, text: &[u8], out: &mut Vec<u32>) {
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        // Least cost of the text from a position on, and the piece to begin with there.
        let mut best = vec![(i64::MAX, 0usize, NONE); text.len() + 1];
        best[text.len()].0 = 0;
        let mut starts = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            starts.push(at);
            at += super::bytes::char_len(&text[at..]);
        }
        for &at in starts.iter().rev() {
            let len = super::bytes::char_len(&text[at..]);
            let mut choice = (best[at + len].0.saturating_add(UNKNOWN_COST), len, NONE);
            for (len, id) in self.trie.matches(&text[at..]) {
                let cost = best[at + len].0.saturating_add(self.cost(id));
                // Longer pieces come later here and win a tie.
                if best[at + len].0 != i64::MAX && cost <= choice.0 {
                    choice = (cost, len, id);
                }
            }
            best[at] = choice;
        }
        let mut at = 0;
        while at < text.len() {
            let (_, len, id) = best[at];
            match id {
                NONE => super::push_bytes(&text[at..at + len], &self.byte_ids, self.unk, out),
                id => out.push(id),
            }
            at += len;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "float to integer saturates")]
    fn cost(&self, id: u32) -> i64 {
        let score = usize::try_from(id).ok().and_then(|i| self.scores.get(i)).copied().unwrap_or(0.0);
        -(f64::from(score) * 1e4).round().clamp(-1e12, 1e12) as i64
    }
}
