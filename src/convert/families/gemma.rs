//! Gemma 1 to 3, whose norms hold the difference from 1, and Gemma 3n and 4, whose norms do not.

use crate::convert::hf::Field;
use crate::convert::names::{From, HfFamily, How, Key, LayerSizes, Rule, ScoreScale, Windows, key, same, with};

/// Norms that hold the difference from 1.
pub(super) const NORMS: &[Rule] = &[
    with("output_norm", "norm", &[How::AddOne]),
    with("blk.{}.attn_norm", "layers.{}.input_layernorm", &[How::AddOne]),
    with("blk.{}.attn_q_norm", "layers.{}.self_attn.q_norm", &[How::AddOne]),
    with("blk.{}.attn_k_norm", "layers.{}.self_attn.k_norm", &[How::AddOne]),
];

const PRE_NORMS: &[Rule] = &[with("blk.{}.ffn_norm", "layers.{}.post_attention_layernorm", &[How::AddOne])];

const FOUR_NORMS: &[Rule] = &[
    with("blk.{}.post_attention_norm", "layers.{}.post_attention_layernorm", &[How::AddOne]),
    with("blk.{}.ffn_norm", "layers.{}.pre_feedforward_layernorm", &[How::AddOne]),
    with("blk.{}.post_ffw_norm", "layers.{}.post_feedforward_layernorm", &[How::AddOne]),
];

const CAPS: &[Key] = &[
    key("attn_logit_softcapping", From::Float(Field::AttnSoftcap)),
    key("final_logit_softcapping", From::Float(Field::FinalSoftcap)),
];

/// Gemma. Source: transformers `modeling_gemma.py`.
pub(in crate::convert) const GEMMA: HfFamily = HfFamily {
    names: &["GemmaForCausalLM"],
    arch: "gemma",
    rules: &[NORMS, PRE_NORMS],
    defaults: &[(Field::RmsEps, 1e-6), (Field::HeadDim, 256.0), (Field::RopeTheta, 1e4), (Field::Tied, 1.0)],
    ..HfFamily::LLAMA
};

/// Gemma 2. Source: transformers `modeling_gemma2.py`.
pub(in crate::convert) const GEMMA2: HfFamily = HfFamily {
    names: &["Gemma2ForCausalLM"],
    arch: "gemma2",
    rules: &[NORMS, FOUR_NORMS],
    keys: CAPS,
    defaults: &[
        (Field::RmsEps, 1e-6),
        (Field::HeadDim, 256.0),
        (Field::RopeTheta, 1e4),
        (Field::Tied, 1.0),
        (Field::Window, 4096.0),
        (Field::AttnSoftcap, 50.0),
        (Field::FinalSoftcap, 30.0),
    ],
    windows: Windows::Period(2),
    names_no_window: true,
    score_scale: ScoreScale::Scalar { by_width: 46 },
    ..GEMMA
};

/// Gemma 3, text. Source: transformers `modeling_gemma3.py`; the folders of the 4B and larger are silent on much of
/// `Gemma3TextConfig`.
pub(in crate::convert) const GEMMA3: HfFamily = HfFamily {
    names: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    arch: "gemma3",
    rules: &[NORMS, FOUR_NORMS],
    score_scale: ScoreScale::Scalar { by_width: 62 },
    defaults: &[
        (Field::RmsEps, 1e-6),
        (Field::Heads, 8.0),
        (Field::KvHeads, 4.0),
        (Field::HeadDim, 256.0),
        (Field::Context, 131072.0),
        (Field::Vocab, 262208.0),
        (Field::RopeTheta, 1e6),
        (Field::RopeThetaLocal, 1e4),
        (Field::Window, 4096.0),
        (Field::Tied, 1.0),
    ],
    windows: Windows::Period(6),
    names_no_window: false,
    ..GEMMA2
};

/// Norms of Gemma 3n and 4, and what each token brings to each layer.
const WHOLE_NORMS: &[Rule] = &[
    same("blk.{}.post_attention_norm", "layers.{}.post_attention_layernorm"),
    same("blk.{}.ffn_norm", "layers.{}.pre_feedforward_layernorm"),
    same("blk.{}.post_ffw_norm", "layers.{}.post_feedforward_layernorm"),
    with("per_layer_token_embd.weight", "embed_tokens_per_layer.weight", &[How::FillRows]),
    same("per_layer_model_proj", "per_layer_model_projection"),
    same("per_layer_proj_norm", "per_layer_projection_norm"),
    same("blk.{}.inp_gate", "layers.{}.per_layer_input_gate"),
    same("blk.{}.proj", "layers.{}.per_layer_projection"),
    same("blk.{}.post_norm", "layers.{}.post_per_layer_input_norm"),
];

/// Gemma 3n, text. Source: transformers `modeling_gemma3n.py`, `configuration_gemma3n.py`. Tokens beyond the table of
/// embeddings by layer take its first row there.
pub(in crate::convert) const GEMMA3N: HfFamily = HfFamily {
    names: &["Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"],
    arch: "gemma3n",
    rules: &[
        &[
            same("altup_proj.weight", "altup_projections.{s}.weight"),
            same("altup_unembd_proj.weight", "altup_unembed_projections.{s}.weight"),
            same("blk.{}.altup_correct_scale.weight", "layers.{}.altup.correct_output_scale"),
            same("blk.{}.altup_correct_coef", "layers.{}.altup.correction_coefs"),
            same("blk.{}.altup_predict_coef", "layers.{}.altup.prediction_coefs"),
            same("blk.{}.altup_router", "layers.{}.altup.modality_router"),
            same("blk.{}.altup_router_norm", "layers.{}.altup.router_norm"),
            same("blk.{}.laurel_l", "layers.{}.laurel.linear_left"),
            same("blk.{}.laurel_r", "layers.{}.laurel.linear_right"),
            same("blk.{}.laurel_post_norm", "layers.{}.laurel.post_laurel_norm"),
        ],
        WHOLE_NORMS,
    ],
    keys: &[
        key("final_logit_softcapping", From::Float(Field::FinalSoftcap)),
        key("altup.active_idx", From::Uint(Field::ActiveStream)),
        key("altup.num_inputs", From::Uint(Field::Streams)),
        key("embedding_length_per_layer_input", From::Uint(Field::PerLayerWidth)),
        key("attention.shared_kv_layers", From::Uint(Field::SharedKv)),
    ],
    defaults: &[
        (Field::RmsEps, 1e-6),
        (Field::Heads, 8.0),
        (Field::KvHeads, 2.0),
        (Field::HeadDim, 256.0),
        (Field::Context, 32768.0),
        (Field::RopeTheta, 1e6),
        (Field::RopeThetaLocal, 1e4),
        (Field::Window, 512.0),
        (Field::WindowPeriod, 5.0),
        (Field::FinalSoftcap, 30.0),
        (Field::ActiveStream, 0.0),
        (Field::Streams, 4.0),
        (Field::PerLayerWidth, 256.0),
        (Field::SharedKv, 15.0),
        (Field::Tied, 1.0),
    ],
    windows: Windows::Listed,
    names_no_window: false,
    score_scale: ScoreScale::Heads,
    expects: &[(Field::HiddenActivation, TANH), (Field::CorrectScale, "true")],
    layer_sizes: LayerSizes::Gates,
    ..GEMMA
};

/// The activation of all of them.
const TANH: &str = "\"gelu_pytorch_tanh\"";

/// Gemma 4, text. Source: transformers `modeling_gemma4.py`, `configuration_gemma4.py`.
pub(in crate::convert) const GEMMA4: HfFamily = HfFamily {
    names: &["Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"],
    arch: "gemma4",
    rules: &[
        &[
            same("blk.{}.layer_output_scale.weight", "layers.{}.layer_scalar"),
            same("blk.{}.ffn_gate_up_exps.weight", "layers.{}.experts.gate_up_proj"),
            same("blk.{}.ffn_down_exps.weight", "layers.{}.experts.down_proj"),
            same("blk.{}.ffn_down_exps.scale", "layers.{}.router.per_expert_scale"),
            same("blk.{}.ffn_gate_inp.weight", "layers.{}.router.proj.weight"),
            same("blk.{}.ffn_gate_inp.scale", "layers.{}.router.scale"),
            same("blk.{}.pre_ffw_norm_2", "layers.{}.pre_feedforward_layernorm_2"),
            same("blk.{}.post_ffw_norm_1", "layers.{}.post_feedforward_layernorm_1"),
            same("blk.{}.post_ffw_norm_2", "layers.{}.post_feedforward_layernorm_2"),
        ],
        WHOLE_NORMS,
    ],
    keys: &[
        key("final_logit_softcapping", From::Float(Field::FinalSoftcap)),
        key("embedding_length_per_layer_input", From::Uint(Field::PerLayerWidth)),
        key("attention.shared_kv_layers", From::Uint(Field::SharedKv)),
    ],
    defaults: &[
        (Field::RmsEps, 1e-6),
        (Field::Heads, 8.0),
        (Field::KvHeads, 4.0),
        (Field::HeadDim, 256.0),
        (Field::FullHeadDim, 512.0),
        (Field::Context, 131072.0),
        (Field::RopeTheta, 1e6),
        (Field::RopeThetaLocal, 1e4),
        (Field::Window, 512.0),
        (Field::WindowPeriod, 6.0),
        (Field::PerLayerWidth, 256.0),
        (Field::SharedKv, 0.0),
        (Field::KeysAreValues, 0.0),
        (Field::DoubleWide, 0.0),
        (Field::HasExperts, 0.0),
        (Field::Tied, 1.0),
    ],
    // `vision` concerns pictures alone.
    expects: &[(Field::HiddenActivation, TANH), (Field::BothWays, "\"vision\"")],
    layer_sizes: LayerSizes::Heads,
    rope_silent: ("proportional", Some(0.25)),
    raw_merges: true,
    ..GEMMA3N
};
