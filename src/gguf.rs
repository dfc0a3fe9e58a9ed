//! The gate: what a GGUF file holds, checked before anything else sees it.
//!
//! Guarantees: after [`Gguf::open`] every offset, length, name and type of the model's metadata and
//! tensor table is in range, unique and typed, so nobody downstream checks a file again. The gate
//! knows the container and nothing of what a tensor or a key means. It never copies weights: they
//! stay in the memory map.
//!
//! Start in [`scan()`], the one function that reads untrusted bytes; `shards` ties the files of a model
//! together, `view` reads typed metadata, `write` makes files.
#![deny(clippy::cast_possible_truncation)]

#[cfg(target_endian = "big")]
compile_error!("GGUF tensor data is little-endian and is used in place; big-endian machines are not supported");

mod atomic;
mod keys;
mod map;
mod scan;
mod shards;
mod view;
mod write;

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::quant;

pub(crate) use map::Map;
pub(crate) use shards::Name as ShardName;

pub use atomic::AtomicFile;
pub use keys::{KeySpan, ValueType};
pub use scan::{Layout, Place, ScanError, ScanErrorKind, TensorSpan, scan};
pub use view::{Array, Metadata, Value};
pub use write::{GgufBody, GgufWriter, KeyValue};

/// A whole model: all its shards, opened, mapped, and passed by the gate.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    /// Never empty; the first one carries the model's metadata.
    shards: Vec<shards::Shard>,
    tensors: Vec<Tensor>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<usize>,
    warnings: Vec<String>,
}

/// A tensor of the file's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, 1 to 255 bytes without control characters, unique in the model.
    pub name: String,
    /// The format of its rows.
    pub ty: quant::BlockType,
    /// Outermost first (`[out, in]` for a weight): the reverse of the file's `ne`. 1 to 4 dimensions.
    pub shape: Vec<u64>,
    /// Index of the shard that holds it.
    pub shard: usize,
    /// First byte of its data in the file of that shard. A multiple of the shard's alignment only.
    pub offset: u64,
    /// Bytes of its data.
    pub bytes: u64,
}

impl Gguf {
    /// Opens a model, given its file or any shard of it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when a file cannot be read, [`crate::ErrorKind::Model`] when it is not a
    /// regular file, is malformed, or does not fit its sibling shards. The message names file, key or
    /// tensor, and byte offset.
    pub fn open(path: &Path) -> Result<Gguf> {
        shards::open(path)
    }

    /// The model in bytes that are part of the program, as `include_bytes!` gives them; `name` takes the place of a
    /// path. They pass the same gate as a file. For kernels that read whole words they are best aligned to 64 bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Model`] when they are malformed, or one shard of several.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Gguf> {
        shards::of_program(name, bytes)
    }

    /// Is it part of the program, by [`Gguf::from_static`]? No file has its name then.
    pub fn is_static(&self) -> bool {
        self.shards[0].map.is_program()
    }

    /// The metadata of the first shard, which is the model's.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::new(&self.shards[0])
    }

    /// The tensors of all shards, in the order of shards and of their tables.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        let at = self.by_name.binary_search_by(|&i| self.tensors[i].name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[at]])
    }

    /// The data of a tensor, in the memory map. The first byte is aligned as the file is, which may be
    /// to one byte.
    ///
    /// # Panics
    /// When `tensor` is not one of this model.
    pub fn bytes(&self, tensor: &Tensor) -> &[u8] {
        let range = usize::try_from(tensor.offset).ok().zip(usize::try_from(tensor.bytes).ok());
        self.shards
            .get(tensor.shard)
            .zip(range)
            .and_then(|(shard, (offset, bytes))| shard.map.get(offset..)?.get(..bytes))
            .expect("a tensor of this model")
    }

    /// Brings bytes of a shard's file into memory and maps them; returns when that is done. What lies outside of the
    /// file is left out.
    pub fn populate(&self, shard: usize, range: Range<u64>) {
        let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        if let (Some(shard), Some((start, end))) = (self.shards.get(shard), range) {
            shard.map.populate(start..end);
        }
    }

    /// Gives memory back that holds parts of the files; what is needed again is read again.
    pub(crate) fn release(&self) {
        self.shards.iter().for_each(|s| s.map.release());
    }

    /// The path that was given to [`Gguf::open`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first shard's whole mapped file: what the offsets of [`Array::strings_with_offsets`] index.
    pub fn metadata_bytes(&self) -> &[u8] {
        &self.shards[0].map
    }

    /// The files of the model, in the order of shards.
    pub fn shard_paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.shards.iter().map(|s| s.path.as_path())
    }

    /// The sizes of the files in bytes, in the order of shards.
    pub fn file_sizes(&self) -> impl ExactSizeIterator<Item = u64> {
        self.shards.iter().map(|s| s.map.len() as u64)
    }

    /// The whole mapped file of a shard.
    ///
    /// # Panics
    /// When there are not so many shards.
    pub fn file_bytes(&self, shard: usize) -> &[u8] {
        &self.shards[shard].map
    }

    /// The format version of the first shard: 2 or 3.
    pub fn version(&self) -> u32 {
        self.shards[0].version
    }

    /// The alignment of tensor data in the first shard, in bytes; a power of two up to 2^20.
    pub fn alignment(&self) -> u64 {
        self.shards[0].alignment
    }

    /// What is odd about the files but harmless, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Checks that no file of the model has changed since it was opened. A changed file can no longer
    /// be trusted: its bytes have not passed the gate.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] naming the file that changed.
    pub fn check_unchanged(&self) -> Result<()> {
        self.shards.iter().try_for_each(|s| s.map.check_unchanged(&s.path))
    }
}
