//! The files of a checkpoint: one, or those that `model.safetensors.index.json` names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::File;
use crate::convert::hf::Section;
use crate::error::{Error, ErrorKind, Result, printable};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// Each file keeps a descriptor open, and 1024 is a common limit of a process.
const MAX_FILES: usize = 512;

/// All tensors of a checkpoint by name.
#[derive(Debug)]
pub(in crate::convert) struct Checkpoint {
    files: Vec<Arc<File>>,
    /// Name to file and position in it.
    by_name: BTreeMap<String, (usize, usize)>,
}

impl Checkpoint {
    /// Opens the checkpoint of a folder, or one file of it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be read; [`ErrorKind::Model`] when the folder has no safetensors, a shard
    /// is absent, lacks a tensor that the index promises, or repeats one of another shard.
    pub(in crate::convert) fn open(folder: &Path, file: Option<&Path>) -> Result<Self> {
        let index = folder.join(INDEX);
        let one = file.filter(|f| shard_number(f).is_none());
        if let Some(file) = one {
            return Self::gather(&[file.to_owned()]);
        }
        if !index.is_file() {
            return Self::gather(&find(folder, file)?);
        }
        let json = Section::read(&index)?;
        let map = json.section("weight_map")?.ok_or_else(|| json.error("weight_map", "nothing", "an object"))?;
        let mut promised: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in map.keys() {
            let file = map.text(name)?.unwrap_or_default();
            let plain = !file.is_empty() && !file.contains(['/', '\\', ':']) && file.ends_with(".safetensors");
            if !plain {
                return Err(map.error(name, format!("`{}`", printable(file)), "the name of a file of this folder"));
            }
            promised.entry(file.to_owned()).or_default().push(name.to_owned());
        }
        if promised.is_empty() {
            return Err(json.error("weight_map", "nothing", "the tensors of the checkpoint"));
        }
        for file in promised.keys() {
            if !folder.join(file).is_file() {
                let message = format!("the shard `{}` is absent, but the index names it", printable(file));
                return Err(Error::new(ErrorKind::Model, message).in_file(&index).with_hint(DOWNLOAD));
            }
        }
        let paths: Vec<PathBuf> = promised.keys().map(|f| folder.join(f)).collect();
        let found = Self::gather(&paths)?;
        for ((file, names), path) in promised.iter().zip(&paths) {
            for name in names {
                if found.by_name.get(name).is_none_or(|(at, _)| found.files[*at].path != *path) {
                    let message = format!("tensor `{}` is not in `{}`, where the index says", printable(name), file);
                    return Err(Error::new(ErrorKind::Model, message).in_file(&index).with_hint(DOWNLOAD));
                }
            }
        }
        Ok(found)
    }

    fn gather(paths: &[PathBuf]) -> Result<Self> {
        if paths.len() > MAX_FILES {
            let message = format!("a checkpoint of {} files, expected at most {MAX_FILES}", paths.len());
            return Err(Error::new(ErrorKind::Model, message));
        }
        let mut files: Vec<Arc<File>> = Vec::with_capacity(paths.len());
        let mut by_name: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (i, path) in paths.iter().enumerate() {
            let file = File::open(path)?;
            for (j, t) in file.tensors.iter().enumerate() {
                if let Some((at, _)) = by_name.insert(t.name.clone(), (i, j)) {
                    let other = files.get(at).map_or(path, |f| &f.path);
                    let message = format!(
                        "tensor `{}` at byte {} is also in `{}`",
                        printable(&t.name),
                        t.offset,
                        printable(&other.to_string_lossy())
                    );
                    return Err(Error::new(ErrorKind::Model, message).in_file(path).with_hint(DOWNLOAD));
                }
            }
            files.push(Arc::new(file));
        }
        Ok(Self { files, by_name })
    }

    /// Names of all tensors, sorted.
    pub(in crate::convert) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The file that holds a tensor, and its index there.
    pub(in crate::convert) fn tensor(&self, name: &str) -> Option<(&Arc<File>, usize)> {
        let &(file, index) = self.by_name.get(name)?;
        Some((self.files.get(file)?, index))
    }

    /// The files, in the order of their names.
    pub(in crate::convert) fn files(&self) -> &[Arc<File>] {
        &self.files
    }
}

const DOWNLOAD: &str = "the download is incomplete or mixes two versions: download the folder again";

/// The safetensors files of a folder without an index.
fn find(folder: &Path, file: Option<&Path>) -> Result<Vec<PathBuf>> {
    let single = folder.join(SINGLE);
    if file.is_none() && single.is_file() {
        return Ok(vec![single]);
    }
    let entries = fs::read_dir(folder).map_err(|e| Error::io("cannot read the folder", folder, e))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("cannot read the folder", folder, e))?;
        names.extend(entry.file_name().into_string().ok());
    }
    // Adapters, and Mistral's own layout beside the usual one.
    let other = |n: &String| n.starts_with("adapter_") || n.starts_with("consolidated");
    let found: Vec<PathBuf> =
        names.iter().filter(|n| n.ends_with(".safetensors") && !other(n)).map(|n| folder.join(n)).collect();
    let refuse = |message: String, hint: &str| {
        Err(Error::new(ErrorKind::Model, message).in_file(folder).with_hint(hint.to_owned()))
    };
    let counts: BTreeSet<_> = found.iter().map(|p| shard_number(p).map(|(_, count)| count)).collect();
    match (found.len(), counts.first()) {
        (0, _) if names.iter().any(|n| n.ends_with(".bin") || n.ends_with(".pth")) => refuse(
            "the folder holds a pickled checkpoint and no safetensors; pickles run code and are not read".into(),
            "get the safetensors form of the model",
        ),
        (0, _) => refuse(
            "the folder holds no safetensors".into(),
            "name the folder with `config.json` and `model.safetensors`",
        ),
        (1, Some(None)) => Ok(found),
        (n, Some(Some(count))) if counts.len() == 1 && n == *count => Ok(found),
        (n, Some(Some(count))) if counts.len() == 1 => {
            refuse(format!("{n} of {count} shards are here and no `{INDEX}`"), DOWNLOAD)
        }
        (n, _) => refuse(
            format!("{n} safetensors files and no `{INDEX}` that says which belong to the model"),
            "name one file, or download the index",
        ),
    }
}

/// `model-00002-of-00003.safetensors` is number 2 of 3.
fn shard_number(path: &Path) -> Option<(usize, usize)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".safetensors")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (_, number) = rest.rsplit_once('-')?;
    Some((number.parse().ok()?, count.parse().ok()?))
}
