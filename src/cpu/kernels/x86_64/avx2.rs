//! AVX2 with FMA and F16C: row products over 8-bit activations, and their quantization.
//!
//! `vpmaddubsw` wants unsigned weights and sums pairs in i16: nibbles and 6-bit quants keep their
//! offset, which the sums of the activations take away; Q8_0 moves its signs to the activations.

use super::super::{MatvecQ8, Row8, SUM_LEN};
use super::{
    eight_scales, half, load_128, load_256, prefetch, scales_then_mins, sixteen_scales, store_128, sum_128, sum_256,
    sums_of_32,
};
use half::f16;
use std::arch::x86_64::*;
use tealight_quant::BlockType;
use tealight_quant::blocks::k::{BlockQ4K, BlockQ6K};
use tealight_quant::blocks::legacy::{BlockQ4_0, BlockQ4_1, BlockQ8_0};

/// A row product of all rows from the dot product of one.
macro_rules! matvec {
    ($name:ident, $dot:ident, $block:ty) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(in crate::cpu::kernels) fn $name(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
            let row_bytes = rows.len() / out.len().max(1);
            for (r, out) in out.iter_mut().enumerate() {
                *out = $dot(bytemuck::cast_slice::<u8, $block>(&rows[r * row_bytes..][..row_bytes]), x);
            }
        }
    };
}

matvec!(matvec_q4_0_q8_0, dot_q4_0_q8_0, BlockQ4_0);
matvec!(matvec_q4_1_q8_0, dot_q4_1_q8_0, BlockQ4_1);
matvec!(matvec_q8_0_q8_0, dot_q8_0_q8_0, BlockQ8_0);
matvec!(matvec_q4_k_q8_k, dot_q4_k_q8_k, BlockQ4K);
matvec!(matvec_q6_k_q8_k, dot_q6_k_q8_k, BlockQ6K);

/// The blocks of 32 of a row with their activations: quants, scale, two sums.
macro_rules! blocks_of_32 {
    ($row:expr, $x:expr) => {
        $row.iter().zip($x.q.as_chunks::<32>().0).zip($x.d.iter().zip($x.sums.as_chunks::<2>().0)).enumerate()
    };
}

pub(super) mod attention;
pub(super) mod blocks;
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

/// Products of unsigned and signed bytes, four to a sum; the sum of two must fit i16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn products(unsigned: __m256i, signed: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, signed), _mm256_set1_epi16(1))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_scaled(acc: __m256, d: f32, dot: __m256i) -> __m256 {
    _mm256_fmadd_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(dot), acc)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q4_0_q8_0(row: &[BlockQ4_0], x: Row8<'_>) -> f32 {
    let mut acc = [_mm256_setzero_ps(); 2];
    // -8 for the two sums of a block, in the first lane alone
    let offset = _mm256_zextsi128_si256(_mm_cvtsi32_si128(bytemuck::cast([-8i16; 2])));
    for (i, ((b, q), (&d, &sums))) in blocks_of_32!(row, x) {
        if i % 4 == 0 {
            prefetch(b, 4 * size_of::<BlockQ4_0>());
        }
        let start = _mm256_madd_epi16(_mm256_set1_epi32(bytemuck::cast(sums)), offset);
        let dot = _mm256_add_epi32(start, products(nibbles(&b.qs), load_256(q)));
        acc[i % 2] = add_scaled(acc[i % 2], half(b.d) * d, dot);
    }
    sum_256(_mm256_add_ps(acc[0], acc[1]))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q4_1_q8_0(row: &[BlockQ4_1], x: Row8<'_>) -> f32 {
    let mut acc = [_mm256_setzero_ps(); 2];
    let mut mins = 0.0f32;
    for (i, ((b, q), (&d, &[s0, s1]))) in blocks_of_32!(row, x) {
        if i % 4 == 0 {
            prefetch(b, 4 * size_of::<BlockQ4_1>());
        }
        acc[i % 2] = add_scaled(acc[i % 2], half(b.d) * d, products(nibbles(&b.qs), load_256(q)));
        mins = (half(b.m) * d).mul_add((i32::from(s0) + i32::from(s1)) as f32, mins);
    }
    sum_256(_mm256_add_ps(acc[0], acc[1])) + mins
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q8_0_q8_0(row: &[BlockQ8_0], x: Row8<'_>) -> f32 {
    let mut acc = [_mm256_setzero_ps(); 2];
    for (i, ((b, q), (&d, _))) in blocks_of_32!(row, x) {
        if i % 2 == 0 {
            prefetch(b, 2 * size_of::<BlockQ8_0>());
        }
        // |-128| is 128 as an unsigned byte, and 2 * 128 * 127 still fits i16
        let w = load_256(&b.qs);
        let dot = products(_mm256_abs_epi8(w), _mm256_sign_epi8(load_256(q), w));
        acc[i % 2] = add_scaled(acc[i % 2], half(b.d) * d, dot);
    }
    sum_256(_mm256_add_ps(acc[0], acc[1]))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q4_k_q8_k(row: &[BlockQ4K], x: Row8<'_>) -> f32 {
    let mask = _mm256_set1_epi8(15);
    let mut acc = _mm256_setzero_ps();
    let mut acc_min = _mm_setzero_ps();
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d.iter().zip(x.sums.as_chunks::<16>().0));
    for (b, (q, (&d, sums))) in row.iter().zip(activations) {
        prefetch(b, size_of::<BlockQ4K>());
        let scales = scales_then_mins(&b.scales);
        let mins = _mm_cvtepu8_epi16(_mm_srli_si128::<8>(scales));
        let min = _mm_cvtepi32_ps(_mm_madd_epi16(mins, sums_of_32(sums)));
        acc_min = _mm_fnmadd_ps(_mm_set1_ps(half(b.dmin) * d), min, acc_min);
        let scales = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(scales));
        // scale s in every lane: its two bytes by a shuffle
        let scale = |s: usize| _mm256_shuffle_epi8(scales, _mm256_set1_epi16((2 * s + (2 * s + 1) * 256) as i16));
        let mut dot = _mm256_setzero_si256();
        let parts = b.qs.as_chunks::<32>().0.iter().zip(q.as_chunks::<64>().0);
        for (p, (qs, q)) in parts.enumerate() {
            let (qs, (q, _)) = (load_256(qs), q.as_chunks::<32>());
            let low = _mm256_maddubs_epi16(_mm256_and_si256(qs, mask), load_256(&q[0]));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(qs), mask);
            let high = _mm256_maddubs_epi16(high, load_256(&q[1]));
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(low, scale(2 * p)));
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(high, scale(2 * p + 1)));
        }
        acc = add_scaled(acc, half(b.d) * d, dot);
    }
    sum_256(acc) + sum_128(acc_min)
}

/// For each 32 elements of Q6_K the places of their two scales, eight times each.
static Q6_K_SCALES: [[i8; 16]; 8] = {
    let mut places = [[0; 16]; 8];
    let mut i = 0;
    while i < 128 {
        places[i / 16][i % 16] = (i / 8) as i8;
        i += 1;
    }
    places
};

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q6_k_q8_k(row: &[BlockQ6K], x: Row8<'_>) -> f32 {
    let (low_mask, high_mask) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    let mut acc = _mm256_setzero_ps();
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d.iter().zip(x.sums.as_chunks::<16>().0));
    for (b, (q, (&d, sums))) in row.iter().zip(activations) {
        prefetch(b, size_of::<BlockQ6K>());
        let scales = load_128(&b.scales);
        let offset = _mm256_slli_epi32::<5>(_mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), load_256(sums)));
        let mut dot = _mm256_sub_epi32(_mm256_setzero_si256(), offset);
        let halves = b.ql.as_chunks::<64>().0.iter().zip(b.qh.as_chunks::<32>().0).zip(q.as_chunks::<128>().0);
        for (h, ((ql, qh), q)) in halves.enumerate() {
            let ((ql, _), qh, (q, _)) = (ql.as_chunks::<32>(), load_256(qh), q.as_chunks::<32>());
            let ql = [load_256(&ql[0]), load_256(&ql[1])];
            let low = [ql[0], ql[1], _mm256_srli_epi16::<4>(ql[0]), _mm256_srli_epi16::<4>(ql[1])];
            let high = [_mm256_slli_epi16::<4>(qh), _mm256_slli_epi16::<2>(qh), qh, _mm256_srli_epi16::<2>(qh)];
            for j in 0..4 {
                let w = _mm256_or_si256(_mm256_and_si256(low[j], low_mask), _mm256_and_si256(high[j], high_mask));
                let places = load_128(&Q6_K_SCALES[4 * h + j]);
                let scales = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, places));
                let sum = _mm256_madd_epi16(_mm256_maddubs_epi16(w, load_256(&q[j])), scales);
                dot = _mm256_add_epi32(dot, sum);
            }
        }
        acc = add_scaled(acc, half(b.d) * d, dot);
    }
    sum_256(acc)
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

/// Row products of the formats beside those that everybody uses.
pub(super) fn matvec_codes(ty: BlockType) -> Option<MatvecQ8> {
    Some(match ty {
        BlockType::Q5_0 => blocks::matvec_q5_0_q8_0,
        BlockType::Q5_1 => blocks::matvec_q5_1_q8_0,
        BlockType::Iq4Nl => blocks::matvec_iq4_nl_q8_0,
        BlockType::Mxfp4 => blocks::matvec_mxfp4_q8_0,
        BlockType::Q2K => blocks::matvec_q2_k_q8_k,
        BlockType::Q3K => blocks::matvec_q3_k_q8_k,
        BlockType::Q5K => blocks::matvec_q5_k_q8_k,
        BlockType::Iq4Xs => blocks::matvec_iq4_xs_q8_k,
        _ => return None,
    })
}
