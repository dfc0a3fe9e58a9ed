//! Row products of the formats of 4 to 8 bits in vectors of 256 bits, said once for both ways to add products
//! of bytes.
//!
//! Unsigned weights keep their offset, which the sums of the activations take away; weights of 8 bits move
//! their signs to the activations. Formats of 32 elements go by four blocks.

use super::codebooks::both;
use super::{four_halves, load_128};
use std::arch::x86_64::*;

/// The 16 bytes of nibbles of two blocks: the low nibbles, the high nibbles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn two_nibbles(a: &[u8; 16], b: &[u8; 16]) -> [__m256i; 2] {
    let (bytes, mask) = (both(a, b), _mm256_set1_epi8(15));
    [_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask)]
}

/// The fifth bits of two blocks added to their nibbles: the low half of each word belongs to the first sixteen
/// elements. Each byte takes the byte of its bit, and looks at that.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn with_fifths(nibbles: [__m256i; 2], qh: [[u8; 4]; 2]) -> [__m256i; 2] {
    let [a, b] = qh.map(|qh| _mm_set1_epi32(i32::from_le_bytes(qh)));
    let words = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let add = |nibbles, first: i64| {
        let places = _mm256_broadcastsi128_si256(_mm_set_epi64x(
            (first + 1) * 0x0101_0101_0101_0101,
            first * 0x0101_0101_0101_0101,
        ));
        let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(words, places), bit), bit);
        _mm256_or_si256(nibbles, _mm256_and_si256(is_set, _mm256_set1_epi8(16)))
    };
    [add(nibbles[0], 0), add(nibbles[1], 2)]
}

/// The activations of the four blocks' pair `p`, as nibbles come apart: the first sixteens, the second ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sixteens(q: &[i8; 128], p: usize) -> [__m256i; 2] {
    let (q, _) = q.as_chunks::<16>();
    [both(&q[4 * p], &q[4 * p + 2]), both(&q[4 * p + 1], &q[4 * p + 3])]
}

/// Minus an offset of the weights times the sums of the activations of two pairs of blocks: of each block in one
/// of its four lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn minus_offset(offset: i16, sums: &[i16; 8]) -> [__m256i; 2] {
    let (sums, minus) = (_mm256_broadcastsi128_si256(load_128(sums)), bytemuck::cast([-offset; 2]));
    [
        _mm256_madd_epi16(sums, _mm256_setr_epi32(minus, 0, 0, 0, 0, minus, 0, 0)),
        _mm256_madd_epi16(sums, _mm256_setr_epi32(0, 0, minus, 0, 0, 0, 0, minus)),
    ]
}

/// The scales of the blocks of pair `p`, in four lanes each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn spread(scales: __m128, p: usize) -> __m256 {
    let (a, b) = if p == 0 { (0, 1) } else { (2, 3) };
    _mm256_permutevar8x32_ps(_mm256_castps128_ps256(scales), _mm256_setr_epi32(a, a, a, a, b, b, b, b))
}

/// Adds four minimums times the scaled sums of the activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn add_minimums(acc: __m256, m: [[u8; 2]; 4], d: &[f32; 4], sums: &[i16; 8]) -> __m256 {
    let sums = _mm_cvtepi32_ps(_mm_madd_epi16(load_128(sums), _mm_set1_epi16(1)));
    let sums = _mm_mul_ps(sums, _mm_castsi128_ps(load_128(d)));
    _mm256_fmadd_ps(_mm256_zextps128_ps256(four_halves(m)), _mm256_zextps128_ps256(sums), acc)
}

/// Scales of 16 elements each: those of even places in the low halves, those of odd ones in the high halves, each
/// twice, so that one shuffle of words of 32 bits takes those of 32 elements.
pub(super) type Scales = [__m256i; 2];

/// Sixteen scales of 16 elements.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn scales_of_16(scales: __m128i) -> Scales {
    let places = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    let scales = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, places));
    [_mm256_unpacklo_epi16(scales, scales), _mm256_unpackhi_epi16(scales, scales)]
}

/// Eight scales of 32 elements, of 16 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn scales_of_32(scales: __m128i) -> Scales {
    let scales = _mm256_broadcastsi128_si256(scales);
    [_mm256_unpacklo_epi16(scales, scales), _mm256_unpackhi_epi16(scales, scales)]
}

/// The scales of the elements 32 i and up.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn scales_at(scales: Scales, i: usize) -> __m256i {
    match i % 4 {
        0 => _mm256_shuffle_epi32::<0x00>(scales[i / 4]),
        1 => _mm256_shuffle_epi32::<0x55>(scales[i / 4]),
        2 => _mm256_shuffle_epi32::<0xaa>(scales[i / 4]),
        _ => _mm256_shuffle_epi32::<0xff>(scales[i / 4]),
    }
}

/// `acc + d * dot`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn add_scaled(acc: __m256, d: f32, dot: __m256i) -> __m256 {
    _mm256_fmadd_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(dot), acc)
}

/// `2^(e - 128)` of four exponents, subnormal for e < 2; as `BlockMxfp4::half_scale`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn powers_of_two(e: [u8; 4]) -> __m128 {
    let e = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(i32::from_le_bytes(e)));
    let normal = _mm_slli_epi32::<23>(_mm_sub_epi32(e, _mm_set1_epi32(1)));
    let subnormal = _mm_sllv_epi32(_mm_set1_epi32(1 << 21), _mm_min_epi32(e, _mm_set1_epi32(2)));
    _mm_castsi128_ps(_mm_max_epi32(normal, subnormal))
}

/// Defines the row products of one instruction set. A macro for the reason that `float_kernels` is one; in scope
/// must be `dots` and `scaled`, as for `codebook_rows`.
macro_rules! block_rows {
    ($features:literal) => {
        use crate::cpu::kernels::x86_64::blocks::*;
        use crate::cpu::kernels::x86_64::codebooks::two_bits;
        use crate::cpu::kernels::x86_64::rows::{dot_rows_by, matvec_rows};
        use crate::cpu::kernels::x86_64::{
            FP4_CODES, eight_scales, four_halves, half, load_128, load_256, prefetch, scales_then_mins, sixteen_scales,
            sum_256, sums_of_32,
        };
        use crate::cpu::kernels::{MatvecQ8, Row8};
        use std::arch::x86_64::*;
        use tealight_quant::BlockType;
        use tealight_quant::blocks::iq::{BlockIq4Nl, BlockIq4Xs};
        use tealight_quant::blocks::k::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};
        use tealight_quant::blocks::legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
        use tealight_quant::blocks::mx::BlockMxfp4;
        use tealight_quant::grids::IQ4_VALUES;

        /// Row products of the formats of this room that have no place of their own in the table.
        pub(in crate::cpu::kernels) fn matvec_block(ty: BlockType) -> Option<MatvecQ8> {
            Some(match ty {
                BlockType::Q5_0 => matvec_q5_0_q8_0,
                BlockType::Q5_1 => matvec_q5_1_q8_0,
                BlockType::Iq4Nl => matvec_iq4_nl_q8_0,
                BlockType::Mxfp4 => matvec_mxfp4_q8_0,
                BlockType::Q2K => matvec_q2_k_q8_k,
                BlockType::Q3K => matvec_q3_k_q8_k,
                BlockType::Q5K => matvec_q5_k_q8_k,
                BlockType::Iq4Xs => matvec_iq4_xs_q8_k,
                _ => return None,
            })
        }

        matvec_rows!($features, matvec_q4_0_q8_0, dot_q4_0_q8_0, BlockQ4_0, 2);
        matvec_rows!($features, matvec_q4_1_q8_0, dot_q4_1_q8_0, BlockQ4_1, 2);
        matvec_rows!($features, matvec_q5_0_q8_0, dot_q5_0_q8_0, BlockQ5_0, 2);
        matvec_rows!($features, matvec_q5_1_q8_0, dot_q5_1_q8_0, BlockQ5_1, 2);
        matvec_rows!($features, matvec_iq4_nl_q8_0, dot_iq4_nl_q8_0, BlockIq4Nl, 2);
        matvec_rows!($features, matvec_mxfp4_q8_0, dot_mxfp4_q8_0, BlockMxfp4, 2);
        matvec_rows!($features, matvec_q8_0_q8_0, dot_q8_0_q8_0, BlockQ8_0, 1);
        matvec_rows!($features, matvec_q2_k_q8_k, dot_q2_k_q8_k, BlockQ2K, 1);
        matvec_rows!($features, matvec_q3_k_q8_k, dot_q3_k_q8_k, BlockQ3K, 1);
        matvec_rows!($features, matvec_q4_k_q8_k, dot_q4_k_q8_k, BlockQ4K, 1);
        matvec_rows!($features, matvec_q5_k_q8_k, dot_q5_k_q8_k, BlockQ5K, 1);
        matvec_rows!($features, matvec_q6_k_q8_k, dot_q6_k_q8_k, BlockQ6K, 1);
        matvec_rows!($features, matvec_iq4_xs_q8_k, dot_iq4_xs_q8_k, BlockIq4Xs, 1);

        dot_rows_by!($features, dot_q4_0_q8_0, BlockQ4_0, 4, step_q4_0);
        dot_rows_by!($features, dot_q4_1_q8_0, BlockQ4_1, 4, step_q4_1);
        dot_rows_by!($features, dot_q5_0_q8_0, BlockQ5_0, 4, step_q5_0);
        dot_rows_by!($features, dot_q5_1_q8_0, BlockQ5_1, 4, step_q5_1);
        dot_rows_by!($features, dot_iq4_nl_q8_0, BlockIq4Nl, 4, step_iq4_nl);
        dot_rows_by!($features, dot_mxfp4_q8_0, BlockMxfp4, 4, step_mxfp4);

        /// What four blocks of 32 add to a row: `$scales` of them, `$dot` of two of them with their activations from
        /// a start that takes an offset away, and last `$more`.
        macro_rules! step {
            (
                        $name:ident, $block:ty, $offset:literal, |$b:ident| $scales:expr,
                        |$two:ident, $start:ident, $q:ident| $dot:expr, |$acc:ident, $d:ident, $sums:ident| $more:block
                    ) => {
                #[allow(unused_variables)] // not every format takes all that it is offered
                #[inline]
                #[target_feature(enable = $features)]
                fn $name<const R: usize>(
                    acc: &mut [__m256; R],
                    blocks: [&[$block; 4]; R],
                    q: &[i8; 128],
                    $d: &[f32; 4],
                    $sums: &[i16; 8],
                ) {
                    let (starts, q) = (minus_offset($offset, $sums), [sixteens(q, 0), sixteens(q, 1)]);
                    for ($b, $acc) in blocks.into_iter().zip(acc) {
                        let scales = _mm_mul_ps($scales, _mm_castsi128_ps(load_128($d)));
                        for p in 0..2 {
                            let ($two, $start, $q) = ([&$b[2 * p], &$b[2 * p + 1]], starts[p], q[p]);
                            *$acc = _mm256_fmadd_ps(spread(scales, p), _mm256_cvtepi32_ps($dot), *$acc);
                        }
                        $more
                    }
                }
            };
        }

        step!(
            step_q4_0,
            BlockQ4_0,
            8,
            |b| four_halves([b[0].d, b[1].d, b[2].d, b[3].d]),
            |two, start, q| dots(start, two_nibbles(&two[0].qs, &two[1].qs), q),
            |acc, d, sums| {}
        );
        step!(
            step_q4_1,
            BlockQ4_1,
            0,
            |b| four_halves([b[0].d, b[1].d, b[2].d, b[3].d]),
            |two, start, q| dots(start, two_nibbles(&two[0].qs, &two[1].qs), q),
            |acc, d, sums| { *acc = add_minimums(*acc, [b[0].m, b[1].m, b[2].m, b[3].m], d, sums) }
        );
        step!(
            step_q5_0,
            BlockQ5_0,
            16,
            |b| four_halves([b[0].d, b[1].d, b[2].d, b[3].d]),
            |two, start, q| {
                dots(start, with_fifths(two_nibbles(&two[0].qs, &two[1].qs), [two[0].qh, two[1].qh]), q)
            },
            |acc, d, sums| {}
        );
        step!(
            step_q5_1,
            BlockQ5_1,
            0,
            |b| four_halves([b[0].d, b[1].d, b[2].d, b[3].d]),
            |two, start, q| {
                dots(start, with_fifths(two_nibbles(&two[0].qs, &two[1].qs), [two[0].qh, two[1].qh]), q)
            },
            |acc, d, sums| { *acc = add_minimums(*acc, [b[0].m, b[1].m, b[2].m, b[3].m], d, sums) }
        );
        step!(
            step_mxfp4,
            BlockMxfp4,
            12,
            |b| powers_of_two([b[0].e, b[1].e, b[2].e, b[3].e]),
            |two, start, q| {
                let table = _mm256_broadcastsi128_si256(load_128(&FP4_CODES));
                let codes = two_nibbles(&two[0].qs, &two[1].qs).map(|nibbles| _mm256_shuffle_epi8(table, nibbles));
                dots(start, codes, q)
            },
            |acc, d, sums| {}
        );
        step!(
            step_iq4_nl,
            BlockIq4Nl,
            0,
            |b| four_halves([b[0].d, b[1].d, b[2].d, b[3].d]),
            |two, start, q| {
                let table = _mm256_broadcastsi128_si256(load_128(&IQ4_VALUES));
                let w = two_nibbles(&two[0].qs, &two[1].qs).map(|nibbles| _mm256_shuffle_epi8(table, nibbles));
                signed_dots(signed_dots(_mm256_setzero_si256(), w[0], q[0]), w[1], q[1])
            },
            |acc, d, sums| {}
        );

        /// `acc` and the products of signed bytes, of which the first may be -128.
        #[inline]
        #[target_feature(enable = $features)]
        fn signed_dots(acc: __m256i, w: __m256i, q: __m256i) -> __m256i {
            // |-128| is 128 as an unsigned byte, and 2 * 128 * 127 still fits i16
            dots(acc, [_mm256_abs_epi8(w)], [_mm256_sign_epi8(q, w)])
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_q8_0_q8_0([row]: [&[BlockQ8_0]; 1], x: Row8<'_>) -> [f32; 1] {
            let mut acc = [_mm256_setzero_ps(); 2];
            for (i, ((b, q), &d)) in row.iter().zip(x.q.as_chunks::<32>().0).zip(x.d).enumerate() {
                if i % 2 == 0 {
                    prefetch(b, 2 * size_of::<BlockQ8_0>());
                }
                let dot = signed_dots(_mm256_setzero_si256(), load_256(&b.qs), load_256(q));
                acc[i % 2] = add_scaled(acc[i % 2], half(b.d) * d, dot);
            }
            [sum_256(_mm256_add_ps(acc[0], acc[1]))]
        }

        /// The dot product of a row of blocks of 256: `$dot` adds up a block's products, `$min` gives what its
        /// minimums add to lanes of the second sum.
        macro_rules! dot_256 {
            ($name:ident, $block:ty, |$b:ident, $q:ident, $sums:ident| $dot:expr, |$d:ident, $acc:ident| $min:block) => {
                #[allow(unused_mut, unused_variables)] // as above
                #[inline]
                #[target_feature(enable = $features)]
                fn $name([row]: [&[$block]; 1], x: Row8<'_>) -> [f32; 1] {
                    let (mut acc, mut $acc) = (_mm256_setzero_ps(), _mm256_setzero_ps());
                    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d.iter().zip(x.sums.as_chunks::<16>().0));
                    for ($b, (q, (&$d, $sums))) in row.iter().zip(activations) {
                        prefetch($b, size_of::<$block>());
                        let ($q, _) = q.as_chunks::<32>();
                        let dot: __m256i = $dot;
                        acc = add_scaled(acc, half($b.d) * $d, dot);
                        $min
                    }
                    [sum_256(_mm256_add_ps(acc, $acc))]
                }
            };
        }

        dot_256!(
            dot_q2_k_q8_k,
            BlockQ2K,
            |b, q, sums| {
                let scales = scales_of_16(_mm_and_si128(load_128(&b.scales), _mm_set1_epi8(15)));
                let mut dot = _mm256_setzero_si256();
                for (h, qs) in b.qs.as_chunks::<32>().0.iter().enumerate() {
                    for (j, w) in two_bits(load_256(qs)).into_iter().enumerate() {
                        let s = 4 * h + j;
                        dot = scaled(dot, w, load_256(&q[s]), scales_at(scales, s));
                    }
                }
                dot
            },
            |d, acc_min| {
                let mins = _mm_and_si128(_mm_srli_epi16::<4>(load_128(&b.scales)), _mm_set1_epi8(15));
                let min = _mm256_cvtepi32_ps(_mm256_madd_epi16(_mm256_cvtepu8_epi16(mins), load_256(sums)));
                acc_min = _mm256_fnmadd_ps(_mm256_set1_ps(half(b.dmin) * d), min, acc_min);
            }
        );

        dot_256!(
            dot_q3_k_q8_k,
            BlockQ3K,
            |b, q, sums| {
                let scales = sixteen_scales(&b.scales);
                let offset = _mm256_slli_epi32::<2>(_mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), load_256(sums)));
                let mut dot = _mm256_sub_epi32(_mm256_setzero_si256(), offset);
                let (scales, hmask, four) = (scales_of_16(scales), load_256(&b.hmask), _mm256_set1_epi8(4));
                for (h, qs) in b.qs.as_chunks::<32>().0.iter().enumerate() {
                    let high = if h == 0 { hmask } else { _mm256_srli_epi16::<4>(hmask) };
                    let high = [
                        _mm256_slli_epi16::<2>(high),
                        _mm256_slli_epi16::<1>(high),
                        high,
                        _mm256_srli_epi16::<1>(high),
                    ];
                    for (j, low) in two_bits(load_256(qs)).into_iter().enumerate() {
                        let s = 4 * h + j;
                        let w = _mm256_or_si256(low, _mm256_and_si256(high[j], four));
                        dot = scaled(dot, w, load_256(&q[s]), scales_at(scales, s));
                    }
                }
                dot
            },
            |d, acc_min| {}
        );

        /// The minimums of Q4_K and Q5_K.
        #[inline]
        #[target_feature(enable = $features)]
        fn subtract_mins(acc: __m256, d: f32, scales: __m128i, sums: &[i16; 16]) -> __m256 {
            let mins = _mm_cvtepu8_epi16(_mm_srli_si128::<8>(scales));
            let min = _mm_cvtepi32_ps(_mm_madd_epi16(mins, sums_of_32(sums)));
            _mm256_fnmadd_ps(_mm256_set1_ps(d), _mm256_zextps128_ps256(min), acc)
        }

        dot_256!(
            dot_q4_k_q8_k,
            BlockQ4K,
            |b, q, sums| {
                let scales = scales_of_32(_mm_cvtepu8_epi16(scales_then_mins(&b.scales)));
                let (mask, mut dot) = (_mm256_set1_epi8(15), _mm256_setzero_si256());
                for (p, qs) in b.qs.as_chunks::<32>().0.iter().enumerate() {
                    let qs = load_256(qs);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(qs), mask);
                    dot = scaled(dot, _mm256_and_si256(qs, mask), load_256(&q[2 * p]), scales_at(scales, 2 * p));
                    dot = scaled(dot, high, load_256(&q[2 * p + 1]), scales_at(scales, 2 * p + 1));
                }
                dot
            },
            |d, acc_min| { acc_min = subtract_mins(acc_min, half(b.dmin) * d, scales_then_mins(&b.scales), sums) }
        );

        dot_256!(
            dot_q5_k_q8_k,
            BlockQ5K,
            |b, q, sums| {
                let scales = scales_of_32(_mm_cvtepu8_epi16(scales_then_mins(&b.scales)));
                let (mask, bit) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
                let qh = load_256(&b.qh);
                let high = [
                    _mm256_slli_epi16::<4>(qh),
                    _mm256_slli_epi16::<3>(qh),
                    _mm256_slli_epi16::<2>(qh),
                    _mm256_slli_epi16::<1>(qh),
                    qh,
                    _mm256_srli_epi16::<1>(qh),
                    _mm256_srli_epi16::<2>(qh),
                    _mm256_srli_epi16::<3>(qh),
                ];
                let mut dot = _mm256_setzero_si256();
                for (p, qs) in b.qs.as_chunks::<32>().0.iter().enumerate() {
                    let qs = load_256(qs);
                    let low = [_mm256_and_si256(qs, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(qs), mask)];
                    for (i, low) in low.into_iter().enumerate() {
                        let s = 2 * p + i;
                        let w = _mm256_or_si256(low, _mm256_and_si256(high[s], bit));
                        dot = scaled(dot, w, load_256(&q[s]), scales_at(scales, s));
                    }
                }
                dot
            },
            |d, acc_min| { acc_min = subtract_mins(acc_min, half(b.dmin) * d, scales_then_mins(&b.scales), sums) }
        );

        dot_256!(
            dot_q6_k_q8_k,
            BlockQ6K,
            |b, q, sums| {
                let (low_mask, high_mask) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
                let scales = load_128(&b.scales);
                let offset = _mm256_slli_epi32::<5>(_mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), load_256(sums)));
                let mut dot = _mm256_sub_epi32(_mm256_setzero_si256(), offset);
                let scales = scales_of_16(scales);
                let halves = b.ql.as_chunks::<64>().0.iter().zip(b.qh.as_chunks::<32>().0);
                for (h, (ql, qh)) in halves.enumerate() {
                    let ((ql, _), qh) = (ql.as_chunks::<32>(), load_256(qh));
                    let ql = [load_256(&ql[0]), load_256(&ql[1])];
                    let low = [ql[0], ql[1], _mm256_srli_epi16::<4>(ql[0]), _mm256_srli_epi16::<4>(ql[1])];
                    let high = [_mm256_slli_epi16::<4>(qh), _mm256_slli_epi16::<2>(qh), qh, _mm256_srli_epi16::<2>(qh)];
                    for j in 0..4 {
                        let s = 4 * h + j;
                        let w =
                            _mm256_or_si256(_mm256_and_si256(low[j], low_mask), _mm256_and_si256(high[j], high_mask));
                        dot = scaled(dot, w, load_256(&q[s]), scales_at(scales, s));
                    }
                }
                dot
            },
            |d, acc_min| {}
        );

        dot_256!(
            dot_iq4_xs_q8_k,
            BlockIq4Xs,
            |b, q, sums| {
                let scales = eight_scales(b);
                let (low, high) = (_mm256_castsi256_si128(scales), _mm256_extracti128_si256::<1>(scales));
                let scales = scales_of_32(_mm_packs_epi32(low, high));
                let table = _mm256_broadcastsi128_si256(load_128(&IQ4_VALUES));
                let mut dot = _mm256_setzero_si256();
                for (s, (qs, q)) in b.qs.as_chunks::<16>().0.iter().zip(q).enumerate() {
                    let bytes = load_128(qs);
                    let nibbles = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
                    let w = _mm256_shuffle_epi8(table, _mm256_and_si256(nibbles, _mm256_set1_epi8(15)));
                    let q = _mm256_sign_epi8(load_256(q), w);
                    dot = scaled(dot, _mm256_abs_epi8(w), q, scales_at(scales, s));
                }
                dot
            },
            |d, acc_min| {}
        );
    };
}

pub(super) use block_rows;
