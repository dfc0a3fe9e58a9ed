//! Panels with AVX2: tiles of up to four tokens and 16 rows.
//!
//! `vpmaddubsw` adds pairs of products in i16. Small codes let several of these be added before they are
//! widened to i32; codes of 8 bits move their signs to the activations, as two products would not fit.
#![allow(clippy::needless_range_loop)] // tokens and vectors are lanes of several arrays

use super::super::super::ActivationKind;
use super::super::super::codes::Coding;
use super::super::super::panel::{Panel, PanelKernels, PanelProduct};
use super::super::panel::panel_tiles;
use super::unpack;

panel_tiles!("avx2,fma,f16c");

pub(in crate::cpu::kernels) const PANELS: PanelKernels = PanelKernels {
    whole_blocks: |_| None,
    unpack: unpack::unpack,
    unpack_f32: unpack::unpack_f32,
    product,
    product_f32,
};

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
///
/// # Safety
/// `x` points at a block of 256 elements of `T` tokens, which have a sub-block `s`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_dots<const T: usize, const SUB: usize, const STEPS: usize>(
    acc: &mut [[__m256i; 2]; T],
    panel: &Panel,
    half: usize,
    x: &Tokens,
    s: usize,
) {
    let ones = _mm256_set1_epi16(1);
    let per_group = if STEPS == 0 { 1 } else { STEPS };
    for first in (s * (SUB / 4)..(s + 1) * (SUB / 4)).step_by(per_group) {
        let mut pairs = [[_mm256_setzero_si256(); 2]; T];
        for k in first..first + per_group {
            // SAFETY: the caller's promise.
            let (w, _) = unsafe { panel.q.get_unchecked(k) }.as_chunks::<32>();
            let mut w = [load_256(&w[2 * half]), load_256(&w[2 * half + 1])];
            if STEPS == 0 {
                w = [_mm256_xor_si256(w[0], _mm256_set1_epi8(-128)), _mm256_xor_si256(w[1], _mm256_set1_epi8(-128))];
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
