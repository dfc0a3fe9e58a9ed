//! A position in untrusted bytes. Everything it gives is in range; nothing it does allocates.
#![forbid(unsafe_code)]

use std::ops::Range;

use ggus::GGufReader;

use super::error::{Fault, ScanErrorKind as Kind};
use crate::gguf::keys::ValueType;

/// Arrays in arrays in arrays: deeper ones have no known use.
const MAX_DEPTH: usize = 4;

/// Strings and inner arrays of all arrays of a file together, since these are walked one by one: 64
/// times the largest vocabulary known (262,144 tokens).
pub(super) const MAX_WALKED: u64 = 1 << 24;

pub(in crate::gguf) struct Cursor<'a> {
    all: &'a [u8],
    reader: GGufReader<'a>,
    /// How many more strings and inner arrays may be walked.
    walks_left: u64,
}

impl<'a> Cursor<'a> {
    pub(in crate::gguf) fn new(all: &'a [u8]) -> Self {
        Self { all, reader: GGufReader::new(all), walks_left: MAX_WALKED }
    }

    /// Bytes before the cursor.
    pub(in crate::gguf) fn at(&self) -> usize {
        self.all.len() - self.left()
    }

    /// Bytes behind the cursor.
    pub(super) fn left(&self) -> usize {
        self.reader.remaining().len()
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.reader.read().map_err(|_| self.truncated(4))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.reader.read().map_err(|_| self.truncated(8))
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64) -> Result<&'a [u8], Fault> {
        let split = usize::try_from(n).ok().and_then(|n| self.reader.remaining().split_at_checked(n));
        let (taken, rest) = split.ok_or_else(|| self.truncated(n))?;
        self.reader = GGufReader::new(rest);
        Ok(taken)
    }

    /// A length of 64 bits and that many bytes.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Fault> {
        let at = self.at();
        let len = self.u64()?;
        let left = self.left() as u64;
        self.take(len).map_err(|_| Fault { at, kind: Kind::StringLength { len, left } })
    }

    /// Steps over a value and gives its span.
    pub(in crate::gguf) fn value(&mut self, ty: ValueType) -> Result<Range<usize>, Fault> {
        let start = self.at();
        match (ty, ty.fixed_bytes()) {
            (_, Some(n)) => drop(self.take(n as u64)?),
            (ValueType::Array, _) => self.array()?,
            _ => drop(self.string()?),
        }
        Ok(start..self.at())
    }

    /// Element type and count of an array; the elements would fit into the bytes left.
    pub(in crate::gguf) fn array_header(&mut self) -> Result<(ValueType, u64), Fault> {
        let at = self.at();
        let id = self.u32()?;
        let ty = ValueType::from_id(id).ok_or(Fault { at, kind: Kind::ValueType { id } })?;
        let at = self.at();
        let len = self.u64()?;
        let most = (self.left() / ty.least_bytes()) as u64;
        if len > most {
            return Err(Fault { at, kind: Kind::ArrayLength { ty, len, most } });
        }
        Ok((ty, len))
    }

    /// Steps over an array, arrays in it included. An explicit stack, since files choose the depth.
    fn array(&mut self) -> Result<(), Fault> {
        let mut open = [0u64; MAX_DEPTH - 1];
        let mut depth = 0;
        loop {
            let at = self.at();
            let (ty, len) = self.array_header()?;
            let unwalked = match ty.fixed_bytes() {
                Some(n) => {
                    self.take(len * n as u64)?;
                    0
                }
                None => len,
            };
            self.walks_left = self.walks_left.checked_sub(unwalked).ok_or(Fault { at, kind: Kind::TooManyStrings })?;
            if ty == ValueType::Str {
                (0..len).try_for_each(|_| self.string().map(drop))?;
            }
            if ty == ValueType::Array {
                *open.get_mut(depth).ok_or(Fault { at, kind: Kind::ArrayDepth { most: MAX_DEPTH } })? = len;
                depth += 1;
            }
            while depth > 0 && open[depth - 1] == 0 {
                depth -= 1;
            }
            match depth {
                0 => return Ok(()),
                _ => open[depth - 1] -= 1,
            }
        }
    }

    fn truncated(&self, need: u64) -> Fault {
        Fault { at: self.at(), kind: Kind::Truncated { need, left: self.left() as u64 } }
    }
}
