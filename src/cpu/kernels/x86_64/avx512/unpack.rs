//! Unpacking to panels with AVX-512. Formats without a function of their own here are unpacked as the
//! specification says, compiled for these instructions.

use super::super::super::codes::{Coded, CodedVisitor, iq4_xs_scales, visit_coded};
use super::super::super::panel::{PANEL_COLS, PANEL_ROWS, Panel, PanelBytes, RowBuffers, Unpack};
use super::super::super::scalar::panel::row_codes;
use super::super::{
    FP4_CODES, IQ4_CODES, half, load_128, load_256, load_512, prefetch_next, scales_then_mins, sixteen_scales,
    store_256, store_512,
};
use super::panel::interleave;
use super::{join, nibbles};
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
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
    interleave(q, 0, &mut panel.q);
    interleave::<64>(bytemuck::cast_ref(scale), 0, bytemuck::cast_slice_mut(&mut panel.scale[..n_sub]));
    if has_min {
        interleave::<64>(bytemuck::cast_ref(min), 0, bytemuck::cast_slice_mut(&mut panel.min[..n_sub]));
    }
}

pub(super) fn unpack(ty: BlockType) -> Option<Unpack> {
    Some(match ty {
        BlockType::Q4_0 => unpack_q4_0,
        BlockType::Q4_1 => unpack_q4_1,
        BlockType::Q5_0 => unpack_q5_0,
        BlockType::Q5_1 => unpack_q5_1,
        BlockType::Q8_0 => unpack_q8_0,
        BlockType::Q2K => unpack_q2_k,
        BlockType::Q3K => unpack_q3_k,
        BlockType::Q4K => unpack_q4_k,
        BlockType::Q5K => unpack_q5_k,
        BlockType::Q6K => unpack_q6_k,
        BlockType::Iq4Nl => unpack_iq4_nl,
        BlockType::Iq4Xs => unpack_iq4_xs,
        BlockType::Mxfp4 => unpack_mxfp4,
        // codebook lookups of which the compiler makes 512-bit gathers here, slower than AVX2's loads
        BlockType::Iq2S | BlockType::Iq3S => return super::super::avx2::unpack::unpack(ty),
        _ => return unpack_as_specified(ty),
    })
}

fn unpack_as_specified(ty: BlockType) -> Option<Unpack> {
    struct Pick;
    impl CodedVisitor for Pick {
        type Output = Unpack;
        fn visit<B: Coded<N>, const N: usize>(self) -> Unpack {
            unpack_blocks::<B, N>
        }
    }
    visit_coded(ty, Pick)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_blocks<B: Coded<N>, const N: usize>(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_rows(rows, panel, PANEL_COLS / B::SUB, B::HAS_MIN, |row, q, scale, min| {
        row_codes::<B, N>(row, q, scale, min)
    });
}

/// Unpacks all rows of a format of 32 by a function of one, which writes codes and the halves of scales
/// and minimums as they are: they become numbers for two rows at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_rows_32(
    rows: &PanelBytes<'_>,
    panel: &mut Panel,
    has_min: bool,
    row_codes: impl Fn(&[u8], &mut [u8; PANEL_COLS], &mut Halves, &mut Halves),
) {
    let mut d = [[[0; 2]; 8]; PANEL_ROWS];
    let mut m = [[[0; 2]; 8]; PANEL_ROWS];
    let out = panel.rows.q.iter_mut().zip(d.iter_mut().zip(m.iter_mut()));
    for (row, (q, (d, m))) in rows.iter().zip(out) {
        prefetch_next(row);
        row_codes(row, q, d, m);
    }
    interleave(&panel.rows.q, 0, &mut panel.q);
    interleave::<32>(&numbers(&d), 0, bytemuck::cast_slice_mut(&mut panel.scale[..8]));
    if has_min {
        interleave::<32>(&numbers(&m), 0, bytemuck::cast_slice_mut(&mut panel.min[..8]));
    }
}

/// Scales or minimums of the blocks of a row, f16.
type Halves = [[u8; 2]; 8];

/// The numbers that halves are, as bytes of f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn numbers(halves: &[Halves; PANEL_ROWS]) -> [[u8; 32]; PANEL_ROWS] {
    let mut out = [[0; 32]; PANEL_ROWS];
    for (halves, out) in halves.as_flattened().as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<2>().0) {
        store_512(_mm512_castps_si512(_mm512_cvtph_ps(load_256(halves))), out);
    }
    out
}

/// Unpacking of a format of 32: what a block gives are its scale, its minimum and a vector of codes.
macro_rules! unpack_32 {
    ($name:ident, $block:ty, $has_min:literal, |$b:ident| $codes:expr) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $name(rows: &PanelBytes<'_>, panel: &mut Panel) {
            unpack_rows_32(rows, panel, $has_min, |row, q, d, m| {
                let blocks = bytemuck::cast_slice::<u8, $block>(row).iter().zip(q.as_chunks_mut::<32>().0);
                for (($b, q), (d, m)) in blocks.zip(d.iter_mut().zip(m)) {
                    let codes: __m256i;
                    (*d, *m, codes) = $codes;
                    store_256(codes, q);
                }
            });
        }
    };
}

unpack_32!(unpack_q4_0, BlockQ4_0, false, |b| (b.d, [0; 2], nibbles(&b.qs)));
unpack_32!(unpack_q4_1, BlockQ4_1, true, |b| (b.d, b.m, nibbles(&b.qs)));
unpack_32!(unpack_q5_0, BlockQ5_0, false, |b| (b.d, [0; 2], fives(b.qh, &b.qs)));
unpack_32!(unpack_q5_1, BlockQ5_1, true, |b| (b.d, b.m, fives(b.qh, &b.qs)));
unpack_32!(unpack_q8_0, BlockQ8_0, false, |b| {
    (b.d, [0; 2], _mm256_xor_si256(load_256(&b.qs), _mm256_set1_epi8(-128)))
});
unpack_32!(unpack_iq4_nl, BlockIq4Nl, false, |b| (b.d, [0; 2], look_up(&IQ4_CODES, nibbles(&b.qs))));

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_mxfp4(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_rows(rows, panel, 8, false, |row, q, scale, _| {
        let blocks = bytemuck::cast_slice::<u8, BlockMxfp4>(row).iter().zip(q.as_chunks_mut::<32>().0);
        for ((b, q), scale) in blocks.zip(scale) {
            *scale = b.half_scale();
            store_256(look_up(&FP4_CODES, nibbles(&b.qs)), q);
        }
    });
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) fn look_up(table: &[u8; 16], nibbles: __m256i) -> __m256i {
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_128(table)), nibbles)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) fn fives(qh: [u8; 4], qs: &[u8; 16]) -> __m256i {
    let high = _mm256_maskz_set1_epi8(u32::from_le_bytes(qh), 16);
    _mm256_or_si256(nibbles(qs), high)
}

/// Unpacking of a format of 256 by a function of its one block.
macro_rules! unpack_256 {
    ($name:ident, $block:ty, $has_min:literal, $scales:ident, $codes:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $name(rows: &PanelBytes<'_>, panel: &mut Panel) {
            unpack_rows(rows, panel, PANEL_COLS / <$block>::SUB, $has_min, |row, q, scale, min| {
                for b in bytemuck::cast_slice::<u8, $block>(row) {
                    $scales(b, scale, min);
                    store_codes($codes(b), q);
                }
            });
        }
    };
}

unpack_256!(unpack_q2_k, BlockQ2K, true, scales_q2_k, codes_q2_k);
unpack_256!(unpack_q3_k, BlockQ3K, false, scales_q3_k, codes_q3_k);
unpack_256!(unpack_q6_k, BlockQ6K, false, scales_q6_k, codes_q6_k);
unpack_256!(unpack_iq4_xs, BlockIq4Xs, false, scales_iq4_xs, codes_iq4_xs);

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn store_codes(codes: [__m512i; 4], q: &mut [u8; PANEL_COLS]) {
    for (codes, q) in codes.into_iter().zip(q.as_chunks_mut::<64>().0) {
        store_512(codes, q);
    }
}

/// Sixteen scales of i32 times their common one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn store_scales(d: f32, scales: __m512i, out: &mut Scales) {
    store_512(_mm512_castps_si512(_mm512_mul_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(scales))), out);
}

/// Unpacking of Q4_K or Q5_K, whose rows have eight scales and eight minimums in one vector.
macro_rules! unpack_with_mins {
    ($name:ident, $block:ty, $codes:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $name(rows: &PanelBytes<'_>, panel: &mut Panel) {
            let RowBuffers { q, scale, .. } = &mut panel.rows;
            for (row, (q, scale)) in rows.iter().zip(q.iter_mut().zip(scale.iter_mut())) {
                prefetch_next(row);
                for b in bytemuck::cast_slice::<u8, $block>(row) {
                    k_scales(b.d, b.dmin, &b.scales, scale);
                    store_codes($codes(b), q);
                }
            }
            interleave(q, 0, &mut panel.q);
            interleave::<64>(bytemuck::cast_ref(scale), 0, bytemuck::cast_slice_mut(&mut panel.scale[..8]));
            interleave::<64>(bytemuck::cast_ref(scale), 8, bytemuck::cast_slice_mut(&mut panel.min[..8]));
        }
    };
}

unpack_with_mins!(unpack_q4_k, BlockQ4K, codes_q4_k);
unpack_with_mins!(unpack_q5_k, BlockQ5K, codes_q5_k);

/// Eight scales, and eight minimums with their sign turned.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn k_scales(d: [u8; 2], dmin: [u8; 2], packed: &[u8; 12], scale: &mut Scales) {
    let both = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from_le_bytes([d[0], d[1], dmin[0], dmin[1]])));
    let both = _mm_xor_ps(both, _mm_setr_ps(0.0, -0.0, 0.0, 0.0));
    let which = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    let factors = _mm512_permutexvar_ps(which, _mm512_castps128_ps512(both));
    let numbers = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(scales_then_mins(packed)));
    store_512(_mm512_castps_si512(_mm512_mul_ps(factors, numbers)), scale);
}

/// The nibbles of 128 bytes, in order of elements: those of 32 bytes, low and then high.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn k_nibbles(qs: &[u8; 128]) -> [__m512i; 4] {
    let mut codes = [_mm512_setzero_si512(); 4];
    for (codes, qs) in codes.iter_mut().zip(qs.as_chunks::<32>().0) {
        let bytes = load_256(qs);
        *codes = _mm512_and_si512(join(bytes, _mm256_srli_epi16::<4>(bytes)), _mm512_set1_epi8(15));
    }
    codes
}

/// Bytes that hold several planes of 32 elements: the planes `2 i` and `2 i + 1` of `width` bits each,
/// moved to the lowest bits; what lies above is not cleared.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn planes<T: Pod>(bytes: &[T; 32], width: u32, i: usize) -> __m512i {
    let low = _mm_cvtsi32_si128((2 * i as u32 * width) as i32);
    let high = _mm_cvtsi32_si128(((2 * i as u32 + 1) * width) as i32);
    let bytes = load_256(bytes);
    join(_mm256_srl_epi16(bytes, low), _mm256_srl_epi16(bytes, high))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in super::super) fn codes_q4_k(b: &BlockQ4K) -> [__m512i; 4] {
    k_nibbles(&b.qs)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in super::super) fn codes_q5_k(b: &BlockQ5K) -> [__m512i; 4] {
    let mut codes = k_nibbles(&b.qs);
    for (i, codes) in codes.iter_mut().enumerate() {
        let bit = _mm512_and_si512(planes(&b.qh, 1, i), _mm512_set1_epi8(1));
        *codes = _mm512_or_si512(*codes, _mm512_slli_epi16::<4>(bit));
    }
    codes
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scales_q6_k(b: &BlockQ6K, scale: &mut Scales, _: &mut Scales) {
    store_scales(half(b.d), _mm512_cvtepi8_epi32(load_128(&b.scales)), scale);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in super::super) fn codes_q6_k(b: &BlockQ6K) -> [__m512i; 4] {
    let (low, high) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    let mut codes = [_mm512_setzero_si512(); 4];
    for (i, codes) in codes.iter_mut().enumerate() {
        let ql = load_512(&b.ql.as_chunks::<64>().0[i / 2]);
        let ql = if i % 2 == 0 { ql } else { _mm512_srli_epi16::<4>(ql) };
        let qh = _mm512_slli_epi16::<4>(planes(&b.qh.as_chunks::<32>().0[i / 2], 2, i % 2));
        // (ql & 15) | (qh & 0x30)
        *codes = _mm512_ternarylogic_epi32::<0xea>(ql, low, _mm512_and_si512(qh, high));
    }
    codes
}

/// Two bits of each element, four planes to 32 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn two_bits(qs: &[u8; 64]) -> [__m512i; 4] {
    let mut codes = [_mm512_setzero_si512(); 4];
    for (i, codes) in codes.iter_mut().enumerate() {
        *codes = _mm512_and_si512(planes(&qs.as_chunks::<32>().0[i / 2], 2, i % 2), _mm512_set1_epi8(3));
    }
    codes
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scales_q2_k(b: &BlockQ2K, scale: &mut Scales, min: &mut Scales) {
    let both = _mm512_cvtepu8_epi32(load_128(&b.scales));
    store_scales(half(b.d), _mm512_and_si512(both, _mm512_set1_epi32(15)), scale);
    store_scales(-half(b.dmin), _mm512_srli_epi32::<4>(both), min);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in super::super) fn codes_q2_k(b: &BlockQ2K) -> [__m512i; 4] {
    two_bits(&b.qs)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scales_q3_k(b: &BlockQ3K, scale: &mut Scales, _: &mut Scales) {
    store_scales(half(b.d), _mm512_cvtepi8_epi32(sixteen_scales(&b.scales)), scale);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in super::super) fn codes_q3_k(b: &BlockQ3K) -> [__m512i; 4] {
    let mut codes = two_bits(&b.qs);
    for (i, codes) in codes.iter_mut().enumerate() {
        let bit = _mm512_and_si512(planes(&b.hmask, 1, i), _mm512_set1_epi8(1));
        *codes = _mm512_or_si512(*codes, _mm512_slli_epi16::<2>(bit));
    }
    codes
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scales_iq4_xs(b: &BlockIq4Xs, scale: &mut Scales, _: &mut Scales) {
    iq4_xs_scales(b, scale);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in super::super) fn codes_iq4_xs(b: &BlockIq4Xs) -> [__m512i; 4] {
    let mut codes = [_mm512_setzero_si512(); 4];
    for (codes, qs) in codes.iter_mut().zip(b.qs.as_chunks::<32>().0) {
        let (qs, _) = qs.as_chunks::<16>();
        *codes = join(look_up(&IQ4_CODES, nibbles(&qs[0])), look_up(&IQ4_CODES, nibbles(&qs[1])));
    }
    codes
}

pub(super) fn unpack_f32(ty: BlockType) -> Option<Unpack> {
    match ty {
        BlockType::F32 => Some(unpack_rows_f32),
        BlockType::F16 => Some(unpack_rows_f16),
        BlockType::Bf16 => Some(unpack_rows_bf16),
        _ => None,
    }
}

/// Unpacks rows of numbers of `N_BYTES` bytes for 16; 64 columns at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_numbers<const N_BYTES: usize>(
    rows: &PanelBytes<'_>,
    panel: &mut Panel,
    load: impl Fn(&[u8; N_BYTES]) -> __m512,
) {
    rows.iter().for_each(|row| prefetch_next(row));
    for (i, out) in panel.w.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let mut w = [[0f32; 16]; PANEL_ROWS];
        for (row, w) in rows.iter().zip(&mut w) {
            let rest = row.get(i * N_BYTES..).unwrap_or_default();
            match rest.first_chunk() {
                Some(x) => store_512(_mm512_castps_si512(load(x)), w),
                None => {
                    let mut x = [0; N_BYTES];
                    x[..rest.len()].copy_from_slice(rest);
                    store_512(_mm512_castps_si512(load(&x)), w);
                }
            }
        }
        interleave::<64>(bytemuck::cast_ref(&w), 0, bytemuck::cast_slice_mut(out));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_rows_f32(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_numbers(rows, panel, |x: &[u8; 64]| _mm512_castsi512_ps(load_512(x)));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_rows_f16(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_numbers(rows, panel, |x: &[u8; 32]| _mm512_cvtph_ps(load_256(x)));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_rows_bf16(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_numbers(rows, panel, |x: &[u8; 32]| {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load_256(x))))
    });
}
