//! Scores of queries against keys, and sums of values: the two products of attention.
//!
//! Keys lie by dimension, sixteen positions side by side, so that a score needs no sum across lanes; values lie by
//! position. A score sums over dimensions in order, a result over positions in order: they do not depend on what
//! else is computed with them.

use super::KernelSet;
use half::f16;

/// Positions that lie side by side in keys.
pub const KEY_GROUP: usize = 16;
/// Positions of a chunk: a row of scores.
pub const CHUNK: usize = 64;

/// Groups of keys: of group `g` and dimension `d`, the keys of 16 positions at `g * stride + d * 16`.
pub(super) type Scores<T> =
    unsafe fn(q: &[f32], dk: usize, keys: &[T], stride: usize, n_group: usize, scores: &mut [f32]);
/// Values of position `j` at `j * stride`.
pub(super) type AddValues<T> = unsafe fn(p: &[f32], values: &[T], stride: usize, n: usize, dv: usize, sums: &mut [f32]);

/// The products of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct AttentionKernels {
    pub scores_f32: Scores<f32>,
    pub scores_f16: Scores<f16>,
    pub add_f32: AddValues<f32>,
    pub add_f16: AddValues<f16>,
    /// Asks for bytes that are read soon.
    pub prefetch: fn(&[u8]),
}

/// Numbers as a cache stores them.
pub trait CacheNumber: bytemuck::Pod + Send + Sync {
    #[doc(hidden)]
    fn kernels(set: &KernelSet) -> (Scores<Self>, AddValues<Self>);
}

impl CacheNumber for f32 {
    fn kernels(set: &KernelSet) -> (Scores<Self>, AddValues<Self>) {
        (set.attention.scores_f32, set.attention.add_f32)
    }
}

impl CacheNumber for f16 {
    fn kernels(set: &KernelSet) -> (Scores<Self>, AddValues<Self>) {
        (set.attention.scores_f16, set.attention.add_f16)
    }
}

impl KernelSet {
    /// Asks for bytes that are read soon.
    pub fn prefetch(&self, bytes: &[u8]) {
        (self.attention.prefetch)(bytes);
    }

    /// `scores[i * CHUNK + 16 g + l] = sum_d q[i, d] * keys[g * stride + 16 d + l]` for the first groups of a chunk.
    ///
    /// `q`: [n_query, dk]. `scores`: [n_query, CHUNK].
    ///
    /// # Panics
    /// The lengths do not fit.
    pub fn scores<T: CacheNumber>(
        &self,
        q: &[f32],
        dk: usize,
        keys: &[T],
        stride: usize,
        n_group: usize,
        scores: &mut [f32],
    ) {
        let n_query = q.len() / dk.max(1);
        assert!(dk > 0 && n_query * dk == q.len() && scores.len() == n_query * CHUNK);
        assert!(n_group > 0 && n_group * KEY_GROUP <= CHUNK && dk * KEY_GROUP <= stride.max(keys.len()));
        assert!(keys.len() >= (n_group - 1) * stride + dk * KEY_GROUP, "keys of {n_group} groups");
        // SAFETY: a `KernelSet` exists only if its features were detected; the lengths are those that kernels rely on.
        unsafe { (T::kernels(self).0)(q, dk, keys, stride, n_group, scores) }
    }

    /// `sums[i, c] += sum_j p[i * CHUNK + j] * values[j * stride + c]` for `n` positions of a chunk.
    ///
    /// `p`: `n_query` rows that are [`CHUNK`] apart, the last of at least `n`. `sums`: [n_query, dv].
    ///
    /// # Panics
    /// The lengths do not fit.
    pub fn add_values<T: CacheNumber>(
        &self,
        p: &[f32],
        values: &[T],
        stride: usize,
        n: usize,
        dv: usize,
        sums: &mut [f32],
    ) {
        let n_query = sums.len() / dv.max(1);
        assert!(dv > 0 && n_query > 0 && n_query * dv == sums.len() && p.len() >= (n_query - 1) * CHUNK + n);
        assert!(n > 0 && n <= CHUNK && values.len() >= (n - 1) * stride + dv, "values of {n} positions");
        // SAFETY: a `KernelSet` exists only if its features were detected; the lengths are those that kernels rely on.
        unsafe { (T::kernels(self).1)(p, values, stride, n, dv, sums) }
    }
}
