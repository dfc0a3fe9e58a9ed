//! GPT-2 and what follows it: LayerNorms, a feed-forward part without a gate.

use super::norms::NORM_BIASES;
use super::qwen::QKV_BIASES;
use crate::arch::family::{AlibiWhere, Block, Family, Ffn, FfnAct, RopeWhere};
use crate::plan::{Act, NormKind, Pairs};

/// Biases of a feed-forward part without a gate.
pub const MLP_BIASES: &[&str] = &["ffn_up.bias", "ffn_down.bias"];

/// Biases of every matrix and norm of a layer, and of the norms outside.
const ALL_BIASES: &[&[&str]] = &[QKV_BIASES, MLP_BIASES, NORM_BIASES, &["attn_output.bias", "token_embd_norm.bias"]];

/// StarCoder 2. Source: transformers `modeling_starcoder2.py`.
pub const STARCODER2: Family = Family {
    names: &["starcoder2"],
    norm: NormKind::Layer,
    rope: Pairs::Halves,
    ffn: Ffn::Plain,
    act: FfnAct::Fixed(Act::Gelu),
    needs: ALL_BIASES,
    ..Family::LLAMA
};

/// GPT-2 and StarCoder, whose queries share one head of keys and values: learned positions. Source: transformers
/// `modeling_gpt2.py`, `modeling_gpt_bigcode.py`.
pub const GPT2: Family =
    Family { names: &["gpt2", "starcoder"], rope_where: RopeWhere::Never, positions: Some(0), ..STARCODER2 };

/// OPT: the table of positions begins with two rows that are none. Files are this program's own: names follow GPT-2.
/// Source: transformers `modeling_opt.py`.
pub const OPT: Family = Family { names: &["opt"], positions: Some(2), act: FfnAct::Fixed(Act::Relu), ..GPT2 };

/// GPT-NeoX, Pythia: the whole error function in GELU. Source: transformers `modeling_gpt_neox.py`.
pub const NEOX: Family =
    Family { names: &["gptneox"], block: Block::ByKey, act: FfnAct::Fixed(Act::GeluErf), ..STARCODER2 };

/// Falcon 7B, and 40B with a norm of its own for attention. Source: transformers `modeling_falcon.py`.
pub const FALCON: Family = Family {
    names: &["falcon"],
    block: Block::Parallel,
    attn_norm: &["attn_norm_2", "attn_norm"],
    ffn_norm: Some("attn_norm"),
    needs: &[NORM_BIASES],
    ..NEOX
};

/// BLOOM: biases by distance, a norm of the embeddings. Source: transformers `modeling_bloom.py`.
pub const BLOOM: Family =
    Family { names: &["bloom"], embed_norm: Some("token_embd_norm"), alibi: AlibiWhere::Always, ..STARCODER2 };

/// MPT: biases by distance, none of matrices. Source: transformers `modeling_mpt.py`.
pub const MPT: Family = Family { names: &["mpt"], alibi: AlibiWhere::Always, needs: &[], act: NEOX.act, ..STARCODER2 };
