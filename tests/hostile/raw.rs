//! Files built byte by byte, so that each field can lie.

use std::path::{Path, PathBuf};

use tealight::gguf::ValueType;

/// The parts of a GGUF file; [`Raw::build`] joins them.
#[derive(Clone)]
pub struct Raw {
    pub version: u32,
    /// The count in the header, where it is not the true one.
    pub n_tensor: Option<u64>,
    pub n_key: Option<u64>,
    pub keys: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    /// Where the data section is laid, whatever the file declares.
    pub padding: usize,
    pub data: Vec<u8>,
}

impl Raw {
    pub fn empty() -> Self {
        Self { version: 3, n_tensor: None, n_key: None, keys: vec![], tensors: vec![], padding: 32, data: vec![] }
    }

    /// A small valid file: three keys, `b` [2, 32] Q8_0 at 0 and `a` [1, 8] F32 at 96, no byte behind it.
    pub fn valid() -> Self {
        let texts = array(ValueType::Str, 2, &[text(b"x"), text(b"yz")].concat());
        Self {
            keys: vec![
                key(b"general.architecture", ValueType::Str, &text(b"llama")),
                key(b"a.count", ValueType::U32, &7u32.to_le_bytes()),
                key(b"a.texts", ValueType::Array, &texts),
            ],
            tensors: vec![tensor(b"b", &[32, 2], 8, 0), tensor(b"a", &[8, 1], 0, 96)],
            data: (0..128).collect(),
            ..Self::empty()
        }
    }

    /// The valid file with one more key.
    pub fn with_key(record: Vec<u8>) -> Self {
        let mut raw = Self::valid();
        raw.keys.push(record);
        raw
    }

    /// A file of these tensors and 128 bytes of data.
    pub fn with_tensors(records: &[Vec<u8>]) -> Self {
        Self { tensors: records.to_vec(), data: vec![0; 128], ..Self::empty() }
    }

    pub fn build(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensor.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_key.unwrap_or(self.keys.len() as u64).to_le_bytes());
        out.extend(self.keys.concat());
        out.extend(self.tensors.concat());
        if !self.data.is_empty() {
            out.resize(out.len().next_multiple_of(self.padding), 0);
        }
        out.extend(&self.data);
        out
    }
}

pub fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

pub fn key(name: &[u8], ty: ValueType, value: &[u8]) -> Vec<u8> {
    key_of_type(name, ty.id(), value)
}

pub fn key_of_type(name: &[u8], ty: u32, value: &[u8]) -> Vec<u8> {
    [&text(name), &ty.to_le_bytes() as &[u8], value].concat()
}

pub fn array(element: ValueType, len: u64, elements: &[u8]) -> Vec<u8> {
    [&element.id().to_le_bytes() as &[u8], &len.to_le_bytes(), elements].concat()
}

/// A record of the tensor table; `ne` is innermost first as in the file.
pub fn tensor(name: &[u8], ne: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let n_dim = u32::try_from(ne.len()).unwrap();
    let dims: Vec<u8> = ne.iter().flat_map(|n| n.to_le_bytes()).collect();
    [&text(name), &n_dim.to_le_bytes() as &[u8], &dims, &ty.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// An empty folder for the temporary files of one test.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder for temporary files");
    path
}
