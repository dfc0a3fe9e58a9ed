//! Families with layers that keep a state.

use crate::arch::family::{BetaForm, Block, Family, Mixer, OtherWhere, QkNorm, RopeWhere};
use crate::plan::{Pairs, Spread};

/// The norm before the output projection of Mamba 2.
const SSM_NORM: &[&str] = &["ssm_norm.weight<ssm_out.weight"];

/// Mamba 1, FalconMamba (whose file says that step sizes, inputs and outputs are normed): one branch per layer. Source:
/// transformers `modeling_mamba.py`, `modeling_falcon_mamba.py`.
pub const MAMBA: Family = Family { names: &["mamba"], block: Block::One, mixer: Mixer::Mamba1, ..Family::LLAMA };

/// Mamba 2, Codestral Mamba. Source: transformers `modeling_mamba2.py`.
pub const MAMBA2: Family = Family { names: &["mamba2"], mixer: Mixer::Mamba2, needs: SSM_NORM, ..MAMBA };

/// Falcon-H1: attention and Mamba 2 side by side in every layer; the factors of its branches are in the file's weights.
/// Source: transformers `modeling_falcon_h1.py`.
pub const FALCON_H1: Family = Family {
    names: &["falcon-h1"],
    other: Some(Mixer::Mamba2),
    other_where: OtherWhere::Beside,
    rope: Pairs::Halves,
    ..Family::LLAMA
};

/// LFM2: short convolutions between layers with attention. Source: transformers `modeling_lfm2.py`.
pub const LFM2: Family = Family {
    names: &["lfm2"],
    other: Some(Mixer::ShortConv),
    rope: Pairs::Halves,
    qk_norm: QkNorm::PerHead,
    final_norm: "token_embd_norm",
    ..Family::LLAMA
};

/// Qwen 3.5, dense: gated delta nets between layers with gated attention. In its files value heads take key heads in
/// turn. Source: transformers `modeling_qwen3_5.py`.
pub const QWEN35: Family = Family {
    names: &["qwen35"],
    other: Some(Mixer::Delta),
    other_where: OtherWhere::Key,
    gated: true,
    rope: Pairs::Halves,
    qk_norm: QkNorm::PerHead,
    ffn_norm: Some("post_attention_norm"),
    ..Family::LLAMA
};

/// Jamba: Mamba 1 with norms of step sizes, inputs and outputs; nothing rotates. Source: transformers
/// `modeling_jamba.py`.
pub const JAMBA: Family = Family {
    names: &["jamba"],
    other: Some(Mixer::Mamba1),
    dt_norms: true,
    rope_where: RopeWhere::Never,
    ..Family::LLAMA
};

/// Granite 4: Mamba 2 between layers with attention, which rotate where the file's flag says so. Source: transformers
/// `modeling_granitemoehybrid.py`.
pub const GRANITE_HYBRID: Family = Family {
    names: &["granitehybrid"],
    other: Some(Mixer::Mamba2),
    rope_where: RopeWhere::Flag,
    needs: SSM_NORM,
    ..Family::LLAMA
};

/// Qwen3-Next: as Qwen 3.5, but neighbouring value heads share a key head. Source: transformers
/// `modeling_qwen3_next.py`.
pub const QWEN3_NEXT: Family =
    Family { names: &["qwen3next"], beta: BetaForm::PerKeyHead, spread: Spread::Block, ..QWEN35 };
