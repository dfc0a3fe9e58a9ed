//! Rotation frequencies: every kind of scaling ends up in one table, computed in f64.

use super::config::{RopeConfig, RopeScaling};
use super::family::{Family, Layer};
use super::tensors::Tensors;
use crate::error::Result;
use crate::plan::RopeTable;

/// The table of a layer that rotates `n_rot` dims, for a session of `n_ctx` positions: longrope chooses its
/// factors by that length, once.
pub fn table(
    family: &Family,
    rope: &RopeConfig,
    layer: &Layer,
    n_rot: u32,
    n_ctx: u32,
    tensors: &mut Tensors<'_>,
) -> Result<RopeTable> {
    let windowed = layer.is_windowed();
    let theta = match windowed {
        true => rope.theta_swa.or(family.windows.rope_theta).unwrap_or(rope.theta),
        false => rope.theta,
    };
    let (dims, theta) = (f64::from(n_rot), f64::from(theta));
    let mut freqs: Vec<f64> = (0..n_rot / 2).map(|i| theta.powf(-2.0 * f64::from(i) / dims)).collect();
    if windowed && !family.windows.rope_scaled {
        return Ok(RopeTable { freqs, amp: 1.0 });
    }
    let mut amp = rope.attn_factor.unwrap_or(1.0);
    match rope.scaling {
        RopeScaling::None | RopeScaling::Llama3 | RopeScaling::Longrope => {}
        RopeScaling::Linear => freqs.iter_mut().for_each(|f| *f /= f64::from(rope.factor)),
        RopeScaling::Yarn => {
            yarn(rope, family.yarn_rounds, dims, theta, &mut freqs);
            if rope.attn_factor.is_none() && rope.log_multiplier.is_none() && rope.factor > 1.0 {
                amp = (1.0 + 0.1 * f64::from(rope.factor).ln()) as f32;
            }
        }
    }
    check_factors(rope, tensors)?;
    let chosen = if n_ctx > rope.n_ctx_orig { "rope_factors_long.weight" } else { "rope_factors_short.weight" };
    for other in ["rope_factors_long.weight", "rope_factors_short.weight"] {
        tensors.mark_used(other);
    }
    for name in ["rope_freqs.weight", chosen] {
        if let Some(divisors) = tensors.values(name, &[u64::from(n_rot / 2)])? {
            freqs.iter_mut().zip(divisors).for_each(|(f, d)| *f /= f64::from(d));
        }
    }
    Ok(RopeTable { freqs, amp })
}

/// Factor tensors that the file's keys promise must be there: without them the rotation would be another one.
fn check_factors(rope: &RopeConfig, tensors: &Tensors<'_>) -> Result<()> {
    let long_short = ["rope_factors_long.weight", "rope_factors_short.weight"];
    // Files of the Phi family name no kind: a factor of cos and sin with an original context is longrope.
    let promised = rope.scaling == RopeScaling::Longrope
        || (rope.scaling == RopeScaling::None && rope.attn_factor.is_some() && rope.is_extended);
    if promised || long_short.iter().any(|name| tensors.has(name)) {
        long_short.iter().try_for_each(|name| tensors.require(name))?;
    }
    if rope.scaling == RopeScaling::Llama3 {
        tensors.require("rope_freqs.weight")?;
    }
    Ok(())
}

/// YaRN (arXiv 2309.00071): pairs that turn often keep their frequency, slow ones are divided by the factor, a
/// ramp between. Rounding of the ramp's ends as in transformers, where a model's `truncate` is true by default.
fn yarn(rope: &RopeConfig, rounds: bool, dims: f64, theta: f64, freqs: &mut [f64]) {
    let n_ctx_orig = f64::from(rope.n_ctx_orig);
    let dim = |turns: f32| dims * (n_ctx_orig / (f64::from(turns) * std::f64::consts::TAU)).ln() / (2.0 * theta.ln());
    let (low, high) = (dim(rope.beta_fast), dim(rope.beta_slow));
    let (low, high) = if rounds { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(dims - 1.0));
    for (i, f) in freqs.iter_mut().enumerate() {
        let ramp = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
        *f = *f * (1.0 - ramp) + *f / f64::from(rope.factor) * ramp;
    }
}
