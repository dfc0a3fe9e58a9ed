//! Panels with AVX-512 VNNI: tiles of up to six tokens and 32 rows.

use super::super::super::codes::Coding;
use super::super::super::panel::{PANEL_COLS, PANEL_ROWS, PanelKernels, PanelProduct, PanelWork, Rows8, Tokens};
use super::super::super::{ActivationKind, SUM_LEN};
use super::super::{load_256, load_512, store_512};
use super::unpack;
use std::arch::x86_64::*;
use std::ops::Range;

pub(in crate::cpu::kernels) const PANELS: PanelKernels =
    PanelKernels { unpack: unpack::unpack, unpack_f32: unpack::unpack_f32, product, product_f32 };

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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
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
    let mut at = Tokens::new(x, tokens.start, block);
    let (sixes, rest) = c.as_chunks_mut::<6>();
    for c in sixes {
        // SAFETY: six more tokens of the range, which is checked above.
        unsafe { tile::<6, SUB, Q8K, MIN>(work, &at, c) };
        at.skip(6);
    }
    let (fours, rest) = rest.as_chunks_mut::<4>();
    for c in fours {
        // SAFETY: as above.
        unsafe { tile::<4, SUB, Q8K, MIN>(work, &at, c) };
        at.skip(4);
    }
    let (twos, rest) = rest.as_chunks_mut::<2>();
    for c in twos {
        // SAFETY: as above.
        unsafe { tile::<2, SUB, Q8K, MIN>(work, &at, c) };
        at.skip(2);
    }
    for c in rest.as_chunks_mut::<1>().0 {
        // SAFETY: as above.
        unsafe { tile::<1, SUB, Q8K, MIN>(work, &at, c) };
        at.skip(1);
    }
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
    for t in 0..T {
        // SAFETY: the caller's promise.
        let sums = unsafe { &*x.sums(t).cast() };
        if MIN {
            let mut factors = _mm512_cvtepi32_ps(scaled_sums::<SUB>(sums, 1));
            if !Q8K {
                // SAFETY: the caller's promise; there are eight scales.
                let d = _mm512_castps256_ps512(unsafe { _mm256_loadu_ps(x.d(t)) });
                let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
                factors = _mm512_mul_ps(if SUB == 32 { d } else { _mm512_permutexvar_ps(twice, d) }, factors);
            }
            store_512(_mm512_castps_si512(factors), &mut min_factor[t]);
        } else {
            store_512(scaled_sums::<SUB>(sums, -i16::from(work.coding.offset)), &mut start[t]);
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
        let mut acc = [[_mm512_setzero_si512(); 2]; T];
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
                let mut dot = _mm512_cvtepi32_ps(acc[t][v]);
                if !Q8K {
                    // SAFETY: the caller's promise; there is a scale for 32 elements.
                    dot = _mm512_mul_ps(dot, _mm512_set1_ps(unsafe { *x.d(t).add(s * SUB / 32) }));
                }
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

/// Sixteen rows of sixteen words of 32 bits, transposed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn transpose(mut r: [__m512i; 16]) -> [__m512i; 16] {
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for i in 0..4 {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for i in 0..4 {
        t[i] = _mm512_shuffle_i32x4::<0x88>(r[i], r[i + 4]);
        t[i + 4] = _mm512_shuffle_i32x4::<0xdd>(r[i], r[i + 4]);
        t[i + 8] = _mm512_shuffle_i32x4::<0x88>(r[i + 8], r[i + 12]);
        t[i + 12] = _mm512_shuffle_i32x4::<0xdd>(r[i + 8], r[i + 12]);
    }
    for i in 0..4 {
        r[i] = _mm512_shuffle_i32x4::<0x88>(t[i], t[i + 8]);
        r[i + 4] = _mm512_shuffle_i32x4::<0x88>(t[i + 4], t[i + 12]);
        r[i + 8] = _mm512_shuffle_i32x4::<0xdd>(t[i], t[i + 8]);
        r[i + 12] = _mm512_shuffle_i32x4::<0xdd>(t[i + 4], t[i + 12]);
    }
    r
}

/// Words of 32 bits of 32 rows, `[row][word]`, as `[word][row]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) fn interleave<const BYTES: usize>(rows: &[[u8; BYTES]; PANEL_ROWS], out: &mut [[u8; 4 * PANEL_ROWS]]) {
    for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate().take(BYTES / 64) {
        for (half, rows) in rows.as_chunks::<16>().0.iter().enumerate() {
            let mut v = [_mm512_setzero_si512(); 16];
            for (v, row) in v.iter_mut().zip(rows) {
                *v = load_512(&row.as_chunks::<64>().0[i]);
            }
            for (v, out) in transpose(v).into_iter().zip(out.iter_mut()) {
                store_512(v, &mut out.as_chunks_mut::<64>().0[half]);
            }
        }
    }
}
