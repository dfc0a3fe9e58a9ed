//! Formats of 256 whose sub-blocks have integers as scales: what tiles multiply are codes times these, 16 bits in two
//! bytes, so that all columns of a block are summed before anything is stored.

use super::super::super::panel::{
    PANEL_COLS, PANEL_ROWS, Panel, PanelBytes, PanelProduct, PanelWork, Rows8, Tokens, Unpack, WholeBlocks,
};
use super::super::avx512::panel::interleave;
use super::super::avx512::unpack::{codes_iq4_xs, codes_q2_k, codes_q3_k, codes_q4_k, codes_q5_k, codes_q6_k};
use super::super::{
    eight_scales, half, load_128, load_512, prefetch_next, scales_then_mins, sixteen_scales, store_128, store_256,
    store_512, sums_of_32,
};
use super::{TILE_BYTES, TILE_ROWS, Tiles, Wide, WideSums};
use std::arch::x86_64::*;
use std::ops::Range;
use tealight_quant::BlockType;
use tealight_quant::blocks::iq::BlockIq4Xs;
use tealight_quant::blocks::k::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};

/// Tokens from which on this is faster than vectors; at least a tile's.
const MIN_TOKENS: usize = 4 * TILE_ROWS;

pub(super) fn whole_blocks(ty: BlockType) -> Option<WholeBlocks> {
    let (unpack, product): (Unpack, PanelProduct) = match ty {
        BlockType::Q2K => (unpack_q2_k, product::<8>),
        BlockType::Q3K => (unpack_q3_k, product::<0>),
        BlockType::Q4K => (unpack_q4_k, product::<4>),
        BlockType::Q5K => (unpack_q5_k, product::<4>),
        BlockType::Q6K => (unpack_q6_k, product::<0>),
        BlockType::Iq4Xs => (unpack_iq4_xs, product::<0>),
        _ => return None,
    };
    Some(WholeBlocks { unpack, product, min_tokens: MIN_TOKENS })
}

/// A block taken apart.
struct Parts {
    codes: [__m512i; 4],
    /// For each 16 codes.
    scales: __m256i,
    d: f32,
    /// As the format has them, 8 or 16; 0 where there are none.
    mins: __m256i,
    dmin: f32,
}

/// Unpacking of a format: `$offset` of its codes, and the parts of a block.
macro_rules! unpack {
    ($name:ident, $block:ty, $offset:literal, |$b:ident| $parts:expr) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $name(rows: &PanelBytes<'_>, panel: &mut Panel) {
            let mut mins = [[0u8; 32]; PANEL_ROWS];
            for (r, row) in rows.iter().enumerate() {
                prefetch_next(row);
                let [$b] = bytemuck::cast_slice::<u8, $block>(row) else { unreachable!("a row of a panel is a block") };
                let parts: Parts = $parts;
                (panel.scale[0][r], panel.min[0][r]) = (parts.d, parts.dmin);
                store_256(parts.mins, &mut mins[r]);
                let (low, high) = (&mut panel.rows.q[r], &mut panel.rows.high[r]);
                scale_codes(parts.codes, parts.scales, $offset, low, high);
            }
            interleave(&panel.rows.q, 0, &mut panel.q);
            interleave(&panel.rows.high, 0, &mut panel.high);
            interleave(&mins, 0, bytemuck::cast_slice_mut(&mut panel.min_pairs));
        }
    };
}

unpack!(unpack_q2_k, BlockQ2K, 0, |b| {
    let both = load_128(&b.scales);
    let scales = _mm256_cvtepu8_epi16(_mm_and_si128(both, _mm_set1_epi8(15)));
    let mins = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16::<4>(both), _mm_set1_epi8(15)));
    Parts { codes: codes_q2_k(b), scales, d: half(b.d), mins, dmin: half(b.dmin) }
});
unpack!(unpack_q3_k, BlockQ3K, 4, |b| {
    let scales = _mm256_cvtepi8_epi16(sixteen_scales(&b.scales));
    Parts { codes: codes_q3_k(b), scales, d: half(b.d), mins: _mm256_setzero_si256(), dmin: 0.0 }
});
unpack!(unpack_q4_k, BlockQ4K, 0, |b| with_mins(codes_q4_k(b), &b.scales, b.d, b.dmin));
unpack!(unpack_q5_k, BlockQ5K, 0, |b| with_mins(codes_q5_k(b), &b.scales, b.d, b.dmin));
unpack!(unpack_q6_k, BlockQ6K, 32, |b| {
    let scales = _mm256_cvtepi8_epi16(load_128(&b.scales));
    Parts { codes: codes_q6_k(b), scales, d: half(b.d), mins: _mm256_setzero_si256(), dmin: 0.0 }
});
unpack!(unpack_iq4_xs, BlockIq4Xs, 128, |b| {
    let eight = _mm256_cvtepi32_epi16(eight_scales(b));
    let scales = _mm256_set_m128i(_mm_unpackhi_epi16(eight, eight), _mm_unpacklo_epi16(eight, eight));
    Parts { codes: codes_iq4_xs(b), scales, d: half(b.d), mins: _mm256_setzero_si256(), dmin: 0.0 }
});

/// The parts of Q4_K or Q5_K.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn with_mins(codes: [__m512i; 4], packed: &[u8; 12], d: [u8; 2], dmin: [u8; 2]) -> Parts {
    let both = scales_then_mins(packed);
    let scales = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(both, both));
    let mins = _mm256_cvtepu8_epi16(_mm_bsrli_si128::<8>(both));
    Parts { codes, scales, d: half(d), mins, dmin: half(dmin) }
}

/// Codes without `offset` times the scales of their 16: the lower bytes, and the upper ones. At most 64 * 128 in
/// magnitude.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scale_codes(
    codes: [__m512i; 4],
    scales: __m256i,
    offset: i16,
    low: &mut [u8; PANEL_COLS],
    high: &mut [u8; PANEL_COLS],
) {
    let (scales, offset) = (_mm512_castsi256_si512(scales), _mm512_set1_epi16(offset));
    let mut which = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(1));
    let outs = low.as_chunks_mut::<32>().0.iter_mut().zip(high.as_chunks_mut::<32>().0);
    for (i, (low, high)) in outs.enumerate() {
        let codes = codes[i / 2];
        let codes = if i % 2 == 0 { _mm512_castsi512_si256(codes) } else { _mm512_extracti64x4_epi64::<1>(codes) };
        let codes = _mm512_sub_epi16(_mm512_cvtepu8_epi16(codes), offset);
        let products = _mm512_mullo_epi16(codes, _mm512_permutexvar_epi16(which, scales));
        store_256(_mm512_cvtepi16_epi8(products), low);
        store_256(_mm512_cvtepi16_epi8(_mm512_srai_epi16::<8>(products)), high);
        which = _mm512_add_epi16(which, _mm512_set1_epi16(2));
    }
}

/// `PAIRS`: pairs of minimums: of 32 columns each, or of 16, or none.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn product<const PAIRS: usize>(
    work: &PanelWork<'_>,
    x: &Rows8<'_>,
    block: usize,
    tokens: Range<usize>,
    c: &mut [[f32; PANEL_ROWS]],
) {
    assert!(c.len() == tokens.len() && c.len() >= TILE_ROWS && x.kind.block_len() == PANEL_COLS);
    let w = Wide { low: &work.panel.q, high: &work.panel.high };
    // SAFETY: a set with these kernels exists only where tiles are available.
    let tiles = unsafe { Tiles::new(TILE_BYTES) };
    let mut sums: Aligned = Aligned([[[0; _]; _]; _]);
    let mut done = 0;
    while done < c.len() {
        // the last tile begins where it still has all its tokens
        let first = done.min(c.len() - TILE_ROWS);
        let at = tokens.start + first;
        let Some(x) = Tokens::of(x, block, at..at + TILE_ROWS) else { return };
        // SAFETY: a block of 16 tokens, which `Tokens::of` has checked.
        unsafe { tiles.wide_dots(x.q(0), x.q_stride(), w, &mut sums.0) };
        for (t, c) in c[first..first + TILE_ROWS].iter_mut().enumerate().skip(done - first) {
            // SAFETY: as above.
            unsafe { add::<PAIRS>(work.panel, &sums.0, t, &x, c) };
        }
        done = first + TILE_ROWS;
    }
}

#[repr(align(64))]
struct Aligned(WideSums);

/// Adds the products of a token to its results.
///
/// # Safety
/// `x` points at a block of more than `t` tokens.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add<const PAIRS: usize>(panel: &Panel, sums: &WideSums, t: usize, x: &Tokens, c: &mut [f32; PANEL_ROWS]) {
    // SAFETY: the caller's promise.
    let (d_x, x_sums): (f32, &[i16; 16]) = unsafe { (*x.d(t), &*x.sums(t).cast()) };
    let mut x_pairs = [0i32; PAIRS];
    if PAIRS == 4 {
        store_128(sums_of_32(x_sums), x_pairs.first_chunk_mut::<4>().expect("four pairs"));
    } else if PAIRS == 8 {
        x_pairs.copy_from_slice(bytemuck::cast_slice(x_sums));
    }
    let number = |row: &[f32; PANEL_ROWS], half: usize| _mm512_castsi512_ps(load_512(&row.as_chunks::<16>().0[half]));
    for half in 0..2 {
        let low = load_512(&sums[2 * half][t]);
        let high = load_512(&sums[2 * half + 1][t]);
        let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low));
        let mut value = _mm512_mul_ps(dot, number(&panel.scale[0], half));
        if PAIRS > 0 {
            let mut mins = _mm512_setzero_si512();
            for (pair, &x) in panel.min_pairs.iter().zip(&x_pairs) {
                mins = _mm512_dpwssd_epi32(mins, load_512(&pair.as_chunks::<16>().0[half]), _mm512_set1_epi32(x));
            }
            value = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(mins), number(&panel.min[0], half), value);
        }
        let sum = _mm512_fmadd_ps(value, _mm512_set1_ps(d_x), number(c, half));
        store_512(_mm512_castps_si512(sum), &mut c.as_chunks_mut::<16>().0[half]);
    }
}
