//! Qwen 2 and 3, dense.

use crate::convert::hf::Field;
use crate::convert::names::{HfFamily, Windows};

/// Qwen 1.5, 2 and 2.5. Source: transformers `modeling_qwen2.py`.
pub(in crate::convert) const QWEN2: HfFamily = HfFamily {
    names: &["Qwen2ForCausalLM"],
    arch: "qwen2",
    rules: &[],
    windows: Windows::Period(0),
    defaults: &[(Field::RmsEps, 1e-6), (Field::UseWindow, 0.0)],
    pre: &["qwen2"],
    ..HfFamily::LLAMA
};

/// Qwen 3. Source: transformers `modeling_qwen3.py`.
pub(in crate::convert) const QWEN3: HfFamily = HfFamily {
    names: &["Qwen3ForCausalLM"],
    arch: "qwen3",
    defaults: &[(Field::RmsEps, 1e-6), (Field::UseWindow, 0.0), (Field::HeadDim, 128.0)],
    ..QWEN2
};

/// The text part of Qwen 2 and 2.5 VL: rotations by time, height and width, which are one for text. Source: transformers
/// `modeling_qwen2_5_vl.py`.
pub(in crate::convert) const QWEN2_VL: HfFamily = HfFamily {
    names: &["Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"],
    arch: "qwen2vl",
    ..QWEN2
};

/// The text part of Qwen 3 VL. Source: transformers `modeling_qwen3_vl.py`.
pub(in crate::convert) const QWEN3_VL: HfFamily =
    HfFamily { names: &["Qwen3VLForConditionalGeneration"], arch: "qwen3vl", ..QWEN3 };
