//! Sessions in files: what was computed is not computed again.
//!
//! `docs/saved-sessions.md` says what a file holds and when it is taken.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Session, SessionOptions};
use crate::cache::saved::{self, Contents, Key, RowsOut, checksum};
use crate::cpu::{MappedRows, SavedRows};
use crate::engine::adapter::{OpenAdapter, list};
use crate::engine::load::{Model, Program};
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::{AtomicFile, Gguf, Map};

/// Bytes of each tensor that go into the identity of a model.
const SAMPLE_BYTES: usize = 256;

/// The file of a saved session, opened and checked: lengths, checksums, and that its text is JSON. It stays mapped;
/// rows are copied page by page where a session writes to them.
pub struct SavedSession {
    map: Map,
    path: PathBuf,
    contents: Contents,
    about: Value,
}

impl SavedSession {
    /// Opens a file that [`Session::save`] wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::Model`] when it is no such file, of another version, cut
    /// off or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|e| Error::io("cannot open", path, e))?;
        if !meta.is_file() || meta.len() == 0 {
            let found = if meta.is_file() { "an empty file" } else { "no regular file" };
            return Err(Error::new(ErrorKind::Model, format!("not a saved session: {found}")).in_file(path));
        }
        let map = Map::open_as(path, "a saved session")?;
        let contents = saved::read(&map).map_err(|e| e.in_file(path))?;
        let about: Value = serde_json::from_str(&contents.text).map_err(|e| {
            let text = format!("its text is no JSON: {}", printable(&e.to_string()));
            Error::new(ErrorKind::Model, text).in_file(path)
        })?;
        Ok(Self { map, path: path.to_owned(), contents, about })
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.contents.tokens
    }

    /// The messages that were saved with them; empty where there are none.
    pub fn messages(&self) -> &[Value] {
        self.about["messages"].as_array().map_or(&[], Vec::as_slice)
    }

    /// File name of the model, as the file has it.
    pub fn model_name(&self) -> &str {
        self.about["model"].as_str().unwrap_or("unknown")
    }

    /// Names of the adapters that the model was changed by, as the file has them.
    pub fn adapters(&self) -> Vec<String> {
        let names = self.about["adapters"].as_array().map_or(&[][..], Vec::as_slice);
        names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// Positions that the session could hold.
    pub fn n_ctx(&self) -> u32 {
        self.contents.n_ctx
    }

    /// Are keys and values there? Sessions on a GPU are saved without.
    pub fn has_rows(&self) -> bool {
        !self.contents.caches.is_empty()
    }

    /// Size of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// A refusal that says what differs and what helps.
    fn other(&self, what: String, hint: &str) -> Error {
        let text = format!("the saved session does not fit: {what}");
        Error::new(ErrorKind::Model, text).in_file(&self.path).with_hint(hint)
    }

    /// Was it saved by this model with these adapters, computed as `key` says?
    fn check(&self, key: &Key, adapters: &[String]) -> Result<()> {
        let found = &self.contents.key;
        if found.model != key.model {
            let was = self.adapters();
            if was != adapters {
                let what = format!("it was made with {}, the session has {}", list(&was), list(adapters));
                return Err(self.other(what, "use the same adapters (--lora), or do without the file"));
            }
            let what = format!("it was made with another model, `{}`", printable(self.model_name()));
            return Err(self.other(what, "use that model, or do without the file"));
        }
        if found.types != key.types {
            let name = |(k, v): (crate::plan::CacheType, crate::plan::CacheType)| {
                format!("keys in {} and values in {}", k.block_type(), v.block_type())
            };
            let what = format!("it has {}, the session wants {}", name(found.types), name(key.types));
            return Err(self.other(what, "use the same cache types (-ctk, -ctv), or do without the file"));
        }
        if found.kernels != key.kernels {
            let what = format!("it was computed by {}, here {} computes", found.kernels, key.kernels);
            return Err(self.other(what, "compute as before (--exact, TEALIGHT_CPU), or do without the file"));
        }
        if found.plan != key.plan {
            let what = "this Tealight, or this context length, computes the model by other steps".to_owned();
            return Err(self.other(what, "use the same context length (-c), or do without the file"));
        }
        Ok(())
    }
}

impl Model {
    /// A number that tells this model from others: of all its metadata and tensor tables, the sizes of its files, and
    /// 256 bytes from the middle of each tensor. Files that differ elsewhere in their weights alone have the same.
    /// Adapters count, each with its scale.
    pub fn identity(&self) -> u64 {
        *self.0.identity.get_or_init(|| {
            let own = identity(self.gguf());
            let changed = |id: u64, a: &OpenAdapter| {
                let parts = [id, identity(&a.gguf), a.scale.to_bits().into()];
                checksum(&parts.map(u64::to_le_bytes).concat())
            };
            self.0.adapters.iter().fold(own, changed)
        })
    }

    /// The session of a file that [`Session::save`] wrote, ready to go on.
    ///
    /// # Errors
    /// As [`Model::session`], [`SavedSession::open`] and [`Session::restore`].
    pub fn restore(&self, path: &Path, options: &SessionOptions) -> Result<Session> {
        let saved = SavedSession::open(path)?;
        let mut session = self.session(options)?;
        session.restore(&saved)?;
        Ok(session)
    }
}

fn identity(gguf: &Gguf) -> u64 {
    let first = gguf.tensors().iter().filter(|t| t.shard == 0).map(|t| t.offset).min();
    let head = gguf.metadata_bytes();
    let head = &head[..first.and_then(|n| usize::try_from(n).ok()).unwrap_or(head.len()).min(head.len())];
    let mut all = checksum(head).to_le_bytes().to_vec();
    all.extend(gguf.file_sizes().flat_map(u64::to_le_bytes));
    for tensor in gguf.tensors() {
        all.extend(tensor.name.as_bytes());
        all.extend([tensor.shard as u64, tensor.offset, tensor.bytes].into_iter().flat_map(u64::to_le_bytes));
        let bytes = gguf.bytes(tensor);
        let start = (bytes.len() / 2).saturating_sub(SAMPLE_BYTES / 2);
        all.extend(&bytes[start..bytes.len().min(start + SAMPLE_BYTES)]);
    }
    checksum(&all)
}

/// A number that tells ways of computing apart.
fn plan_identity(program: &Program) -> u64 {
    let plan = &program.plan;
    let parts = (plan.steps(), plan.buffers(), plan.caches(), plan.states(), plan.weights(), plan.tables());
    checksum(format!("{parts:?}").as_bytes())
}

impl Session {
    /// Are its rows saved and restored? Not where a GPU keeps a part of them.
    pub fn keeps_rows(&self) -> bool {
        let kernels = self.model.with_executor(&self.program, self.n_ctx, |e| Ok(e.kernels_of_rows()));
        kernels.is_ok_and(|k| k.is_some())
    }

    /// Saves the tokens and what the model remembers of them, and `messages` beside them. The file appears under its
    /// name when it is complete, so that a crash at any time leaves the one before; on Unix only its owner may read
    /// it. A session of which a GPU keeps a part is saved as its tokens and messages alone. Returns the bytes written.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], and [`ErrorKind::Memory`] when the disk is full; nothing of it is left then.
    pub fn save(&self, path: &Path, messages: &[Value]) -> Result<u64> {
        let name = self.model.gguf().path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut about = json!({"tealight": env!("CARGO_PKG_VERSION"), "model": name, "messages": messages});
        if !self.model.adapters().is_empty() {
            about["adapters"] = self.model.adapter_names().into();
        }
        let about = about.to_string();
        let (model, plan) = (self.model.identity(), plan_identity(&self.program));
        self.model.with_executor(&self.program, self.n_ctx, |executor| {
            let (kernels, rows) = executor.saved(&self.memory).unwrap_or(("none", Vec::new()));
            let key = Key { model, plan, types: self.memory.types(), kernels: kernels.to_owned() };
            let out = |r: &SavedRows<'_>| (r.k.len(), r.v.len());
            let bytes = saved::file_bytes(about.len(), self.tokens.len(), rows.iter().map(out));
            let rows: Vec<RowsOut<'_>> = rows
                .iter()
                .map(|r| RowsOut { first: r.first, n_slot: r.n_slot, n_row: r.n_row, k: r.k, v: r.v })
                .collect();
            let mut file = AtomicFile::create_private(path)?;
            file.reserve(bytes)?;
            let cannot = |e| Error::io("cannot write", path, e);
            let n = saved::write(&mut file, &key, self.n_ctx, &about, &self.tokens, &rows).map_err(cannot)?;
            file.flush().map_err(cannot)?;
            file.commit()?;
            Ok(n)
        })
    }

    /// Takes over what a saved session held, in place of what this one holds. Its rows stay in the file's map until
    /// they are written to; what is computed from them is what the saved session would have computed, bit for bit.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when it was saved by another model or computed in another way, when its text does not fit
    /// into this context, or when it holds no rows; [`ErrorKind::Usage`] when a GPU keeps rows of this session. The
    /// message says what differs and what helps; the session is as before, or empty where rows were found not to fit.
    pub fn restore(&mut self, saved: &SavedSession) -> Result<()> {
        let kernels = self.model.with_executor(&self.program, self.n_ctx, |e| Ok(e.kernels_of_rows()))?;
        let Some(kernels) = kernels else {
            let text = "a session on a GPU takes no saved rows: its text must be read again";
            return Err(Error::new(ErrorKind::Usage, text).with_hint("use the CPU (--device cpu)"));
        };
        if !saved.has_rows() {
            let what = "it holds text alone, as sessions on a GPU are saved".to_owned();
            return Err(saved.other(what, "do without the file"));
        }
        let (model, plan) = (self.model.identity(), plan_identity(&self.program));
        let key = Key { model, plan, types: self.memory.types(), kernels: kernels.to_owned() };
        saved.check(&key, &self.model.adapter_names())?;
        let tokens = saved.tokens();
        if tokens.len() > self.n_ctx as usize {
            let what = format!("it has {} tokens, the context holds {}", tokens.len(), self.n_ctx);
            return Err(saved.other(what, "use a larger context (-c)"));
        }
        if tokens.iter().any(|id| *id >= self.model.n_vocab()) {
            return Err(saved.other("it has tokens that the model does not know".into(), "delete the file"));
        }
        saved.map.check_unchanged(&saved.path)?;
        let private = |range: &std::ops::Range<usize>| saved.map.private(range.clone(), &saved.path);
        let rows: Result<Vec<MappedRows>> = saved
            .contents
            .caches
            .iter()
            .map(|c| {
                let (k, v) = (private(&c.k)?, private(&c.v)?);
                Ok(MappedRows { first: c.first, n_slot: c.n_slot, n_row: c.n_row, k, v })
            })
            .collect();
        let rows = rows?;
        self.tokens.clear();
        let memory = &mut self.memory;
        let taken = self.model.with_executor(&self.program, self.n_ctx, |e| e.restore(memory, tokens, rows));
        taken.map_err(|e| e.in_file(&saved.path))?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
