//! Quantization of activations.

use super::super::SUM_LEN;
use super::{load, load_f32, store};
use half::f16;
use std::arch::aarch64::*;
use tealight_quant::blocks::legacy::BlockQ8_0;

/// Quants of 16 values, and their sum.
#[inline]
#[target_feature(enable = "neon")]
fn quantize_16(x: &[f32; SUM_LEN], inverse: f32, q: &mut [i8; SUM_LEN]) -> i16 {
    let (x, _) = x.as_chunks::<4>();
    let wide = |x| vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(load_f32(x), inverse)));
    let low = vqmovn_s16(vcombine_s16(wide(&x[0]), wide(&x[1])));
    let high = vqmovn_s16(vcombine_s16(wide(&x[2]), wide(&x[3])));
    let quants = vcombine_s8(low, high);
    store(vreinterpretq_u8_s8(quants), q);
    vaddlvq_s8(quants)
}

/// The greatest magnitude, as integers, in whose order NaN is greatest.
#[inline]
#[target_feature(enable = "neon")]
fn greatest(x: &[[f32; 4]]) -> u32 {
    let mut max = [vdupq_n_u32(0); 4];
    for x in x.as_chunks::<4>().0 {
        for (x, max) in x.iter().zip(&mut max) {
            *max = vmaxq_u32(*max, magnitude(x));
        }
    }
    vmaxvq_u32(vmaxq_u32(vmaxq_u32(max[0], max[1]), vmaxq_u32(max[2], max[3])))
}

#[inline]
#[target_feature(enable = "neon")]
fn magnitude(x: &[f32; 4]) -> uint32x4_t {
    vandq_u32(vreinterpretq_u32_u8(load(x)), vdupq_n_u32(0x7fff_ffff))
}

#[target_feature(enable = "neon")]
pub(super) fn quantize_q8_0(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let x = x.as_chunks::<{ BlockQ8_0::LEN }>().0;
    let out = q.as_chunks_mut::<{ BlockQ8_0::LEN }>().0.iter_mut().zip(sums.as_chunks_mut::<2>().0);
    for ((x, d), (q, sums)) in x.iter().zip(d).zip(out) {
        let max = f32::from_bits(greatest(x.as_chunks().0));
        *d = f16::from_f32(max / 127.0).to_f32();
        let inverse = if max != 0.0 { 127.0 / max } else { 0.0 };
        for ((x, q), sum) in x.as_chunks().0.iter().zip(q.as_chunks_mut().0).zip(sums) {
            *sum = quantize_16(x, inverse, q);
        }
    }
}

#[target_feature(enable = "neon")]
pub(super) fn quantize_q8_k(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let x = x.as_chunks::<256>().0;
    let out = q.as_chunks_mut::<256>().0.iter_mut().zip(sums.as_chunks_mut::<16>().0);
    for ((x, d), (q, sums)) in x.iter().zip(d).zip(out) {
        let parts = x.as_chunks::<4>().0;
        let max = greatest(parts);
        // the first of that magnitude decides the sign
        let is_here = |x: &&[f32; 4]| vmaxvq_u32(vceqq_u32(magnitude(x), vdupq_n_u32(max))) != 0;
        let part = parts.iter().find(is_here).copied().unwrap_or_default();
        let extreme = part.into_iter().find(|x| x.to_bits() & 0x7fff_ffff == max).unwrap_or_default();
        let inverse = if extreme != 0.0 { -127.0 / extreme } else { 0.0 };
        *d = if extreme != 0.0 { 1.0 / inverse } else { 0.0 };
        for ((x, q), sum) in x.as_chunks().0.iter().zip(q.as_chunks_mut().0).zip(sums) {
            *sum = quantize_16(x, inverse, q);
        }
    }
}
