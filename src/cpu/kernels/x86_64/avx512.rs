//! AVX-512 with VNNI: row products over 8-bit activations, and their quantization.
//!
//! Two rows go together, as the activations are then loaded and arranged once for both; a row's own
//! arithmetic is the same alone. `vpdpbusd` wants unsigned weights: Q4_0, Q8_0 and Q6_K keep their
//! offset, and the accumulator begins with minus the offset times the sum of the activations.

use super::super::{MatvecQ8, Row8, SUM_LEN};
use super::{
    eight_scales, four_halves, half, load_128, load_256, load_512, prefetch, scales_then_mins, sixteen_scales,
    store_128, sums_of_32,
};
use half::f16;
use std::arch::x86_64::*;
use tealight_quant::BlockType;
use tealight_quant::blocks::k::{BlockQ4K, BlockQ6K};
use tealight_quant::blocks::legacy::BlockQ8_0;

/// A row product of all rows from the dot products of two and of one.
macro_rules! matvec {
    ($name:ident, $dot:ident, $block:ty) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        pub(in crate::cpu::kernels) fn $name(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
            let row_bytes = rows.len() / out.len().max(1);
            let row = |r: usize| bytemuck::cast_slice::<u8, $block>(&rows[r * row_bytes..][..row_bytes]);
            let (pairs, last) = out.as_chunks_mut::<2>();
            let n_paired = 2 * pairs.len();
            for (i, out) in pairs.iter_mut().enumerate() {
                *out = $dot([row(2 * i), row(2 * i + 1)], x);
            }
            if let [out] = last {
                [*out] = $dot([row(n_paired)], x);
            }
        }
    };
}

pub(super) mod attention;
pub(super) mod blocks_256;
pub(super) mod blocks_32;
mod codebooks;
pub(super) mod float;
pub(super) mod panel;
mod unpack;

matvec!(matvec_q8_0_q8_0, dot_q8_0_q8_0, BlockQ8_0);
matvec!(matvec_q4_k_q8_k, dot_q4_k_q8_k, BlockQ4K);
matvec!(matvec_q6_k_q8_k, dot_q6_k_q8_k, BlockQ6K);

/// Blocks of 32 that go together.
const GROUP: usize = 4;

/// Lanes of i32 from the low four by index, in a vector of 16.
const SPREAD_BY_4: [i32; 16] = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3];
const SPREAD_BY_8: [[i32; 16]; 2] =
    [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]];

/// Two vectors of i32 sums packed to i16 lie in each 128-bit lane as four of the first, then four of
/// the second: which of the scales goes with each.
const fn packed_lanes(first: [i16; 4], second: [i16; 4]) -> [i16; 32] {
    let mut lanes = [0; 32];
    let mut i = 0;
    while i < 32 {
        lanes[i] = if i % 8 < 4 { first[i / 8] } else { second[i / 8] };
        i += 1;
    }
    lanes
}

/// Q4_K: the vectors hold sub-blocks 0, 2 | 1, 3 and 4, 6 | 5, 7.
static Q4_K_LANES: [[i16; 32]; 2] =
    [packed_lanes([0, 0, 2, 2], [1, 1, 3, 3]), packed_lanes([4, 4, 6, 6], [5, 5, 7, 7])];
/// Q6_K: the vectors hold sixteens 0..4 | 4..8 and 8..12 | 12..16.
static Q6_K_LANES: [[i16; 32]; 2] =
    [packed_lanes([0, 1, 2, 3], [4, 5, 6, 7]), packed_lanes([8, 9, 10, 11], [12, 13, 14, 15])];

/// Adds the products of two vectors of quants, scaled. Sums of four products are packed to i16 and
/// scaled by one multiply-add: quants up to 63 keep 4 * 63 * 127 below 2^15.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scaled_products(sum: __m512i, w: [__m512i; 2], q: [__m512i; 2], scales: __m512i) -> __m512i {
    let zero = _mm512_setzero_si512();
    let packed = _mm512_packs_epi32(_mm512_dpbusd_epi32(zero, w[0], q[0]), _mm512_dpbusd_epi32(zero, w[1], q[1]));
    _mm512_dpwssd_epi32(sum, packed, scales)
}

/// Two halves of a vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn join(low: __m256i, high: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// The 16 bytes of nibbles of four blocks: the low nibbles, the high nibbles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn four_nibbles(qs: [&[u8; 16]; GROUP]) -> [__m512i; 2] {
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load_128(qs[0])), load_128(qs[1]));
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load_128(qs[2])), load_128(qs[3]));
    let bytes = join(low, high);
    let mask = _mm512_set1_epi8(15);
    [_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask)]
}

/// The first sixteens of four blocks of activations, and the second ones: as nibbles come apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn sixteens(q: &[i8; 128]) -> [__m512i; 2] {
    let (q, _) = q.as_chunks::<64>();
    let (a, b) = (load_512(&q[0]), load_512(&q[1]));
    [_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b)]
}

/// The nibbles of one block in order of elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn nibbles(qs: &[u8; 16]) -> __m256i {
    let bytes = load_128(qs);
    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes), _mm256_set1_epi8(15))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dot_q8_0_q8_0<const R: usize>(rows: [&[BlockQ8_0]; R], x: Row8<'_>) -> [f32; R] {
    let spread = [load_512(&SPREAD_BY_8[0]), load_512(&SPREAD_BY_8[1])];
    let flip = _mm512_set1_epi8(-128);
    let mut acc = [[_mm512_setzero_ps(); 2]; R];
    let (q, q_tail) = x.q.as_chunks::<128>();
    let (d, d_tail) = x.d.as_chunks::<GROUP>();
    let (sums, sums_tail) = x.sums.as_chunks::<8>();
    for (g, ((q, d), sums)) in q.iter().zip(d).zip(sums).enumerate() {
        let (q, _) = q.as_chunks::<64>();
        let sums = _mm512_castsi128_si512(load_128(sums));
        let d = _mm_castsi128_ps(load_128(d));
        let mut start = [_mm512_setzero_si512(); 2];
        for (start, spread) in start.iter_mut().zip(spread) {
            let sums = _mm512_maskz_permutexvar_epi32(0x0101, spread, sums);
            *start = _mm512_dpwssd_epi32(*start, sums, _mm512_set1_epi16(-128));
        }
        for (row, acc) in rows.iter().zip(&mut acc) {
            let [b0, b1, b2, b3] = &row.as_chunks::<GROUP>().0[g];
            prefetch(b0, GROUP * size_of::<BlockQ8_0>());
            let d = _mm512_castps128_ps512(_mm_mul_ps(four_halves([b0.d, b1.d, b2.d, b3.d]), d));
            for (i, w) in [[b0, b1], [b2, b3]].into_iter().enumerate() {
                let w = _mm512_xor_si512(join(load_256(&w[0].qs), load_256(&w[1].qs)), flip);
                let dot = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start[i], w, load_512(&q[i])));
                acc[i] = _mm512_fmadd_ps(_mm512_permutexvar_ps(spread[i], d), dot, acc[i]);
            }
        }
    }
    let mut sum = [_mm512_setzero_ps(); R];
    for (sum, acc) in sum.iter_mut().zip(acc) {
        *sum = _mm512_add_ps(acc[0], acc[1]);
    }
    let tail = q_tail.as_chunks::<32>().0.iter().zip(d_tail).zip(sums_tail.as_chunks::<2>().0);
    for (i, ((q, &d), &sums)) in tail.enumerate() {
        let start = minus_offset(128, sums);
        for (row, sum) in rows.iter().zip(&mut sum) {
            let b = &row.as_chunks::<GROUP>().1[i];
            let w = _mm256_xor_si256(load_256(&b.qs), _mm256_set1_epi8(-128));
            *sum = add_scaled(*sum, half(b.d) * d, _mm256_dpbusd_epi32(start, w, load_256(q)));
        }
    }
    reduce(sum)
}

/// Minus the offset of the weights times the sum of a block's activations, in the first lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn minus_offset(offset: i32, sums: [i16; 2]) -> __m256i {
    _mm256_zextsi128_si256(_mm_cvtsi32_si128(-offset * (i32::from(sums[0]) + i32::from(sums[1]))))
}

/// `acc + d * dot`, in the low half.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn add_scaled(acc: __m512, d: f32, dot: __m256i) -> __m512 {
    _mm512_fmadd_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(_mm512_zextsi256_si512(dot)), acc)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn reduce<const R: usize>(acc: [__m512; R]) -> [f32; R] {
    let mut out = [0.0; R];
    for (out, acc) in out.iter_mut().zip(acc) {
        *out = _mm512_reduce_add_ps(acc);
    }
    out
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dot_q4_k_q8_k<const R: usize>(rows: [&[BlockQ4K]; R], x: Row8<'_>) -> [f32; R] {
    let lanes = [load_512(&Q4_K_LANES[0]), load_512(&Q4_K_LANES[1])];
    let mask = _mm512_set1_epi8(15);
    let mut acc = [_mm512_setzero_ps(); R];
    let mut acc_min = [_mm_setzero_ps(); R];
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d).zip(x.sums.as_chunks::<16>().0);
    for (i, ((q, &d), sums)) in activations.enumerate() {
        let sums = sums_of_32(sums);
        let (q, _) = q.as_chunks::<32>();
        let pair = |s: usize| join(load_256(&q[s]), load_256(&q[s + 2]));
        let q = [[pair(0), pair(1)], [pair(4), pair(5)]];
        for (row, acc) in rows.iter().zip(acc.iter_mut().zip(&mut acc_min)) {
            let b = &row[i];
            prefetch(b, size_of::<BlockQ4K>());
            let scales = scales_then_mins(&b.scales);
            let mins = _mm_cvtepu8_epi16(_mm_srli_si128::<8>(scales));
            let scales = _mm512_castsi128_si512(_mm_cvtepu8_epi16(scales));
            let mut dot = _mm512_setzero_si512();
            for (h, qs) in b.qs.as_chunks::<64>().0.iter().enumerate() {
                let qs = load_512(qs);
                let w = [_mm512_and_si512(qs, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(qs), mask)];
                dot = scaled_products(dot, w, q[h], _mm512_permutexvar_epi16(lanes[h], scales));
            }
            let min = _mm_cvtepi32_ps(_mm_madd_epi16(mins, sums));
            *acc.0 = _mm512_fmadd_ps(_mm512_set1_ps(half(b.d) * d), _mm512_cvtepi32_ps(dot), *acc.0);
            *acc.1 = _mm_fnmadd_ps(_mm_set1_ps(half(b.dmin) * d), min, *acc.1);
        }
    }
    for (acc, min) in acc.iter_mut().zip(acc_min) {
        *acc = _mm512_add_ps(*acc, _mm512_zextps128_ps512(min));
    }
    reduce(acc)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dot_q6_k_q8_k<const R: usize>(rows: [&[BlockQ6K]; R], x: Row8<'_>) -> [f32; R] {
    let lanes = [load_512(&Q6_K_LANES[0]), load_512(&Q6_K_LANES[1])];
    let (low_mask, high_mask) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    // the upper two bits of j = 0, 1 go up to bits 4 and 5, those of j = 2, 3 stay and go down
    let up = join(_mm256_set1_epi16(4), _mm256_set1_epi16(2));
    let down = join(_mm256_set1_epi16(0), _mm256_set1_epi16(2));
    let mut acc = [_mm512_setzero_ps(); R];
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d).zip(x.sums.as_chunks::<16>().0);
    for (i, ((q, &d), sums)) in activations.enumerate() {
        let sums = load_256(sums);
        let (q, _) = q.as_chunks::<64>();
        for (row, acc) in rows.iter().zip(&mut acc) {
            let b = &row[i];
            prefetch(b, size_of::<BlockQ6K>());
            let scales = _mm256_cvtepi8_epi16(load_128(&b.scales));
            let offset = _mm256_slli_epi32::<5>(_mm256_madd_epi16(scales, sums));
            let mut dot = _mm512_zextsi256_si512(_mm256_sub_epi32(_mm256_setzero_si256(), offset));
            let scales = _mm512_castsi256_si512(scales);
            let halves = b.ql.as_chunks::<64>().0.iter().zip(b.qh.as_chunks::<32>().0);
            for (h, (ql, qh)) in halves.enumerate() {
                let (ql, qh) = (load_512(ql), _mm512_broadcast_i64x4(load_256(qh)));
                let high = [_mm512_sllv_epi16(qh, up), _mm512_srlv_epi16(qh, down)];
                let high = [_mm512_and_si512(high[0], high_mask), _mm512_and_si512(high[1], high_mask)];
                // (ql & 15) | high in one operation
                let w = [
                    _mm512_ternarylogic_epi32::<0xea>(ql, low_mask, high[0]),
                    _mm512_ternarylogic_epi32::<0xea>(_mm512_srli_epi16::<4>(ql), low_mask, high[1]),
                ];
                let q = [load_512(&q[2 * h]), load_512(&q[2 * h + 1])];
                dot = scaled_products(dot, w, q, _mm512_permutexvar_epi16(lanes[h], scales));
            }
            *acc = _mm512_fmadd_ps(_mm512_set1_ps(half(b.d) * d), _mm512_cvtepi32_ps(dot), *acc);
        }
    }
    reduce(acc)
}

/// Quants of 16 values, and their sum.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn quantize_16(x: __m512, inverse: __m512, q: &mut [i8; SUM_LEN]) -> i16 {
    let wide = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
    store_128(_mm512_cvtepi32_epi8(wide), q);
    _mm512_reduce_add_epi32(wide) as i16
}

/// Magnitudes as integers, in whose order NaN is greatest.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn magnitude(x: __m512) -> __m512i {
    _mm512_castps_si512(_mm512_abs_ps(x))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn quantize_q8_0(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let x = x.as_chunks::<{ BlockQ8_0::LEN }>().0;
    let out = q.as_chunks_mut::<{ BlockQ8_0::LEN }>().0.iter_mut().zip(sums.as_chunks_mut::<2>().0);
    for ((x, d), (q, sums)) in x.iter().zip(d).zip(out) {
        let (x, _) = x.as_chunks::<16>();
        let x = [_mm512_castsi512_ps(load_512(&x[0])), _mm512_castsi512_ps(load_512(&x[1]))];
        let max = _mm512_max_epu32(magnitude(x[0]), magnitude(x[1]));
        let max = f32::from_bits(_mm512_reduce_max_epu32(max));
        *d = f16::from_f32(max / 127.0).to_f32();
        let inverse = _mm512_set1_ps(if max != 0.0 { 127.0 / max } else { 0.0 });
        for ((x, q), sum) in x.into_iter().zip(q.as_chunks_mut().0).zip(sums) {
            *sum = quantize_16(x, inverse, q);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn quantize_q8_k(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let x = x.as_chunks::<256>().0;
    let out = q.as_chunks_mut::<256>().0.iter_mut().zip(sums.as_chunks_mut::<16>().0);
    for ((x, d), (q, sums)) in x.iter().zip(d).zip(out) {
        let (parts, _) = x.as_chunks::<16>();
        let mut max = _mm512_setzero_si512();
        for x in parts {
            max = _mm512_max_epu32(max, magnitude(_mm512_castsi512_ps(load_512(x))));
        }
        let max = _mm512_set1_epi32(_mm512_reduce_max_epu32(max) as i32);
        let mut extreme = 0.0;
        for x in parts {
            let here = _mm512_cmpeq_epi32_mask(magnitude(_mm512_castsi512_ps(load_512(x))), max);
            if here != 0 {
                extreme = x[here.trailing_zeros() as usize];
                break;
            }
        }
        let inverse = if extreme != 0.0 { -127.0 / extreme } else { 0.0 };
        *d = if extreme != 0.0 { 1.0 / inverse } else { 0.0 };
        let inverse = _mm512_set1_ps(inverse);
        for ((x, q), sum) in parts.iter().zip(q.as_chunks_mut().0).zip(sums) {
            *sum = quantize_16(_mm512_castsi512_ps(load_512(x)), inverse, q);
        }
    }
}

/// Row products of the formats beside those that everybody uses.
pub(super) fn matvec_codes(ty: BlockType) -> Option<MatvecQ8> {
    Some(match ty {
        BlockType::Q5_0 => blocks_32::matvec_q5_0_q8_0,
        BlockType::Q5_1 => blocks_32::matvec_q5_1_q8_0,
        BlockType::Iq4Nl => blocks_32::matvec_iq4_nl_q8_0,
        BlockType::Mxfp4 => blocks_32::matvec_mxfp4_q8_0,
        BlockType::Q2K => blocks_256::matvec_q2_k_q8_k,
        BlockType::Q3K => blocks_256::matvec_q3_k_q8_k,
        BlockType::Q5K => blocks_256::matvec_q5_k_q8_k,
        BlockType::Iq4Xs => blocks_256::matvec_iq4_xs_q8_k,
        _ => return codebooks::matvec_codebook(ty),
    })
}
