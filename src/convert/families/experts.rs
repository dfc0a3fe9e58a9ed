//! Families with experts.

use super::{llama, others, qwen};
use crate::convert::names::{HfFamily, How, PAIRS, Rule, same, with};

const NUMBERED: &[Rule] = &[
    same("blk.{}.ffn_gate_inp", "layers.{}.block_sparse_moe.gate"),
    same("blk.{}.ffn_gate_exps", "layers.{}.block_sparse_moe.experts.{e}.w1"),
    same("blk.{}.ffn_down_exps", "layers.{}.block_sparse_moe.experts.{e}.w2"),
    same("blk.{}.ffn_up_exps", "layers.{}.block_sparse_moe.experts.{e}.w3"),
];

/// Mixtral. Source: transformers `modeling_mixtral.py`.
pub(in crate::convert) const MIXTRAL: HfFamily =
    HfFamily { names: &["MixtralForCausalLM"], rules: &[PAIRS, NUMBERED], ..llama::MISTRAL };

/// Qwen 1.5 and 2 with experts. Source: transformers `modeling_qwen2_moe.py`.
pub(in crate::convert) const QWEN2: HfFamily =
    HfFamily { names: &["Qwen2MoeForCausalLM"], arch: "qwen2moe", ..qwen::QWEN2 };

/// Qwen 3 with experts. Source: transformers `modeling_qwen3_moe.py`.
pub(in crate::convert) const QWEN3: HfFamily =
    HfFamily { names: &["Qwen3MoeForCausalLM"], arch: "qwen3moe", ..qwen::QWEN3 };

/// OLMoE. Source: transformers `modeling_olmoe.py`.
pub(in crate::convert) const OLMOE: HfFamily =
    HfFamily { names: &["OlmoeForCausalLM"], arch: "olmoe", rules: &[], ..others::OLMO2 };

/// Granite 3 with experts: gate and up in one. Source: transformers `modeling_granitemoe.py`.
pub(in crate::convert) const GRANITE: HfFamily = HfFamily {
    names: &["GraniteMoeForCausalLM"],
    arch: "granitemoe",
    rules: &[
        PAIRS,
        &[
            same("blk.{}.ffn_gate_inp", "layers.{}.block_sparse_moe.router.layer"),
            with("blk.{}.ffn_gate_exps", "layers.{}.block_sparse_moe.input_linear", &[How::RowPart(0, 2)]),
            with("blk.{}.ffn_up_exps", "layers.{}.block_sparse_moe.input_linear", &[How::RowPart(1, 2)]),
            same("blk.{}.ffn_down_exps", "layers.{}.block_sparse_moe.output_linear"),
        ],
    ],
    pre: &["starcoder"],
    ..llama::GRANITE
};
