//! Families with layers that keep a state.

use super::experts;
use super::gemma::NORMS;
use crate::convert::hf::Field;
use crate::convert::names::{DeltaPart, From, Heads, HfFamily, How, Rule, StateLayers, Turned, key, same, with};

/// Names that Mamba 1 and 2 share.
const MIXER: &[Rule] = &[
    same("token_embd", "embeddings"),
    same("output_norm", "norm_f"),
    same("blk.{}.attn_norm", "layers.{}.norm"),
    same("blk.{}.ssm_in", "layers.{}.mixer.in_proj"),
    with("blk.{}.ssm_conv1d", "layers.{}.mixer.conv1d", &[How::Squeeze]),
    same("blk.{}.ssm_out", "layers.{}.mixer.out_proj"),
];

/// Mamba 1. Source: transformers `modeling_mamba.py`.
pub(in crate::convert) const MAMBA: HfFamily = HfFamily {
    names: &["MambaForCausalLM"],
    arch: "mamba",
    rules: &[
        MIXER,
        &[
            same("blk.{}.ssm_x", "layers.{}.mixer.x_proj"),
            same("blk.{}.ssm_dt", "layers.{}.mixer.dt_proj"),
            with("blk.{}.ssm_a!", "layers.{}.mixer.A_log", &[How::NegExp]),
            same("blk.{}.ssm_d!", "layers.{}.mixer.D"),
        ],
    ],
    keys: &[
        key("feed_forward_length", From::Fixed(0)),
        key("attention.layer_norm_rms_epsilon", From::Float(Field::StateEps)),
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.inner_size", From::Product(Field::StateExpand, Field::Width)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.time_step_rank", From::OrSixteenth(Field::StateRank, Field::Width)),
        key("ssm.dt_b_c_rms", From::Bool(false)),
    ],
    // What it was trained with says nothing of how far it goes: llama.cpp's number for "far".
    defaults: &[
        (Field::Heads, 0.0),
        (Field::Context, 1048576.0),
        (Field::StateEps, 1e-5),
        (Field::ConvKernel, 4.0),
        (Field::StateExpand, 2.0),
        (Field::StateSize, 16.0),
        (Field::Tied, 1.0),
    ],
    omits: &[
        "attention.layer_norm_epsilon",
        "attention.key_length",
        "attention.value_length",
        "attention.head_count_kv",
    ],
    pre: &["gpt-2", "olmo"],
    ..HfFamily::LLAMA
};

/// FalconMamba: step sizes, inputs and outputs are normed without weights. Source: transformers
/// `modeling_falcon_mamba.py`.
pub(in crate::convert) const FALCON_MAMBA: HfFamily = HfFamily {
    names: &["FalconMambaForCausalLM"],
    keys: &[
        key("feed_forward_length", From::Fixed(0)),
        key("attention.layer_norm_rms_epsilon", From::Float(Field::StateEps)),
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.inner_size", From::Product(Field::StateExpand, Field::Width)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.time_step_rank", From::OrSixteenth(Field::StateRank, Field::Width)),
        key("ssm.dt_b_c_rms", From::Bool(true)),
    ],
    ..MAMBA
};

/// Mamba 2. Source: transformers `modeling_mamba2.py`.
pub(in crate::convert) const MAMBA2: HfFamily = HfFamily {
    names: &["Mamba2ForCausalLM"],
    arch: "mamba2",
    rules: &[
        MIXER,
        &[
            with("blk.{}.ssm_a!", "layers.{}.mixer.A_log", &[How::NegExp, How::Column]),
            with("blk.{}.ssm_d!", "layers.{}.mixer.D", &[How::Column]),
            same("blk.{}.ssm_dt.bias", "layers.{}.mixer.dt_bias"),
            with("blk.{}.ssm_norm", "layers.{}.mixer.norm", &[How::StateGroups]),
        ],
    ],
    keys: &[
        key("feed_forward_length", From::Fixed(0)),
        key("attention.layer_norm_rms_epsilon", From::Float(Field::StateEps)),
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.inner_size", From::Product(Field::StateExpand, Field::Width)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.time_step_rank", From::Uint(Field::StateHeads)),
        key("ssm.group_count", From::Uint(Field::StateGroups)),
    ],
    defaults: &[
        (Field::Heads, 0.0),
        (Field::Context, 1048576.0),
        (Field::StateEps, 1e-5),
        (Field::ConvKernel, 4.0),
        (Field::StateExpand, 2.0),
        (Field::StateSize, 128.0),
        (Field::StateHeads, 128.0),
        (Field::StateGroups, 8.0),
    ],
    ..MAMBA
};

/// LFM2: the width of its feed-forward parts is what their tensors have. Source: transformers `modeling_lfm2.py`.
pub(in crate::convert) const LFM2: HfFamily = HfFamily {
    names: &["Lfm2ForCausalLM"],
    arch: "lfm2",
    rules: &[&[
        same("token_embd_norm", "embedding_norm"),
        same("blk.{}.attn_norm", "layers.{}.operator_norm"),
        same("blk.{}.attn_q_norm", "layers.{}.self_attn.q_layernorm"),
        same("blk.{}.attn_k_norm", "layers.{}.self_attn.k_layernorm"),
        same("blk.{}.attn_output", "layers.{}.self_attn.out_proj"),
        same("blk.{}.shortconv.in_proj", "layers.{}.conv.in_proj"),
        with("blk.{}.shortconv.conv", "layers.{}.conv.conv", &[How::Squeeze]),
        same("blk.{}.shortconv.out_proj", "layers.{}.conv.out_proj"),
        same("blk.{}.ffn_norm", "layers.{}.ffn_norm"),
        same("blk.{}.ffn_gate", "layers.{}.feed_forward.w1"),
        same("blk.{}.ffn_down", "layers.{}.feed_forward.w2"),
        same("blk.{}.ffn_up", "layers.{}.feed_forward.w3"),
    ]],
    keys: &[
        key("feed_forward_length", From::RowsOf("blk.0.ffn_up.weight")),
        key("attention.layer_norm_rms_epsilon", From::Float(Field::StateEps)),
        key("shortconv.l_cache", From::Uint(Field::ConvKernel)),
    ],
    defaults: &[(Field::StateEps, 1e-5), (Field::RopeTheta, 1e6), (Field::ConvKernel, 3.0), (Field::Tied, 1.0)],
    omits: &["attention.layer_norm_epsilon"],
    state_layers: StateLayers::NoKvHeads,
    pre: &["llama-bpe"],
    ..HfFamily::LLAMA
};

/// The norm between the branches of Qwen 3.5 and Qwen3-Next; it holds the difference from 1, too.
const POST_NORM: &[Rule] = &[with("blk.{}.post_attention_norm", "layers.{}.post_attention_layernorm", &[How::AddOne])];

/// Qwen 3.5, dense: files have value heads in turn. Source: transformers `modeling_qwen3_5.py`.
pub(in crate::convert) const QWEN35: HfFamily = HfFamily {
    names: &["Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"],
    arch: "qwen35",
    rules: &[
        NORMS,
        POST_NORM,
        &[
            with("blk.{}.attn_qkv", "layers.{}.linear_attn.in_proj_qkv", &[How::InTurn(Turned::RowsBehindKeys)]),
            with("blk.{}.attn_gate", "layers.{}.linear_attn.in_proj_z", &[How::InTurn(Turned::Rows)]),
            with("blk.{}.ssm_beta", "layers.{}.linear_attn.in_proj_b", &[How::InTurn(Turned::Rows)]),
            with("blk.{}.ssm_alpha", "layers.{}.linear_attn.in_proj_a", &[How::InTurn(Turned::Rows)]),
            with(
                "blk.{}.ssm_conv1d",
                "layers.{}.linear_attn.conv1d",
                &[How::Squeeze, How::InTurn(Turned::RowsBehindKeys)],
            ),
            with("blk.{}.ssm_a!", "layers.{}.linear_attn.A_log", &[How::NegExp, How::InTurn(Turned::Rows)]),
            with("blk.{}.ssm_dt.bias", "layers.{}.linear_attn.dt_bias", &[How::InTurn(Turned::Rows)]),
            same("blk.{}.ssm_norm", "layers.{}.linear_attn.norm"),
            with("blk.{}.ssm_out", "layers.{}.linear_attn.out_proj", &[How::InTurn(Turned::Columns)]),
        ],
    ],
    keys: &[
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.group_count", From::Uint(Field::DeltaKeyHeads)),
        key("ssm.time_step_rank", From::Uint(Field::DeltaValueHeads)),
        key("ssm.inner_size", From::Product(Field::DeltaValueHeads, Field::DeltaValueDim)),
        key("full_attention_interval", From::Uint(Field::FullPeriod)),
    ],
    defaults: &[
        (Field::RmsEps, 1e-6),
        (Field::HeadDim, 256.0),
        (Field::FullPeriod, 4.0),
        (Field::PartialRotary, 0.25),
        (Field::ConvKernel, 4.0),
    ],
    state_layers: StateLayers::Listed,
    pre: &["qwen35", "qwen2"],
    ..HfFamily::LLAMA
};

/// Qwen 3.5 with experts. Source: transformers `modeling_qwen3_5_moe.py`.
pub(in crate::convert) const QWEN35MOE: HfFamily =
    HfFamily { names: &["Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"], arch: "qwen35moe", ..QWEN35 };

/// Qwen3-Next: inputs of a delta net stand together by key head; value heads keep their order. Source: transformers
/// `modeling_qwen3_next.py`.
pub(in crate::convert) const QWEN3_NEXT: HfFamily = HfFamily {
    names: &["Qwen3NextForCausalLM"],
    arch: "qwen3next",
    rules: &[
        NORMS,
        POST_NORM,
        &[
            with("blk.{}.attn_qkv", "layers.{}.linear_attn.in_proj_qkvz", &[How::OfKeyHeads(DeltaPart::Inputs)]),
            with("blk.{}.attn_gate", "layers.{}.linear_attn.in_proj_qkvz", &[How::OfKeyHeads(DeltaPart::Gate)]),
            same("blk.{}.ssm_ba", "layers.{}.linear_attn.in_proj_ba"),
            with("blk.{}.ssm_conv1d", "layers.{}.linear_attn.conv1d", &[How::Squeeze]),
            with("blk.{}.ssm_a!", "layers.{}.linear_attn.A_log", &[How::NegExp]),
            same("blk.{}.ssm_dt.bias", "layers.{}.linear_attn.dt_bias"),
            same("blk.{}.ssm_norm", "layers.{}.linear_attn.norm"),
            same("blk.{}.ssm_out", "layers.{}.linear_attn.out_proj"),
        ],
    ],
    expects: &[(Field::ExpertNorm, "true")],
    pre: &["qwen2"],
    ..QWEN35
};

/// LFM2 with experts. Source: transformers `modeling_lfm2_moe.py`.
pub(in crate::convert) const LFM2MOE: HfFamily = HfFamily {
    names: &["Lfm2MoeForCausalLM"],
    arch: "lfm2moe",
    rules: &[
        &[
            same("blk.{}.ffn_gate_inp", "layers.{}.feed_forward.gate"),
            same("blk.{}.exp_probs_b.bias", "layers.{}.feed_forward.expert_bias"),
            same("blk.{}.ffn_gate_exps", "layers.{}.feed_forward.experts.{e}.w1"),
            same("blk.{}.ffn_down_exps", "layers.{}.feed_forward.experts.{e}.w2"),
            same("blk.{}.ffn_up_exps", "layers.{}.feed_forward.experts.{e}.w3"),
        ],
        LFM2.rules[0],
    ],
    keys: &[
        key("feed_forward_length", From::RowsOf("blk.0.ffn_up.weight")),
        key("attention.layer_norm_rms_epsilon", From::Float(Field::StateEps)),
        key("shortconv.l_cache", From::Uint(Field::ConvKernel)),
        key("leading_dense_block_count", From::Uint(Field::LeadingDense)),
        key("expert_gating_func", From::Gating(2)),
    ],
    expects: &[(Field::ExpertNorm, "true"), (Field::ExpertScale, "1.0")],
    ..LFM2
};

/// Jamba. Source: transformers `modeling_jamba.py`.
pub(in crate::convert) const JAMBA: HfFamily = HfFamily {
    names: &["JambaForCausalLM"],
    arch: "jamba",
    rules: &[&[
        same("output_norm", "final_layernorm"),
        same("blk.{}.ssm_in", "layers.{}.mamba.in_proj"),
        with("blk.{}.ssm_conv1d", "layers.{}.mamba.conv1d", &[How::Squeeze]),
        same("blk.{}.ssm_x", "layers.{}.mamba.x_proj"),
        same("blk.{}.ssm_dt", "layers.{}.mamba.dt_proj"),
        same("blk.{}.ssm_dt_norm", "layers.{}.mamba.dt_layernorm"),
        same("blk.{}.ssm_b_norm", "layers.{}.mamba.b_layernorm"),
        same("blk.{}.ssm_c_norm", "layers.{}.mamba.c_layernorm"),
        with("blk.{}.ssm_a!", "layers.{}.mamba.A_log", &[How::NegExp]),
        same("blk.{}.ssm_d!", "layers.{}.mamba.D"),
        same("blk.{}.ssm_out", "layers.{}.mamba.out_proj"),
        same("blk.{}.ffn_norm", "layers.{}.pre_ff_layernorm"),
        same("blk.{}.ffn_gate", "layers.{}.feed_forward.gate_proj"),
        same("blk.{}.ffn_up", "layers.{}.feed_forward.up_proj"),
        same("blk.{}.ffn_down", "layers.{}.feed_forward.down_proj"),
        same("blk.{}.ffn_gate_inp", "layers.{}.feed_forward.router"),
        same("blk.{}.ffn_gate_exps", "layers.{}.feed_forward.experts.{e}.gate_proj"),
        same("blk.{}.ffn_up_exps", "layers.{}.feed_forward.experts.{e}.up_proj"),
        same("blk.{}.ffn_down_exps", "layers.{}.feed_forward.experts.{e}.down_proj"),
    ]],
    keys: &[
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.inner_size", From::Product(Field::StateExpand, Field::Width)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.time_step_rank", From::OrSixteenth(Field::StateRank, Field::Width)),
    ],
    defaults: &[
        (Field::RmsEps, 1e-6),
        (Field::ConvKernel, 4.0),
        (Field::StateExpand, 2.0),
        (Field::StateSize, 16.0),
        (Field::FullPeriod, 8.0),
        (Field::FullOffset, 4.0),
    ],
    state_layers: StateLayers::NoKvHeads,
    pre: &["default"],
    ..HfFamily::LLAMA
};

/// What every token of Granite 4 goes to beside its experts.
pub(super) const GRANITE4_SHARED: &[Rule] = &[
    with("blk.{}.ffn_gate_shexp", "layers.{}.shared_mlp.input_linear", &[How::RowPart(0, 2)]),
    with("blk.{}.ffn_up_shexp", "layers.{}.shared_mlp.input_linear", &[How::RowPart(1, 2)]),
    same("blk.{}.ffn_down_shexp", "layers.{}.shared_mlp.output_linear"),
];

/// Granite 4 with experts. Source: transformers `modeling_granitemoehybrid.py`.
pub(in crate::convert) const GRANITE_HYBRID: HfFamily = HfFamily {
    names: &["GraniteMoeHybridForCausalLM"],
    arch: "granitehybrid",
    rules: &[
        &[
            same("blk.{}.ssm_in", "layers.{}.mamba.in_proj"),
            with("blk.{}.ssm_conv1d", "layers.{}.mamba.conv1d", &[How::Squeeze]),
            with("blk.{}.ssm_a!", "layers.{}.mamba.A_log", &[How::NegExp, How::Column]),
            with("blk.{}.ssm_d!", "layers.{}.mamba.D", &[How::Column]),
            same("blk.{}.ssm_dt.bias", "layers.{}.mamba.dt_bias"),
            with("blk.{}.ssm_norm", "layers.{}.mamba.norm", &[How::StateGroups]),
            same("blk.{}.ssm_out", "layers.{}.mamba.out_proj"),
        ],
        GRANITE4_SHARED,
        experts::GRANITE.rules[0],
        experts::GRANITE.rules[1],
    ],
    keys: &[
        key("context_length", From::Fixed(1 << 20)),
        key("attention.scale", From::Float(Field::AttnScale)),
        key("embedding_scale", From::Float(Field::EmbedScale)),
        key("residual_scale", From::Float(Field::ResidualScale)),
        key("logit_scale", From::Float(Field::LogitScale)),
        key("expert_shared_feed_forward_length", From::Uint(Field::SharedFf)),
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.group_count", From::Uint(Field::StateGroups)),
        key("ssm.inner_size", From::Product(Field::StateExpand, Field::Width)),
        key("ssm.time_step_rank", From::Uint(Field::StateHeads)),
        key("rope.scaling.finetuned", From::Is(Field::Positions, "rope")),
    ],
    state_layers: StateLayers::NoKvHeads,
    ..experts::GRANITE
};

/// Nemotron-H with experts, Nemotron 3 Nano: one branch per layer, whose kinds the folder lists or spells out. Source:
/// transformers `modeling_nemotron_h.py`.
pub(in crate::convert) const NEMOTRON_H: HfFamily = HfFamily {
    names: &["NemotronHForCausalLM"],
    arch: "nemotron_h_moe",
    rules: &[
        MIXER,
        MAMBA2.rules[1],
        &[
            // Nothing rotates: the order is that of llama.cpp's files.
            with("blk.{}.attn_q", "layers.{}.mixer.q_proj", &[How::Pairs(Heads::Query)]),
            with("blk.{}.attn_k", "layers.{}.mixer.k_proj", &[How::Pairs(Heads::KeyValue)]),
            same("blk.{}.attn_v", "layers.{}.mixer.v_proj"),
            same("blk.{}.attn_output", "layers.{}.mixer.o_proj"),
            same("blk.{}.ffn_up", "layers.{}.mixer.up_proj"),
            same("blk.{}.ffn_down", "layers.{}.mixer.down_proj"),
            same("blk.{}.ffn_gate_inp", "layers.{}.mixer.gate"),
            same("blk.{}.exp_probs_b.bias", "layers.{}.mixer.gate.e_score_correction_bias"),
            same("blk.{}.ffn_up_exps", "layers.{}.mixer.experts.{e}.up_proj"),
            same("blk.{}.ffn_down_exps", "layers.{}.mixer.experts.{e}.down_proj"),
            same("blk.{}.ffn_up_shexp", "layers.{}.mixer.shared_experts.up_proj"),
            same("blk.{}.ffn_down_shexp", "layers.{}.mixer.shared_experts.down_proj"),
        ],
    ],
    keys: &[
        key("context_length", From::Fixed(1 << 20)),
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.group_count", From::Uint(Field::StateGroups)),
        key("ssm.inner_size", From::Product(Field::StateHeads, Field::StateHeadDim)),
        key("ssm.time_step_rank", From::Uint(Field::StateHeads)),
        key("rope.scaling.finetuned", From::False),
        key("expert_group_count", From::Uint(Field::ExpertGroups)),
        key("expert_group_used_count", From::Uint(Field::ExpertGroupsUsed)),
        key("expert_shared_count", From::Uint(Field::ExpertsShared)),
        key("expert_weights_scale", From::Float(Field::ExpertScale)),
        key("expert_weights_norm", From::Flag(Field::ExpertNorm)),
    ],
    defaults: &[(Field::LayerEps, 1e-5), (Field::HeadDim, 128.0)],
    expects: &[(Field::FfActivation, "\"relu2\""), (Field::ExpertLatent, "null")],
    state_layers: StateLayers::Branches,
    pre: &["tekken"],
    ..HfFamily::LLAMA
};
