//! Finding GGUF files in folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Found, Keeper, size_of};
use crate::error::escaped;
use crate::gguf::ShardName;

/// Folders below a root that are looked into: `publisher/repo/file` needs two, `models--u--r/snapshots/commit/sub` four.
const MAX_DEPTH: usize = 6;

/// Entries of all folders of one root that are looked at; no collection of models comes near.
const MAX_ENTRIES: usize = 100_000;

/// A walk's state.
struct Walk<'a> {
    left: usize,
    files: Vec<PathBuf>,
    notes: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn descend(&mut self, folder: &Path, depth: usize) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // Most programs are not there; what is there and closed is worth a word.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => return self.notes.push(format!("cannot read {}: {e}", escaped(&folder.to_string_lossy()))),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().take(self.left).map(|e| e.path()).collect();
        self.left -= paths.len();
        if self.left == 0 {
            let note = format!("{} holds too much: not all of it was looked at", escaped(&folder.to_string_lossy()));
            return self.notes.push(note);
        }
        paths.sort();
        for path in paths {
            let is_hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            // Links to files are followed, links to folders are not: they could lead in circles.
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir());
            if is_folder && depth < MAX_DEPTH && !is_hidden {
                self.descend(&path, depth + 1);
            } else if !is_hidden && is_gguf(&path) && size_of(&path).is_some() {
                self.files.push(path);
            }
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
}

/// The GGUF files below a folder, each with its target once.
fn files(root: &Path, notes: &mut Vec<String>) -> Vec<PathBuf> {
    let mut walk = Walk { left: MAX_ENTRIES, files: Vec::new(), notes };
    walk.descend(root, 0);
    walk.files
}

/// A model of one or several files: the path that opens it, all its sizes, and what is missing.
struct Group {
    path: PathBuf,
    bytes: u64,
    n_file: u64,
    /// By the names of the files.
    n_expected: u64,
    stem: String,
}

/// Files of one folder that belong together.
fn groups(files: Vec<PathBuf>) -> Vec<Group> {
    let mut groups: BTreeMap<(PathBuf, String), Group> = BTreeMap::new();
    for path in files {
        let size = size_of(&path).unwrap_or(0);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (key, stem, n_expected) = match ShardName::of(&path) {
            Some(name) => (format!("{}/{}", name.prefix, name.count), name.prefix, name.count),
            None => (stem.clone(), stem, 1),
        };
        let group = groups.entry((folder, key)).or_insert(Group { path, bytes: 0, n_file: 0, n_expected, stem });
        group.bytes = group.bytes.saturating_add(size);
        group.n_file += 1;
    }
    groups.into_values().collect()
}

impl Group {
    fn found(self, name: String, keeper: Keeper) -> Found {
        let missing = self.n_expected.saturating_sub(self.n_file);
        let fault = match (self.bytes, missing) {
            (0, _) => Some("the file is empty".to_owned()),
            (_, 0) => None,
            _ => Some(format!("{missing} of {} files are missing", self.n_expected)),
        };
        Found { name, path: self.path, keeper, bytes: self.bytes, n_file: self.n_file, fault }
    }
}

/// A plain folder, whose models are named by their paths in it: `publisher/repo:TAG` two folders down, as LM Studio has
/// them, and the name of the file elsewhere.
pub(super) fn folder(keeper: Keeper, root: &Path, notes: &mut Vec<String>) -> Vec<Found> {
    let name = |group: &Group| {
        let parent = group.path.parent().and_then(|p| p.strip_prefix(root).ok());
        let parts: Vec<String> =
            parent.iter().flat_map(|p| p.components()).map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
        match (keeper, &parts[..]) {
            (Keeper::LmStudio, [publisher, repo]) => tagged(&format!("{publisher}/{repo}"), &group.stem),
            (_, []) => group.stem.clone(),
            (_, parts) => format!("{}/{}", parts.join("/"), group.stem),
        }
    };
    groups(files(root, notes)).into_iter().map(|g| (name(&g), g)).map(|(n, g)| g.found(n, keeper)).collect()
}

/// The hub's cache: `models--USER--REPO/snapshots/COMMIT/file`, links into `blobs`. The commit of `refs/main` is the
/// model; files of other commits keep the beginning of theirs in the name.
pub(super) fn hub(root: &Path, notes: &mut Vec<String>) -> Vec<Found> {
    let mut all = Vec::new();
    let mut repos: Vec<PathBuf> = match fs::read_dir(root) {
        Ok(entries) => entries.flatten().take(MAX_ENTRIES).map(|e| e.path()).collect(),
        Err(_) => return Vec::new(),
    };
    repos.sort();
    for repo in repos {
        let folder = repo.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(id) = folder.strip_prefix("models--").map(|id| id.replacen("--", "/", 1)) else { continue };
        // A commit's name has 40 digits; whatever else the file holds names no folder.
        let reference = repo.join("refs/main");
        let main = (size_of(&reference) <= Some(256)).then(|| fs::read_to_string(reference).unwrap_or_default());
        let main = main.unwrap_or_default().trim().to_owned();
        let snapshots = repo.join("snapshots");
        for group in groups(files(&snapshots, notes)) {
            let commit = group.path.strip_prefix(&snapshots).ok().and_then(|p| p.components().next());
            let commit = commit.map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
            let mut name = tagged(&id, &group.stem);
            if !main.is_empty() && commit != main {
                name += &format!("@{}", commit.chars().take(7).collect::<String>());
            }
            all.push((commit != main, group.found(name, Keeper::HuggingFace)));
        }
    }
    // The current commit first, so that a file of several commits is counted there.
    all.sort_by_key(|(is_old, _)| *is_old);
    all.into_iter().map(|(_, found)| found).collect()
}

/// `user/repo:TAG`, the tag being the last word of the file's name behind `-` or `.`, as llama.cpp has it.
fn tagged(repo: &str, stem: &str) -> String {
    let tag = stem.rsplit(['-', '.']).next().unwrap_or(stem).to_uppercase();
    format!("{repo}:{tag}")
}
