//! Row products from memory, one thread: GB/s of weight bytes, and the share of plain reading of the
//! same bytes in the same run. `cargo bench --bench kernels -- [FORMAT] [MIB]`; the data (default 600
//! MiB) must be larger than the last cache. Then products of panels: GMAC/s for 512, 128, 32 and 8
//! activation rows, and the share of the limit of the set's products in the same run. With 0 MiB panels
//! alone.
#![allow(clippy::print_stdout)]

#[allow(dead_code, unused_imports)]
#[path = "../src/cpu"]
mod cpu {
    pub mod kernels;
    pub mod limits;
}

use cpu::kernels::{ActivationKind, KernelSet, PANEL_COLS, PANEL_ROWS, Panel, Peak, Row8, Rows8};
use std::time::Instant;
use tealight_quant::BlockType;

/// Elements of a row: a model of about a billion parameters.
const N: usize = 2048;
/// Repetitions; the best counts.
const N_RUN: usize = 5;

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let only = args.next().filter(|a| a != "all");
    let mib: usize = args.next().map_or(600, |a| a.parse().expect("MiB is a number"));
    let mut bytes = vec![0u8; mib << 20];
    let mut state = 1u64;
    for chunk in bytes.as_chunks_mut::<8>().0 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // halves and singles are neither infinite nor subnormal, wherever they lie
        *chunk = (state & 0x3b3b_3b3b_3b3b_3b3b | 0x3030_3030_3030_3030).to_le_bytes();
    }
    let x: Vec<f32> = (0..N).map(|i| (i as f32 * 0.37).sin()).collect();
    let types = |ty: &&BlockType| ty.is_float() || ty.block_len() > 1;
    let types: Vec<BlockType> = BlockType::ALL.iter().filter(types).copied().collect();
    if mib > 0 {
        row_products(&types, only.as_deref(), &bytes, &x);
        for set in KernelSet::available() {
            println!("{}", activations(&set, &x));
        }
    }
    panels(&types, only.as_deref());
}

/// Rows times one row of activations, from memory and from the second cache.
fn row_products(types: &[BlockType], only: Option<&str>, bytes: &[u8], x: &[f32]) {
    println!("{:>8} {:>7} {:>8} {:>7} {:>9}", "set", "type", "GB/s", "share", "from L2");
    for set in KernelSet::available() {
        for &ty in types.iter().filter(|ty| only.is_none_or(|o| o == ty.name())) {
            // what is slow reads less: its rate does not depend on memory
            let is_slow = set.name() == "scalar" || !ty.is_float() && !set.has_matvec_q8(ty);
            let total = if is_slow { bytes.len().min(32 << 20) } else { bytes.len() };
            let row_bytes = N / ty.block_len() * ty.block_bytes();
            let row = Row::new(&set, ty, x);
            let rows = &bytes[..total / row_bytes * row_bytes];
            let mut out = vec![0.0; total / row_bytes];
            let (mut rate, mut plain) = (0f64, 0f64);
            for _ in 0..N_RUN {
                plain = plain.max(rate_of(rows.len(), || read(rows)));
                rate = rate.max(rate_of(rows.len(), || row.matvec(rows, &mut out)));
            }
            let few = (512 << 10) / row_bytes;
            let near =
                (0..50).map(|_| rate_of(few * row_bytes, || row.matvec(&rows[..few * row_bytes], &mut out[..few])));
            let near = near.fold(0.0, f64::max);
            println!("{:>8} {ty:>7} {rate:>8.2} {:>6.0}% {near:>9.2}", set.name(), 100.0 * rate / plain);
        }
    }
}

/// 512 rows of weights times several of activations.
fn panels(types: &[BlockType], only: Option<&str>) {
    const N_ROW: usize = 512;
    println!("{:>8} {:>7}  GMAC/s and share of the limit for 512, 128, 32, 8 rows of activations", "set", "type");
    let mut state = 1u64;
    for set in KernelSet::available().iter().filter(|set| set.peak(Peak::F32, 1).is_some()) {
        let has_panels = |ty: &&BlockType| set.has_panels(**ty) || set.has_f32_panels(**ty);
        for &ty in types.iter().filter(has_panels).filter(|ty| only.is_none_or(|o| o == ty.name())) {
            let row_bytes = N / ty.block_len() * ty.block_bytes();
            let mut bytes = vec![0u8; N_ROW * row_bytes];
            bytes.fill_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as u8 & 0x3b | 0x10
            });
            let of = if ty.is_float() { Peak::F32 } else { Peak::Int8 };
            let peak = cpu::limits::peak(set, of, 50, |f| seconds(f)).expect("the set has these products");
            let rates = [512, 128, 32, 8].map(|m| {
                let x: Vec<f32> = (0..m * N).map(|i| (i as f32 * 0.37).sin()).collect();
                let batch = Batch::new(set, ty, &x);
                let (mut panel, mut c) = (Panel::new(), vec![[0.0; PANEL_ROWS]; m]);
                let best = (0..4 + 512 / m).map(|_| {
                    seconds(|| {
                        for rows in bytes.chunks(PANEL_ROWS * row_bytes) {
                            batch.matmul(rows, &mut panel, &mut c);
                            std::hint::black_box(&mut c);
                        }
                    })
                });
                (N_ROW * N * m) as f64 / best.fold(f64::MAX, f64::min)
            });
            let rates = rates.map(|rate| format!("{:>6.1} {:>3.0}%", rate / 1e9, 100.0 * rate / peak));
            println!("{:>8} {ty:>7}  {}  of {:.0}", set.name(), rates.join("  "), peak / 1e9);
        }
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
            let (d, sums) = (&mut d[start / per_scale..end / per_scale], &mut sums[start / 16..end / 16]);
            match kind {
                ActivationKind::F32 => {}
                ActivationKind::Q8_0 => set.quantize_q8_0(x, q, d, sums),
                ActivationKind::Q8K => set.quantize_q8_k(x, q, d, sums),
            }
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

/// Activations as the type wants them.
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
        match kind {
            ActivationKind::F32 => {}
            ActivationKind::Q8_0 => set.quantize_q8_0(x, &mut q, &mut d, &mut sums),
            ActivationKind::Q8K => set.quantize_q8_k(x, &mut q, &mut d, &mut sums),
        }
        Self { set, ty, x, q, d, sums }
    }

    fn matvec(&self, rows: &[u8], out: &mut [f32]) {
        match self.set.activation(self.ty) {
            ActivationKind::F32 => self.set.matvec_f32(self.ty, rows, self.x, out, &mut Vec::new()),
            _ => {
                let x = Row8 { q: &self.q, d: &self.d, sums: &self.sums };
                self.set.matvec_q8(self.ty, rows, x, out, &mut Vec::new());
            }
        }
        std::hint::black_box(out);
    }
}

/// Microseconds for a row of [`N`].
fn activations(set: &KernelSet, x: &[f32]) -> String {
    let (mut q, mut d, mut sums) = (vec![0; N], vec![0.0; N / 32], vec![0; N / 16]);
    let mut out = vec![0.0; N];
    let q8_0 = best_us(|| set.quantize_q8_0(x, &mut q, &mut d, &mut sums));
    let q8_k = best_us(|| set.quantize_q8_k(x, &mut q, &mut d[..N / 256], &mut sums));
    let silu = best_us(|| set.silu_mul(x, &mut out));
    let exp = best_us(|| {
        std::hint::black_box(set.exp_sum(&mut out, 1.0));
    });
    format!(
        "{:>8}: {N} numbers, us: quantize_q8_0 {q8_0:.2}, quantize_q8_k {q8_k:.2}, silu_mul {silu:.2}, exp_sum {exp:.2}",
        set.name()
    )
}

fn best_us(mut f: impl FnMut()) -> f64 {
    (0..200).map(|_| seconds(&mut f) * 1e6).fold(f64::MAX, f64::min)
}

fn rate_of(n_bytes: usize, f: impl FnOnce()) -> f64 {
    n_bytes as f64 / seconds(f) / 1e9
}

fn seconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

/// Reads every byte, a cache line as eight independent sums.
fn read(bytes: &[u8]) {
    let mut sums = [0u64; 8];
    for line in bytes.as_chunks::<64>().0 {
        for (sum, &word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(word));
        }
    }
    std::hint::black_box(sums);
}
