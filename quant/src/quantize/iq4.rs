//! IQ4_NL and IQ4_XS. Source: `quantize_row_iq4_nl_impl` of ggml's `ggml-quants.c`.

use super::dispatch::Quantizer;
use super::lanes::Lanes;
use super::legacy::split_nibbles;
use super::rows::{Batch, LANES, Rows, along, squares};
use super::search::greatest;
use crate::blocks::iq::{BlockIq4Nl, BlockIq4Xs};
use crate::grids::IQ4_VALUES;
use half::f16;

/// Elements of a group.
const G: usize = 32;

/// `steps[0]`, or `steps[k]` for the greatest k where `v` is nearer to value k of the table than to
/// the one below it, or as near.
#[inline(always)]
fn stairs(v: Lanes<LANES>, steps: impl Fn(usize) -> f32) -> Lanes<LANES> {
    let mut out = Lanes::splat(steps(0));
    for k in 1..IQ4_VALUES.len() {
        // Half an integer, so exact; ggml compares differences, which are exact where it matters.
        let middle = (f32::from(IQ4_VALUES[k - 1]) + f32::from(IQ4_VALUES[k])) * 0.5;
        out = v.ge(Lanes::splat(middle)).pick(Lanes::splat(steps(k)), out);
    }
    out
}

/// The scales of groups. `n`: numbers around a group whose mean square weighs.
#[inline(always)]
fn scales(batch: &Batch<'_, G>, n: usize) -> Lanes<LANES> {
    let w = match &batch.importance {
        Some(q) => batch.weights(q, batch.energy(n, 2.0 / n as f32)),
        None => squares(&batch.x),
    };
    let max = greatest(&batch.x);
    let is_zero = max.abs().lt(Lanes::splat(1e-15));
    let d = -max / Lanes::splat(f32::from(IQ4_VALUES[0]));
    let (p, r) = sums(&batch.x, &w, Lanes::splat(1.0) / d);
    let mut d = r.gt(Lanes::ZERO).pick(p / r, Lanes::ZERO);
    let mut best = d * p;
    for k in -7i8..=7 {
        let (p, r) = sums(&batch.x, &w, Lanes::splat(f32::from(k) + f32::from(IQ4_VALUES[0])) / max);
        let better = r.gt(Lanes::ZERO) & (p * p).gt(best * r);
        d = better.pick(p / r, d);
        best = better.pick(d * p, best);
    }
    is_zero.pick(Lanes::ZERO, d)
}

/// `sum w x v` and `sum w v^2` for the values v under an inverse scale.
#[inline(always)]
fn sums(x: &[Lanes<LANES>; G], w: &[Lanes<LANES>; G], inverse: Lanes<LANES>) -> (Lanes<LANES>, Lanes<LANES>) {
    let (mut p, mut r) = (Lanes::ZERO, Lanes::ZERO);
    for (&x, &w) in x.iter().zip(w) {
        let value = stairs(inverse * x, |k| f32::from(IQ4_VALUES[k]));
        p += (w * value) * x;
        r += (w * value) * value;
    }
    (p, r)
}

/// The nibbles of groups under the scales as stored.
#[inline(always)]
fn nibbles(batch: &Batch<'_, G>, scales: Lanes<LANES>) -> [[u8; G]; LANES] {
    let inverse = scales.inverse();
    let mut levels = batch.x;
    for level in &mut levels {
        *level = stairs(inverse * *level, |k| k as f32);
    }
    along(&levels)
}

pub(super) struct Iq4Nl;

impl Quantizer for Iq4Nl {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let bytes = size_of::<BlockIq4Nl>();
        for (batch, out) in rows.batches::<G>(G, bytes, out) {
            let d = scales(&batch, G);
            let levels = nibbles(&batch, d);
            for ((levels, d), out) in levels.iter().zip(&d.0).zip(out.chunks_exact_mut(bytes)) {
                *bytemuck::from_bytes_mut(out) =
                    BlockIq4Nl { d: f16::from_f32(*d).to_le_bytes(), qs: split_nibbles(levels) };
            }
        }
    }
}

pub(super) struct Iq4Xs;

impl Quantizer for Iq4Xs {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let bytes = size_of::<BlockIq4Xs>();
        for (batch, out) in rows.batches::<G>(BlockIq4Xs::LEN, bytes, out) {
            let found = scales(&batch, BlockIq4Xs::LEN);
            let mut stored = Lanes::ZERO;
            let blocks = found.0.as_chunks::<8>().0.iter().zip(stored.0.as_chunks_mut::<8>().0);
            for ((found, stored), out) in blocks.zip(out.chunks_exact_mut(bytes)) {
                let block: &mut BlockIq4Xs = bytemuck::from_bytes_mut(out);
                let d = -greatest(&found.map(|s| Lanes([s]))).0[0] / 32.0;
                let levels = (Lanes([d]).inverse().0[0], d);
                let levels = (Lanes::splat(levels.0) * Lanes(*found)).level(-32.0, 31.0);
                *stored = (Lanes::splat(d) * levels).0;
                block.d = f16::from_f32(d).to_le_bytes();
                (block.scales_l, block.scales_h) = packed_scales((levels + Lanes::splat(32.0)).bytes());
            }
            let levels = nibbles(&batch, stored);
            for (levels, out) in levels.chunks_exact(8).zip(out.chunks_exact_mut(bytes)) {
                let block: &mut BlockIq4Xs = bytemuck::from_bytes_mut(out);
                for (levels, qs) in levels.iter().zip(block.qs.as_chunks_mut::<16>().0) {
                    *qs = split_nibbles(levels);
                }
            }
        }
    }
}

/// Eight scales of 6 bits: low nibbles and upper two bits.
#[inline(always)]
fn packed_scales(scales: [u8; 8]) -> ([u8; 4], [u8; 2]) {
    let low = std::array::from_fn(|i| (scales[2 * i] & 15) | scales[2 * i + 1] << 4);
    let high = scales.iter().enumerate().fold(0, |high, (i, &s)| high | u16::from(s >> 4 & 3) << (2 * i));
    (low, high.to_le_bytes())
}
