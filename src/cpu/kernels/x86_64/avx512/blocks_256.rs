//! Formats of 256 elements beside those that everybody uses.

use super::super::IQ4_CODES;
use super::blocks_32::look_up;
use super::*;
use tealight_quant::blocks::iq::BlockIq4Xs;
use tealight_quant::blocks::k::{BlockQ2K, BlockQ3K, BlockQ5K};

matvec!(matvec_q2_k_q8_k, dot_q2_k_q8_k, BlockQ2K);
matvec!(matvec_q3_k_q8_k, dot_q3_k_q8_k, BlockQ3K);
matvec!(matvec_q5_k_q8_k, dot_q5_k_q8_k, BlockQ5K);
matvec!(matvec_iq4_xs_q8_k, dot_iq4_xs_q8_k, BlockIq4Xs);

/// Q2_K and Q3_K: the vectors of pair p hold elements of shift 2p | 2p + 1 of both halves.
static HALVES_LANES: [[i16; 32]; 2] =
    [packed_lanes([0, 1, 8, 9], [2, 3, 10, 11]), packed_lanes([4, 5, 12, 13], [6, 7, 14, 15])];

/// The activations of a block as two-bit quants come apart: of shift j both halves' 32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn by_shift(q: &[i8; 256]) -> [[__m512i; 2]; 2] {
    let (q, _) = q.as_chunks::<32>();
    let pair = |j: usize| join(load_256(&q[j]), load_256(&q[4 + j]));
    [[pair(0), pair(1)], [pair(2), pair(3)]]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dot_q2_k_q8_k<const R: usize>(rows: [&[BlockQ2K]; R], x: Row8<'_>) -> [f32; R] {
    let lanes = [load_512(&HALVES_LANES[0]), load_512(&HALVES_LANES[1])];
    let (three, fifteen) = (_mm512_set1_epi8(3), _mm_set1_epi8(15));
    let mut acc = [_mm512_setzero_ps(); R];
    let mut acc_min = [_mm256_setzero_ps(); R];
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d).zip(x.sums.as_chunks::<16>().0);
    for (i, ((q, &d), sums)) in activations.enumerate() {
        let (q, sums) = (by_shift(q), load_256(sums));
        for (row, acc) in rows.iter().zip(acc.iter_mut().zip(&mut acc_min)) {
            let b = &row[i];
            prefetch(b, size_of::<BlockQ2K>());
            let scales = load_128(&b.scales);
            let mins = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16::<4>(scales), fifteen));
            let scales = _mm512_castsi256_si512(_mm256_cvtepu8_epi16(_mm_and_si128(scales, fifteen)));
            let qs = load_512(&b.qs);
            let w = [
                [_mm512_and_si512(qs, three), _mm512_and_si512(_mm512_srli_epi16::<2>(qs), three)],
                [
                    _mm512_and_si512(_mm512_srli_epi16::<4>(qs), three),
                    _mm512_and_si512(_mm512_srli_epi16::<6>(qs), three),
                ],
            ];
            let mut dot = _mm512_setzero_si512();
            for p in 0..2 {
                dot = scaled_products(dot, w[p], q[p], _mm512_permutexvar_epi16(lanes[p], scales));
            }
            let min = _mm256_cvtepi32_ps(_mm256_madd_epi16(mins, sums));
            *acc.0 = _mm512_fmadd_ps(_mm512_set1_ps(half(b.d) * d), _mm512_cvtepi32_ps(dot), *acc.0);
            *acc.1 = _mm256_fnmadd_ps(_mm256_set1_ps(half(b.dmin) * d), min, *acc.1);
        }
    }
    for (acc, min) in acc.iter_mut().zip(acc_min) {
        *acc = _mm512_add_ps(*acc, _mm512_zextps256_ps512(min));
    }
    reduce(acc)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dot_q3_k_q8_k<const R: usize>(rows: [&[BlockQ3K]; R], x: Row8<'_>) -> [f32; R] {
    let lanes = [load_512(&HALVES_LANES[0]), load_512(&HALVES_LANES[1])];
    let (three, four) = (_mm512_set1_epi8(3), _mm512_set1_epi8(4));
    let mut acc = [_mm512_setzero_ps(); R];
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d).zip(x.sums.as_chunks::<16>().0);
    for (i, ((q, &d), sums)) in activations.enumerate() {
        let (q, sums) = (by_shift(q), load_256(sums));
        for (row, acc) in rows.iter().zip(&mut acc) {
            let b = &row[i];
            prefetch(b, size_of::<BlockQ3K>());
            let scales = _mm256_cvtepi8_epi16(sixteen_scales(&b.scales));
            let offset = _mm256_slli_epi32::<2>(_mm256_madd_epi16(scales, sums));
            let mut dot = _mm512_zextsi256_si512(_mm256_sub_epi32(_mm256_setzero_si256(), offset));
            let scales = _mm512_castsi256_si512(scales);
            // bit j of each byte: the third bit of shift j, of the first half below, of the second above
            let high = load_256(&b.hmask);
            let high = join(high, _mm256_srli_epi16::<4>(high));
            let high = [_mm512_slli_epi16::<2>(high), _mm512_slli_epi16::<1>(high), high, _mm512_srli_epi16::<1>(high)];
            let low = load_512(&b.qs);
            let low = [low, _mm512_srli_epi16::<2>(low), _mm512_srli_epi16::<4>(low), _mm512_srli_epi16::<6>(low)];
            // (low & 3) | (high & 4), the second in one operation
            let w = |j: usize| _mm512_ternarylogic_epi32::<0xf8>(_mm512_and_si512(low[j], three), high[j], four);
            let w = [[w(0), w(1)], [w(2), w(3)]];
            for p in 0..2 {
                dot = scaled_products(dot, w[p], q[p], _mm512_permutexvar_epi16(lanes[p], scales));
            }
            *acc = _mm512_fmadd_ps(_mm512_set1_ps(half(b.d) * d), _mm512_cvtepi32_ps(dot), *acc);
        }
    }
    reduce(acc)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dot_q5_k_q8_k<const R: usize>(rows: [&[BlockQ5K]; R], x: Row8<'_>) -> [f32; R] {
    let lanes = [load_512(&Q4_K_LANES[0]), load_512(&Q4_K_LANES[1])];
    let (low_mask, high_mask) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
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
            prefetch(b, size_of::<BlockQ5K>());
            let scales = scales_then_mins(&b.scales);
            let mins = _mm_cvtepu8_epi16(_mm_srli_si128::<8>(scales));
            let scales = _mm512_castsi128_si512(_mm_cvtepu8_epi16(scales));
            // bit 4h + s of each byte: the fifth bit of sub-block 4h + s below, of 4h + s + 2 above
            let high = load_256(&b.qh);
            let high = join(high, _mm256_srli_epi16::<2>(high));
            let high =
                [[_mm512_slli_epi16::<4>(high), _mm512_slli_epi16::<3>(high)], [high, _mm512_srli_epi16::<1>(high)]];
            let mut dot = _mm512_setzero_si512();
            for (h, qs) in b.qs.as_chunks::<64>().0.iter().enumerate() {
                let qs = load_512(qs);
                let low = [_mm512_and_si512(qs, low_mask), _mm512_and_si512(_mm512_srli_epi16::<4>(qs), low_mask)];
                // low | (high & 16) in one operation
                let w = [
                    _mm512_ternarylogic_epi32::<0xf8>(low[0], high[h][0], high_mask),
                    _mm512_ternarylogic_epi32::<0xf8>(low[1], high[h][1], high_mask),
                ];
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

/// Codes of 8 bits do not fit the packing to i16, so each sub-block's sums are scaled in f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dot_iq4_xs_q8_k<const R: usize>(rows: [&[BlockIq4Xs]; R], x: Row8<'_>) -> [f32; R] {
    let spread = load_512(&SPREAD_BY_4);
    let spreads = [spread, _mm512_add_epi32(spread, _mm512_set1_epi32(4))];
    let mask = _mm512_set1_epi8(15);
    let mut acc = [_mm512_setzero_ps(); R];
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d).zip(x.sums.as_chunks::<16>().0);
    for (i, ((q, &d), sums)) in activations.enumerate() {
        let q: [[__m512i; 2]; 2] = [sixteens(&q.as_chunks::<128>().0[0]), sixteens(&q.as_chunks::<128>().0[1])];
        let mut start = [_mm512_setzero_si512(); 2];
        for (start, sums) in start.iter_mut().zip(sums.as_chunks::<8>().0) {
            let sums = _mm512_maskz_permutexvar_epi32(0x1111, spread, _mm512_castsi128_si512(load_128(sums)));
            *start = _mm512_dpwssd_epi32(*start, sums, _mm512_set1_epi16(-128));
        }
        for (row, acc) in rows.iter().zip(&mut acc) {
            let b = &row[i];
            prefetch(b, size_of::<BlockIq4Xs>());
            let scales = _mm256_mul_ps(_mm256_cvtepi32_ps(eight_scales(b)), _mm256_set1_ps(half(b.d) * d));
            let scales = _mm512_castps256_ps512(scales);
            for (h, qs) in b.qs.as_chunks::<64>().0.iter().enumerate() {
                let qs = load_512(qs);
                let nibbles = [_mm512_and_si512(qs, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(qs), mask)];
                let w = look_up(&IQ4_CODES, nibbles);
                let dot = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start[h], w[0], q[h][0]), w[1], q[h][1]);
                let scale = _mm512_permutexvar_ps(spreads[h], scales);
                *acc = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dot), *acc);
            }
        }
    }
    reduce(acc)
}
