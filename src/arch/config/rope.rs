//! How positions turn queries and keys.

use super::MAX_SIZE;
use super::keys::Keys;
use crate::error::{Result, printable};

/// Kinds of rotation scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeScaling {
    /// None that a key names; factor tensors act all the same.
    None,
    /// Factors in `rope_freqs.weight`.
    Llama3,
    /// Factors in `rope_factors_long.weight` and `rope_factors_short.weight`.
    Longrope,
    /// Frequencies divided by the factor.
    Linear,
    /// YaRN, Peng et al. 2023 (arXiv 2309.00071).
    Yarn,
}

/// The rotation's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Dims of a head that rotate; absent: all.
    pub n_rot: Option<u32>,
    /// Base of the frequencies.
    pub theta: f32,
    /// Base in windowed layers.
    pub theta_swa: Option<f32>,
    /// Formula.
    pub scaling: RopeScaling,
    /// Factor of the formula.
    pub factor: f32,
    /// Context that the model was trained with before scaling.
    pub n_ctx_orig: u32,
    /// Does the file say so, and hence mean to scale?
    pub is_extended: bool,
    /// Factor of cos and sin; wins over yarn's formula.
    pub attn_factor: Option<f32>,
    /// Yarn's correction range.
    pub beta_fast: f32,
    /// Yarn's correction range.
    pub beta_slow: f32,
    /// A file with this key has cancelled yarn's amplitude; latent attention scales scores by it.
    pub log_multiplier: Option<f32>,
    /// Some families' switch of the whole rotation.
    pub finetuned: Option<bool>,
}

impl RopeConfig {
    pub(super) fn read(keys: &Keys<'_>, n_ctx_train: u32, head_dim: u32) -> Result<RopeConfig> {
        let n_rot = keys.size("rope.dimension_count", 0..=MAX_SIZE)?.filter(|&n| n > 0);
        if n_rot.is_none() && !head_dim.is_multiple_of(2) {
            let name = keys.name("attention.key_length");
            return Err(keys.meta.key_error(&name, head_dim, "an even number, or `rope.dimension_count` beside it"));
        }
        if let Some(n) = n_rot
            && (n % 2 != 0 || n > head_dim)
        {
            let name = keys.name("rope.dimension_count");
            return Err(keys.meta.key_error(&name, n, format!("an even number up to the head's {head_dim}")));
        }
        let name = keys.name("rope.scaling.type");
        let scaling = match keys.meta.str(&name)? {
            None | Some("none") => RopeScaling::None,
            Some("llama3") => RopeScaling::Llama3,
            Some("longrope") => RopeScaling::Longrope,
            Some("linear") => RopeScaling::Linear,
            Some("yarn") => RopeScaling::Yarn,
            Some(other) => {
                return Err(keys.meta.key_error(
                    &name,
                    format!("`{}`", printable(other)),
                    "none, linear, yarn or longrope",
                ));
            }
        };
        // Files of 2023 carry `rope.scale_linear` instead of a type and a factor.
        let old = keys.positive("rope.scale_linear")?.filter(|&f| f != 1.0);
        let factor = match scaling {
            RopeScaling::Linear | RopeScaling::Yarn => {
                Some(keys.above_zero("rope.scaling.factor")?.ok_or_else(|| keys.missing("rope.scaling.factor"))?)
            }
            _ => keys.positive("rope.scaling.factor")?,
        };
        let scaling = if old.is_some() && factor.is_none() { RopeScaling::Linear } else { scaling };
        let n_ctx_orig = keys.size("rope.scaling.original_context_length", 0..=u32::MAX)?.filter(|&n| n > 0);
        if scaling == RopeScaling::Yarn && n_ctx_orig.unwrap_or(n_ctx_train) == 0 {
            return Err(keys.missing("rope.scaling.original_context_length"));
        }
        Ok(RopeConfig {
            n_rot,
            // What Su et al. chose (arXiv 2104.09864); converters leave it out where a model keeps it (Phi-2, Gemma).
            theta: keys.above_zero("rope.freq_base")?.unwrap_or(10000.0),
            theta_swa: keys.above_zero("rope.freq_base_swa")?,
            scaling,
            factor: factor.or(old).unwrap_or(1.0),
            n_ctx_orig: n_ctx_orig.unwrap_or(n_ctx_train),
            is_extended: n_ctx_orig.is_some(),
            attn_factor: keys.positive("rope.scaling.attn_factor")?,
            beta_fast: keys.above_zero("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.above_zero("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            finetuned: keys.meta.bool(&keys.name("rope.scaling.finetuned"))?,
            log_multiplier: keys.finite("rope.scaling.yarn_log_multiplier")?,
        })
    }
}
