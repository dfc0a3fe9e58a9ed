//! What one core can do at most: integer products and fused multiply-adds per second. Speeds of kernels
//! are stated as shares of these, measured in the same run.

use super::kernels::{KernelSet, Peak};

/// Steps of a measurement: about half a millisecond.
const N_STEP: usize = 100_000;

/// The most products per second that kernels of a set could reach on one core, by `seconds` that a call
/// takes: give the CPU time of the calling thread where that can be read. The best of `n_run` counts.
pub fn peak(set: &KernelSet, of: Peak, n_run: usize, mut seconds: impl FnMut(&mut dyn FnMut()) -> f64) -> Option<f64> {
    let mut n = 0;
    let mut best = f64::INFINITY;
    for _ in 0..n_run {
        let mut run = || n = set.peak(of, N_STEP).unwrap_or_default();
        best = best.min(seconds(&mut run));
    }
    (n > 0).then(|| n as f64 / best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_products_by_the_least_time() {
        for set in KernelSet::available() {
            for of in [Peak::Int8, Peak::F32] {
                let mut times = [3.0, 2.0, 4.0].into_iter();
                let timed = |f: &mut dyn FnMut()| {
                    f();
                    times.next().unwrap()
                };
                let got = peak(&set, of, 3, timed);
                assert_eq!(got, set.peak(of, N_STEP).map(|n| n as f64 / 2.0), "{} {of:?}", set.name());
                assert_eq!(got.is_some(), set.name() != "scalar");
            }
        }
    }
}
