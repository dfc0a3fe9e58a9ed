//! Kernels measured alone, format by format, beside the limits of the same moment: what `tealight bench --kernels`
//! and `benches/kernels.rs` print. No model is needed.

use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use memmap2::MmapMut;
use tealight_quant::BlockType;

use super::kernels::{ActivationKind, KernelSet, PANEL_COLS, PANEL_ROWS, Panel, Peak, Row8, Rows8};
use super::limits::{best_seconds, peak_rate, read_rate};
use super::pool::Team;
use crate::error::{Error, ErrorKind, Result};
use crate::knobs::Knobs;

/// Elements of a row: a model of about a billion parameters.
const N: usize = 2048;
/// Rows of weights that are multiplied with many of activations.
const PROMPT_ROWS: usize = 512;
/// Rows of activations of prompts.
pub const PROMPT_TOKENS: [usize; 4] = [512, 128, 32, 8];
/// Bytes of a chunk of row products, as executed.
const CHUNK_BYTES: usize = 128 << 10;
/// What a core's second cache holds with room to spare.
const CACHE_BYTES: usize = 512 << 10;
/// What kernels read whose speed does not depend on memory.
const SLOW_BYTES: usize = 16 << 20;
/// Pairs of measurements; the best counts.
const N_RUN: usize = 5;

/// Threads and weights for measuring kernels.
pub struct KernelBench {
    team: Team,
    /// Any blocks of any format, from memory.
    memory: MmapMut,
    /// A row of activations, `[N]`.
    x: Vec<f32>,
    panels: Vec<Mutex<PanelScratch>>,
}

/// What one thread unpacks to.
struct PanelScratch {
    panel: Box<Panel>,
    c: Vec<[f32; PANEL_ROWS]>,
}

/// Row products of one format.
#[derive(Clone, Copy, Debug)]
pub struct DecodeSpeed {
    /// Bytes of weights per second from memory.
    pub bytes_per_s: f64,
    /// The same from the second cache, one thread.
    pub cached_bytes_per_s: f64,
    /// Plain reading of all the memory.
    pub read_bytes_per_s: f64,
}

/// Products with many rows of activations.
#[derive(Clone, Copy, Debug)]
pub struct PromptSpeed {
    /// Products per second, by [`PROMPT_TOKENS`].
    pub macs_per_s: [f64; PROMPT_TOKENS.len()],
    /// The instruction set's limit.
    pub peak_macs_per_s: f64,
}

impl KernelBench {
    /// For `n_threads` threads and weights of so many MiB, which should exceed the last cache; 0 for products from
    /// caches alone.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`] when memory or threads are missing.
    pub fn new(n_threads: usize, mib: usize) -> Result<Self> {
        let n_bytes = mib.saturating_mul(1 << 20).max(CACHE_BYTES);
        let mut memory = MmapMut::map_anon(n_bytes)
            .map_err(|e| Error::new(ErrorKind::Memory, format!("no room for {mib} MiB: {e}")).caused_by(e))?;
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let mut state = 1u64;
        for chunk in memory.as_chunks_mut::<8>().0 {
            state = next(state);
            // Halves and singles are neither infinite nor subnormal, wherever they lie.
            *chunk = (state & 0x3b3b_3b3b_3b3b_3b3b | 0x3030_3030_3030_3030).to_le_bytes();
        }
        let team = Team::new(n_threads, Knobs::default().spins)?;
        let scratch = || Mutex::new(PanelScratch { panel: Panel::new(), c: vec![[0.0; PANEL_ROWS]; PROMPT_TOKENS[0]] });
        let panels = (0..team.n_threads()).map(|_| scratch()).collect();
        Ok(Self { team, memory, x: (0..N).map(wave).collect(), panels })
    }

    /// Threads that are measured.
    pub fn n_threads(&self) -> usize {
        self.team.n_threads()
    }

    /// Instruction sets of this machine, best first.
    pub fn sets() -> Vec<&'static str> {
        KernelSet::available().iter().map(KernelSet::name).collect()
    }

    /// Formats of weights.
    pub fn types() -> Vec<BlockType> {
        let is_weight = |ty: &&BlockType| ty.is_float() || ty.block_len() > 1;
        BlockType::ALL.iter().filter(is_weight).copied().collect()
    }

    /// Rows of one format times one row of activations.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an instruction set that this machine lacks.
    pub fn decode(&self, set: &str, ty: BlockType) -> Result<DecodeSpeed> {
        let set = set_of(set)?;
        // What is slow reads less: its rate does not depend on memory.
        let is_slow = set.name() == "scalar";
        let n_bytes = if is_slow { self.memory.len().min(SLOW_BYTES) } else { self.memory.len() };
        let row_bytes = row_bytes(ty);
        let rows = &self.memory[..n_bytes / row_bytes * row_bytes];
        let row = Row::new(&set, ty, &self.x);
        let chunk_rows = CHUNK_BYTES.div_ceil(row_bytes).max(rows.len() / row_bytes / 32_000);
        let chunks: Vec<&[u8]> = rows.chunks(chunk_rows * row_bytes).collect();
        let results = || Mutex::new(vec![0.0; chunk_rows]);
        let results: Vec<_> = (0..self.team.n_threads()).map(|_| results()).collect();
        let work = |thread: usize, chunk: usize| {
            let rows = chunks[chunk];
            row.matvec(rows, &mut locked(&results[thread])[..rows.len() / row_bytes]);
        };
        let (mut bytes_per_s, mut read_bytes_per_s) = (0f64, 0f64);
        for _ in 0..if is_slow { 1 } else { N_RUN } {
            read_bytes_per_s = read_bytes_per_s.max(read_rate(&self.team, &[&self.memory])?);
            bytes_per_s = bytes_per_s.max(rows.len() as f64 / best_seconds(&self.team, 1, chunks.len(), work)?);
        }
        let few = &rows[..CACHE_BYTES.min(rows.len()) / row_bytes * row_bytes];
        let mut out = vec![0.0; few.len() / row_bytes];
        let near = seconds(if is_slow { 5 } else { 50 }, || row.matvec(few, &mut out));
        Ok(DecodeSpeed { bytes_per_s, cached_bytes_per_s: few.len() as f64 / near, read_bytes_per_s })
    }

    /// Rows of one format times many rows of activations; `None` where the set unpacks no such format.
    ///
    /// # Errors
    /// As [`KernelBench::decode`].
    pub fn prompt(&self, set: &str, ty: BlockType) -> Result<Option<PromptSpeed>> {
        let set = set_of(set)?;
        let of = if ty.is_float() { Peak::F32 } else { Peak::Int8 };
        if !(set.has_panels(ty) || set.has_f32_panels(ty)) || set.peak(of, 1).is_none() {
            return Ok(None);
        }
        let row_bytes = row_bytes(ty);
        let mut state = 1u64;
        let weights: Vec<u8> = std::iter::repeat_with(|| {
            state = next(state);
            (state >> 40) as u8 & 0x3b | 0x10
        })
        .take(PROMPT_ROWS * row_bytes)
        .collect();
        let chunks: Vec<&[u8]> = weights.chunks(PANEL_ROWS * row_bytes).collect();
        let (mut peak, mut macs_per_s) = (0f64, [0f64; PROMPT_TOKENS.len()]);
        for (rate, m) in macs_per_s.iter_mut().zip(PROMPT_TOKENS) {
            peak = peak.max(peak_rate(&self.team, &set, of)?.unwrap_or(0.0));
            let x: Vec<f32> = (0..m * N).map(wave).collect();
            let batch = Batch::new(&set, ty, &x);
            let work = |thread: usize, chunk: usize| {
                let scratch = &mut *locked(&self.panels[thread]);
                batch.matmul(chunks[chunk], &mut scratch.panel, &mut scratch.c[..m]);
                black_box(&mut scratch.c);
            };
            let seconds = best_seconds(&self.team, 4 + 512 / m, chunks.len(), work)?;
            *rate = (PROMPT_ROWS * N * m) as f64 / seconds;
        }
        peak = peak.max(peak_rate(&self.team, &set, of)?.unwrap_or(0.0));
        Ok(Some(PromptSpeed { macs_per_s, peak_macs_per_s: peak }))
    }

    /// Seconds that the work on a row of activations takes, by the name of the kernel: one thread, from caches.
    ///
    /// # Errors
    /// As [`KernelBench::decode`].
    pub fn activations(&self, set: &str) -> Result<Vec<(&'static str, f64)>> {
        let (set, x) = (set_of(set)?, &self.x[..]);
        let (mut q, mut d, mut sums) = (vec![0; N], vec![0.0; N / 32], vec![0; N / 16]);
        let mut out = vec![0.0; N];
        Ok(vec![
            ("quantize_q8_0", seconds(200, || set.quantize_q8_0(x, &mut q, &mut d, &mut sums))),
            ("quantize_q8_k", seconds(200, || set.quantize_q8_k(x, &mut q, &mut d[..N / 256], &mut sums))),
            ("silu_mul", seconds(200, || set.silu_mul(x, &mut out))),
            (
                "exp_sum",
                seconds(200, || {
                    black_box(set.exp_sum(&mut out, 1.0));
                }),
            ),
        ])
    }
}

/// Activations of many tokens as the type wants them, block by block.
struct Batch<'a> {
    set: &'a KernelSet,
    ty: BlockType,
    x: Vec<&'a [f32]>,
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
}

impl<'a> Batch<'a> {
    fn new(set: &'a KernelSet, ty: BlockType, x: &'a [f32]) -> Self {
        let (kind, m) = (set.activation(ty), x.len() / N);
        let per_scale = kind.block_len();
        let (mut q, mut d, mut sums) = (vec![0; x.len()], vec![0.0; x.len() / per_scale], vec![0; x.len() / 16]);
        for (i, x) in x.chunks_exact(PANEL_COLS).enumerate() {
            let start = (i % (N / PANEL_COLS) * m + i / (N / PANEL_COLS)) * PANEL_COLS;
            let end = start + PANEL_COLS;
            let q = &mut q[start..end];
            quantize(set, kind, x, q, &mut d[start / per_scale..end / per_scale], &mut sums[start / 16..end / 16]);
        }
        Self { set, ty, x: x.chunks_exact(N).collect(), q, d, sums }
    }

    fn matmul(&self, rows: &[u8], panel: &mut Panel, c: &mut [[f32; PANEL_ROWS]]) {
        let (kind, m) = (self.set.activation(self.ty), self.x.len());
        if kind == ActivationKind::F32 {
            return self.set.matmul_f32(self.ty, rows, &self.x, panel, c);
        }
        let (token_stride, block_stride) = (PANEL_COLS, PANEL_COLS * m);
        let x = Rows8 { q: &self.q, d: &self.d, sums: &self.sums, kind, n: N, token_stride, block_stride };
        self.set.matmul_q8(self.ty, rows, &x, 0..m, panel, c);
    }
}

/// Activations of one token as the type wants them.
struct Row<'a> {
    set: &'a KernelSet,
    ty: BlockType,
    x: &'a [f32],
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
}

impl<'a> Row<'a> {
    fn new(set: &'a KernelSet, ty: BlockType, x: &'a [f32]) -> Self {
        let kind = set.activation(ty);
        let (mut q, mut d, mut sums) = (vec![0; N], vec![0.0; N / kind.block_len()], vec![0; N / 16]);
        quantize(set, kind, x, &mut q, &mut d, &mut sums);
        Self { set, ty, x, q, d, sums }
    }

    fn matvec(&self, rows: &[u8], out: &mut [f32]) {
        match self.set.activation(self.ty) {
            ActivationKind::F32 => self.set.matvec_f32(self.ty, rows, self.x, out, &mut Vec::new()),
            _ => {
                let x = Row8 { q: &self.q, d: &self.d, sums: &self.sums };
                self.set.matvec_q8(self.ty, rows, x, out);
            }
        }
        black_box(out);
    }
}

fn quantize(set: &KernelSet, kind: ActivationKind, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    match kind {
        ActivationKind::F32 => {}
        ActivationKind::Q8_0 => set.quantize_q8_0(x, q, d, sums),
        ActivationKind::Q8K => set.quantize_q8_k(x, q, d, sums),
    }
}

fn set_of(name: &str) -> Result<KernelSet> {
    let lacks = || Error::new(ErrorKind::Usage, format!("this CPU has no kernels `{name}`"));
    KernelSet::by_name(name).ok_or_else(lacks)
}

fn row_bytes(ty: BlockType) -> usize {
    N / ty.block_len() * ty.block_bytes()
}

/// Knuth's multiplier; the high half is random enough.
fn next(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

fn wave(i: usize) -> f32 {
    (i as f32 * 0.37).sin()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The least seconds of `n` runs.
fn seconds(n: usize, mut f: impl FnMut()) -> f64 {
    let once = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..n).map(once).fold(f64::MAX, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_measured_on_every_set() {
        let bench = KernelBench::new(2, 0).unwrap();
        let is_rate = |rate: f64| rate > 0.0 && rate.is_finite();
        for set in KernelBench::sets() {
            for ty in [BlockType::Q4K, BlockType::Q8_0, BlockType::F16, BlockType::Iq2Xxs] {
                let decode = bench.decode(set, ty).unwrap();
                let rates = [decode.bytes_per_s, decode.cached_bytes_per_s, decode.read_bytes_per_s];
                assert!(rates.into_iter().all(is_rate), "{set} {ty}: {decode:?}");
                if let Some(prompt) = bench.prompt(set, ty).unwrap() {
                    assert!(
                        is_rate(prompt.peak_macs_per_s) && prompt.macs_per_s.into_iter().all(is_rate),
                        "{set} {ty}"
                    );
                } else {
                    assert!(set == "scalar" || ty == BlockType::Iq2Xxs, "{set} {ty}");
                }
            }
            assert!(bench.activations(set).unwrap().iter().all(|(_, seconds)| *seconds >= 0.0));
        }
        assert_eq!(bench.decode("mmx", BlockType::Q8_0).unwrap_err().kind(), ErrorKind::Usage);
    }
}
