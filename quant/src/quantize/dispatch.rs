//! The same quantizers compiled for the instruction sets that a CPU may have, and the choice among
//! them: the only file of this crate with `unsafe` code.
//!
//! No set contains fused multiply-add: ggml's bits are those of separate roundings.
#![allow(unsafe_code)]

use super::rows::Rows;

/// One format: quantizes rows into the bytes of their blocks. Lengths have been checked. Everything
/// below it is inlined, so that it is compiled for the set of the caller.
pub(super) trait Quantizer {
    fn run(rows: &Rows<'_>, out: &mut [u8]);
}

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// What the crate is compiled for.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Set {
    /// Every set of this CPU, best first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let sets =
            [(Self::Avx512, is_x86_feature_detected!("avx512f")), (Self::Avx2, is_x86_feature_detected!("avx2"))];
        #[cfg(not(target_arch = "x86_64"))]
        let sets = [];
        sets.into_iter().filter(|&(_, present)| present).map(|(set, _)| set).chain([Self::Baseline])
    }

    /// Runs a quantizer compiled for this set, or for the baseline where the CPU lacks it.
    pub(super) fn run<Q: Quantizer>(self, rows: &Rows<'_>, out: &mut [u8]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the feature.
            Self::Avx512 if is_x86_feature_detected!("avx512f") => unsafe { avx512::<Q>(rows, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the feature.
            Self::Avx2 if is_x86_feature_detected!("avx2") => unsafe { avx2::<Q>(rows, out) },
            _ => Q::run(rows, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<Q: Quantizer>(rows: &Rows<'_>, out: &mut [u8]) {
    Q::run(rows, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f")]
fn avx512<Q: Quantizer>(rows: &Rows<'_>, out: &mut [u8]) {
    Q::run(rows, out);
}
