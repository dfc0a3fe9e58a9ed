//! One pass over the phases, as every thread of the team walks it.

use super::batch::{Batch, Tile};
use super::phases::{Phase, Prepare, PrepareHow};
use super::{ATTEND_ROWS, CpuBackend, PHASE_ROWS, SELECT_ROWS, Scratch};
use crate::cpu::attention::{self, AttendScratch, AttendWork, PART, SelectWork, Share};
use crate::cpu::linear::{self, Cut, LinearScratch, RowGroup, RowsWork, StackCut};
use crate::cpu::pool::{MAX_CHUNKS, Worker};
use crate::cpu::rows::{RowContext, RowList, softcap};
use crate::plan::{Attend, Operand, Part, PoolKind, Select, Step};
use std::sync::PoisonError;

/// Rows that attend together in one step.
struct TileAt<'p> {
    pass: &'p Pass<'p>,
    tile: &'p Tile,
    step: &'p Attend,
}

impl<'p> TileAt<'p> {
    fn pos(&self) -> &'p [u32] {
        &self.pass.batch.order_pos[self.tile.rows.clone()]
    }

    fn work(&self, share: usize) -> AttendWork<'p> {
        let (pass, step) = (self.pass, self.step);
        let sequence = pass.rows.sequences[self.tile.seq];
        let cache = &sequence.caches[step.cache.index()];
        let slots = sequence.positions.slots(step.cache.index());
        let sinks = step.sinks.map(|id| pass.rows.vectors[id.index()].as_slice());
        let share = Share::of(step, share);
        AttendWork { set: pass.rows.set, step, cache, slots, share, pos: self.pos(), sinks }
    }

    fn row(&self, row: usize) -> usize {
        self.pass.batch.order.order[self.tile.rows.start + row] as usize
    }

    fn query(&self, row: usize, head: usize) -> &'p [f32] {
        let q = self.step.q;
        let start = q.start + head as u32 * q.stride;
        self.pass.rows.read(self.row(row), Operand { start, heads: 1, stride: 0, ..q })
    }

    fn put(&self, row: usize, head: usize, values: &[f32]) {
        let out = self.step.out;
        let width = out.len() / self.step.heads;
        let o = Operand { start: out.start + head as u32 * width, width, heads: 1, stride: 0, ..out };
        self.pass.rows.write(self.row(row), o).copy_from_slice(values);
    }
}

/// One pass over the phases; shared by all threads.
pub(super) struct Pass<'a> {
    pub backend: &'a CpuBackend,
    pub batch: &'a Batch,
    pub phases: &'a [Phase],
    pub rows: RowContext<'a>,
}

impl Pass<'_> {
    pub fn walk(&self, worker: &mut Worker<'_>) {
        let mut guard = self.backend.scratch[worker.index].lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = &self.batch.all;
        let steps = self.rows.plan.steps();
        for (i, phase) in self.phases.iter().enumerate() {
            let scratch = &mut *guard;
            let go_on = match phase {
                Phase::Rows { steps: range, prepare } => {
                    self.row_phase(worker, list, &steps[range.clone()], *prepare, i == 0, scratch)
                }
                Phase::Linear { step, cap, few } => {
                    self.sum_inputs(worker, list.len(), *step)
                        && self.linear(worker, list.len(), &steps[*step], (*cap, few), &mut scratch.linear)
                }
                Phase::Heads(step, few) => match &steps[*step] {
                    Step::Linear { x, parts, .. } => {
                        self.sum_inputs(worker, list.len(), *step)
                            && self.heads(worker, list.len(), (*x, parts), few, &mut scratch.linear)
                    }
                    _ => unreachable!("the phase was made from a Linear"),
                },
                Phase::Attend(step) => match &steps[*step] {
                    Step::Attend(a) => self.attend(worker, a, &mut scratch.attend),
                    _ => unreachable!("the phase was made from an Attend"),
                },
                Phase::Select(step) => match &steps[*step] {
                    Step::Select(s) => self.select(worker, s, &mut scratch.attend),
                    _ => unreachable!("the phase was made from a Select"),
                },
                Phase::Take(step) => {
                    list = &self.batch.wanted;
                    worker.step(1, |_| self.take(&steps[*step]))
                }
                Phase::Pool(step) => worker.step(1, |_| self.pool(&steps[*step])),
                Phase::State(step) => self.change_states(worker, &steps[*step], &mut scratch.state),
                Phase::Experts(step, phase) => match &steps[*step] {
                    Step::Experts(e) => self.experts(worker, list.len(), (*step, e), phase, &mut scratch.linear),
                    _ => unreachable!("the phase was made from Experts"),
                },
            };
            if !go_on {
                return;
            }
            if list.len() == 0 {
                return; // nothing is wanted: the caches are filled, the rest is of no use
            }
        }
    }

    fn row_phase(
        &self,
        worker: &mut Worker<'_>,
        list: &RowList,
        steps: &[Step],
        prepare: Option<Prepare>,
        first: bool,
        scratch: &mut Scratch,
    ) -> bool {
        let n = list.len();
        let per_chunk = PHASE_ROWS.max(n.div_ceil(MAX_CHUNKS));
        let work = |chunk: usize| {
            for row in chunk * per_chunk..((chunk + 1) * per_chunk).min(n) {
                if first {
                    self.rows.rotate_tables(row, list.pos[row]);
                }
                steps.iter().for_each(|step| self.rows.run(step, list, row, &mut scratch.rows));
                if let Some(prepare) = prepare {
                    self.prepare(prepare, row, n);
                }
            }
        };
        worker.step(n.div_ceil(per_chunk), work)
    }

    /// Quantizes a row's input of the step behind.
    fn prepare(&self, Prepare { x, kinds, how }: Prepare, row: usize, n_row: usize) {
        let put = |x, group| {
            kinds.put(&self.backend.activations, self.rows.set, row, group, self.rows.read(row, x));
        };
        match how {
            PrepareHow::Whole => put(x, RowGroup::all(n_row)),
            PrepareHow::OnlyOne if n_row == 1 => put(x, RowGroup::all(1)),
            PrepareHow::OnlyOne => {}
            PrepareHow::Heads => {
                (0..x.heads).for_each(|h| {
                    put(RowContext::head(x, h), RowGroup { first: h as usize * n_row, n_row });
                });
            }
        }
    }

    /// A linear step whose heads have matrices of their own.
    fn heads(
        &self,
        worker: &mut Worker<'_>,
        n_row: usize,
        (x, parts): (Operand, &[Part]),
        few: &StackCut,
        scratch: &mut LinearScratch,
    ) -> bool {
        let weight = |part: &Part| &self.rows.plan.weights()[part.weight.index()];
        let many;
        let cut = match linear::is_few(n_row) {
            true => few,
            false => {
                many = StackCut::new(parts.iter().map(weight), x.heads as usize, n_row);
                &many
            }
        };
        worker.step(cut.n_chunk, |chunk| {
            let (head, part, range) = cut.chunk(chunk);
            let (part, weight) = (&parts[part], weight(&parts[part]));
            let first = head * weight.out_len();
            let bytes = self.rows.weights.bytes(part.weight);
            let out = RowContext::head(part.out, head as u32).columns(range.start as u32, range.len() as u32);
            let task = RowsWork {
                set: self.rows.set,
                exact: self.backend.exact,
                weight,
                bytes: &bytes[(first + range.start) * weight.row_bytes()..(first + range.end) * weight.row_bytes()],
                activations: &self.backend.activations,
                group: RowGroup { first: head * n_row, n_row },
            };
            let x = RowContext::head(x, head as u32);
            task.run(scratch, |row| self.rows.read(row, x), |row| self.rows.write(row, out));
            if part.scale != 1.0 {
                (0..n_row).for_each(|row| self.rows.set.scale_f32(part.scale, self.rows.write(row, out)));
            }
        })
    }

    fn linear(
        &self,
        worker: &mut Worker<'_>,
        n_row: usize,
        step: &Step,
        (cap, few): (Option<f32>, &Cut),
        scratch: &mut LinearScratch,
    ) -> bool {
        let Step::Linear { x, parts, clamp } = step else { unreachable!("the phase was made from a Linear") };
        let plan = self.rows.plan;
        let many;
        let cut = if linear::is_few(n_row) {
            few
        } else {
            many = Cut::new(plan, parts, n_row);
            &many
        };
        let work = |chunk: usize| {
            let (part, range) = cut.chunk(plan, parts, chunk);
            let part = &parts[part];
            let weight = &plan.weights()[part.weight.index()];
            let bytes =
                &self.rows.weights.bytes(part.weight)[range.start * weight.row_bytes()..range.end * weight.row_bytes()];
            let columns = part.out.columns(range.start as u32, range.len() as u32);
            let out = |row: usize| self.rows.write(row, columns);
            let task = RowsWork {
                set: self.rows.set,
                exact: self.backend.exact,
                weight,
                bytes,
                activations: &self.backend.activations,
                group: RowGroup::all(n_row),
            };
            task.run(scratch, |row| self.rows.read(row, *x), out);
            let bias = part.bias.map(|b| &self.rows.vectors[b.index()][range.clone()]);
            if part.scale == 1.0 && bias.is_none() && clamp.is_none() && cap.is_none() {
                return;
            }
            for row in 0..n_row {
                let out = self.rows.write(row, columns);
                if part.scale != 1.0 {
                    self.rows.set.scale_f32(part.scale, out);
                }
                if let Some(bias) = bias {
                    self.rows.set.axpy_f32(1.0, bias, out);
                }
                if let Some(c) = clamp {
                    out.iter_mut().for_each(|x| *x = x.clamp(-c, *c));
                }
                if let Some(cap) = cap {
                    softcap(out, cap);
                }
            }
        };
        worker.step(cut.n_chunk, work)
    }

    fn attend(&self, worker: &mut Worker<'_>, step: &Attend, scratch: &mut AttendScratch) -> bool {
        let n_share = Share::count(step);
        let n_tile = self.batch.tiles.len();
        let tile_at = |i: usize| TileAt { pass: self, tile: &self.batch.tiles[i], step };
        if let Some(select) = step.select {
            let chosen = |tile: &TileAt<'_>, row: usize| self.rows.read(tile.row(row), select);
            return worker.step(n_tile * n_share, |task| {
                let tile = tile_at(task / n_share);
                let work = tile.work(task % n_share);
                let query = |row, h| tile.query(row, h);
                work.run_chosen(scratch, |row| chosen(&tile, row), query, |row, h, x| tile.put(row, h, x));
            });
        }
        let n_part = self.batch.n_part(step);
        if n_part <= 1 {
            let tiles_per_chunk = n_tile.div_ceil(MAX_CHUNKS / n_share);
            let work = |chunk: usize| {
                let (group, share) = (chunk / n_share, chunk % n_share);
                for i in group * tiles_per_chunk..((group + 1) * tiles_per_chunk).min(n_tile) {
                    let tile = tile_at(i);
                    tile.work(share).run(scratch, |row, h| tile.query(row, h), |row, h, x| tile.put(row, h, x));
                }
            };
            return worker.step(n_tile.div_ceil(tiles_per_chunk) * n_share, work);
        }
        // Few rows and many keys: each part of the keys is a chunk of its own.
        let len = AttendWork::part_len(ATTEND_ROWS, step);
        let place = |task: usize, n: usize| task * len..task * len + n;
        let work = |chunk: usize| {
            let (task, part) = (chunk / n_part, chunk % n_part);
            let tile = tile_at(task / n_share);
            let n = AttendWork::part_len(tile.tile.rows.len(), step);
            let parts = attention::parts(step, tile.pos(), tile.tile.len);
            if let Some(part) = parts.clone().nth(part) {
                let out = self.backend.parts.write(place(chunk, n));
                tile.work(task % n_share).run_part(scratch, part, |row, h| tile.query(row, h), out);
            }
        };
        if !worker.step(n_tile * n_share * n_part, work) {
            return false;
        }
        worker.step(n_tile * n_share, |task| {
            let tile = tile_at(task / n_share);
            let n = AttendWork::part_len(tile.tile.rows.len(), step);
            let parts = attention::parts(step, tile.pos(), tile.tile.len);
            let parts = (0..parts.len()).map(|i| self.backend.parts.read(place(task * n_part + i, n)));
            tile.work(task % n_share).merge_parts(scratch, parts, |row, h, x| tile.put(row, h, x));
        })
    }

    /// The choice of positions, for some rows at a time.
    fn select(&self, worker: &mut Worker<'_>, step: &Select, scratch: &mut AttendScratch) -> bool {
        let (order, tiles) = (&self.batch.order.order, &self.batch.tiles);
        let n_row = order.len();
        let seq_of = |i: usize| tiles[tiles.partition_point(|t| t.rows.end <= i)].seq;
        let len = self.batch.order_pos.iter().max().map_or(0, |pos| *pos as usize + 1);
        let n_part = len.div_ceil(PART as usize);
        for first in (0..n_row).step_by(SELECT_ROWS) {
            let rows = first..(first + SELECT_ROWS).min(n_row);
            let scores = |i: usize| (i - first) * len..(i - first) * len + self.batch.order_pos[i] as usize + 1;
            let score = |chunk: usize| {
                let (i, part) = (first + chunk / n_part, chunk % n_part);
                let (range, row) = (scores(i), order[i] as usize);
                let begin = (part * PART as usize).min(range.len());
                let end = ((part + 1) * PART as usize).min(range.len());
                let sequence = self.rows.sequences[seq_of(i)];
                let work = SelectWork {
                    set: self.rows.set,
                    scale: step.scale,
                    cache: &sequence.caches[step.cache.index()],
                    slots: sequence.positions.slots(step.cache.index()),
                };
                let heads = (0..step.q.heads).map(|h| self.rows.read(row, RowContext::head(step.q, h)));
                let out = self.backend.parts.write(range.start + begin..range.start + end);
                work.scores(scratch, heads, self.rows.read(row, step.w), begin as u32, out);
            };
            if !worker.step(rows.len() * n_part, score) {
                return false;
            }
            let choose = |chunk: usize| {
                let i = first + chunk;
                attention::choose(self.backend.parts.read(scores(i)), self.rows.write(order[i] as usize, step.out));
            };
            if !worker.step(rows.len(), choose) {
                return false;
            }
        }
        true
    }

    fn take(&self, step: &Step) {
        let Step::Take { keep } = step else { unreachable!("the phase was made from a Take") };
        for buf in keep {
            let width = self.rows.plan.buffers()[buf.index()].width as usize;
            let all = self.rows.buffers[buf.index()].write(0..self.batch.all.len() * width);
            for (to, &from) in self.batch.want.iter().enumerate() {
                all.copy_within(from as usize * width..(from as usize + 1) * width, to * width);
            }
        }
    }

    fn pool(&self, step: &Step) {
        let Step::Pool { x, out, kind } = step else { unreachable!("the phase was made from a Pool") };
        for seq in 0..self.rows.sequences.len() {
            let rows: Vec<usize> =
                (0..self.batch.all.len()).filter(|&r| self.batch.all.seq[r] as usize == seq).collect();
            let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { continue };
            let to = self.rows.write(first, *out);
            match kind {
                PoolKind::First => to.copy_from_slice(self.rows.read(first, *x)),
                PoolKind::Last => to.copy_from_slice(self.rows.read(last, *x)),
                PoolKind::Mean => {
                    to.fill(0.0);
                    rows.iter().for_each(|&r| self.rows.set.axpy_f32(1.0, self.rows.read(r, *x), to));
                    self.rows.set.scale_f32(1.0 / rows.len() as f32, to);
                }
            }
        }
    }
}
