//! How much a forward pass reads and multiplies: what speeds are compared with.

use std::collections::BTreeSet;

use super::{Plan, Step};

/// What the matrices of a plan cost. Attention and the small steps are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of matrices that a pass over one row reads: those of experts by the share that is chosen. A pass over more
    /// rows reads the same, but for experts.
    pub bytes: u64,
    /// Multiplications for every row.
    pub macs: u64,
    /// Multiplications for every wanted row, beyond those: the head, mostly.
    pub macs_wanted: u64,
    /// Of both, those with weights that are plain numbers rather than blocks.
    pub macs_float: u64,
}

impl Plan {
    /// What the matrices of the plan cost.
    pub fn work(&self) -> Work {
        let take = self.steps.iter().position(|s| matches!(s, Step::Take { .. })).unwrap_or(self.steps.len());
        let (mut work, mut seen) = (Work::default(), BTreeSet::new());
        for (i, step) in self.steps.iter().enumerate() {
            let (weights, share): (Vec<_>, _) = match step {
                Step::Linear { parts, .. } => (parts.iter().map(|p| p.weight).collect(), 1),
                Step::Experts(e) => (e.parts().map(|p| p.weight).collect(), e.n_used()),
                _ => continue,
            };
            for id in weights {
                let weight = &self.weights[id.index()];
                // Of a stack one matrix for each expert; one matrix is a stack of one, but for heads, which are all read.
                let n_matrix = if matches!(step, Step::Experts(_)) { weight.n_matrix() as u64 } else { 1 };
                let part = |n: u64| n / n_matrix.max(1) * u64::from(share);
                let macs = part(weight.n_rows() as u64 * weight.row_len() as u64);
                *if i < take { &mut work.macs } else { &mut work.macs_wanted } += macs;
                work.macs_float += if weight.ty.is_float() { macs } else { 0 };
                if seen.insert(id.index()) {
                    work.bytes += part(weight.bytes());
                }
            }
        }
        work
    }
}
