//! The model file of SentencePiece: a protobuf message, read by a bounded reader of our own. Source:
//! `sentencepiece_model.proto`.

use std::path::Path;

use crate::convert::hf::read_file;
use crate::error::{Error, ErrorKind, Result};

/// Most pieces of a model; the largest known has 262144.
const MAX_PIECES: usize = 1 << 22;

/// How a model cuts words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// The most probable sequence.
    Unigram,
    /// Merges by score.
    Bpe,
}

/// A piece of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) text: Vec<u8>,
    pub(super) score: f32,
    /// As GGUF numbers kinds: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub(super) kind: u8,
}

/// A model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    pub(super) pieces: Vec<Piece>,
    pub(super) algorithm: Algorithm,
    /// A blank before the text.
    pub(super) add_space_prefix: bool,
    /// Runs of blanks become one.
    pub(super) collapse_spaces: bool,
    /// Replacements of characters; empty when there are none.
    pub(super) charsmap: Vec<u8>,
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::Model`] when it is no SentencePiece model.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = read_file(path)?;
        parse(&bytes).ok_or_else(|| {
            let message = format!("no SentencePiece model: {} bytes that are no such message", bytes.len());
            Error::new(ErrorKind::Model, message).in_file(path).with_hint("download the file again")
        })
    }
}

fn parse(bytes: &[u8]) -> Option<Model> {
    let mut model = Model {
        pieces: Vec::new(),
        algorithm: Algorithm::Unigram,
        add_space_prefix: true,
        collapse_spaces: true,
        charsmap: Vec::new(),
    };
    for field in fields(bytes) {
        match field? {
            (1, Wire::Bytes(piece)) => {
                if model.pieces.len() == MAX_PIECES {
                    return None;
                }
                model.pieces.push(self::piece(piece)?);
            }
            (2, Wire::Bytes(trainer)) => {
                for field in fields(trainer) {
                    match field? {
                        (3, Wire::Varint(1)) => model.algorithm = Algorithm::Unigram,
                        (3, Wire::Varint(2)) => model.algorithm = Algorithm::Bpe,
                        // Words and characters: models that nobody runs.
                        (3, _) => return None,
                        _ => {}
                    }
                }
            }
            (3, Wire::Bytes(normalizer)) => {
                for field in fields(normalizer) {
                    match field? {
                        (2, Wire::Bytes(charsmap)) => model.charsmap = charsmap.to_vec(),
                        (3, Wire::Varint(n)) => model.add_space_prefix = n != 0,
                        (4, Wire::Varint(n)) => model.collapse_spaces = n != 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (!model.pieces.is_empty()).then_some(model)
}

fn piece(bytes: &[u8]) -> Option<Piece> {
    let mut piece = Piece { text: Vec::new(), score: 0.0, kind: 1 };
    for field in fields(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => piece.text = text.to_vec(),
            (2, Wire::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Wire::Varint(kind)) => piece.kind = u8::try_from(kind).ok().filter(|k| (1..=6).contains(k))?,
            _ => {}
        }
    }
    Some(piece)
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of a message; a last `None` says that the rest is none.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Option<(u64, Wire<'_>)>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Wire::Varint(varint(rest)?),
        1 => {
            *rest = rest.get(8..)?;
            Wire::Fixed64
        }
        2 => {
            let n = usize::try_from(varint(rest)?).ok()?;
            let (bytes, tail) = rest.split_at_checked(n)?;
            *rest = tail;
            Wire::Bytes(bytes)
        }
        5 => {
            let (bytes, tail) = rest.split_first_chunk()?;
            *rest = tail;
            Wire::Fixed32(u32::from_le_bytes(*bytes))
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of bytes or of a number.
    fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
        [&[field << 3 | 2, value.len() as u8], value].concat()
    }

    fn small() -> Vec<u8> {
        let one = [bytes(1, b"<unk>"), vec![0x18, 2]].concat();
        let two = [bytes(1, "\u{2581}a".as_bytes()), vec![0x15, 0, 0, 0x80, 0xbf]].concat();
        [
            bytes(1, &one),
            bytes(1, &two),
            bytes(2, &[0x18, 2]),
            bytes(3, &[bytes(2, b"map"), vec![0x18, 0, 0x20, 1]].concat()),
        ]
        .concat()
    }

    #[test]
    fn a_model_gives_its_pieces_and_rules() {
        let model = parse(&small()).unwrap();
        let texts: Vec<_> = model.pieces.iter().map(|p| (p.text.as_slice(), p.score, p.kind)).collect();
        assert_eq!(texts, [(&b"<unk>"[..], 0.0, 2), ("\u{2581}a".as_bytes(), -1.0, 1)]);
        assert_eq!((model.algorithm, model.add_space_prefix, model.collapse_spaces), (Algorithm::Bpe, false, true));
        assert_eq!(model.charsmap, b"map");
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for bad in
            [&b""[..], b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"{\"a\": 1}", b"\x0a\x02\x18\x09"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(edits in prop::collection::vec((0usize..64, any::<u8>()), 0..8), cut in 0usize..64) {
            let mut model = small();
            for (at, value) in edits {
                let n = model.len();
                model[at % n] = value;
            }
            model.truncate(cut);
            let _ = parse(&model);
        }
    }
}
