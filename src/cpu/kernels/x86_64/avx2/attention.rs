//! Attention's products in blocks of registers: several queries, so that a key or value is loaded once for them.

use super::super::super::attention::{AttentionKernels, CHUNK, KEY_GROUP};
use super::super::prefetch_bytes;
use half::f16;
use std::arch::x86_64::*;

pub(in crate::cpu::kernels) const ATTENTION: AttentionKernels =
    AttentionKernels { scores_f32, scores_f16, add_f32, add_f16, prefetch: prefetch_bytes };

/// Lanes of a vector; a group of keys is two.
const LANES: usize = 8;

macro_rules! attention {
    ($scores:ident, $block:ident, $add:ident, $sum:ident, $number:ty, $load:ident, $to_f32:expr) => {
        /// As [`super::super::super::KernelSet::scores`], which checks the lengths.
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $scores(q: &[f32], dk: usize, keys: &[$number], stride: usize, n_group: usize, scores: &mut [f32]) {
            for (q, scores) in q.chunks(4 * dk).zip(scores.chunks_mut(4 * CHUNK)) {
                for g in 0..n_group {
                    let keys = keys[g * stride..][..dk * KEY_GROUP].as_chunks::<KEY_GROUP>().0;
                    match q.len() / dk {
                        4 => $block::<4>(q, dk, keys, g, scores),
                        n => (0..n).for_each(|i| $block::<1>(&q[i * dk..], dk, keys, g, &mut scores[i * CHUNK..])),
                    }
                }
            }
        }

        /// `N` queries against group `g` of a chunk.
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $block<const N: usize>(q: &[f32], dk: usize, keys: &[[$number; KEY_GROUP]], g: usize, scores: &mut [f32]) {
            let mut sums = [[_mm256_setzero_ps(); 2]; N];
            let queries: [&[f32]; N] = std::array::from_fn(|i| &q[i * dk..][..dk]);
            for (d, keys) in keys.iter().enumerate() {
                let (keys, _) = keys.as_chunks::<LANES>();
                let k = [$load(&keys[0]), $load(&keys[1])];
                for (sums, q) in sums.iter_mut().zip(queries) {
                    let q = _mm256_set1_ps(q[d]);
                    sums[0] = _mm256_fmadd_ps(q, k[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(q, k[1], sums[1]);
                }
            }
            for (sums, scores) in sums.iter().zip(scores.as_chunks_mut::<CHUNK>().0) {
                let halves = scores.as_chunks_mut::<LANES>().0[2 * g..].iter_mut();
                for (sum, half) in sums.iter().zip(halves) {
                    super::super::store_256(_mm256_castps_si256(*sum), half);
                }
            }
        }

        /// As [`super::super::super::KernelSet::add_values`], which checks the lengths.
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $add(p: &[f32], values: &[$number], stride: usize, n: usize, dv: usize, sums: &mut [f32]) {
            for (i, sums) in sums.chunks_mut(4 * dv).enumerate() {
                let p = &p[4 * i * CHUNK..];
                let mut c = 0;
                while c + LANES <= dv {
                    let wide = if dv - c >= 2 * LANES { 2 } else { 1 };
                    match (sums.len() / dv, wide) {
                        (4, 2) => $sum::<4, 2>(p, &values[c..], stride, n, &mut sums[c..], dv),
                        (4, _) => $sum::<4, 1>(p, &values[c..], stride, n, &mut sums[c..], dv),
                        (m, _) => (0..m).for_each(|i| {
                            let (p, sums) = (&p[i * CHUNK..], &mut sums[i * dv + c..]);
                            match wide {
                                2 => $sum::<1, 2>(p, &values[c..], stride, n, sums, dv),
                                _ => $sum::<1, 1>(p, &values[c..], stride, n, sums, dv),
                            }
                        }),
                    }
                    c += wide * LANES;
                }
                for (i, sums) in sums.chunks_mut(dv).enumerate() {
                    for (c, sum) in sums.iter_mut().enumerate().skip(c) {
                        for (j, p) in p[i * CHUNK..][..n].iter().enumerate() {
                            *sum = p.mul_add($to_f32(values[j * stride + c]), *sum);
                        }
                    }
                }
            }
        }

        /// `C` vectors of columns of `N` queries.
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $sum<const N: usize, const C: usize>(
            p: &[f32],
            values: &[$number],
            stride: usize,
            n: usize,
            sums: &mut [f32],
            dv: usize,
        ) {
            let mut acc = [[_mm256_setzero_ps(); C]; N];
            for (i, acc) in acc.iter_mut().enumerate() {
                for (acc, sums) in acc.iter_mut().zip(sums[i * dv..].as_chunks::<LANES>().0) {
                    *acc = load_f32(sums);
                }
            }
            let p: [&[f32]; N] = std::array::from_fn(|i| &p[i * CHUNK..][..n]);
            for j in 0..n {
                let row = values[j * stride..][..C * LANES].as_chunks::<LANES>().0;
                let mut v = [_mm256_setzero_ps(); C];
                for (v, row) in v.iter_mut().zip(row) {
                    *v = $load(row);
                }
                for (acc, p) in acc.iter_mut().zip(p) {
                    let p = _mm256_set1_ps(p[j]);
                    for (acc, v) in acc.iter_mut().zip(v) {
                        *acc = _mm256_fmadd_ps(p, v, *acc);
                    }
                }
            }
            for (i, acc) in acc.iter().enumerate() {
                for (acc, sums) in acc.iter().zip(sums[i * dv..].as_chunks_mut::<LANES>().0) {
                    super::super::store_256(_mm256_castps_si256(*acc), sums);
                }
            }
        }
    };
}

attention!(scores_f32, block_f32, add_f32, sum_f32, f32, load_f32, |x| x);
attention!(scores_f16, block_f16, add_f16, sum_f16, f16, load_f16, f16::to_f32);

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_f32(x: &[f32; LANES]) -> __m256 {
    _mm256_castsi256_ps(super::super::load_256(x))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_f16(x: &[f16; LANES]) -> __m256 {
    _mm256_cvtph_ps(super::super::load_128(x))
}
