//! MXFP4 and NVFP4. Source: `quantize_row_mxfp4_ref` and `quantize_row_nvfp4_ref` of ggml's
//! `ggml-quants.c`.

use super::dispatch::Quantizer;
use super::lanes::Lanes;
use super::rows::{Rows, greatest_magnitude};
use crate::blocks::mx::{BlockMxfp4, BlockNvfp4, half_e4m3};
use crate::grids::FP4_DOUBLED;

/// The index of the nearest of the sixteen values under a scale, the first of equals.
#[inline(always)]
fn nearest<const N: usize>(x: &[f32; N], half_scale: f32) -> [u8; N] {
    let x = Lanes(*x);
    let (mut index, mut best) = (Lanes::ZERO, Lanes::splat(f32::INFINITY));
    for (i, &value) in FP4_DOUBLED.iter().enumerate() {
        let error = (Lanes::splat(f32::from(value) * half_scale) - x).abs();
        let better = error.lt(best);
        best = better.pick(error, best);
        index = better.pick(Lanes::splat(i as f32), index);
    }
    index.bytes()
}

pub(super) struct Mxfp4;

impl Quantizer for Mxfp4 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let blocks = rows.x.as_chunks::<32>().0.iter().zip(out.chunks_exact_mut(size_of::<BlockMxfp4>()));
        for (x, out) in blocks {
            let block: &mut BlockMxfp4 = bytemuck::from_bytes_mut(out);
            block.e = exponent(greatest_magnitude(x));
            let levels = nearest(x, block.half_scale());
            for (j, out) in block.qs.iter_mut().enumerate() {
                *out = levels[j] | levels[j + 16] << 4;
            }
        }
    }
}

/// The exponent that puts the greatest magnitude between 4 and 8 (6 is the greatest element). As in
/// ggml the logarithm is rounded to f32 first, which just below a power of two may reach it.
fn exponent(amax: f32) -> u8 {
    if amax == 0.0 {
        return 0;
    }
    let log = (f64::from(amax).log2() as f32).floor();
    // 255 would be NaN. A conversion that saturates, so that an infinity has a place, too.
    (log as i32).saturating_add(127 - 2).clamp(0, 254) as u8
}

pub(super) struct Nvfp4;

impl Quantizer for Nvfp4 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let blocks = rows.x.as_chunks::<64>().0.iter().zip(out.chunks_exact_mut(size_of::<BlockNvfp4>()));
        for (x, out) in blocks {
            let block: &mut BlockNvfp4 = bytemuck::from_bytes_mut(out);
            let groups = x.as_chunks::<16>().0.iter().zip(block.qs.as_chunks_mut::<8>().0);
            for ((x, qs), scale) in groups.zip(&mut block.scales) {
                *scale = e4m3(greatest_magnitude(x) / 6.0);
                let levels = nearest(x, half_e4m3(*scale));
                for (j, out) in qs.iter_mut().enumerate() {
                    *out = levels[j] | levels[j + 8] << 4;
                }
            }
        }
    }
}

/// Unsigned E4M3 with bias 7, half up; at most 448.
fn e4m3(v: f32) -> u8 {
    if v <= 0.0 {
        return 0;
    }
    let v = v.min(448.0);
    let exponent = (v.to_bits() >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return ((v * 512.0 + 0.5) as u8).min(7);
    }
    // Three bits of the mantissa, and one more that rounds; a carry goes into the exponent.
    let mantissa = v.to_bits() >> 19 & 15;
    let code = ((exponent as u32) << 3) + (mantissa >> 1) + (mantissa & 1);
    if code >> 3 >= 15 { 0x7e } else { code as u8 }
}
