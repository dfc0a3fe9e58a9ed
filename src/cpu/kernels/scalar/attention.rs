//! The specification of attention's products.

use super::super::attention::{AttentionKernels, CHUNK, KEY_GROUP};
use half::f16;

pub(in crate::cpu::kernels) const ATTENTION: AttentionKernels = AttentionKernels {
    scores_f32: |q, dk, keys, stride, n_group, s| scores(q, dk, keys, stride, n_group, s, |x| x),
    scores_f16: |q, dk, keys, stride, n_group, s| scores(q, dk, keys, stride, n_group, s, f16::to_f32),
    add_f32: |p, values, stride, n, dv, sums| add_values(p, values, stride, n, dv, sums, |x| x),
    add_f16: |p, values, stride, n, dv, sums| add_values(p, values, stride, n, dv, sums, f16::to_f32),
    prefetch: |_| {},
};

fn scores<T: Copy>(
    q: &[f32],
    dk: usize,
    keys: &[T],
    stride: usize,
    n_group: usize,
    scores: &mut [f32],
    number: impl Fn(T) -> f32,
) {
    for (q, scores) in q.chunks_exact(dk).zip(scores.chunks_exact_mut(CHUNK)) {
        for (g, scores) in scores.as_chunks_mut::<KEY_GROUP>().0.iter_mut().take(n_group).enumerate() {
            *scores = [0.0; KEY_GROUP];
            for (q, keys) in q.iter().zip(keys[g * stride..].as_chunks::<KEY_GROUP>().0) {
                scores.iter_mut().zip(keys).for_each(|(s, &k)| *s += q * number(k));
            }
        }
    }
}

fn add_values<T: Copy>(
    p: &[f32],
    values: &[T],
    stride: usize,
    n: usize,
    dv: usize,
    sums: &mut [f32],
    number: impl Fn(T) -> f32,
) {
    for (i, sums) in sums.chunks_exact_mut(dv).enumerate() {
        for (j, p) in p[i * CHUNK..][..n].iter().enumerate() {
            let values = &values[j * stride..][..dv];
            sums.iter_mut().zip(values).for_each(|(s, &v)| *s += p * number(v));
        }
    }
}
