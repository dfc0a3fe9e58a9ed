//! How much memory a plan needs, before anything is allocated.

use std::collections::BTreeSet;

use tealight_quant::BlockType;

use super::{CacheSpec, Plan, Span, StateSpec, Step};
use crate::error::{Error, ErrorKind, Result};

/// How numbers of a key or value cache are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CacheType {
    /// IEEE single.
    F32,
    /// IEEE half.
    #[default]
    F16,
    /// Blocks of 32 with one scale.
    Q8_0,
}

impl CacheType {
    /// The block format of a cache row.
    pub const fn block_type(self) -> BlockType {
        match self {
            Self::F32 => BlockType::F32,
            Self::F16 => BlockType::F16,
            Self::Q8_0 => BlockType::Q8_0,
        }
    }

    /// Bytes of `n` numbers.
    pub const fn bytes(self, n: u64) -> u64 {
        let ty = self.block_type();
        n.div_ceil(ty.block_len() as u64) * ty.block_bytes() as u64
    }
}

/// Bytes that a plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights that steps read, each counted once; they stay in the file's map.
    pub weights: u64,
    /// Keys and values of one sequence of the given length, and its states.
    pub cache: u64,
    /// Buffers of a batch of the given size with one wanted row. Left out, as small beside the rest: quantized inputs
    /// of matrices, rotation tables, and what each thread keeps for itself.
    pub scratch: u64,
}

impl MemoryEstimate {
    /// All of it.
    pub const fn total(&self) -> u64 {
        self.weights + self.cache + self.scratch
    }
}

/// Rows of a group of a ring.
pub const RING_ALIGN: u64 = 64;

impl CacheSpec {
    /// Can the heads of this cache be stored so?
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when they are no whole blocks of the type.
    pub fn check_types(&self, k: CacheType, v: CacheType) -> Result<()> {
        for (ty, width, what) in [(k, self.k / self.heads, "keys"), (v, self.v / self.heads, "values")] {
            let block = ty.block_type();
            let len = block.block_len();
            if !width.is_multiple_of(len as u32) {
                let text = format!("{what} cannot be stored as {block}: heads of {width} are no multiple of {len}");
                return Err(Error::new(ErrorKind::Usage, text).with_hint("use f16 for the cache of this model"));
            }
        }
        Ok(())
    }

    /// Rows that the cache holds at `n_ctx` positions when at most `n_batch` rows come at once. A window of
    /// n needs n - 1 + n_batch: a batch is stored before its first row attends, and that row still needs the
    /// n - 1 before it. A ring is whole groups of rows, so that a group of positions is a group of slots.
    pub fn rows(&self, n_ctx: u64, n_batch: u64) -> u64 {
        match self.span {
            Span::Full | Span::All | Span::Near(_) => n_ctx,
            Span::Slide(n) | Span::Chunk(n) => n_ctx.min((u64::from(n) - 1 + n_batch).next_multiple_of(RING_ALIGN)),
        }
    }
}

impl Plan {
    /// What the plan needs for one sequence of `n_ctx` positions in batches of `n_batch` rows.
    pub fn memory(&self, n_ctx: u64, n_batch: u64, k: CacheType, v: CacheType) -> MemoryEstimate {
        let cache = |c: &CacheSpec| c.rows(n_ctx, n_batch) * (k.bytes(c.k.into()) + v.bytes(c.v.into()));
        let (before, after) = self.scratch_numbers();
        MemoryEstimate {
            weights: self.weights.iter().map(|w| w.bytes()).sum(),
            cache: self.caches.iter().map(cache).sum::<u64>() + self.states.iter().map(StateSpec::bytes).sum::<u64>(),
            scratch: 4 * (n_batch * before + after),
        }
    }

    /// Numbers of scratch (per row of the batch, per wanted row), one allocation per buffer, and what experts leave
    /// before their sum.
    pub fn scratch_numbers(&self) -> (u64, u64) {
        let take = self.steps.iter().position(|s| matches!(s, Step::Take { .. })).unwrap_or(self.steps.len());
        let touched = |steps: &[Step]| -> BTreeSet<usize> {
            steps.iter().flat_map(|s| s.writes()).map(|o| o.buf.index()).collect()
        };
        let experts = |steps: &[Step]| steps.iter().map(|s| self.expert_numbers(s)).max().unwrap_or(0);
        let (before, after) = self.steps.split_at(take);
        let (experts_before, experts_after) = (experts(before), experts(after));
        let (before, after) = (touched(before), touched(after));
        let width = |b: &usize| u64::from(self.buffers[*b].width);
        let before_take = before.iter().map(width).sum::<u64>() + experts_before;
        let behind = after.difference(&before).map(width).sum::<u64>() + experts_after.saturating_sub(experts_before);
        (before_take, behind)
    }

    /// Numbers that the chosen experts of a row leave before they are summed: gates, factors, results.
    fn expert_numbers(&self, step: &Step) -> u64 {
        let Step::Experts(e) = step else { return 0 };
        let out = |p: &super::ExpertPart| self.weights[p.weight.index()].out_len() as u64;
        let input = if e.on_input { u64::from(e.x.len()) } else { 0 };
        u64::from(e.n_used()) * (e.parts().map(out).sum::<u64>() + input)
    }
}
