//! Panels with AVX-512 VNNI: tiles of up to six tokens and 32 rows.
#![allow(clippy::needless_range_loop)] // tokens and vectors are lanes of several arrays

use super::super::super::codes::Coding;
use super::super::super::panel::{
    PANEL_COLS, PANEL_ROWS, PanelKernels, PanelProduct, PanelWork, Rows8, Tokens, by_coding, run_tiles,
};
use super::super::super::{ActivationKind, SUM_LEN};
use super::super::{load_128, load_256, load_512, store_256, store_512};
use super::unpack;
use std::arch::x86_64::*;
use std::ops::Range;

pub(in crate::cpu::kernels) const PANELS: PanelKernels = PanelKernels {
    whole_blocks: |_| None,
    unpack: unpack::unpack,
    unpack_f32: unpack::unpack_f32,
    product,
    product_f32,
};

fn product(coding: Coding, kind: ActivationKind) -> PanelProduct {
    by_coding!(coding, kind, tiles)
}

/// The bits of this number plus those of a small integer are the number plus that integer. A dot that began
/// there needs no conversion: `(MAGIC + dot) * d - MAGIC * d` in one fused multiply-add is `dot * d` rounded
/// once, as `MAGIC * d` is exact for a scale of 11 bits. Dots of 32 products of 8 bits are below 2^22.
const MAGIC: f32 = 12_582_912.0;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn tiles<const SUB: usize, const Q8K: bool, const MIN: bool>(
    work: &PanelWork<'_>,
    x: &Rows8<'_>,
    block: usize,
    tokens: Range<usize>,
    c: &mut [[f32; PANEL_ROWS]],
) {
    assert!(c.len() == tokens.len() && work.n_sub * SUB <= PANEL_COLS);
    let Some(mut at) = Tokens::of(x, block, tokens) else { return };
    // two tiles of four are faster than one of six and one of two
    let n_six = if c.len() % 6 == 2 { c.len().saturating_sub(8) / 6 } else { c.len() / 6 };
    let (sixes, rest) = c.split_at_mut(6 * n_six);
    run_tiles!(sixes, at, [6], tile, [SUB, Q8K, MIN], [work]);
    run_tiles!(rest, at, [4, 2, 1], tile, [SUB, Q8K, MIN], [work]);
}

/// The sums of the sub-blocks, times a factor of i16: 8 for 32, or 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scaled_sums<const SUB: usize>(sums: &[i16; PANEL_COLS / SUM_LEN], factor: i16) -> __m512i {
    let sums = load_256(sums);
    if SUB == 32 {
        _mm512_castsi256_si512(_mm256_madd_epi16(sums, _mm256_set1_epi16(factor)))
    } else {
        // the upper half of a widened sum is its sign, which must count nothing
        _mm512_madd_epi16(_mm512_cvtepi16_epi32(sums), _mm512_set1_epi32(i32::from(factor as u16)))
    }
}

/// What the minimums of a token's sub-blocks are multiplied by: the sums of their quants, times their scales if these
/// are not one.
///
/// # Safety
/// There are eight scales at `d`, or it is not read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in super::super) unsafe fn min_factors<const SUB: usize, const Q8K: bool>(
    sums: &[i16; PANEL_COLS / SUM_LEN],
    d: *const f32,
) -> [f32; 16] {
    let mut factors = _mm512_cvtepi32_ps(scaled_sums::<SUB>(sums, 1));
    if !Q8K {
        // SAFETY: the caller's promise.
        let d = _mm512_castps256_ps512(unsafe { _mm256_loadu_ps(d) });
        let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        factors = _mm512_mul_ps(if SUB == 32 { d } else { _mm512_permutexvar_ps(twice, d) }, factors);
    }
    let mut out = [0.0; 16];
    store_512(_mm512_castps_si512(factors), &mut out);
    out
}

/// The products of a panel and a block of `T` tokens.
///
/// # Safety
/// `x` points at a block of 256 elements of `T` tokens, and the panel has as many sub-blocks as `work` says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<const T: usize, const SUB: usize, const Q8K: bool, const MIN: bool>(
    work: &PanelWork<'_>,
    x: &Tokens,
    c: &mut [[f32; PANEL_ROWS]; T],
) {
    // for each sub-block what its integers start with, and the factor of its minimum
    let mut start = [[0i32; 16]; T];
    let mut min_factor = [[0f32; 16]; T];
    let mut shift = [[0f32; 8]; T];
    for t in 0..T {
        // SAFETY: the caller's promise.
        let sums = unsafe { &*x.sums(t).cast() };
        if !Q8K {
            // SAFETY: the caller's promise; there are eight scales.
            let d = unsafe { _mm256_loadu_ps(x.d(t)) };
            store_256(_mm256_castps_si256(_mm256_mul_ps(d, _mm256_set1_ps(-MAGIC))), &mut shift[t]);
        }
        if MIN {
            // SAFETY: as above.
            min_factor[t] = unsafe { min_factors::<SUB, Q8K>(sums, x.d(t)) };
        } else {
            let sums = scaled_sums::<SUB>(sums, -i16::from(work.coding.offset));
            let zero = if Q8K { 0 } else { MAGIC.to_bits() as i32 };
            store_512(_mm512_add_epi32(sums, _mm512_set1_epi32(zero)), &mut start[t]);
        }
    }
    let mut sum = [[_mm512_setzero_ps(); 2]; T];
    if !Q8K {
        for t in 0..T {
            sum[t] = load_row(&c[t]);
        }
    }
    let panel = work.panel;
    for s in 0..work.n_sub {
        let zero = if Q8K { 0 } else { MAGIC.to_bits() as i32 };
        let mut acc = [[_mm512_set1_epi32(zero); 2]; T];
        if !MIN {
            for t in 0..T {
                // SAFETY: at most 16 sub-blocks.
                acc[t] = [_mm512_set1_epi32(unsafe { *start[t].get_unchecked(s) }); 2];
            }
        }
        for k in s * (SUB / 4)..(s + 1) * (SUB / 4) {
            // SAFETY: `n_sub` sub-blocks are within the panel.
            let (w, _) = unsafe { panel.q.get_unchecked(k) }.as_chunks::<64>();
            let w = [load_512(&w[0]), load_512(&w[1])];
            for t in 0..T {
                // SAFETY: the caller's promise.
                let q = _mm512_set1_epi32(unsafe { x.q(t).cast::<i32>().add(k).read_unaligned() });
                acc[t] = [_mm512_dpbusd_epi32(acc[t][0], w[0], q), _mm512_dpbusd_epi32(acc[t][1], w[1], q)];
            }
        }
        // SAFETY: at most 16 sub-blocks.
        let (scale, min) = unsafe { (load_row(panel.scale.get_unchecked(s)), load_row(panel.min.get_unchecked(s))) };
        for t in 0..T {
            for v in 0..2 {
                let dot = if Q8K {
                    _mm512_cvtepi32_ps(acc[t][v])
                } else {
                    // SAFETY: the caller's promise; there is a scale for 32 elements.
                    let d = _mm512_set1_ps(unsafe { *x.d(t).add(s * SUB / 32) });
                    // SAFETY: at most 8 times 32 elements.
                    let shift = _mm512_set1_ps(unsafe { *shift[t].get_unchecked(s * SUB / 32) });
                    _mm512_fmadd_ps(_mm512_castsi512_ps(acc[t][v]), d, shift)
                };
                sum[t][v] = _mm512_fmadd_ps(dot, scale[v], sum[t][v]);
                if MIN {
                    // SAFETY: at most 16 sub-blocks.
                    let factor = _mm512_set1_ps(unsafe { *min_factor[t].get_unchecked(s) });
                    sum[t][v] = _mm512_fmadd_ps(min[v], factor, sum[t][v]);
                }
            }
        }
    }
    for t in 0..T {
        if Q8K {
            // SAFETY: the caller's promise.
            let (d, old) = (_mm512_set1_ps(unsafe { *x.d(t) }), load_row(&c[t]));
            sum[t] = [_mm512_fmadd_ps(sum[t][0], d, old[0]), _mm512_fmadd_ps(sum[t][1], d, old[1])];
        }
        store_row(sum[t], &mut c[t]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_row(row: &[f32; PANEL_ROWS]) -> [__m512; 2] {
    let (row, _) = row.as_chunks::<16>();
    [_mm512_castsi512_ps(load_512(&row[0])), _mm512_castsi512_ps(load_512(&row[1]))]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn store_row(v: [__m512; 2], row: &mut [f32; PANEL_ROWS]) {
    let (row, _) = row.as_chunks_mut::<16>();
    store_512(_mm512_castps_si512(v[0]), &mut row[0]);
    store_512(_mm512_castps_si512(v[1]), &mut row[1]);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn product_f32(w: &[[f32; PANEL_ROWS]], x: &[&[f32]], first: usize, c: &mut [[f32; PANEL_ROWS]]) {
    let (x_sixes, x) = x.as_chunks::<6>();
    let (c_sixes, c) = c.as_chunks_mut::<6>();
    for (x, c) in x_sixes.iter().zip(c_sixes) {
        tile_f32(w, x, first, c);
    }
    let (x_twos, x) = x.as_chunks::<2>();
    let (c_twos, c) = c.as_chunks_mut::<2>();
    for (x, c) in x_twos.iter().zip(c_twos) {
        tile_f32(w, x, first, c);
    }
    for (x, c) in x.as_chunks::<1>().0.iter().zip(c.as_chunks_mut::<1>().0) {
        tile_f32(w, x, first, c);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn tile_f32<const T: usize>(w: &[[f32; PANEL_ROWS]], x: &[&[f32]; T], first: usize, c: &mut [[f32; PANEL_ROWS]; T]) {
    let x = x.map(|x| x[first..][..w.len()].as_ptr());
    let mut sum = [[_mm512_setzero_ps(); 2]; T];
    for (k, w) in w.iter().enumerate() {
        let w = load_row(w);
        for t in 0..T {
            // SAFETY: the slices are as long as `w`.
            let x = _mm512_set1_ps(unsafe { *x[t].add(k) });
            sum[t] = [_mm512_fmadd_ps(w[0], x, sum[t][0]), _mm512_fmadd_ps(w[1], x, sum[t][1])];
        }
    }
    for t in 0..T {
        let old = load_row(&c[t]);
        store_row([_mm512_add_ps(old[0], sum[t][0]), _mm512_add_ps(old[1], sum[t][1])], &mut c[t]);
    }
}

/// Words of 32 bits of 32 rows, `[row][word]`, from `first` on (a multiple of four), as `[word][row]`. Squares of sixteen are transposed: the
/// loads put a quarter of rows 4 l + i into lane l of vector i, and what is left to do stays within lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in super::super) fn interleave<const BYTES: usize>(
    rows: &[[u8; BYTES]; PANEL_ROWS],
    first: usize,
    out: &mut [[u8; 4 * PANEL_ROWS]],
) {
    for (i, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate().take(BYTES / 16 - first / 4) {
        for (half, rows) in rows.as_chunks::<16>().0.iter().enumerate() {
            let part = |row: usize| load_128(&rows[row].as_chunks::<16>().0[first / 4 + i]);
            let mut r = [_mm512_setzero_si512(); 4];
            for (i, r) in r.iter_mut().enumerate() {
                *r = _mm512_castsi128_si512(part(i));
                *r = _mm512_inserti32x4::<1>(*r, part(4 + i));
                *r = _mm512_inserti32x4::<2>(*r, part(8 + i));
                *r = _mm512_inserti32x4::<3>(*r, part(12 + i));
            }
            let low = [_mm512_unpacklo_epi32(r[0], r[1]), _mm512_unpacklo_epi32(r[2], r[3])];
            let high = [_mm512_unpackhi_epi32(r[0], r[1]), _mm512_unpackhi_epi32(r[2], r[3])];
            let words = [
                _mm512_unpacklo_epi64(low[0], low[1]),
                _mm512_unpackhi_epi64(low[0], low[1]),
                _mm512_unpacklo_epi64(high[0], high[1]),
                _mm512_unpackhi_epi64(high[0], high[1]),
            ];
            for (words, out) in words.into_iter().zip(out.iter_mut()) {
                store_512(words, &mut out.as_chunks_mut::<64>().0[half]);
            }
        }
    }
}
