//! AVX-512: the primitives of [`float_kernels`], and its kernels.

use super::super::super::float::float_kernels;
use super::super::{avx2, load_256, load_512, prefetch, store_256, store_512};
use bytemuck::Pod;
use std::arch::x86_64::{
    __m512 as V, _mm512_add_ps as add, _mm512_div_ps as div, _mm512_fmadd_ps as fmadd, _mm512_fnmadd_ps as fnmadd,
    _mm512_max_ps as max, _mm512_min_ps as min, _mm512_mul_ps as mul, _mm512_reduce_add_ps as sum,
    _mm512_reduce_max_ps as greatest, _mm512_scalef_ps as scale, _mm512_set1_ps as set1, _mm512_setzero_ps as zero,
    _mm512_sub_ps as sub, _mm512_xor_ps as xor, *,
};

const LANES: usize = 16;

float_kernels!("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c");

/// [`matvec_blocks`], with AVX2's kernels where they are faster.
pub(in crate::cpu::kernels) fn matvec_blocks_or_avx2(ty: BlockType) -> Option<MatvecF32> {
    match ty {
        // table and codebook lookups: here the compiler makes 512-bit gathers of them, which are slower
        // than the loads that it makes for AVX2 (by half on Sapphire Rapids)
        BlockType::Iq2Xxs | BlockType::Iq2Xs | BlockType::Iq2S | BlockType::Iq3Xxs | BlockType::Iq3S => None,
        BlockType::Iq4Nl | BlockType::Iq4Xs | BlockType::Mxfp4 | BlockType::Nvfp4 => None,
        _ => matvec_blocks(ty),
    }
    .or_else(|| avx2::float::matvec_blocks(ty))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load<T: Pod, const N: usize>(x: &[T; N]) -> V {
    _mm512_castsi512_ps(load_512(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_f16<T: Pod, const N: usize>(x: &[T; N]) -> V {
    _mm512_cvtph_ps(load_256(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_bf16(x: &[u8; 2 * LANES]) -> V {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load_256(x))))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn store(v: V, to: &mut [f32; LANES]) {
    store_512(_mm512_castps_si512(v), to);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn store_f16(v: V, to: &mut [f16; LANES]) {
    store_256(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v), to);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn round(x: V) -> (V, V) {
    let n = _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(x);
    (n, n)
}
