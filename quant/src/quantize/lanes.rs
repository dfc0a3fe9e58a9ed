//! Several independent calculations side by side: one group of a tensor in each lane.
//!
//! A sum over a group must run in the order of its elements to have ggml's bits, so a single group
//! offers a vector unit nothing; `L` groups at once do. Everything is plain loops over arrays, which
//! the compiler turns into vectors; what a lane computes does not depend on `L`.

use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

/// `L` numbers.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Lanes<const L: usize>(pub(super) [f32; L]);

/// One choice a lane: all bits set or none.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Mask<const L: usize>([u32; L]);

/// Adding and subtracting it rounds a number below 2^22 half to even: 1.5 * 2^23.
const ROUNDER: f32 = 12_582_912.0;

impl<const L: usize> Lanes<L> {
    pub(super) const ZERO: Self = Self([0.0; L]);

    #[inline(always)]
    pub(super) fn splat(v: f32) -> Self {
        Self([v; L])
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self;
        for l in 0..L {
            out.0[l] = f(self.0[l], other.0[l]);
        }
        out
    }

    #[inline(always)]
    fn each(self, f: impl Fn(f32) -> f32) -> Self {
        let mut out = self;
        for l in 0..L {
            out.0[l] = f(self.0[l]);
        }
        out
    }

    #[inline(always)]
    fn compare(self, other: Self, f: impl Fn(f32, f32) -> bool) -> Mask<L> {
        let mut out = Mask([0; L]);
        for l in 0..L {
            out.0[l] = if f(self.0[l], other.0[l]) { u32::MAX } else { 0 };
        }
        out
    }

    #[inline(always)]
    pub(super) fn gt(self, other: Self) -> Mask<L> {
        self.compare(other, |a, b| a > b)
    }

    /// 1 / self, but 0 for 0.
    #[inline(always)]
    pub(super) fn inverse(self) -> Self {
        self.each(|v| if v != 0.0 { 1.0 / v } else { 0.0 })
    }

    #[inline(always)]
    pub(super) fn ge(self, other: Self) -> Mask<L> {
        self.compare(other, |a, b| a >= b)
    }

    #[inline(always)]
    pub(super) fn lt(self, other: Self) -> Mask<L> {
        self.compare(other, |a, b| a < b)
    }

    #[inline(always)]
    pub(super) fn eq(self, other: Self) -> Mask<L> {
        self.compare(other, |a, b| a == b)
    }

    /// The greater; `other` where this is NaN.
    #[inline(always)]
    pub(super) fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    /// The smaller; `other` where this is NaN.
    #[inline(always)]
    pub(super) fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    pub(super) fn abs(self) -> Self {
        self.each(f32::abs)
    }

    #[inline(always)]
    pub(super) fn sqrt(self) -> Self {
        self.each(f32::sqrt)
    }

    /// The nearest integer in `low..=high`, half to even; `low` where this is NaN. The bounds are
    /// small integers.
    #[inline(always)]
    pub(super) fn level(self, low: f32, high: f32) -> Self {
        self.each(|v| {
            let v = (v + ROUNDER) - ROUNDER;
            let v = if v > low { v } else { low };
            if v < high { v } else { high }
        })
    }

    /// The nearest integer, half to even, of a magnitude below 2^22; farther away something near.
    #[inline(always)]
    pub(super) fn rounded(self) -> Self {
        self.each(|v| (v + ROUNDER) - ROUNDER)
    }

    /// The integer below, of 0 and more and below 2^22.
    #[inline(always)]
    pub(super) fn floor(self) -> Self {
        self.each(|v| {
            let near = (v + ROUNDER) - ROUNDER;
            if near > v { near - 1.0 } else { near }
        })
    }

    /// The nearest integer, half away from zero, of a magnitude below 2^22.
    #[inline(always)]
    pub(super) fn rounded_away(self) -> Self {
        // The number below one half: a half itself would lift 0.49999997 to 1.
        const HALF: f32 = 0.499_999_97;
        self.zip((self.abs() + Self::splat(HALF)).floor(), |v, magnitude| magnitude.copysign(v))
    }

    /// The integers of -128..=255 as bytes, negative ones as their complement.
    #[inline(always)]
    pub(super) fn bytes(self) -> [u8; L] {
        let mut out = [0; L];
        for (out, v) in out.iter_mut().zip(self.0) {
            // The lowest bits of the sum's mantissa are the integer's.
            *out = (v + ROUNDER).to_bits() as u8;
        }
        out
    }
}

impl<const L: usize> Mask<L> {
    pub(super) const NONE: Self = Self([0; L]);

    /// `yes` where set, `no` elsewhere.
    #[inline(always)]
    pub(super) fn pick(self, yes: Lanes<L>, no: Lanes<L>) -> Lanes<L> {
        let mut out = no;
        for l in 0..L {
            out.0[l] = if self.0[l] != 0 { yes.0[l] } else { no.0[l] };
        }
        out
    }

    #[inline(always)]
    pub(super) fn any(self) -> bool {
        self.0.iter().fold(0, |a, &b| a | b) != 0
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:tt;)*) => {
        $(impl<const L: usize> $trait for Lanes<L> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| a $op b)
            }
        })*
    };
}

operators! {
    Add add +;
    Sub sub -;
    Mul mul *;
    Div div /;
}

impl<const L: usize> AddAssign for Lanes<L> {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<const L: usize> Neg for Lanes<L> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        self.each(|v| -v)
    }
}

macro_rules! mask_operators {
    ($($trait:ident $method:ident $op:tt;)*) => {
        $(impl<const L: usize> $trait for Mask<L> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                let mut out = self;
                for l in 0..L {
                    out.0[l] = self.0[l] $op other.0[l];
                }
                out
            }
        })*
    };
}

mask_operators! {
    BitAnd bitand &;
    BitOr bitor |;
}

impl<const L: usize> Not for Mask<L> {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        let mut out = self;
        for m in &mut out.0 {
            *m = !*m;
        }
        out
    }
}
