//! Where programs keep models.

use std::path::{Path, PathBuf};

use super::Keeper;
use crate::knobs::{Knobs, of_other_programs};

/// Longest settings file that is read: one line, or a small JSON object.
const MAX_SETTINGS: u64 = 1 << 20;

/// Folders to look into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The folder of each keeper; one may have several.
    pub(super) roots: Vec<(Keeper, PathBuf)>,
}

impl Places {
    /// Adds a folder that is kept as `keeper` keeps its own.
    #[must_use]
    pub fn with(mut self, keeper: Keeper, root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        if !self.roots.iter().any(|(_, r)| *r == root) {
            self.roots.push((keeper, root));
        }
        self
    }

    /// The folders that the programs' own variables name, or else their usual ones. Only absolute folders count.
    pub fn of_system(knobs: &Knobs) -> Self {
        Self::from_variables(knobs.models_dir.as_deref(), of_other_programs)
    }

    /// The folders.
    pub fn roots(&self) -> impl Iterator<Item = (Keeper, &Path)> {
        self.roots.iter().map(|(k, p)| (*k, p.as_path()))
    }

    /// Sources of the rules: huggingface_hub's `constants.py`, llama.cpp's `fs_get_cache_directory`, ollama's
    /// `envconfig`, LM Studio's pointer file.
    pub(super) fn from_variables(own: Option<&Path>, value_of: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let folder = |name: &str| value_of(name).filter(|f| f.is_absolute());
        let home = folder(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
        let below = |path: &str| home.as_ref().map(|h| h.join(path));
        let mut places = Places::default();
        let mut add = |keeper, root: Option<PathBuf>| {
            if let Some(root) = root {
                places = std::mem::take(&mut places).with(keeper, root);
            }
        };
        add(Keeper::Tealight, own.map(Path::to_owned));
        let hub = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
        let hub = hub.or_else(|| folder("HF_HOME").map(|f| f.join("hub")));
        let hub = hub.or_else(|| folder("XDG_CACHE_HOME").map(|f| f.join("huggingface/hub")));
        add(Keeper::HuggingFace, hub.or_else(|| below(".cache/huggingface/hub")));
        let studio = below(".lmstudio-home-pointer").and_then(|p| first_line(&p)).or_else(|| below(".lmstudio"));
        if let Some(studio) = &studio {
            add(Keeper::LmStudio, downloads_folder(&studio.join("settings.json")));
            add(Keeper::LmStudio, Some(studio.join("models")));
        }
        add(Keeper::LmStudio, below(".cache/lm-studio/models"));
        let caches = match () {
            () if cfg!(windows) => folder("LOCALAPPDATA"),
            () if cfg!(target_vendor = "apple") => below("Library/Caches"),
            () => folder("XDG_CACHE_HOME").or_else(|| below(".cache")),
        };
        match folder("LLAMA_CACHE") {
            // Both generations of llama.cpp may have written there.
            Some(cache) => {
                add(Keeper::LlamaCpp, Some(cache));
            }
            None => add(Keeper::LlamaCpp, caches.map(|c| c.join("llama.cpp"))),
        }
        match folder("OLLAMA_MODELS") {
            Some(models) => add(Keeper::Ollama, Some(models)),
            None => {
                add(Keeper::Ollama, below(".ollama/models"));
                if cfg!(target_os = "linux") {
                    add(Keeper::Ollama, Some("/usr/share/ollama/.ollama/models".into()));
                }
            }
        }
        places
    }
}

fn small(path: &Path) -> Option<String> {
    let size = super::size_of(path)?;
    if size > MAX_SETTINGS {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

fn first_line(path: &Path) -> Option<PathBuf> {
    let text = small(path)?;
    let line = text.lines().next()?.trim();
    Some(PathBuf::from(line)).filter(|f| f.is_absolute())
}

fn downloads_folder(settings: &Path) -> Option<PathBuf> {
    let settings: serde_json::Value = serde_json::from_str(&small(settings)?).ok()?;
    settings.get("downloadsFolder")?.as_str().map(PathBuf::from).filter(|f| f.is_absolute())
}
