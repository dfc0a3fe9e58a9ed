//! Models that look both ways: their results are hidden states, and a vector for each text.

use super::gemma::GEMMA3;
use super::gpt::MLP_BIASES;
use super::qwen::QKV_BIASES;
use crate::arch::family::{Family, Ffn, FfnAct, RopeWhere, WindowKind, Windows};
use crate::plan::{Act, NormKind, Pairs};

/// BERT, RoBERTa, XLM-RoBERTa: learned positions, norms of the stream itself. Files of RoBERTa hold the table of positions
/// from its first real row on. Source: transformers `modeling_bert.py`, `modeling_roberta.py`.
pub const BERT: Family = Family {
    names: &["bert"],
    norm: NormKind::Layer,
    embed_norm: Some("token_embd_norm"),
    attn_norm: &[],
    ffn_norm: None,
    stream_norms: Some(["attn_output_norm", "layer_output_norm"]),
    output_norm: None,
    rope_where: RopeWhere::Never,
    positions: Some(0),
    token_types: true,
    ffn: Ffn::Plain,
    act: FfnAct::Fixed(Act::GeluErf),
    causal: false,
    needs: &[
        QKV_BIASES,
        MLP_BIASES,
        &["attn_output.bias", "token_embd_norm.bias", "attn_output_norm.bias", "layer_output_norm.bias"],
    ],
    ..Family::LLAMA
};

/// nomic-embed-text 1 and 1.5: BERT that rotates, with a gate and without biases. Source: the model's
/// `modeling_hf_nomic_bert.py`.
pub const NOMIC_BERT: Family = Family {
    names: &["nomic-bert"],
    rope: Pairs::Halves,
    rope_where: RopeWhere::All,
    positions: None,
    ffn: Ffn::Gated,
    act: FfnAct::Fixed(Act::Silu),
    needs: &[&["token_embd_norm.bias", "attn_output_norm.bias", "layer_output_norm.bias"]],
    ..BERT
};

/// ModernBERT: every third layer sees all, from the first one on; the others what is near, with a rotation base of their
/// own. Source: transformers `modeling_modernbert.py`.
pub const MODERN_BERT: Family = Family {
    names: &["modern-bert"],
    norm: NormKind::Layer,
    embed_norm: Some("token_embd_norm"),
    first_attn_norm: false,
    rope: Pairs::Halves,
    ffn: Ffn::Fused,
    act: FfnAct::Fixed(Act::GeluErf),
    windows: Windows {
        period: 3,
        full_first: true,
        kind: WindowKind::Near,
        rope_theta: Some(10000.0),
        ..Family::LLAMA.windows
    },
    causal: false,
    ..Family::LLAMA
};

/// EuroBERT: Llama that looks both ways. Source: the model's `modeling_eurobert.py`.
pub const EUROBERT: Family = Family { names: &["eurobert"], rope: Pairs::Halves, causal: false, ..Family::LLAMA };

/// EmbeddingGemma: Gemma 3 that looks both ways. Source: transformers `modeling_gemma3.py` with
/// `use_bidirectional_attention`.
pub const GEMMA_EMBEDDING: Family = Family {
    names: &["gemma-embedding"],
    windows: Windows { kind: WindowKind::Near, ..GEMMA3.windows },
    scale_n_embd_layers: None,
    causal: false,
    ..GEMMA3
};
