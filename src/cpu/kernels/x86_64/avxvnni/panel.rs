//! Panels with AVX-VNNI: tiles of up to four tokens and 16 rows. Only tiles of codes differ from AVX2's.
#![allow(clippy::needless_range_loop)] // tokens and vectors are lanes of several arrays

use super::super::super::codes::Coding;
use super::super::super::panel::{PANEL_COLS, PANEL_ROWS, PanelKernels, PanelProduct, PanelWork, Rows8, Tokens};
use super::super::super::{ActivationKind, SUM_LEN};
use super::super::{avx2, load_128, load_256, store_256};
use bytemuck::Pod;
use std::arch::x86_64::*;
use std::ops::Range;

pub(in crate::cpu::kernels) const PANELS: PanelKernels = PanelKernels { product, ..avx2::panel::PANELS };

/// Rows of a tile: two vectors.
const HALF: usize = 16;

fn product(coding: Coding, kind: ActivationKind) -> PanelProduct {
    match (coding.sub, kind == ActivationKind::Q8K, coding.has_min) {
        (16, false, false) => tiles::<16, false, false>,
        (16, false, true) => tiles::<16, false, true>,
        (16, true, false) => tiles::<16, true, false>,
        (16, true, true) => tiles::<16, true, true>,
        (_, false, false) => tiles::<32, false, false>,
        (_, false, true) => tiles::<32, false, true>,
        (_, true, false) => tiles::<32, true, false>,
        (_, true, true) => tiles::<32, true, true>,
    }
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn tiles<const SUB: usize, const Q8K: bool, const MIN: bool>(
    work: &PanelWork<'_>,
    x: &Rows8<'_>,
    block: usize,
    tokens: Range<usize>,
    c: &mut [[f32; PANEL_ROWS]],
) {
    assert!(c.len() == tokens.len() && work.n_sub * SUB <= PANEL_COLS);
    let Some(last) = tokens.clone().last() else { return };
    // the last token's block is within its slices, so the others' are, which lie before it
    x.token(last, block);
    for half in 0..PANEL_ROWS / HALF {
        let mut at = Tokens::new(x, tokens.start, block);
        let (fours, rest) = c.as_chunks_mut::<4>();
        for c in fours {
            // SAFETY: four more tokens of the range, which is checked above.
            unsafe { tile::<4, SUB, Q8K, MIN>(work, half, &at, c) };
            at.skip(4);
        }
        let (twos, rest) = rest.as_chunks_mut::<2>();
        for c in twos {
            // SAFETY: as above.
            unsafe { tile::<2, SUB, Q8K, MIN>(work, half, &at, c) };
            at.skip(2);
        }
        for c in rest.as_chunks_mut::<1>().0 {
            // SAFETY: as above.
            unsafe { tile::<1, SUB, Q8K, MIN>(work, half, &at, c) };
            at.skip(1);
        }
    }
}

/// The sums of the sub-blocks, times a factor: 8 for 32, or two vectors of 8.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn scaled_sums<const SUB: usize>(sums: &[i16; PANEL_COLS / SUM_LEN], factor: i16) -> [__m256i; 2] {
    if SUB == 32 {
        [_mm256_madd_epi16(load_256(sums), _mm256_set1_epi16(factor)), _mm256_setzero_si256()]
    } else {
        let (sums, _) = sums.as_chunks::<8>();
        // the upper half of a widened sum is its sign, which must count nothing
        let factor = _mm256_set1_epi32(i32::from(factor as u16));
        let scaled = |sums| _mm256_madd_epi16(_mm256_cvtepi16_epi32(load_128(sums)), factor);
        [scaled(&sums[0]), scaled(&sums[1])]
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn store_pair<T: Pod>(v: [__m256i; 2], to: &mut [T; 16]) {
    let (to, _) = to.as_chunks_mut::<8>();
    store_256(v[0], &mut to[0]);
    store_256(v[1], &mut to[1]);
}

/// The products of half of a panel and a block of `T` tokens.
///
/// # Safety
/// `x` points at a block of 256 elements of `T` tokens, and the panel has as many sub-blocks as `work` says.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn tile<const T: usize, const SUB: usize, const Q8K: bool, const MIN: bool>(
    work: &PanelWork<'_>,
    half: usize,
    x: &Tokens,
    c: &mut [[f32; PANEL_ROWS]; T],
) {
    // for each sub-block what its integers start with, and the factor of its minimum
    let mut start = [[0i32; 16]; T];
    let mut min_factor = [[0f32; 16]; T];
    for t in 0..T {
        // SAFETY: the caller's promise.
        let sums = unsafe { &*x.sums(t).cast() };
        if MIN {
            let [a, b] = scaled_sums::<SUB>(sums, 1);
            let mut factors = [_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)];
            if !Q8K {
                // SAFETY: the caller's promise; there are eight scales.
                let d = unsafe { _mm256_loadu_ps(x.d(t)) };
                if SUB == 32 {
                    factors[0] = _mm256_mul_ps(d, factors[0]);
                } else {
                    let (low, high) =
                        (_mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3), _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
                    factors[0] = _mm256_mul_ps(_mm256_permutevar8x32_ps(d, low), factors[0]);
                    factors[1] = _mm256_mul_ps(_mm256_permutevar8x32_ps(d, high), factors[1]);
                }
            }
            store_pair(factors.map(|f| _mm256_castps_si256(f)), &mut min_factor[t]);
        } else {
            store_pair(scaled_sums::<SUB>(sums, -i16::from(work.coding.offset)), &mut start[t]);
        }
    }
    let mut sum = [[_mm256_setzero_ps(); 2]; T];
    if !Q8K {
        for t in 0..T {
            sum[t] = load_half(&c[t], half);
        }
    }
    let panel = work.panel;
    for s in 0..work.n_sub {
        let mut acc = [[_mm256_setzero_si256(); 2]; T];
        if !MIN {
            for t in 0..T {
                // SAFETY: at most 16 sub-blocks.
                acc[t] = [_mm256_set1_epi32(unsafe { *start[t].get_unchecked(s) }); 2];
            }
        }
        for k in s * (SUB / 4)..(s + 1) * (SUB / 4) {
            // SAFETY: `n_sub` sub-blocks are within the panel.
            let (w, _) = unsafe { panel.q.get_unchecked(k) }.as_chunks::<32>();
            let w = [load_256(&w[2 * half]), load_256(&w[2 * half + 1])];
            for t in 0..T {
                // SAFETY: the caller's promise.
                let q = _mm256_set1_epi32(unsafe { x.q(t).cast::<i32>().add(k).read_unaligned() });
                acc[t] = [_mm256_dpbusd_avx_epi32(acc[t][0], w[0], q), _mm256_dpbusd_avx_epi32(acc[t][1], w[1], q)];
            }
        }
        // SAFETY: at most 16 sub-blocks.
        let (scale, min) =
            unsafe { (load_half(panel.scale.get_unchecked(s), half), load_half(panel.min.get_unchecked(s), half)) };
        for t in 0..T {
            for v in 0..2 {
                let mut dot = _mm256_cvtepi32_ps(acc[t][v]);
                if !Q8K {
                    // SAFETY: the caller's promise; there is a scale for 32 elements.
                    dot = _mm256_mul_ps(dot, _mm256_set1_ps(unsafe { *x.d(t).add(s * SUB / 32) }));
                }
                sum[t][v] = _mm256_fmadd_ps(dot, scale[v], sum[t][v]);
                if MIN {
                    // SAFETY: at most 16 sub-blocks.
                    let factor = _mm256_set1_ps(unsafe { *min_factor[t].get_unchecked(s) });
                    sum[t][v] = _mm256_fmadd_ps(min[v], factor, sum[t][v]);
                }
            }
        }
    }
    for t in 0..T {
        if Q8K {
            // SAFETY: the caller's promise.
            let (d, old) = (_mm256_set1_ps(unsafe { *x.d(t) }), load_half(&c[t], half));
            sum[t] = [_mm256_fmadd_ps(sum[t][0], d, old[0]), _mm256_fmadd_ps(sum[t][1], d, old[1])];
        }
        store_half(sum[t], &mut c[t], half);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn load_half(row: &[f32; PANEL_ROWS], half: usize) -> [__m256; 2] {
    let (row, _) = row.as_chunks::<8>();
    [_mm256_castsi256_ps(load_256(&row[2 * half])), _mm256_castsi256_ps(load_256(&row[2 * half + 1]))]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn store_half(v: [__m256; 2], row: &mut [f32; PANEL_ROWS], half: usize) {
    let (row, _) = row.as_chunks_mut::<8>();
    store_256(_mm256_castps_si256(v[0]), &mut row[2 * half]);
    store_256(_mm256_castps_si256(v[1]), &mut row[2 * half + 1]);
}
