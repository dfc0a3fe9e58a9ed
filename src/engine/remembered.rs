//! Small facts that are cheap to lose, in files of the cache folder: what was found out about a GPU.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::gguf::AtomicFile;

/// More is not ours.
const MAX_BYTES: u64 = 1 << 20;

/// One fact. Its file holds the key too, so that a key that shares its hash is not taken for it.
pub(super) struct Fact<'a> {
    file: Option<PathBuf>,
    key: &'a str,
}

impl<'a> Fact<'a> {
    /// The fact of that key, a single line, among those of a kind. Without a folder nothing is remembered.
    pub fn new(folder: Option<&Path>, kind: &str, key: &'a str) -> Self {
        // FNV-1a.
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let file = folder.map(|f| f.join(kind).join(format!("{hash:016x}.txt")));
        Self { file, key }
    }

    /// What was remembered.
    pub fn read(&self) -> Option<String> {
        let mut text = String::new();
        fs::File::open(self.file.as_ref()?).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        let (key, value) = text.split_once('\n')?;
        (key == self.key).then(|| value.trim_end().to_owned())
    }

    /// Remembers a value. What cannot be written is found out again.
    pub fn write(&self, value: &str) {
        let Some(file) = &self.file else { return };
        let written = || -> std::io::Result<()> {
            fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
            let mut out = AtomicFile::create(file, &[]).map_err(std::io::Error::other)?;
            out.write_all(format!("{}\n{value}\n", self.key).as_bytes())?;
            out.commit().map_err(std::io::Error::other)
        };
        // A full disk is no reason to fail.
        let _ = written();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_remembered_by_its_key() {
        let folder = std::env::temp_dir().join(format!("tealight-facts-{}", std::process::id()));
        let fact = Fact::new(Some(&folder), "checks", "a key");
        assert_eq!(fact.read(), None);
        fact.write("one value\nof two lines");
        fact.write("another value");
        assert_eq!(fact.read().as_deref(), Some("another value"));
        assert_eq!(Fact::new(Some(&folder), "checks", "b key").read(), None);
        // The same file under another key.
        let stranger = Fact { file: fact.file.clone(), key: "b key" };
        assert_eq!(stranger.read(), None);
        assert_eq!(Fact::new(None, "checks", "a key").read(), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
