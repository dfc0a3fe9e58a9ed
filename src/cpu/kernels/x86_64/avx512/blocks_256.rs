//! Formats of 256 elements beside those that everybody uses.

use super::super::IQ4_CODES;
use super::blocks_32::look_up;
use super::*;
use tealight_quant::blocks::iq::BlockIq4Xs;
use tealight_quant::blocks::k::{BlockQ2K, BlockQ3K, BlockQ5K};

matvec!(matvec_q2_k_q8_k, matvec_rows_q2_k_q8_k, dots_q2_k_q8_k, BlockQ2K);
matvec!(matvec_q3_k_q8_k, matvec_rows_q3_k_q8_k, dots_q3_k_q8_k, BlockQ3K);
matvec!(matvec_q5_k_q8_k, matvec_rows_q5_k_q8_k, dots_q5_k_q8_k, BlockQ5K);
matvec!(matvec_iq4_xs_q8_k, matvec_rows_iq4_xs_q8_k, dots_iq4_xs_q8_k, BlockIq4Xs);

dots_256!(dots_q2_k_q8_k, BlockQ2K, unpack_q2_k, load_by_shift, add_with_minimums);
dots_256!(dots_q3_k_q8_k, BlockQ3K, unpack_q3_k, load_by_shift, add_without_offset);
dots_256!(dots_q5_k_q8_k, BlockQ5K, unpack_q5_k, load_by_64, add_with_minimum);
dots_256!(dots_iq4_xs_q8_k, BlockIq4Xs, unpack_iq4_xs, load_iq4_xs, add_iq4_xs);

/// Q2_K and Q3_K: the vectors of pair p hold elements of shift 2p | 2p + 1 of both halves.
static HALVES_LANES: [[i16; 32]; 2] =
    [packed_lanes([0, 1, 8, 9], [2, 3, 10, 11]), packed_lanes([4, 5, 12, 13], [6, 7, 14, 15])];

/// The activations of a block as two-bit quants come apart: of shift j both halves' 32; and sums of 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_by_shift(q: &[i8; 256], sums: &[i16; 16]) -> Loaded {
    let (q, _) = q.as_chunks::<32>();
    let pair = |j: usize| join(load_256(&q[j]), load_256(&q[4 + j]));
    Loaded { q: [[pair(0), pair(1)], [pair(2), pair(3)]], sums: load_256(sums) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_q2_k(b: &BlockQ2K) -> Unpacked {
    let (three, fifteen) = (_mm512_set1_epi8(3), _mm_set1_epi8(15));
    let scales = load_128(&b.scales);
    let mins = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16::<4>(scales), fifteen));
    let scales = _mm512_castsi256_si512(_mm256_cvtepu8_epi16(_mm_and_si128(scales, fifteen)));
    let qs = load_512(&b.qs);
    let w = [
        [_mm512_and_si512(qs, three), _mm512_and_si512(_mm512_srli_epi16::<2>(qs), three)],
        [_mm512_and_si512(_mm512_srli_epi16::<4>(qs), three), _mm512_and_si512(_mm512_srli_epi16::<6>(qs), three)],
    ];
    Unpacked { w, scales: spread(&HALVES_LANES, scales), by_sums: mins, d: half(b.d), dmin: half(b.dmin) }
}

/// Adds the product with a block of sixteen minimums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn add_with_minimums(acc: &mut [__m512; 2], w: &Unpacked, x: &Loaded, d: f32) {
    acc[0] = _mm512_fmadd_ps(_mm512_set1_ps(w.d * d), product(_mm512_setzero_si512(), w, x), acc[0]);
    let (min, old) = (_mm256_cvtepi32_ps(_mm256_madd_epi16(w.by_sums, x.sums)), _mm512_castps512_ps256(acc[1]));
    acc[1] = _mm512_zextps256_ps512(_mm256_fnmadd_ps(_mm256_set1_ps(w.dmin * d), min, old));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_q3_k(b: &BlockQ3K) -> Unpacked {
    let (three, four) = (_mm512_set1_epi8(3), _mm512_set1_epi8(4));
    let scales = _mm256_cvtepi8_epi16(sixteen_scales(&b.scales));
    // bit j of each byte: the third bit of shift j, of the first half below, of the second above
    let high = load_256(&b.hmask);
    let high = join(high, _mm256_srli_epi16::<4>(high));
    let high = [_mm512_slli_epi16::<2>(high), _mm512_slli_epi16::<1>(high), high, _mm512_srli_epi16::<1>(high)];
    let low = load_512(&b.qs);
    let low = [low, _mm512_srli_epi16::<2>(low), _mm512_srli_epi16::<4>(low), _mm512_srli_epi16::<6>(low)];
    // (low & 3) | (high & 4), the second in one operation
    let w = |j: usize| _mm512_ternarylogic_epi32::<0xf8>(_mm512_and_si512(low[j], three), high[j], four);
    Unpacked {
        w: [[w(0), w(1)], [w(2), w(3)]],
        scales: spread(&HALVES_LANES, _mm512_castsi256_si512(scales)),
        by_sums: _mm256_slli_epi16::<2>(scales),
        d: half(b.d),
        dmin: 0.0,
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_q5_k(b: &BlockQ5K) -> Unpacked {
    let (low_mask, high_mask) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
    // bit 4h + s of each byte: the fifth bit of sub-block 4h + s below, of 4h + s + 2 above
    let high = load_256(&b.qh);
    let high = join(high, _mm256_srli_epi16::<2>(high));
    let high = [[_mm512_slli_epi16::<4>(high), _mm512_slli_epi16::<3>(high)], [high, _mm512_srli_epi16::<1>(high)]];
    let codes = |h: usize| {
        let qs = load_512(&b.qs.as_chunks::<64>().0[h]);
        let low = [_mm512_and_si512(qs, low_mask), _mm512_and_si512(_mm512_srli_epi16::<4>(qs), low_mask)];
        // low | (high & 16) in one operation
        [
            _mm512_ternarylogic_epi32::<0xf8>(low[0], high[h][0], high_mask),
            _mm512_ternarylogic_epi32::<0xf8>(low[1], high[h][1], high_mask),
        ]
    };
    let (scales, mins) = spread_scales(&b.scales);
    Unpacked { w: [codes(0), codes(1)], scales, by_sums: mins, d: half(b.d), dmin: half(b.dmin) }
}

/// Codes and scales of a block: codes of 8 bits do not fit the packing to i16, so each sub-block's sums are
/// scaled in f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_iq4_xs(b: &BlockIq4Xs) -> ([[__m512i; 2]; 2], __m256, f32) {
    let mask = _mm512_set1_epi8(15);
    let codes = |h: usize| {
        let qs = load_512(&b.qs.as_chunks::<64>().0[h]);
        look_up(&IQ4_CODES, [_mm512_and_si512(qs, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(qs), mask)])
    };
    ([codes(0), codes(1)], _mm256_cvtepi32_ps(eight_scales(b)), half(b.d))
}

/// Activations as nibbles come apart, and what the integers of each half start with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_iq4_xs(q: &[i8; 256], sums: &[i16; 16]) -> [([__m512i; 2], __m512i); 2] {
    let spread = load_512(&SPREAD_BY_4);
    let (q, sums) = (q.as_chunks::<128>().0, sums.as_chunks::<8>().0);
    let half = |h: usize| {
        let sums = _mm512_maskz_permutexvar_epi32(0x1111, spread, _mm512_castsi128_si512(load_128(&sums[h])));
        (sixteens(&q[h]), _mm512_dpwssd_epi32(_mm512_setzero_si512(), sums, _mm512_set1_epi16(-128)))
    };
    [half(0), half(1)]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn add_iq4_xs(
    acc: &mut [__m512; 2],
    (w, scales, w_d): &([[__m512i; 2]; 2], __m256, f32),
    x: &[([__m512i; 2], __m512i); 2],
    d: f32,
) {
    let spread = load_512(&SPREAD_BY_4);
    let spreads = [spread, _mm512_add_epi32(spread, _mm512_set1_epi32(4))];
    let scales = _mm512_castps256_ps512(_mm256_mul_ps(*scales, _mm256_set1_ps(w_d * d)));
    for (h, (q, start)) in x.iter().enumerate() {
        let dot = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(*start, w[h][0], q[0]), w[h][1], q[1]);
        acc[0] = _mm512_fmadd_ps(_mm512_permutexvar_ps(spreads[h], scales), _mm512_cvtepi32_ps(dot), acc[0]);
    }
}
