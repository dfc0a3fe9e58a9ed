//! How much a forward pass reads and multiplies: what speeds are compared with.

use std::collections::BTreeSet;

use super::{Plan, Step};

/// What the matrices of a plan cost. Attention and the small steps are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of matrices that a pass reads, however many rows it has.
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
            let Step::Linear { parts, .. } = step else { continue };
            for part in parts {
                let weight = &self.weights[part.weight.index()];
                let macs = weight.n_rows() as u64 * weight.row_len() as u64;
                *if i < take { &mut work.macs } else { &mut work.macs_wanted } += macs;
                work.macs_float += if weight.ty.is_float() { macs } else { 0 };
                if seen.insert(part.weight.index()) {
                    work.bytes += weight.bytes();
                }
            }
        }
        work
    }
}
