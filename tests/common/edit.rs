//! Copies of a model file with something changed.

use std::path::{Path, PathBuf};

use tealight::gguf::{Gguf, GgufWriter, KeyValue, ValueType};
use tealight::quant::BlockType;

/// A tensor of a file to be.
#[derive(Clone)]
pub struct EditTensor {
    pub name: String,
    pub ty: BlockType,
    pub shape: Vec<u64>,
    pub data: Vec<u8>,
}

/// A model file in memory that can be changed and written again.
#[derive(Clone)]
pub struct Edit {
    pub keys: Vec<(String, ValueType, Vec<u8>)>,
    pub tensors: Vec<EditTensor>,
}

impl Edit {
    pub fn read(path: &Path) -> Edit {
        let gguf = Gguf::open(path).unwrap();
        let keys = gguf.metadata().raw().map(|(k, ty, bytes)| (k.to_owned(), ty, bytes.to_vec())).collect();
        let copy = |t: &tealight::gguf::Tensor| EditTensor {
            name: t.name.clone(),
            ty: t.ty,
            shape: t.shape.clone(),
            data: gguf.bytes(t).to_vec(),
        };
        Edit { keys, tensors: gguf.tensors().iter().map(copy).collect() }
    }

    /// Sets or replaces a key.
    pub fn set(&mut self, name: &str, value: impl Into<KeyValue>) {
        let value = value.into();
        let mut one = GgufWriter::new();
        one.key(name, value.clone());
        self.keys.retain(|k| k.0 != name);
        // The writer knows how values are stored: write a file with this key alone and read it back.
        let bytes = one.begin(Vec::new()).unwrap().finish().unwrap();
        let dir = TempDir::new("edit-key");
        let path = dir.path().join("one.gguf");
        std::fs::write(&path, bytes).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        let (key, ty, bytes) = gguf.metadata().raw().next().map(|(k, t, b)| (k.to_owned(), t, b.to_vec())).unwrap();
        self.keys.push((key, ty, bytes));
    }

    pub fn remove_key(&mut self, name: &str) {
        self.keys.retain(|k| k.0 != name);
    }

    pub fn tensor(&mut self, name: &str) -> &mut EditTensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub fn write(&self, path: &Path) {
        let mut writer = GgufWriter::new();
        for (name, ty, bytes) in &self.keys {
            writer.raw_key(name.clone(), *ty, bytes.clone());
        }
        for t in &self.tensors {
            writer.tensor(t.name.clone(), t.ty, &t.shape);
        }
        let mut body = writer.begin(std::fs::File::create(path).unwrap()).unwrap();
        for t in &self.tensors {
            body.write(&t.data).unwrap();
        }
        body.finish().unwrap();
    }
}

/// A folder that vanishes with its owner.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(label: &str) -> TempDir {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tealight-{label}-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
