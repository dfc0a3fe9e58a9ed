//! Families that differ from Llama in names, norms and where they stand.

use crate::convert::hf::Field;
use crate::convert::names::{From, HfFamily, How, Rule, Windows, key, same, with};

/// The defaults of families whose rotations are of halves, or of neighbours in both worlds.
const PLAIN: HfFamily = HfFamily { rules: &[], ..HfFamily::LLAMA };

/// OLMo 2 and 3: norms behind the branches only. Source: transformers `modeling_olmo2.py`, `modeling_olmo3.py`.
pub(in crate::convert) const OLMO2: HfFamily = HfFamily {
    names: &["Olmo2ForCausalLM", "Olmo3ForCausalLM"],
    arch: "olmo2",
    rules: &[&[
        same("blk.{}.post_attention_norm", "layers.{}.post_attention_layernorm"),
        same("blk.{}.post_ffw_norm", "layers.{}.post_feedforward_layernorm"),
    ]],
    windows: Windows::Listed,
    pre: &["olmo"],
    ..PLAIN
};

/// Command-R: one norm for both branches. Source: transformers `modeling_cohere.py`. Models with norms of queries and
/// keys (Command-R+) have other shapes there and are refused.
pub(in crate::convert) const COMMAND_R: HfFamily = HfFamily {
    names: &["CohereForCausalLM"],
    arch: "command-r",
    keys: &[key("logit_scale", From::Float(Field::LogitScale)), key("rope.scaling.type", From::Text("none"))],
    defaults: &[(Field::LayerEps, 1e-5), (Field::LogitScale, 0.0625), (Field::Tied, 1.0)],
    pre: &["command-r"],
    ..PLAIN
};

/// Command R7B. Source: transformers `modeling_cohere2.py`.
pub(in crate::convert) const COHERE2: HfFamily =
    HfFamily { names: &["Cohere2ForCausalLM"], arch: "cohere2", windows: Windows::Period(4), ..COMMAND_R };

/// GLM 4 of April 2025. Source: transformers `modeling_glm4.py`.
pub(in crate::convert) const GLM4: HfFamily = HfFamily {
    names: &["Glm4ForCausalLM"],
    arch: "glm4",
    rules: &[&[
        same("blk.{}.post_attention_norm", "layers.{}.post_self_attn_layernorm"),
        same("blk.{}.post_ffw_norm", "layers.{}.post_mlp_layernorm"),
        same("blk.{}.ffn_up", "layers.{}.mlp.gate_up_proj"),
    ]],
    defaults: &[(Field::PartialRotary, 0.5)],
    pre: &["glm4", "chatglm-bpe"],
    ..PLAIN
};

/// GLM 4 of June 2024 in the names of transformers. Source: transformers `modeling_glm.py`; rotations turn neighbours.
pub(in crate::convert) const GLM: HfFamily = HfFamily {
    names: &["GlmForCausalLM"],
    arch: "chatglm",
    rules: &[&[same("blk.{}.ffn_up", "layers.{}.mlp.gate_up_proj")]],
    defaults: &[(Field::PartialRotary, 0.5), (Field::HeadDim, 128.0)],
    pre: &["chatglm-bpe"],
    ..PLAIN
};

/// ChatGLM 3, GLM-4 9B: queries, keys and values in one, half of a head rotates. Source: the models'
/// `modeling_chatglm.py`, where `rope_ratio` multiplies the base.
pub(in crate::convert) const CHATGLM: HfFamily = HfFamily {
    names: &["ChatGLMModel", "ChatGLMForConditionalGeneration"],
    arch: "chatglm",
    rules: &[&[
        same("token_embd", "embedding.word_embeddings"),
        same("output_norm", "encoder.final_layernorm"),
        same("output", "output_layer"),
        same("blk.{}.attn_norm", "encoder.layers.{}.input_layernorm"),
        same("blk.{}.attn_qkv", "encoder.layers.{}.self_attention.query_key_value"),
        same("blk.{}.attn_output", "encoder.layers.{}.self_attention.dense"),
        same("blk.{}.ffn_norm", "encoder.layers.{}.post_attention_layernorm"),
        same("blk.{}.ffn_up", "encoder.layers.{}.mlp.dense_h_to_4h"),
        same("blk.{}.ffn_down", "encoder.layers.{}.mlp.dense_4h_to_h"),
    ]],
    defaults: &[(Field::RmsEps, 1e-5), (Field::PartialRotary, 0.5), (Field::RopeTheta, 1e4)],
    drop: &["rotary_pos_emb.inv_freq"],
    expects: &[
        (Field::GroupedQueries, "true"),
        (Field::RmsNorms, "true"),
        (Field::FinalNorm, "true"),
        (Field::NormedResidual, "false"),
    ],
    pre: &["chatglm-bpe"],
    tiktoken_pre: Some("chatglm-bpe"),
    ..PLAIN
};

/// EXAONE 4. Source: transformers `modeling_exaone4.py`.
pub(in crate::convert) const EXAONE4: HfFamily = HfFamily {
    names: &["Exaone4ForCausalLM"],
    arch: "exaone4",
    rules: OLMO2.rules,
    windows: Windows::Listed,
    pre: &["exaone4"],
    ..PLAIN
};

/// Seed-OSS. Source: transformers `modeling_seed_oss.py`.
pub(in crate::convert) const SEED_OSS: HfFamily = HfFamily {
    names: &["SeedOssForCausalLM"],
    arch: "seed_oss",
    rules: &[&[same("blk.{}.post_attention_norm", "layers.{}.post_attention_layernorm")]],
    pre: &["seed-coder"],
    ..PLAIN
};

/// ERNIE 4.5, dense. Source: transformers `modeling_ernie4_5.py`.
pub(in crate::convert) const ERNIE4_5: HfFamily =
    HfFamily { names: &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"], arch: "ernie4_5", ..PLAIN };

/// Hunyuan's norms of queries and keys.
pub(super) const HUNYUAN_NORMS: &[Rule] = &[
    same("blk.{}.attn_q_norm", "layers.{}.self_attn.query_layernorm"),
    same("blk.{}.attn_k_norm", "layers.{}.self_attn.key_layernorm"),
];

/// Hunyuan, dense. Source: transformers `modeling_hunyuan_v1_dense.py`.
pub(in crate::convert) const HUNYUAN: HfFamily = HfFamily {
    names: &["HunYuanDenseV1ForCausalLM"],
    arch: "hunyuan-dense",
    rules: &[HUNYUAN_NORMS],
    pre: &["hunyuan-dense", "hunyuan"],
    ..PLAIN
};

/// Nemotron, Minitron: LayerNorms hold the difference from 1. Source: transformers `modeling_nemotron.py`.
pub(in crate::convert) const NEMOTRON: HfFamily = HfFamily {
    names: &["NemotronForCausalLM"],
    arch: "nemotron",
    rules: &[&[
        with("output_norm.weight", "norm.weight", &[How::AddOne]),
        with("blk.{}.attn_norm.weight", "layers.{}.input_layernorm.weight", &[How::AddOne]),
        with("blk.{}.ffn_norm.weight", "layers.{}.post_attention_layernorm.weight", &[How::AddOne]),
    ]],
    keys: &[key("rope.scaling.type", From::Text("none"))],
    defaults: &[(Field::LayerEps, 1e-5), (Field::PartialRotary, 0.5)],
    ..PLAIN
};

/// StableLM 2. Source: transformers `modeling_stablelm.py`; the 12B has a norm for each head.
pub(in crate::convert) const STABLELM: HfFamily = HfFamily {
    names: &["StableLmForCausalLM", "StableLMEpochForCausalLM"],
    arch: "stablelm",
    rules: &[&[
        same("blk.{}.attn_q_norm", "layers.{}.self_attn.q_layernorm.norms.{q}"),
        same("blk.{}.attn_k_norm", "layers.{}.self_attn.k_layernorm.norms.{k}"),
    ]],
    keys: &[key("use_parallel_residual", From::Flag(Field::ParallelResidual))],
    defaults: &[(Field::LayerEps, 1e-5), (Field::PartialRotary, 0.25), (Field::ParallelResidual, 0.0)],
    pre: &["stablelm2"],
    ..PLAIN
};
