//! A Hugging Face folder becomes a GGUF model: metadata, and tensors that are made when they are read.
//!
//! [`open`] reads the folder's JSON files (`hf.rs`), passes every safetensors file through a gate
//! (`safetensors.rs`), finds the family (`families.rs`, data in the words of `names.rs`), and gives a [`Source`]: no
//! weight is touched before a row of it is asked for (`producer.rs`). Every tensor of the folder is used or named as
//! left out; what GGUF cannot say is an error. The room writes no file and starts no thread. Start in `names.rs`.
#![deny(clippy::cast_possible_truncation)]
#![forbid(unsafe_code)]

mod factors;
mod facts;
mod families;
mod hf;
pub mod imatrix;
mod lora;
mod metadata;
mod names;
mod normal;
mod producer;
pub mod quantize;
pub mod recipe;
mod safetensors;
mod source;
mod tensors;
mod tokenizer;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::arch;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::{Gguf, KeyValue};

pub use families::supported;
pub use lora::open_adapter;
pub use source::{LazyTensor, OutType, Source};

/// Most tokens of a vocabulary; the largest known has 262208.
const MAX_VOCAB: u64 = 1 << 22;

/// How a folder is converted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConvertOptions {
    /// Types of the tensors.
    pub out: OutType,
    /// `general.name`; otherwise the folder's own name.
    pub name: Option<String>,
    /// Keys that are added, or replace what the folder says. With `tokenizer.ggml.pre` among them the folder's
    /// pre-tokenizer need not be known.
    pub overrides: Vec<(String, KeyValue)>,
}

impl ConvertOptions {
    /// The defaults: types as in the checkpoint.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the types of the tensors.
    #[must_use]
    pub fn out(mut self, out: OutType) -> Self {
        self.out = out;
        self
    }

    /// Sets `general.name`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds a key, or replaces what the folder says.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<KeyValue>) -> Self {
        self.overrides.push((key.into(), value.into()));
        self
    }
}

/// The model of a Hugging Face folder, of a safetensors file in one, or of a GGUF file.
///
/// # Errors
/// [`ErrorKind::Io`] when a file cannot be read; [`ErrorKind::Model`] for a folder that is incomplete, damaged, of an
/// architecture or a tokenizer that is not known, or with tensors that nothing takes. The message names file, key or
/// tensor.
pub fn open(path: &Path, options: &ConvertOptions) -> Result<Source> {
    let mut source = match fs::metadata(path) {
        Err(e) => return Err(Error::io("cannot find", path, e).with_hint("check the path of the model")),
        Ok(meta) if meta.is_dir() => folder(path, None, options)?,
        Ok(_) if is_gguf(path) => Source::of_gguf(&Arc::new(Gguf::open(path)?))?,
        Ok(_) if path.extension().is_some_and(|e| e == "safetensors") => {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            folder(parent.unwrap_or(Path::new(".")), Some(path), options)?
        }
        Ok(_) => {
            let message = "found neither a folder nor a safetensors or GGUF file";
            let hint = "name a Hugging Face folder, or a `.gguf` file";
            return Err(Error::new(ErrorKind::Model, message).in_file(path).with_hint(hint));
        }
    };
    for (key, value) in &options.overrides {
        source.set(key, value.clone());
    }
    Ok(source)
}

fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
}

fn folder(path: &Path, file: Option<&Path>, options: &ConvertOptions) -> Result<Source> {
    let mut notes = Vec::new();
    let mut folder = hf::Folder::open(path)?;
    let family = families::of(&folder)?;
    folder.belongs_to(family);
    if !arch::supported().contains(&family.arch) {
        notes.push(format!("files of `{}` do not run here yet; this one is for other programs", family.arch));
    }
    let facts = facts::Facts::read(family, &folder)?;
    let checkpoint = safetensors::Checkpoint::open(path, file)?;
    let mut lazy = tensors::resolve(family, &facts, &folder, &checkpoint, &mut notes)?;
    let n_vocab = lazy.iter().find(|(name, _)| name == "token_embd.weight").map(|(_, t)| t.shape[0]);
    let Some(n_vocab) = n_vocab.filter(|n| *n <= MAX_VOCAB) else {
        let message = match n_vocab {
            Some(n) => format!("the embeddings have {n} rows, expected at most {MAX_VOCAB}"),
            None => "the checkpoint has no embeddings".to_owned(),
        };
        return Err(Error::new(ErrorKind::Model, message).in_file(path).with_hint("the download is incomplete"));
    };
    let mut keys = metadata::Keys::default();
    keys.set("general.architecture", family.arch);
    keys.set("general.type", "model");
    keys.set("general.name", options.name.clone().unwrap_or_else(|| name_of(path)));
    metadata::numbers(&facts, &mut lazy, &mut keys)?;
    let computed = metadata::write(family, &facts, &folder, n_vocab, &lazy, &mut keys, &mut notes)?;
    lazy.extend(computed);
    tokenizer::write(family, &folder, n_vocab, options, &mut keys, &mut notes)?;
    let tensors: Vec<LazyTensor> = lazy.into_iter().map(|(name, t)| LazyTensor::new(name, t, options.out)).collect();
    keys.set("general.file_type", source::file_type(&tensors));
    keys.set("general.quantization_version", 2u32);
    keys.set("general.size_label", source::size_label(&tensors, facts.n_expert));
    Ok(Source::of_checkpoint(keys.into_inner(), tensors, notes, checkpoint.files()))
}

/// The folder's own name, or its parent's where it says nothing.
fn name_of(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    let names: Vec<_> = path.iter().rev().map(|n| n.to_string_lossy().into_owned()).collect();
    // Caches of Hugging Face keep a version under the hash of its commit.
    let says_nothing = |n: &String| n == "hf" || n.len() == 40 && n.bytes().all(|b| b.is_ascii_hexdigit());
    let name = names.iter().find(|n| !says_nothing(n) && *n != "snapshots").cloned().unwrap_or_default();
    let name = name.rsplit_once("--").map_or(name.as_str(), |(_, model)| model);
    printable(name)
}
