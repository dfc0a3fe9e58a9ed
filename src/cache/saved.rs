//! The file of a saved session: its form, and the gate that a file passes before anything of it is used.
//!
//! `docs/saved-sessions.md` has the layout. All numbers are little-endian; rows lie as the CPU keeps them, at offsets
//! that are whole pages, so that they can be mapped and computed on where they lie. Nothing here opens a file.

use std::io::{self, Write};
use std::ops::Range;

use crate::error::{Error, ErrorKind, Result, printable};
use crate::plan::CacheType;

/// What a file begins with.
const MAGIC: &[u8; 8] = b"TEALSESS";
/// The version of the layout that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Bytes before the table of sections.
const HEAD_BYTES: usize = 104;
/// Bytes of an entry of the table.
const ENTRY_BYTES: usize = 32;
/// Where a section of rows begins is a multiple of this; no system has smaller pages.
const PAGE: u64 = 4096;
/// Sections of a file at most: two for each cache of the deepest models, and three more.
const MAX_SECTIONS: u32 = 1 << 14;
/// Tokens of a file at most, beyond any context in use.
const MAX_TOKENS: u64 = 1 << 28;
/// Bytes of the text of a file at most: it is parsed as a whole.
const MAX_TEXT: u64 = 64 << 20;

const TEXT: u32 = 1;
const TOKENS: u32 = 2;
const SLOTS: u32 = 3;
const KEYS: u32 = 4;
const VALUES: u32 = 5;

/// What must be the same so that the rows mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Identity of the model.
    pub model: u64,
    /// Identity of the plan: steps, rotation tables, widths, windows.
    pub plan: u64,
    /// Storage of keys and values.
    pub types: (CacheType, CacheType),
    /// Name of what computed the rows, at most 32 bytes.
    pub kernels: String,
}

/// Rows of one cache that are to be written.
pub struct RowsOut<'a> {
    /// The oldest position that is held.
    pub first: u32,
    /// Slots of the cache.
    pub n_slot: u32,
    /// Slots that are stored, from the first on.
    pub n_row: u32,
    /// Bytes of the keys.
    pub k: &'a [u8],
    /// Bytes of the values.
    pub v: &'a [u8],
}

/// Rows of one cache in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsIn {
    /// The oldest position that is held.
    pub first: u32,
    /// Slots of the cache.
    pub n_slot: u32,
    /// Slots that are stored, from the first on.
    pub n_row: u32,
    /// Where the keys lie in the file.
    pub k: Range<usize>,
    /// Where the values lie in the file.
    pub v: Range<usize>,
}

/// A file that has passed the gate: its lengths fit each other and its checksums are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// What the rows depend on.
    pub key: Key,
    /// Positions that the session could hold.
    pub n_ctx: u32,
    /// A JSON object.
    pub text: String,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// By cache of the plan; empty where the rows are left out.
    pub caches: Vec<RowsIn>,
}

/// Writes a session.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut impl Write,
    key: &Key,
    n_ctx: u32,
    text: &str,
    tokens: &[u32],
    caches: &[RowsOut<'_>],
) -> io::Result<u64> {
    let tokens: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    let slots: Vec<u8> = caches.iter().flat_map(|c| [c.first, c.n_slot, c.n_row]).flat_map(u32::to_le_bytes).collect();
    let mut parts: Vec<(u32, &[u8])> = vec![(TEXT, text.as_bytes()), (TOKENS, &tokens), (SLOTS, &slots)];
    parts.extend(caches.iter().flat_map(|c| [(KEYS, c.k), (VALUES, c.v)]));

    let mut table = Vec::new();
    let mut at = (HEAD_BYTES + parts.len() * ENTRY_BYTES) as u64;
    let mut starts = Vec::new();
    for (kind, bytes) in &parts {
        at = start_of(*kind, at);
        starts.push(at);
        table.extend(kind.to_le_bytes());
        table.extend(0u32.to_le_bytes());
        for number in [at, bytes.len() as u64, checksum(bytes)] {
            table.extend(number.to_le_bytes());
        }
        at += bytes.len() as u64;
    }
    let mut head = Vec::with_capacity(HEAD_BYTES + table.len());
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend((parts.len() as u32).to_le_bytes());
    for number in [at, key.model, key.plan] {
        head.extend(number.to_le_bytes());
    }
    for number in [key.types.0.block_type().id(), key.types.1.block_type().id(), n_ctx, 0] {
        head.extend(number.to_le_bytes());
    }
    let mut name = [0u8; 32];
    let kernels = &key.kernels.as_bytes()[..key.kernels.len().min(name.len())];
    name[..kernels.len()].copy_from_slice(kernels);
    head.extend(name);
    head.extend(0u64.to_le_bytes());
    debug_assert_eq!(head.len() + 8, HEAD_BYTES);
    let sum = checksum(&[&head[..], &table].concat());
    head.extend(sum.to_le_bytes());
    head.extend(table);
    out.write_all(&head)?;
    let mut done = head.len() as u64;
    for ((_, bytes), start) in parts.iter().zip(starts) {
        out.write_all(&vec![0; (start - done) as usize])?;
        out.write_all(bytes)?;
        done = start + bytes.len() as u64;
    }
    Ok(done)
}

/// Bytes that [`write`] makes of parts of these lengths, padding included.
pub fn file_bytes(text: usize, n_token: usize, rows: impl Iterator<Item = (usize, usize)>) -> u64 {
    let rows: Vec<_> = rows.collect();
    let parts = 3 + 2 * rows.len();
    let plain = HEAD_BYTES + parts * ENTRY_BYTES + text + 4 * n_token + 12 * rows.len();
    rows.iter().flat_map(|(k, v)| [k, v]).fold(plain as u64 + 8, |at, n| start_of(KEYS, at) + *n as u64)
}

/// Where a section begins that comes behind `at` bytes.
fn start_of(kind: u32, at: u64) -> u64 {
    at.next_multiple_of(if matches!(kind, KEYS | VALUES) { PAGE } else { 4 })
}

/// Checks a file, every byte of it.
///
/// # Errors
/// [`ErrorKind::Model`]: not such a file, of another version, cut off, or damaged.
pub fn read(file: &[u8]) -> Result<Contents> {
    let Some(head) = file.get(..HEAD_BYTES).filter(|h| h.starts_with(MAGIC)) else {
        let text = if file.starts_with(MAGIC) { "the file is cut off" } else { "not a saved session of Tealight" };
        return Err(refused(format!("{text}: {} bytes", file.len())));
    };
    let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes of the head"));
    let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes of the head"));
    match u32_at(8) {
        VERSION => {}
        newer if newer > VERSION => {
            return Err(Error::new(
                ErrorKind::Model,
                format!("a saved session of version {newer}; this Tealight reads version {VERSION}"),
            )
            .with_hint("use a newer Tealight"));
        }
        other => return Err(refused(format!("a saved session of the unknown version {other}"))),
    }
    let n_section = u32_at(12);
    if !(3..=MAX_SECTIONS).contains(&n_section) || n_section.is_multiple_of(2) {
        return Err(refused(format!("{n_section} sections: expected an odd number from 3 to {MAX_SECTIONS}")));
    }
    let table_end = HEAD_BYTES + n_section as usize * ENTRY_BYTES;
    let Some(table) = file.get(HEAD_BYTES..table_end) else {
        return Err(refused(format!("the file is cut off: {} bytes, its head alone has {table_end}", file.len())));
    };
    if checksum(&[&head[..HEAD_BYTES - 8], table].concat()) != u64_at(HEAD_BYTES - 8) {
        return Err(refused("the head is damaged: its checksum is wrong".into()));
    }
    if u64_at(16) != file.len() as u64 {
        return Err(refused(format!("the file has {} bytes, its head says {}", file.len(), u64_at(16))));
    }
    let sections = sections(file, table, table_end)?;
    let expected = (0..n_section).map(|i| match i {
        0 => TEXT,
        1 => TOKENS,
        2 => SLOTS,
        i if i % 2 == 1 => KEYS,
        _ => VALUES,
    });
    if !sections.iter().map(|s| s.0).eq(expected) {
        return Err(refused("its sections are not in their order".into()));
    }
    let range = |i: usize| sections[i].1.clone();
    let too_long = |what: &str, n: usize, most: u64| refused(format!("{n} bytes of {what}: at most {most}"));
    if range(0).len() as u64 > MAX_TEXT {
        return Err(too_long("text", range(0).len(), MAX_TEXT));
    }
    let text = std::str::from_utf8(&file[range(0)]).map_err(|e| refused(format!("its text is not UTF-8: {e}")))?;
    if !range(1).len().is_multiple_of(4) || range(1).len() as u64 / 4 > MAX_TOKENS {
        return Err(too_long("tokens", range(1).len(), 4 * MAX_TOKENS));
    }
    let words = |range: Range<usize>| {
        file[range].chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<u32>>()
    };
    let (tokens, slots) = (words(range(1)), words(range(2)));
    let n_cache = (n_section as usize - 3) / 2;
    if range(2).len() != 12 * n_cache {
        return Err(refused(format!("{} bytes of slots for {n_cache} caches", range(2).len())));
    }
    let cache = |(i, slots): (usize, &[u32])| {
        let (k, v) = (range(3 + 2 * i), range(4 + 2 * i));
        RowsIn { first: slots[0], n_slot: slots[1], n_row: slots[2], k, v }
    };
    let cache_type = |at: usize| {
        let known = [CacheType::F32, CacheType::F16, CacheType::Q8_0];
        let found = known.into_iter().find(|t| t.block_type().id() == u32_at(at));
        found.ok_or_else(|| refused(format!("rows of the unknown type {}", u32_at(at))))
    };
    let name = head[56..88].split(|b| *b == 0).next().unwrap_or_default();
    let key = Key {
        model: u64_at(24),
        plan: u64_at(32),
        types: (cache_type(40)?, cache_type(44)?),
        kernels: printable(&String::from_utf8_lossy(name)),
    };
    let caches = slots.chunks_exact(3).enumerate().map(cache).collect();
    Ok(Contents { key, n_ctx: u32_at(48), text: text.to_owned(), tokens, caches })
}

/// The kind and place of each section: inside of the file, behind each other, unharmed.
fn sections(file: &[u8], table: &[u8], table_end: usize) -> Result<Vec<(u32, Range<usize>)>> {
    let mut found = Vec::with_capacity(table.len() / ENTRY_BYTES);
    let mut before = table_end;
    for (i, entry) in table.chunks_exact(ENTRY_BYTES).enumerate() {
        let kind = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("eight bytes of the entry"));
        let (start, len, sum) = (number(8), number(16), number(24));
        let range = usize::try_from(start).ok().zip(start.checked_add(len).and_then(|end| usize::try_from(end).ok()));
        let Some((start, end)) = range.filter(|(start, end)| *start >= before && *end <= file.len()) else {
            return Err(refused(format!("section {i} of {len} bytes at byte {start} does not fit into the file")));
        };
        if start as u64 != start_of(kind, start as u64) {
            return Err(refused(format!("section {i} begins at byte {start}, which is not aligned")));
        }
        if checksum(&file[start..end]) != sum {
            return Err(refused(format!("section {i} at byte {start} is damaged: its checksum is wrong")));
        }
        before = end;
        found.push((kind, start..end));
    }
    if before != file.len() {
        return Err(refused(format!("{} bytes behind the last section", file.len() - before)));
    }
    Ok(found)
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Model, message).with_hint("the file is of no use: delete it, the text is computed again")
}

/// A sum of 64 bits over bytes that tells any damage of the usual kinds; no defence against a forger. Four lanes of
/// 64-bit words, each step a bijection of the lane, so that a change within one word always shows.
pub fn checksum(bytes: &[u8]) -> u64 {
    const ODD: [u64; 4] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0xd6e8_feb8_6659_fd93];
    let mut lanes = ODD;
    let mut step = |stripe: &[u8]| {
        for ((lane, word), odd) in lanes.iter_mut().zip(stripe.chunks_exact(8)).zip(ODD) {
            let word = u64::from_le_bytes(word.try_into().expect("a chunk of eight"));
            *lane = (lane.rotate_left(29) ^ word).wrapping_mul(odd);
        }
    };
    let stripes = bytes.chunks_exact(32);
    let rest = stripes.remainder();
    stripes.for_each(&mut step);
    let mut last = [0; 32];
    last[..rest.len()].copy_from_slice(rest);
    step(&last);
    let mut sum = bytes.len() as u64;
    for lane in lanes {
        sum = (sum ^ lane).wrapping_mul(ODD[0]);
        sum ^= sum >> 31;
    }
    sum
}

#[cfg(test)]
mod tests;
