//! The chosen experts of a batch.
//!
//! A pair is a row and one of its experts. Pairs are sorted by expert, so that each expert is a matrix over rows that
//! lie side by side; results go back to the order of rows, where they are summed in the order of the choice. With one
//! row nothing is sorted: every pair is an expert of its own. How many chunks a step has depends on shapes alone; an
//! expert that nobody chose is a chunk without work.

use super::{PHASE_ROWS, Pass, sums};
use crate::cpu::act;
use crate::cpu::kernels::KernelSet;
use crate::cpu::linear::{Activations, Kinds, LinearScratch, RowGroup, RowsWork, StackCut};
use crate::cpu::pool::{MAX_CHUNKS, Shared, Worker};
use crate::error::Result;
use crate::plan::{ExpertPart, Experts, Plan};

/// What experts leave between their steps, for the widest of them.
pub(super) struct ExpertBuffers {
    /// Pairs by expert: [`PairTable`].
    table: Shared<u32>,
    /// Inputs times their weights, where a step wants them so, [pairs, in].
    inputs: Shared<f32>,
    /// What goes through the activation, [pairs, ff], in the order of the table.
    gates: Shared<f32>,
    /// The factor of it, [pairs, ff] or [pairs, 2 ff].
    ups: Shared<f32>,
    /// Results, [rows, chosen, out].
    pub results: Shared<f32>,
    activations: Activations,
}

/// Sizes of a step, in numbers.
#[derive(Clone, Copy)]
struct Shape {
    n_row: usize,
    /// Chosen experts of a row.
    n_used: usize,
    n_in: usize,
    n_ff: usize,
    n_out: usize,
    /// Numbers of a row of `ups`; the last `n_ff` are the factor.
    n_up: usize,
    n_expert: usize,
}

impl Shape {
    fn of(plan: &Plan, step: &Experts, n_row: usize) -> Self {
        let down = &plan.weights()[step.down.weight.index()];
        Self {
            n_row,
            n_used: step.n_used() as usize,
            n_in: step.x.len() as usize,
            n_ff: down.row_len(),
            n_out: step.out.len() as usize,
            n_up: plan.weights()[step.up.weight.index()].out_len(),
            n_expert: down.n_matrix(),
        }
    }

    fn n_pair(self) -> usize {
        self.n_row * self.n_used
    }

    /// Experts that are chosen at most.
    fn n_group(self) -> usize {
        self.n_expert.min(self.n_pair())
    }
}

/// An expert and the pairs that chose it, which adjoin in the order of the table.
#[derive(Clone, Copy)]
struct Group {
    expert: usize,
    rows: RowGroup,
}

/// Pairs sorted by expert: the number of experts that are chosen; each with its first place; behind the last one the
/// number of pairs; the pair at each place.
struct PairTable<'a> {
    memory: &'a Shared<u32>,
    n_group: usize,
    n_pair: usize,
}

impl PairTable<'_> {
    fn len(shape: Shape) -> usize {
        1 + 2 * (shape.n_group() + 1) + shape.n_pair()
    }

    /// Sorts pairs by their experts; pairs of one expert keep their order.
    fn fill(&self, n_expert: usize, expert: impl Fn(usize) -> usize) {
        let mut counts = vec![0u32; n_expert];
        (0..self.n_pair).for_each(|pair| counts[expert(pair)] += 1);
        let (mut n_group, mut first) = (0, 0);
        for (expert, count) in counts.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            self.memory.set(1 + 2 * n_group, expert as u32);
            self.memory.set(2 + 2 * n_group, first);
            n_group += 1;
            let begin = first;
            first += *count;
            *count = begin;
        }
        self.memory.set(2 + 2 * n_group, first);
        self.memory.set(0, n_group as u32);
        let order = self.memory.write(self.order()..self.order() + self.n_pair);
        for pair in 0..self.n_pair {
            let next = &mut counts[expert(pair)];
            order[*next as usize] = pair as u32;
            *next += 1;
        }
    }

    fn order(&self) -> usize {
        1 + 2 * (self.n_group + 1)
    }

    fn at(&self, i: usize) -> usize {
        self.memory.read(i..i + 1)[0] as usize
    }

    fn pair(&self, place: usize) -> usize {
        self.at(self.order() + place)
    }

    fn group(&self, i: usize) -> Option<Group> {
        (i < self.at(0)).then(|| {
            let (first, end) = (self.at(2 + 2 * i), self.at(4 + 2 * i));
            Group { expert: self.at(1 + 2 * i), rows: RowGroup { first, n_row: end - first } }
        })
    }

    /// The group that a place belongs to.
    fn group_of(&self, place: usize) -> Option<Group> {
        let (mut low, mut high) = (0, self.at(0));
        while low < high {
            let middle = (low + high) / 2;
            match self.at(4 + 2 * middle) <= place {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        self.group(low)
    }
}

impl ExpertBuffers {
    pub const fn new() -> Self {
        Self {
            table: Shared::new(),
            inputs: Shared::new(),
            gates: Shared::new(),
            ups: Shared::new(),
            results: Shared::new(),
            activations: Activations::new(),
        }
    }

    /// Room for a step over `n_row` rows.
    pub fn grow(&mut self, plan: &Plan, step: &Experts, n_row: usize) -> Result<()> {
        let shape = Shape::of(plan, step, n_row);
        let n_pair = shape.n_pair();
        self.table.grow(PairTable::len(shape))?;
        if step.on_input {
            self.inputs.grow(n_pair * shape.n_in)?;
        }
        if step.gate.is_some() {
            self.gates.grow(n_pair * shape.n_ff)?;
        }
        self.ups.grow(n_pair * shape.n_up)?;
        self.results.grow(n_pair * shape.n_out)?;
        self.activations.grow(n_pair, shape.n_in.max(shape.n_ff))
    }
}

/// What is known of a step of experts before there is a batch.
pub(super) struct ExpertPhase {
    /// Activations that the first matrices read, and the last one.
    pub kinds: [Kinds; 2],
    /// Chunks of the two products of one row.
    one: [StackCut; 2],
}

impl ExpertPhase {
    pub fn new(plan: &Plan, step: &Experts, set: &KernelSet, exact: bool) -> Self {
        let input = step.inputs().map(|p| p.weight);
        let kinds = [Kinds::of(plan, input, set, exact), Kinds::of(plan, [step.down.weight].into_iter(), set, exact)];
        Self { kinds, one: cuts(plan, step, Shape::of(plan, step, 1)) }
    }
}

fn cuts(plan: &Plan, step: &Experts, shape: Shape) -> [StackCut; 2] {
    let weight = |p: &ExpertPart| &plan.weights()[p.weight.index()];
    let cut = |parts: Vec<&ExpertPart>| StackCut::new(parts.into_iter().map(weight), shape.n_group(), shape.n_row);
    [cut(step.inputs().collect()), cut(vec![&step.down])]
}

/// One step of experts over a batch.
struct ExpertPass<'a> {
    pass: &'a Pass<'a>,
    step: &'a Experts,
    shape: Shape,
    kinds: [Kinds; 2],
    table: PairTable<'a>,
    buffers: &'a ExpertBuffers,
}

impl Pass<'_> {
    /// Everything but the sum of the results. With one row, what the first matrices read is quantized already.
    pub(super) fn experts(
        &self,
        worker: &mut Worker<'_>,
        n_row: usize,
        (index, step): (usize, &Experts),
        phase: &ExpertPhase,
        scratch: &mut LinearScratch,
    ) -> bool {
        let shape = Shape::of(self.rows.plan, step, n_row);
        let buffers = &self.backend.experts;
        let table = PairTable { memory: &buffers.table, n_group: shape.n_group(), n_pair: shape.n_pair() };
        let pass = ExpertPass { pass: self, step, shape, kinds: phase.kinds, table, buffers };
        let many;
        let [first, last] = match n_row {
            1 => &phase.one,
            _ => {
                many = cuts(self.rows.plan, step, shape);
                &many
            }
        };
        let n_pair = shape.n_pair();
        let per_chunk = if n_row == 1 { 1 } else { PHASE_ROWS.max(n_pair.div_ceil(MAX_CHUNKS)) };
        let places = |chunk: usize| chunk * per_chunk..((chunk + 1) * per_chunk).min(n_pair);
        (n_row == 1 || worker.step(1, |_| pass.sort()))
            && (!pass.gathers() || worker.step(n_pair.div_ceil(per_chunk), |c| places(c).for_each(|p| pass.gather(p))))
            && worker.step(first.n_chunk, |chunk| pass.input_product(first.chunk(chunk), scratch))
            && worker.step(n_pair.div_ceil(per_chunk), |c| places(c).for_each(|p| pass.activate(p, scratch)))
            && self
                .backend
                .input_squares
                .get(index)
                .is_none_or(|squares| worker.step(shape.n_group(), |i| pass.sum_inputs(squares, i)))
            && worker.step(last.n_chunk, |chunk| pass.down_product(last.chunk(chunk), scratch))
    }
}

impl ExpertPass<'_> {
    fn expert(&self, pair: usize) -> usize {
        let (row, i) = (pair / self.shape.n_used, pair % self.shape.n_used);
        self.pass.rows.read(row, self.step.idx)[i] as usize
    }

    fn sort(&self) {
        self.table.fill(self.shape.n_expert, |pair| self.expert(pair));
    }

    fn pair(&self, place: usize) -> usize {
        if self.shape.n_row == 1 { place } else { self.table.pair(place) }
    }

    fn one(&self, place: usize) -> Group {
        Group { expert: self.expert(place), rows: RowGroup { first: place, n_row: 1 } }
    }

    fn group(&self, i: usize) -> Option<Group> {
        if self.shape.n_row == 1 { Some(self.one(i)) } else { self.table.group(i) }
    }

    /// The group that a place belongs to.
    fn group_of(&self, place: usize) -> Group {
        match self.shape.n_row {
            1 => self.one(place),
            _ => self.table.group_of(place).expect("every place has a group"),
        }
    }

    /// Do inputs have to be brought together?
    fn gathers(&self) -> bool {
        self.step.on_input || self.shape.n_row > 1
    }

    fn input(&self, place: usize) -> &[f32] {
        match self.step.on_input {
            true => self.buffers.inputs.read(place * self.shape.n_in..(place + 1) * self.shape.n_in),
            false => self.pass.rows.read(self.pair(place) / self.shape.n_used, self.step.x),
        }
    }

    /// Brings the input of a pair to its expert.
    fn gather(&self, place: usize) {
        let (n_in, set) = (self.shape.n_in, self.pass.rows.set);
        if self.step.on_input {
            let (row, i) = (self.pair(place) / self.shape.n_used, self.pair(place) % self.shape.n_used);
            let to = self.buffers.inputs.write(place * n_in..(place + 1) * n_in);
            to.copy_from_slice(self.pass.rows.read(row, self.step.x));
            set.scale_f32(self.pass.rows.read(row, self.step.w)[i], to);
        }
        if self.kinds[0].any() {
            let group = self.group_of(place).rows;
            self.kinds[0].put(&self.buffers.activations, set, place - group.first, group, self.input(place));
        }
    }

    /// Rows of a matrix of one expert times its inputs.
    fn input_product(&self, (i, stack, rows): (usize, usize, std::ops::Range<usize>), scratch: &mut LinearScratch) {
        let Some(group) = self.group(i) else { return };
        let is_gate = self.step.gate.is_some() && stack == 0;
        let part = match self.step.gate.filter(|_| is_gate) {
            Some(gate) => gate,
            None => self.step.up,
        };
        let (buffer, width) = match is_gate {
            true => (&self.buffers.gates, self.shape.n_ff),
            false => (&self.buffers.ups, self.shape.n_up),
        };
        let first = group.rows.first;
        let out = |row: usize| {
            let start = (first + row) * width;
            buffer.write(start + rows.start..start + rows.end)
        };
        let (activations, quantized) = match self.gathers() {
            true => (&self.buffers.activations, group.rows),
            false => (&self.pass.backend.activations, RowGroup::all(1)),
        };
        self.product(&part, group, (activations, quantized), &rows, scratch, |row| self.input(first + row), out);
    }

    /// Activation of a pair, and the quantized input of the last matrix.
    fn activate(&self, place: usize, scratch: &mut LinearScratch) {
        let Shape { n_ff, n_up, .. } = self.shape;
        let (set, start) = (self.pass.rows.set, place * n_up);
        let up = self.buffers.ups.write(start..start + n_up);
        let hidden = match (self.step.gate, self.step.gate_up) {
            (Some(_), _) => {
                act::gate(set, self.step.act, self.buffers.gates.read(place * n_ff..(place + 1) * n_ff), up);
                up
            }
            (None, true) => {
                let (gate, up) = up.split_at_mut(n_ff);
                act::gate(set, self.step.act, gate, up);
                up
            }
            (None, false) => {
                let gate = scratch.copy(up);
                up.fill(1.0);
                act::gate(set, self.step.act, gate, up);
                up
            }
        };
        if self.kinds[1].any() {
            let group = self.group_of(place).rows;
            self.kinds[1].put(&self.buffers.activations, set, place - group.first, group, hidden);
        }
    }

    /// What the last matrix reads.
    fn hidden(&self, place: usize) -> &[f32] {
        let end = (place + 1) * self.shape.n_up;
        self.buffers.ups.read(end - self.shape.n_ff..end)
    }

    /// Adds the squares of what one expert's matrices read to their sums.
    fn sum_inputs(&self, squares: &Shared<f64>, i: usize) {
        let Some(Group { expert, rows }) = self.group(i) else { return };
        let Shape { n_in, n_ff, n_expert, .. } = self.shape;
        let places = || rows.first..rows.first + rows.n_row;
        let last = n_expert * (n_in + 1);
        let n = sums::add(squares, expert * n_in, places().map(|place| self.input(place)));
        sums::add(squares, last + expert * n_ff, places().map(|place| self.hidden(place)));
        squares.write(n_expert * n_in + expert..n_expert * n_in + expert + 1)[0] += n as f64;
        squares.write(last + n_expert * n_ff + expert..last + n_expert * n_ff + expert + 1)[0] += n as f64;
    }

    fn down_product(&self, (i, _, rows): (usize, usize, std::ops::Range<usize>), scratch: &mut LinearScratch) {
        let Some(group) = self.group(i) else { return };
        let n_out = self.shape.n_out;
        let first = group.rows.first;
        let x = |row: usize| self.hidden(first + row);
        let out = |row: usize| {
            let start = self.pair(first + row) * n_out;
            self.buffers.results.write(start + rows.start..start + rows.end)
        };
        self.product(&self.step.down, group, (&self.buffers.activations, group.rows), &rows, scratch, x, out);
    }

    /// Rows of an expert's matrix times what its pairs have, plus the bias.
    #[allow(clippy::too_many_arguments)] // two closures, and what they are about
    fn product<'x, 'o>(
        &self,
        part: &ExpertPart,
        group: Group,
        (activations, quantized): (&Activations, RowGroup),
        rows: &std::ops::Range<usize>,
        scratch: &mut LinearScratch,
        x: impl Fn(usize) -> &'x [f32],
        out: impl Fn(usize) -> &'o mut [f32],
    ) {
        let context = &self.pass.rows;
        let weight = &context.plan.weights()[part.weight.index()];
        let first = group.expert * weight.out_len();
        let (start, end) = (first + rows.start, first + rows.end);
        let work = RowsWork {
            set: context.set,
            exact: self.pass.backend.exact,
            weight,
            bytes: &context.weights.bytes(part.weight)[start * weight.row_bytes()..end * weight.row_bytes()],
            activations,
            group: quantized,
        };
        work.run(scratch, x, &out);
        if let Some(bias) = part.bias {
            let bias = &context.vectors[bias.index()][start..end];
            (0..group.rows.n_row).for_each(|row| context.set.axpy_f32(1.0, bias, out(row)));
        }
    }
}

#[cfg(test)]
mod tests;
