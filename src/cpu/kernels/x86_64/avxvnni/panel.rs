//! Panels with AVX-VNNI: only how products of bytes are added differs from AVX2's.
#![allow(clippy::needless_range_loop)] // tokens and vectors are lanes of several arrays

use super::super::super::ActivationKind;
use super::super::super::codes::Coding;
use super::super::super::panel::{Panel, PanelKernels, PanelProduct, by_coding};
use super::super::avx2;
use super::super::panel::panel_tiles;

panel_tiles!("avx2,fma,f16c,avxvnni");

pub(in crate::cpu::kernels) const PANELS: PanelKernels = PanelKernels { product, ..avx2::panel::PANELS };

fn product(coding: Coding, kind: ActivationKind) -> PanelProduct {
    by_coding!(coding, kind, tiles, 1)
}

/// # Safety
/// `x` points at a block of 256 elements of `T` tokens, which have a sub-block `s`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn add_dots<const T: usize, const SUB: usize, const STEPS: usize>(
    acc: &mut [[__m256i; 2]; T],
    panel: &Panel,
    half: usize,
    x: &Tokens,
    s: usize,
) {
    for k in s * (SUB / 4)..(s + 1) * (SUB / 4) {
        // SAFETY: the caller's promise.
        let (w, _) = unsafe { panel.q.get_unchecked(k) }.as_chunks::<32>();
        let w = [load_256(&w[2 * half]), load_256(&w[2 * half + 1])];
        for t in 0..T {
            // SAFETY: the caller's promise.
            let q = _mm256_set1_epi32(unsafe { x.q(t).cast::<i32>().add(k).read_unaligned() });
            acc[t] = [_mm256_dpbusd_avx_epi32(acc[t][0], w[0], q), _mm256_dpbusd_avx_epi32(acc[t][1], w[1], q)];
        }
    }
}
