//! Phi 2, 3, 3.5 and 4.

use super::gpt::MLP_BIASES;
use super::qwen::QKV_BIASES;
use crate::arch::family::{Block, Family, Ffn, FfnAct};
use crate::plan::{Act, NormKind, Pairs};

/// Phi-2: both branches read one LayerNorm; biases everywhere. Source: transformers `modeling_phi.py`.
pub const PHI2: Family = Family {
    names: &["phi2"],
    block: Block::Parallel,
    norm: NormKind::Layer,
    ffn_norm: None,
    rope: Pairs::Halves,
    ffn: Ffn::Plain,
    act: FfnAct::Fixed(Act::Gelu),
    needs: &[QKV_BIASES, MLP_BIASES, &["attn_output.bias", "attn_norm.bias", "output_norm.bias", "output.bias"]],
    ..Family::LLAMA
};

/// Phi-3, 3.5 and 4 with longrope and window by key. Source: transformers `modeling_phi3.py`.
pub const PHI3: Family = Family { names: &["phi3"], rope: Pairs::Halves, ffn: Ffn::Fused, ..Family::LLAMA };
