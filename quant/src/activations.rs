//! Quantization of activations for integer dot products, as llama.cpp's SIMD builds do it: the
//! scale's reciprocal is `127 / amax`, halves round to even. (Its file quantizer differs in ties.)

use crate::blocks::k::BlockQ8K;
use crate::blocks::legacy::{BlockQ8_0, BlockQ8_1};
use bytemuck::Zeroable;
use half::f16;

/// Quantizes 32 values: the unrounded scale and the quants. A value that is not a number makes the
/// scale NaN, so that it reaches the results.
pub fn quantize_32(x: &[f32; 32]) -> (f32, [i8; 32]) {
    let amax = greatest(x).abs();
    let inverse = if amax != 0.0 { 127.0 / amax } else { 0.0 };
    (amax / 127.0, x.map(|x| (x * inverse).round_ties_even() as i8))
}

/// Quantizes 256 values: the scale and the quants. The element of greatest magnitude becomes -127,
/// so the scale has the opposite sign of it. NaN as in [`quantize_32`].
pub fn quantize_256(x: &[f32; 256]) -> (f32, [i8; 256]) {
    let max = greatest(x);
    if max == 0.0 {
        return (0.0, [0; 256]);
    }
    let inverse = -127.0 / max;
    (1.0 / inverse, x.map(|x| (x * inverse).round_ties_even().min(127.0) as i8))
}

/// Quantizes blocks of 32 to Q8_0.
///
/// # Panics
/// `x` is not a whole number of blocks.
pub fn quantize_q8_0_activations(x: &[f32]) -> Vec<BlockQ8_0> {
    blocks(x)
        .map(|x| {
            let (d, qs) = quantize_32(x);
            BlockQ8_0 { d: f16::from_f32(d).to_le_bytes(), qs }
        })
        .collect()
}

/// Quantizes blocks of 32 to Q8_1; the sum is taken with the scale before its rounding.
///
/// # Panics
/// `x` is not a whole number of blocks.
pub fn quantize_q8_1_activations(x: &[f32]) -> Vec<BlockQ8_1> {
    blocks(x)
        .map(|x| {
            let (d, qs) = quantize_32(x);
            let sum: i32 = qs.iter().map(|&q| i32::from(q)).sum();
            BlockQ8_1 { d: f16::from_f32(d).to_le_bytes(), s: f16::from_f32(d * sum as f32).to_le_bytes(), qs }
        })
        .collect()
}

/// Quantizes blocks of 256 to Q8_K.
///
/// # Panics
/// `x` is not a whole number of blocks.
pub fn quantize_q8_k_activations(x: &[f32]) -> Vec<BlockQ8K> {
    blocks(x)
        .map(|x| {
            let (d, qs) = quantize_256(x);
            let mut block = BlockQ8K { d: d.to_le_bytes(), qs, ..BlockQ8K::zeroed() };
            for (sum, q) in block.bsums.iter_mut().zip(qs.as_chunks::<16>().0) {
                *sum = q.iter().map(|&q| i16::from(q)).sum::<i16>().to_le_bytes();
            }
            block
        })
        .collect()
}

fn blocks<const N: usize>(x: &[f32]) -> impl Iterator<Item = &[f32; N]> {
    let (blocks, rest) = x.as_chunks();
    assert!(rest.is_empty(), "{} activations are not a whole number of blocks of {N}", x.len());
    blocks.iter()
}

/// The first element of greatest magnitude, or a NaN if there is one: magnitudes order as their bits.
fn greatest(x: &[f32]) -> f32 {
    let magnitude = |x: f32| x.to_bits() & 0x7fff_ffff;
    x.iter().fold(0.0, |max, &x| if magnitude(x) > magnitude(max) { x } else { max })
}
