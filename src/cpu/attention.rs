//! Attention of a few rows of one sequence over one head of keys and values, with all query heads that share it.
//!
//! Keys are taken in chunks that begin at multiples of [`CHUNK`] positions, combined by online softmax (Milakov and
//! Gimelshein 2018, arXiv 1805.02867) within parts that begin at multiples of [`PART`], and parts are combined in
//! their order: a row's result has the same bits in every batch, for every number of threads, and whether one thread
//! treats all parts or each part has its own.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::kernels::{CHUNK, CacheNumber, KEY_GROUP, KernelSet};
use super::rows::softcap;
use super::sequence::{CacheRows, Numbers};
use crate::cache::RowSlots;
use crate::plan::Attend;

/// Positions of a part.
pub(super) const PART: u32 = 1024;

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct AttendScratch {
    /// Scaled queries, [queries, head_dim].
    q: Vec<f32>,
    /// Keys of a chunk by dimension, [CHUNK / 16, head_dim, 16], where the cache keeps them otherwise.
    k: Vec<f32>,
    /// Values of a chunk, [CHUNK, value head_dim], where the cache is no plain numbers.
    v: Vec<f32>,
    /// Scores, then probabilities, [queries, CHUNK].
    scores: Vec<f32>,
    part: State,
    total: State,
}

/// What is known of some queries after some of their keys.
#[derive(Default)]
struct State {
    /// Greatest score and sum of probabilities relative to it, per query.
    max_sum: Vec<(f32, f32)>,
    /// Values by probability, [queries, value head_dim].
    acc: Vec<f32>,
}

impl State {
    fn clear(&mut self, n_query: usize, dv: usize) {
        self.max_sum.clear();
        self.max_sum.resize(n_query, (f32::NEG_INFINITY, 0.0));
        self.acc.clear();
        self.acc.resize(n_query * dv, 0.0);
    }

    /// Adds what later keys give.
    fn merge(&mut self, max_sum: &[(f32, f32)], acc: &[f32], dv: usize) {
        let ours = self.max_sum.iter_mut().zip(self.acc.chunks_exact_mut(dv));
        for (((max, sum), acc), ((other_max, other_sum), other)) in ours.zip(max_sum.iter().zip(acc.chunks_exact(dv))) {
            let new_max = max.max(*other_max);
            if new_max == f32::NEG_INFINITY {
                continue;
            }
            let (a, b) = ((*max - new_max).exp(), (other_max - new_max).exp());
            *sum = *sum * a + other_sum * b;
            acc.iter_mut().zip(other).for_each(|(x, y)| *x = *x * a + y * b);
            *max = new_max;
        }
    }
}

/// Query heads that are treated at once at most: the rest of those that share keys and values are other shares.
const MAX_HEADS: usize = 16;

/// The query heads that one thread treats at once, and the head of keys and values that they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub kv_head: usize,
    pub heads: Range<usize>,
}

impl Share {
    /// Shares of a step.
    pub fn count(step: &Attend) -> usize {
        step.kv_heads as usize * ((step.heads / step.kv_heads) as usize).div_ceil(MAX_HEADS)
    }

    /// Share `i` of a step.
    pub fn of(step: &Attend, i: usize) -> Self {
        let group = (step.heads / step.kv_heads) as usize;
        let per_head = group.div_ceil(MAX_HEADS);
        let (kv_head, part) = (i / per_head, i % per_head);
        let first = kv_head * group;
        Self { kv_head, heads: first + group * part / per_head..first + group * (part + 1) / per_head }
    }

    /// Query heads of the largest share.
    fn max_len(step: &Attend) -> usize {
        let group = (step.heads / step.kv_heads) as usize;
        group.div_ceil(group.div_ceil(MAX_HEADS))
    }
}

/// One thread's share: rows at ascending positions of one sequence, query heads with one head of keys and values.
pub(super) struct AttendWork<'a> {
    pub set: &'a KernelSet,
    pub step: &'a Attend,
    pub cache: &'a CacheRows,
    pub slots: &'a RowSlots,
    pub share: Share,
    /// Position of each row.
    pub pos: &'a [u32],
    /// The step's sinks.
    pub sinks: Option<&'a [f32]>,
}

/// Positions that rows at these ascending positions see together, in a sequence that holds `len`.
fn seen(step: &Attend, pos: &[u32], len: u32) -> Range<u32> {
    match (pos.first(), pos.last()) {
        (Some(&first), Some(&last)) => step.span.visible(first, len).start..step.span.visible(last, len).end,
        _ => 0..0,
    }
}

/// Parts that rows at these positions see.
pub(super) fn parts(step: &Attend, pos: &[u32], len: u32) -> Range<u32> {
    let seen = seen(step, pos, len);
    seen.start / PART..seen.end.div_ceil(PART)
}

impl AttendWork<'_> {
    /// Query heads at hand.
    fn group(&self) -> usize {
        self.share.heads.len()
    }

    fn dk(&self) -> usize {
        self.cache.k.width() / self.step.kv_heads as usize
    }

    fn dv(&self) -> usize {
        (self.step.out.len() / self.step.heads) as usize
    }

    fn n_query(&self) -> usize {
        self.pos.len() * self.group()
    }

    /// Numbers that [`AttendWork::run_part`] leaves.
    pub fn part_len(n_row: usize, step: &Attend) -> usize {
        n_row * Share::max_len(step) * (step.out.len() / step.heads + 2) as usize
    }

    /// All parts. `query(row, head)` gives the query of a row, `result(row, head, values)` takes its result.
    pub fn run<'q>(
        &self,
        scratch: &mut AttendScratch,
        query: impl Fn(usize, usize) -> &'q [f32],
        result: impl FnMut(usize, usize, &[f32]),
    ) {
        let dv = self.dv();
        self.read_queries(scratch, query);
        scratch.total.clear(self.n_query(), dv);
        for part in parts(self.step, self.pos, self.slots.end()) {
            self.attend(scratch, part);
            scratch.total.merge(&scratch.part.max_sum, &scratch.part.acc, dv);
        }
        self.finish(scratch, result);
    }

    /// One part; `out` takes what [`AttendWork::merge_parts`] reads.
    pub fn run_part<'q>(
        &self,
        scratch: &mut AttendScratch,
        part: u32,
        query: impl Fn(usize, usize) -> &'q [f32],
        out: &mut [f32],
    ) {
        self.read_queries(scratch, query);
        self.attend(scratch, part);
        let (acc, max_sum) = out.split_at_mut(scratch.part.acc.len());
        acc.copy_from_slice(&scratch.part.acc);
        for (to, &(max, sum)) in max_sum.as_chunks_mut::<2>().0.iter_mut().zip(&scratch.part.max_sum) {
            *to = [max, sum];
        }
    }

    /// Combines parts, in their order.
    pub fn merge_parts<'p>(
        &self,
        scratch: &mut AttendScratch,
        parts: impl Iterator<Item = &'p [f32]>,
        result: impl FnMut(usize, usize, &[f32]),
    ) {
        let dv = self.dv();
        scratch.total.clear(self.n_query(), dv);
        for part in parts {
            let (acc, max_sum) = part.split_at(self.n_query() * dv);
            scratch.part.max_sum.clear();
            scratch.part.max_sum.extend(max_sum.as_chunks::<2>().0.iter().map(|p| (p[0], p[1])));
            scratch.total.merge(&scratch.part.max_sum, acc, dv);
        }
        self.finish(scratch, result);
    }

    /// Rows that see the chosen positions alone, which `chosen(row)` lists, ascending, then -1.
    pub fn run_chosen<'q>(
        &self,
        scratch: &mut AttendScratch,
        chosen: impl Fn(usize) -> &'q [f32],
        query: impl Fn(usize, usize) -> &'q [f32],
        mut result: impl FnMut(usize, usize, &[f32]),
    ) {
        let dv = self.dv();
        for row in 0..self.pos.len() {
            let one = Self { pos: &self.pos[row..=row], share: self.share.clone(), ..*self };
            one.read_queries(scratch, |_, head| query(row, head));
            scratch.part.clear(one.n_query(), dv);
            scratch.scores.resize(one.n_query() * CHUNK, 0.0);
            let positions = chosen(row);
            let n = positions.iter().take_while(|p| **p >= 0.0).count();
            for positions in positions[..n].chunks(CHUNK) {
                one.gather(scratch, positions);
                let AttendScratch { q, k, scores, part, v, .. } = scratch;
                let n_group = positions.len().div_ceil(KEY_GROUP);
                self.set.scores(q, self.dk(), k, self.dk() * KEY_GROUP, n_group, scores);
                for (i, scores) in scores.chunks_exact_mut(CHUNK).enumerate() {
                    one.add_scores(&mut scores[..positions.len()], i, part);
                }
                self.set.add_values(scores, v, dv, positions.len(), dv, &mut part.acc);
            }
            scratch.total.clear(one.n_query(), dv);
            scratch.total.merge(&scratch.part.max_sum, &scratch.part.acc, dv);
            one.finish(scratch, |_, head, values| result(row, head, values));
        }
    }

    /// Keys at some positions by dimension, and their values by rows: beginnings of the keys, or the cache's own.
    fn gather(&self, scratch: &mut AttendScratch, positions: &[f32]) {
        let (dk, dv) = (self.dk(), self.dv());
        let AttendScratch { k, v, .. } = scratch;
        k.resize(k.len().max(CHUNK * dk), 0.0);
        v.resize(v.len().max(CHUNK * dv), 0.0);
        let row = &mut vec![0.0; dk];
        for (j, pos) in positions.iter().enumerate() {
            let slot = self.slots.slot(*pos as u32);
            self.cache.k.get(slot, self.share.kv_head, row);
            let group = &mut k[j / KEY_GROUP * dk * KEY_GROUP..];
            row.iter().enumerate().for_each(|(d, x)| group[d * KEY_GROUP + j % KEY_GROUP] = *x);
            let values = &mut v[j * dv..(j + 1) * dv];
            match self.step.v_prefix {
                Some(_) => values.copy_from_slice(&row[..dv]),
                None => self.cache.v.get(slot, self.share.kv_head, values),
            }
        }
    }

    fn read_queries<'q>(&self, scratch: &mut AttendScratch, query: impl Fn(usize, usize) -> &'q [f32]) {
        scratch.q.clear();
        for (row, &pos) in self.pos.iter().enumerate() {
            let scale = self.scale(pos);
            for head in self.share.heads.clone() {
                scratch.q.extend(query(row, head).iter().map(|x| x * scale));
            }
        }
    }

    fn finish(&self, scratch: &mut AttendScratch, mut result: impl FnMut(usize, usize, &[f32])) {
        let (group, State { max_sum, acc }) = (self.group(), &mut scratch.total);
        for (i, acc) in acc.chunks_exact_mut(self.dv()).enumerate() {
            let (head, (max, sum)) = (self.share.heads.start + i % group, max_sum[i]);
            let factor = match self.sinks.map(|sinks| sinks[head]) {
                Some(sink) => {
                    let top = max.max(sink);
                    (max - top).exp() / (sum * (max - top).exp() + (sink - top).exp())
                }
                None => 1.0 / sum,
            };
            self.set.scale_f32(factor, acc);
            result(i / group, head, acc);
        }
    }

    /// The keys of one part, into `scratch.part`.
    fn attend(&self, scratch: &mut AttendScratch, part: u32) {
        let (n_query, step) = (self.n_query(), self.step);
        scratch.part.clear(n_query, self.dv());
        scratch.scores.resize(n_query * CHUNK, 0.0);
        let seen = seen(step, self.pos, self.slots.end());
        let (first, end) = (seen.start.max(part * PART), seen.end.min((part + 1) * PART));
        let chunk = CHUNK as u32;
        for base in (first / chunk * chunk..end).step_by(CHUNK) {
            let seen = base.max(first)..(base + chunk).min(end);
            if base + chunk < end {
                self.prefetch(base + chunk);
            }
            self.scores(scratch, base, &seen);
            self.softmax(scratch, base, &seen);
            self.add_values(scratch, base, &seen);
        }
    }

    /// Scores of all queries with the keys from `base` on; at least those of `seen`.
    fn scores(&self, scratch: &mut AttendScratch, base: u32, seen: &Range<u32>) {
        let AttendScratch { q, k, scores, .. } = scratch;
        let (dk, slot) = (self.dk(), self.slots.slot(base));
        let n_group = ((seen.end - base) as usize).div_ceil(KEY_GROUP);
        match self.cache.k.numbers() {
            Numbers::F32(keys) => self.scores_of(q, keys, slot, n_group, scores),
            Numbers::F16(keys) => self.scores_of(q, keys, slot, n_group, scores),
            Numbers::Blocks(keys) => {
                k.resize(CHUNK * dk, 0.0);
                let row = &mut scratch.v;
                row.resize(row.len().max(dk), 0.0);
                for j in 0..(seen.end - base) as usize {
                    keys.get(slot + j, self.share.kv_head * dk, &mut row[..dk]);
                    let group = &mut k[j / KEY_GROUP * dk * KEY_GROUP..];
                    row[..dk].iter().enumerate().for_each(|(d, x)| group[d * KEY_GROUP + j % KEY_GROUP] = *x);
                }
                self.set.scores(q, dk, k, dk * KEY_GROUP, n_group, scores);
            }
        }
    }

    fn scores_of<T: CacheNumber>(&self, q: &[f32], keys: &[T], slot: usize, n_group: usize, scores: &mut [f32]) {
        let (dk, start) = (self.dk(), self.cache.k.start(slot, self.share.kv_head));
        self.set.scores(q, dk, &keys[start..], dk * KEY_GROUP, n_group, scores);
    }

    /// Brings the keys and values of a chunk that comes next nearer.
    fn prefetch(&self, base: u32) {
        let slot = self.slots.slot(base);
        let values = (&self.cache.v, self.cache.v.width() / self.step.kv_heads as usize);
        for (store, width) in [(&self.cache.k, self.dk()), values] {
            let start = store.start(slot, self.share.kv_head);
            let range = start..start + CHUNK * width;
            match store.numbers() {
                Numbers::F32(x) => x.get(range).into_iter().for_each(|x| self.set.prefetch(bytemuck::cast_slice(x))),
                Numbers::F16(x) => x.get(range).into_iter().for_each(|x| self.set.prefetch(bytemuck::cast_slice(x))),
                Numbers::Blocks(_) => {}
            }
        }
    }

    /// Turns scores into probabilities relative to each query's greatest score so far; 0 for what a row does not see.
    fn softmax(&self, scratch: &mut AttendScratch, base: u32, seen: &Range<u32>) {
        let (group, span, len) = (self.group(), self.step.span, self.slots.end());
        let (all_from, all_to) = ((seen.start - base) as usize, (seen.end - base) as usize);
        for (i, scores) in scratch.scores.chunks_exact_mut(CHUNK).enumerate() {
            let pos = self.pos[i / group];
            let visible = span.visible(pos, len);
            let from = (seen.start.max(visible.start) - base) as usize;
            let to = seen.end.min(visible.end).saturating_sub(base) as usize;
            if from >= to {
                scores[all_from..all_to].fill(0.0);
                continue;
            }
            scores[all_from..from].fill(0.0);
            scores[to..all_to].fill(0.0);
            let scores = &mut scores[from..to];
            if let Some(cap) = self.step.softcap {
                softcap(scores, cap);
            }
            if let Some(alibi) = self.step.alibi {
                let slope = alibi.slope((self.share.heads.start + i % group) as u32, self.step.heads);
                let nearest = pos - base - from as u32;
                scores.iter_mut().zip((0..=nearest).rev()).for_each(|(s, distance)| *s -= slope * distance as f32);
            }
            self.add_scores(scores, i, &mut scratch.part);
        }
    }

    /// Takes further scores of query `i` into its state, and makes them probabilities relative to its greatest.
    fn add_scores(&self, scores: &mut [f32], i: usize, part: &mut State) {
        let (max, sum) = &mut part.max_sum[i];
        let new_max = max.max(self.set.max_f32(scores));
        if new_max > *max {
            let shrink = (*max - new_max).exp();
            *sum *= shrink;
            let dv = self.dv();
            self.set.scale_f32(shrink, &mut part.acc[i * dv..][..dv]);
            *max = new_max;
        }
        *sum += self.set.exp_sum(scores, new_max);
    }

    fn add_values(&self, scratch: &mut AttendScratch, base: u32, seen: &Range<u32>) {
        let AttendScratch { k, v, scores, part, .. } = scratch;
        let (dv, slot) = (self.dv(), self.slots.slot(base));
        let (from, n) = ((seen.start - base) as usize, (seen.end - seen.start) as usize);
        let (p, acc) = (&scores[from..], &mut part.acc);
        if self.step.v_prefix.is_some() {
            self.values_of_keys(slot, from..from + n, k, v);
            return self.set.add_values(p, v, dv, n, dv, acc);
        }
        let start = self.cache.v.start(slot, self.share.kv_head) + from * dv;
        match self.cache.v.numbers() {
            Numbers::F32(values) => self.set.add_values(p, &values[start..], dv, n, dv, acc),
            Numbers::F16(values) => self.set.add_values(p, &values[start..], dv, n, dv, acc),
            Numbers::Blocks(values) => {
                v.resize(v.len().max(CHUNK * dv), 0.0);
                for (j, row) in v.chunks_exact_mut(dv).take(n).enumerate() {
                    values.get(slot + from + j, self.share.kv_head * dv, row);
                }
                self.set.add_values(p, v, dv, n, dv, acc);
            }
        }
    }

    /// Values that are the beginnings of keys, of some rows of the block of `slot`, by rows; `k` is room.
    fn values_of_keys(&self, slot: usize, rows: Range<usize>, k: &mut Vec<f32>, v: &mut Vec<f32>) {
        let (dk, dv) = (self.dk(), self.dv());
        v.resize(v.len().max(CHUNK * dv), 0.0);
        if let Numbers::Blocks(keys) = self.cache.k.numbers() {
            k.resize(k.len().max(dk), 0.0);
            for (row, v) in rows.zip(v.chunks_exact_mut(dv)) {
                keys.get(slot + row, self.share.kv_head * dk, &mut k[..dk]);
                v.copy_from_slice(&k[..dv]);
            }
            return;
        }
        let start = self.cache.k.start(slot, self.share.kv_head);
        k.resize(k.len().max(dv * KEY_GROUP), 0.0);
        for group in rows.start / KEY_GROUP..rows.end.div_ceil(KEY_GROUP) {
            let columns = start + group * dk * KEY_GROUP..start + (group * dk + dv) * KEY_GROUP;
            let columns = match self.cache.k.numbers() {
                Numbers::F32(keys) => &keys[columns],
                Numbers::F16(keys) => {
                    keys[columns].convert_to_f32_slice(&mut k[..dv * KEY_GROUP]);
                    &k[..dv * KEY_GROUP]
                }
                Numbers::Blocks(_) => unreachable!("treated above"),
            };
            let within = (group * KEY_GROUP).max(rows.start)..((group + 1) * KEY_GROUP).min(rows.end);
            for row in within {
                let to = &mut v[(row - rows.start) * dv..][..dv];
                let numbers = columns.iter().skip(row % KEY_GROUP).step_by(KEY_GROUP);
                to.iter_mut().zip(numbers).for_each(|(to, x)| *to = *x);
            }
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

/// The scores of positions by which [`choose`] goes.
pub(super) struct SelectWork<'a> {
    pub set: &'a KernelSet,
    pub scale: f32,
    pub cache: &'a CacheRows,
    pub slots: &'a RowSlots,
}

impl SelectWork<'_> {
    /// Scores of the positions from `first` on, a multiple of [`PART`], of a row with these query heads, of which each
    /// counts `weights`.
    pub fn scores<'q>(
        &self,
        scratch: &mut AttendScratch,
        heads: impl Iterator<Item = &'q [f32]>,
        weights: &[f32],
        first: u32,
        out: &mut [f32],
    ) {
        let AttendScratch { q, k, scores, .. } = scratch;
        q.clear();
        heads.for_each(|head| q.extend_from_slice(head));
        let (n_head, dk) = (weights.len(), self.cache.k.width());
        scores.resize(n_head * CHUNK, 0.0);
        k.resize(k.len().max(CHUNK * dk), 0.0);
        let mut row = vec![0.0; dk];
        for (base, out) in (first..).step_by(CHUNK).zip(out.chunks_mut(CHUNK)) {
            let n_group = out.len().div_ceil(KEY_GROUP);
            let slot = self.slots.slot(base);
            let start = self.cache.k.start(slot, 0);
            match self.cache.k.numbers() {
                Numbers::F32(keys) => self.set.scores(q, dk, &keys[start..], dk * KEY_GROUP, n_group, scores),
                Numbers::F16(keys) => self.set.scores(q, dk, &keys[start..], dk * KEY_GROUP, n_group, scores),
                Numbers::Blocks(_) => {
                    for j in 0..out.len() {
                        self.cache.k.get(slot + j, 0, &mut row);
                        let group = &mut k[j / KEY_GROUP * dk * KEY_GROUP..];
                        row.iter().enumerate().for_each(|(d, x)| group[d * KEY_GROUP + j % KEY_GROUP] = *x);
                    }
                    self.set.scores(q, dk, k, dk * KEY_GROUP, n_group, scores);
                }
            }
            out.fill(0.0);
            for (scores, weight) in scores.chunks_exact(CHUNK).zip(weights) {
                let factor = weight * self.scale;
                out.iter_mut().zip(scores).for_each(|(out, score)| *out += factor * score.max(0.0));
            }
        }
    }
}

/// Fills `out` with the positions of the greatest scores, ascending, then with -1. Ties go to the lowest.
pub(super) fn choose(scores: &[f32], out: &mut [f32]) {
    let mut best: Vec<u32> = (0..scores.len() as u32).collect();
    if best.len() > out.len() {
        let falling = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
        best.select_nth_unstable_by(out.len(), falling);
        best.truncate(out.len());
        best.sort_unstable();
    }
    out.fill(-1.0);
    out.iter_mut().zip(best).for_each(|(out, position)| *out = position as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_positions_are_chosen_in_their_order() {
        let mut out = [0.0; 3];
        choose(&[1.0, 5.0, 2.0, 5.0, 2.0, 0.0], &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0], "position 2 comes before its equal");
        choose(&[3.0, 4.0], &mut out);
        assert_eq!(out, [0.0, 1.0, -1.0]);
    }
}
