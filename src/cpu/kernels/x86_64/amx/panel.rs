//! Panels by tiles of 16 tokens and 16 rows. A tile holds the integers of one sub-block, exact; what is done to them
//! as numbers, and in which order, is the specification's.
#![allow(clippy::needless_range_loop)] // tokens are lanes of several arrays

use super::super::super::ActivationKind;
use super::super::super::codes::Coding;
use super::super::super::panel::{
    PANEL_COLS, PANEL_ROWS, PanelKernels, PanelProduct, PanelWork, Rows8, Tokens, run_tiles,
};
use super::super::avx512::panel::{PANELS as AVX512, min_factors};
use super::super::{load_512, store_512};
use super::{TILE_BYTES, TILE_ROWS, Tiles};
use std::arch::x86_64::*;
use std::ops::Range;

pub(in crate::cpu::kernels) const PANELS: PanelKernels =
    PanelKernels { product, whole_blocks: super::whole::whole_blocks, ..AVX512 };

/// Tokens from which on tiles are faster than vectors.
const MIN_TOKENS: usize = 8 * TILE_ROWS;

/// Sub-blocks that are multiplied before the first of them is added: what a tile takes from start to end.
const AHEAD: usize = 3;

fn product(coding: Coding, kind: ActivationKind) -> PanelProduct {
    match (coding.sub, kind == ActivationKind::Q8K, coding.has_min) {
        (32, false, false) => tiles::<32, false, false>,
        (32, false, true) => tiles::<32, false, true>,
        (32, true, false) => tiles::<32, true, false>,
        (32, true, true) => tiles::<32, true, true>,
        // the sums of 16 products are stored as long as those of 32 are
        _ => (AVX512.product)(coding, kind),
    }
}

/// Codes of a panel without their offset, as tiles take them.
#[repr(align(64))]
struct Signed([[i8; 4 * PANEL_ROWS]; PANEL_COLS / 4]);

/// Products of a few sub-blocks of tokens and 16 rows, [sub-block][token][row].
#[repr(align(64))]
struct Dots([[[i32; TILE_ROWS]; TILE_ROWS]; AHEAD + 1]);

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn tiles<const SUB: usize, const Q8K: bool, const MIN: bool>(
    work: &PanelWork<'_>,
    x: &Rows8<'_>,
    block: usize,
    tokens: Range<usize>,
    c: &mut [[f32; PANEL_ROWS]],
) {
    assert!(c.len() == tokens.len() && work.n_sub * SUB <= PANEL_COLS);
    let n_tiled = if c.len() < MIN_TOKENS { 0 } else { c.len() & !(TILE_ROWS - 1) };
    let (tiled, rest) = c.split_at_mut(n_tiled);
    if let Some(mut at) = Tokens::of(x, block, tokens.start..tokens.start + n_tiled) {
        let (mut codes, mut dots) = (Signed([[0; _]; _]), Dots([[[0; _]; _]; _]));
        sign::<SUB>(work, &mut codes);
        // SAFETY: a set with these kernels exists only where tiles are available.
        let tile = unsafe { Tiles::new(SUB) };
        run_tiles!(tiled, at, [16], both_halves, [SUB, Q8K, MIN], [work, &tile, &codes, &mut dots]);
    }
    // SAFETY: this set has the features of that one.
    unsafe { (AVX512.product)(work.coding, x.kind)(work, x, block, tokens.start + n_tiled..tokens.end, rest) };
}

/// Takes the offset from the codes; every result is a number of 8 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn sign<const SUB: usize>(work: &PanelWork<'_>, codes: &mut Signed) {
    let offset = _mm512_set1_epi8(if work.coding.has_min { 0 } else { work.coding.offset as i8 });
    for (q, to) in work.panel.q.iter().zip(&mut codes.0).take(work.n_sub * SUB / 4) {
        for (q, to) in q.as_chunks::<64>().0.iter().zip(to.as_chunks_mut::<64>().0) {
            store_512(_mm512_sub_epi8(load_512(q), offset), to);
        }
    }
}

/// The products of a panel and a block of `T` tokens, a tile's.
///
/// # Safety
/// `x` points at a block of 256 elements of `T` tokens, and the panel has as many sub-blocks as `work` says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn both_halves<const T: usize, const SUB: usize, const Q8K: bool, const MIN: bool>(
    work: &PanelWork<'_>,
    tile: &Tiles,
    codes: &Signed,
    dots: &mut Dots,
    x: &Tokens,
    c: &mut [[f32; PANEL_ROWS]; T],
) {
    const { assert!(T == TILE_ROWS) };
    let mut min_factor = [[0f32; 16]; T];
    if MIN {
        for t in 0..T {
            // SAFETY: the caller's promise; there are eight scales where they are not one.
            min_factor[t] = unsafe { min_factors::<SUB, Q8K>(&*x.sums(t).cast(), x.d(t)) };
        }
    }
    for half in 0..2 {
        let multiply = |s: usize, dots: &mut Dots| {
            let codes = codes.0[s * SUB / 4][half * TILE_BYTES..].as_ptr();
            let sums = dots.0[s % (AHEAD + 1)].as_mut_ptr();
            // SAFETY: the caller's promise; `n_sub` sub-blocks of codes lie within their array.
            unsafe { tile.dots(x.q(0).wrapping_add(s * SUB), x.q_stride(), codes, 4 * PANEL_ROWS, sums) };
        };
        (0..AHEAD.min(work.n_sub)).for_each(|s| multiply(s, dots));
        let row = |row: &[f32; PANEL_ROWS]| _mm512_castsi512_ps(load_512(&row.as_chunks::<16>().0[half]));
        let mut sum = [_mm512_setzero_ps(); T];
        if !Q8K {
            for t in 0..T {
                sum[t] = row(&c[t]);
            }
        }
        for s in 0..work.n_sub {
            if s + AHEAD < work.n_sub {
                multiply(s + AHEAD, dots);
            }
            let (scale, min) = (row(&work.panel.scale[s]), row(&work.panel.min[s]));
            let dots = &dots.0[s % (AHEAD + 1)];
            for t in 0..T {
                let mut dot = _mm512_cvtepi32_ps(load_512(&dots[t]));
                if !Q8K {
                    // SAFETY: the caller's promise; there is a scale for 32 elements.
                    dot = _mm512_mul_ps(dot, _mm512_set1_ps(unsafe { *x.d(t).add(s * SUB / 32) }));
                }
                sum[t] = _mm512_fmadd_ps(dot, scale, sum[t]);
                if MIN {
                    // SAFETY: at most 16 sub-blocks.
                    let factor = _mm512_set1_ps(unsafe { *min_factor[t].get_unchecked(s) });
                    sum[t] = _mm512_fmadd_ps(min, factor, sum[t]);
                }
            }
        }
        for t in 0..T {
            if Q8K {
                // SAFETY: the caller's promise.
                sum[t] = _mm512_fmadd_ps(sum[t], _mm512_set1_ps(unsafe { *x.d(t) }), row(&c[t]));
            }
            store_512(_mm512_castps_si512(sum[t]), &mut c[t].as_chunks_mut::<16>().0[half]);
        }
    }
}
