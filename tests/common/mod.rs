//! What several test files need.
#![allow(dead_code, clippy::print_stderr)]

pub mod edit;

use std::path::{Path, PathBuf};

/// A folder of the test data that is not part of the repository; where it is not here, that is said by name.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TEALIGHT_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(folder);
    if !path.is_dir() {
        skipped(&format!("what needs the folder {folder} of the shared test data"));
        return None;
    }
    Some(path)
}

/// A real model by file name, from the cache that `tools/get-smollm2.sh` fills or `TEALIGHT_MODELS`.
pub fn real_model(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let folders = [std::env::var_os("TEALIGHT_MODELS").map(PathBuf::from), cache.map(|c| c.join("tealight/models"))];
    folders.into_iter().flatten().map(|f| f.join(name)).find(|p| p.is_file())
}

/// Says by name what a test could not do here.
pub fn skipped(what: &str) {
    eprintln!("skipped: {what}");
}

/// Little-endian f32 of a file.
pub fn read_f32(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// A JSON file.
pub fn read_json(path: &Path) -> serde_json::Value {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Token ids of a JSON array.
pub fn tokens(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().expect("an array of tokens").iter().map(|t| t.as_u64().expect("a token") as u32).collect()
}
