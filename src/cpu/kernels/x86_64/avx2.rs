//! AVX2 with FMA and F16C: how products of bytes are added, and the quantization of activations.
//!
//! `vpmaddubsw` wants unsigned weights and sums pairs in i16.

use super::super::{MatvecQ8, SUM_LEN};
use super::{load_128, load_256, store_128};
use half::f16;
use std::arch::x86_64::*;
use tealight_quant::BlockType;
use tealight_quant::blocks::legacy::BlockQ8_0;

pub(super) mod attention;
pub(super) mod blocks;
mod codebooks;
pub(super) mod float;
pub(super) mod panel;
pub(super) mod unpack;

/// The nibbles of one block in order of elements.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn nibbles(qs: &[u8; 16]) -> __m256i {
    let bytes = load_128(qs);
    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes), _mm256_set1_epi8(15))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dots<const N: usize>(start: __m256i, u: [__m256i; N], s: [__m256i; N]) -> __m256i {
    let mut pairs = _mm256_setzero_si256();
    for (u, s) in u.into_iter().zip(s) {
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(u, s));
    }
    _mm256_add_epi32(start, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn scaled(acc: __m256i, u: __m256i, s: __m256i, scales: __m256i) -> __m256i {
    _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), scales))
}

/// Each byte takes the byte of its bit, and looks at that.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn with_signs(q: __m256i, signs: u32) -> __m256i {
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let minus = _mm256_cmpeq_epi8(_mm256_and_si256(super::codebooks::eight_times(signs.to_le_bytes()), bit), bit);
    _mm256_sub_epi8(_mm256_xor_si256(q, minus), minus)
}

/// Quants of 16 values, and their sum.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize_16(x: &[f32; SUM_LEN], inverse: __m256, q: &mut [i8; SUM_LEN]) -> i16 {
    let (x, _) = x.as_chunks::<8>();
    let wide = |x| _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_castsi256_ps(load_256(x)), inverse));
    // i32 to i16, then to i8; the packing of 256-bit vectors goes by lanes of 128
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(wide(&x[0]), wide(&x[1])));
    let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    store_128(bytes, q);
    q.iter().map(|&q| i16::from(q)).sum()
}

/// The greatest magnitude, as integers, in whose order NaN is greatest.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn greatest(x: &[[f32; 8]]) -> u32 {
    let mut max = _mm256_setzero_si256();
    for x in x {
        max = _mm256_max_epu32(max, magnitude(x));
    }
    let mut lanes = [0u32; 8];
    super::store_256(max, &mut lanes);
    lanes.into_iter().fold(0, u32::max)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn magnitude(x: &[f32; 8]) -> __m256i {
    _mm256_and_si256(load_256(x), _mm256_set1_epi32(0x7fff_ffff))
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn quantize_q8_0(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let x = x.as_chunks::<{ BlockQ8_0::LEN }>().0;
    let out = q.as_chunks_mut::<{ BlockQ8_0::LEN }>().0.iter_mut().zip(sums.as_chunks_mut::<2>().0);
    for ((x, d), (q, sums)) in x.iter().zip(d).zip(out) {
        let max = f32::from_bits(greatest(x.as_chunks().0));
        *d = f16::from_f32(max / 127.0).to_f32();
        let inverse = _mm256_set1_ps(if max != 0.0 { 127.0 / max } else { 0.0 });
        for ((x, q), sum) in x.as_chunks().0.iter().zip(q.as_chunks_mut().0).zip(sums) {
            *sum = quantize_16(x, inverse, q);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn quantize_q8_k(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let x = x.as_chunks::<256>().0;
    let out = q.as_chunks_mut::<256>().0.iter_mut().zip(sums.as_chunks_mut::<16>().0);
    for ((x, d), (q, sums)) in x.iter().zip(d).zip(out) {
        let parts = x.as_chunks::<8>().0;
        let max = _mm256_set1_epi32(greatest(parts) as i32);
        let mut extreme = 0.0;
        for x in parts {
            let here = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(magnitude(x), max)));
            if here != 0 {
                extreme = x[here.trailing_zeros() as usize];
                break;
            }
        }
        let inverse = if extreme != 0.0 { -127.0 / extreme } else { 0.0 };
        *d = if extreme != 0.0 { 1.0 / inverse } else { 0.0 };
        let inverse = _mm256_set1_ps(inverse);
        for ((x, q), sum) in x.as_chunks().0.iter().zip(q.as_chunks_mut().0).zip(sums) {
            *sum = quantize_16(x, inverse, q);
        }
    }
}

/// Row products of the formats that have no place of their own in the table.
pub(super) fn matvec_codes(ty: BlockType) -> Option<MatvecQ8> {
    blocks::matvec_block(ty).or_else(|| codebooks::matvec_codebook(ty))
}
