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

/// A format of blocks of 32.
trait Format {
    const BLOCK_BYTES: usize;
    /// What a block has beside levels.
    type Scale;

    /// The levels of 32 elements and the scales, for blocks across lanes.
    fn find(batch: &Batch<'_, N>, weights: Option<&Group>) -> (Group, Self::Scale);

    /// Writes the block of lane `i`.
    fn pack(levels: &[u8; N], scale: &Self::Scale, i: usize, out: &mut [u8]);
}

#[inline(always)]
fn blocks<F: Format>(rows: &Rows<'_>, out: &mut [u8]) {
    // ggml weighs by the mean of the whole row here.
    let n_row = if rows.importance.is_some() { rows.x.len() / rows.row_len } else { 0 };
    let energies: Vec<f32> = (0..n_row)
        .map(|row| sum_of_squares(&rows.x[row * rows.row_len..][..rows.row_len]) / rows.row_len as f32)
        .collect();
    for (batch, out) in rows.batches::<N>(N, F::BLOCK_BYTES, out) {
        let weights = batch.importance.as_ref().map(|q| {
            let mut sigma2 = Lanes::ZERO;
            for (block, sigma2) in sigma2.0.iter_mut().enumerate().take(batch.numbers.len() / N) {
                *sigma2 = energies[(batch.first + block * N) / rows.row_len];
            }
            batch.weights(q, sigma2)
        });
        let (levels, scale) = F::find(&batch, weights.as_ref());
        let levels = along(&levels);
        for (i, (levels, out)) in levels.iter().zip(out.chunks_exact_mut(F::BLOCK_BYTES)).enumerate() {
            F::pack(levels, &scale, i, out);
        }
    }
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

/// Implements [`Quantizer`] for the format.
macro_rules! quantizers {
    ($($name:ident)*) => {
        $(pub(super) struct $name;

        impl Quantizer for $name {
            #[inline(always)]
            fn run(rows: &Rows<'_>, out: &mut [u8]) {
                blocks::<Self>(rows, out);
            }
        })*
    };
}

quantizers! { Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 }

impl Format for Q4_0 {
    const BLOCK_BYTES: usize = size_of::<BlockQ4_0>();
    type Scale = Lanes<LANES>;

    #[inline(always)]
    fn find(batch: &Batch<'_, N>, weights: Option<&Group>) -> (Group, Self::Scale) {
        around_zero(8.0, batch, weights)
    }

    #[inline(always)]
    fn pack(levels: &[u8; N], d: &Self::Scale, i: usize, out: &mut [u8]) {
        *bytemuck::from_bytes_mut(out) = BlockQ4_0 { d: half(d.0[i]), qs: split_nibbles(levels) };
    }
}

impl Format for Q4_1 {
    const BLOCK_BYTES: usize = size_of::<BlockQ4_1>();
    type Scale = (Lanes<LANES>, Lanes<LANES>);

    #[inline(always)]
    fn find(batch: &Batch<'_, N>, weights: Option<&Group>) -> (Group, Self::Scale) {
        above_minimum(15.0, batch, weights)
    }

    #[inline(always)]
    fn pack(levels: &[u8; N], (d, m): &Self::Scale, i: usize, out: &mut [u8]) {
        let (d, m) = (half(d.0[i]), half(m.0[i]));
        *bytemuck::from_bytes_mut(out) = BlockQ4_1 { d, m, qs: split_nibbles(levels) };
    }
}

impl Format for Q5_0 {
    const BLOCK_BYTES: usize = size_of::<BlockQ5_0>();
    type Scale = Lanes<LANES>;

    #[inline(always)]
    fn find(batch: &Batch<'_, N>, weights: Option<&Group>) -> (Group, Self::Scale) {
        around_zero(16.0, batch, weights)
    }

    #[inline(always)]
    fn pack(levels: &[u8; N], d: &Self::Scale, i: usize, out: &mut [u8]) {
        *bytemuck::from_bytes_mut(out) =
            BlockQ5_0 { d: half(d.0[i]), qh: fifth_bits(levels), qs: split_nibbles(levels) };
    }
}

impl Format for Q5_1 {
    const BLOCK_BYTES: usize = size_of::<BlockQ5_1>();
    type Scale = (Lanes<LANES>, Lanes<LANES>);

    #[inline(always)]
    fn find(batch: &Batch<'_, N>, weights: Option<&Group>) -> (Group, Self::Scale) {
        above_minimum(31.0, batch, weights)
    }

    #[inline(always)]
    fn pack(levels: &[u8; N], (d, m): &Self::Scale, i: usize, out: &mut [u8]) {
        let (d, m) = (half(d.0[i]), half(m.0[i]));
        *bytemuck::from_bytes_mut(out) = BlockQ5_1 { d, m, qh: fifth_bits(levels), qs: split_nibbles(levels) };
    }
}

impl Format for Q8_0 {
    const BLOCK_BYTES: usize = size_of::<BlockQ8_0>();
    type Scale = Lanes<LANES>;

    #[inline(always)]
    fn find(batch: &Batch<'_, N>, _: Option<&Group>) -> (Group, Self::Scale) {
        let d = greatest(&batch.x).abs() / Lanes::splat(127.0);
        let inverse = d.inverse();
        let mut levels = batch.x;
        for level in &mut levels {
            *level = (*level * inverse).rounded_away();
        }
        (levels, d)
    }

    #[inline(always)]
    fn pack(levels: &[u8; N], d: &Self::Scale, i: usize, out: &mut [u8]) {
        *bytemuck::from_bytes_mut(out) = BlockQ8_0 { d: half(d.0[i]), qs: levels.map(|q| q as i8) };
    }
}
