//! Llama and its near relatives.

use crate::convert::hf::Field;
use crate::convert::names::{
    Form, From, Heads, HfFamily, How, Key, LayerSizes, Longrope, PAIRS, Rule, ScoreScale, StateLayers, Third, Windows,
    key, same, with,
};

impl HfFamily {
    /// The defaults of every family.
    pub(in crate::convert) const LLAMA: HfFamily = HfFamily {
        names: &["LlamaForCausalLM", "LLaMAForCausalLM", "VLlama3ForCausalLM"],
        form: Form::ANY,
        arch: "llama",
        rules: &[PAIRS],
        keys: &[],
        defaults: &[(Field::RmsEps, 1e-6)],
        drop: &[],
        longrope: Longrope::No,
        windows: Windows::None,
        names_no_window: false,
        unrotated: None,
        expects: &[],
        score_scale: ScoreScale::Heads,
        yarn_log: 0.0,
        omits: &[],
        state_layers: StateLayers::None,
        pre: &["llama-bpe", "smollm", "gpt-2"],
        tiktoken_pre: None,
        layer_sizes: LayerSizes::Equal,
        rope_silent: ("default", None),
        raw_merges: false,
    };
}

/// Llama 1 to 3.3, Yi, SmolLM 1 and 2, R1 distills. Source: transformers `modeling_llama.py`.
pub(in crate::convert) const LLAMA: HfFamily = HfFamily::LLAMA;

/// Mistral 7B: a window on every layer, where there is one. Source: transformers `modeling_mistral.py`.
pub(in crate::convert) const MISTRAL: HfFamily = HfFamily {
    names: &["MistralForCausalLM"],
    windows: Windows::Period(0),
    pre: &["tekken", "llama-bpe"],
    ..HfFamily::LLAMA
};

/// Ministral 3, Mistral Small 3.x. Source: transformers `modeling_ministral3.py`, `modeling_mistral3.py`.
pub(in crate::convert) const MISTRAL3: HfFamily = HfFamily {
    names: &["Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"],
    arch: "mistral3",
    yarn_log: 1.0,
    ..MISTRAL
};

/// SmolLM3. The layers without rotation are the architecture's, not the file's; folders with others are refused. Source:
/// transformers `modeling_smollm3.py`.
pub(in crate::convert) const SMOLLM3: HfFamily = HfFamily {
    names: &["SmolLM3ForCausalLM"],
    arch: "smollm3",
    windows: Windows::Period(0),
    defaults: &[(Field::RmsEps, 1e-6), (Field::RopeTheta, 2e6)],
    unrotated: Some(4),
    ..HfFamily::LLAMA
};

/// Arcee AFM: no gate. Source: transformers `modeling_arcee.py`.
pub(in crate::convert) const ARCEE: HfFamily =
    HfFamily { names: &["ArceeForCausalLM"], arch: "arcee", ..HfFamily::LLAMA };

/// Factors of the granite families.
pub(in crate::convert) const MULTIPLIERS: &[Key] = &[
    key("attention.scale", From::Float(Field::AttnScale)),
    key("embedding_scale", From::Float(Field::EmbedScale)),
    key("residual_scale", From::Float(Field::ResidualScale)),
    key("logit_scale", From::Float(Field::LogitScale)),
];

/// Granite 3, dense. Source: transformers `modeling_granite.py`.
pub(in crate::convert) const GRANITE: HfFamily = HfFamily {
    names: &["GraniteForCausalLM"],
    arch: "granite",
    keys: MULTIPLIERS,
    pre: &["refact", "starcoder"],
    ..HfFamily::LLAMA
};

/// MiniCPM 1 and 2. Source: the models' `modeling_minicpm.py`.
pub(in crate::convert) const MINICPM: HfFamily = HfFamily {
    names: &["MiniCPMForCausalLM"],
    arch: "minicpm",
    keys: &[
        key("embedding_scale", From::Float(Field::EmbedScale)),
        key("residual_scale", From::PerRootLayers(Field::DepthScale)),
        key("logit_scale", From::Ratio(Field::Width, Field::BaseWidth)),
    ],
    ..HfFamily::LLAMA
};

/// InternLM 2: queries, keys and values of a group together. Source: the models' `modeling_internlm2.py`.
pub(in crate::convert) const INTERNLM2: HfFamily = HfFamily {
    names: &["InternLM2ForCausalLM"],
    arch: "internlm2",
    rules: &[&[
        same("token_embd", "tok_embeddings"),
        same("output", "output"),
        same("blk.{}.attn_norm", "layers.{}.attention_norm"),
        same("blk.{}.ffn_norm", "layers.{}.ffn_norm"),
        same("blk.{}.attn_output", "layers.{}.attention.wo"),
        same("blk.{}.ffn_gate", "layers.{}.feed_forward.w1"),
        same("blk.{}.ffn_down", "layers.{}.feed_forward.w2"),
        same("blk.{}.ffn_up", "layers.{}.feed_forward.w3"),
        with("blk.{}.attn_q", "layers.{}.attention.wqkv", &[How::Grouped(Third::Query), How::Pairs(Heads::Query)]),
        with("blk.{}.attn_k", "layers.{}.attention.wqkv", &[How::Grouped(Third::Key), How::Pairs(Heads::KeyValue)]),
        with("blk.{}.attn_v", "layers.{}.attention.wqkv", &[How::Grouped(Third::Value)]),
    ]],
    ..HfFamily::LLAMA
};

/// Baichuan 7B of the first generation: queries, keys and values in one. Source: the model's
/// `modeling_baichuan.py`; the 13B (ALiBi) and the second generation (a head of unit rows) are other models.
pub(in crate::convert) const BAICHUAN: HfFamily = HfFamily {
    names: &["BaiChuanForCausalLM"],
    arch: "baichuan",
    rules: &[&[
        with("blk.{}.attn_q", "layers.{}.self_attn.W_pack", &[How::RowPart(0, 3), How::Pairs(Heads::Query)]),
        with("blk.{}.attn_k", "layers.{}.self_attn.W_pack", &[How::RowPart(1, 3), How::Pairs(Heads::KeyValue)]),
        with("blk.{}.attn_v", "layers.{}.self_attn.W_pack", &[How::RowPart(2, 3)]),
    ]],
    ..HfFamily::LLAMA
};

/// OLMo 1: norms without weights. Source: transformers `modeling_olmo.py`.
pub(in crate::convert) const OLMO: HfFamily = HfFamily {
    names: &["OlmoForCausalLM"],
    arch: "olmo",
    keys: &[key("attention.clamp_kqv", From::Float(Field::ClampQkv))],
    // The class has no key for it.
    defaults: &[(Field::LayerEps, 1e-5)],
    pre: &["olmo"],
    ..HfFamily::LLAMA
};

/// Gate and up of Granite 4's dense layers, in one.
pub(super) const GRANITE4_FF: &[Rule] = &[
    with("blk.{}.ffn_gate", "layers.{}.shared_mlp.input_linear", &[How::RowPart(0, 2)]),
    with("blk.{}.ffn_up", "layers.{}.shared_mlp.input_linear", &[How::RowPart(1, 2)]),
    same("blk.{}.ffn_down", "layers.{}.shared_mlp.output_linear"),
];

/// Granite 4 without experts and without states: Granite 3 in other names. Source: transformers
/// `modeling_granitemoehybrid.py`.
pub(in crate::convert) const GRANITE4: HfFamily = HfFamily {
    names: &["GraniteMoeHybridForCausalLM"],
    form: Form { experts: Some(false), states: Some(false) },
    rules: &[PAIRS, GRANITE4_FF],
    keys: &[
        MULTIPLIERS[0],
        MULTIPLIERS[1],
        MULTIPLIERS[2],
        MULTIPLIERS[3],
        key("feed_forward_length", From::Uint(Field::SharedFf)),
    ],
    // The file's architecture always rotates.
    expects: &[(Field::Positions, "\"rope\"")],
    ..GRANITE
};

/// Apertus: no gate, an activation with numbers of its own in each layer. Source: transformers `modeling_apertus.py`;
/// the numbers stay raw, as readers want them.
pub(in crate::convert) const APERTUS: HfFamily = HfFamily {
    names: &["ApertusForCausalLM"],
    arch: "apertus",
    rules: &[&[
        same("blk.{}.attn_norm", "layers.{}.attention_layernorm"),
        same("blk.{}.ffn_norm", "layers.{}.feedforward_layernorm"),
        same("=xielu.alpha_p {}!", "layers.{}.mlp.act_fn.alpha_p"),
        same("=xielu.alpha_n {}!", "layers.{}.mlp.act_fn.alpha_n"),
        same("=xielu.beta {}!", "layers.{}.mlp.act_fn.beta"),
        same("=xielu.eps {}!", "layers.{}.mlp.act_fn.eps"),
    ]],
    defaults: &[(Field::RmsEps, 1e-5), (Field::RopeTheta, 1.2e7)],
    expects: &[(Field::Activation, "\"xielu\""), (Field::HeadNorms, "true"), (Field::PostNorm, "false")],
    rope_silent: ("llama3", None),
    pre: &["tekken", "llama-bpe"],
    ..HfFamily::LLAMA
};
