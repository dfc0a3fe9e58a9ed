//! Formats beside those that everybody uses.

use super::unpack::{fives, look_up};
use super::*;
use tealight_quant::blocks::iq::{BlockIq4Nl, BlockIq4Xs};
use tealight_quant::blocks::k::{BlockQ2K, BlockQ3K, BlockQ5K};
use tealight_quant::blocks::legacy::{BlockQ5_0, BlockQ5_1};
use tealight_quant::blocks::mx::BlockMxfp4;
use tealight_quant::grids::{FP4_DOUBLED, IQ4_VALUES};

matvec!(matvec_q5_0_q8_0, dot_q5_0_q8_0, BlockQ5_0);
matvec!(matvec_q5_1_q8_0, dot_q5_1_q8_0, BlockQ5_1);
matvec!(matvec_iq4_nl_q8_0, dot_iq4_nl_q8_0, BlockIq4Nl);
matvec!(matvec_mxfp4_q8_0, dot_mxfp4_q8_0, BlockMxfp4);
matvec!(matvec_q2_k_q8_k, dot_q2_k_q8_k, BlockQ2K);
matvec!(matvec_q3_k_q8_k, dot_q3_k_q8_k, BlockQ3K);
matvec!(matvec_q5_k_q8_k, dot_q5_k_q8_k, BlockQ5K);
matvec!(matvec_iq4_xs_q8_k, dot_iq4_xs_q8_k, BlockIq4Xs);

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q5_0_q8_0(row: &[BlockQ5_0], x: Row8<'_>) -> f32 {
    let mut acc = [_mm256_setzero_ps(); 2];
    // -16 for the two sums of a block, in the first lane alone
    let offset = _mm256_zextsi128_si256(_mm_cvtsi32_si128(bytemuck::cast([-16i16; 2])));
    for (i, ((b, q), (&d, &sums))) in blocks_of_32!(row, x) {
        if i % 4 == 0 {
            prefetch(b, 4 * size_of::<BlockQ5_0>());
        }
        let start = _mm256_madd_epi16(_mm256_set1_epi32(bytemuck::cast(sums)), offset);
        let dot = _mm256_add_epi32(start, products(fives(b.qh, &b.qs), load_256(q)));
        acc[i % 2] = add_scaled(acc[i % 2], half(b.d) * d, dot);
    }
    sum_256(_mm256_add_ps(acc[0], acc[1]))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q5_1_q8_0(row: &[BlockQ5_1], x: Row8<'_>) -> f32 {
    let mut acc = [_mm256_setzero_ps(); 2];
    let mut mins = 0.0f32;
    for (i, ((b, q), (&d, &[s0, s1]))) in blocks_of_32!(row, x) {
        if i % 4 == 0 {
            prefetch(b, 4 * size_of::<BlockQ5_1>());
        }
        acc[i % 2] = add_scaled(acc[i % 2], half(b.d) * d, products(fives(b.qh, &b.qs), load_256(q)));
        mins = (half(b.m) * d).mul_add((i32::from(s0) + i32::from(s1)) as f32, mins);
    }
    sum_256(_mm256_add_ps(acc[0], acc[1])) + mins
}

/// Products of signed bytes, two to a sum in i16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn signed_products(w: __m256i, q: __m256i) -> __m256i {
    _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w))
}

/// A dot product over a table of values: `d * table[q]`.
macro_rules! dot_by_table {
    ($name:ident, $block:ty, $table:expr, $scale:expr) => {
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name(row: &[$block], x: Row8<'_>) -> f32 {
            let mut acc = [_mm256_setzero_ps(); 2];
            for (i, ((b, q), (&d, _))) in blocks_of_32!(row, x) {
                if i % 4 == 0 {
                    prefetch(b, 4 * size_of::<$block>());
                }
                let dot = signed_products(look_up($table, nibbles(&b.qs)), load_256(q));
                let dot = _mm256_madd_epi16(dot, _mm256_set1_epi16(1));
                acc[i % 2] = add_scaled(acc[i % 2], $scale(b) * d, dot);
            }
            sum_256(_mm256_add_ps(acc[0], acc[1]))
        }
    };
}

dot_by_table!(dot_iq4_nl_q8_0, BlockIq4Nl, &IQ4_VALUES, |b: &BlockIq4Nl| half(b.d));
dot_by_table!(dot_mxfp4_q8_0, BlockMxfp4, &FP4_DOUBLED, BlockMxfp4::half_scale);

/// A scale for each half of the 32 elements s.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scales_of_16(scales: __m128i, s: usize) -> __m256i {
    _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, load_128(&Q6_K_SCALES[s])))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q2_k_q8_k(row: &[BlockQ2K], x: Row8<'_>) -> f32 {
    let (three, fifteen) = (_mm256_set1_epi8(3), _mm_set1_epi8(15));
    let mut acc = _mm256_setzero_ps();
    let mut acc_min = _mm256_setzero_ps();
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d.iter().zip(x.sums.as_chunks::<16>().0));
    for (b, (q, (&d, sums))) in row.iter().zip(activations) {
        prefetch(b, size_of::<BlockQ2K>());
        let scales = load_128(&b.scales);
        let mins = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16::<4>(scales), fifteen));
        let min = _mm256_cvtepi32_ps(_mm256_madd_epi16(mins, load_256(sums)));
        acc_min = _mm256_fnmadd_ps(_mm256_set1_ps(half(b.dmin) * d), min, acc_min);
        let scales = _mm_and_si128(scales, fifteen);
        let mut dot = _mm256_setzero_si256();
        for (h, (qs, q)) in b.qs.as_chunks::<32>().0.iter().zip(q.as_chunks::<128>().0).enumerate() {
            let (qs, (q, _)) = (load_256(qs), q.as_chunks::<32>());
            let shifted = [qs, _mm256_srli_epi16::<2>(qs), _mm256_srli_epi16::<4>(qs), _mm256_srli_epi16::<6>(qs)];
            for j in 0..4 {
                let products = _mm256_maddubs_epi16(_mm256_and_si256(shifted[j], three), load_256(&q[j]));
                dot = _mm256_add_epi32(dot, _mm256_madd_epi16(products, scales_of_16(scales, 4 * h + j)));
            }
        }
        acc = add_scaled(acc, half(b.d) * d, dot);
    }
    sum_256(_mm256_add_ps(acc, acc_min))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q3_k_q8_k(row: &[BlockQ3K], x: Row8<'_>) -> f32 {
    let (three, four) = (_mm256_set1_epi8(3), _mm256_set1_epi8(4));
    let mut acc = _mm256_setzero_ps();
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d.iter().zip(x.sums.as_chunks::<16>().0));
    for (b, (q, (&d, sums))) in row.iter().zip(activations) {
        prefetch(b, size_of::<BlockQ3K>());
        let scales = sixteen_scales(&b.scales);
        let offset = _mm256_slli_epi32::<2>(_mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), load_256(sums)));
        let mut dot = _mm256_sub_epi32(_mm256_setzero_si256(), offset);
        let hmask = load_256(&b.hmask);
        for (h, (qs, q)) in b.qs.as_chunks::<32>().0.iter().zip(q.as_chunks::<128>().0).enumerate() {
            let (qs, (q, _)) = (load_256(qs), q.as_chunks::<32>());
            let low = [qs, _mm256_srli_epi16::<2>(qs), _mm256_srli_epi16::<4>(qs), _mm256_srli_epi16::<6>(qs)];
            let high = if h == 0 { hmask } else { _mm256_srli_epi16::<4>(hmask) };
            let high = [_mm256_slli_epi16::<2>(high), _mm256_slli_epi16::<1>(high), high, _mm256_srli_epi16::<1>(high)];
            for j in 0..4 {
                let w = _mm256_or_si256(_mm256_and_si256(low[j], three), _mm256_and_si256(high[j], four));
                let products = _mm256_maddubs_epi16(w, load_256(&q[j]));
                dot = _mm256_add_epi32(dot, _mm256_madd_epi16(products, scales_of_16(scales, 4 * h + j)));
            }
        }
        acc = add_scaled(acc, half(b.d) * d, dot);
    }
    sum_256(acc)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q5_k_q8_k(row: &[BlockQ5K], x: Row8<'_>) -> f32 {
    let (mask, bit) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
    let mut acc = _mm256_setzero_ps();
    let mut acc_min = _mm_setzero_ps();
    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d.iter().zip(x.sums.as_chunks::<16>().0));
    for (b, (q, (&d, sums))) in row.iter().zip(activations) {
        prefetch(b, size_of::<BlockQ5K>());
        let scales = scales_then_mins(&b.scales);
        let mins = _mm_cvtepu8_epi16(_mm_srli_si128::<8>(scales));
        let min = _mm_cvtepi32_ps(_mm_madd_epi16(mins, sums_of_32(sums)));
        acc_min = _mm_fnmadd_ps(_mm_set1_ps(half(b.dmin) * d), min, acc_min);
        let scales = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(scales));
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
        let parts = b.qs.as_chunks::<32>().0.iter().zip(q.as_chunks::<64>().0);
        for (p, (qs, q)) in parts.enumerate() {
            let (qs, (q, _)) = (load_256(qs), q.as_chunks::<32>());
            let low = [_mm256_and_si256(qs, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(qs), mask)];
            for (i, low) in low.into_iter().enumerate() {
                let s = 2 * p + i;
                let w = _mm256_or_si256(low, _mm256_and_si256(high[s], bit));
                let scale = _mm256_shuffle_epi8(scales, _mm256_set1_epi16((2 * s + (2 * s + 1) * 256) as i16));
                let products = _mm256_maddubs_epi16(w, load_256(&q[i]));
                dot = _mm256_add_epi32(dot, _mm256_madd_epi16(products, scale));
            }
        }
        acc = add_scaled(acc, half(b.d) * d, dot);
    }
    sum_256(acc) + sum_128(acc_min)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_iq4_xs_q8_k(row: &[BlockIq4Xs], x: Row8<'_>) -> f32 {
    let mut acc = _mm256_setzero_ps();
    for (b, (q, &d)) in row.iter().zip(x.q.as_chunks::<256>().0.iter().zip(x.d)) {
        prefetch(b, size_of::<BlockIq4Xs>());
        let mut scales = [0i32; 8];
        super::super::store_256(eight_scales(b), &mut scales);
        let mut dot = _mm256_setzero_si256();
        let parts = b.qs.as_chunks::<16>().0.iter().zip(q.as_chunks::<32>().0);
        for ((qs, q), scale) in parts.zip(scales) {
            let products = signed_products(look_up(&IQ4_VALUES, nibbles(qs)), load_256(q));
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(products, _mm256_set1_epi16(scale as i16)));
        }
        acc = add_scaled(acc, half(b.d) * d, dot);
    }
    sum_256(acc)
}
