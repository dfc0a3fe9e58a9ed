//! Steps that look at one row at a time.

use tealight_quant as quant;

use super::act;
use super::kernels::KernelSet;
use super::pool::Shared;
use super::route::RouteScratch;
use super::sequence::{CpuSequence, QuantizeScratch};
use crate::plan::{Act, Index, NormKind, Operand, Pairs, Plan, Step, WeightId, Weights};

/// Tokens, positions and sequences of the rows of a batch.
#[derive(Default)]
pub(super) struct RowList {
    pub token: Vec<u32>,
    pub pos: Vec<u32>,
    pub seq: Vec<u32>,
}

impl RowList {
    pub fn clear(&mut self) {
        self.token.clear();
        self.pos.clear();
        self.seq.clear();
    }

    pub fn push(&mut self, token: u32, pos: u32, seq: u32) {
        self.token.push(token);
        self.pos.push(pos);
        self.seq.push(seq);
    }

    pub fn len(&self) -> usize {
        self.token.len()
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct RowScratch {
    a: Vec<f32>,
    quantize: QuantizeScratch,
    route: RouteScratch,
}

/// All that a row-local step needs.
pub(super) struct RowContext<'a> {
    pub plan: &'a Plan,
    pub set: &'a KernelSet,
    pub weights: &'a dyn Weights,
    /// Norm weights and biases in f32, by weight.
    pub vectors: &'a [Vec<f32>],
    /// [rows, width] each, by buffer.
    pub buffers: &'a [Shared<f32>],
    /// cos and sin by table: [rows, pairs, 2].
    pub rotations: &'a [Shared<f32>],
    pub sequences: &'a [&'a CpuSequence],
    /// What the chosen experts of the step at hand gave, [rows, chosen, out].
    pub expert_results: &'a Shared<f32>,
}

impl<'a> RowContext<'a> {
    fn at(&self, row: usize, o: Operand) -> usize {
        row * self.plan.buffers()[o.buf.index()].width as usize + o.start as usize
    }

    /// A contiguous operand of a row, to read.
    pub fn read(&self, row: usize, o: Operand) -> &'a [f32] {
        let start = self.at(row, o);
        self.buffers[o.buf.index()].read(start..start + o.len() as usize)
    }

    /// A contiguous operand of a row, to write; it is the calling chunk's.
    pub fn write(&self, row: usize, o: Operand) -> &'a mut [f32] {
        let start = self.at(row, o);
        self.buffers[o.buf.index()].write(start..start + o.len() as usize)
    }

    /// One head of an operand of a row.
    pub fn head(o: Operand, h: u32) -> Operand {
        Operand { start: o.start + h * o.stride, heads: 1, stride: 0, ..o }
    }

    /// Fills the rotation tables of a row.
    pub fn rotate_tables(&self, row: usize, pos: u32) {
        for (table, out) in self.plan.tables().iter().zip(self.rotations) {
            let n = 2 * table.freqs.len();
            for (pair, freq) in out.write(row * n..(row + 1) * n).chunks_exact_mut(2).zip(&table.freqs) {
                let (sin, cos) = (f64::from(pos) * freq).sin_cos();
                pair[0] = cos as f32 * table.amp;
                pair[1] = sin as f32 * table.amp;
            }
        }
    }

    /// Runs a row-local step on one row.
    pub fn run(&self, step: &Step, rows: &RowList, row: usize, scratch: &mut RowScratch) {
        match step {
            Step::Embed { out, table, index, scale, add } => {
                let entry = match index {
                    Index::Token => rows.token[row],
                    Index::Position(first) => rows.pos[row] + first,
                    Index::Row(entry) => *entry,
                };
                self.embed(*table, entry, *scale, *add, self.write(row, *out), scratch);
            }
            Step::Norm { x, out, kind, eps, width, weight, bias } => {
                let pick = |id: &Option<WeightId>| id.map(|id| self.vectors[id.index()].as_slice());
                let (weight, bias) = (pick(weight), pick(bias));
                for h in 0..x.heads {
                    let to = self.write(row, Self::head(*out, h));
                    if x != out {
                        to.copy_from_slice(self.read(row, Self::head(*x, h)));
                    }
                    let n_group = x.width / width;
                    for (g, group) in to.chunks_exact_mut(*width as usize).enumerate() {
                        let of = |v: &'a [f32]| match v.len() == *width as usize {
                            true => v,
                            false => {
                                &v[(h * n_group) as usize * *width as usize..][g * *width as usize..][..*width as usize]
                            }
                        };
                        norm(group, *kind, *eps, weight.map(of), bias.map(of));
                    }
                }
            }
            Step::Rope { x, out, table, pairs } => {
                let n = 2 * self.plan.tables()[table.index()].freqs.len();
                let turns = self.rotations[table.index()].read(row * n..(row + 1) * n);
                for h in 0..x.heads {
                    let to = self.write(row, Self::head(*out, h));
                    if x != out {
                        to.copy_from_slice(self.read(row, Self::head(*x, h)));
                    }
                    rotate(&mut to[..n], turns, *pairs);
                }
            }
            Step::Store { cache, k, v } => {
                let sequence = self.sequences[rows.seq[row] as usize];
                let (slots, cache) = (sequence.positions.slots(cache.index()), &sequence.caches[cache.index()]);
                let slot = slots.slot(rows.pos[row]);
                cache.k.put(self.set, slot, self.gathered(row, *k, &mut scratch.a), &mut scratch.quantize);
                if let Some(v) = v {
                    cache.v.put(self.set, slot, self.gathered(row, *v, &mut scratch.a), &mut scratch.quantize);
                }
            }
            Step::Gate { x, out, act, by } => {
                if x.len() < out.len() {
                    let x = repeated(self.read(row, *x)[0], out.len(), &mut scratch.a);
                    self.gate(row, *act, x, *out, *by);
                } else {
                    let apart = [Some(*x), Some(*out), *by].into_iter().flatten().find(|o| !o.is_contiguous());
                    let width = apart.map_or(x.len(), |o| o.width);
                    for part in 0..x.len() / width {
                        let (x, out) = (piece(*x, part, width), piece(*out, part, width));
                        let x = self.unaliased(row, x, out, &mut scratch.a);
                        self.gate(row, *act, x, out, by.map(|o| piece(o, part, width)));
                    }
                }
            }
            Step::Route(r) => {
                let pick = |id: Option<WeightId>| id.map(|id| self.vectors[id.index()].as_slice());
                let (idx, w) = (self.write(row, r.idx), self.write(row, r.w));
                scratch.route.route(r, self.read(row, r.x), [pick(r.bias), pick(r.per_expert)], idx, w);
            }
            Step::Experts(e) => {
                let (out, w) = (self.write(row, e.out), self.read(row, e.w));
                out.fill(0.0);
                for (i, w) in w.iter().enumerate() {
                    let start = (row * e.n_used() as usize + i) * out.len();
                    let result = self.expert_results.read(start..start + out.len());
                    self.set.axpy_f32(if e.on_input { 1.0 } else { *w }, result, out);
                }
            }
            Step::Add { x, y, out, scale } => {
                let y = self.unaliased(row, *y, *out, &mut scratch.a);
                let to = self.write(row, *out);
                if x != out {
                    to.copy_from_slice(self.read(row, *x));
                }
                self.set.axpy_f32(*scale, y, to);
            }
            Step::Softcap { x, out, cap } => {
                let to = self.write(row, *out);
                if x != out {
                    to.copy_from_slice(self.read(row, *x));
                }
                softcap(to, *cap);
            }
            Step::Scale { x, out, factor, weight } => {
                let to = self.write(row, *out);
                if x != out {
                    to.copy_from_slice(self.read(row, *x));
                }
                self.set.scale_f32(*factor, to);
                if let Some(weight) = weight {
                    to.iter_mut().zip(&self.vectors[weight.index()]).for_each(|(x, w)| *x *= w);
                }
            }
            Step::Rescale { x, like, out, eps } => {
                let like = self.read(row, *like);
                for h in 0..x.heads {
                    let to = self.write(row, Self::head(*out, h));
                    if x != out {
                        to.copy_from_slice(self.read(row, Self::head(*x, h)));
                    }
                    let factor = (mean_square(like) / mean_square(to).max(f64::from(*eps))).sqrt();
                    self.set.scale_f32(factor as f32, to);
                }
            }
            Step::Mix { x, coef, base, out, offset } => {
                let coef = self.read(row, *coef).chunks_exact(x.heads as usize);
                for (i, coef) in (0..out.heads).zip(coef) {
                    let to = self.write(row, Self::head(*out, i));
                    to.copy_from_slice(self.read(row, Self::head(*base, i)));
                    for (j, c) in (0..x.heads).zip(coef) {
                        self.set.axpy_f32(c + offset, self.read(row, Self::head(*x, j)), to);
                    }
                }
            }
            Step::Sparsify { x, out, n_std } => {
                let to = self.write(row, *out);
                if x != out {
                    to.copy_from_slice(self.read(row, *x));
                }
                sparsify(to, *n_std);
            }
            Step::Conv { .. } | Step::Delta(_) | Step::Scan(_) => unreachable!("{} goes along a sequence", step.name()),
            Step::Linear { .. } | Step::Attend(_) | Step::Take { .. } | Step::Pool { .. } | Step::Select(_) => {
                unreachable!("{} is not local to a row", step.name())
            }
        }
    }

    /// out = act(x) * by, of contiguous operands.
    fn gate(&self, row: usize, act: Act, x: &[f32], out: Operand, by: Option<Operand>) {
        let to = self.write(row, out);
        match by {
            Some(by) if by == out => {}
            Some(by) => to.copy_from_slice(self.read(row, by)),
            None => to.fill(1.0),
        }
        act::gate(self.set, act, x, to);
    }

    /// The operand, copied first when it is the very place that is written.
    fn unaliased<'s>(&self, row: usize, o: Operand, out: Operand, copy: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        let values = self.read(row, o);
        if o.buf != out.buf {
            return values;
        }
        copy.clear();
        copy.extend_from_slice(values);
        copy
    }

    /// All heads of an operand side by side.
    pub fn gathered<'s>(&self, row: usize, o: Operand, copy: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        if o.is_contiguous() {
            return self.read(row, o);
        }
        copy.clear();
        (0..o.heads).for_each(|h| copy.extend_from_slice(self.read(row, Self::head(o, h))));
        copy
    }

    fn embed(&self, table: WeightId, index: u32, scale: f32, add: bool, out: &mut [f32], scratch: &mut RowScratch) {
        let w = &self.plan.weights()[table.index()];
        let start = index as usize * w.row_bytes();
        let bytes = &self.weights.bytes(table)[start..start + w.row_bytes()];
        scratch.a.resize(out.len(), 0.0);
        quant::dequantize(w.ty, bytes, &mut scratch.a).expect("a whole row: the gate has checked the tensor");
        for (o, x) in out.iter_mut().zip(&scratch.a) {
            *o = x * scale + if add { *o } else { 0.0 };
        }
    }
}

/// `n` times the same number.
fn repeated(x: f32, n: u32, to: &mut Vec<f32>) -> &[f32] {
    to.clear();
    to.resize(n as usize, x);
    to
}

/// Sum of f(x) in f64, in eight interleaved lanes: the order is the same for every kernel set.
fn sum(x: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0f64; 8];
    let mut chunks = x.chunks_exact(8);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(f64::from(*x));
        }
    }
    lanes.iter().sum::<f64>() + chunks.remainder().iter().map(|x| f(f64::from(*x))).sum::<f64>()
}

/// Columns `part * width..` of an operand, or its head `part` where heads lie apart.
fn piece(o: Operand, part: u32, width: u32) -> Operand {
    let step = if o.is_contiguous() { width } else { o.stride };
    Operand { start: o.start + part * step, width, heads: 1, stride: 0, ..o }
}

/// Normalises one group in place.
fn norm(x: &mut [f32], kind: NormKind, eps: f32, weight: Option<&[f32]>, bias: Option<&[f32]>) {
    let n = x.len() as f64;
    let mean = if kind == NormKind::Layer { sum(x, |x| x) / n } else { 0.0 };
    let square = sum(x, |x| (x - mean) * (x - mean)) / n;
    let square = if kind == NormKind::L2 { square * n } else { square };
    let (mean, scale) = (mean as f32, (1.0 / (square + f64::from(eps)).sqrt()) as f32);
    match weight {
        Some(w) => x.iter_mut().zip(w).for_each(|(x, w)| *x = (*x - mean) * scale * w),
        None => x.iter_mut().for_each(|x| *x = (*x - mean) * scale),
    }
    if let Some(bias) = bias {
        x.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
    }
}

fn mean_square(x: &[f32]) -> f64 {
    sum(x, |x| x * x) / x.len() as f64
}

/// max(x - (mean + n_std * std), 0), with the deviation of all numbers, not of a sample.
fn sparsify(x: &mut [f32], n_std: f32) {
    let n = x.len() as f64;
    let mean = sum(x, |x| x) / n;
    let std = (sum(x, |x| (x - mean) * (x - mean)) / n).sqrt();
    let cut = (mean + f64::from(n_std) * std) as f32;
    x.iter_mut().for_each(|x| *x = (*x - cut).max(0.0));
}

/// Rotates the dims of one head; `turns` is [pairs, (cos, sin)].
fn rotate(x: &mut [f32], turns: &[f32], pairs: Pairs) {
    let half = x.len() / 2;
    for (i, turn) in turns.chunks_exact(2).enumerate() {
        let (a, b) = match pairs {
            Pairs::Adjacent => (2 * i, 2 * i + 1),
            Pairs::Halves => (i, i + half),
        };
        (x[a], x[b]) = (x[a] * turn[0] - x[b] * turn[1], x[a] * turn[1] + x[b] * turn[0]);
    }
}

/// cap * tanh(x / cap).
pub(super) fn softcap(x: &mut [f32], cap: f32) {
    x.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_follow_their_formulas() {
        let mut x = [1.0, 2.0, 3.0, 4.0];
        norm(&mut x, NormKind::Rms, 0.5, Some(&[1.0, 1.0, 2.0, 2.0]), None);
        let r = (7.5f32 + 0.5).sqrt();
        assert_eq!(x.map(|v| (v * r * 1e4).round() / 1e4), [1.0, 2.0, 6.0, 8.0]);
        let mut x = [1.0, 3.0];
        norm(&mut x, NormKind::Layer, 0.0, None, Some(&[10.0, 10.0]));
        assert_eq!(x, [9.0, 11.0]);
    }

    #[test]
    fn what_stands_out_is_what_is_above_the_mean_and_a_deviation() {
        let mut x = [1.0, 1.0, 1.0, 5.0];
        sparsify(&mut x, 1.0);
        let cut = 2.0 + 3f32.sqrt();
        assert_eq!(x, [0.0, 0.0, 0.0, 5.0 - cut]);
    }

    #[test]
    fn a_quarter_turn_moves_one_of_a_pair_to_the_other() {
        let quarter = [0.0, 1.0, 0.0, 1.0];
        let mut x = [1.0, 2.0, 3.0, 4.0];
        rotate(&mut x, &quarter, Pairs::Adjacent);
        assert_eq!(x, [-2.0, 1.0, -4.0, 3.0]);
        let mut x = [1.0, 2.0, 3.0, 4.0];
        rotate(&mut x, &quarter, Pairs::Halves);
        assert_eq!(x, [-3.0, -4.0, 1.0, 2.0]);
    }
}
