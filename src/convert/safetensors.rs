//! The gate of a safetensors file: a length of 64 bits, that many bytes of JSON, and the data. Nothing downstream
//! checks a file again: after [`File::open`] every tensor has a known type, a shape that fits its bytes, and bytes
//! of its own; together they fill the file. Source: the format's page and the reference library's `Metadata`.

mod index;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::Map;

pub(super) use index::Checkpoint;

/// Longest header that is read; the reference library's limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Longest name and largest number of dimensions of a tensor; far above any checkpoint.
const MAX_NAME_BYTES: usize = 1024;
const MAX_DIMS: usize = 8;

const AGAIN: &str = "the download was interrupted or the file is damaged: download it again";

macro_rules! dtypes {
    ($($variant:ident = $name:literal, $bits:literal;)*) => {
        /// A type of stored numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Dtype { $($variant,)* }

        impl Dtype {
            const ALL: &'static [Dtype] = &[$(Dtype::$variant,)*];

            /// The name in the header.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Dtype::$variant => $name,)* }
            }

            /// Bits of one number.
            const fn bits(self) -> u64 {
                match self { $(Dtype::$variant => $bits,)* }
            }
        }
    };
}

dtypes! {
    Bool = "BOOL", 8;
    U8 = "U8", 8;
    I8 = "I8", 8;
    F4 = "F4", 4;
    F8E5m2 = "F8_E5M2", 8;
    F8E4m3 = "F8_E4M3", 8;
    F8E8m0 = "F8_E8M0", 8;
    I16 = "I16", 16;
    U16 = "U16", 16;
    F16 = "F16", 16;
    Bf16 = "BF16", 16;
    I32 = "I32", 32;
    U32 = "U32", 32;
    F32 = "F32", 32;
    I64 = "I64", 64;
    U64 = "U64", 64;
    F64 = "F64", 64;
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    /// Outermost first.
    pub(super) shape: Vec<u64>,
    /// First byte in the file.
    pub(super) offset: usize,
    /// Bytes of its data.
    pub(super) bytes: usize,
}

/// One file that has passed the gate.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    map: Map,
    pub(super) tensors: Vec<Stored>,
}

impl File {
    /// Opens, maps and checks a file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::Model`] naming tensor and byte offset when it lies.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let map = Map::open_as(path, "a safetensors file")?;
        let tensors = scan(&map).map_err(|fault| fault.in_file(path))?;
        Ok(Self { path: path.to_owned(), map, tensors })
    }

    /// The data of one of this file's tensors.
    pub(super) fn bytes(&self, tensor: &Stored) -> &[u8] {
        self.map.get(tensor.offset..).and_then(|b| b.get(..tensor.bytes)).expect("a tensor of this file")
    }

    /// Gives memory back that holds parts of the file.
    pub(super) fn release(&self) {
        self.map.release();
    }

    /// Fails if the file has changed since it was opened.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        self.map.check_unchanged(&self.path)
    }
}

type Scanned<T> = std::result::Result<T, Fault>;

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    message: String,
    hint: &'static str,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: AGAIN }
    }

    fn of(name: &str, what: impl fmt::Display) -> Self {
        Self::new(format!("tensor `{}`: {what}", printable(name)))
    }

    fn in_file(self, path: &Path) -> Error {
        Error::new(ErrorKind::Model, self.message).in_file(path).with_hint(self.hint)
    }
}

/// The tensors of a file, sorted by offset. Allocates no more than the header is long, times a constant.
fn scan(file: &[u8]) -> Scanned<Vec<Stored>> {
    let Some((n, rest)) = file.split_first_chunk() else {
        return Err(Fault::new(format!("found {} bytes, expected a header length of 8", file.len())));
    };
    let n = u64::from_le_bytes(*n);
    if n > MAX_HEADER_BYTES {
        let hint = "this is no safetensors file, or it is damaged: download it again";
        let message = format!("header of {n} bytes at byte 0, expected at most {MAX_HEADER_BYTES}");
        return Err(Fault { message, hint });
    }
    let header = usize::try_from(n).ok().and_then(|n| rest.split_at_checked(n));
    let Some((header, data)) = header else {
        return Err(Fault::new(format!("header of {n} bytes at byte 8, but the file has {} bytes", file.len())));
    };
    let text = std::str::from_utf8(header)
        .map_err(|e| Fault::new(format!("header at byte {}: found no UTF-8", 8 + e.valid_up_to())))?;
    let json: Value = serde_json::from_str(text).map_err(|e| Fault::new(format!("header at byte 8: {e}")))?;
    if let Some(key) = repeated_key(text) {
        return Err(Fault::of(&key, "the header names it twice"));
    }
    let Value::Object(entries) = json else {
        return Err(Fault::new("header at byte 8: found no object, expected the table of tensors"));
    };
    let base = file.len() - data.len();
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in &entries {
        if name != "__metadata__" {
            tensors.push(tensor(name, entry, base, data.len())?);
        }
    }
    tensors.sort_by_key(|t| (t.offset, t.bytes));
    let mut end = base;
    for t in &tensors {
        if t.offset < end {
            let what = format!("begins at byte {}, inside of the tensor before it, which ends at byte {end}", t.offset);
            return Err(Fault::of(&t.name, what));
        }
        if t.offset > end {
            return Err(Fault::of(&t.name, format!("begins at byte {}, expected {end}: bytes of no tensor", t.offset)));
        }
        end += t.bytes;
    }
    if end != file.len() {
        return Err(Fault::new(format!("the tensors end at byte {end}, but the file has {} bytes", file.len())));
    }
    Ok(tensors)
}

/// An entry of the table; data begin at byte `base` of the file and are `len` bytes.
fn tensor(name: &str, entry: &Value, base: usize, len: usize) -> Scanned<Stored> {
    let bad = |what: String| Fault::of(name, what);
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(bad(format!("a name of {} bytes, expected 1 to {MAX_NAME_BYTES}", name.len())));
    }
    let entry = entry.as_object().ok_or_else(|| bad("found no object in the header".into()))?;
    let dtype = entry.get("dtype").and_then(Value::as_str).ok_or_else(|| bad("`dtype` is no text".into()))?;
    let Some(dtype) = Dtype::ALL.iter().copied().find(|d| d.name() == dtype) else {
        let message = format!("tensor `{}`: unknown dtype `{}`", printable(name), printable(dtype));
        return Err(Fault { message, hint: "save the checkpoint as BF16" });
    };
    let integers = |key: &str| -> Scanned<Vec<u64>> {
        let list = entry.get(key).and_then(Value::as_array).ok_or_else(|| bad(format!("`{key}` is no list")))?;
        let number = |v: &Value| v.as_u64().ok_or_else(|| bad(format!("`{key}` holds {v}, expected sizes")));
        list.iter().take(MAX_DIMS + 1).map(number).collect()
    };
    let (shape, offsets) = (integers("shape")?, integers("data_offsets")?);
    if shape.len() > MAX_DIMS {
        return Err(bad(format!("more than {MAX_DIMS} dimensions")));
    }
    let [start, end] = offsets[..] else {
        return Err(bad(format!("`data_offsets` holds {} numbers, expected 2", offsets.len())));
    };
    if start > end || end > len as u64 {
        return Err(bad(format!("bytes {start} to {end} of the data, which are {len} bytes")));
    }
    let bits = shape.iter().try_fold(dtype.bits(), |n, &dim| n.checked_mul(dim));
    if bits.is_none_or(|bits| !bits.is_multiple_of(8) || bits / 8 != end - start) {
        return Err(bad(format!("shape {shape:?} of {dtype} does not fit its {} bytes at byte {start}", end - start)));
    }
    let size = |n: u64| usize::try_from(n).map_err(|_| bad("is too large for this machine".into()));
    Ok(Stored { name: name.to_owned(), dtype, shape, offset: base + size(start)?, bytes: size(end - start)? })
}

/// A key that comes twice in the same object of valid JSON; the parser keeps the last one and says nothing.
fn repeated_key(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let mut open: Vec<HashSet<String>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => open.push(HashSet::new()),
            b'}' => drop(open.pop()),
            b'"' => {
                let start = at;
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                let after = json.get(at + 1..)?.trim_start();
                if after.starts_with(':') {
                    let key: Value = serde_json::from_str(json.get(start..=at)?).ok()?;
                    let key = key.as_str()?.to_owned();
                    if let Some(keys) = open.last_mut()
                        && let Some(key) = keys.replace(key)
                    {
                        return Some(key);
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of tests")]
mod tests;
