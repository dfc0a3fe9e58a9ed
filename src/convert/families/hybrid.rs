//! Families whose layers have attention beside a state, or one of the two; and folders of such classes that lack the
//! other, or experts.

use super::{experts, llama, recurrent};
use crate::convert::hf::Field;
use crate::convert::names::{Dim, Factor, Form, From, HfFamily, How, LATENT, PAIRS, StateLayers, key, same, with};

/// Falcon-H1: attention and Mamba 2 read one norm in every layer; files have its factors in their matrices. Source:
/// transformers `modeling_falcon_h1.py`.
pub(in crate::convert) const FALCON_H1: HfFamily = HfFamily {
    names: &["FalconH1ForCausalLM"],
    arch: "falcon-h1",
    rules: &[&[
        // With tied embeddings the head has another factor than they have, so it is a matrix of its own.
        with("output", "lm_head", &[How::Times(Factor::Head)]),
        with("output.weight", "embed_tokens.weight", &[How::Times(Factor::Head)]),
        with("token_embd", "embed_tokens", &[How::Times(Factor::Embeddings)]),
        same("output_norm", "final_layernorm"),
        with("blk.{}.attn_q", "layers.{}.self_attn.q_proj", &[How::Times(Factor::AttnIn)]),
        with("blk.{}.attn_k", "layers.{}.self_attn.k_proj", &[How::Times(Factor::Keys)]),
        with("blk.{}.attn_v", "layers.{}.self_attn.v_proj", &[How::Times(Factor::AttnIn)]),
        with("blk.{}.attn_output", "layers.{}.self_attn.o_proj", &[How::Times(Factor::AttnOut)]),
        with("blk.{}.ssm_in", "layers.{}.mamba.in_proj", &[How::TimesParts]),
        with("blk.{}.ssm_conv1d", "layers.{}.mamba.conv1d", &[How::Squeeze]),
        with("blk.{}.ssm_a!", "layers.{}.mamba.A_log", &[How::NegExp, How::Column]),
        with("blk.{}.ssm_d!", "layers.{}.mamba.D", &[How::Column]),
        same("blk.{}.ssm_dt.bias", "layers.{}.mamba.dt_bias"),
        with("blk.{}.ssm_norm", "layers.{}.mamba.norm", &[How::StateGroups]),
        with("blk.{}.ssm_out", "layers.{}.mamba.out_proj", &[How::Times(Factor::StateOut)]),
        same("blk.{}.ffn_norm!", "layers.{}.pre_ff_layernorm.weight"),
        with("blk.{}.ffn_gate", "layers.{}.feed_forward.gate_proj", &[How::Times(Factor::Gate)]),
        same("blk.{}.ffn_up", "layers.{}.feed_forward.up_proj"),
        with("blk.{}.ffn_down", "layers.{}.feed_forward.down_proj", &[How::Times(Factor::Down)]),
    ]],
    keys: &[
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.inner_size", From::OrProduct(Field::StateInner, Field::StateExpand, Field::Width)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.time_step_rank", From::Uint(Field::StateHeads)),
        key("ssm.group_count", From::Uint(Field::StateGroups)),
    ],
    defaults: &[
        (Field::RmsEps, 1e-5),
        (Field::ConvKernel, 4.0),
        (Field::StateExpand, 2.0),
        (Field::StateSize, 256.0),
        (Field::StateHeads, 128.0),
        (Field::StateGroups, 1.0),
    ],
    // A bias has fewer of the factors than its matrix.
    expects: &[
        (Field::AttnBias, "false"),
        (Field::FfBias, "false"),
        (Field::StateBias, "false"),
        (Field::ProjectorBias, "false"),
    ],
    pre: &["falcon-h1", "falcon"],
    ..HfFamily::LLAMA
};

/// Kimi Linear: delta attention between layers with latent attention. Source: the model's `modeling_kimi.py`.
pub(in crate::convert) const KIMI_LINEAR: HfFamily = HfFamily {
    names: &["KimiLinearForCausalLM"],
    arch: "kimi-linear",
    rules: &[
        LATENT,
        experts::NUMBERED,
        &[
            same("blk.{}.exp_probs_b.bias", "layers.{}.block_sparse_moe.gate.e_score_correction_bias"),
            same("blk.{}.ffn_gate_shexp", "layers.{}.block_sparse_moe.shared_experts.gate_proj"),
            same("blk.{}.ffn_up_shexp", "layers.{}.block_sparse_moe.shared_experts.up_proj"),
            same("blk.{}.ffn_down_shexp", "layers.{}.block_sparse_moe.shared_experts.down_proj"),
            // So transformers writes layers without experts.
            same("blk.{}.ffn_gate", "layers.{}.block_sparse_moe.gate_proj"),
            same("blk.{}.ffn_up", "layers.{}.block_sparse_moe.up_proj"),
            same("blk.{}.ffn_down", "layers.{}.block_sparse_moe.down_proj"),
            with("blk.{}.ssm_conv1d_q", "layers.{}.self_attn.q_conv1d", CONV),
            with("blk.{}.ssm_conv1d_k", "layers.{}.self_attn.k_conv1d", CONV),
            with("blk.{}.ssm_conv1d_v", "layers.{}.self_attn.v_conv1d", CONV),
            with(
                "blk.{}.ssm_a!",
                "layers.{}.self_attn.A_log",
                &[How::NegExp, How::Four([Dim::One, Dim::One, Dim::All, Dim::One])],
            ),
            same("blk.{}.ssm_dt.bias", "layers.{}.self_attn.dt_bias"),
            same("blk.{}.ssm_beta", "layers.{}.self_attn.b_proj"),
            same("blk.{}.ssm_f_a", "layers.{}.self_attn.f_a_proj"),
            same("blk.{}.ssm_f_b", "layers.{}.self_attn.f_b_proj"),
            same("blk.{}.ssm_g_a", "layers.{}.self_attn.g_a_proj"),
            same("blk.{}.ssm_g_b", "layers.{}.self_attn.g_b_proj"),
            same("blk.{}.ssm_norm", "layers.{}.self_attn.o_norm"),
        ],
    ],
    keys: &[
        key("attention.q_lora_rank", From::Uint(Field::QueryRank)),
        key("attention.kv_lora_rank", From::Uint(Field::KvRank)),
        key("attention.key_length", From::Sum(Field::KvRank, Field::RotaryDim)),
        key("attention.key_length_mla", From::Sum(Field::NopeDim, Field::RotaryDim)),
        key("attention.value_length_mla", From::Uint(Field::ValueDim)),
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("kda.head_dim", From::Uint(Field::LinearHeadDim)),
        key("expert_group_count", From::Uint(Field::ExpertGroups)),
        key("expert_group_used_count", From::Uint(Field::ExpertGroupsUsed)),
        key("expert_gating_func", From::Gating(2)),
        key("expert_shared_count", From::Uint(Field::ExpertsShared)),
        key("expert_weights_scale", From::Float(Field::ExpertScale)),
        key("expert_weights_norm", From::Flag(Field::ExpertNorm)),
        key("leading_dense_block_count", From::LeadingDense),
    ],
    defaults: &[(Field::RmsEps, 1e-6), (Field::ExpertScale, 1.0), (Field::ExpertNorm, 1.0)],
    // Kimi K3 is of this class in transformers.
    expects: &[
        (Field::NoRotation, "true"),
        (Field::OutputGate, "false"),
        (Field::ResidualBlock, "0"),
        (Field::ExpertPeriod, "1"),
        (Field::Activation, "\"silu\""),
    ],
    state_layers: StateLayers::NoLatentHead,
    pre: &["deepseek-v3", "kimi-k2"],
    tiktoken_pre: Some("kimi-k2"),
    ..HfFamily::LLAMA
};

const CONV: &[How] = &[How::Four([Dim::One, Dim::First, Dim::One, Dim::Last])];

/// Granite 4 without experts. Source: transformers `modeling_granitemoehybrid.py`.
pub(in crate::convert) const GRANITE_HYBRID_DENSE: HfFamily = HfFamily {
    form: Form { experts: Some(false), states: Some(true) },
    rules: &[llama::GRANITE4_FF, recurrent::GRANITE_HYBRID.rules[0], PAIRS],
    keys: &[
        key("context_length", From::Fixed(1 << 20)),
        llama::MULTIPLIERS[0],
        llama::MULTIPLIERS[1],
        llama::MULTIPLIERS[2],
        llama::MULTIPLIERS[3],
        key("feed_forward_length", From::Uint(Field::SharedFf)),
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.group_count", From::Uint(Field::StateGroups)),
        key("ssm.inner_size", From::Product(Field::StateExpand, Field::Width)),
        key("ssm.time_step_rank", From::Uint(Field::StateHeads)),
        key("rope.scaling.finetuned", From::Is(Field::Positions, "rope")),
    ],
    ..recurrent::GRANITE_HYBRID
};

/// Granite 4 with experts and without states. Source: transformers `modeling_granitemoehybrid.py`.
pub(in crate::convert) const GRANITE4_MOE: HfFamily = HfFamily {
    names: &["GraniteMoeHybridForCausalLM"],
    form: Form { experts: Some(true), states: Some(false) },
    rules: &[recurrent::GRANITE4_SHARED, PAIRS, experts::GRANITE.rules[1]],
    keys: &[
        llama::MULTIPLIERS[0],
        llama::MULTIPLIERS[1],
        llama::MULTIPLIERS[2],
        llama::MULTIPLIERS[3],
        key("expert_shared_feed_forward_length", From::Uint(Field::SharedFf)),
    ],
    expects: llama::GRANITE4.expects,
    ..experts::GRANITE
};

/// Nemotron-H without experts, Nemotron Nano 2. Source: transformers `modeling_nemotron_h.py`.
pub(in crate::convert) const NEMOTRON_H_DENSE: HfFamily = HfFamily {
    form: Form { experts: Some(false), states: None },
    arch: "nemotron_h",
    keys: &[
        key("context_length", From::Fixed(1 << 20)),
        key("ssm.conv_kernel", From::Uint(Field::ConvKernel)),
        key("ssm.state_size", From::Uint(Field::StateSize)),
        key("ssm.group_count", From::Uint(Field::StateGroups)),
        key("ssm.inner_size", From::Product(Field::StateHeads, Field::StateHeadDim)),
        key("ssm.time_step_rank", From::Uint(Field::StateHeads)),
        key("rope.scaling.finetuned", From::False),
    ],
    ..recurrent::NEMOTRON_H
};
