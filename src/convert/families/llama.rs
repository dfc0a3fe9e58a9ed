//! Llama and its near relatives.

use crate::convert::hf::Field;
use crate::convert::names::{HfFamily, Longrope, PAIRS, ScoreScale, Windows};

impl HfFamily {
    /// The defaults of every family.
    pub(in crate::convert) const LLAMA: HfFamily = HfFamily {
        names: &["LlamaForCausalLM", "LLaMAForCausalLM", "VLlama3ForCausalLM"],
        arch: "llama",
        rules: &[PAIRS],
        keys: &[],
        defaults: &[(Field::RmsEps, 1e-6)],
        drop: &[],
        longrope: Longrope::No,
        windows: Windows::None,
        names_no_window: false,
        unrotated: None,
        score_scale: ScoreScale::Heads,
        pre: &["llama-bpe", "smollm", "gpt-2"],
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
pub(in crate::convert) const MISTRAL3: HfFamily =
    HfFamily { names: &["Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"], arch: "mistral3", ..MISTRAL };

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
