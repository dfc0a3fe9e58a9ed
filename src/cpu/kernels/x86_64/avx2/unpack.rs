//! Unpacking to panels with AVX2. Formats without a function of their own here are unpacked as the
//! specification says, compiled for these instructions.

use super::super::super::codes::{Coded, CodedVisitor, iq4_xs_scales, visit_coded};
use super::super::super::panel::{PANEL_COLS, PANEL_ROWS, Panel, PanelBytes, RowBuffers, Unpack};
use super::super::super::scalar::panel::row_codes;
use super::super::{FP4_CODES, IQ4_CODES, half, load_128, load_256, prefetch_next, scales_then_mins, store_256};
use super::nibbles;
use super::panel::interleave;
use bytemuck::Pod;
use std::arch::x86_64::*;
use tealight_quant::BlockType;
use tealight_quant::blocks::iq::{BlockIq4Nl, BlockIq4Xs};
use tealight_quant::blocks::k::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};
use tealight_quant::blocks::legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
use tealight_quant::blocks::mx::BlockMxfp4;

/// Scales or minimums of the columns of a row, by sub-block.
type Scales = [f32; 16];

/// Unpacks all rows by a function of one; `n_sub` is the number of sub-blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_rows(
    rows: &PanelBytes<'_>,
    panel: &mut Panel,
    n_sub: usize,
    has_min: bool,
    row_codes: impl Fn(&[u8], &mut [u8; PANEL_COLS], &mut Scales, &mut Scales),
) {
    let RowBuffers { q, scale, min, .. } = &mut panel.rows;
    let out = q.iter_mut().zip(scale.iter_mut().zip(min.iter_mut()));
    for (row, (q, (scale, min))) in rows.iter().zip(out) {
        prefetch_next(row);
        row_codes(row, q, scale, min);
    }
    interleave(q, &mut panel.q);
    interleave::<64>(bytemuck::cast_ref(scale), bytemuck::cast_slice_mut(&mut panel.scale[..n_sub]));
    if has_min {
        interleave::<64>(bytemuck::cast_ref(min), bytemuck::cast_slice_mut(&mut panel.min[..n_sub]));
    }
}

pub(in super::super) fn unpack(ty: BlockType) -> Option<Unpack> {
    struct Pick;
    impl CodedVisitor for Pick {
        type Output = Unpack;
        fn visit<B: Coded<N>, const N: usize>(self) -> Unpack {
            unpack_blocks::<B, N>
        }
    }
    Some(match ty {
        BlockType::Q4_0 => unpack_q4_0,
        BlockType::Q4_1 => unpack_q4_1,
        BlockType::Q5_0 => unpack_q5_0,
        BlockType::Q5_1 => unpack_q5_1,
        BlockType::Q8_0 => unpack_q8_0,
        BlockType::Q4K => unpack_q4_k,
        BlockType::Q5K => unpack_q5_k,
        BlockType::Q6K => unpack_q6_k,
        BlockType::Iq4Nl => unpack_iq4_nl,
        BlockType::Iq4Xs => unpack_iq4_xs,
        BlockType::Mxfp4 => unpack_mxfp4,
        BlockType::Q2K => unpack_q2_k,
        BlockType::Q3K => unpack_q3_k,
        _ => return visit_coded(ty, Pick),
    })
}

#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_blocks<B: Coded<N>, const N: usize>(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_rows(rows, panel, PANEL_COLS / B::SUB, B::HAS_MIN, |row, q, scale, min| {
        row_codes::<B, N>(row, q, scale, min)
    });
}

/// Unpacking of a format of 32: what a block gives are its scale, its minimum and a vector of codes.
macro_rules! unpack_32 {
    ($name:ident, $block:ty, $has_min:literal, |$b:ident| $codes:expr) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name(rows: &PanelBytes<'_>, panel: &mut Panel) {
            unpack_rows(rows, panel, PANEL_COLS / <$block>::SUB, $has_min, |row, q, scale, min| {
                let blocks = bytemuck::cast_slice::<u8, $block>(row).iter().zip(q.as_chunks_mut::<32>().0);
                for (($b, q), (scale, min)) in blocks.zip(scale.iter_mut().zip(min)) {
                    let codes: __m256i;
                    (*scale, *min, codes) = $codes;
                    store_256(codes, q);
                }
            });
        }
    };
}

unpack_32!(unpack_q4_0, BlockQ4_0, false, |b| (half(b.d), 0.0, nibbles(&b.qs)));
unpack_32!(unpack_q4_1, BlockQ4_1, true, |b| (half(b.d), half(b.m), nibbles(&b.qs)));
unpack_32!(unpack_q5_0, BlockQ5_0, false, |b| (half(b.d), 0.0, fives(b.qh, &b.qs)));
unpack_32!(unpack_q5_1, BlockQ5_1, true, |b| (half(b.d), half(b.m), fives(b.qh, &b.qs)));
unpack_32!(unpack_q8_0, BlockQ8_0, false, |b| {
    (half(b.d), 0.0, _mm256_xor_si256(load_256(&b.qs), _mm256_set1_epi8(-128)))
});
unpack_32!(unpack_iq4_nl, BlockIq4Nl, false, |b| (half(b.d), 0.0, look_up(&IQ4_CODES, nibbles(&b.qs))));
unpack_32!(unpack_mxfp4, BlockMxfp4, false, |b| (b.half_scale(), 0.0, look_up(&FP4_CODES, nibbles(&b.qs))));

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn look_up<T: Pod>(table: &[T; 16], nibbles: __m256i) -> __m256i {
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_128(table)), nibbles)
}

/// Nibbles with fifth bits: each byte takes the byte of its bit, and looks at that.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn fives(qh: [u8; 4], qs: &[u8; 16]) -> __m256i {
    let byte = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(qh)), byte);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    _mm256_or_si256(nibbles(qs), _mm256_and_si256(is_set, _mm256_set1_epi8(16)))
}

/// Unpacking of a format of 256 by a function of its one block.
macro_rules! unpack_256 {
    ($name:ident, $block:ty, $has_min:literal, $codes:ident) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name(rows: &PanelBytes<'_>, panel: &mut Panel) {
            unpack_rows(rows, panel, PANEL_COLS / <$block>::SUB, $has_min, |row, q, scale, min| {
                for b in bytemuck::cast_slice::<u8, $block>(row) {
                    $codes(b, q, scale, min);
                }
            });
        }
    };
}

unpack_256!(unpack_iq4_xs, BlockIq4Xs, false, codes_iq4_xs);
unpack_256!(unpack_q2_k, BlockQ2K, true, codes_q2_k);
unpack_256!(unpack_q3_k, BlockQ3K, false, codes_q3_k);
unpack_256!(unpack_q4_k, BlockQ4K, true, codes_q4_k);
unpack_256!(unpack_q5_k, BlockQ5K, true, codes_q5_k);
unpack_256!(unpack_q6_k, BlockQ6K, false, codes_q6_k);

/// Eight scales of i32 times their common one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store_scales(d: f32, scales: __m256i, out: &mut [f32; 8]) {
    store_256(_mm256_castps_si256(_mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(scales))), out);
}

/// The scales and minimums of Q4_K and Q5_K.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn k_scales(d: [u8; 2], dmin: [u8; 2], packed: &[u8; 12], scale: &mut Scales, min: &mut Scales) {
    let both = scales_then_mins(packed);
    store_scales(half(d), _mm256_cvtepu8_epi32(both), &mut scale.as_chunks_mut().0[0]);
    store_scales(-half(dmin), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(both)), &mut min.as_chunks_mut().0[0]);
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn codes_q4_k(b: &BlockQ4K, q: &mut [u8; PANEL_COLS], scale: &mut Scales, min: &mut Scales) {
    k_scales(b.d, b.dmin, &b.scales, scale, min);
    let mask = _mm256_set1_epi8(15);
    for (q, qs) in q.as_chunks_mut::<64>().0.iter_mut().zip(b.qs.as_chunks::<32>().0) {
        let (qs, (q, _)) = (load_256(qs), q.as_chunks_mut::<32>());
        store_256(_mm256_and_si256(qs, mask), &mut q[0]);
        store_256(_mm256_and_si256(_mm256_srli_epi16::<4>(qs), mask), &mut q[1]);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn codes_q5_k(b: &BlockQ5K, q: &mut [u8; PANEL_COLS], scale: &mut Scales, min: &mut Scales) {
    k_scales(b.d, b.dmin, &b.scales, scale, min);
    let (mask, sixteen) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
    let qh = load_256(&b.qh);
    let high = |s: usize| {
        let bit = _mm256_set1_epi8((1u8 << s) as i8);
        _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(qh, bit), bit), sixteen)
    };
    for (i, (q, qs)) in q.as_chunks_mut::<64>().0.iter_mut().zip(b.qs.as_chunks::<32>().0).enumerate() {
        let (qs, (q, _)) = (load_256(qs), q.as_chunks_mut::<32>());
        store_256(_mm256_or_si256(_mm256_and_si256(qs, mask), high(2 * i)), &mut q[0]);
        store_256(_mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16::<4>(qs), mask), high(2 * i + 1)), &mut q[1]);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn codes_q6_k(b: &BlockQ6K, q: &mut [u8; PANEL_COLS], scale: &mut Scales, _: &mut Scales) {
    let (scales, d) = (load_128(&b.scales), half(b.d));
    let (scale, _) = scale.as_chunks_mut::<8>();
    store_scales(d, _mm256_cvtepi8_epi32(scales), &mut scale[0]);
    store_scales(d, _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(scales)), &mut scale[1]);
    let (low_mask, high_mask) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    for (h, q) in q.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let high = load_256(&b.qh.as_chunks::<32>().0[h]);
        let (ql, (q, _)) = (b.ql.as_chunks::<32>().0, q.as_chunks_mut::<32>());
        let (a, b) = (load_256(&ql[2 * h]), load_256(&ql[2 * h + 1]));
        let low = [a, b, _mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<4>(b)];
        let high = [_mm256_slli_epi16::<4>(high), _mm256_slli_epi16::<2>(high), high, _mm256_srli_epi16::<2>(high)];
        for ((low, high), q) in low.into_iter().zip(high).zip(q) {
            store_256(_mm256_or_si256(_mm256_and_si256(low, low_mask), _mm256_and_si256(high, high_mask)), q);
        }
    }
}

/// Four planes of two bits of 32 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn two_bits(qs: &[u8; 32]) -> [__m256i; 4] {
    let (qs, mask) = (load_256(qs), _mm256_set1_epi8(3));
    let planes = [qs, _mm256_srli_epi16::<2>(qs), _mm256_srli_epi16::<4>(qs), _mm256_srli_epi16::<6>(qs)];
    planes.map(|plane| _mm256_and_si256(plane, mask))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn codes_q2_k(b: &BlockQ2K, q: &mut [u8; PANEL_COLS], scale: &mut Scales, min: &mut Scales) {
    let (both, d, dmin) = (load_128(&b.scales), half(b.d), -half(b.dmin));
    let (scale, min) = (scale.as_chunks_mut::<8>().0, min.as_chunks_mut::<8>().0);
    for (both, (scale, min)) in [both, _mm_srli_si128::<8>(both)].into_iter().zip(scale.iter_mut().zip(min)) {
        let both = _mm256_cvtepu8_epi32(both);
        store_scales(d, _mm256_and_si256(both, _mm256_set1_epi32(15)), scale);
        store_scales(dmin, _mm256_srli_epi32::<4>(both), min);
    }
    for (q, qs) in q.as_chunks_mut::<128>().0.iter_mut().zip(b.qs.as_chunks::<32>().0) {
        for (q, plane) in q.as_chunks_mut::<32>().0.iter_mut().zip(two_bits(qs)) {
            store_256(plane, q);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn codes_q3_k(b: &BlockQ3K, q: &mut [u8; PANEL_COLS], scale: &mut Scales, _: &mut Scales) {
    let d = half(b.d);
    for (k, scale) in scale.iter_mut().enumerate() {
        *scale = d * f32::from(b.scale(k));
    }
    let (high, four) = (load_256(&b.hmask), _mm256_set1_epi8(4));
    for (h, (q, qs)) in q.as_chunks_mut::<128>().0.iter_mut().zip(b.qs.as_chunks::<32>().0).enumerate() {
        for (j, (q, plane)) in q.as_chunks_mut::<32>().0.iter_mut().zip(two_bits(qs)).enumerate() {
            let bit = _mm256_set1_epi8((1u8 << (4 * h + j)) as i8);
            let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(high, bit), bit);
            store_256(_mm256_or_si256(plane, _mm256_and_si256(is_set, four)), q);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn codes_iq4_xs(b: &BlockIq4Xs, q: &mut [u8; PANEL_COLS], scale: &mut Scales, _: &mut Scales) {
    iq4_xs_scales(b, scale);
    for (q, qs) in q.as_chunks_mut::<32>().0.iter_mut().zip(b.qs.as_chunks::<16>().0) {
        store_256(look_up(&IQ4_CODES, nibbles(qs)), q);
    }
}

pub(super) fn unpack_f32(ty: BlockType) -> Option<Unpack> {
    match ty {
        BlockType::F32 => Some(unpack_rows_f32),
        BlockType::F16 => Some(unpack_rows_f16),
        BlockType::Bf16 => Some(unpack_rows_bf16),
        _ => None,
    }
}

/// Unpacks rows of numbers of `N_BYTES` bytes for 8; 8 columns at a time.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_numbers<const N_BYTES: usize>(
    rows: &PanelBytes<'_>,
    panel: &mut Panel,
    load: impl Fn(&[u8; N_BYTES]) -> __m256,
) {
    rows.iter().for_each(|row| prefetch_next(row));
    for (i, out) in panel.w.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let mut w = [[0f32; 8]; PANEL_ROWS];
        for (row, w) in rows.iter().zip(&mut w) {
            let rest = row.get(i * N_BYTES..).unwrap_or_default();
            match rest.first_chunk() {
                Some(x) => store_256(_mm256_castps_si256(load(x)), w),
                None => {
                    let mut x = [0; N_BYTES];
                    x[..rest.len()].copy_from_slice(rest);
                    store_256(_mm256_castps_si256(load(&x)), w);
                }
            }
        }
        interleave::<32>(bytemuck::cast_ref(&w), bytemuck::cast_slice_mut(out));
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_rows_f32(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_numbers(rows, panel, |x: &[u8; 32]| _mm256_castsi256_ps(load_256(x)));
}

#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_rows_f16(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_numbers(rows, panel, |x: &[u8; 16]| _mm256_cvtph_ps(load_128(x)));
}

#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_rows_bf16(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_numbers(rows, panel, |x: &[u8; 16]| {
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_128(x))))
    });
}
