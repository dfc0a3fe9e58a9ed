//! Typed access to metadata. Every span comes from the scan, so nothing here can be out of range;
//! what is left to find out is whether a key has the type that the reader needs.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::path::Path;

use super::keys::{KeySpan, ValueType};
use super::scan::Cursor;
use super::shards::Shard;
use crate::error::{Error, ErrorKind, Result, printable};

/// The metadata of a model: typed values by key, borrowed from the file.
///
/// Every getter gives `Ok(None)` when the key is absent, and an error that names file, key, byte
/// offset, what was found and what was expected when its value is of another type.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    shard: &'a Shard,
}

/// A value of metadata; narrow numbers are widened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Value<'a> {
    /// u8, u16, u32 or u64.
    U64(u64),
    /// i8, i16, i32 or i64.
    I64(i64),
    /// f32 or f64.
    F64(f64),
    /// A bool; any byte but 0 is true.
    Bool(bool),
    /// Text; files do not guarantee that it is UTF-8.
    Str(&'a [u8]),
    /// Many values of one type.
    Array(Array<'a>),
}

/// An array of metadata: `len` values of one type, borrowed from the file.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    element: ValueType,
    len: usize,
    /// The elements as the file stores them.
    bytes: &'a [u8],
    /// Where `bytes` begins in the file.
    offset: u64,
}

impl<'a> Metadata<'a> {
    pub(super) fn new(shard: &'a Shard) -> Self {
        Self { shard }
    }

    /// Keys and values in file order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.shard.keys.spans().iter().map(move |span| (self.name(span), self.decode(span)))
    }

    /// Keys with the type and the bytes of their value, in file order: for copying them unchanged.
    pub fn raw(self) -> impl Iterator<Item = (&'a str, ValueType, &'a [u8])> {
        let bytes: &'a [u8] = &self.shard.map;
        self.shard.keys.spans().iter().map(move |span| (self.name(span), span.ty, &bytes[span.value.clone()]))
    }

    /// The value of a key.
    pub fn value(self, key: &str) -> Option<Value<'a>> {
        self.span(key).map(|span| self.decode(span))
    }

    /// A text.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the value is no string or not UTF-8.
    pub fn str(self, key: &str) -> Result<Option<&'a str>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Str(text)) => match std::str::from_utf8(text) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.key_error(key, "a text that is not UTF-8", "UTF-8")),
            },
            Some(other) => Err(self.key_error(key, other, "a text")),
        }
    }

    /// An unsigned integer of any stored width and sign.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the value is no integer or negative.
    pub fn u64(self, key: &str) -> Result<Option<u64>> {
        self.integer(key, "an unsigned integer")
    }

    /// An unsigned integer below 2^32 of any stored width and sign.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the value is no integer or does not fit.
    pub fn u32(self, key: &str) -> Result<Option<u32>> {
        self.integer(key, "an unsigned integer below 2^32")
    }

    /// A signed integer of any stored width and sign.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the value is no integer or does not fit.
    pub fn i64(self, key: &str) -> Result<Option<i64>> {
        self.integer(key, "a signed integer")
    }

    /// A number, rounded to f32. It may be infinite or NaN.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the value is no number.
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds, which the name says")]
    pub fn f32(self, key: &str) -> Result<Option<f32>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::F64(v)) => Ok(Some(v as f32)),
            Some(Value::U64(v)) => Ok(Some(v as f32)),
            Some(Value::I64(v)) => Ok(Some(v as f32)),
            Some(other) => Err(self.key_error(key, other, "a number")),
        }
    }

    /// A bool.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the value is of another type.
    pub fn bool(self, key: &str) -> Result<Option<bool>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(v)),
            Some(other) => Err(self.key_error(key, other, "a bool")),
        }
    }

    /// An array.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the value is of another type.
    pub fn array(self, key: &str) -> Result<Option<Array<'a>>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(v)) => Ok(Some(v)),
            Some(other) => Err(self.key_error(key, other, "an array")),
        }
    }

    /// The error for a key whose value is not what is needed, for callers that check ranges:
    /// "key `k` at byte N: found x, expected y".
    pub fn key_error(self, key: &str, found: impl fmt::Display, expected: impl fmt::Display) -> Error {
        let name = printable(key);
        let found = printable(&found.to_string());
        let message = match self.span(key) {
            Some(span) => format!("key `{name}` at byte {}: found {found}, expected {expected}", span.value.start),
            None => format!("key `{name}`: found {found}, expected {expected}"),
        };
        Error::new(ErrorKind::Model, message).in_file(self.path())
    }

    /// The file that holds the metadata.
    pub fn path(self) -> &'a Path {
        &self.shard.path
    }

    fn integer<T: TryFrom<i128>>(self, key: &str, expected: &str) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let wide = match value {
            Value::U64(v) => Some(i128::from(v)),
            Value::I64(v) => Some(i128::from(v)),
            _ => None,
        };
        match wide.and_then(|v| T::try_from(v).ok()) {
            Some(v) => Ok(Some(v)),
            None => Err(self.key_error(key, value, expected)),
        }
    }

    fn span(self, key: &str) -> Option<&'a KeySpan> {
        self.shard.keys.find(&self.shard.map, key)
    }

    fn name(self, span: &KeySpan) -> &'a str {
        let bytes: &'a [u8] = &self.shard.map;
        std::str::from_utf8(&bytes[span.name.clone()]).expect("the scan has checked that keys are UTF-8")
    }

    fn decode(self, span: &KeySpan) -> Value<'a> {
        decode(span.ty, &self.shard.map, span.value.clone()).expect("the scan has checked the span")
    }
}

/// The value of a span of `file` that the scan has passed.
fn decode(ty: ValueType, file: &[u8], span: Range<usize>) -> Option<Value<'_>> {
    let (offset, bytes) = (span.start as u64, file.get(span)?);
    Some(match ty {
        ValueType::U8 => Value::U64(u8::from_le_bytes(bytes.try_into().ok()?).into()),
        ValueType::I8 => Value::I64(i8::from_le_bytes(bytes.try_into().ok()?).into()),
        ValueType::U16 => Value::U64(u16::from_le_bytes(bytes.try_into().ok()?).into()),
        ValueType::I16 => Value::I64(i16::from_le_bytes(bytes.try_into().ok()?).into()),
        ValueType::U32 => Value::U64(u32::from_le_bytes(bytes.try_into().ok()?).into()),
        ValueType::I32 => Value::I64(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        ValueType::U64 => Value::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::F32 => Value::F64(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        ValueType::F64 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::Bool => Value::Bool(*bytes.first()? != 0),
        ValueType::Str => Value::Str(bytes.get(8..)?),
        ValueType::Array => {
            let (element, rest) = bytes.split_first_chunk()?;
            let (len, rest) = rest.split_first_chunk()?;
            let element = ValueType::from_id(u32::from_le_bytes(*element))?;
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            Value::Array(Array { element, len, bytes: rest, offset: offset + 12 })
        }
    })
}

impl fmt::Display for Value<'_> {
    /// A short form for messages: arrays show their length only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U64(v) => v.fmt(f),
            Self::I64(v) => v.fmt(f),
            Self::F64(v) => v.fmt(f),
            Self::Bool(v) => v.fmt(f),
            // A message shows 80 characters; four bytes each are enough.
            Self::Str(text) => {
                let shown = &text[..text.len().min(4 * 81)];
                write!(f, "the text `{}`", printable(&String::from_utf8_lossy(shown)))
            }
            Self::Array(array) => write!(f, "an array of {} values of type {}", array.len, array.element),
        }
    }
}

impl<'a> Array<'a> {
    /// How many elements there are.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The name of the elements' type, `str` say.
    pub fn element(self) -> &'static str {
        self.element.name()
    }

    /// The elements of an array of strings.
    pub fn strings(self) -> Option<impl Iterator<Item = &'a [u8]>> {
        self.strings_with_offsets().map(|all| all.map(|(_, text)| text))
    }

    /// The elements of an array of strings, each with the position of its first byte in the file
    /// ([`super::Gguf::metadata_bytes`]).
    pub fn strings_with_offsets(self) -> Option<impl Iterator<Item = (u64, &'a [u8])>> {
        (self.element == ValueType::Str).then(|| {
            let mut at = self.offset;
            let mut rest = self.bytes;
            (0..self.len).map_while(move |_| {
                let (len, behind) = rest.split_first_chunk()?;
                let (text, next) = behind.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
                let start = at + 8;
                at = start + text.len() as u64;
                rest = next;
                Some((start, text))
            })
        })
    }

    /// The elements of an array of integers; `None` also if one of them passes i64.
    pub fn integers(self) -> Option<impl Iterator<Item = i64>> {
        let integer = move |bytes: &[u8]| match decode(self.element, bytes, 0..bytes.len())? {
            Value::I64(v) => Some(v),
            Value::U64(v) => i64::try_from(v).ok(),
            _ => None,
        };
        let fits = self.chunks()?.all(|c| integer(c).is_some());
        let is_integer = !matches!(self.element, ValueType::F32 | ValueType::F64 | ValueType::Bool);
        (fits && is_integer).then(|| self.chunks().into_iter().flatten().filter_map(integer))
    }

    /// The elements of an array of f32 or f64, rounded to f32.
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds, as documented")]
    pub fn floats(self) -> Option<impl Iterator<Item = f32>> {
        let float = move |bytes: &[u8]| match decode(self.element, bytes, 0..bytes.len()) {
            Some(Value::F64(v)) => Some(v as f32),
            _ => None,
        };
        matches!(self.element, ValueType::F32 | ValueType::F64)
            .then(|| self.chunks().into_iter().flatten().filter_map(float))
    }

    /// The elements of an array of bools; any byte but 0 is true.
    pub fn bools(self) -> Option<impl Iterator<Item = bool>> {
        (self.element == ValueType::Bool).then(|| self.bytes.iter().map(|&b| b != 0))
    }

    /// The elements of an array of u8 or i8.
    pub fn bytes(self) -> Option<&'a [u8]> {
        matches!(self.element, ValueType::U8 | ValueType::I8).then_some(self.bytes)
    }

    /// The elements of any array, inner arrays too.
    pub fn values(self) -> impl Iterator<Item = Value<'a>> {
        let mut cursor = Cursor::new(self.bytes);
        (0..self.len).map_while(move |_| {
            let span = cursor.value(self.element).ok()?;
            let mut value = decode(self.element, self.bytes, span)?;
            if let Value::Array(inner) = &mut value {
                inner.offset += self.offset;
            }
            Some(value)
        })
    }

    /// The bytes of each element, if all are of one size.
    fn chunks(self) -> Option<impl Iterator<Item = &'a [u8]>> {
        self.element.fixed_bytes().map(|n| self.bytes.chunks_exact(n))
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.element, self.len)
    }
}
