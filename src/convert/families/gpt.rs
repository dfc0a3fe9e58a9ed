//! GPT-2 and what follows it: LayerNorms, biases, a feed-forward part without a gate.

use crate::convert::hf::Field;
use crate::convert::names::{From, HfFamily, How, Rule, Windows, key, same, with};

const NAMES: &[Rule] = &[
    same("token_embd", "wte"),
    same("position_embd", "wpe"),
    same("output_norm", "ln_f"),
    same("blk.{}.attn_norm", "h.{}.ln_1"),
    same("blk.{}.ffn_norm", "h.{}.ln_2"),
    same("blk.{}.attn_qkv", "h.{}.attn.c_attn"),
    same("blk.{}.attn_output", "h.{}.attn.c_proj"),
    same("blk.{}.ffn_up", "h.{}.mlp.c_fc"),
    same("blk.{}.ffn_down", "h.{}.mlp.c_proj"),
];

/// Matrices that are stored [in, out].
const TRANSPOSED: &[Rule] = &[
    with("blk.{}.attn_qkv.weight", "h.{}.attn.c_attn.weight", &[How::Transpose]),
    with("blk.{}.attn_output.weight", "h.{}.attn.c_proj.weight", &[How::Transpose]),
    with("blk.{}.ffn_up.weight", "h.{}.mlp.c_fc.weight", &[How::Transpose]),
    with("blk.{}.ffn_down.weight", "h.{}.mlp.c_proj.weight", &[How::Transpose]),
];

/// GPT-2. Source: transformers `modeling_gpt2.py`.
pub(in crate::convert) const GPT2: HfFamily = HfFamily {
    names: &["GPT2LMHeadModel"],
    arch: "gpt2",
    rules: &[TRANSPOSED, NAMES],
    keys: &[key("feed_forward_length", From::FfOrFourfold)],
    defaults: &[(Field::LayerEps, 1e-5), (Field::Tied, 1.0)],
    // The mask of old files.
    drop: &[".attn.bias"],
    windows: Windows::None,
    pre: &["gpt-2"],
    ..HfFamily::LLAMA
};

/// StarCoder: one key and value head. Source: transformers `modeling_gpt_bigcode.py`.
pub(in crate::convert) const STARCODER: HfFamily = HfFamily {
    names: &["GPTBigCodeForCausalLM"],
    arch: "starcoder",
    rules: &[NAMES],
    defaults: &[(Field::LayerEps, 1e-5), (Field::Tied, 1.0), (Field::KvHeads, 1.0)],
    pre: &["starcoder"],
    ..GPT2
};

/// StarCoder 2. Source: transformers `modeling_starcoder2.py`.
pub(in crate::convert) const STARCODER2: HfFamily = HfFamily {
    names: &["Starcoder2ForCausalLM"],
    arch: "starcoder2",
    rules: &[&[same("blk.{}.ffn_up", "layers.{}.mlp.c_fc"), same("blk.{}.ffn_down", "layers.{}.mlp.c_proj")]],
    keys: &[],
    defaults: &[(Field::LayerEps, 1e-5), (Field::Tied, 1.0)],
    windows: Windows::Period(0),
    drop: &[],
    pre: &["starcoder"],
    ..HfFamily::LLAMA
};

/// GPT-NeoX, Pythia: queries, keys and values of a head together. Source: transformers `modeling_gpt_neox.py`.
pub(in crate::convert) const NEOX: HfFamily = HfFamily {
    names: &["GPTNeoXForCausalLM"],
    arch: "gptneox",
    rules: &[&[
        same("token_embd", "embed_in"),
        same("output_norm", "final_layer_norm"),
        same("output", "embed_out"),
        same("blk.{}.attn_output", "layers.{}.attention.dense"),
        with("blk.{}.attn_qkv", "layers.{}.attention.query_key_value", &[How::Ungroup]),
        same("blk.{}.ffn_up", "layers.{}.mlp.dense_h_to_4h"),
        same("blk.{}.ffn_down", "layers.{}.mlp.dense_4h_to_h"),
    ]],
    keys: &[key("use_parallel_residual", From::Flag(Field::ParallelResidual))],
    defaults: &[(Field::LayerEps, 1e-5), (Field::PartialRotary, 0.25), (Field::ParallelResidual, 1.0)],
    drop: &[".attention.bias", ".attention.masked_bias"],
    pre: &["olmo"],
    ..HfFamily::LLAMA
};

/// BLOOM: queries, keys and values of a head together, a norm of the embeddings. Source: transformers
/// `modeling_bloom.py`.
pub(in crate::convert) const BLOOM: HfFamily = HfFamily {
    names: &["BloomForCausalLM", "BloomModel"],
    arch: "bloom",
    rules: &[&[
        same("token_embd", "word_embeddings"),
        same("token_embd_norm", "word_embeddings_layernorm"),
        same("output_norm", "ln_f"),
        same("blk.{}.attn_norm", "h.{}.input_layernorm"),
        with("blk.{}.attn_qkv", "h.{}.self_attention.query_key_value", &[How::Ungroup]),
        same("blk.{}.attn_output", "h.{}.self_attention.dense"),
        same("blk.{}.ffn_norm", "h.{}.post_attention_layernorm"),
        same("blk.{}.ffn_up", "h.{}.mlp.dense_h_to_4h"),
        same("blk.{}.ffn_down", "h.{}.mlp.dense_4h_to_h"),
    ]],
    keys: &[key("feed_forward_length", From::FfOrFourfold)],
    // The class names no number of positions; it was trained with 2048.
    defaults: &[(Field::LayerEps, 1e-5), (Field::Tied, 1.0), (Field::Context, 2048.0)],
    expects: &[(Field::NormedResidual, "false")],
    pre: &["bloom"],
    ..HfFamily::LLAMA
};

/// OPT; no other program has an architecture for it. The table of positions keeps the two rows before the first
/// position. Source: transformers `modeling_opt.py`.
pub(in crate::convert) const OPT: HfFamily = HfFamily {
    names: &["OPTForCausalLM"],
    arch: "opt",
    rules: &[&[
        same("position_embd", "embed_positions"),
        same("output_norm", "final_layer_norm"),
        same("blk.{}.attn_norm", "layers.{}.self_attn_layer_norm"),
        same("blk.{}.attn_output", "layers.{}.self_attn.out_proj"),
        same("blk.{}.ffn_norm", "layers.{}.final_layer_norm"),
        same("blk.{}.ffn_up", "layers.{}.fc1"),
        same("blk.{}.ffn_down", "layers.{}.fc2"),
    ]],
    defaults: &[(Field::LayerEps, 1e-5), (Field::Tied, 1.0)],
    // Galactica has GELU in this class, OPT 350M norms behind its branches.
    expects: &[(Field::Activation, "\"relu\""), (Field::NormFirst, "true")],
    pre: &["gpt-2"],
    ..HfFamily::LLAMA
};

/// MPT: biases by distance, whose steepest exponent the folder names. Source: transformers `modeling_mpt.py`.
pub(in crate::convert) const MPT: HfFamily = HfFamily {
    names: &["MptForCausalLM", "MPTForCausalLM"],
    arch: "mpt",
    rules: &[&[
        same("token_embd", "wte"),
        same("output_norm", "norm_f"),
        same("blk.{}.attn_norm", "blocks.{}.norm_1"),
        same("blk.{}.attn_qkv", "blocks.{}.attn.Wqkv"),
        same("blk.{}.attn_output", "blocks.{}.attn.out_proj"),
        same("blk.{}.ffn_norm", "blocks.{}.norm_2"),
        same("blk.{}.ffn_up", "blocks.{}.ffn.up_proj"),
        same("blk.{}.ffn_down", "blocks.{}.ffn.down_proj"),
    ]],
    keys: &[
        key("feed_forward_length", From::FfOrFourfold),
        key("attention.clamp_kqv", From::Float(Field::ClampQkv)),
        key("attention.max_alibi_bias", From::Float(Field::AlibiMax)),
    ],
    defaults: &[(Field::LayerEps, 1e-5), (Field::Tied, 1.0), (Field::AlibiMax, 8.0)],
    expects: &[(Field::Alibi, "true"), (Field::NormedHeads, "false")],
    pre: &["mpt"],
    ..HfFamily::LLAMA
};

/// Falcon 7B, 40B, 180B and 11B: queries, keys and values of a group together. Source: transformers
/// `modeling_falcon.py`; the 1B of RefinedWeb (biases by distance, one branch after the other) is another model.
pub(in crate::convert) const FALCON: HfFamily = HfFamily {
    names: &["FalconForCausalLM", "RWForCausalLM"],
    arch: "falcon",
    rules: &[&[
        same("token_embd", "word_embeddings"),
        same("output_norm", "ln_f"),
        same("blk.{}.attn_norm_2", "h.{}.ln_attn"),
        same("blk.{}.attn_norm", "h.{}.ln_mlp"),
        same("blk.{}.attn_norm", "h.{}.input_layernorm"),
        with("blk.{}.attn_qkv", "h.{}.self_attention.query_key_value", &[How::Regroup]),
        same("blk.{}.attn_output", "h.{}.self_attention.dense"),
        same("blk.{}.ffn_up", "h.{}.mlp.dense_h_to_4h"),
        same("blk.{}.ffn_down", "h.{}.mlp.dense_4h_to_h"),
    ]],
    keys: &[key("feed_forward_length", From::FfOrFourfold)],
    defaults: &[
        (Field::LayerEps, 1e-5),
        (Field::Tied, 1.0),
        (Field::Context, 2048.0),
        (Field::RopeTheta, 1e4),
        (Field::MultiQuery, 1.0),
        (Field::NewDecoder, 0.0),
    ],
    expects: &[
        (Field::Alibi, "false"),
        (Field::ParallelBranches, "true"),
        (Field::NormedResidual, "false"),
        (Field::Activation, "\"gelu\""),
    ],
    pre: &["falcon"],
    ..HfFamily::LLAMA
};
