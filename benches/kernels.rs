//! Row products from memory, one thread: GB/s of weight bytes, and the share of plain reading of the
//! same bytes in the same run. `cargo bench --bench kernels -- [FORMAT] [MIB]`; the data (default 600
//! MiB) must be larger than the last cache.
#![allow(clippy::print_stdout)]

#[allow(dead_code)]
#[path = "../src/cpu"]
mod cpu {
    pub mod kernels;
}

use cpu::kernels::{ActivationKind, KernelSet, Row8};
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
    println!("{:>8} {:>7} {:>8} {:>7} {:>9}", "set", "type", "GB/s", "share", "from L2");
    for set in KernelSet::available() {
        for &ty in types.iter().filter(|ty| only.as_ref().is_none_or(|o| o == ty.name())) {
            // what is slow reads less: its rate does not depend on memory
            let is_slow = set.name() == "scalar" || !ty.is_float() && set.activation(ty) == ActivationKind::F32;
            let total = if is_slow { bytes.len().min(32 << 20) } else { bytes.len() };
            let row_bytes = N / ty.block_len() * ty.block_bytes();
            let row = Row::new(&set, ty, &x);
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
    for set in KernelSet::available() {
        println!("{}", activations(&set, &x));
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
            _ => self.set.matvec_q8(self.ty, rows, Row8 { q: &self.q, d: &self.d, sums: &self.sums }, out, &mut Vec::new()),
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
