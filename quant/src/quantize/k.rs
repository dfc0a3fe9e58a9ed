//! Q2_K to Q6_K. Source: `quantize_row_q*_K_ref` and `quantize_row_q*_K_impl` of ggml's
//! `ggml-quants.c`.
//!
//! Each group gets a scale (and a minimum) by a search; the scales of a block are then quantized
//! themselves, and the final levels are those that suit the scales as stored.

use super::dispatch::Quantizer;
use super::lanes::Lanes;
use super::rows::{Batch, LANES, Rows, along, squares};
use super::search::{Deviation, Trials, affine, greatest, positive, symmetric, symmetric_stepwise};
use crate::BlockType;
use crate::blocks::k::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};
use half::f16;

/// Elements of a block.
const N: usize = 256;

/// A format with scales and minimums: `G` elements to a group, `K` groups to a block.
trait AffineFormat<const G: usize, const K: usize> {
    const TYPE: BlockType;
    /// The highest level of an element.
    const TOP: f32;
    /// The highest level of a scale.
    const SCALE_TOP: f32;
    /// The trials without importance.
    const TRIALS: Trials;
    /// `sigma2` is this times the sum of squares of a block.
    const SIGMA: f32;

    /// The weights without importance.
    fn weights(x: &[Lanes<LANES>; G]) -> [Lanes<LANES>; G];

    fn pack(levels: &[[u8; G]], scales: &[u8; K], mins: &[u8; K], d: [u8; 2], dmin: [u8; 2], out: &mut [u8]);
}

#[inline(always)]
fn affine_rows<F: AffineFormat<G, K>, const G: usize, const K: usize>(rows: &Rows<'_>, out: &mut [u8]) {
    let bytes = F::TYPE.block_bytes();
    for (batch, out) in rows.batches::<G>(N, bytes, out) {
        let (w, trials) = match &batch.importance {
            Some(q) => (batch.weights(q, batch.energy(N, F::SIGMA)), Trials::WEIGHTED),
            None => (F::weights(&batch.x), F::TRIALS),
        };
        let found = affine(F::TOP, &batch.x, &w, trials);
        let sum_w = sums(&w);
        let mut stored = [([0; K], [0; 2], [0; K], [0; 2]); LANES];
        let (mut scale, mut min) = (Lanes::ZERO, Lanes::ZERO);
        let n_block = batch.numbers.len() / N;
        for (block, stored) in stored.iter_mut().enumerate().take(n_block) {
            let at = block * K;
            let weights = batch.importance.is_some().then(|| part(&sum_w, at));
            let (scales, d) = quantized_scales::<K>(F::SCALE_TOP, &part(&found.scale, at), weights.as_ref());
            let (mins, dmin) = quantized_scales::<K>(F::SCALE_TOP, &part(&found.min, at), weights.as_ref());
            for i in 0..K {
                scale.0[at + i] = d.to_f32() * f32::from(scales[i]);
                min.0[at + i] = dmin.to_f32() * f32::from(mins[i]);
            }
            *stored = (scales, d.to_le_bytes(), mins, dmin.to_le_bytes());
        }
        let is_zero = scale.eq(Lanes::ZERO);
        let mut levels = found.levels;
        for (level, &x) in levels.iter_mut().zip(&batch.x) {
            *level = is_zero.pick(*level, ((x + min) / scale).level(0.0, F::TOP));
        }
        let levels = along(&levels);
        let blocks = levels.chunks_exact(K).zip(&stored).zip(out.chunks_exact_mut(bytes));
        for ((levels, (scales, d, mins, dmin)), out) in blocks {
            F::pack(levels, scales, mins, *d, *dmin, out);
        }
    }
}

/// The levels of a block's scales, and the scale of them.
#[inline(always)]
fn quantized_scales<const K: usize>(top: f32, scales: &[f32; K], weights: Option<&[f32; K]>) -> ([u8; K], f16) {
    if let Some(w) = weights {
        let found = positive(top, &scales.map(|s| Lanes([s])), &w.map(|w| Lanes([w])));
        // Bits that a format has no room for arise from numbers without sense only.
        return (found.levels.map(|l| l.bytes()[0].min(top as u8)), f16::from_f32(found.scale.0[0]));
    }
    let max = scales.iter().fold(0.0, |max, &s| if s > max { s } else { max });
    if max <= 0.0 {
        return ([0; K], f16::ZERO);
    }
    let s = top / max;
    (scales.map(|scale| Lanes([s * scale]).level(0.0, top).bytes()[0]), f16::from_f32(max / top))
}

/// `K` lanes from lane `at` on.
#[inline(always)]
fn part<const K: usize>(lanes: &Lanes<LANES>, at: usize) -> [f32; K] {
    std::array::from_fn(|i| lanes.0[at + i])
}

#[inline(always)]
fn sums<const G: usize>(w: &[Lanes<LANES>; G]) -> Lanes<LANES> {
    let mut sum = Lanes::ZERO;
    for &w in w {
        sum += w;
    }
    sum
}

pub(super) struct Q2K;

impl AffineFormat<16, 16> for Q2K {
    const TYPE: BlockType = BlockType::Q2K;
    const TOP: f32 = 3.0;
    const SCALE_TOP: f32 = 15.0;
    const TRIALS: Trials = Trials::new(-0.5, 0.1, 15, Deviation::Absolute);
    const SIGMA: f32 = 1.0 / 256.0;

    #[inline(always)]
    fn weights(x: &[Lanes<LANES>; 16]) -> [Lanes<LANES>; 16] {
        let mut w = *x;
        for w in &mut w {
            *w = w.abs();
        }
        w
    }

    #[inline(always)]
    fn pack(levels: &[[u8; 16]], scales: &[u8; 16], mins: &[u8; 16], d: [u8; 2], dmin: [u8; 2], out: &mut [u8]) {
        let block: &mut BlockQ2K = bytemuck::from_bytes_mut(out);
        block.scales = std::array::from_fn(|i| scales[i] | mins[i] << 4);
        block.qs = two_bits(levels.as_flattened());
        (block.d, block.dmin) = (d, dmin);
    }
}

/// The low two bits of levels: bits 2j of byte 32h + l are those of element 128h + 32j + l.
#[inline(always)]
fn two_bits(levels: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    for (out, levels) in out.as_chunks_mut::<32>().0.iter_mut().zip(levels.as_chunks::<128>().0) {
        for (l, out) in out.iter_mut().enumerate() {
            *out = (levels[l] & 3) | (levels[l + 32] & 3) << 2 | (levels[l + 64] & 3) << 4 | (levels[l + 96] & 3) << 6;
        }
    }
    out
}

impl Quantizer for Q2K {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        affine_rows::<Self, 16, 16>(rows, out);
    }
}

/// ggml's weights of Q4_K and Q5_K: `sqrt(mean of squares) + |x|`.
#[inline(always)]
fn raised_magnitudes(x: &[Lanes<LANES>; 32]) -> [Lanes<LANES>; 32] {
    let mut sum = Lanes::ZERO;
    for &x in x {
        sum += x * x;
    }
    let mean = (sum / Lanes::splat(32.0)).sqrt();
    let mut w = *x;
    for w in &mut w {
        *w = mean + w.abs();
    }
    w
}

/// Eight scales and eight minimums of 6 bits, as [`crate::blocks::k::scales_and_mins`] reads them.
#[inline(always)]
fn packed_scales(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut out = [0; 12];
    for i in 0..4 {
        out[i] = scales[i] | (scales[i + 4] >> 4) << 6;
        out[i + 4] = mins[i] | (mins[i + 4] >> 4) << 6;
        out[i + 8] = (scales[i + 4] & 15) | (mins[i + 4] & 15) << 4;
    }
    out
}

/// The low nibbles of levels: byte 32p + l has element 64p + l low, 64p + 32 + l high.
#[inline(always)]
fn nibbles(levels: &[[u8; 32]]) -> [u8; 128] {
    let mut out = [0; 128];
    for (out, pair) in out.as_chunks_mut::<32>().0.iter_mut().zip(levels.as_chunks::<2>().0) {
        for (l, out) in out.iter_mut().enumerate() {
            *out = (pair[0][l] & 15) | pair[1][l] << 4;
        }
    }
    out
}

pub(super) struct Q4K;

impl AffineFormat<32, 8> for Q4K {
    const TYPE: BlockType = BlockType::Q4K;
    const TOP: f32 = 15.0;
    const SCALE_TOP: f32 = 63.0;
    const TRIALS: Trials = Trials::new(-1.0, 0.1, 20, Deviation::Squared);
    const SIGMA: f32 = 2.0 / 256.0;

    #[inline(always)]
    fn weights(x: &[Lanes<LANES>; 32]) -> [Lanes<LANES>; 32] {
        raised_magnitudes(x)
    }

    #[inline(always)]
    fn pack(levels: &[[u8; 32]], scales: &[u8; 8], mins: &[u8; 8], d: [u8; 2], dmin: [u8; 2], out: &mut [u8]) {
        let block: &mut BlockQ4K = bytemuck::from_bytes_mut(out);
        *block = BlockQ4K { d, dmin, scales: packed_scales(scales, mins), qs: nibbles(levels) };
    }
}

impl Quantizer for Q4K {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        affine_rows::<Self, 32, 8>(rows, out);
    }
}

pub(super) struct Q5K;

impl AffineFormat<32, 8> for Q5K {
    const TYPE: BlockType = BlockType::Q5K;
    const TOP: f32 = 31.0;
    const SCALE_TOP: f32 = 63.0;
    const TRIALS: Trials = Trials::new(-0.5, 0.1, 15, Deviation::Squared);
    const SIGMA: f32 = 2.0 / 256.0;

    #[inline(always)]
    fn weights(x: &[Lanes<LANES>; 32]) -> [Lanes<LANES>; 32] {
        raised_magnitudes(x)
    }

    #[inline(always)]
    fn pack(levels: &[[u8; 32]], scales: &[u8; 8], mins: &[u8; 8], d: [u8; 2], dmin: [u8; 2], out: &mut [u8]) {
        let mut qh = [0; 32];
        for (s, levels) in levels.iter().enumerate() {
            for (qh, &level) in qh.iter_mut().zip(levels) {
                *qh |= (level >> 4 & 1) << s;
            }
        }
        let block: &mut BlockQ5K = bytemuck::from_bytes_mut(out);
        *block = BlockQ5K { d, dmin, scales: packed_scales(scales, mins), qh, qs: nibbles(levels) };
    }
}

impl Quantizer for Q5K {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        affine_rows::<Self, 32, 8>(rows, out);
    }
}

/// The levels `-n..n` that suit stored scales, counted from 0; `found` where a scale is zero.
#[inline(always)]
fn signed_levels(n: f32, batch: &Batch<'_, 16>, scale: Lanes<LANES>, found: &[Lanes<LANES>; 16]) -> [[u8; 16]; LANES] {
    let is_zero = scale.eq(Lanes::ZERO);
    let mut levels = *found;
    for (level, &x) in levels.iter_mut().zip(&batch.x) {
        *level = is_zero.pick(*level, (x / scale).level(-n, n - 1.0) + Lanes::splat(n));
    }
    along(&levels)
}

pub(super) struct Q3K;

impl Quantizer for Q3K {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        for (batch, out) in rows.batches::<16>(N, size_of::<BlockQ3K>(), out) {
            let (found, scales, d) = match &batch.importance {
                Some(q) => {
                    let w = batch.weights(q, batch.energy(N, 2.0 / 256.0));
                    let found = symmetric(4.0, &batch.x, &w);
                    let scales = symmetric(32.0, &found.scale.0.map(|s| Lanes([s])), &sums(&w).0.map(|w| Lanes([w])));
                    (found, scales.levels.map(|l| l.bytes()[0]), f16::from_f32(scales.scale.0[0]))
                }
                None => {
                    let found = symmetric_stepwise(4.0, &batch.x);
                    let (scales, d) = scales_below(found.scale);
                    (found, scales, d)
                }
            };
            let mut scale = Lanes::ZERO;
            for (out, &s) in scale.0.iter_mut().zip(&scales) {
                *out = d.to_f32() * (f32::from(s) - 32.0);
            }
            let levels = signed_levels(4.0, &batch, scale, &found.levels);
            let levels = levels.as_flattened();
            let block: &mut BlockQ3K = bytemuck::from_bytes_mut(out);
            block.hmask = [0; 32];
            for (i, &level) in levels.iter().enumerate() {
                block.hmask[i % 32] |= (level >> 2 & 1) << (i / 32);
            }
            block.qs = two_bits(levels);
            block.scales = [0; 12];
            for (k, &s) in scales.iter().enumerate() {
                block.scales[k % 8] |= (s & 15) << (4 * (k / 8));
                block.scales[8 + k % 4] |= (s >> 4 & 3) << (2 * (k / 4));
            }
            block.d = d.to_le_bytes();
        }

        /// The scale of greatest magnitude becomes -32, stored as 0.
        #[inline(always)]
        fn scales_below(scales: Lanes<LANES>) -> ([u8; 16], f16) {
            let max = greatest(&scales.0.map(|s| Lanes([s]))).0[0];
            if max == 0.0 {
                return ([0; 16], f16::ZERO);
            }
            let s = -32.0 / max;
            let levels = (Lanes::splat(s) * scales).level(-32.0, 31.0) + Lanes::splat(32.0);
            (levels.bytes(), f16::from_f32(1.0 / s))
        }
    }
}

pub(super) struct Q6K;

impl Quantizer for Q6K {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        for (batch, out) in rows.batches::<16>(N, size_of::<BlockQ6K>(), out) {
            let w = batch.importance.unwrap_or_else(|| squares(&batch.x));
            let found = symmetric(32.0, &batch.x, &w);
            let max = greatest(&found.scale.0.map(|s| Lanes([s]))).0[0];
            if max.abs() < 1e-15 {
                out.fill(0);
                continue;
            }
            let s = -128.0 / max;
            let d = f16::from_f32(1.0 / s);
            let scales = (Lanes::splat(s) * found.scale).level(-128.0, 127.0);
            let levels = signed_levels(32.0, &batch, Lanes::splat(d.to_f32()) * scales, &found.levels);
            let block: &mut BlockQ6K = bytemuck::from_bytes_mut(out);
            // Element 128h + 32j + l.
            for (h, levels) in levels.as_flattened().as_chunks::<128>().0.iter().enumerate() {
                let [q0, q1, q2, q3] = std::array::from_fn(|j| &levels.as_chunks::<32>().0[j]);
                for l in 0..32 {
                    block.ql[64 * h + l] = (q0[l] & 15) | (q2[l] & 15) << 4;
                    block.ql[64 * h + 32 + l] = (q1[l] & 15) | (q3[l] & 15) << 4;
                    block.qh[32 * h + l] = q0[l] >> 4 | (q1[l] >> 4) << 2 | (q2[l] >> 4) << 4 | (q3[l] >> 4) << 6;
                }
            }
            block.scales = scales.0.map(|s| s as i8);
            block.d = d.to_le_bytes();
        }
    }
}
