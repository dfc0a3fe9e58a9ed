//! Writing GGUF: keys and tensors are declared first, then the data stream through.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use ggus::{GGufFileHeader, GGufMetaDataValueType as Ty};

use super::keys::ValueType;
use super::scan::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT};
use crate::quant::BlockType;

/// A GGUF file to be: [`key`](Self::key) and [`tensor`](Self::tensor) declare what it holds in file
/// order, [`begin`](Self::begin) writes the head, and the data follow in the order of declaration.
///
/// ```
/// use tealight::gguf::GgufWriter;
/// use tealight::quant::BlockType;
///
/// let mut file = GgufWriter::new();
/// file.key("general.architecture", "llama").tensor("output_norm.weight", BlockType::F32, &[4]);
/// let mut body = file.begin(Vec::new())?;
/// body.write(&[0; 16])?;
/// let bytes = body.finish()?;
/// assert_eq!(tealight::gguf::scan(&bytes).map(|l| l.tensors.len()), Ok(1));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GgufWriter {
    version: u32,
    alignment: u32,
    keys: Vec<(String, ValueType, Vec<u8>)>,
    tensors: Vec<Declared>,
}

#[derive(Clone, Debug)]
struct Declared {
    name: String,
    ty: BlockType,
    /// Outermost first.
    shape: Vec<u64>,
}

/// A metadata value to write, of exactly this type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum KeyValue {
    /// Unsigned, 8 bits.
    U8(u8),
    /// Signed, 8 bits.
    I8(i8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Signed, 16 bits.
    I16(i16),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// IEEE single.
    F32(f32),
    /// A bool.
    Bool(bool),
    /// Text, which need not be UTF-8.
    Str(Vec<u8>),
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 64 bits.
    I64(i64),
    /// IEEE double.
    F64(f64),
    /// Values of one type.
    Array {
        /// The type of every item.
        element: ValueType,
        /// The items; each must be of type `element`.
        items: Vec<KeyValue>,
    },
}

impl KeyValue {
    /// An array of text.
    pub fn strings<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        let items = texts.into_iter().map(|t| Self::Str(t.as_ref().to_vec())).collect();
        Self::Array { element: ValueType::Str, items }
    }

    /// The type of the value.
    pub fn ty(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::Str(_) => ValueType::Str,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
            Self::Array { .. } => ValueType::Array,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(v) => out.push(*v),
            Self::I8(v) => out.extend(v.to_le_bytes()),
            Self::U16(v) => out.extend(v.to_le_bytes()),
            Self::I16(v) => out.extend(v.to_le_bytes()),
            Self::U32(v) => out.extend(v.to_le_bytes()),
            Self::I32(v) => out.extend(v.to_le_bytes()),
            Self::F32(v) => out.extend(v.to_le_bytes()),
            Self::Bool(v) => out.push(u8::from(*v)),
            Self::Str(text) => {
                out.extend((text.len() as u64).to_le_bytes());
                out.extend(text);
            }
            Self::U64(v) => out.extend(v.to_le_bytes()),
            Self::I64(v) => out.extend(v.to_le_bytes()),
            Self::F64(v) => out.extend(v.to_le_bytes()),
            Self::Array { element, items } => {
                out.extend(element.id().to_le_bytes());
                out.extend((items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.encode(out));
            }
        }
    }

    /// Whether arrays hold items of their declared type only.
    fn is_uniform(&self) -> bool {
        match self {
            Self::Array { element, items } => items.iter().all(|i| i.ty() == *element && i.is_uniform()),
            _ => true,
        }
    }
}

macro_rules! from_values {
    ($($ty:ty => $variant:ident),*) => {$(
        impl From<$ty> for KeyValue {
            fn from(v: $ty) -> Self {
                Self::$variant(v)
            }
        }

        impl From<Vec<$ty>> for KeyValue {
            fn from(items: Vec<$ty>) -> Self {
                let items = items.into_iter().map(Self::$variant).collect();
                Self::Array { element: ValueType::$variant, items }
            }
        }
    )*};
}

from_values! {
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool, u64 => U64,
    i64 => I64, f64 => F64
}

impl From<&str> for KeyValue {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

impl From<String> for KeyValue {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufWriter {
    /// An empty file of version 3, aligned to 32 bytes.
    pub fn new() -> Self {
        let alignment = u32::try_from(DEFAULT_ALIGNMENT).expect("32 fits");
        Self { version: 3, alignment, keys: Vec::new(), tensors: Vec::new() }
    }

    /// Sets the format version, 2 or 3; both have the same layout.
    pub fn version(&mut self, version: u32) -> &mut Self {
        self.version = version;
        self
    }

    /// Sets the alignment of tensor data in bytes, a power of two. If it is not 32, the file declares it
    /// in a key of its own behind the others.
    pub fn alignment(&mut self, alignment: u32) -> &mut Self {
        self.alignment = alignment;
        self
    }

    /// Declares a key.
    pub fn key(&mut self, name: impl Into<String>, value: impl Into<KeyValue>) -> &mut Self {
        let value = value.into();
        debug_assert!(value.is_uniform(), "items of another type than the array declares");
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        self.raw_key(name, value.ty(), bytes)
    }

    /// Declares a key with a value as another file stores it (see [`super::Metadata::raw`]).
    pub fn raw_key(&mut self, name: impl Into<String>, ty: ValueType, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.keys.push((name.into(), ty, bytes.into()));
        self
    }

    /// Declares a tensor; `shape` is outermost first (`[out, in]`).
    pub fn tensor(&mut self, name: impl Into<String>, ty: BlockType, shape: &[u64]) -> &mut Self {
        self.tensors.push(Declared { name: name.into(), ty, shape: shape.to_vec() });
        self
    }

    /// Writes everything that stands before the data.
    ///
    /// # Errors
    /// `InvalidInput` when the declarations make no valid file: version, alignment, a repeated
    /// alignment key, or a shape that the type cannot hold; else what `out` reports.
    pub fn begin<W: Write>(self, mut out: W) -> io::Result<GgufBody<W>> {
        let (head, sizes) = self.head()?;
        out.write_all(&head)?;
        let mut body =
            GgufBody { out, written: head.len() as u64, alignment: u64::from(self.alignment), sizes, next: 0, left: 0 };
        body.advance()?;
        Ok(body)
    }

    /// The head, and the bytes of each tensor's data.
    fn head(&self) -> io::Result<(Vec<u8>, Vec<u64>)> {
        if !matches!(self.version, 2 | 3) {
            return Err(invalid(format!("GGUF version {}, expected 2 or 3", self.version)));
        }
        if !self.alignment.is_power_of_two() {
            return Err(invalid(format!("alignment {}, expected a power of two", self.alignment)));
        }
        if self.keys.iter().any(|k| k.0 == ALIGNMENT_KEY) {
            return Err(invalid(format!("key `{ALIGNMENT_KEY}`, expected `GgufWriter::alignment`")));
        }
        let declares_alignment = u64::from(self.alignment) != DEFAULT_ALIGNMENT;
        let n_key = self.keys.len() as u64 + u64::from(declares_alignment);
        let mut head = Vec::new();
        let mut sizes = Vec::with_capacity(self.tensors.len());
        // In memory, since the writer of ggus does not report what fails when it is dropped.
        let mut writer = ggus::GGufWriter::new(&mut head);
        writer.write_header(GGufFileHeader::new(self.version, self.tensors.len() as u64, n_key))?;
        for (name, ty, value) in &self.keys {
            writer.write_meta_kv(name, wire_type(*ty), value)?;
        }
        if declares_alignment {
            writer.write_meta_kv(ALIGNMENT_KEY, Ty::U32, &self.alignment.to_le_bytes())?;
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            let Declared { name, ty, shape } = tensor;
            let bytes = tensor.bytes().ok_or_else(|| invalid(format!("tensor `{name}`: {shape:?} cannot be {ty}")))?;
            let ne: Vec<u64> = shape.iter().rev().copied().collect();
            let n_dim = u32::try_from(ne.len()).map_err(invalid)?;
            writer.write_str(name)?;
            writer.write(&[n_dim])?;
            writer.write(&ne)?;
            // Raw ids: the types that ggus knows end before those of 2025.
            writer.write(&[ty.id()])?;
            writer.write(&[offset])?;
            let end = offset.checked_add(bytes).and_then(|n| n.checked_next_multiple_of(self.alignment.into()));
            offset = end.ok_or_else(|| invalid("tensors of more than 2^64 bytes"))?;
            sizes.push(bytes);
        }
        drop(writer);
        Ok((head, sizes))
    }
}

impl Declared {
    fn bytes(&self) -> Option<u64> {
        let (row, outer) = self.shape.split_last()?;
        outer.iter().try_fold(self.ty.row_bytes(*row)?, |n, &dim| n.checked_mul(dim))
    }
}

/// A file whose head is written and whose tensor data are being written.
#[derive(Debug)]
pub struct GgufBody<W> {
    out: W,
    written: u64,
    alignment: u64,
    /// Bytes of each tensor.
    sizes: Vec<u64>,
    /// The tensor behind the current one.
    next: usize,
    /// Bytes that the current tensor still lacks.
    left: u64,
}

impl<W: Write> GgufBody<W> {
    /// Writes the next bytes of tensor data. Tensors follow one another in the order of declaration;
    /// one may be written in pieces, but a piece must not reach into the next tensor.
    ///
    /// # Errors
    /// `InvalidInput` when there are more bytes than the current tensor lacks; else what the
    /// destination reports.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let n = data.len() as u64;
        if n > self.left {
            return Err(invalid(format!("{n} bytes of tensor data, expected at most {}", self.left)));
        }
        self.out.write_all(data)?;
        self.written += n;
        self.left -= n;
        self.advance()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// `InvalidInput` when tensor data are missing; else what the destination reports.
    pub fn finish(mut self) -> io::Result<W> {
        if self.left > 0 {
            return Err(invalid(format!("tensor number {} lacks {} bytes", self.next - 1, self.left)));
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Goes to the next tensor that has bytes, once the current one is complete.
    fn advance(&mut self) -> io::Result<()> {
        while self.left == 0 && self.next < self.sizes.len() {
            self.pad()?;
            self.left = self.sizes[self.next];
            self.next += 1;
        }
        // Readers of ggml want the last tensor padded too.
        if self.left == 0 && !self.sizes.is_empty() { self.pad() } else { Ok(()) }
    }

    fn pad(&mut self) -> io::Result<()> {
        let n = self.written.next_multiple_of(self.alignment) - self.written;
        io::copy(&mut io::Read::take(io::repeat(0), n), &mut self.out)?;
        self.written += n;
        Ok(())
    }
}

fn wire_type(ty: ValueType) -> Ty {
    match ty {
        ValueType::U8 => Ty::U8,
        ValueType::I8 => Ty::I8,
        ValueType::U16 => Ty::U16,
        ValueType::I16 => Ty::I16,
        ValueType::U32 => Ty::U32,
        ValueType::I32 => Ty::I32,
        ValueType::F32 => Ty::F32,
        ValueType::Bool => Ty::Bool,
        ValueType::Str => Ty::String,
        ValueType::Array => Ty::Array,
        ValueType::U64 => Ty::U64,
        ValueType::I64 => Ty::I64,
        ValueType::F64 => Ty::F64,
    }
}

fn invalid(e: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, e.to_string())
}
