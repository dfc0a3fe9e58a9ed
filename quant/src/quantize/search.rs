//! The four searches for the scale of a group, after ggml (`make_qx_quants`, `make_q3_quants`,
//! `make_qkx2_quants` and `make_qkx3_quants`, `make_qp_quants` of `ggml-quants.c`).
//!
//! Groups lie across lanes: `x[i]` is element i of each group. Sums run in the order of elements and
//! products associate as written: both decide bytes. Levels are integers kept as f32.

use super::lanes::{Lanes, Mask};

/// Below it a group counts as zero.
const TINY: f32 = 1e-15;

/// What a symmetric search finds.
pub(super) struct Symmetric<const G: usize, const L: usize> {
    pub(super) scale: Lanes<L>,
    /// Levels above the lowest, from 0.
    pub(super) levels: [Lanes<L>; G],
}

/// What an affine search finds: `x` is about `scale * level - min`.
pub(super) struct Affine<const G: usize, const L: usize> {
    pub(super) scale: Lanes<L>,
    /// The minimum, negated: never below zero.
    pub(super) min: Lanes<L>,
    /// From 0.
    pub(super) levels: [Lanes<L>; G],
}

/// How an affine search tries scales: `(first + step * k + n_level - 1) / range` for k = 0..=n_step.
#[derive(Clone, Copy)]
pub(super) struct Trials {
    pub(super) first: f32,
    pub(super) step: f32,
    pub(super) n_step: u8,
    pub(super) deviation: Deviation,
}

/// What an affine search makes small.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Deviation {
    Squared,
    Absolute,
}

impl Trials {
    pub(super) const fn new(first: f32, step: f32, n_step: u8, deviation: Deviation) -> Self {
        Self { first, step, n_step, deviation }
    }

    /// The trials of every affine type where columns have weights.
    pub(super) const WEIGHTED: Self = Self::new(-0.9, 0.05, 36, Deviation::Squared);
}

/// The first element of greatest magnitude, with its sign.
#[inline(always)]
pub(super) fn greatest<const G: usize, const L: usize>(x: &[Lanes<L>; G]) -> Lanes<L> {
    let (mut max, mut amax) = (Lanes::ZERO, Lanes::ZERO);
    for &x in x {
        let greater = x.abs().gt(amax);
        amax = greater.pick(x.abs(), amax);
        max = greater.pick(x, max);
    }
    max
}

/// Symmetric levels `-n..n`, nineteen scales tried (QX).
#[inline(always)]
pub(super) fn symmetric<const G: usize, const L: usize>(
    n: f32,
    x: &[Lanes<L>; G],
    w: &[Lanes<L>; G],
) -> Symmetric<G, L> {
    let max = greatest(x);
    let is_zero = max.abs().lt(Lanes::splat(TINY));
    let mut s = Lanes::splat(-n) / max;
    let (p, r) = symmetric_sums(n, x, w, s);
    let mut scale = r.eq(Lanes::ZERO).pick(Lanes::ZERO, p / r);
    let mut best = scale * p;
    for k in (-9i8..=9).filter(|&k| k != 0) {
        let trial = Lanes::splat(-(n + 0.1 * f32::from(k))) / max;
        let (p, r) = symmetric_sums(n, x, w, trial);
        let better = r.gt(Lanes::ZERO) & (p * p).gt(best * r);
        s = better.pick(trial, s);
        scale = better.pick(p / r, scale);
        best = better.pick(scale * p, best);
    }
    let offset = Lanes::splat(n);
    let mut levels = *x;
    for l in &mut levels {
        *l = is_zero.pick(Lanes::ZERO, (s * *l).level(-n, n - 1.0) + offset);
    }
    Symmetric { scale: is_zero.pick(Lanes::ZERO, scale), levels }
}

/// `sum w x l` and `sum w l^2` for the levels under an inverse scale.
#[inline(always)]
fn symmetric_sums<const G: usize, const L: usize>(
    n: f32,
    x: &[Lanes<L>; G],
    w: &[Lanes<L>; G],
    s: Lanes<L>,
) -> (Lanes<L>, Lanes<L>) {
    let (mut p, mut r) = (Lanes::ZERO, Lanes::ZERO);
    for (&x, &w) in x.iter().zip(w) {
        let l = (s * x).level(-n, n - 1.0);
        p += (w * x) * l;
        r += (w * l) * l;
    }
    (p, r)
}

/// Symmetric levels `-n..n`, improved one element at a time (Q3).
#[inline(always)]
pub(super) fn symmetric_stepwise<const G: usize, const L: usize>(n: f32, x: &[Lanes<L>; G]) -> Symmetric<G, L> {
    let max = greatest(x);
    let is_zero = max.abs().lt(Lanes::splat(TINY));
    let s = Lanes::splat(-n) / max;
    let mut levels = [Lanes::ZERO; G];
    let (mut p, mut r) = (Lanes::ZERO, Lanes::ZERO);
    for (&x, level) in x.iter().zip(&mut levels) {
        let l = (s * x).level(-n, n - 1.0);
        *level = l;
        let w = x * x;
        p += (w * x) * l;
        r += (w * l) * l;
    }
    for _ in 0..5 {
        let mut changed = Mask::NONE;
        for (&x, l) in x.iter().zip(&mut levels) {
            let w = x * x;
            let p_rest = p - (w * x) * *l;
            let r_rest = r - (w * *l) * *l;
            let new = (x * r_rest / p_rest).level(-n, n - 1.0);
            let (p_new, r_new) = (p_rest + (w * x) * new, r_rest + (w * new) * new);
            let better = p_rest.gt(Lanes::ZERO)
                & !new.eq(*l)
                & r_new.gt(Lanes::ZERO)
                & ((p_new * p_new) * r).gt((p * p) * r_new);
            *l = better.pick(new, *l);
            p = better.pick(p_new, p);
            r = better.pick(r_new, r);
            changed = changed | better;
        }
        if !changed.any() {
            break;
        }
    }
    let offset = Lanes::splat(n);
    for l in &mut levels {
        *l = is_zero.pick(Lanes::ZERO, *l + offset);
    }
    let scale = (r.gt(Lanes::ZERO) & !is_zero).pick(p / r, Lanes::ZERO);
    Symmetric { scale, levels }
}

/// Affine levels `0..=n` (QKX).
#[inline(always)]
pub(super) fn affine<const G: usize, const L: usize>(
    n: f32,
    x: &[Lanes<L>; G],
    w: &[Lanes<L>; G],
    trials: Trials,
) -> Affine<G, L> {
    let (mut min, mut max) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (Lanes::ZERO, Lanes::ZERO);
    for (&x, &w) in x.iter().zip(w) {
        min = x.min(min);
        max = x.max(max);
        sum_w += w;
        sum_x += w * x;
    }
    min = min.gt(Lanes::ZERO).pick(Lanes::ZERO, min);
    let is_flat = max.eq(min);
    let flat_min = min;
    let mut s = Lanes::splat(n) / (max - min);
    let mut scale = Lanes::splat(1.0) / s;
    // The minimum that the best levels were computed with, which is not the one that came out.
    let mut low = min;
    let mut best = affine_error(n, x, w, trials.deviation, (scale, min), (s, low));
    for k in 0..=trials.n_step {
        let trial = Lanes::splat(trials.first + trials.step * f32::from(k) + n) / (max - min);
        let (mut a, mut b, mut c) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
        for (&x, &w) in x.iter().zip(w) {
            let l = (trial * (x - min)).level(0.0, n);
            let wl = w * l;
            a += wl;
            b += wl * l;
            c += wl * x;
        }
        let d = sum_w * b - a * a;
        let fitted = (b * sum_x - a * c) / d;
        let positive = fitted.gt(Lanes::ZERO);
        let new_scale = positive.pick(c / b, (sum_w * c - sum_x * a) / d);
        let new_min = positive.pick(Lanes::ZERO, fitted);
        let new_error = affine_error(n, x, w, trials.deviation, (new_scale, new_min), (trial, min));
        let better = d.gt(Lanes::ZERO) & new_error.lt(best);
        s = better.pick(trial, s);
        low = better.pick(min, low);
        best = better.pick(new_error, best);
        scale = better.pick(new_scale, scale);
        min = better.pick(new_min, min);
    }
    let mut levels = *x;
    for l in &mut levels {
        *l = is_flat.pick(Lanes::ZERO, (s * (*l - low)).level(0.0, n));
    }
    Affine { scale: is_flat.pick(Lanes::ZERO, scale), min: -is_flat.pick(flat_min, min), levels }
}

/// The weighted deviation of `scale * level + min` from x, for the levels that an inverse scale and a
/// lowest value give.
#[inline(always)]
fn affine_error<const G: usize, const L: usize>(
    n: f32,
    x: &[Lanes<L>; G],
    w: &[Lanes<L>; G],
    deviation: Deviation,
    (scale, min): (Lanes<L>, Lanes<L>),
    (s, low): (Lanes<L>, Lanes<L>),
) -> Lanes<L> {
    let mut sum = Lanes::ZERO;
    for (&x, &w) in x.iter().zip(w) {
        let l = (s * (x - low)).level(0.0, n);
        let d = (scale * l + min) - x;
        let d = match deviation {
            Deviation::Squared => d * d,
            Deviation::Absolute => d.abs(),
        };
        sum += w * d;
    }
    sum
}

/// Levels `0..=n` of numbers that are seldom negative (QP).
#[inline(always)]
pub(super) fn positive<const G: usize, const L: usize>(
    n: f32,
    x: &[Lanes<L>; G],
    w: &[Lanes<L>; G],
) -> Symmetric<G, L> {
    let max = x.iter().fold(Lanes::ZERO, |max, &x| x.max(max));
    let is_zero = max.lt(Lanes::splat(TINY));
    let top = Lanes::splat(n);
    let mut s = top / max;
    let mut best = positive_error(x, w, s, |v| as_byte(v.rounded()));
    for k in (-4i8..=4).filter(|&k| k != 0) {
        let trial = Lanes::splat(0.1 * f32::from(k) + n) / max;
        let new = positive_error(x, w, trial, |v| v.rounded().min(top));
        let better = new.lt(best);
        s = better.pick(trial, s);
        best = better.pick(new, best);
    }
    let (mut p, mut r) = (Lanes::ZERO, Lanes::ZERO);
    let mut levels = [Lanes::ZERO; G];
    for ((&x, &w), level) in x.iter().zip(w).zip(&mut levels) {
        let l = (s * x).rounded().min(top);
        p += (w * x) * l;
        r += (w * l) * l;
        *level = as_byte(l);
    }
    for _ in 0..5 {
        let mut changed = Mask::NONE;
        for ((&x, &w), l) in x.iter().zip(w).zip(&mut levels) {
            let p_rest = p - (w * x) * *l;
            let r_rest = r - (w * *l) * *l;
            let new = (x * r_rest / p_rest).rounded().min(top);
            let (p_new, r_new) = (p_rest + (w * x) * new, r_rest + (w * new) * new);
            let better = p_rest.gt(Lanes::ZERO)
                & r_rest.gt(Lanes::ZERO)
                & !new.eq(*l)
                & ((p_new * p_new) * r).gt((p * p) * r_new);
            *l = better.pick(as_byte(new), *l);
            p = better.pick(p_new, p);
            r = better.pick(r_new, r);
            changed = changed | better;
        }
        if !changed.any() {
            break;
        }
    }
    for l in &mut levels {
        *l = is_zero.pick(Lanes::ZERO, *l);
    }
    let scale = (r.gt(Lanes::ZERO) & !is_zero).pick(p / r, Lanes::ZERO);
    Symmetric { scale, levels }
}

/// The weighted squares of deviations, for the levels that `level` makes of numbers over the scale.
#[inline(always)]
fn positive_error<const G: usize, const L: usize>(
    x: &[Lanes<L>; G],
    w: &[Lanes<L>; G],
    s: Lanes<L>,
    level: impl Fn(Lanes<L>) -> Lanes<L>,
) -> Lanes<L> {
    let scale = Lanes::splat(1.0) / s;
    let mut sum = Lanes::ZERO;
    for (&x, &w) in x.iter().zip(w) {
        let d = x - scale * level(s * x);
        sum += (w * d) * d;
    }
    sum
}

/// A level as ggml keeps it, in a byte: negative ones wrap round.
#[inline(always)]
fn as_byte<const L: usize>(level: Lanes<L>) -> Lanes<L> {
    let mut out = level;
    for v in &mut out.0 {
        *v = f32::from(*v as i32 as u8);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight groups of 16 and their weights: ties, zeros, one value, one sign, outliers.
    fn groups() -> Vec<([f32; 16], [f32; 16])> {
        let mut state = 3u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let mut group = |kind: usize| {
            let x = std::array::from_fn(|i| match kind {
                0 => 0.0,
                1 => 0.5,
                2 => next(),
                3 => -next(),
                4 => (next() * 8.0).floor() - 4.0,
                5 if i == 7 => 100.0,
                6 => next() * 1e-30,
                _ => next() - 0.5,
            });
            (x, std::array::from_fn(|i| if kind == 4 && i < 9 { 0.0 } else { next() }))
        };
        (0..8).map(&mut group).collect()
    }

    /// A search of eight groups side by side finds what it finds for each alone.
    fn check(search: impl Fn(&[Lanes<1>; 16], &[Lanes<1>; 16]) -> Vec<f32>, all: Vec<Vec<f32>>) {
        for ((x, w), all) in groups().into_iter().zip(all) {
            let alone = search(&x.map(|v| Lanes([v])), &w.map(|v| Lanes([v])));
            assert_eq!(
                alone.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                all.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            );
        }
    }

    fn lanes<const L: usize>(scale: Lanes<L>, more: Lanes<L>, levels: &[Lanes<L>; 16]) -> Vec<Vec<f32>> {
        (0..L).map(|l| [scale, more].iter().chain(levels).map(|v| v.0[l]).collect()).collect()
    }

    #[test]
    fn lanes_do_not_know_of_each_other() {
        let groups = groups();
        let x: [Lanes<8>; 16] = std::array::from_fn(|i| Lanes(std::array::from_fn(|l| groups[l].0[i])));
        let w: [Lanes<8>; 16] = std::array::from_fn(|i| Lanes(std::array::from_fn(|l| groups[l].1[i])));
        fn plain<const L: usize>(found: Symmetric<16, L>) -> Vec<Vec<f32>> {
            lanes(found.scale, Lanes::ZERO, &found.levels)
        }
        fn with_min<const L: usize>(found: Affine<16, L>) -> Vec<Vec<f32>> {
            lanes(found.scale, found.min, &found.levels)
        }
        check(|x, w| plain(symmetric(4.0, x, w)).remove(0), plain(symmetric(4.0, &x, &w)));
        check(|x, _| plain(symmetric_stepwise(4.0, x)).remove(0), plain(symmetric_stepwise(4.0, &x)));
        check(|x, w| plain(positive(15.0, x, w)).remove(0), plain(positive(15.0, &x, &w)));
        for trials in [Trials::WEIGHTED, Trials::new(-0.5, 0.1, 15, Deviation::Absolute)] {
            check(|x, w| with_min(affine(15.0, x, w, trials)).remove(0), with_min(affine(15.0, &x, &w, trials)));
        }
    }
}
