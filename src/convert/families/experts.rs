//! Families with experts.

use super::{llama, others, phi, qwen};
use crate::convert::hf::Field;
use crate::convert::names::{From, HfFamily, How, Key, LATENT, PAIRS, Rule, Windows, key, same, with};

/// Experts of Mixtral and those that took its names.
pub(super) const NUMBERED: &[Rule] = &[
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

/// Phi-3.5-MoE: norms and projections with biases. Source: transformers `modeling_phimoe.py`.
pub(in crate::convert) const PHIMOE: HfFamily =
    HfFamily { names: &["PhiMoEForCausalLM", "PhimoeForCausalLM"], arch: "phimoe", rules: &[NUMBERED], ..phi::PHI3 };

/// MiniMax M2. Source: the model's `modeling_minimax_m2.py`.
pub(in crate::convert) const MINIMAX: HfFamily = HfFamily {
    names: &["MiniMaxM2ForCausalLM"],
    arch: "minimax-m2",
    rules: &[NUMBERED, &[same("blk.{}.exp_probs_b.bias", "layers.{}.block_sparse_moe.e_score_correction_bias")]],
    keys: &[key("expert_gating_func", From::Gating(2)), key("expert_feed_forward_length", From::Uint(Field::Ff))],
    pre: &["minimax-m2", "gpt-2"],
    ..HfFamily::LLAMA
};

/// Keys of families with groups of experts and shared ones, which follow DeepSeek.
const GROUPED_KEYS: &[Key] = &[
    key("expert_group_count", From::Uint(Field::ExpertGroups)),
    key("expert_group_used_count", From::Uint(Field::ExpertGroupsUsed)),
    key("expert_gating_func", From::Gating(2)),
    key("expert_shared_count", From::Uint(Field::ExpertsShared)),
    key("expert_weights_scale", From::Float(Field::ExpertScale)),
    key("expert_weights_norm", From::Flag(Field::ExpertNorm)),
    key("leading_dense_block_count", From::Uint(Field::LeadingDense)),
];

/// dots.llm1. Source: transformers `modeling_dots1.py`.
pub(in crate::convert) const DOTS1: HfFamily = HfFamily {
    names: &["Dots1ForCausalLM"],
    arch: "dots1",
    rules: &[],
    keys: GROUPED_KEYS,
    pre: &["qwen2"],
    ..HfFamily::LLAMA
};

/// GLM 4.5. Source: transformers `modeling_glm4_moe.py`.
pub(in crate::convert) const GLM4: HfFamily = HfFamily {
    names: &["Glm4MoeForCausalLM"],
    arch: "glm4moe",
    rules: &[&[same("blk.{}.post_attention_norm", "layers.{}.post_attention_layernorm")]],
    keys: GROUPED_KEYS,
    defaults: &[(Field::PartialRotary, 0.5)],
    pre: &["glm4", "chatglm-bpe"],
    ..HfFamily::LLAMA
};

/// Keys of families with latent attention; `gating` is what scores are where the folder is silent.
const fn latent_keys(gating: u32) -> [Key; 14] {
    [
        key("attention.head_count_kv", From::Fixed(1)),
        key("attention.q_lora_rank", From::Uint(Field::QueryRank)),
        key("attention.kv_lora_rank", From::Uint(Field::KvRank)),
        key("attention.key_length", From::Sum(Field::KvRank, Field::RotaryDim)),
        key("attention.value_length", From::Uint(Field::KvRank)),
        key("attention.key_length_mla", From::Sum(Field::NopeDim, Field::RotaryDim)),
        key("attention.value_length_mla", From::Uint(Field::ValueDim)),
        key("expert_group_count", From::Uint(Field::ExpertGroups)),
        key("expert_group_used_count", From::Uint(Field::ExpertGroupsUsed)),
        key("expert_gating_func", From::Gating(gating)),
        key("expert_shared_count", From::Uint(Field::ExpertsShared)),
        key("expert_weights_scale", From::Float(Field::ExpertScale)),
        key("expert_weights_norm", From::Flag(Field::ExpertNorm)),
        key("leading_dense_block_count", From::Uint(Field::LeadingDense)),
    ]
}

/// The same and those of the choice of positions.
const fn with_indexer(keys: [Key; 14]) -> [Key; 17] {
    let mut all = [key("attention.indexer.head_count", From::Uint(Field::IndexHeads)); 17];
    let mut i = 0;
    while i < keys.len() {
        all[i] = keys[i];
        i += 1;
    }
    all[15] = key("attention.indexer.key_length", From::Uint(Field::IndexDim));
    all[16] = key("attention.indexer.top_k", From::Uint(Field::IndexTop));
    all
}

/// DeepSeek V2, V3 and R1, Kimi K2: keys and values from a latent, whose two halves are kept apart so that queries can
/// be taken into it. Source: transformers `modeling_deepseek_v3.py`; key lengths are those of the absorbed form.
pub(in crate::convert) const DEEPSEEK2: HfFamily = HfFamily {
    names: &["DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "KimiK2ForCausalLM"],
    arch: "deepseek2",
    rules: &[LATENT],
    keys: &latent_keys(1),
    yarn_log: 0.1,
    pre: &["deepseek-v3", "deepseek-llm"],
    // Kimi K2's.
    tiktoken_pre: Some("kimi-k2"),
    ..HfFamily::LLAMA
};

/// DeepSeek V3.2: chosen positions. Source: transformers `modeling_deepseek_v32.py`.
pub(in crate::convert) const DEEPSEEK32: HfFamily = HfFamily {
    names: &["DeepseekV32ForCausalLM"],
    arch: "deepseek32",
    rules: &[
        LATENT,
        &[
            same("blk.{}.indexer.attn_q_b", "layers.{}.self_attn.indexer.wq_b"),
            same("blk.{}.indexer.attn_k", "layers.{}.self_attn.indexer.wk"),
            same("blk.{}.indexer.k_norm", "layers.{}.self_attn.indexer.k_norm"),
            same("blk.{}.indexer.proj", "layers.{}.self_attn.indexer.weights_proj"),
        ],
    ],
    keys: &with_indexer(latent_keys(2)),
    ..DEEPSEEK2
};

/// GLM-4.7-Flash: the same computation. Source: transformers `modeling_glm4_moe_lite.py`, whose scores are always
/// sigmoids.
pub(in crate::convert) const GLM4_LITE: HfFamily = HfFamily {
    names: &["Glm4MoeLiteForCausalLM"],
    keys: &latent_keys(2),
    defaults: &[(Field::RmsEps, 1e-5)],
    pre: &["glm4", "chatglm-bpe"],
    ..DEEPSEEK2
};

/// DeepSeek-MoE 16B: a Llama with experts. Source: the model's `modeling_deepseek.py`.
pub(in crate::convert) const DEEPSEEK: HfFamily = HfFamily {
    names: &["DeepseekForCausalLM"],
    arch: "deepseek",
    keys: &[
        key("rope.scaling.type", From::Text("none")),
        key("expert_gating_func", From::Gating(1)),
        key("expert_shared_count", From::Uint(Field::ExpertsShared)),
        key("expert_weights_scale", From::Float(Field::ExpertScale)),
        key("expert_weights_norm", From::Flag(Field::ExpertNorm)),
        key("leading_dense_block_count", From::Uint(Field::LeadingDense)),
    ],
    defaults: &[(Field::RmsEps, 1e-6), (Field::ExpertScale, 1.0)],
    pre: &["deepseek-v3", "deepseek-llm"],
    ..HfFamily::LLAMA
};

/// ERNIE 4.5 with experts. Source: transformers `modeling_ernie4_5_moe.py`.
pub(in crate::convert) const ERNIE: HfFamily = HfFamily {
    names: &["Ernie4_5_MoeForCausalLM"],
    arch: "ernie4_5-moe",
    rules: &[&[same("blk.{}.exp_probs_b.bias", "layers.{}.mlp.moe_statics.e_score_correction_bias")]],
    keys: &[
        key("interleave_moe_layer_step", From::Uint(Field::MoeStep)),
        key("leading_dense_block_count", From::Uint(Field::LeadingDense)),
        key("expert_shared_count", From::Uint(Field::ExpertsShared)),
        key("expert_shared_feed_forward_length", From::Product(Field::ExpertFf, Field::ExpertsShared)),
    ],
    ..others::ERNIE4_5
};

/// Hunyuan A13B. Source: transformers `modeling_hunyuan_v1_moe.py`.
pub(in crate::convert) const HUNYUAN: HfFamily = HfFamily {
    names: &["HunYuanMoEV1ForCausalLM"],
    arch: "hunyuan-moe",
    rules: &[
        &[
            same("blk.{}.ffn_gate_inp", "layers.{}.mlp.gate.wg"),
            same("blk.{}.ffn_gate_shexp", "layers.{}.mlp.shared_mlp.gate_proj"),
            same("blk.{}.ffn_up_shexp", "layers.{}.mlp.shared_mlp.up_proj"),
            same("blk.{}.ffn_down_shexp", "layers.{}.mlp.shared_mlp.down_proj"),
        ],
        others::HUNYUAN_NORMS,
    ],
    keys: &[
        key("expert_shared_count", From::Uint(Field::ExpertsShared)),
        key("expert_shared_feed_forward_length", From::Product(Field::Ff, Field::ExpertsShared)),
    ],
    pre: &["hunyuan", "llama-bpe"],
    ..others::HUNYUAN
};

/// gpt-oss: gate and up interleaved, blocks of 4 bits. Source: transformers `modeling_gpt_oss.py`. The form in BF16 has
/// its matrices transposed.
pub(in crate::convert) const GPT_OSS: HfFamily = HfFamily {
    names: &["GptOssForCausalLM"],
    arch: "gpt-oss",
    rules: &[&[
        same("blk.{}.post_attention_norm", "layers.{}.post_attention_layernorm"),
        same("blk.{}.attn_sinks.weight", "layers.{}.self_attn.sinks"),
        same("blk.{}.ffn_gate_inp", "layers.{}.mlp.router"),
        with("blk.{}.ffn_gate_exps.weight", "layers.{}.mlp.experts.gate_up_proj_blocks", &[How::RowEvery(0, 2)]),
        with("blk.{}.ffn_up_exps.weight", "layers.{}.mlp.experts.gate_up_proj_blocks", &[How::RowEvery(1, 2)]),
        same("blk.{}.ffn_down_exps.weight", "layers.{}.mlp.experts.down_proj_blocks"),
        with(
            "blk.{}.ffn_gate_exps.weight",
            "layers.{}.mlp.experts.gate_up_proj",
            &[How::Transpose, How::RowEvery(0, 2)],
        ),
        with("blk.{}.ffn_up_exps.weight", "layers.{}.mlp.experts.gate_up_proj", &[How::Transpose, How::RowEvery(1, 2)]),
        with("blk.{}.ffn_down_exps.weight", "layers.{}.mlp.experts.down_proj", &[How::Transpose]),
        with("blk.{}.ffn_gate_exps.bias", "layers.{}.mlp.experts.gate_up_proj_bias", &[How::LastEvery(0, 2)]),
        with("blk.{}.ffn_up_exps.bias", "layers.{}.mlp.experts.gate_up_proj_bias", &[How::LastEvery(1, 2)]),
        same("blk.{}.ffn_down_exps.bias", "layers.{}.mlp.experts.down_proj_bias"),
    ]],
    keys: &[key("expert_feed_forward_length", From::Uint(Field::Ff))],
    windows: Windows::Period(2),
    pre: &["gpt-4o"],
    ..HfFamily::LLAMA
};

/// Llama 4: rotations of neighbours in both worlds; matrices of experts are stored [in, out]. Source: transformers
/// `modeling_llama4.py`.
pub(in crate::convert) const LLAMA4: HfFamily = HfFamily {
    names: &["Llama4ForCausalLM", "Llama4ForConditionalGeneration"],
    arch: "llama4",
    rules: &[&[
        same("blk.{}.ffn_gate_inp", "layers.{}.feed_forward.router"),
        with(
            "blk.{}.ffn_gate_exps.weight",
            "layers.{}.feed_forward.experts.gate_up_proj",
            &[How::Transpose, How::RowPart(0, 2)],
        ),
        with(
            "blk.{}.ffn_up_exps.weight",
            "layers.{}.feed_forward.experts.gate_up_proj",
            &[How::Transpose, How::RowPart(1, 2)],
        ),
        with("blk.{}.ffn_down_exps.weight", "layers.{}.feed_forward.experts.down_proj", &[How::Transpose]),
        same("blk.{}.ffn_gate_shexp", "layers.{}.feed_forward.shared_expert.gate_proj"),
        same("blk.{}.ffn_up_shexp", "layers.{}.feed_forward.shared_expert.up_proj"),
        same("blk.{}.ffn_down_shexp", "layers.{}.feed_forward.shared_expert.down_proj"),
        same("blk.{}.ffn_gate", "layers.{}.feed_forward.gate_proj"),
        same("blk.{}.ffn_up", "layers.{}.feed_forward.up_proj"),
        same("blk.{}.ffn_down", "layers.{}.feed_forward.down_proj"),
    ]],
    keys: &[
        key("interleave_moe_layer_step", From::Uint(Field::MoeStep)),
        key("feed_forward_length", From::Uint(Field::DenseFf)),
        key("expert_feed_forward_length", From::Uint(Field::Ff)),
        key("attention.sliding_window", From::Uint(Field::Chunk)),
        key("attention.temperature_length", From::Uint(Field::FloorScale)),
        key("attention.temperature_scale", From::Float(Field::WarmScale)),
    ],
    pre: &["llama4"],
    ..HfFamily::LLAMA
};
