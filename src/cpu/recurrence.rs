//! The arithmetic of states: what one row does to a state, and what it reads of it. Loops run along the innermost
//! dimension, so that compilers make vectors of them. Sums are made in `R`: f64 in exact mode, else f32; states are f32.

use super::kernels::KernelSet;

/// Numbers that are summed.
pub(super) trait Real: Copy + Default + From<f32> + std::ops::AddAssign + std::ops::Mul<Output = Self> {
    /// The nearest f32.
    fn round(self) -> f32;
}

impl Real for f32 {
    fn round(self) -> f32 {
        self
    }
}

impl Real for f64 {
    fn round(self) -> f32 {
        self as f32
    }
}

/// Columns of matrices, and channels, that a chunk takes at most.
pub(super) const COLS: usize = 64;

/// Room of one thread.
#[derive(Default)]
pub(super) struct StateScratch {
    /// Decays.
    pub decay: Vec<f32>,
    /// A gathered operand.
    pub gathered: Vec<f32>,
    pub beta: Vec<f32>,
}

/// ln(1 + exp(x)).
pub(super) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `out[c] = bias[c] + sum_j taps[j][c] x[j][c]`, oldest first. `kernel` is [taps, stride], of which the columns from
/// `first` on are meant.
pub(super) fn convolve<'x, R: Real>(
    x: impl Iterator<Item = &'x [f32]>,
    (kernel, stride, first): (&[f32], usize, usize),
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let mut sums = [R::default(); COLS];
    let sums = &mut sums[..out.len()];
    for (x, taps) in x.zip(kernel.chunks_exact(stride)) {
        for ((sum, x), w) in sums.iter_mut().zip(x).zip(&taps[first..]) {
            *sum += R::from(*x) * R::from(*w);
        }
    }
    if let Some(bias) = bias {
        sums.iter_mut().zip(bias).for_each(|(sum, b)| *sum += R::from(*b));
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum.round());
}

/// What one row does to some columns of a matrix by the delta rule.
pub(super) struct DeltaRow<'a> {
    /// `[dk]`.
    pub q: &'a [f32],
    /// `[dk]`.
    pub k: &'a [f32],
    /// One factor of the matrix, or one per row.
    pub decay: &'a [f32],
    /// Share of the correction.
    pub beta: f32,
    /// Factor of the queries.
    pub scale: f32,
}

impl DeltaRow<'_> {
    /// `v`, `out` and each `row(i)` of the matrix are the same columns.
    pub fn run<'s, R: Real>(&self, row: impl Fn(usize) -> &'s mut [f32], v: &[f32], out: &mut [f32]) {
        let mut sums = [R::default(); COLS];
        let sums = &mut sums[..out.len()];
        for (i, k) in self.k.iter().enumerate() {
            let (decay, k) = (if let [all] = self.decay { *all } else { self.decay[i] }, R::from(*k));
            for (sum, s) in sums.iter_mut().zip(row(i)) {
                *s *= decay;
                *sum += R::from(*s) * k;
            }
        }
        let mut change = [0.0; COLS];
        for ((u, v), sum) in change.iter_mut().zip(v).zip(sums.iter_mut()) {
            *u = self.beta * (v - sum.round());
            *sum = R::default();
        }
        for (i, (k, q)) in self.k.iter().zip(self.q).enumerate() {
            let q = R::from(q * self.scale);
            for ((sum, s), u) in sums.iter_mut().zip(row(i)).zip(&change) {
                *s += k * u;
                *sum += R::from(*s) * q;
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum.round());
    }
}

/// One channel of a selective state: S = decay S + dx b; S . c.
pub(super) fn scan<R: Real>(s: &mut [f32], decay: &[f32], dx: f32, b: &[f32], c: &[f32]) -> R {
    let mut lanes = [R::default(); 8];
    let n = s.len() / 8 * 8;
    let step = |s: &mut f32, decay: f32, b: f32| *s = *s * decay + dx * b;
    let blocks = s[..n].chunks_exact_mut(8).zip(decay.chunks_exact(8)).zip(b.chunks_exact(8)).zip(c.chunks_exact(8));
    for (((s, decay), b), c) in blocks {
        for i in 0..8 {
            step(&mut s[i], decay[i], b[i]);
            lanes[i] += R::from(s[i]) * R::from(c[i]);
        }
    }
    let mut sum = R::default();
    lanes.into_iter().for_each(|lane| sum += lane);
    for i in n..s.len() {
        step(&mut s[i], decay[i], b[i]);
        sum += R::from(s[i]) * R::from(c[i]);
    }
    sum
}

/// exp(d a) for `n` numbers of a state from its rates, one for all or one for each.
pub(super) fn decays<'s>(set: &KernelSet, rates: &[f32], d: f32, n: usize, to: &'s mut Vec<f32>) -> &'s [f32] {
    to.clear();
    match rates {
        [rate] => to.resize(n, (d * rate).exp()),
        _ => {
            to.extend(rates.iter().map(|rate| d * rate));
            set.exp_sum(to, 0.0);
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_convolution_sees_the_oldest_input_first() {
        let inputs = [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]];
        let kernel = [100.0, 0.0, 10.0, 0.0, 1.0, 2.0];
        let mut out = [0.0; 2];
        convolve::<f32>(inputs.iter().map(|x| &x[..]), (&kernel, 2, 0), Some(&[0.5, 0.25]), &mut out);
        assert_eq!(out, [123.5, 60.25]);
        let mut out = [0.0; 1];
        convolve::<f64>(inputs.iter().map(|x| &x[1..]), (&kernel, 2, 1), None, &mut out);
        assert_eq!(out, [60.0]);
    }

    #[test]
    fn the_delta_rule_replaces_what_a_key_meant() {
        // A matrix [2, 1] that knows key 0 as 4, forgets half of it, and learns that key 0 is 6.
        let s = crate::cpu::pool::Shared::<f32>::new();
        let mut s = s;
        s.grow(2).unwrap();
        s.set(0, 4.0);
        let row = DeltaRow { q: &[1.0, 1.0], k: &[1.0, 0.0], decay: &[0.5], beta: 0.5, scale: 2.0 };
        let mut out = [0.0];
        row.run::<f64>(|i| s.write(i..i + 1), &[6.0], &mut out);
        // S = 2; u = 0.5 (6 - 2) = 2; S = 4; out = 2 * 4.
        assert_eq!((s.read(0..2), out), (&[4.0, 0.0][..], [8.0]));
        let row = DeltaRow { decay: &[0.25, 9.0], beta: 0.0, ..row };
        row.run::<f32>(|i| s.write(i..i + 1), &[6.0], &mut out);
        assert_eq!(out, [2.0], "a decay for each key channel");
    }

    #[test]
    fn a_channel_is_scanned_in_any_length() {
        for n in [1, 8, 19] {
            let of = |f: f32| (0..n).map(|i| f * (1.0 + i as f32)).collect::<Vec<_>>();
            let (mut s, decay, b, c) = (of(1.0), vec![0.5; n], of(2.0), of(0.125));
            let want: f64 = (1..=n).map(|i| i as f64).map(|i| (0.5 * i + 3.0 * 2.0 * i) * 0.125 * i).sum();
            let mut other = s.clone();
            assert_eq!(scan::<f64>(&mut s, &decay, 3.0, &b, &c), want);
            assert!((scan::<f32>(&mut other, &decay, 3.0, &b, &c) - want as f32).abs() <= 1e-4 * want as f32);
            assert_eq!(s[n - 1], 6.5 * n as f32);
        }
    }

    #[test]
    fn softplus_keeps_its_digits_at_both_ends() {
        assert_eq!(softplus(-100.0), (-100f32).exp());
        assert_eq!(softplus(80.0), 80.0);
        assert!((softplus(0.0) - std::f32::consts::LN_2).abs() < 1e-7);
        let rates = [-1.0, -2.0];
        let mut to = Vec::new();
        assert_eq!(decays(&KernelSet::SCALAR, &rates, 0.5, 2, &mut to), [(-0.5f32).exp(), (-1f32).exp()]);
        assert_eq!(decays(&KernelSet::SCALAR, &rates[..1], 0.5, 3, &mut to), [(-0.5f32).exp(); 3]);
    }
}
