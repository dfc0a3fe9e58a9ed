//! Bytes as text: GPT-2's byte alphabet, byte tokens, and characters in bytes that need not be UTF-8.

/// U+2581, which stands for a blank in the vocabularies of SentencePiece.
pub(super) const BLANK: &[u8] = "\u{2581}".as_bytes();

/// The character of each byte in GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other 68
/// bytes for U+0100 and on.
pub(crate) const ALPHABET: [char; 256] = {
    let mut out = ['\0'; 256];
    let (mut byte, mut next) = (0u8, 0x100u32);
    loop {
        let printable = matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let code = if printable { byte as u32 } else { next };
        if !printable {
            next += 1;
        }
        out[byte as usize] = match char::from_u32(code) {
            Some(c) => c,
            None => '\0',
        };
        if byte == 255 {
            break out;
        }
        byte += 1;
    }
};

/// The byte that a character of GPT-2's alphabet stands for.
pub(super) fn byte_of(c: char) -> Option<u8> {
    // The characters from U+0100 on come in the order of these bytes.
    const HIDDEN: [u8; 68] = {
        let mut out = [0u8; 68];
        let (mut byte, mut n) = (0u8, 0);
        loop {
            if !matches!(byte, 33..=126 | 161..=172 | 174..=255) {
                out[n] = byte;
                n += 1;
            }
            if byte == 255 {
                break out;
            }
            byte += 1;
        }
    };
    let code = u32::from(c);
    if code >= 0x100 {
        return usize::try_from(code - 0x100).ok().and_then(|i| HIDDEN.get(i)).copied();
    }
    u8::try_from(code).ok().filter(|b| matches!(b, 33..=126 | 161..=172 | 174..=255))
}

/// The byte of a token `<0xHH>`.
pub(super) fn parse_byte_token(text: &[u8]) -> Option<u8> {
    match text {
        [b'<', b'0', b'x', high, low, b'>'] => {
            let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            Some(digit(high)? << 4 | digit(low)?)
        }
        _ => None,
    }
}

/// `<0xHH>` of a byte.
pub(super) fn byte_token(byte: u8) -> [u8; 6] {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    [b'<', b'0', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)], b'>']
}

/// Length of the character that `bytes` begins with; 1 for a byte that begins no UTF-8 character.
pub(super) fn char_len(bytes: &[u8]) -> usize {
    let len = match bytes.first() {
        None => return 0,
        Some(0..0x80) => return 1,
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        Some(_) => return 1,
    };
    match bytes.get(..len).map(std::str::from_utf8) {
        Some(Ok(_)) => len,
        _ => 1,
    }
}

/// `text` with every blank written as U+2581, behind `prefix`.
pub(super) fn escape_blanks(text: &[u8], prefix: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 2 + BLANK.len());
    if prefix {
        out.extend_from_slice(BLANK);
    }
    for &b in text {
        if b == b' ' {
            out.extend_from_slice(BLANK);
        } else {
            out.push(b);
        }
    }
    out
}

/// Places where no token can reach across, so that the parts between them can be tokenized one by one.
///
/// A merge of SentencePiece or BPE over raw text makes a token of the vocabulary. If no token has U+2581 behind a
/// character c, nothing ever merges across "c U+2581". In natural vocabularies this cuts text into words, which makes
/// the heap of a long text many small ones.
pub(super) struct Seams {
    /// Characters that stand before a U+2581 in some token, as their UTF-8 bytes in a u32; sorted.
    joined: Vec<u32>,
}

impl Seams {
    pub(super) fn new<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Self {
        let finder = memchr::memmem::Finder::new(BLANK);
        let mut joined: Vec<u32> =
            tokens.flat_map(|t| finder.find_iter(t).filter(|i| *i > 0).map(move |i| last_char(&t[..i]))).collect();
        joined.sort_unstable();
        joined.dedup();
        Self { joined }
    }

    /// The parts of `text`, which is not empty.
    pub(super) fn parts<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
        let mut cuts = memchr::memmem::find_iter(text, BLANK)
            .filter(|i| *i > 0 && self.joined.binary_search(&last_char(&text[..*i])).is_err());
        let mut start = Some(0);
        std::iter::from_fn(move || {
            let from = start?;
            start = cuts.next();
            Some(&text[from..start.unwrap_or(text.len())])
        })
    }
}

/// The bytes of the last character; of bytes that are not UTF-8, the last one.
fn last_char(text: &[u8]) -> u32 {
    let from = text.iter().rposition(|b| b & 0xc0 != 0x80).unwrap_or(0).max(text.len().saturating_sub(4));
    let char = &text[from..];
    let char = if char_len(char) == char.len() { char } else { &text[text.len() - 1..] };
    char.iter().fold(0, |all, b| all << 8 | u32::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_can_be_read_back() {
        for byte in 0..=255u8 {
            assert_eq!(byte_of(ALPHABET[usize::from(byte)]), Some(byte));
        }
        assert_eq!((ALPHABET[32], ALPHABET[10], byte_of(' '), byte_of('\u{144}')), ('\u{120}', '\u{10a}', None, None));
    }

    #[test]
    fn byte_tokens_have_exactly_six_characters() {
        assert_eq!(parse_byte_token(b"<0xA7>"), Some(0xa7));
        for bad in ["<0x-1>", "<0x1>", "<0x123>", "<0xG0>", "0xA7", ""] {
            assert_eq!(parse_byte_token(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(&byte_token(0x0f), b"<0x0F>");
    }

    #[test]
    fn seams_lie_where_no_token_reaches() {
        let seams = Seams::new(["▁a", "b▁", "▁▁"].iter().map(|t| t.as_bytes()));
        let parts: Vec<_> = seams.parts("▁a▁b▁c▁▁é▁".as_bytes()).map(|p| String::from_utf8_lossy(p)).collect();
        assert_eq!(parts, ["▁a", "▁b▁c", "▁▁é", "▁"]);
    }
}
