//! Steps that change a sequence's state: in order over the rows of a sequence, in parallel over sequences, channels and
//! heads. What a chunk is depends on shapes alone.

use super::pass::Pass;
use crate::cpu::act::{self, sigmoid};
use crate::cpu::pool::{MAX_CHUNKS, Shared, Worker};
use crate::cpu::recurrence::{COLS, DeltaRow, Real, StateScratch, convolve, decays, scan, softplus};
use crate::plan::{Delta, Operand, Scan, StateKind, Step};

/// Channels of a selective state with heads of one channel that a chunk takes.
const CHANNELS: usize = 32;

/// The rows of one sequence in the batch at hand.
struct Part<'p> {
    seq: usize,
    /// Rows of the batch, in the order of positions.
    rows: &'p [u32],
}

impl Pass<'_> {
    /// Runs a step with a state over the rows of all sequences.
    pub(super) fn change_states(&self, worker: &mut Worker<'_>, step: &Step, scratch: &mut StateScratch) -> bool {
        match self.backend.exact {
            true => self.change::<f64>(worker, step, scratch),
            false => self.change::<f32>(worker, step, scratch),
        }
    }

    fn change<R: Real>(&self, worker: &mut Worker<'_>, step: &Step, scratch: &mut StateScratch) -> bool {
        let ranges = self.batch.order.ranges.iter().enumerate().filter(|(_, r)| !r.is_empty());
        let parts: Vec<Part<'_>> =
            ranges.map(|(seq, r)| Part { seq, rows: &self.batch.order.order[r.clone()] }).collect();
        let n_task = match step {
            Step::Conv { x, .. } => x.len().div_ceil(COLS as u32),
            Step::Delta(d) => d.heads * self.columns(d).1.div_ceil(COLS) as u32,
            Step::Scan(s) => s.heads.div_ceil(self.heads_at_once(s) as u32),
            _ => unreachable!("{} has no state", step.name()),
        } as usize;
        let n = parts.len() * n_task;
        // Shapes of real models give some thousands at most.
        let per_chunk = n.div_ceil(MAX_CHUNKS);
        worker.step(n.div_ceil(per_chunk), |chunk| {
            for i in chunk * per_chunk..((chunk + 1) * per_chunk).min(n) {
                let (part, task) = (&parts[i / n_task], i % n_task);
                match step {
                    Step::Conv { .. } => self.conv::<R>(step, part, task),
                    Step::Delta(d) => self.delta::<R>(d, part, task, scratch),
                    Step::Scan(s) => self.scan::<R>(s, part, task, scratch),
                    _ => {}
                }
            }
        })
    }

    /// Columns `task * COLS..` of a convolution.
    fn conv<R: Real>(&self, step: &Step, part: &Part<'_>, task: usize) {
        let Step::Conv { x, out, state, weight, bias, act } = step else { return };
        let (channels, first) = (x.len() as usize, task * COLS);
        let n = COLS.min(channels - first);
        let states = &self.rows.sequences[part.seq].states;
        let (before, behind) = (states.before(*state), states.behind(*state));
        let kernel = &self.rows.vectors[weight.index()];
        let bias = bias.map(|b| &self.rows.vectors[b.index()][first..first + n]);
        let taps = kernel.len() / channels - 1;
        // The input `back` rows before row `t` of the part.
        let input = |t: usize, back: usize| match t.checked_sub(back) {
            Some(t) => self.rows.read(part.rows[t] as usize, x.columns(first as u32, n as u32)),
            None => {
                let start = (taps + t - back) * channels + first;
                before.read(start..start + n)
            }
        };
        let mut sums = [0.0; COLS];
        for (t, row) in part.rows.iter().enumerate() {
            let inputs = (0..=taps).rev().map(|back| input(t, back));
            let to = self.rows.write(*row as usize, out.columns(first as u32, n as u32));
            convolve::<R>(inputs, (kernel, channels, first), bias, &mut sums[..n]);
            to.fill(1.0);
            act::gate(self.rows.set, *act, &sums[..n], to);
        }
        for tap in 0..taps {
            let start = tap * channels + first;
            behind.write(start..start + n).copy_from_slice(input(part.rows.len(), taps - tap));
        }
    }

    /// Rows and columns of the matrices.
    fn columns(&self, step: &Delta) -> (usize, usize) {
        self.matrices(step.state)
    }

    fn matrices(&self, state: crate::plan::StateId) -> (usize, usize) {
        match self.rows.plan.states()[state.index()].kind {
            StateKind::Matrices { rows, cols, .. } => (rows as usize, cols as usize),
            StateKind::Tail { taps, channels } => (taps as usize, channels as usize),
        }
    }

    /// Some columns of the matrix of one head.
    fn delta<R: Real>(&self, step: &Delta, part: &Part<'_>, task: usize, scratch: &mut StateScratch) {
        let (dk, dv) = self.columns(step);
        let per_head = dv.div_ceil(COLS);
        let (head, first) = (task / per_head, task % per_head * COLS);
        let n = COLS.min(dv - first);
        let states = &self.rows.sequences[part.seq].states;
        let (before, behind) = (states.before(step.state), states.behind(step.state));
        let place = |i: usize| {
            let start = (head * dk + i) * dv + first;
            start..start + n
        };
        (0..dk).for_each(|i| behind.write(place(i)).copy_from_slice(before.read(place(i))));
        let key_head = step.spread.key_head(head as u32, step.heads, step.key_heads);
        let (rate, dt) = (self.rows.vectors[step.a.index()][head], &self.rows.vectors[step.dt.index()]);
        let per_channel = step.decay.len() != step.heads;
        let of_key = |o: Operand| o.columns(key_head * dk as u32, dk as u32);
        let of_value = |o: Operand| o.columns((head * dv + first) as u32, n as u32);
        for row in part.rows.iter().map(|row| *row as usize) {
            let beta = sigmoid(self.rows.gathered(row, step.beta, &mut scratch.beta)[head]);
            let decays = self.rows.gathered(row, step.decay, &mut scratch.gathered);
            let mine = if per_channel { head * dk..(head + 1) * dk } else { head..head + 1 };
            scratch.decay.clear();
            let decay = |(x, dt): (&f32, &f32)| rate * softplus(x + dt);
            scratch.decay.extend(decays[mine.clone()].iter().zip(&dt[mine]).map(decay));
            self.rows.set.exp_sum(&mut scratch.decay, 0.0);
            let (q, k) = (self.rows.read(row, of_key(step.q)), self.rows.read(row, of_key(step.k)));
            let delta = DeltaRow { q, k, decay: &scratch.decay, beta, scale: step.scale };
            let (v, out) = (self.rows.read(row, of_value(step.v)), self.rows.write(row, of_value(step.out)));
            delta.run::<R>(|i| behind.write(place(i)), v, out);
        }
    }

    /// Heads of one channel are small: a chunk takes some.
    fn heads_at_once(&self, step: &Scan) -> usize {
        if self.matrices(step.state).0 == 1 { CHANNELS } else { 1 }
    }

    /// Some heads of a selective state.
    fn scan<R: Real>(&self, step: &Scan, part: &Part<'_>, task: usize, scratch: &mut StateScratch) {
        let (channels, n) = self.matrices(step.state);
        let at_once = self.heads_at_once(step);
        let heads = task * at_once..((task + 1) * at_once).min(step.heads as usize);
        let states = &self.rows.sequences[part.seq].states;
        let (before, behind): (&Shared<f32>, &Shared<f32>) = (states.before(step.state), states.behind(step.state));
        let mine = heads.start * channels * n..heads.end * channels * n;
        let s = behind.write(mine.clone());
        s.copy_from_slice(before.read(mine));
        let vector = |id: crate::plan::WeightId| self.rows.vectors[id.index()].as_slice();
        let (rates, d, bias) = (vector(step.a), vector(step.d), vector(step.bias));
        let per_head = rates.len() / step.heads as usize;
        for row in part.rows.iter().map(|row| *row as usize) {
            let dt = self.rows.read(row, step.dt);
            let (b, c) = (self.rows.read(row, step.b), self.rows.read(row, step.c));
            for head in heads.clone() {
                let group = head / (step.heads / step.groups) as usize * n;
                let (b, c) = (&b[group..group + n], &c[group..group + n]);
                let columns = ((head * channels) as u32, channels as u32);
                let x = self.rows.read(row, step.x.columns(columns.0, columns.1));
                let out = self.rows.write(row, step.out.columns(columns.0, columns.1));
                let dt = softplus(dt[head] + bias[head]);
                let rates = &rates[head * per_head..(head + 1) * per_head];
                let decay = decays(self.rows.set, rates, dt, n, &mut scratch.decay);
                let s = &mut s[(head - heads.start) * channels * n..][..channels * n];
                for ((s, x), out) in s.chunks_exact_mut(n).zip(x).zip(out) {
                    let mut sum = scan::<R>(s, decay, dt * x, b, c);
                    sum += R::from(d[head]) * R::from(*x);
                    *out = sum.round();
                }
            }
        }
    }
}
