//! Choosing the likeliest tokens on the device: `argmax` and `top_k`, each in two stages.

use crate::gpu::compose::{Kernel, SELECT};

/// Most tokens that one choice returns.
pub(in crate::gpu) const MAX_K: u32 = 64;

/// Most workgroups of the first stage per row: the second stage reads MAX_K pairs of each.
const MAX_PART: u32 = 64;

/// Logits of a workgroup of the first stage, at least: eight for each of its 256 invocations.
const MIN_PER: u32 = 2048;

/// Words of a record before its pairs: the flag (1: a logit is not finite), and the number of pairs.
pub(in crate::gpu) const HEAD: usize = 2;

/// Parameters of both kernels; `Select` of `shaders/lib/select.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Select {
    n: u32,
    row: u32,
    start: u32,
    k: u32,
    per: u32,
    n_part: u32,
    pad: [u32; 2],
}

impl Select {
    /// The greatest `k` of `n` logits per row; rows lie `row` numbers apart, the first at `start`.
    ///
    /// # Panics
    /// If `n` is 0, or `k` is not in 1..=[`MAX_K`].
    pub fn new(n: u32, row: u32, start: u32, k: u32) -> Self {
        assert!(n > 0 && (1..=MAX_K).contains(&k));
        let per = n.div_ceil(MAX_PART).max(MIN_PER);
        Self { n, row, start, k, per, n_part: n.div_ceil(per), pad: [0; 2] }
    }

    /// Words of a record: flag, number of pairs, k pairs (bits of the logit, index).
    pub fn record_words(&self) -> usize {
        HEAD + 2 * self.k as usize
    }

    /// Words of the buffer `part` for `n_row` rows.
    pub fn part_words(&self, n_row: u32) -> usize {
        n_row as usize * self.n_part as usize * self.record_words()
    }

    /// The kernels of both stages with their grids, in order. `k` = 1 is a plain maximum.
    pub fn stages(&self, n_row: u32) -> [(Kernel, [u32; 3]); 2] {
        let name = if self.k == 1 { "argmax" } else { "top_k" };
        let kernel = |stage| Kernel::new(name, SELECT).with("lib/select").set("STAGE", stage);
        [(kernel(1), [self.n_part, n_row, 1]), (kernel(2), [1, n_row, 1])]
    }
}

/// The record of one row, read back: `None` if a logit was not finite, else (logit, index), greatest first.
pub(in crate::gpu) fn chosen(record: &[u32]) -> Option<impl Iterator<Item = (f32, u32)>> {
    let pair = |pair: &[u32; 2]| (f32::from_bits(pair[0]), pair[1]);
    let n = record[1] as usize;
    (record[0] == 0).then(move || record[HEAD..].as_chunks().0.iter().take(n).map(pair))
}

#[cfg(test)]
mod tests;
