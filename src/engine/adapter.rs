//! Adapters of a model: which files, how strong, and that what was computed with them is theirs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::load::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Gguf;

/// A LoRA adapter that a model is opened with: its file, and the factor of what it adds. The model's own weights stay
/// as they lie in their file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Adapter {
    /// A GGUF file with `general.type` = adapter.
    pub path: PathBuf,
    /// Factor, beside the adapter's own alpha / rank; 1 is as it was trained.
    pub scale: f32,
}

impl Adapter {
    /// An adapter as it was trained.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), scale: 1.0 }
    }

    /// Sets the factor.
    #[must_use]
    pub fn with_scale(mut self, scale: f32) -> Self {
        self.scale = scale;
        self
    }
}

/// The file's name, and the scale where it is not 1.
impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path.file_name().unwrap_or_default().to_string_lossy())?;
        if self.scale == 1.0 { Ok(()) } else { write!(f, ":{}", self.scale) }
    }
}

/// An adapter whose file is open.
pub(super) struct OpenAdapter {
    pub gguf: Arc<Gguf>,
    pub scale: f32,
}

/// Opens the files of adapters.
pub(super) fn open(adapters: &[Adapter]) -> Result<Vec<OpenAdapter>> {
    let open = |adapter: &Adapter| {
        if !adapter.scale.is_finite() {
            let text = format!("an adapter cannot be scaled by {}", adapter.scale);
            return Err(Error::new(ErrorKind::Usage, text).with_hint("use a number such as 0.5"));
        }
        Ok(OpenAdapter { gguf: Arc::new(Gguf::open(&adapter.path)?), scale: adapter.scale })
    };
    adapters.iter().map(open).collect()
}

/// How messages name what a model is changed by.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => "no adapter".to_owned(),
        [name] => format!("the adapter {}", crate::error::printable(name)),
        names => format!("the adapters {}", crate::error::printable(&names.join(", "))),
    }
}

impl Model {
    /// The adapters that it was opened with.
    pub fn adapters(&self) -> &[Adapter] {
        &self.0.options.adapters
    }

    /// Their names, as saved sessions and chats have them.
    pub(crate) fn adapter_names(&self) -> Vec<String> {
        self.adapters().iter().map(Adapter::to_string).collect()
    }
}
