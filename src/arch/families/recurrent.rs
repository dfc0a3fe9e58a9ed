//! Families with layers that keep a state.

use super::experts::{CHOICE_BIASES, SHARED_GATE};
use crate::arch::family::{
    BetaForm, Block, ExpertRule, Family, Ffn, FfnAct, Mixer, OtherWhere, QkNorm, Renorm, RopeWhere,
};
use crate::plan::{Act, Pairs, Spread};

/// The norm before the output projection of Mamba 2.
const SSM_NORM: &str = "ssm_norm.weight<ssm_out.weight";

/// Mamba 1, FalconMamba (whose file says that step sizes, inputs and outputs are normed): one branch per layer. Source:
/// transformers `modeling_mamba.py`, `modeling_falcon_mamba.py`.
pub const MAMBA: Family = Family { names: &["mamba"], block: Block::One, mixer: Mixer::Mamba1, ..Family::LLAMA };

/// Mamba 2, Codestral Mamba. Source: transformers `modeling_mamba2.py`.
pub const MAMBA2: Family = Family { names: &["mamba2"], mixer: Mixer::Mamba2, needs: &[&[SSM_NORM]], ..MAMBA };

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
    output_norm: Some("token_embd_norm"),
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
    experts: Some(ExpertRule::SOFTMAX),
    ..Family::LLAMA
};

/// Granite 4: Mamba 2 between layers with attention, which rotate where the file's flag says so. Source: transformers
/// `modeling_granitemoehybrid.py`.
pub const GRANITE_HYBRID: Family = Family {
    names: &["granitehybrid"],
    other: Some(Mixer::Mamba2),
    rope_where: RopeWhere::Flag,
    experts: Some(ExpertRule::DEFAULT),
    needs: &[&[SSM_NORM]],
    ..Family::LLAMA
};

/// Qwen 3.5 with experts, one more of which every row goes to by the share of a sigmoid. Source: transformers
/// `modeling_qwen3_5_moe.py`.
pub const QWEN35MOE: Family =
    Family { names: &["qwen35moe"], experts: Some(ExpertRule::DEFAULT), needs: &[&[SHARED_GATE]], ..QWEN35 };

/// Qwen3-Next: as Qwen 3.5, but neighbouring value heads share a key head. Source: transformers
/// `modeling_qwen3_next.py`.
pub const QWEN3_NEXT: Family =
    Family { names: &["qwen3next"], beta: BetaForm::PerKeyHead, spread: Spread::Block, ..QWEN35MOE };

/// LFM2 with experts. Source: transformers `modeling_lfm2_moe.py`.
pub const LFM2MOE: Family = Family {
    names: &["lfm2moe"],
    experts: Some(ExpertRule { renorm: Renorm::Always(1e-6), ..ExpertRule::SIGMOID }),
    needs: &[&[CHOICE_BIASES]],
    ..LFM2
};

/// Nemotron-H and Nemotron 3 Nano: one branch per layer, Mamba 2, attention or a feed-forward part; nothing rotates. Source: transformers
/// `modeling_nemotron_h.py`.
pub const NEMOTRON_H: Family = Family {
    names: &["nemotron_h", "nemotron_h_moe"],
    block: Block::One,
    other: Some(Mixer::Mamba2),
    rope_where: RopeWhere::Never,
    ffn: Ffn::Plain,
    act: FfnAct::Fixed(Act::Relu2),
    experts: Some(ExpertRule::SIGMOID),
    needs: &[&[CHOICE_BIASES, SSM_NORM]],
    ..Family::LLAMA
};

/// Kimi Linear: delta attention between layers with latent attention; nothing rotates. Source: the model's
/// `modeling_kimi.py`.
pub const KIMI_LINEAR: Family = Family {
    names: &["kimi-linear"],
    latent: true,
    other: Some(Mixer::KeyDelta),
    rope_where: RopeWhere::Never,
    experts: Some(ExpertRule::SIGMOID),
    needs: &[&[CHOICE_BIASES]],
    ..Family::LLAMA
};
