//! The scan of one file: header, metadata and tensor table walked once.
//!
//! Every count and length is compared with the bytes left before it is used, all arithmetic on file
//! numbers is checked, nothing recurses, and no allocation is larger than a small multiple of the
//! bytes that were really read. The data of tensors are not touched. Source of the format: the GGUF
//! specification of ggml (`docs/gguf.md`), versions 2 and 3.
#![forbid(unsafe_code)]

mod cursor;
mod error;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use super::keys::{KeySpan, ValueType};
use crate::quant::BlockType;

pub(super) use cursor::Cursor;
use error::Fault;
pub use error::{Place, ScanError, ScanErrorKind};

/// Where everything lies in a file that has passed the gate. All spans are in range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The format version, 2 or 3.
    pub version: u32,
    /// The alignment of tensor data in bytes, a power of two up to 2^20.
    pub alignment: u64,
    /// The metadata keys in file order; their names are unique.
    pub keys: Vec<KeySpan>,
    /// The tensors in the order of the table; their names are unique and their data disjoint.
    pub tensors: Vec<TensorSpan>,
    /// What is odd but harmless, one line each.
    pub warnings: Vec<String>,
}

/// Where a tensor lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpan {
    /// The name: UTF-8, 1 to 255 bytes, no control characters.
    pub name: Range<usize>,
    /// The type of its blocks.
    pub ty: BlockType,
    /// The dimensions, innermost first as the file has them; 1 to 4 of them.
    pub ne: Vec<u64>,
    /// The data; empty when a dimension is 0.
    pub data: Range<usize>,
    /// The byte of the table where the offset stands, for messages.
    pub record: usize,
}

/// Keys of a file: more than a thousand times those of a real model.
const MAX_KEYS: u64 = 1 << 16;
/// Tensors of a file: three times those of the largest mixture of experts stored expert by expert.
const MAX_TENSORS: u64 = 1 << 18;
/// Bytes of the smallest key record: name length, a name of one byte, type, value of one byte.
const LEAST_KEY_BYTES: u64 = 8 + 1 + 4 + 1;
/// Bytes of the smallest tensor record: name length, a name of one byte, dimension count, one
/// dimension, type, offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;
const MAX_KEY_NAME: u64 = 65_535;
const MAX_TENSOR_NAME: u64 = 255;
const MAX_ALIGNMENT: u64 = 1 << 20;
/// The alignment of a file that declares none.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;
/// The key that declares another one.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// Warnings of one kind; a file that has more of them says nothing new.
const MAX_WARNINGS: usize = 16;

/// Checks a GGUF file and says where everything lies in it.
///
/// Takes time and memory in proportion to the metadata and the tensor table; never panics.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn scan(bytes: &[u8]) -> Result<Layout, ScanError> {
    let mut cursor = Cursor::new(bytes);
    let mut warnings = Vec::new();
    let header = header(bytes, &mut cursor).map_err(|fault| fault.of(Place::Header))?;
    let keys = keys(bytes, &mut cursor, header.n_key, &mut warnings)?;
    let alignment = alignment(bytes, &keys, &mut warnings)?;
    let tensors = tensors(bytes, &mut cursor, header.n_tensor, alignment)?;
    check_disjoint(bytes, &tensors)?;

    // Without tensors there is no data section, nor padding before it.
    let end = tensors.iter().map(|t| t.data.end).max().unwrap_or(0).max(cursor.at());
    let trailing = (bytes.len() - end) as u64;
    if trailing >= alignment {
        warnings.push(format!("{trailing} bytes behind the last tensor are not used"));
    }
    Ok(Layout { version: header.version, alignment, keys, tensors, warnings })
}

struct Header {
    version: u32,
    n_tensor: u64,
    n_key: u64,
}

fn header(bytes: &[u8], cursor: &mut Cursor<'_>) -> Result<Header, Fault> {
    use ScanErrorKind as Kind;
    if bytes.is_empty() {
        return Err(Fault { at: 0, kind: Kind::Empty });
    }
    if !bytes.starts_with(b"GGUF") {
        return Err(Fault { at: 0, kind: error::lookalike(bytes) });
    }
    cursor.take(4)?;
    let version = cursor.u32()?;
    match version {
        2 | 3 => {}
        v if (1..=3).contains(&v.swap_bytes()) => return Err(Fault { at: 4, kind: Kind::BigEndian }),
        found => return Err(Fault { at: 4, kind: Kind::Version { found } }),
    }
    let (n_tensor, n_key) = (cursor.u64()?, cursor.u64()?);
    let left = cursor.left() as u64;
    let count = |at, found, most, of| match found <= most {
        true => Ok(()),
        false => Err(Fault { at, kind: Kind::Count { found, most, of } }),
    };
    count(8, n_tensor, (left / LEAST_TENSOR_BYTES).min(MAX_TENSORS), "tensors")?;
    count(16, n_key, (left / LEAST_KEY_BYTES).min(MAX_KEYS), "keys")?;
    Ok(Header { version, n_tensor, n_key })
}

fn keys(
    bytes: &[u8],
    cursor: &mut Cursor<'_>,
    n_key: u64,
    warnings: &mut Vec<String>,
) -> Result<Vec<KeySpan>, ScanError> {
    let mut spans = Vec::new();
    let mut seen = HashMap::new();
    for i in 0..n_key {
        let (span, text) = name(cursor, MAX_KEY_NAME).map_err(|fault| fault.of(Place::KeyNumber(i)))?;
        let place = || Place::Key(text.to_owned());
        unique(&mut seen, text, span.start).map_err(|fault| fault.of(place()))?;
        let (ty, value) = typed_value(cursor).map_err(|fault| fault.of(place()))?;
        if ty == ValueType::Bool && bytes[value.start] > 1 && warnings.len() < MAX_WARNINGS {
            warnings.push(format!("{} is {}, a bool must be 0 or 1; taken as true", place(), bytes[value.start]));
        }
        spans.push(KeySpan { name: span, ty, value });
    }
    Ok(spans)
}

fn typed_value(cursor: &mut Cursor<'_>) -> Result<(ValueType, Range<usize>), Fault> {
    let at = cursor.at();
    let id = cursor.u32()?;
    let ty = ValueType::from_id(id).ok_or(Fault { at, kind: ScanErrorKind::ValueType { id } })?;
    Ok((ty, cursor.value(ty)?))
}

/// A name of 1 to `most` bytes of UTF-8, and its span.
fn name<'a>(cursor: &mut Cursor<'a>, most: u64) -> Result<(Range<usize>, &'a str), Fault> {
    let at = cursor.at();
    let text = cursor.string()?;
    let len = text.len() as u64;
    if len == 0 || len > most {
        return Err(Fault { at, kind: ScanErrorKind::NameLength { len, most } });
    }
    let end = cursor.at();
    let span = end - text.len()..end;
    let text = std::str::from_utf8(text).map_err(|_| Fault { at: span.start, kind: ScanErrorKind::NameUtf8 })?;
    Ok((span, text))
}

fn unique<'a>(seen: &mut HashMap<&'a str, usize>, name: &'a str, at: usize) -> Result<(), Fault> {
    match seen.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(at);
            Ok(())
        }
        Entry::Occupied(entry) => Err(Fault { at, kind: ScanErrorKind::Duplicate { first: *entry.get() as u64 } }),
    }
}

/// The alignment of the data section. A u64 is tolerated; other types are refused, as ggml does.
fn alignment(bytes: &[u8], keys: &[KeySpan], warnings: &mut Vec<String>) -> Result<u64, ScanError> {
    let Some(span) = keys.iter().find(|k| &bytes[k.name.clone()] == ALIGNMENT_KEY.as_bytes()) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let refuse = |kind| Err(Fault { at: span.value.start, kind }.of(Place::Key(ALIGNMENT_KEY.to_owned())));
    let found = match (span.ty, &bytes[span.value.clone()]) {
        (ValueType::U32, &[a, b, c, d]) => u64::from(u32::from_le_bytes([a, b, c, d])),
        (ValueType::U64, &[a, b, c, d, e, f, g, h]) => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        (found, _) => return refuse(ScanErrorKind::AlignmentType { found }),
    };
    if !found.is_power_of_two() || found > MAX_ALIGNMENT {
        return refuse(ScanErrorKind::Alignment { found });
    }
    if !found.is_multiple_of(8) {
        warnings.push(format!("key `{ALIGNMENT_KEY}` is {found}, the format asks for a multiple of 8"));
    }
    Ok(found)
}

/// A record of the tensor table as it stands there: the data section is not known before its end.
struct Record {
    name: Range<usize>,
    ty: BlockType,
    ne: Vec<u64>,
    bytes: u64,
    offset: u64,
    offset_at: usize,
}

fn tensors(bytes: &[u8], cursor: &mut Cursor<'_>, n_tensor: u64, alignment: u64) -> Result<Vec<TensorSpan>, ScanError> {
    let mut records = Vec::new();
    let mut seen = HashMap::new();
    for i in 0..n_tensor {
        let (span, text) = name(cursor, MAX_TENSOR_NAME).map_err(|fault| fault.of(Place::TensorNumber(i)))?;
        let place = || Place::Tensor(text.to_owned());
        if text.chars().any(char::is_control) {
            return Err(Fault { at: span.start, kind: ScanErrorKind::NameControl }.of(place()));
        }
        unique(&mut seen, text, span.start).map_err(|fault| fault.of(place()))?;
        records.push(record(cursor, span, alignment).map_err(|fault| fault.of(place()))?);
    }
    // At most the length of a slice plus 2^20: no overflow.
    let data_start = (cursor.at() as u64).next_multiple_of(alignment);
    let place = |r: &Record, fault: Fault| fault.of(Place::Tensor(text(bytes, &r.name)));
    records.into_iter().map(|r| locate(&r, data_start, bytes.len()).map_err(|fault| place(&r, fault))).collect()
}

fn record(cursor: &mut Cursor<'_>, name: Range<usize>, alignment: u64) -> Result<Record, Fault> {
    use ScanErrorKind as Kind;
    let at = cursor.at();
    let n_dim = cursor.u32()?;
    if !(1..=4).contains(&n_dim) {
        return Err(Fault { at, kind: Kind::Dimensions { found: n_dim } });
    }
    let ne_at = cursor.at();
    let ne = (0..n_dim).map(|_| cursor.u64()).collect::<Result<Vec<u64>, Fault>>()?;
    let at = cursor.at();
    let ty = BlockType::from_id(cursor.u32()?).map_err(|e| Fault { at, kind: Kind::Type(e) })?;
    if !ne[0].is_multiple_of(ty.block_len() as u64) {
        return Err(Fault { at: ne_at, kind: Kind::Row { row: ne[0], ty } });
    }
    // Elements are limited too: 2^63 elements of a format of one bit are fewer bytes.
    let below = |n: &u64| *n < 1 << 63;
    let product = |first: u64| ne[1..].iter().try_fold(first, |n, &dim| n.checked_mul(dim)).filter(below);
    let size = match ne.iter().all(below) {
        true => product(ne[0]).and(ty.row_bytes(ne[0])).and_then(product),
        false => None,
    };
    let bytes = size.ok_or_else(|| Fault { at: ne_at, kind: Kind::Size { shape: ne.clone() } })?;
    let offset_at = cursor.at();
    let offset = cursor.u64()?;
    if !offset.is_multiple_of(alignment) {
        return Err(Fault { at: offset_at, kind: Kind::OffsetAlignment { found: offset, alignment } });
    }
    Ok(Record { name, ty, ne, bytes, offset, offset_at })
}

fn locate(r: &Record, data_start: u64, len: usize) -> Result<TensorSpan, Fault> {
    let outside = |end| Fault { at: r.offset_at, kind: ScanErrorKind::OutOfFile { end, len: len as u64 } };
    let start = data_start.checked_add(r.offset).ok_or_else(|| outside(u64::MAX))?;
    let end = start.checked_add(r.bytes).ok_or_else(|| outside(u64::MAX))?;
    let data = match (usize::try_from(start), usize::try_from(end)) {
        // Padding before data that do not exist may be missing.
        (Ok(start), _) if r.bytes == 0 => start.min(len)..start.min(len),
        (Ok(start), Ok(end)) if end <= len => start..end,
        _ => return Err(outside(end)),
    };
    Ok(TensorSpan { name: r.name.clone(), ty: r.ty, ne: r.ne.clone(), data, record: r.offset_at })
}

fn check_disjoint(bytes: &[u8], tensors: &[TensorSpan]) -> Result<(), ScanError> {
    let mut order: Vec<&TensorSpan> = tensors.iter().filter(|t| !t.data.is_empty()).collect();
    order.sort_unstable_by_key(|t| t.data.start);
    match order.windows(2).find(|w| w[1].data.start < w[0].data.end) {
        None => Ok(()),
        Some(w) => {
            let kind = ScanErrorKind::Overlap {
                start: w[1].data.start as u64,
                other: text(bytes, &w[0].name),
                end: w[0].data.end as u64,
            };
            Err(Fault { at: w[1].record, kind }.of(Place::Tensor(text(bytes, &w[1].name))))
        }
    }
}

fn text(bytes: &[u8], span: &Range<usize>) -> String {
    String::from_utf8_lossy(&bytes[span.clone()]).into_owned()
}
