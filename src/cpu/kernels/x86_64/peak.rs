//! Loops of nothing but products: what the ports allow.

use super::super::Peak;
use std::arch::x86_64::*;
use std::hint::black_box;

/// Vectors that are summed in turn: more than latency times throughput.
const CHAINS: usize = 12;

/// Products that `n` steps compute, after computing them; `None` for what the set lacks.
pub(super) fn avx512(of: Peak, n: usize) -> Option<usize> {
    // SAFETY: the sets of this room are made beside the detection of these features.
    unsafe {
        match of {
            Peak::Int8 => dpbusd_512(n),
            Peak::F32 => fma_512(n),
        }
    }
    let per_vector = if of == Peak::Int8 { 64 } else { 16 };
    Some(n * CHAINS * per_vector)
}

/// The same with 256 bits.
pub(super) fn avxvnni(of: Peak, n: usize) -> Option<usize> {
    // SAFETY: as above.
    unsafe {
        match of {
            Peak::Int8 => dpbusd_256(n),
            Peak::F32 => fma_256(n),
        }
    }
    let per_vector = if of == Peak::Int8 { 32 } else { 8 };
    Some(n * CHAINS * per_vector)
}

/// The same with three operations for 32 products.
pub(super) fn avx2(of: Peak, n: usize) -> Option<usize> {
    // SAFETY: as above.
    unsafe {
        match of {
            Peak::Int8 => maddubs_256(n),
            Peak::F32 => fma_256(n),
        }
    }
    let per_vector = if of == Peak::Int8 { 32 } else { 8 };
    Some(n * CHAINS * per_vector)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dpbusd_512(n: usize) {
    let mut acc = [_mm512_setzero_si512(); CHAINS];
    let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
    for _ in 0..n {
        for acc in &mut acc {
            *acc = _mm512_dpbusd_epi32(*acc, a, b);
        }
    }
    black_box(acc);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn fma_512(n: usize) {
    let mut acc = [_mm512_setzero_ps(); CHAINS];
    let (a, b) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(0.25)));
    for _ in 0..n {
        for acc in &mut acc {
            *acc = _mm512_fmadd_ps(*acc, a, b);
        }
    }
    black_box(acc);
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn dpbusd_256(n: usize) {
    let mut acc = [_mm256_setzero_si256(); CHAINS];
    let (a, b) = (black_box(_mm256_set1_epi8(3)), black_box(_mm256_set1_epi8(5)));
    for _ in 0..n {
        for acc in &mut acc {
            *acc = _mm256_dpbusd_avx_epi32(*acc, a, b);
        }
    }
    black_box(acc);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn fma_256(n: usize) {
    let mut acc = [_mm256_setzero_ps(); CHAINS];
    let (a, b) = (black_box(_mm256_set1_ps(0.5)), black_box(_mm256_set1_ps(0.25)));
    for _ in 0..n {
        for acc in &mut acc {
            *acc = _mm256_fmadd_ps(*acc, a, b);
        }
    }
    black_box(acc);
}

/// The result of a step is an operand of the next one, so that no step can be left out.
#[target_feature(enable = "avx2,fma,f16c")]
fn maddubs_256(n: usize) {
    let mut acc = [_mm256_setzero_si256(); CHAINS];
    let (a, ones) = (black_box(_mm256_set1_epi8(3)), black_box(_mm256_set1_epi16(1)));
    for _ in 0..n {
        for acc in &mut acc {
            *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, *acc), ones));
        }
    }
    black_box(acc);
}
