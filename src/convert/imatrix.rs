//! Importance matrices: how much the error of each column of a weight matters, as the mean square of what the column
//! is multiplied with. Read and written as llama.cpp's `llama-imatrix` does; its older `.dat` files are read too.
//!
//! Source of the formats: llama.cpp `tools/imatrix`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::{AtomicFile, Gguf, GgufWriter, KeyValue, Tensor};
use crate::quant::{self, BlockType};

const TYPE: &str = "imatrix";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SQUARES: &str = ".in_sum2";
const COUNTS: &str = ".counts";
/// Tokens of a chunk, which old files do not say: what `llama-imatrix` takes unless told otherwise.
const LEGACY_CHUNK: u32 = 512;
/// More than any list of tensors, and less than what a hostile file could ask for.
const MAX_LEGACY_BYTES: u64 = 4 << 30;

/// An importance matrix of a whole model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// Names of the texts, oldest first.
    pub datasets: Vec<String>,
    /// Tokens of a chunk.
    pub chunk_size: u32,
    /// Chunks of text.
    pub n_chunk: u32,
    entries: BTreeMap<String, Entry>,
}

/// What is known of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Sums of squares, [matrices, row_len]: several matrices are experts.
    squares: Vec<f32>,
    /// Inputs of each matrix.
    counts: Vec<f32>,
}

impl Entry {
    /// Sums of squares, [n, row_len], and how many inputs each of the `n` matrices had.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the lengths do not fit one another or a number is negative or not finite.
    pub fn new(squares: Vec<f32>, counts: Vec<f32>) -> Result<Self> {
        let fault = |what: &str| Err(Error::new(ErrorKind::Model, what.to_owned()));
        if squares.is_empty() || counts.is_empty() || !squares.len().is_multiple_of(counts.len()) {
            return fault("sums and counts do not fit one another");
        }
        if squares.iter().chain(&counts).any(|x| !x.is_finite() || *x < 0.0) {
            return fault("a sum of squares or a count is negative or not finite");
        }
        Ok(Self { squares, counts })
    }

    /// Columns of a row.
    pub fn row_len(&self) -> usize {
        self.squares.len() / self.counts.len()
    }

    /// Matrices: 1, or the experts.
    pub fn n_matrix(&self) -> usize {
        self.counts.len()
    }

    /// The importance of each column of matrix `i`, `[row_len]`: mean squares, or 1 where it was never used.
    pub fn importance(&self, i: usize) -> Vec<f32> {
        let squares = &self.squares[i * self.row_len()..][..self.row_len()];
        match self.counts[i] {
            0.0 => vec![1.0; squares.len()],
            n => squares.iter().map(|x| x / n).collect(),
        }
    }

    /// Share of the matrices that were used.
    pub fn share_used(&self) -> f64 {
        self.counts.iter().filter(|n| **n > 0.0).count() as f64 / self.counts.len() as f64
    }
}

impl Imatrix {
    /// An empty one, for chunks of so many tokens.
    pub fn new(chunk_size: u32) -> Self {
        Self { chunk_size, ..Self::default() }
    }

    /// Tensors with data, by name.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// What is known of a tensor.
    pub fn entry(&self, tensor: &str) -> Option<&Entry> {
        self.entries.get(tensor)
    }

    /// Forgets the tensors that `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| keep(name));
    }

    /// Adds what is known of a tensor to what was known before.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the tensor had another shape before.
    pub fn add(&mut self, tensor: &str, entry: Entry) -> Result<()> {
        match self.entries.get_mut(tensor) {
            None => {
                self.entries.insert(tensor.to_owned(), entry);
            }
            Some(old) if old.squares.len() == entry.squares.len() && old.counts.len() == entry.counts.len() => {
                old.squares.iter_mut().zip(&entry.squares).for_each(|(a, b)| *a += b);
                old.counts.iter_mut().zip(&entry.counts).for_each(|(a, b)| *a += b);
            }
            Some(old) => {
                let text = format!(
                    "tensor `{}`: [{}, {}] and [{}, {}] cannot be added",
                    printable(tensor),
                    old.n_matrix(),
                    old.row_len(),
                    entry.n_matrix(),
                    entry.row_len()
                );
                let hint = "the importance matrices are of different models";
                return Err(Error::new(ErrorKind::Model, text).with_hint(hint));
            }
        }
        Ok(())
    }

    /// Adds another matrix of the same model.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the models differ.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        if self.chunk_size == 0 {
            self.chunk_size = other.chunk_size;
        }
        self.n_chunk = self.n_chunk.saturating_add(other.n_chunk);
        self.datasets.extend(other.datasets);
        other.entries.into_iter().try_for_each(|(name, entry)| self.add(&name, entry))
    }

    /// Reads a file in either form.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::Model`] when it is neither.
    pub fn open(path: &Path) -> Result<Self> {
        let mut magic = [0; 4];
        let mut file = fs::File::open(path).map_err(|e| Error::io("cannot open", path, e))?;
        let n = std::io::Read::read(&mut file, &mut magic).map_err(|e| Error::io("cannot read", path, e))?;
        if n == 4 && magic == *b"GGUF" {
            return Self::of_gguf(&Gguf::open(path)?);
        }
        let len = file.metadata().map_err(|e| Error::io("cannot read", path, e))?.len();
        if len > MAX_LEGACY_BYTES {
            return Err(not_one("it is larger than any importance matrix").in_file(path));
        }
        let bytes = fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
        Self::of_legacy(&bytes).map_err(|e| e.in_file(path))
    }

    fn of_gguf(gguf: &Gguf) -> Result<Self> {
        let metadata = gguf.metadata();
        if metadata.str("general.type")? != Some(TYPE) {
            return Err(not_one("its `general.type` is not `imatrix`").in_file(gguf.path()));
        }
        let datasets = metadata.array(DATASETS)?.and_then(|a| a.strings());
        let datasets = datasets.into_iter().flatten().map(|s| String::from_utf8_lossy(s).into_owned());
        let mut imatrix = Self {
            datasets: datasets.collect(),
            chunk_size: metadata.u32(CHUNK_SIZE)?.unwrap_or(LEGACY_CHUNK),
            n_chunk: metadata.u32(CHUNK_COUNT)?.unwrap_or(0),
            entries: BTreeMap::new(),
        };
        for tensor in gguf.tensors() {
            let Some(name) = tensor.name.strip_suffix(SQUARES) else { continue };
            let fault = |e: &str| {
                let text = format!("tensor `{}` at byte {}: {e}", printable(&tensor.name), tensor.offset);
                Error::new(ErrorKind::Model, text).in_file(gguf.path())
            };
            let counts = gguf.tensor(&format!("{name}{COUNTS}")).ok_or_else(|| fault("its counts are missing"))?;
            let entry =
                Entry::new(numbers(gguf, tensor)?, numbers(gguf, counts)?).map_err(|e| fault(&e.to_string()))?;
            imatrix.entries.insert(name.to_owned(), entry);
        }
        if imatrix.entries.is_empty() {
            return Err(not_one("it holds no sums").in_file(gguf.path()));
        }
        Ok(imatrix)
    }

    /// The `.dat` form: i32 number of entries; for each i32 length of name, name, i32 calls, i32 length, f32 values,
    /// which are means times calls; then perhaps i32 calls and a text's name behind its i32 length.
    fn of_legacy(bytes: &[u8]) -> Result<Self> {
        let mut at = Bytes { bytes, at: 0 };
        let n_entry = at.length("the number of entries")?;
        let mut imatrix = Self::new(LEGACY_CHUNK);
        for i in 0..n_entry {
            let name = at.text().map_err(|e| at.fault(&format!("entry {i}: {e}")))?;
            let what = |e: &str| format!("entry `{}`: {e}", printable(&name));
            let calls = at.length("calls").map_err(|e| at.fault(&what(&e.to_string())))?;
            let n = at.length("values").map_err(|e| at.fault(&what(&e.to_string())))?;
            let values = n.checked_mul(4).and_then(|n| at.take(n));
            let values = values.ok_or_else(|| at.fault(&what("the file ends within its values")))?;
            let per_call = LEGACY_CHUNK as f32;
            let squares = values.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b) * per_call).collect();
            // Without calls the values are the means themselves.
            let count = if calls == 0 { per_call } else { calls as f32 * per_call };
            let entry = Entry::new(squares, vec![count]).map_err(|e| at.fault(&what(&e.to_string())))?;
            imatrix.add(&name, entry)?;
        }
        if n_entry == 0 {
            return Err(not_one("it holds no entries"));
        }
        if let Some(calls) = at.take(4) {
            let calls = i32::from_le_bytes([calls[0], calls[1], calls[2], calls[3]]);
            imatrix.n_chunk = u32::try_from(calls).unwrap_or(0);
            imatrix.datasets.extend(at.text().ok().filter(|t| !t.is_empty()));
        }
        Ok(imatrix)
    }

    /// Writes the GGUF form to `destination`, complete or not at all.
    ///
    /// # Errors
    /// As [`AtomicFile::create`] and [`AtomicFile::commit`].
    pub fn write(&self, destination: &Path, inputs: &[&Path]) -> Result<()> {
        let mut writer = GgufWriter::new();
        writer.key("general.type", TYPE);
        writer.key(DATASETS, KeyValue::strings(&self.datasets));
        writer.key(CHUNK_COUNT, self.n_chunk).key(CHUNK_SIZE, self.chunk_size);
        for (name, entry) in &self.entries {
            let (n, len) = (entry.n_matrix() as u64, entry.row_len() as u64);
            writer.tensor(format!("{name}{SQUARES}"), BlockType::F32, &[n, len]);
            writer.tensor(format!("{name}{COUNTS}"), BlockType::F32, &[n, 1]);
        }
        let cannot = |e| Error::io("cannot write", destination, e);
        let mut file = AtomicFile::create(destination, inputs)?;
        let mut body = writer.begin(&mut file).map_err(cannot)?;
        for entry in self.entries.values() {
            body.write(bytemuck::cast_slice(&entry.squares)).map_err(cannot)?;
            body.write(bytemuck::cast_slice(&entry.counts)).map_err(cannot)?;
        }
        body.finish().and_then(Write::flush).map_err(cannot)?;
        file.commit()
    }
}

fn not_one(what: &str) -> Error {
    let hint = "make one by `tealight imatrix MODEL.gguf -f TEXT`";
    Error::new(ErrorKind::Model, format!("not an importance matrix: {what}")).with_hint(hint)
}

fn numbers(gguf: &Gguf, tensor: &Tensor) -> Result<Vec<f32>> {
    let fault = |what: &str| {
        let text = format!("tensor `{}` at byte {}: {what}", printable(&tensor.name), tensor.offset);
        Error::new(ErrorKind::Model, text).in_file(gguf.path())
    };
    if tensor.ty != BlockType::F32 {
        return Err(fault(&format!("found type {}, expected F32", tensor.ty)));
    }
    let bytes = gguf.bytes(tensor);
    let mut out = vec![0.0; bytes.len() / 4];
    quant::dequantize(tensor.ty, bytes, &mut out).map_err(|e| fault(&e.to_string()))?;
    Ok(out)
}

/// What is left of an old file.
struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn fault(&self, what: &str) -> Error {
        not_one(&format!("byte {}: {what}", self.at))
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let part = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(part)
    }

    fn length(&mut self, what: &str) -> Result<usize> {
        let bytes = self.take(4).ok_or_else(|| self.fault(&format!("the file ends before {what}")))?;
        let n = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        usize::try_from(n).map_err(|_| self.fault(&format!("{what}: {n}")))
    }

    fn text(&mut self) -> Result<String> {
        let n = self.length("a name")?;
        let bytes = self.take(n).ok_or_else(|| self.fault("the file ends within a name"))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legacy(name: &str, calls: i32, values: &[f32]) -> Vec<u8> {
        let mut bytes = 1i32.to_le_bytes().to_vec();
        let length = |n: usize| i32::try_from(n).unwrap().to_le_bytes();
        bytes.extend(length(name.len()));
        bytes.extend(name.as_bytes());
        bytes.extend(calls.to_le_bytes());
        bytes.extend(length(values.len()));
        bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let path = std::env::temp_dir().join(format!("tealight-imatrix-{}.gguf", std::process::id()));
        let mut imatrix = Imatrix::new(64);
        imatrix.n_chunk = 3;
        imatrix.datasets.push("a text".into());
        imatrix.add("blk.0.x.weight", Entry::new(vec![2.0, 4.0, 6.0, 8.0], vec![2.0, 0.0]).unwrap()).unwrap();
        imatrix.write(&path, &[]).unwrap();
        let found = Imatrix::open(&path);
        fs::remove_file(&path).unwrap();
        let mut found = found.unwrap();
        assert_eq!(found, imatrix);
        let entry = found.entry("blk.0.x.weight").unwrap();
        assert_eq!((entry.importance(0), entry.importance(1)), (vec![1.0, 2.0], vec![1.0, 1.0]));
        assert_eq!(entry.share_used(), 0.5);
        found.merge(imatrix).unwrap();
        let entry = found.entry("blk.0.x.weight").unwrap();
        assert_eq!((entry.importance(0), found.n_chunk), (vec![1.0, 2.0], 6));
        let error = found.add("blk.0.x.weight", Entry::new(vec![1.0], vec![1.0]).unwrap()).unwrap_err();
        assert!(error.to_string().contains("[2, 2] and [1, 1]"), "{error}");
    }

    #[test]
    fn old_files_are_means_times_calls() {
        let mut bytes = legacy("blk.1.y.weight", 4, &[2.0, 12.0]);
        bytes.extend(7i32.to_le_bytes());
        bytes.extend(3i32.to_le_bytes());
        bytes.extend(b"abc");
        let imatrix = Imatrix::of_legacy(&bytes).unwrap();
        assert_eq!(imatrix.entry("blk.1.y.weight").unwrap().importance(0), [0.5, 3.0]);
        assert_eq!((imatrix.n_chunk, &imatrix.datasets[..]), (7, &["abc".to_owned()][..]));
        let of_no_calls = Imatrix::of_legacy(&legacy("z", 0, &[2.0])).unwrap();
        assert_eq!(of_no_calls.entry("z").unwrap().importance(0), [2.0]);
    }

    #[test]
    fn every_cut_of_an_old_file_is_refused() {
        let bytes = legacy("blk.1.y.weight", 4, &[2.0, 12.0]);
        for n in 0..bytes.len() {
            assert_eq!(Imatrix::of_legacy(&bytes[..n]).unwrap_err().kind(), ErrorKind::Model, "{n} bytes");
        }
        for bad in [legacy("x", -1, &[1.0]), legacy("x", 1, &[f32::NAN]), legacy("x", 1, &[-1.0]), legacy("x", 1, &[])]
        {
            assert!(Imatrix::of_legacy(&bad).is_err());
        }
    }
}
