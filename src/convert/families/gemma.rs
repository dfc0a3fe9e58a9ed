//! Gemma 1 to 3: norms hold the difference from 1.

use crate::convert::hf::Field;
use crate::convert::names::{From, HfFamily, How, Key, Rule, ScoreScale, Windows, key, with};

const NORMS: &[Rule] = &[
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
