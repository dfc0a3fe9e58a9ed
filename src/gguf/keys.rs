//! Metadata keys as spans of the file, and the types of their values.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Range;

/// A type of metadata value. Source: the GGUF specification, `gguf_metadata_value_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// IEEE single.
    F32,
    /// One byte, 0 or 1.
    Bool,
    /// A 64-bit length and that many bytes.
    Str,
    /// A 32-bit element type, a 64-bit count, and the elements.
    Array,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// IEEE double.
    F64,
}

impl ValueType {
    /// Every type; the index is the id that a file stores.
    pub const ALL: [ValueType; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Str,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type of an id.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The id that a file stores.
    pub const fn id(self) -> u32 {
        // Fieldless and declared in the order of ids.
        self as u32
    }

    /// The name that messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::Str => "str",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }

    /// Bytes of a value of this type; `None` for strings and arrays.
    pub const fn fixed_bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Str | Self::Array => None,
        }
    }

    /// The fewest bytes that a value of this type can take.
    pub(super) const fn least_bytes(self) -> usize {
        match self {
            Self::Str => 8,
            Self::Array => 12,
            fixed => match fixed.fixed_bytes() {
                Some(n) => n,
                None => 1,
            },
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where a key and its value lie in the file; both spans are in range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpan {
    /// The name, UTF-8.
    pub name: Range<usize>,
    /// The type of the value.
    pub ty: ValueType,
    /// The value, complete and well formed for its type.
    pub value: Range<usize>,
}

/// The keys of one file with an index by name.
#[derive(Debug)]
pub(super) struct KeyTable {
    spans: Vec<KeySpan>,
    /// Indices into `spans`, sorted by name.
    by_name: Vec<usize>,
}

impl KeyTable {
    /// Indexes the keys of the file `bytes`.
    pub(super) fn new(spans: Vec<KeySpan>, bytes: &[u8]) -> Self {
        let mut by_name: Vec<usize> = (0..spans.len()).collect();
        by_name.sort_unstable_by_key(|&i| &bytes[spans[i].name.clone()]);
        Self { spans, by_name }
    }

    /// The key of a name in the file `bytes`.
    pub(super) fn find(&self, bytes: &[u8], name: &str) -> Option<&KeySpan> {
        let at = self.by_name.binary_search_by(|&i| bytes[self.spans[i].name.clone()].cmp(name.as_bytes())).ok()?;
        Some(&self.spans[self.by_name[at]])
    }

    /// All keys, in file order.
    pub(super) fn spans(&self) -> &[KeySpan] {
        &self.spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_type_is_its_id() {
        for (id, ty) in (0..).zip(ValueType::ALL) {
            assert_eq!((ty.id(), ValueType::from_id(id)), (id, Some(ty)));
        }
        assert_eq!(ValueType::from_id(13), None);
        assert_eq!(ValueType::from_id(u32::MAX), None);
    }
}
