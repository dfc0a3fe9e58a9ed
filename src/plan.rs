//! The vocabulary of operations: what one forward pass does, for any model, on any back-end.
//!
//! A [`Plan`] is a flat list of [`Step`]s over named buffers. A buffer is [rows, width] of f32; a row is
//! one token of one sequence at one position. An [`Operand`] is a view of columns, so splitting a fused
//! projection or addressing one head needs no step. Weights are references by name; their bytes come
//! from whoever executes the plan.
//!
//! No step knows a model family, a metadata key or a layer index. A plan exists only in verified form:
//! [`PlanBuilder::finish`] is the only way to make one. Start reading in `operand.rs` and `op.rs`.
#![forbid(unsafe_code)]

mod attend;
mod backend;
mod build;
mod excerpt;
mod experts;
mod memory;
mod op;
mod operand;
mod print;
mod state;
mod verify;
mod work;

pub use attend::{Alibi, Attend, CacheSpec, Select, Span, Temper};
#[cfg(feature = "gpu")]
pub(crate) use backend::choose_from_rows;
pub use backend::{Backend, Probe, RowOrder, Rows, SequenceMemory, Weights};
pub use build::PlanBuilder;
pub use experts::{ExpertPart, Experts, Groups, Route, Score};
pub use memory::{CacheType, MemoryEstimate};
pub use op::{Act, Index, NormKind, Pairs, Part, PoolKind, RopeTable, Step};
pub use operand::{BufId, Buffer, CacheId, Operand, StateId, TableId, WeightId, WeightRef};
pub use state::{Delta, Scan, Spread, StateKind, StateSpec};
pub use verify::PlanError;
pub use work::Work;

/// What one forward pass does. Immutable and verified.
#[derive(Debug)]
pub struct Plan {
    steps: Vec<Step>,
    buffers: Vec<Buffer>,
    caches: Vec<CacheSpec>,
    states: Vec<StateSpec>,
    weights: Vec<WeightRef>,
    tables: Vec<RopeTable>,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    /// First step of each named section ("blk.0", "head"), ascending.
    sections: Vec<(usize, String)>,
    notes: Vec<String>,
}

impl Plan {
    /// The steps in the order of execution.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Every buffer, indexed by [`BufId`].
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// Rows that a sequence remembers, one for every position, indexed by [`CacheId`].
    pub fn caches(&self) -> &[CacheSpec] {
        &self.caches
    }

    /// What a sequence remembers whatever its length, indexed by [`StateId`].
    pub fn states(&self) -> &[StateSpec] {
        &self.states
    }

    /// Every weight that a step reads, indexed by [`WeightId`].
    pub fn weights(&self) -> &[WeightRef] {
        &self.weights
    }

    /// Rotation tables, indexed by [`TableId`].
    pub fn tables(&self) -> &[RopeTable] {
        &self.tables
    }

    /// What is given with every row, where the plan is the rest of another one: one operand, or none.
    pub fn inputs(&self) -> &[Operand] {
        &self.inputs
    }

    /// The results: first the logits (or hidden states of an embedding model), then the pooled vector
    /// where there is one.
    pub fn outputs(&self) -> &[Operand] {
        &self.outputs
    }

    /// Tokens that every table of tokens has a row for; `None` where no step reads one.
    pub fn n_token(&self) -> Option<u32> {
        let rows = self.steps.iter().filter_map(|s| match s {
            Step::Embed { table, index: Index::Token, .. } => Some(self.weights[table.index()].n_rows() as u32),
            _ => None,
        });
        rows.min()
    }

    /// Positions that every table of positions has a row for; `None` where there is no such table.
    pub fn n_position(&self) -> Option<u32> {
        let rows = self.steps.iter().filter_map(|s| match s {
            Step::Embed { table, index: Index::Position(first), .. } => {
                Some((self.weights[table.index()].n_rows() as u32).saturating_sub(*first))
            }
            _ => None,
        });
        rows.min()
    }

    /// Does every row see earlier ones alone? Else a sequence must come in one batch, whole.
    pub fn is_causal(&self) -> bool {
        !self.caches.iter().any(|c| c.span.looks_ahead())
    }

    /// Names of the parts of the plan with the index of their first step.
    pub fn sections(&self) -> &[(usize, String)] {
        &self.sections
    }

    /// What the reader of the plan should know: tensors ignored, defaults assumed.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The section that a step belongs to.
    pub fn section_of(&self, step: usize) -> &str {
        match self.sections.partition_point(|(first, _)| *first <= step) {
            0 => "",
            n => &self.sections[n - 1].1,
        }
    }

    /// What the last step before `end` that writes anything leaves.
    pub fn last_result(&self, end: usize) -> Option<Probe> {
        (0..end.min(self.steps.len()))
            .rev()
            .find_map(|step| self.steps[step].writes().first().map(|&operand| Probe { step, operand }))
    }

    /// Resolves a label to a step and the operand that it writes: `17` or `17.k` (step of the printed plan),
    /// or `blk.0.q` (the last write of buffer `q` in that section).
    pub fn find_label(&self, label: &str) -> Option<Probe> {
        let (head, tail) = label.rsplit_once('.').unwrap_or((label, ""));
        if let Ok(step) = head.parse::<usize>() {
            let writes = self.steps.get(step)?.writes();
            let mut found = writes.iter().filter(|o| tail.is_empty() || self.buffers[o.buf.index()].name == tail);
            return found.next().map(|&operand| Probe { step, operand });
        }
        (0..self.steps.len()).rev().filter(|&i| self.section_of(i) == head).find_map(|step| {
            let writes = self.steps[step].writes();
            let operand = *writes.iter().find(|o| self.buffers[o.buf.index()].name == tail)?;
            Some(Probe { step, operand })
        })
    }
}
