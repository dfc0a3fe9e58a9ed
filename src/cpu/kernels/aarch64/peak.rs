//! Loops of nothing but products: what the ports allow.

use super::super::Peak;
use super::{dotprod, i8mm, neon};
use std::arch::aarch64::*;
use std::hint::black_box;

/// Vectors that are summed in turn: more than latency times throughput.
pub(super) const CHAINS: usize = 16;

/// Products that `n` steps compute, after computing them.
pub(super) fn neon(of: Peak, n: usize) -> Option<usize> {
    Some(match of {
        // SAFETY: the sets of this room are made beside the detection of these features.
        Peak::Int8 => unsafe { neon::products(n) * CHAINS * 16 },
        // SAFETY: as above.
        Peak::F32 => unsafe { fma(n) * CHAINS * 4 },
    })
}

/// The same with four products to a sum in one instruction.
pub(super) fn dotprod(of: Peak, n: usize) -> Option<usize> {
    match of {
        // SAFETY: as above.
        Peak::Int8 => Some(unsafe { dotprod::products(n) } * CHAINS * 16),
        Peak::F32 => neon(of, n),
    }
}

/// The same with products of matrices.
pub(super) fn i8mm(of: Peak, n: usize) -> Option<usize> {
    match of {
        // SAFETY: as above.
        Peak::Int8 => Some(unsafe { i8mm::products(n) } * CHAINS * 32),
        Peak::F32 => neon(of, n),
    }
}

#[target_feature(enable = "neon")]
fn fma(n: usize) -> usize {
    let mut acc = [vdupq_n_f32(0.0); CHAINS];
    let (a, b) = (black_box(vdupq_n_f32(0.5)), black_box(vdupq_n_f32(0.25)));
    for _ in 0..n {
        for acc in &mut acc {
            *acc = vfmaq_f32(a, *acc, b);
        }
    }
    black_box(acc);
    n
}

/// Defines `products`, which does `n` steps of a sum of products of bytes, and gives `n`.
macro_rules! peak_kernels {
    ($features:literal, $step:expr) => {
        #[target_feature(enable = $features)]
        pub(super) fn products(n: usize) -> usize {
            use std::hint::black_box;
            let step = $step;
            let mut acc = [vdupq_n_s32(0); super::peak::CHAINS];
            let (a, b) = (black_box(vdupq_n_s8(3)), black_box(vdupq_n_s8(5)));
            for _ in 0..n {
                for acc in &mut acc {
                    *acc = step(*acc, a, b);
                }
            }
            black_box(acc);
            n
        }
    };
}

pub(super) use peak_kernels;
