//! The models on this machine: where programs keep GGUF files, and what people call them.
//!
//! Guarantees: nothing is copied, written or locked; only names, sizes and, on request, metadata are read; a folder
//! that cannot be read is a note and no error; what a folder or a manifest claims is bounded. The room does not know
//! whether a model runs.
//!
//! Start in [`Shelf::search`]; `places` knows the folders of the programs, `walk` finds files, `ollama` reads
//! manifests, `names` matches what people type.
#![forbid(unsafe_code)]

mod names;
mod ollama;
mod places;
mod walk;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Gguf;

pub use names::Match;
pub use places::Places;

/// The program whose folder a model lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Keeper {
    /// Our own folder.
    Tealight,
    /// The cache of the Hugging Face libraries, which llama.cpp uses as well.
    HuggingFace,
    /// LM Studio.
    LmStudio,
    /// The flat cache of older llama.cpp.
    LlamaCpp,
    /// ollama.
    Ollama,
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tealight => "tealight",
            Self::HuggingFace => "hugging face",
            Self::LmStudio => "lm studio",
            Self::LlamaCpp => "llama.cpp",
            Self::Ollama => "ollama",
        })
    }
}

/// A model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// What it is called: unique on the shelf, without blanks or control characters.
    pub name: String,
    /// Its file, or the first one of several.
    pub path: PathBuf,
    /// Whose folder it lies in.
    pub keeper: Keeper,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Files that it consists of, and that are there.
    pub n_file: u64,
    /// Why it cannot be used, as far as names and sizes tell.
    pub fault: Option<String>,
}

/// What stands in the metadata of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// `general.file_type`.
    pub file_type: Option<u64>,
    /// Numbers in all tensors.
    pub n_parameter: u64,
    /// Whether it has a chat template.
    pub has_template: bool,
    /// Whether it is a model by itself: no adapter, no projector of a vision model, no importance matrix, no bare
    /// vocabulary.
    pub is_model: bool,
}

impl Found {
    /// Reads the metadata. No weight is read.
    ///
    /// # Errors
    /// As [`Gguf::open`]; [`ErrorKind::Model`] for what [`Found::fault`] tells.
    pub fn facts(&self) -> Result<Facts> {
        if let Some(fault) = &self.fault {
            return Err(Error::new(ErrorKind::Model, fault).in_file(&self.path));
        }
        let gguf = Gguf::open(&self.path)?;
        let meta = gguf.metadata();
        let text = |key: &str| meta.str(key).ok().flatten().map(str::to_owned);
        let elements = |shape: &[u64]| shape.iter().fold(1u64, |n, d| n.saturating_mul(*d));
        let architecture = text("general.architecture");
        let kind = text("general.type");
        let is_part = kind.as_deref().is_some_and(|t| t != "model") || architecture.as_deref() == Some("clip");
        Ok(Facts {
            file_type: meta.u64("general.file_type").ok().flatten(),
            n_parameter: gguf.tensors().iter().map(|t| elements(&t.shape)).fold(0, u64::saturating_add),
            has_template: meta.str("tokenizer.chat_template").ok().flatten().is_some(),
            is_model: architecture.is_some() && !is_part && !gguf.tensors().is_empty(),
            architecture,
        })
    }
}

/// All models of the usual places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shelf {
    /// By keeper, then by name.
    pub models: Vec<Found>,
    /// What could not be read or was too much, one line each.
    pub notes: Vec<String>,
}

impl Shelf {
    /// Looks into every place. Reads folders and small manifests, and no model file.
    pub fn search(places: &Places) -> Shelf {
        let mut shelf = Shelf::default();
        for (keeper, root) in &places.roots {
            let notes = &mut shelf.notes;
            let found = match keeper {
                Keeper::Ollama => ollama::models(root, notes),
                Keeper::HuggingFace => walk::hub(root, notes),
                _ => walk::folder(*keeper, root, notes),
            };
            shelf.models.extend(found);
        }
        names::settle(&mut shelf.models);
        shelf
    }

    /// The model that `word` means: its whole name, its name without publisher or tag, or the name of its file.
    /// Letters of either case match.
    pub fn find(&self, word: &str) -> Match<'_> {
        names::find(&self.models, word)
    }
}

/// The size of a file, whatever links lead to it; `None` when it is no regular file.
fn size_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|m| m.len())
}

#[cfg(test)]
mod tests;
