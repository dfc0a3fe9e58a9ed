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
