//! What executes a plan, and what it is given.

use std::sync::atomic::AtomicBool;

use super::{Operand, Plan, Step, WeightId};
use crate::error::{Error, ErrorKind, Result};

/// Where the bytes of a plan's weights lie.
pub trait Weights: Send + Sync {
    /// All bytes of a weight, in the block format that the plan names.
    fn bytes(&self, id: WeightId) -> &[u8];
}

/// A batch: for every row its token, its position, and the sequence it belongs to. Rows of one sequence
/// come in ascending, adjoining positions, beginning where that sequence ends.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Token ids, `[n]`.
    pub token: &'a [u32],
    /// Positions in the row's own sequence, `[n]`.
    pub pos: &'a [u32],
    /// Index of the row's sequence among those given to the call, `[n]`.
    pub seq: &'a [u32],
    /// Rows whose result is wanted, ascending.
    pub want: &'a [u32],
    /// What the plan is given with the rows, [n, width of its input]; empty for a plan that begins with tokens.
    pub input: &'a [f32],
}

/// The rows of a batch grouped by sequence, ascending within each.
#[derive(Debug, Default)]
pub struct RowOrder {
    /// Indices of rows, `[n]`.
    pub order: Vec<u32>,
    /// Where each sequence's rows lie in `order`; empty for a sequence without any.
    pub ranges: Vec<std::ops::Range<usize>>,
}

impl RowOrder {
    /// Takes over a batch; `lengths` are the positions that the sequences hold already.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a batch that breaks the rules of [`Rows`] or does not fit the plan.
    pub fn set(&mut self, plan: &Plan, rows: &Rows<'_>, lengths: &[u32]) -> Result<()> {
        let fault = |what: &str| Err(Error::new(ErrorKind::Usage, format!("a batch of rows {what}")));
        let n = rows.token.len();
        if n == 0 || rows.pos.len() != n || rows.seq.len() != n || rows.want.iter().any(|&w| w as usize >= n) {
            return fault("is empty or incomplete");
        }
        if !rows.want.is_sorted_by(|a, b| a < b) {
            return fault("wants rows out of order");
        }
        if rows.input.len() != n * plan.inputs().iter().map(|o| o.len() as usize).sum::<usize>() {
            return fault("lacks what the plan is given");
        }
        if let (Some(n_token), Some(id)) = (plan.n_token(), rows.token.iter().max())
            && *id >= n_token
        {
            return Err(Error::new(ErrorKind::Usage, format!("token {id} is not among the model's {n_token}")));
        }
        if let (Some(n_position), Some(pos)) = (plan.n_position(), rows.pos.iter().max())
            && *pos >= n_position
        {
            return Err(Error::new(ErrorKind::Usage, format!("position {pos} is beyond the model's {n_position}")));
        }
        if !plan.is_causal() && rows.seq.iter().any(|&seq| lengths.get(seq as usize).is_some_and(|&n| n > 0)) {
            let text = "a sequence of a model that looks both ways cannot be continued";
            return Err(Error::new(ErrorKind::Usage, text).with_hint("give it whole, in one batch"));
        }
        self.order.clear();
        self.ranges.clear();
        for (seq, &len) in lengths.iter().enumerate() {
            let start = self.order.len();
            for (i, _) in rows.seq.iter().enumerate().filter(|(_, s)| **s as usize == seq) {
                if rows.pos[i] as usize != len as usize + self.order.len() - start {
                    return fault("does not continue its sequence");
                }
                self.order.push(i as u32);
            }
            self.ranges.push(start..self.order.len());
        }
        if self.order.len() != n {
            return fault("names a sequence that is not there");
        }
        Ok(())
    }
}

/// An intermediate result that is copied out: what `operand` holds after `step`. Made by `Plan::find_label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub(super) step: usize,
    pub(super) operand: Operand,
}

impl Probe {
    /// The same probe of the rest of the plan that begins at its step `n`; `None` when it lies before that.
    pub const fn behind(self, n: usize) -> Option<Self> {
        match self.step.checked_sub(n) {
            Some(step) => Some(Self { step, ..self }),
            None => None,
        }
    }

    /// Can the probe be looked at in a pass over sequences of these lengths?
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is another plan's, or a pooled vector of a sequence that does not begin here.
    pub fn check(self, plan: &Plan, lengths: &[u32]) -> Result<()> {
        let step = plan.steps().get(self.step).filter(|s| s.writes().contains(&self.operand));
        match step {
            None => Err(Error::new(ErrorKind::Usage, "the label is another plan's")),
            Some(Step::Pool { .. }) if lengths.iter().any(|&n| n > 0) => {
                let text = "a pooled vector needs the whole sequence in one batch";
                Err(Error::new(ErrorKind::Usage, text).with_hint("use a larger batch (TEALIGHT_UBATCH)"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Index of the step.
    pub const fn step(&self) -> usize {
        self.step
    }

    /// What is copied.
    pub const fn operand(&self) -> Operand {
        self.operand
    }
}

/// What one sequence remembers on a back-end.
pub trait SequenceMemory: Send {
    /// Positions that it holds.
    fn len(&self) -> u32;

    /// Does it hold none?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything from position `len` on. `false` when rows that are needed from there are gone
    /// (a window has moved on): the caller must clear and feed again.
    fn rewind(&mut self, len: u32) -> bool;

    /// A length up to `len` that [`SequenceMemory::rewind`] may go back to where it does not go to `len`; 0: none.
    fn nearest(&self, len: u32) -> u32 {
        let _ = len;
        0
    }

    /// After a failed run: back to `len`, or to nothing where that is impossible.
    fn take_back(&mut self, len: u32) {
        if !self.rewind(len.min(self.len())) {
            self.clear();
        }
    }

    /// Forgets everything.
    fn clear(&mut self);

    /// Bytes allocated now.
    fn bytes(&self) -> u64;
}

/// An executor of one plan.
pub trait Backend: Send {
    /// What a sequence remembers.
    type Sequence: SequenceMemory;

    /// Runs the plan over a batch and appends the rows of its first output to `out`, [wanted, width]; with a probe,
    /// what that operand holds: all rows of the batch, the wanted ones behind a Take, one per sequence behind a Pool.
    ///
    /// # Errors
    /// Cancelled, out of memory, a probe of another plan, or an internal fault; the sequences then hold what they held
    /// before.
    fn run(
        &mut self,
        rows: &Rows<'_>,
        sequences: &mut [&mut Self::Sequence],
        probe: Option<Probe>,
        cancel: &AtomicBool,
        out: &mut Vec<f32>,
    ) -> Result<()>;

    /// Most numbers of a row that [`Backend::choose`] picks where they are computed, so that the row need not come
    /// back. 0: rows come back in any case.
    fn max_choice(&self) -> u32 {
        0
    }

    /// Runs the plan over a batch and appends the `k` greatest numbers of every wanted row of its first output, each
    /// behind its column, to `out`: greatest first, the lower column first among equals, [wanted, min(k, width)].
    /// `Some(row)`: a number of that wanted row, the first such, is not finite, and `out` is as before; the sequences
    /// have grown all the same.
    ///
    /// # Errors
    /// As [`Backend::run`].
    fn choose(
        &mut self,
        rows: &Rows<'_>,
        sequences: &mut [&mut Self::Sequence],
        k: u32,
        cancel: &AtomicBool,
        out: &mut Vec<(u32, f32)>,
    ) -> Result<Option<u32>> {
        choose_from_rows(self, rows, sequences, k, cancel, out)
    }
}

/// [`Backend::choose`] by [`Backend::run`]: whole rows come back.
pub(crate) fn choose_from_rows<B: Backend + ?Sized>(
    backend: &mut B,
    rows: &Rows<'_>,
    sequences: &mut [&mut B::Sequence],
    k: u32,
    cancel: &AtomicBool,
    out: &mut Vec<(u32, f32)>,
) -> Result<Option<u32>> {
    let mut all = Vec::new();
    backend.run(rows, sequences, None, cancel, &mut all)?;
    let width = all.len() / rows.want.len().max(1);
    Ok(greatest(&all, width, k, out))
}

/// What [`Backend::choose`] promises, of `rows`, [n, width].
fn greatest(rows: &[f32], width: usize, k: u32, out: &mut Vec<(u32, f32)>) -> Option<u32> {
    if let Some(i) = rows.iter().position(|x| !x.is_finite()) {
        return Some((i / width) as u32);
    }
    let mut pairs: Vec<(u32, f32)> = Vec::new();
    // -0 equals 0.
    let falling = |a: &(u32, f32), b: &(u32, f32)| (b.1 + 0.0).total_cmp(&(a.1 + 0.0)).then(a.0.cmp(&b.0));
    for row in rows.chunks_exact(width.max(1)) {
        pairs.clear();
        pairs.extend((0..).zip(row.iter().copied()));
        if (k as usize) < pairs.len() {
            pairs.select_nth_unstable_by(k as usize, falling);
            pairs.truncate(k as usize);
        }
        pairs.sort_unstable_by(falling);
        out.extend(&pairs);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_come_first_and_lower_columns_win_ties() {
        let rows = [0.0, 3.0, -0.0, 3.0, -1.0, -1.0, f32::MAX, f32::MIN];
        let mut out = Vec::new();
        assert_eq!(greatest(&rows, 4, 3, &mut out), None);
        assert_eq!(out, [(1, 3.0), (3, 3.0), (0, 0.0), (2, f32::MAX), (0, -1.0), (1, -1.0)]);
        out.clear();
        assert_eq!(greatest(&rows, 4, 9, &mut out), None);
        assert_eq!(out.len(), 8);
        assert_eq!(greatest(&[0.0, 1.0, 2.0, f32::NEG_INFINITY], 2, 1, &mut out), Some(1));
        assert_eq!((out.len(), greatest(&[], 0, 1, &mut out)), (8, None));
    }
}
