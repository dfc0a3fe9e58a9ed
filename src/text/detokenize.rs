//! Tokens to text.

use std::borrow::Cow;

use super::bytes::{BLANK, byte_of, parse_byte_token};
use super::greedy::unescape;
use super::tokens::TokenKind;
use super::vocab::{Vocab, VocabKind};

impl Vocab {
    /// The bytes that a token adds to the text, which need not be whole characters; control tokens add theirs only
    /// with `render_special`. Nothing for an id that is no token.
    pub fn piece(&self, id: u32, render_special: bool) -> Cow<'_, [u8]> {
        let text = self.tokens.text(id);
        match self.tokens.kind(id) {
            TokenKind::Control | TokenKind::Unknown if !render_special => Cow::Borrowed(&[]),
            TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => Cow::Borrowed(text),
            TokenKind::Undefined | TokenKind::Unused => Cow::Borrowed(&[]),
            TokenKind::Byte => match self.byte_of_token(text) {
                Some(byte) => Cow::Owned(vec![byte]),
                None => Cow::Borrowed(&[]),
            },
            TokenKind::Normal => self.normal_piece(text),
        }
    }

    fn byte_of_token(&self, text: &[u8]) -> Option<u8> {
        parse_byte_token(text).or(match (self.kind, text) {
            (VocabKind::Rwkv, _) => unescape(text).first().copied(),
            (_, [byte]) => Some(*byte),
            _ => None,
        })
    }

    fn normal_piece<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        match self.kind {
            VocabKind::Rwkv => Cow::Owned(unescape(text)),
            VocabKind::Plamo2 => Cow::Borrowed(text),
            VocabKind::Bpe if !self.raw_text => Cow::Owned(from_alphabet(text)),
            _ if memchr::memmem::find(text, BLANK).is_none() => Cow::Borrowed(text),
            _ => {
                let mut out = Vec::with_capacity(text.len());
                let mut at = 0;
                for i in memchr::memmem::find_iter(text, BLANK) {
                    out.extend_from_slice(&text[at..i]);
                    out.push(b' ');
                    at = i + BLANK.len();
                }
                out.extend_from_slice(&text[at..]);
                Cow::Owned(out)
            }
        }
    }

    /// The text of a whole sequence. `remove_special` drops a leading BOS and a trailing EOS that `encode` would have
    /// added; `render_special` shows control tokens.
    pub fn decode(&self, ids: &[u32], remove_special: bool, render_special: bool) -> Vec<u8> {
        let mut ids = ids;
        let mut strip = self.add_space_prefix;
        if remove_special && self.add_bos && ids.first().is_some_and(|id| Some(*id) == self.bos) {
            strip = false;
            ids = &ids[1..];
        }
        if remove_special && self.add_eos && ids.last().is_some_and(|id| Some(*id) == self.eos()) {
            ids = &ids[..ids.len() - 1];
        }
        let mut out = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            let piece = self.piece(id, render_special);
            out.extend_from_slice(if strip { piece.strip_prefix(b" ").unwrap_or(&piece) } else { &piece });
            strip = false;
        }
        if self.clean_spaces { clean_spaces(&out) } else { out }
    }
}

/// The bytes that text in GPT-2's alphabet stands for; characters outside it stand for themselves.
fn from_alphabet(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match byte_of(c) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

/// Takes out the blanks that tokenizers of the first kind put before punctuation (Hugging Face
/// `clean_up_tokenization_spaces`, as llama.cpp does it: three passes over bytes).
fn clean_spaces(text: &[u8]) -> Vec<u8> {
    let mut first: Vec<u8> = Vec::with_capacity(text.len());
    for (i, &b) in text.iter().enumerate() {
        if matches!(b, b'?' | b'!' | b'.' | b',') && i > 0 && text[i - 1] == b' ' {
            first.pop();
        }
        first.push(b);
    }
    // " ' " becomes "'".
    let mut second: Vec<u8> = Vec::with_capacity(first.len());
    let mut i = 0;
    while i < first.len() {
        second.push(first[i]);
        if first[i] == b' ' && first[i + 1..].starts_with(b"' ") {
            second.pop();
            second.push(b'\'');
            i += 2;
        }
        i += 1;
    }
    let mut third: Vec<u8> = Vec::with_capacity(second.len());
    for (i, &b) in second.iter().enumerate() {
        let rest = &second[i + 1..];
        let suffix =
            rest.starts_with(b"s") || rest.starts_with(b"m") || rest.starts_with(b"re") || rest.starts_with(b"ve");
        if b == b'\'' && suffix && i > 0 && second[i - 1] == b' ' {
            third.pop();
        }
        third.push(b);
    }
    third
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_before_punctuation_go() {
        let clean = |s: &str| String::from_utf8(clean_spaces(s.as_bytes())).unwrap();
        assert_eq!(clean("Hi , you ' re it 's they 've ? a ' t"), "Hi, you're it's they've? a't");
        assert_eq!(clean(" .  ,"), ". ,");
    }
}
