//! Families with layers that keep a state.

use crate::convert::hf::Field;
use crate::convert::names::{From, HfFamily, How, Rule, StateLayers, Turned, key, same, with};

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
    pre: &["olmo", "gpt-2"],
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

/// Qwen 3.5, dense: files have value heads in turn. Source: transformers `modeling_qwen3_5.py`.
pub(in crate::convert) const QWEN35: HfFamily = HfFamily {
    names: &["Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"],
    arch: "qwen35",
    rules: &[&[
        with("output_norm", "norm", &[How::AddOne]),
        with("blk.{}.attn_norm", "layers.{}.input_layernorm", &[How::AddOne]),
        with("blk.{}.post_attention_norm", "layers.{}.post_attention_layernorm", &[How::AddOne]),
        with("blk.{}.attn_q_norm", "layers.{}.self_attn.q_norm", &[How::AddOne]),
        with("blk.{}.attn_k_norm", "layers.{}.self_attn.k_norm", &[How::AddOne]),
        with("blk.{}.attn_qkv", "layers.{}.linear_attn.in_proj_qkv", &[How::InTurn(Turned::RowsBehindKeys)]),
        with("blk.{}.attn_gate", "layers.{}.linear_attn.in_proj_z", &[How::InTurn(Turned::Rows)]),
        with("blk.{}.ssm_beta", "layers.{}.linear_attn.in_proj_b", &[How::InTurn(Turned::Rows)]),
        with("blk.{}.ssm_alpha", "layers.{}.linear_attn.in_proj_a", &[How::InTurn(Turned::Rows)]),
        with("blk.{}.ssm_conv1d", "layers.{}.linear_attn.conv1d", &[How::Squeeze, How::InTurn(Turned::RowsBehindKeys)]),
        with("blk.{}.ssm_a!", "layers.{}.linear_attn.A_log", &[How::NegExp, How::InTurn(Turned::Rows)]),
        with("blk.{}.ssm_dt.bias", "layers.{}.linear_attn.dt_bias", &[How::InTurn(Turned::Rows)]),
        same("blk.{}.ssm_norm", "layers.{}.linear_attn.norm"),
        with("blk.{}.ssm_out", "layers.{}.linear_attn.out_proj", &[How::InTurn(Turned::Columns)]),
    ]],
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
