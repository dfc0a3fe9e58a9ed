//! Sums of the squares of what matrices are multiplied with.
//!
//! Of a step they lie in one list: for each input [matrices, in], then the number of inputs of each matrix. A linear
//! step has one input, experts have two: theirs, and that of their last matrices.

use super::phases::is_stacked;
use super::{InputSum, Pass};
use crate::cpu::pool::{Shared, Worker};
use crate::cpu::rows::RowContext;
use crate::plan::{Operand, Plan, Step, WeightId};

/// Columns of inputs whose squares a chunk sums.
const SUM_COLUMNS: usize = 256;

/// The inputs of a step: matrices that read them, and their width.
fn inputs(plan: &Plan, step: &Step) -> Vec<(Vec<WeightId>, usize)> {
    match step {
        Step::Linear { x, parts, .. } => {
            let width = if is_stacked(plan, parts) { x.width } else { x.len() };
            vec![(parts.iter().map(|p| p.weight).collect(), width as usize)]
        }
        Step::Experts(e) => {
            let n_ff = plan.weights()[e.down.weight.index()].row_len();
            vec![(e.inputs().map(|p| p.weight).collect(), e.x.len() as usize), (vec![e.down.weight], n_ff)]
        }
        _ => vec![],
    }
}

fn n_matrix(plan: &Plan, inputs: &[(Vec<WeightId>, usize)]) -> usize {
    inputs.first().and_then(|(ids, _)| ids.first()).map_or(0, |id| plan.weights()[id.index()].n_matrix())
}

/// Numbers that are kept of a step.
pub(super) fn len(plan: &Plan, step: &Step) -> usize {
    let inputs = inputs(plan, step);
    n_matrix(plan, &inputs) * inputs.iter().map(|(_, width)| width + 1).sum::<usize>()
}

/// What was kept of a step.
pub(super) fn of(plan: &Plan, step: &Step, mut squares: &[f64]) -> Vec<InputSum> {
    let mut sums = Vec::new();
    let inputs = inputs(plan, step);
    let n = n_matrix(plan, &inputs);
    for (weights, width) in inputs {
        let (own, rest) = squares.split_at(n * width);
        let (counts, rest) = rest.split_at(n);
        squares = rest;
        let n_row: Vec<u64> = counts.iter().map(|n| *n as u64).collect();
        sums.extend(weights.into_iter().map(|weight| InputSum { weight, squares: own.to_vec(), n_row: n_row.clone() }));
    }
    sums
}

/// Adds rows that a matrix read to its sums: those of columns from `first` on, of `width`.
pub(super) fn add<'x>(sums: &Shared<f64>, start: usize, rows: impl Iterator<Item = &'x [f32]>) -> usize {
    let mut n_row = 0;
    for x in rows {
        let sums = sums.write(start..start + x.len());
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
        n_row += 1;
    }
    n_row
}

impl Pass<'_> {
    /// Adds the squares of a linear step's inputs to its sums, if somebody wants them.
    pub(super) fn sum_inputs(&self, worker: &mut Worker<'_>, n_row: usize, step: usize) -> bool {
        let Some(squares) = self.backend.input_squares.get(step) else { return true };
        let Step::Linear { x, parts, .. } = &self.rows.plan.steps()[step] else {
            unreachable!("the phase was made from a Linear")
        };
        let heads: Vec<Operand> = match is_stacked(self.rows.plan, parts) {
            true => (0..x.heads).map(|h| RowContext::head(*x, h)).collect(),
            false => vec![*x],
        };
        let width = heads[0].len() as usize;
        let per_head = width.div_ceil(SUM_COLUMNS);
        worker.step(heads.len() * per_head, |chunk| {
            let (h, part) = (chunk / per_head, chunk % per_head);
            let columns = part * SUM_COLUMNS..((part + 1) * SUM_COLUMNS).min(width);
            let rows = (0..n_row).map(|row| &self.rows.read(row, heads[h])[columns.clone()]);
            let n = add(squares, h * width + columns.start, rows);
            if part == 0 {
                squares.write(heads.len() * width + h..heads.len() * width + h + 1)[0] += n as f64;
            }
        })
    }
}
