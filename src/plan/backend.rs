//! What executes a plan, and what it is given.

use std::sync::atomic::AtomicBool;

use super::{Operand, WeightId};
use crate::error::Result;

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
}

/// An intermediate result that is copied out: what `operand` holds after `step`. Made by `Plan::find_label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub(super) step: usize,
    pub(super) operand: Operand,
}

impl Probe {
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
}
