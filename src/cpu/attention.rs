//! Attention of a few rows of one sequence over one head of keys and values, with all query heads that share it.
//!
//! Keys are taken in chunks that begin at multiples of [`CHUNK`] positions, whatever the batch, and combined by
//! online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867) in f32: a row's result has the same bits in every
//! batch and for every number of threads.

use super::kernels::KernelSet;
use super::rows::softcap;
use super::sequence::CacheRows;
use crate::cache::RowSlots;
use crate::plan::Attend;

/// Positions of a chunk. 64 keys of 128 numbers in f32 are 32 KiB: with the values they stay in the second-level
/// cache while all queries of the tile use them.
const CHUNK: u32 = 64;

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct AttendScratch {
    /// Scaled queries, [queries, head_dim].
    q: Vec<f32>,
    /// Keys of a chunk, [CHUNK, head_dim].
    k: Vec<f32>,
    /// Values of a chunk, [CHUNK, value head_dim].
    v: Vec<f32>,
    /// Scores of one query, [CHUNK].
    scores: Vec<f32>,
    /// Unnormalised results, [queries, value head_dim].
    acc: Vec<f32>,
    /// Running maximum and sum of each query.
    max_sum: Vec<(f32, f32)>,
}

/// One thread's share: rows at ascending positions of one sequence, one head of keys and values.
pub(super) struct AttendWork<'a> {
    pub set: &'a KernelSet,
    pub step: &'a Attend,
    pub cache: &'a CacheRows,
    pub slots: &'a RowSlots,
    pub kv_head: usize,
    /// Position of each row.
    pub pos: &'a [u32],
}

impl AttendWork<'_> {
    /// `query(row, head)` gives the query of a row, `result(row, head, values)` takes its result.
    pub fn run<'q>(
        &self,
        scratch: &mut AttendScratch,
        query: impl Fn(usize, usize) -> &'q [f32],
        mut result: impl FnMut(usize, usize, &[f32]),
    ) {
        let Self { set, step, cache, .. } = *self;
        let group = (step.heads / step.kv_heads) as usize;
        let dk = cache.k.width() / step.kv_heads as usize;
        let dv = cache.v.width() / step.kv_heads as usize;
        let heads = self.kv_head * group..(self.kv_head + 1) * group;
        let n_query = self.pos.len() * group;
        let AttendScratch { q, k, v, scores, acc, max_sum } = scratch;
        q.clear();
        for (row, &pos) in self.pos.iter().enumerate() {
            let scale = self.scale(pos);
            heads.clone().for_each(|head| q.extend(query(row, head).iter().map(|x| x * scale)));
        }
        acc.clear();
        acc.resize(n_query * dv, 0.0);
        max_sum.clear();
        max_sum.resize(n_query, (f32::NEG_INFINITY, 0.0));
        k.resize(CHUNK as usize * dk, 0.0);
        v.resize(CHUNK as usize * dv, 0.0);

        let (Some(&pos_min), Some(&pos_max)) = (self.pos.first(), self.pos.last()) else { return };
        let first = step.span.first_visible(pos_min);
        for base in (first / CHUNK * CHUNK..=pos_max).step_by(CHUNK as usize) {
            let (lo, hi) = (base.max(first), (base + CHUNK).min(pos_max + 1));
            for (i, pos) in (lo..hi).enumerate() {
                let slot = self.slots.slot(pos);
                cache.k.get(set, slot, self.kv_head * dk, &mut k[i * dk..(i + 1) * dk]);
                cache.v.get(set, slot, self.kv_head * dv, &mut v[i * dv..(i + 1) * dv]);
            }
            for (row, &pos) in self.pos.iter().enumerate() {
                let (from, to) = (lo.max(step.span.first_visible(pos)), hi.min(pos + 1));
                if from >= to {
                    continue;
                }
                let (from, to) = ((from - lo) as usize, (to - lo) as usize);
                for i in row * group..(row + 1) * group {
                    let q = &q[i * dk..(i + 1) * dk];
                    scores.clear();
                    scores.extend((from..to).map(|j| set.dot_f32(q, &k[j * dk..(j + 1) * dk])));
                    if let Some(cap) = step.softcap {
                        softcap(scores, cap);
                    }
                    let acc = &mut acc[i * dv..(i + 1) * dv];
                    let (max, sum) = &mut max_sum[i];
                    let new_max = max.max(set.max_f32(scores));
                    if new_max > *max {
                        let shrink = (*max - new_max).exp();
                        *sum *= shrink;
                        set.scale_f32(shrink, acc);
                        *max = new_max;
                    }
                    *sum += set.exp_sum(scores, new_max);
                    for (j, &p) in scores.iter().enumerate() {
                        set.axpy_f32(p, &v[(from + j) * dv..(from + j + 1) * dv], acc);
                    }
                }
            }
        }
        for i in 0..n_query {
            let acc = &mut acc[i * dv..(i + 1) * dv];
            set.scale_f32(1.0 / max_sum[i].1, acc);
            result(i / group, heads.start + i % group, acc);
        }
    }

    /// Factor of the scores of a query at `pos`.
    fn scale(&self, pos: u32) -> f32 {
        let warm = self.step.temper.map_or(1.0, |t| {
            let steps = ((pos + t.add) / t.length) as f32;
            1.0 + t.scale * (1.0 + steps).ln()
        });
        self.step.scale * warm
    }
}
