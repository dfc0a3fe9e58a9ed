//! Formats of 32 elements with 16 bytes of nibbles: four blocks go together, one vector of first halves
//! and one of second halves.

use super::super::{FP4_CODES, IQ4_CODES};
use super::unpack::{self, fives};
use super::*;
use tealight_quant::blocks::iq::BlockIq4Nl;
use tealight_quant::blocks::legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1};
use tealight_quant::blocks::mx::BlockMxfp4;

matvec!(matvec_q4_0_q8_0, matvec_rows_q4_0_q8_0, dots_q4_0_q8_0, BlockQ4_0);
matvec!(matvec_q4_1_q8_0, matvec_rows_q4_1_q8_0, dots_q4_1_q8_0, BlockQ4_1);
matvec!(matvec_q5_0_q8_0, matvec_rows_q5_0_q8_0, dots_q5_0_q8_0, BlockQ5_0);
matvec!(matvec_q5_1_q8_0, matvec_rows_q5_1_q8_0, dots_q5_1_q8_0, BlockQ5_1);
matvec!(matvec_iq4_nl_q8_0, matvec_rows_iq4_nl_q8_0, dots_iq4_nl_q8_0, BlockIq4Nl);
matvec!(matvec_mxfp4_q8_0, matvec_rows_mxfp4_q8_0, dots_mxfp4_q8_0, BlockMxfp4);

/// The dot products of codes under an offset: `d * (code - offset)`. `$codes` takes four blocks apart into
/// vectors, `$code` one block; `$scales` and `$scale` give their scales.
macro_rules! dots_with_offset {
    ($name:ident, $block:ty, $offset:expr, $codes:ident, $code:ident, $scales:ident, $scale:ident) => {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $name<const R: usize, const T: usize>(rows: [&[$block]; R], x: &[Row8<'_>; T]) -> [[f32; T]; R] {
            let spread = load_512(&SPREAD_BY_4);
            let mut acc = [[[_mm512_setzero_ps(); 2]; T]; R];
            let n = rows[0].len() / GROUP;
            let (groups, x_groups) = (groups_of(rows, n), Blocks::<128, GROUP, 8>::of(x, n));
            for i in 0..n {
                let mut w = [([_mm512_setzero_si512(); 2], _mm_setzero_ps()); R];
                for (row, w) in groups.iter().zip(&mut w) {
                    prefetch(&row[i], size_of::<[$block; GROUP]>());
                    *w = ($codes(&row[i]), $scales(&row[i]));
                }
                for (t, x) in x_groups.iter().enumerate() {
                    let (q, d) = (sixteens(&x.q[i]), _mm_castsi128_ps(load_128(&x.d[i])));
                    let sums = _mm512_castsi128_si512(load_128(&x.sums[i]));
                    let sums = _mm512_maskz_permutexvar_epi32(0x1111, spread, sums);
                    let start = _mm512_dpwssd_epi32(_mm512_setzero_si512(), sums, _mm512_set1_epi16(-$offset));
                    for ((w, scales), acc) in w.iter().zip(&mut acc) {
                        let dot = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, w[0], q[0]), w[1], q[1]);
                        let d = _mm512_castps128_ps512(_mm_mul_ps(*scales, d));
                        acc[t][0] =
                            _mm512_fmadd_ps(_mm512_permutexvar_ps(spread, d), _mm512_cvtepi32_ps(dot), acc[t][0]);
                    }
                }
            }
            for (t, x) in x.iter().enumerate() {
                for (i, (q, d, sums)) in rest(*x, n).enumerate() {
                    let start = minus_offset($offset, sums);
                    for (row, acc) in rows.iter().zip(&mut acc) {
                        let b = &row[GROUP * n + i];
                        let dot = _mm256_dpbusd_epi32(start, $code(b), load_256(q));
                        acc[t][0] = add_scaled(acc[t][0], $scale(b) * d, dot);
                    }
                }
            }
            reduce(acc)
        }
    };
}

dots_with_offset!(dots_q4_0_q8_0, BlockQ4_0, 8, codes_q4_0, code_q4_0, scales_q4_0, scale_q4_0);
dots_with_offset!(dots_q5_0_q8_0, BlockQ5_0, 16, codes_q5_0, code_q5_0, scales_q5_0, scale_q5_0);
dots_with_offset!(dots_iq4_nl_q8_0, BlockIq4Nl, 128, codes_iq4_nl, code_iq4_nl, scales_iq4_nl, scale_iq4_nl);
dots_with_offset!(dots_mxfp4_q8_0, BlockMxfp4, 12, codes_mxfp4, code_mxfp4, scales_mxfp4, scale_mxfp4);

/// The dot products of codes under a minimum: `d * code + m`.
macro_rules! dots_with_minimum {
    ($name:ident, $block:ty, $codes:ident, $code:ident) => {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $name<const R: usize, const T: usize>(rows: [&[$block]; R], x: &[Row8<'_>; T]) -> [[f32; T]; R] {
            let spread = load_512(&SPREAD_BY_4);
            let mut acc = [[[_mm512_setzero_ps(); 2]; T]; R];
            let n = rows[0].len() / GROUP;
            let (groups, x_groups) = (groups_of(rows, n), Blocks::<128, GROUP, 8>::of(x, n));
            for i in 0..n {
                let mut w = [([_mm512_setzero_si512(); 2], _mm_setzero_ps(), _mm_setzero_ps()); R];
                for (row, w) in groups.iter().zip(&mut w) {
                    prefetch(&row[i], size_of::<[$block; GROUP]>());
                    let [b0, b1, b2, b3] = &row[i];
                    *w =
                        ($codes(&row[i]), four_halves([b0.d, b1.d, b2.d, b3.d]), four_halves([b0.m, b1.m, b2.m, b3.m]));
                }
                for (t, x) in x_groups.iter().enumerate() {
                    let (q, d) = (sixteens(&x.q[i]), _mm_castsi128_ps(load_128(&x.d[i])));
                    let sums = _mm_cvtepi32_ps(_mm_madd_epi16(load_128(&x.sums[i]), _mm_set1_epi16(1)));
                    let scaled_sums = _mm_mul_ps(sums, d);
                    for ((w, scales, mins), acc) in w.iter().zip(&mut acc) {
                        let dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w[0], q[0]);
                        let dot = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(dot, w[1], q[1]));
                        let d = _mm512_castps128_ps512(_mm_mul_ps(*scales, d));
                        acc[t][0] = _mm512_fmadd_ps(_mm512_permutexvar_ps(spread, d), dot, acc[t][0]);
                        add_minimums(&mut acc[t][1], *mins, scaled_sums);
                    }
                }
            }
            for (t, x) in x.iter().enumerate() {
                for (i, (q, d, sums)) in rest(*x, n).enumerate() {
                    let scaled_sum = (i32::from(sums[0]) + i32::from(sums[1])) as f32 * d;
                    for (row, acc) in rows.iter().zip(&mut acc) {
                        let b = &row[GROUP * n + i];
                        let dot = _mm256_dpbusd_epi32(_mm256_setzero_si256(), $code(b), load_256(q));
                        acc[t][0] = add_scaled(acc[t][0], half(b.d) * d, dot);
                        add_minimums(&mut acc[t][1], _mm_set_ss(half(b.m)), _mm_set_ss(scaled_sum));
                    }
                }
            }
            reduce(acc)
        }
    };
}

dots_with_minimum!(dots_q4_1_q8_0, BlockQ4_1, codes_q4_1, code_q4_1);
dots_with_minimum!(dots_q5_1_q8_0, BlockQ5_1, codes_q5_1, code_q5_1);

/// Adds minimums times sums in the lowest four lanes; the others stay zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn add_minimums(acc: &mut __m512, mins: __m128, sums: __m128) {
    *acc = _mm512_zextps128_ps512(_mm_fmadd_ps(mins, sums, _mm512_castps512_ps128(*acc)));
}

/// How the codes of each format come apart; the features are those of the caller.
macro_rules! parts {
    ($($name:ident($b:ident: $ty:ty) -> $out:ty = $body:expr;)*) => {
        $(#[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $name($b: $ty) -> $out {
            $body
        })*
    };
}

parts! {
    codes_q4_0(b: &[BlockQ4_0; GROUP]) -> [__m512i; 2] = four_nibbles([&b[0].qs, &b[1].qs, &b[2].qs, &b[3].qs]);
    code_q4_0(b: &BlockQ4_0) -> __m256i = nibbles(&b.qs);
    scales_q4_0(b: &[BlockQ4_0; GROUP]) -> __m128 = four_halves([b[0].d, b[1].d, b[2].d, b[3].d]);
    scale_q4_0(b: &BlockQ4_0) -> f32 = half(b.d);

    codes_q4_1(b: &[BlockQ4_1; GROUP]) -> [__m512i; 2] = four_nibbles([&b[0].qs, &b[1].qs, &b[2].qs, &b[3].qs]);
    code_q4_1(b: &BlockQ4_1) -> __m256i = nibbles(&b.qs);

    codes_q5_0(b: &[BlockQ5_0; GROUP]) -> [__m512i; 2] = with_fifths(
        four_nibbles([&b[0].qs, &b[1].qs, &b[2].qs, &b[3].qs]),
        [b[0].qh, b[1].qh, b[2].qh, b[3].qh],
    );
    code_q5_0(b: &BlockQ5_0) -> __m256i = fives(b.qh, &b.qs);
    scales_q5_0(b: &[BlockQ5_0; GROUP]) -> __m128 = four_halves([b[0].d, b[1].d, b[2].d, b[3].d]);
    scale_q5_0(b: &BlockQ5_0) -> f32 = half(b.d);

    codes_q5_1(b: &[BlockQ5_1; GROUP]) -> [__m512i; 2] = with_fifths(
        four_nibbles([&b[0].qs, &b[1].qs, &b[2].qs, &b[3].qs]),
        [b[0].qh, b[1].qh, b[2].qh, b[3].qh],
    );
    code_q5_1(b: &BlockQ5_1) -> __m256i = fives(b.qh, &b.qs);

    codes_iq4_nl(b: &[BlockIq4Nl; GROUP]) -> [__m512i; 2] =
        look_up(&IQ4_CODES, four_nibbles([&b[0].qs, &b[1].qs, &b[2].qs, &b[3].qs]));
    code_iq4_nl(b: &BlockIq4Nl) -> __m256i = unpack::look_up(&IQ4_CODES, nibbles(&b.qs));
    scales_iq4_nl(b: &[BlockIq4Nl; GROUP]) -> __m128 = four_halves([b[0].d, b[1].d, b[2].d, b[3].d]);
    scale_iq4_nl(b: &BlockIq4Nl) -> f32 = half(b.d);

    codes_mxfp4(b: &[BlockMxfp4; GROUP]) -> [__m512i; 2] =
        look_up(&FP4_CODES, four_nibbles([&b[0].qs, &b[1].qs, &b[2].qs, &b[3].qs]));
    code_mxfp4(b: &BlockMxfp4) -> __m256i = unpack::look_up(&FP4_CODES, nibbles(&b.qs));
    scales_mxfp4(b: &[BlockMxfp4; GROUP]) -> __m128 = powers_of_two([b[0].e, b[1].e, b[2].e, b[3].e]);
    scale_mxfp4(b: &BlockMxfp4) -> f32 = b.half_scale();
}

/// The codes of nibbles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) fn look_up(table: &[u8; 16], nibbles: [__m512i; 2]) -> [__m512i; 2] {
    let table = _mm512_broadcast_i32x4(load_128(table));
    [_mm512_shuffle_epi8(table, nibbles[0]), _mm512_shuffle_epi8(table, nibbles[1])]
}

/// The fifth bits of four blocks added to their nibbles: the low half of each word belongs to the first
/// sixteen elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn with_fifths(nibbles: [__m512i; 2], qh: [[u8; 4]; GROUP]) -> [__m512i; 2] {
    let word = |i: usize| u64::from(u32::from_le_bytes(qh[i]));
    let pair = |i: usize| (word(i) & 0xffff | (word(i + 1) & 0xffff) << 16, word(i) >> 16 | word(i + 1) & 0xffff_0000);
    let ((low_a, high_a), (low_b, high_b)) = (pair(0), pair(2));
    let bit = _mm512_set1_epi8(16);
    let add = |codes, bits| _mm512_mask_add_epi8(codes, bits, codes, bit);
    [add(nibbles[0], low_a | low_b << 32), add(nibbles[1], high_a | high_b << 32)]
}

/// `2^(e - 128)` of four exponents, subnormal for e < 2; as `BlockMxfp4::half_scale`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn powers_of_two(e: [u8; GROUP]) -> __m128 {
    let e = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(i32::from_le_bytes(e)));
    let normal = _mm_slli_epi32::<23>(_mm_sub_epi32(e, _mm_set1_epi32(1)));
    let subnormal = _mm_sllv_epi32(_mm_set1_epi32(1 << 21), _mm_min_epi32(e, _mm_set1_epi32(2)));
    _mm_castsi128_ps(_mm_max_epi32(normal, subnormal))
}
