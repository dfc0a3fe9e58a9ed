//! Panels with AVX2: tiles of up to four tokens and 16 rows.
//!
//! `vpmaddubsw` adds pairs of products in i16. Small codes let several of these be added before they are
//! widened to i32; codes of 8 bits move their signs to the activations, as two products would not fit.
#![allow(clippy::needless_range_loop)] // tokens and vectors are lanes of several arrays

use super::super::super::codes::Coding;
use super::super::super::panel::{PANEL_COLS, PANEL_ROWS, PanelKernels, PanelProduct, PanelWork, Rows8, Tokens};
use super::super::super::{ActivationKind, SUM_LEN};
use super::super::{load_128, load_256, store_256};
use super::unpack;
use bytemuck::Pod;
use std::arch::x86_64::*;
use std::ops::Range;

pub(in crate::cpu::kernels) const PANELS: PanelKernels =
    PanelKernels { unpack: unpack::unpack, unpack_f32: unpack::unpack_f32, product, product_f32 };

/// Rows of a tile: two vectors.
const HALF: usize = 16;

fn product(coding: Coding, kind: ActivationKind) -> PanelProduct {
    match (coding.sub, kind == ActivationKind::Q8K, coding.has_min) {
        (16, false, false) => offset_product::<16, false>(coding.max),
        (16, true, false) => offset_product::<16, true>(coding.max),
        (_, false, false) => offset_product::<32, false>(coding.max),
        (_, true, false) => offset_product::<32, true>(coding.max),
        (16, false, true) => tiles::<16, false, true, 4>,
        (16, true, true) => tiles::<16, true, true, 4>,
        (_, false, true) if coding.max < 16 => tiles::<32, false, true, 8>,
        (_, true, true) if coding.max < 16 => tiles::<32, true, true, 8>,
        (_, false, true) => tiles::<32, false, true, 4>,
        (_, true, true) => tiles::<32, true, true, 4>,
    }
}

/// As many steps in i16 as codes up to `max` allow: each adds `2 * max * 127`.
fn offset_product<const SUB: usize, const Q8K: bool>(max: u8) -> PanelProduct {
    match max {
        0..16 if SUB == 32 => tiles::<SUB, Q8K, false, 8>,
        0..32 => tiles::<SUB, Q8K, false, 4>,
        32..64 => tiles::<SUB, Q8K, false, 2>,
        64..128 => tiles::<SUB, Q8K, false, 1>,
        _ => tiles::<SUB, Q8K, false, 0>,
    }
}

/// `STEPS`: additions in i16 between two widenings; 0 for codes of 8 bits.
#[target_feature(enable = "avx2,fma,f16c")]
fn tiles<const SUB: usize, const Q8K: bool, const MIN: bool, const STEPS: usize>(
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
            unsafe { tile::<4, SUB, Q8K, MIN, STEPS>(work, half, &at, c) };
            at.skip(4);
        }
        let (twos, rest) = rest.as_chunks_mut::<2>();
        for c in twos {
            // SAFETY: as above.
            unsafe { tile::<2, SUB, Q8K, MIN, STEPS>(work, half, &at, c) };
            at.skip(2);
        }
        for c in rest.as_chunks_mut::<1>().0 {
            // SAFETY: as above.
            unsafe { tile::<1, SUB, Q8K, MIN, STEPS>(work, half, &at, c) };
            at.skip(1);
        }
    }
}

/// The sums of the sub-blocks, times a factor: 8 for 32, or two vectors of 8.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const T: usize, const SUB: usize, const Q8K: bool, const MIN: bool, const STEPS: usize>(
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
        } else if STEPS > 0 {
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
    let ones = _mm256_set1_epi16(1);
    for s in 0..work.n_sub {
        let mut acc = [[_mm256_setzero_si256(); 2]; T];
        if !MIN && STEPS > 0 {
            for t in 0..T {
                // SAFETY: at most 16 sub-blocks.
                acc[t] = [_mm256_set1_epi32(unsafe { *start[t].get_unchecked(s) }); 2];
            }
        }
        let per_group = if STEPS == 0 { 1 } else { STEPS };
        for first in (s * (SUB / 4)..(s + 1) * (SUB / 4)).step_by(per_group) {
            let mut pairs = [[_mm256_setzero_si256(); 2]; T];
            for k in first..first + per_group {
                // SAFETY: `n_sub` sub-blocks are within the panel.
                let (w, _) = unsafe { panel.q.get_unchecked(k) }.as_chunks::<32>();
                let mut w = [load_256(&w[2 * half]), load_256(&w[2 * half + 1])];
                if STEPS == 0 {
                    w = [
                        _mm256_xor_si256(w[0], _mm256_set1_epi8(-128)),
                        _mm256_xor_si256(w[1], _mm256_set1_epi8(-128)),
                    ];
                }
                for t in 0..T {
                    // SAFETY: the caller's promise.
                    let q = _mm256_set1_epi32(unsafe { x.q(t).cast::<i32>().add(k).read_unaligned() });
                    for v in 0..2 {
                        let products = if STEPS == 0 {
                            _mm256_maddubs_epi16(_mm256_abs_epi8(w[v]), _mm256_sign_epi8(q, w[v]))
                        } else {
                            _mm256_maddubs_epi16(w[v], q)
                        };
                        pairs[t][v] = if k == first { products } else { _mm256_add_epi16(pairs[t][v], products) };
                    }
                }
            }
            for t in 0..T {
                for v in 0..2 {
                    acc[t][v] = _mm256_add_epi32(acc[t][v], _mm256_madd_epi16(pairs[t][v], ones));
                }
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
#[target_feature(enable = "avx2,fma,f16c")]
fn load_half(row: &[f32; PANEL_ROWS], half: usize) -> [__m256; 2] {
    let (row, _) = row.as_chunks::<8>();
    [_mm256_castsi256_ps(load_256(&row[2 * half])), _mm256_castsi256_ps(load_256(&row[2 * half + 1]))]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store_half(v: [__m256; 2], row: &mut [f32; PANEL_ROWS], half: usize) {
    let (row, _) = row.as_chunks_mut::<8>();
    store_256(_mm256_castps_si256(v[0]), &mut row[2 * half]);
    store_256(_mm256_castps_si256(v[1]), &mut row[2 * half + 1]);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn product_f32(w: &[[f32; PANEL_ROWS]], x: &[&[f32]], first: usize, c: &mut [[f32; PANEL_ROWS]]) {
    for half in 0..PANEL_ROWS / HALF {
        let (x_sixes, x) = x.as_chunks::<6>();
        let (c_sixes, c) = c.as_chunks_mut::<6>();
        for (x, c) in x_sixes.iter().zip(c_sixes) {
            tile_f32(w, half, x, first, c);
        }
        for (x, c) in x.as_chunks::<1>().0.iter().zip(c.as_chunks_mut::<1>().0) {
            tile_f32(w, half, x, first, c);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile_f32<const T: usize>(
    w: &[[f32; PANEL_ROWS]],
    half: usize,
    x: &[&[f32]; T],
    first: usize,
    c: &mut [[f32; PANEL_ROWS]; T],
) {
    let x = x.map(|x| x[first..][..w.len()].as_ptr());
    let mut sum = [[_mm256_setzero_ps(); 2]; T];
    for (k, w) in w.iter().enumerate() {
        let w = load_half(w, half);
        for t in 0..T {
            // SAFETY: the slices are as long as `w`.
            let x = _mm256_set1_ps(unsafe { *x[t].add(k) });
            sum[t] = [_mm256_fmadd_ps(w[0], x, sum[t][0]), _mm256_fmadd_ps(w[1], x, sum[t][1])];
        }
    }
    for t in 0..T {
        let old = load_half(&c[t], half);
        store_half([_mm256_add_ps(old[0], sum[t][0]), _mm256_add_ps(old[1], sum[t][1])], &mut c[t], half);
    }
}

/// Words of 32 bits of 32 rows, `[row][word]`, as `[word][row]`: squares of eight are transposed.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn interleave<const BYTES: usize>(rows: &[[u8; BYTES]; PANEL_ROWS], out: &mut [[u8; 4 * PANEL_ROWS]]) {
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate().take(BYTES / 32) {
        for (part, rows) in rows.as_chunks::<8>().0.iter().enumerate() {
            let mut r = [_mm256_setzero_si256(); 8];
            for (r, row) in r.iter_mut().zip(rows) {
                *r = load_256(&row.as_chunks::<32>().0[i]);
            }
            let mut t = r;
            for i in 0..4 {
                t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
            }
            for i in 0..2 {
                r[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
                r[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
                r[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
                r[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
            }
            for k in 0..4 {
                let both = [
                    _mm256_permute2x128_si256::<0x20>(r[k], r[k + 4]),
                    _mm256_permute2x128_si256::<0x31>(r[k], r[k + 4]),
                ];
                store_256(both[0], &mut out[k].as_chunks_mut::<32>().0[part]);
                store_256(both[1], &mut out[k + 4].as_chunks_mut::<32>().0[part]);
            }
        }
    }
}
