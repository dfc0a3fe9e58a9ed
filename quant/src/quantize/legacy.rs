//! Q4_0 to Q8_0. Source: `quantize_row_q*_ref` and `quantize_row_q*_impl` of ggml's `ggml-quants.c`.

use super::dispatch::Quantizer;
use super::lanes::Lanes;
use super::rows::{Batch, LANES, Rows, along, sum_of_squares};
use super::search::{Affine, Symmetric, Trials, affine, greatest, symmetric};
use crate::blocks::legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
use half::f16;

/// Elements of a block.
const N: usize = 32;

/// Blocks across lanes.
type Group = [Lanes<LANES>; N];

/// Calls `find` with each batch and, where columns have importance, the weights of its elements; then
/// `pack` with the levels and the index of each block.
#[inline(always)]
fn blocks<T>(
    rows: &Rows<'_>,
    block_bytes: usize,
    out: &mut [u8],
    find: impl Fn(&Batch<'_, N>, Option<&Group>) -> (Group, T),
    pack: impl Fn(&[u8; N], &T, usize, &mut [u8]),
) {
    // ggml weighs by the mean of the whole row here.
    let n_row = if rows.importance.is_some() { rows.x.len() / rows.row_len } else { 0 };
    let energies: Vec<f32> = (0..n_row)
        .map(|row| sum_of_squares(&rows.x[row * rows.row_len..][..rows.row_len]) / rows.row_len as f32)
        .collect();
    let mut first = 0;
    rows.batches::<N>(N, block_bytes, out, |batch, out| {
        let weights = batch.importance.as_ref().map(|q| {
            let mut sigma2 = Lanes::ZERO;
            for (block, sigma2) in sigma2.0.iter_mut().enumerate().take(batch.numbers.len() / N) {
                *sigma2 = energies[(first + block) * N / rows.row_len];
            }
            batch.weights(q, sigma2)
        });
        first += LANES;
        let (levels, found) = find(&batch, weights.as_ref());
        let levels = along(&levels);
        for (i, (levels, out)) in levels.iter().zip(out.chunks_exact_mut(block_bytes)).enumerate() {
            pack(levels, &found, i, out);
        }
    });
}

/// One scale a block: levels 0..2n with n in the middle.
#[inline(always)]
fn around_zero(n: f32, batch: &Batch<'_, N>, weights: Option<&Group>) -> (Group, Lanes<LANES>) {
    if let Some(w) = weights {
        let Symmetric { scale, levels } = symmetric(n, &batch.x, w);
        return (levels, scale);
    }
    let d = greatest(&batch.x) / Lanes::splat(-n);
    let (inverse, offset) = (d.inverse(), Lanes::splat(n + 0.5));
    let mut levels = batch.x;
    for level in &mut levels {
        *level = (*level * inverse + offset).floor().level(0.0, 2.0 * n - 1.0);
    }
    (levels, d)
}

/// Scale and minimum: levels 0..=n.
#[inline(always)]
fn above_minimum(n: f32, batch: &Batch<'_, N>, weights: Option<&Group>) -> (Group, (Lanes<LANES>, Lanes<LANES>)) {
    if let Some(w) = weights {
        let Affine { scale, min, levels } = affine(n, &batch.x, w, Trials::WEIGHTED);
        return (levels, (scale, -min));
    }
    let (mut min, mut max) = (batch.x[0], batch.x[0]);
    for &x in &batch.x {
        min = x.min(min);
        max = x.max(max);
    }
    let d = (max - min) / Lanes::splat(n);
    let inverse = d.inverse();
    let mut levels = batch.x;
    for level in &mut levels {
        *level = ((*level - min) * inverse + Lanes::splat(0.5)).floor().level(0.0, n);
    }
    (levels, (d, min))
}

#[inline(always)]
fn half(v: f32) -> [u8; 2] {
    f16::from_f32(v).to_le_bytes()
}

/// Byte j: element j in the low nibble, element j + 16 in the high one.
#[inline(always)]
pub(super) fn split_nibbles(levels: &[u8; N]) -> [u8; 16] {
    let mut out = [0; 16];
    for (j, out) in out.iter_mut().enumerate() {
        *out = (levels[j] & 15) | levels[j + 16] << 4;
    }
    out
}

/// Bit i: the fifth bit of element i.
#[inline(always)]
fn fifth_bits(levels: &[u8; N]) -> [u8; 4] {
    let bit = |(i, &level): (usize, &u8)| u32::from(level >> 4 & 1) << i;
    levels.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit).to_le_bytes()
}

pub(super) struct Q4_0;

impl Quantizer for Q4_0 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let find = |batch: &Batch<'_, N>, w: Option<&Group>| around_zero(8.0, batch, w);
        blocks(rows, size_of::<BlockQ4_0>(), out, find, |levels, d, i, out| {
            *bytemuck::from_bytes_mut(out) = BlockQ4_0 { d: half(d.0[i]), qs: split_nibbles(levels) };
        });
    }
}

pub(super) struct Q4_1;

impl Quantizer for Q4_1 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let find = |batch: &Batch<'_, N>, w: Option<&Group>| above_minimum(15.0, batch, w);
        blocks(rows, size_of::<BlockQ4_1>(), out, find, |levels, (d, m), i, out| {
            *bytemuck::from_bytes_mut(out) = BlockQ4_1 { d: half(d.0[i]), m: half(m.0[i]), qs: split_nibbles(levels) };
        });
    }
}

pub(super) struct Q5_0;

impl Quantizer for Q5_0 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let find = |batch: &Batch<'_, N>, w: Option<&Group>| around_zero(16.0, batch, w);
        blocks(rows, size_of::<BlockQ5_0>(), out, find, |levels, d, i, out| {
            *bytemuck::from_bytes_mut(out) =
                BlockQ5_0 { d: half(d.0[i]), qh: fifth_bits(levels), qs: split_nibbles(levels) };
        });
    }
}

pub(super) struct Q5_1;

impl Quantizer for Q5_1 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let find = |batch: &Batch<'_, N>, w: Option<&Group>| above_minimum(31.0, batch, w);
        blocks(rows, size_of::<BlockQ5_1>(), out, find, |levels, (d, m), i, out| {
            let (d, m) = (half(d.0[i]), half(m.0[i]));
            *bytemuck::from_bytes_mut(out) = BlockQ5_1 { d, m, qh: fifth_bits(levels), qs: split_nibbles(levels) };
        });
    }
}

pub(super) struct Q8_0;

impl Quantizer for Q8_0 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let rows = Rows { importance: None, ..*rows };
        let find = |batch: &Batch<'_, N>, _: Option<&Group>| {
            let d = greatest(&batch.x).abs() / Lanes::splat(127.0);
            let inverse = d.inverse();
            let mut levels = batch.x;
            for level in &mut levels {
                *level = (*level * inverse).rounded_away();
            }
            (levels, d)
        };
        blocks(&rows, size_of::<BlockQ8_0>(), out, find, |levels, d, i, out| {
            *bytemuck::from_bytes_mut(out) = BlockQ8_0 { d: half(d.0[i]), qs: levels.map(|q| q as i8) };
        });
    }
}
