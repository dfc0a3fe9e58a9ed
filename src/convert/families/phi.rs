//! Phi 2, 3, 3.5 and 4.

use crate::convert::hf::Field;
use crate::convert::names::{HfFamily, Longrope, Rule, Windows, same};

const PHI2_NAMES: &[Rule] = &[
    same("output_norm", "final_layernorm"),
    same("blk.{}.attn_output", "layers.{}.self_attn.dense"),
    same("blk.{}.ffn_up", "layers.{}.mlp.fc1"),
    same("blk.{}.ffn_down", "layers.{}.mlp.fc2"),
];

const FUSED: &[Rule] =
    &[same("blk.{}.attn_qkv", "layers.{}.self_attn.qkv_proj"), same("blk.{}.ffn_up", "layers.{}.mlp.gate_up_proj")];

/// Phi-2. Source: transformers `modeling_phi.py`.
pub(in crate::convert) const PHI2: HfFamily = HfFamily {
    names: &["PhiForCausalLM"],
    arch: "phi2",
    rules: &[PHI2_NAMES],
    defaults: &[(Field::LayerEps, 1e-5), (Field::PartialRotary, 0.5), (Field::RopeTheta, 1e4)],
    pre: &["gpt-2"],
    ..HfFamily::LLAMA
};

/// Phi-3, 3.5 and 4. Source: transformers `modeling_phi3.py`.
pub(in crate::convert) const PHI3: HfFamily = HfFamily {
    names: &["Phi3ForCausalLM"],
    arch: "phi3",
    rules: &[FUSED],
    defaults: &[(Field::RmsEps, 1e-5), (Field::RopeTheta, 1e4)],
    longrope: Longrope::Tensors,
    windows: Windows::Period(0),
    names_no_window: true,
    pre: &["gpt-4o", "dbrx"],
    ..HfFamily::LLAMA
};
