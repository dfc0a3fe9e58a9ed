//! Attention's products in blocks of registers: several queries, so that a key or value is loaded once for them.

use super::super::super::attention::{AttentionKernels, CHUNK, KEY_GROUP};
use super::super::prefetch_bytes;
use half::f16;
use std::arch::x86_64::*;

pub(in crate::cpu::kernels) const ATTENTION: AttentionKernels =
    AttentionKernels { scores_f32, scores_f16, add_f32, add_f16, prefetch: prefetch_bytes };

/// Lanes of a vector.
const LANES: usize = 16;

macro_rules! attention {
    ($scores:ident, $block:ident, $add:ident, $sum:ident, $number:ty, $load:ident, $load_some:ident) => {
        /// As [`super::super::super::KernelSet::scores`], which checks the lengths.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $scores(q: &[f32], dk: usize, keys: &[$number], stride: usize, n_group: usize, scores: &mut [f32]) {
            let n_query = q.len() / dk;
            let mut i = 0;
            while i < n_query {
                let n = if n_query - i >= 8 { 8 } else { 1 << (n_query - i).ilog2() };
                let (q, s) = (&q[i * dk..][..n * dk], &mut scores[i * CHUNK..][..n * CHUNK]);
                let mut g = 0;
                while g < n_group {
                    let keys = &keys[g * stride..];
                    // few queries take several groups of keys, so that enough sums are under way
                    g += match (n, n_group - g) {
                        (8, _) => $block::<8, 1>(q, dk, keys, stride, g, s),
                        (4, 2..) => $block::<4, 2>(q, dk, keys, stride, g, s),
                        (4, _) => $block::<4, 1>(q, dk, keys, stride, g, s),
                        (2, 4..) => $block::<2, 4>(q, dk, keys, stride, g, s),
                        (2, _) => $block::<2, 1>(q, dk, keys, stride, g, s),
                        (_, 4..) => $block::<1, 4>(q, dk, keys, stride, g, s),
                        _ => $block::<1, 1>(q, dk, keys, stride, g, s),
                    };
                }
                i += n;
            }
        }

        /// `N` queries against `G` groups of keys from `keys` on, which are those from group `first` of the chunk.
        /// Returns `G`.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $block<const N: usize, const G: usize>(
            q: &[f32],
            dk: usize,
            keys: &[$number],
            stride: usize,
            first: usize,
            scores: &mut [f32],
        ) -> usize {
            let mut sums = [[_mm512_setzero_ps(); G]; N];
            let keys: [&[[$number; KEY_GROUP]]; G] =
                std::array::from_fn(|g| &keys[g * stride..][..dk * KEY_GROUP].as_chunks::<KEY_GROUP>().0[..dk]);
            let queries: [&[f32]; N] = std::array::from_fn(|i| &q[i * dk..][..dk]);
            for d in 0..dk {
                let mut k = [_mm512_setzero_ps(); G];
                for (k, keys) in k.iter_mut().zip(keys) {
                    *k = $load(&keys[d]);
                }
                for (sums, q) in sums.iter_mut().zip(queries) {
                    let q = _mm512_set1_ps(q[d]);
                    for (sum, k) in sums.iter_mut().zip(k) {
                        *sum = _mm512_fmadd_ps(q, k, *sum);
                    }
                }
            }
            for (sums, scores) in sums.iter().zip(scores.as_chunks_mut::<CHUNK>().0) {
                let groups = &mut scores.as_chunks_mut::<KEY_GROUP>().0[first..first + G];
                for (sum, group) in sums.iter().zip(groups) {
                    super::super::store_512(_mm512_castps_si512(*sum), group);
                }
            }
            G
        }

        /// As [`super::super::super::KernelSet::add_values`], which checks the lengths.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $add(p: &[f32], values: &[$number], stride: usize, n: usize, dv: usize, sums: &mut [f32]) {
            let n_query = sums.len() / dv;
            let mut i = 0;
            while i < n_query {
                let step = if n_query - i >= 4 { 4 } else { 1 };
                let (p, sums) = (&p[i * CHUNK..], &mut sums[i * dv..][..step * dv]);
                let mut c = 0;
                while c < dv {
                    match (step, dv - c) {
                        (4, 64..) => $sum::<4, 4>(p, &values[c..], stride, n, &mut sums[c..], dv),
                        (4, _) => $sum::<4, 1>(p, &values[c..], stride, n, &mut sums[c..], dv),
                        (_, 64..) => $sum::<1, 4>(p, &values[c..], stride, n, &mut sums[c..], dv),
                        _ => $sum::<1, 1>(p, &values[c..], stride, n, &mut sums[c..], dv),
                    }
                    c += if dv - c >= 64 { 64 } else { LANES };
                }
                i += step;
            }
        }

        /// `C` vectors of columns of `N` queries; the last one may be cut by the end of a row.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $sum<const N: usize, const C: usize>(
            p: &[f32],
            values: &[$number],
            stride: usize,
            n: usize,
            sums: &mut [f32],
            dv: usize,
        ) {
            // columns from here to the end of the row
            let width = (sums.len() - (N - 1) * dv).min(C * LANES);
            let mut acc = [[_mm512_setzero_ps(); C]; N];
            for (i, acc) in acc.iter_mut().enumerate() {
                for (acc, sums) in acc.iter_mut().zip(sums[i * dv..][..width].chunks(LANES)) {
                    *acc = load_some_f32(sums);
                }
            }
            let p: [&[f32]; N] = std::array::from_fn(|i| &p[i * CHUNK..][..n]);
            for j in 0..n {
                let row = &values[j * stride..][..width];
                let mut v = [_mm512_setzero_ps(); C];
                if width == C * LANES {
                    for (v, row) in v.iter_mut().zip(row.as_chunks::<LANES>().0) {
                        *v = $load(row);
                    }
                } else {
                    v[0] = $load_some(row);
                }
                for (acc, p) in acc.iter_mut().zip(p) {
                    let p = _mm512_set1_ps(p[j]);
                    for (acc, v) in acc.iter_mut().zip(v) {
                        *acc = _mm512_fmadd_ps(p, v, *acc);
                    }
                }
            }
            for (i, acc) in acc.iter().enumerate() {
                for (acc, sums) in acc.iter().zip(sums[i * dv..][..width].chunks_mut(LANES)) {
                    let mut lanes = [0.0; LANES];
                    super::super::store_512(_mm512_castps_si512(*acc), &mut lanes);
                    sums.copy_from_slice(&lanes[..sums.len()]);
                }
            }
        }
    };
}

attention!(scores_f32, block_f32, add_f32, sum_f32, f32, load_f32, load_some_f32);
attention!(scores_f16, block_f16, add_f16, sum_f16, f16, load_f16, load_some_f16);

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_f32(x: &[f32; LANES]) -> __m512 {
    _mm512_castsi512_ps(super::super::load_512(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_f16(x: &[f16; LANES]) -> __m512 {
    _mm512_cvtph_ps(super::super::load_256(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_some_f32(x: &[f32]) -> __m512 {
    let mut lanes = [0.0; LANES];
    lanes[..x.len()].copy_from_slice(x);
    load_f32(&lanes)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_some_f16(x: &[f16]) -> __m512 {
    let mut lanes = [f16::ZERO; LANES];
    lanes[..x.len()].copy_from_slice(x);
    load_f16(&lanes)
}
