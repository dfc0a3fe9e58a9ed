//! AVX-VNNI, for processors that have `vpdpbusd` in vectors of 256 bits and no AVX-512: as AVX2, but for how products
//! of bytes are added.

use super::super::MatvecQ8;
use super::avx2::with_signs;
use std::arch::x86_64::*;
use tealight_quant::BlockType;

pub(super) mod blocks;
mod codebooks;
pub(super) mod panel;

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn dots<const N: usize>(start: __m256i, u: [__m256i; N], s: [__m256i; N]) -> __m256i {
    u.into_iter().zip(s).fold(start, |sum, (u, s)| _mm256_dpbusd_avx_epi32(sum, u, s))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn scaled(acc: __m256i, u: __m256i, s: __m256i, scales: __m256i) -> __m256i {
    _mm256_dpwssd_avx_epi32(acc, _mm256_maddubs_epi16(u, s), scales)
}

/// Row products of the formats that have no place of their own in the table.
pub(super) fn matvec_codes(ty: BlockType) -> Option<MatvecQ8> {
    blocks::matvec_block(ty).or_else(|| codebooks::matvec_codebook(ty))
}
