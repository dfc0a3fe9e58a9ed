//! What can be wrong with a GGUF file, and where.
#![forbid(unsafe_code)]

use std::fmt;

use thiserror::Error;

use super::cursor::MAX_WALKED;
use crate::error::printable;
use crate::gguf::keys::ValueType;
use crate::gguf::map::AGAIN;
use crate::quant::{BlockType, UnknownType};

/// Why the gate refuses a file: the place, the byte, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanError {
    /// The part of the file.
    pub place: Place,
    /// The byte of the file where the faulty field begins.
    pub offset: u64,
    /// What was found and what was expected.
    pub kind: ScanErrorKind,
}

/// A part of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Magic, version and the two counts.
    Header,
    /// A metadata key whose name could not be read, by its number from 0.
    KeyNumber(u64),
    /// A metadata key.
    Key(String),
    /// A record of the tensor table whose name could not be read, by its number from 0.
    TensorNumber(u64),
    /// A tensor.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::KeyNumber(i) => write!(f, "key number {i}"),
            Self::Key(name) => write!(f, "key `{}`", printable(name)),
            Self::TensorNumber(i) => write!(f, "tensor number {i}"),
            Self::Tensor(name) => write!(f, "tensor `{}`", printable(name)),
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ScanErrorKind {
    /// No bytes at all.
    #[error("the file is empty: found 0 bytes, expected a GGUF file")]
    Empty,
    /// The start of the file is not GGUF's.
    #[error("not a GGUF file: found {found}, expected the magic `GGUF`")]
    Format {
        /// What it looks like.
        found: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// The counts and lengths are stored with the most significant byte first.
    #[error("found a big-endian file, expected little-endian")]
    BigEndian,
    /// A version that this gate does not read.
    #[error("found version {found}, expected 2 or 3")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// The file ends inside a field.
    #[error("the file ends here: found {left} bytes, expected {need}")]
    Truncated {
        /// Bytes that the field needs.
        need: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// More records than the file can hold or than any model has.
    #[error("found a count of {found} {of}, expected at most {most}")]
    Count {
        /// The count in the file.
        found: u64,
        /// The most that is accepted.
        most: u64,
        /// What is counted.
        of: &'static str,
    },
    /// A string that would end behind the file.
    #[error("found a string of {len} bytes, expected at most the {left} that are left")]
    StringLength {
        /// The length in the file.
        len: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// A name with too few or too many bytes.
    #[error("found a name of {len} bytes, expected 1 to {most}")]
    NameLength {
        /// Its bytes.
        len: u64,
        /// The most that is accepted.
        most: u64,
    },
    /// A name that is not UTF-8.
    #[error("found a name that is not UTF-8, expected UTF-8")]
    NameUtf8,
    /// A tensor name with NUL or another control character.
    #[error("found a control character in the name, expected none")]
    NameControl,
    /// A key or tensor that was there before.
    #[error("found the name a second time, expected it once (first at byte {first})")]
    Duplicate {
        /// Where the first one is.
        first: u64,
    },
    /// A type of metadata value that does not exist.
    #[error("found value type {id}, expected 0 to 12")]
    ValueType {
        /// The id in the file.
        id: u32,
    },
    /// An array that would end behind the file.
    #[error("found an array of {len} values of type {ty}, expected at most {most} in the bytes left")]
    ArrayLength {
        /// The type of its elements.
        ty: ValueType,
        /// The count in the file.
        len: u64,
        /// How many could fit.
        most: u64,
    },
    /// Arrays nested too deep.
    #[error("found arrays nested deeper, expected at most {most} levels")]
    ArrayDepth {
        /// The deepest that is accepted.
        most: usize,
    },
    /// More strings and inner arrays than any vocabulary needs.
    #[error("found too many strings and inner arrays, expected at most {MAX_WALKED} in the file")]
    TooManyStrings,
    /// `general.alignment` has a type that no file uses for it.
    #[error("found type {found}, expected u32")]
    AlignmentType {
        /// The type in the file.
        found: ValueType,
    },
    /// `general.alignment` is no usable number.
    #[error("found {found}, expected a power of two from 1 to 1048576")]
    Alignment {
        /// The value in the file.
        found: u64,
    },
    /// A tensor without or with too many dimensions.
    #[error("found {found} dimensions, expected 1 to 4")]
    Dimensions {
        /// The count in the file.
        found: u32,
    },
    /// The elements or bytes of a tensor pass 63 bits.
    #[error("found dimensions {shape:?} (innermost first), expected a size below 2^63 bytes")]
    Size {
        /// The dimensions, innermost first as in the file.
        shape: Vec<u64>,
    },
    /// A tensor type that cannot be read.
    #[error("{0}")]
    Type(UnknownType),
    /// A row that is not a whole number of blocks.
    #[error("found rows of {row} elements, expected a multiple of {} for {ty}", .ty.block_len())]
    Row {
        /// Elements of a row.
        row: u64,
        /// The type of the tensor.
        ty: BlockType,
    },
    /// An offset that does not keep the alignment of the file.
    #[error("found offset {found}, expected a multiple of {alignment}")]
    OffsetAlignment {
        /// The offset in the data section.
        found: u64,
        /// The alignment of the file.
        alignment: u64,
    },
    /// Data behind the end of the file.
    #[error("ends at byte {end}, the file has {len} bytes")]
    OutOfFile {
        /// One past the last byte of the data; saturated when it passes 64 bits.
        end: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// Data shared with another tensor.
    #[error("shares bytes with tensor `{}`, whose data end at byte {end}: found data at byte {start}", printable(.other))]
    Overlap {
        /// First byte of this tensor's data.
        start: u64,
        /// The tensor that lies before.
        other: String,
        /// One past its last byte.
        end: u64,
    },
}

impl ScanError {
    /// What the user can do, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        use ScanErrorKind as Kind;
        match &self.kind {
            Kind::Format { hint, .. } => Some(hint),
            Kind::Empty | Kind::Truncated { .. } | Kind::StringLength { .. } | Kind::OutOfFile { .. } => Some(AGAIN),
            Kind::BigEndian => Some("convert the model again on a little-endian machine"),
            Kind::Version { found: 1 } => Some("version 1 is of August 2023: convert the model again"),
            Kind::Version { .. } => Some("a newer Tealight may read it"),
            _ => None,
        }
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.place, self.offset, self.kind)
    }
}

impl std::error::Error for ScanError {}

/// An error whose place is not known yet.
#[derive(Debug)]
pub(in crate::gguf) struct Fault {
    pub(super) at: usize,
    pub(super) kind: ScanErrorKind,
}

impl Fault {
    pub(super) fn of(self, place: Place) -> ScanError {
        ScanError { place, offset: self.at as u64, kind: self.kind }
    }
}

const CONVERT: &str = "convert it to GGUF first";
const PAGE: &str = "the server sent a page in place of the model: check the address and download it again";

/// What a file without GGUF's magic looks like.
pub(super) fn lookalike(bytes: &[u8]) -> ScanErrorKind {
    let (found, hint) = match bytes {
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', rest @ ..] if rest.starts_with(b"https://git-lfs") => {
            ("a Git LFS pointer", "fetch the model itself with `git lfs pull`")
        }
        [b'P', b'K', 3, 4, ..] => {
            ("a zip archive, perhaps a PyTorch checkpoint", "convert its safetensors form to GGUF")
        }
        [0x80, 2..=5, ..] => ("a Python pickle", "convert its safetensors form to GGUF"),
        [b'l', b'm', b'g', b'g', ..] => ("the old format ggml", CONVERT),
        [b'f', b'm', b'g', b'g', ..] => ("the old format ggmf", CONVERT),
        [b't', b'j', b'g', b'g', ..] => ("the old format ggjt", CONVERT),
        [b'a', b'l', b'g', b'g', ..] => ("an adapter of the old format ggla", CONVERT),
        [b'F', b'U', b'G', b'G', ..] => return ScanErrorKind::BigEndian,
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            ("a compressed file", "unpack it first")
        }
        [_, _, _, _, _, _, 0, 0, b'{', ..] => ("a safetensors file", CONVERT),
        // A preallocated download is all zeros; the first bytes are enough to tell.
        _ if bytes.iter().take(4096).all(|&b| b == 0) => ("only zeros", AGAIN),
        _ => match bytes.trim_ascii_start() {
            [b'<', ..] => ("a web page (HTML)", PAGE),
            [b'{', ..] => ("a JSON text", PAGE),
            _ if bytes.len() < 4 => ("a file of less than 4 bytes", AGAIN),
            _ => ("other bytes", "check that this is the model file, and download it again"),
        },
    };
    ScanErrorKind::Format { found, hint }
}
