//! A file of log-probabilities, llama-perplexity's `--kl-divergence-base`: `_logits_`, then in 32 bits the tokens of
//! a chunk, the size of the vocabulary, the number of chunks, the tokens of all chunks; then for every scored token a
//! row of the whole vocabulary: step and least log-probability in f32, and 16 bits for each token, padded to an even
//! number. Log-probabilities more than 16 below the greatest are lost. Source of the format: llama.cpp's
//! `tools/perplexity`. Little-endian.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use tealight::gguf::AtomicFile;
use tealight::{Error, ErrorKind, Result};

use super::{Chunks, log_sum_exp};

const MAGIC: &[u8; 8] = b"_logits_";
/// Greatest distance from the greatest logit that a row keeps.
const DEPTH: f32 = 16.0;

/// Bytes of a row.
fn row_bytes(n_vocab: usize) -> usize {
    8 + 2 * n_vocab.next_multiple_of(2)
}

/// Writes such a file.
pub(super) struct BaseWriter {
    file: AtomicFile,
    n_vocab: usize,
    bytes: Vec<u8>,
}

impl BaseWriter {
    /// Begins with all tokens of all chunks.
    pub(super) fn begin(file: AtomicFile, n_ctx: u32, n_vocab: usize, tokens: &[u32]) -> Result<Self> {
        let mut head = MAGIC.to_vec();
        for n in [n_ctx, n_vocab as u32, tokens.len() as u32 / n_ctx] {
            head.extend(n.to_le_bytes());
        }
        head.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
        let mut writer = Self { file, n_vocab, bytes: Vec::new() };
        writer.write(&head)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let destination = self.file.destination().to_owned();
        self.file.write_all(bytes).map_err(|e| Error::io("cannot write", &destination, e))
    }

    /// Appends the log-probabilities of a scored token.
    pub(super) fn row(&mut self, logits: &[f32]) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        encode(logits, &mut bytes);
        bytes.resize(row_bytes(self.n_vocab), 0);
        let written = self.write(&bytes);
        self.bytes = bytes;
        written
    }

    /// The file, complete but for its commit.
    pub(super) fn finish(self) -> Result<AtomicFile> {
        Ok(self.file)
    }
}

fn encode(logits: &[f32], out: &mut Vec<u8>) {
    let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
    for &x in logits {
        (min, max) = (min.min(x), max.max(x));
    }
    let min = min.max(max - DEPTH);
    let least = (f64::from(min) - log_sum_exp(logits)) as f32;
    let step = (max - min) / 65535.0;
    out.extend(step.to_le_bytes());
    out.extend(least.to_le_bytes());
    let per_step = if step > 0.0 { 1.0 / step } else { 0.0 };
    for &x in logits {
        let code = if x > min { (per_step * (x - min)).round_ties_even() as u16 } else { 0 };
        out.extend(code.to_le_bytes());
    }
}

/// Log-probabilities of a row; -infinity where they are lost.
fn decode(bytes: &[u8], n_vocab: usize, out: &mut Vec<f32>) {
    let number = |at: usize| f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (step, least) = (number(0), number(4));
    let codes = bytes[8..].as_chunks::<2>().0.iter().take(n_vocab);
    out.clear();
    out.extend(codes.map(|c| {
        let p = f32::from(u16::from_le_bytes(*c)) * step + least;
        if p > -DEPTH { p } else { f32::NEG_INFINITY }
    }));
}

/// Reads such a file.
pub(super) struct BaseReader {
    file: BufReader<File>,
    path: PathBuf,
    n_ctx: usize,
    n_vocab: usize,
    n_chunk: usize,
    bytes: Vec<u8>,
}

impl BaseReader {
    /// Opens a file and checks that it is as long as it says.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let cannot = |e: io::Error| Error::io("cannot read", path, e);
        let refuse = |what: &str| {
            Err(Error::new(ErrorKind::Usage, what.to_owned())
                .in_file(path)
                .with_hint("write one by `tealight perplexity BASE_MODEL -f TEXT --kl-divergence-base FILE`"))
        };
        let file = File::open(path).map_err(cannot)?;
        let len = file.metadata().map_err(cannot)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut head = [0; 20];
        if len < head.len() as u64 || {
            file.read_exact(&mut head).map_err(cannot)?;
            &head[..8] != MAGIC
        } {
            return refuse("not a file of log-probabilities");
        }
        let number = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let [n_ctx, n_vocab, n_chunk] = [number(8), number(12), number(16)];
        // Numbers of 32 bits: no product of these passes 128.
        let [c, v, k] = [n_ctx, n_vocab, n_chunk].map(u128::from);
        let rows = k * c.saturating_sub(1 + c / 2) * (8 + 2 * v.next_multiple_of(2));
        let expected = 20 + 4 * k * c + rows;
        if c < 4 || v == 0 || k == 0 || expected != u128::from(len) {
            let text = format!(
                "{n_chunk} chunks of {n_ctx} tokens and {n_vocab} log-probabilities make {expected} bytes, found {len}"
            );
            return refuse(&text);
        }
        let [n_ctx, n_vocab, n_chunk] = [n_ctx, n_vocab, n_chunk].map(|n| n as usize);
        Ok(Self { file, path: path.to_owned(), n_ctx, n_vocab, n_chunk, bytes: Vec::new() })
    }

    /// The tokens, for a model of `n_vocab` logits.
    pub(super) fn begin(&mut self, n_vocab: usize) -> Result<Chunks> {
        if n_vocab != self.n_vocab {
            let text = format!("log-probabilities of {} tokens; the model has {n_vocab}", self.n_vocab);
            let hint = "compare models with the same vocabulary";
            return Err(Error::new(ErrorKind::Usage, text).in_file(&self.path).with_hint(hint));
        }
        let mut bytes = vec![0; 4 * self.n_ctx * self.n_chunk];
        self.read(&mut bytes)?;
        let tokens: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        Ok(Chunks { tokens, n_ctx: self.n_ctx })
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes).map_err(|e| Error::io("cannot read", &self.path, e))
    }

    /// The log-probabilities of the next scored token, `[n_vocab]`.
    pub(super) fn row(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(row_bytes(self.n_vocab), 0);
        let read = self.read(&mut bytes);
        decode(&bytes, self.n_vocab, out);
        self.bytes = bytes;
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_log_probabilities_down_to_sixteen_below_the_greatest() {
        let logits = [1.0, 4.5, -3.25, -40.0, 0.0];
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        encode(&logits, &mut bytes);
        assert_eq!(bytes.len(), 8 + 2 * 5);
        decode(&bytes, 5, &mut found);
        let norm = log_sum_exp(&logits);
        for (i, (found, logit)) in found.iter().zip(logits).enumerate() {
            let expected = f64::from(logit) - norm;
            match i {
                3 => assert_eq!(*found, f32::NEG_INFINITY),
                _ => assert!((f64::from(*found) - expected).abs() < 16.0 / 65535.0, "{i}: {found} {expected}"),
            }
        }
        assert_eq!(row_bytes(5), 8 + 2 * 6);
    }

    #[test]
    fn equal_logits_have_no_step() {
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        encode(&[2.0; 8], &mut bytes);
        decode(&bytes, 8, &mut found);
        assert!(found.iter().all(|p| (p + 8f32.ln()).abs() < 1e-6), "{found:?}");
    }
}
