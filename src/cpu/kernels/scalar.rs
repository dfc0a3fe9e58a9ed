//! The specification of every kernel: plain loops. Integer parts are exact; each block adds one f32
//! to its row's sum.

pub(super) mod attention;
pub(super) mod panel;

use super::{GELU_CUBIC, GELU_SCALE, MatvecF32, Row8, SUM_LEN};
use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use tealight_quant::BlockType;
use tealight_quant::activations::{quantize_32, quantize_256};
use tealight_quant::blocks::k::{BlockQ4K, BlockQ6K, scales_and_mins};
use tealight_quant::blocks::legacy::{BlockQ4_0, BlockQ4_1, BlockQ8_0};
use tealight_quant::blocks::{Block, BlockVisitor, half, visit_blocks};

/// Partial sums of a long f32 sum: enough for the compiler's vectors, and a smaller rounding error.
const N_PARTIAL: usize = 16;

pub(super) fn matvec_f32_f32(rows: &[u8], x: &[f32], out: &mut [f32]) {
    matvec_numbers(rows, x, out, f32::from_le_bytes);
}

pub(super) fn matvec_f16_f32(rows: &[u8], x: &[f32], out: &mut [f32]) {
    matvec_numbers(rows, x, out, |b| f16::from_le_bytes(b).to_f32());
}

pub(super) fn matvec_bf16_f32(rows: &[u8], x: &[f32], out: &mut [f32]) {
    matvec_numbers(rows, x, out, |b| bf16::from_le_bytes(b).to_f32());
}

fn matvec_numbers<const B: usize>(rows: &[u8], x: &[f32], out: &mut [f32], number: impl Fn([u8; B]) -> f32) {
    for (r, out) in out.iter_mut().enumerate() {
        let row = rows[r * B * x.len()..][..B * x.len()].as_chunks::<B>().0;
        *out = sum_products(x.len(), |i| number(row[i]) * x[i]);
    }
}

pub(super) fn matvec_blocks(ty: BlockType) -> Option<MatvecF32> {
    struct Pick;
    impl BlockVisitor for Pick {
        type Output = MatvecF32;
        fn visit<B: Block<N>, const N: usize>(self) -> MatvecF32 {
            matvec_blocks_f32::<B, N>
        }
    }
    visit_blocks(ty, Pick)
}

fn matvec_blocks_f32<B: Block<N>, const N: usize>(rows: &[u8], x: &[f32], out: &mut [f32]) {
    let mut w = [0.0; N];
    each_row(rows, out, |row: &[B]| {
        let blocks = row.iter().zip(x.as_chunks::<N>().0);
        blocks.fold(0.0, |sum, (block, x)| {
            block.dequantize(&mut w);
            sum + sum_products(N, |i| w[i] * x[i])
        })
    });
}

/// Sum of `term(0..n)` in [`N_PARTIAL`] interleaved parts.
fn sum_products(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut parts = [0.0; N_PARTIAL];
    let whole = n / N_PARTIAL * N_PARTIAL;
    for start in (0..whole).step_by(N_PARTIAL) {
        for (lane, part) in parts.iter_mut().enumerate() {
            *part += term(start + lane);
        }
    }
    let tail: f32 = (whole..n).map(term).sum();
    parts.iter().sum::<f32>() + tail
}

/// Calls `dot` for every row, as blocks.
fn each_row<B: Pod>(rows: &[u8], out: &mut [f32], mut dot: impl FnMut(&[B]) -> f32) {
    let row_bytes = rows.len() / out.len().max(1);
    for (r, out) in out.iter_mut().enumerate() {
        *out = dot(bytemuck::cast_slice(&rows[r * row_bytes..][..row_bytes]));
    }
}

fn dot_i8(w: impl Iterator<Item = i8>, q: &[i8]) -> i32 {
    w.zip(q).map(|(w, &q)| i32::from(w) * i32::from(q)).sum()
}

/// Low nibbles, then high nibbles: the order of elements in the 4-bit formats of 32.
fn split_nibbles(qs: &[u8; 16]) -> impl Iterator<Item = i8> {
    qs.iter().map(|&q| (q & 15) as i8).chain(qs.iter().map(|&q| (q >> 4) as i8))
}

pub(super) fn matvec_q4_0_q8_0(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
    each_row(rows, out, |row: &[BlockQ4_0]| {
        let blocks = row.iter().zip(x.q.as_chunks::<{ BlockQ4_0::LEN }>().0).zip(x.d);
        blocks.fold(0.0, |sum, ((w, q), &d)| {
            let dot = dot_i8(split_nibbles(&w.qs).map(|w| w - 8), q);
            sum + half(w.d) * d * dot as f32
        })
    });
}

pub(super) fn matvec_q4_1_q8_0(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
    each_row(rows, out, |row: &[BlockQ4_1]| {
        let sums = x.sums.as_chunks::<{ BlockQ4_1::LEN / SUM_LEN }>().0;
        let blocks = row.iter().zip(x.q.as_chunks::<{ BlockQ4_1::LEN }>().0).zip(x.d.iter().zip(sums));
        blocks.fold(0.0, |sum, ((w, q), (&d, &[s0, s1]))| {
            let dot = dot_i8(split_nibbles(&w.qs), q);
            sum + (half(w.d) * d * dot as f32 + half(w.m) * d * (i32::from(s0) + i32::from(s1)) as f32)
        })
    });
}

pub(super) fn matvec_q8_0_q8_0(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
    each_row(rows, out, |row: &[BlockQ8_0]| {
        let blocks = row.iter().zip(x.q.as_chunks::<{ BlockQ8_0::LEN }>().0).zip(x.d);
        blocks.fold(0.0, |sum, ((w, q), &d)| sum + half(w.d) * d * dot_i8(w.qs.iter().copied(), q) as f32)
    });
}

pub(super) fn matvec_q4_k_q8_k(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
    each_row(rows, out, |row: &[BlockQ4K]| {
        let sums = x.sums.as_chunks::<{ BlockQ4K::LEN / SUM_LEN }>().0;
        let blocks = row.iter().zip(x.q.as_chunks::<{ BlockQ4K::LEN }>().0).zip(x.d.iter().zip(sums));
        blocks.fold(0.0, |sum, ((w, q), (&d, sums))| {
            let (scales, mins) = scales_and_mins(&w.scales);
            let (mut dot, mut min) = (0, 0);
            for (s, q) in q.as_chunks::<32>().0.iter().enumerate() {
                let nibbles = w.qs.as_chunks::<32>().0[s / 2].iter().map(|&w| (w >> (4 * (s % 2)) & 15) as i8);
                dot += i32::from(scales[s]) * dot_i8(nibbles, q);
                min += i32::from(mins[s]) * (i32::from(sums[2 * s]) + i32::from(sums[2 * s + 1]));
            }
            sum + (half(w.d) * d * dot as f32 - half(w.dmin) * d * min as f32)
        })
    });
}

pub(super) fn matvec_q6_k_q8_k(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
    each_row(rows, out, |row: &[BlockQ6K]| {
        let blocks = row.iter().zip(x.q.as_chunks::<{ BlockQ6K::LEN }>().0).zip(x.d);
        blocks.fold(0.0, |sum, ((w, q), &d)| {
            let mut dot = 0;
            for (k, q) in q.as_chunks::<16>().0.iter().enumerate() {
                let (h, j) = (k / 8, k / 2 % 4);
                let low = &w.ql.as_chunks::<16>().0[4 * h + 2 * (j % 2) + k % 2];
                let high = &w.qh.as_chunks::<16>().0[2 * h + k % 2];
                let quants = low
                    .iter()
                    .zip(high)
                    .map(|(&low, &high)| ((low >> (4 * (j / 2)) & 15) | (high >> (2 * j) & 3) << 4) as i8 - 32);
                dot += i32::from(w.scales[k]) * dot_i8(quants, q);
            }
            sum + half(w.d) * d * dot as f32
        })
    });
}

pub(super) fn quantize_q8_0(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    for ((x, q), d) in x.as_chunks().0.iter().zip(q.as_chunks_mut().0).zip(d) {
        let scale;
        (scale, *q) = quantize_32(x);
        *d = f16::from_f32(scale).to_f32();
    }
    sum_quants(q, sums);
}

pub(super) fn quantize_q8_k(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    for ((x, q), d) in x.as_chunks().0.iter().zip(q.as_chunks_mut().0).zip(d) {
        (*d, *q) = quantize_256(x);
    }
    sum_quants(q, sums);
}

fn sum_quants(q: &[i8], sums: &mut [i16]) {
    for (q, sum) in q.as_chunks::<SUM_LEN>().0.iter().zip(sums) {
        *sum = q.iter().map(|&q| i16::from(q)).sum();
    }
}

pub(super) fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    sum_products(a.len(), |i| a[i] * b[i])
}

pub(super) fn axpy_f32(a: f32, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.iter().zip(y) {
        *y += a * x;
    }
}

pub(super) fn scale_f32(a: f32, y: &mut [f32]) {
    for y in y {
        *y *= a;
    }
}

pub(super) fn f32_to_f16(x: &[f32], out: &mut [f16]) {
    out.convert_from_f32_slice(x);
}

pub(super) fn max_f32(x: &[f32]) -> f32 {
    x.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x))
}

pub(super) fn exp_sum(x: &mut [f32], max: f32) -> f32 {
    for x in x.iter_mut() {
        *x = (*x - max).exp();
    }
    sum_products(x.len(), |i| x[i])
}

pub(super) fn silu_mul(gate: &[f32], up: &mut [f32]) {
    for (&gate, up) in gate.iter().zip(up) {
        *up *= gate / (1.0 + (-gate).exp());
    }
}

/// `(1 + tanh(u)) / 2 = 1 / (1 + exp(-2u))`, which does not cancel for negative `u`.
pub(super) fn gelu_mul(gate: &[f32], up: &mut [f32]) {
    for (&gate, up) in gate.iter().zip(up) {
        let u = GELU_SCALE * (gate + GELU_CUBIC * gate * gate * gate);
        *up *= gate / (1.0 + (-2.0 * u).exp());
    }
}
