//! Activations that have no kernels of their own: one formula for every kernel set, so that all agree to the bit.

use super::kernels::KernelSet;
use crate::plan::Act;

/// erfc(z) = t R(t) exp(-z^2) with t = 1 / (1 + 0.3 z), z >= 0; R was fitted to erfc in f64 with a relative error of
/// 2e-8, lowest power first. The GPU's twin is in `shaders/math.wgsl`.
const ERFC: [f32; 9] = [
    0.169_187_34,
    0.170_724_99,
    0.148_278_31,
    0.215_136_99,
    -0.095_095_485,
    0.548_305_15,
    -0.512_747_76,
    0.485_773_9,
    -0.129_563_39,
];

/// The share of a normal distribution beyond |x|: erfc(|x| / sqrt(2)) / 2. It keeps its digits where 1 - erf loses them.
fn tail(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let r = ERFC.iter().rev().fold(0.0, |r, c| r * t + c);
    0.5 * t * r * (-0.5 * x * x).exp()
}

/// 0.5 x (1 + erf(x / sqrt(2))).
fn gelu_erf(x: f32) -> f32 {
    let below = x * tail(x);
    if x < 0.0 { below } else { x - below }
}

/// max(x, 0), which passes on what is no number.
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `plan::Act::Xielu`.
fn xielu(x: f32, [positive, negative, beta, eps]: [f32; 4]) -> f32 {
    let curve = if x > 0.0 { positive * x * x } else { negative * (x.min(eps).exp_m1() - x) };
    curve + beta * x
}

/// 1 / (1 + exp(-x)).
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `plan::Act::ClampedSwiglu` of a gate and a factor.
fn clamped_swiglu(gate: f32, by: f32, alpha: f32, limit: f32) -> f32 {
    let gate = if gate > limit { limit } else { gate };
    gate * sigmoid(alpha * gate) * (by.clamp(-limit, limit) + 1.0)
}

/// to = act(x) * to, of equal lengths.
pub(super) fn gate(set: &KernelSet, act: Act, x: &[f32], to: &mut [f32]) {
    match act {
        Act::Silu => set.silu_mul(x, to),
        Act::Gelu => set.gelu_mul(x, to),
        Act::GeluErf => multiply(to, x, gelu_erf),
        Act::Relu => multiply(to, x, relu),
        Act::Relu2 => multiply(to, x, |x| relu(x) * relu(x)),
        Act::Xielu { positive, negative, beta, eps } => {
            multiply(to, x, |x| xielu(x, [positive, negative, beta, eps]));
        }
        Act::Sigmoid => multiply(to, x, sigmoid),
        Act::Id => multiply(to, x, |x| x),
        Act::ClampedSwiglu { alpha, limit } => {
            to.iter_mut().zip(x).for_each(|(to, x)| *to = clamped_swiglu(*x, *to, alpha, limit));
        }
    }
}

/// to *= f(x).
fn multiply(to: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to *= f(*x));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// erf by its Taylor series in f64; for |x| up to 4 it has 9 digits.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn gelu_follows_the_error_function() {
        for i in -500..=500 {
            let x = i as f32 / 100.0;
            let want = 0.5 * f64::from(x) * (1.0 + erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2));
            let error = (f64::from(gelu_erf(x)) - want).abs();
            // Some ten roundings of f32.
            assert!(error <= 6e-7 * want.abs().max(0.1), "gelu({x}) = {}, expected {want}", gelu_erf(x));
        }
        assert_eq!([gelu_erf(40.0), gelu_erf(-40.0), gelu_erf(0.0)], [40.0, 0.0, 0.0]);
        assert!(gelu_erf(f32::NAN).is_nan());
    }

    #[test]
    fn xielu_bends_at_zero() {
        let p = [0.8, 0.5, 0.25, -1e-6];
        assert_eq!(xielu(2.0, p), 0.8 * 4.0 + 0.5);
        let want = 0.5 * ((-2f64).exp() - 1.0 + 2.0) - 0.5;
        assert!((f64::from(xielu(-2.0, p)) - want).abs() < 1e-6);
        assert!(xielu(-0.0, p).abs() < 1e-6 && xielu(1e-7, p) > 0.0);
    }

    #[test]
    fn a_clamped_swiglu_stays_within_its_limits() {
        let silu = |x: f32| x / (1.0 + (-1.702 * x).exp());
        assert_eq!(clamped_swiglu(9.0, 9.0, 1.702, 7.0), silu(7.0) * 8.0);
        assert_eq!(clamped_swiglu(-9.0, -9.0, 1.702, 7.0), silu(-9.0) * -6.0);
        assert!(clamped_swiglu(f32::NAN, 1.0, 1.702, 7.0).is_nan());
    }
}
