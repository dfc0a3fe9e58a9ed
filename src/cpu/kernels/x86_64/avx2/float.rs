//! AVX2: the primitives of [`float_kernels`], and its kernels.

use super::super::super::float::float_kernels;
use super::super::{load_128, load_256, prefetch, store_128, store_256, sum_256 as sum};
use bytemuck::Pod;
use std::arch::x86_64::{
    __m256 as V, _mm256_add_ps as add, _mm256_div_ps as div, _mm256_fmadd_ps as fmadd, _mm256_fnmadd_ps as fnmadd,
    _mm256_max_ps as max, _mm256_min_ps as min, _mm256_mul_ps as mul, _mm256_set1_ps as set1,
    _mm256_setzero_ps as zero, _mm256_sub_ps as sub, _mm256_xor_ps as xor, *,
};

const LANES: usize = 8;

float_kernels!("avx2,fma,f16c");

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load<T: Pod, const N: usize>(x: &[T; N]) -> V {
    _mm256_castsi256_ps(load_256(x))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_f16<T: Pod, const N: usize>(x: &[T; N]) -> V {
    _mm256_cvtph_ps(load_128(x))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_bf16(x: &[u8; 2 * LANES]) -> V {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_128(x))))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store(v: V, to: &mut [f32; LANES]) {
    store_256(_mm256_castps_si256(v), to);
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store_f16(v: V, to: &mut [f16; LANES]) {
    store_128(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v), to);
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn greatest(v: V) -> f32 {
    let mut lanes = [0.0; LANES];
    store(v, &mut lanes);
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn round(x: V) -> (V, __m256i) {
    let n = _mm256_cvtps_epi32(x);
    (_mm256_cvtepi32_ps(n), n)
}

/// In two steps: 2^n alone leaves the range of normal numbers at both ends.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scale(x: V, n: __m256i) -> V {
    let n_first = _mm256_srai_epi32::<1>(n);
    mul(mul(x, power_of_two(n_first)), power_of_two(_mm256_sub_epi32(n, n_first)))
}

/// `2^n` for n in -126..=127.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn power_of_two(n: __m256i) -> V {
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))))
}
