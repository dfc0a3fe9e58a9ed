//! Families that differ from Llama in their norms and where they stand.

use super::qwen::{QKV_BIASES, QWEN2};
use crate::arch::family::{Block, Family, Ffn, FfnAct, LogitScale, QkNorm, RopeWhere, Windows};
use crate::plan::{Act, NormKind, Pairs};

/// Three windowed layers to a full one.
const THREE_OF_FOUR: Windows = Windows { period: 4, ..Family::LLAMA.windows };

/// Biases of LayerNorms.
pub const NORM_BIASES: &[&str] = &["attn_norm.bias", "attn_norm_2.bias", "ffn_norm.bias", "output_norm.bias"];

/// OLMo 2 and 3: norms behind the branches only, one norm over all heads; OLMo 3 has windows, and scales the rotation
/// of full layers only. Source: transformers `modeling_olmo2.py`, `modeling_olmo3.py`.
pub const OLMO2: Family = Family {
    names: &["olmo2"],
    attn_norm: &[],
    ffn_norm: None,
    attn_post_norm: Some("post_attention_norm"),
    ffn_post_norm: Some("post_ffw_norm"),
    rope: Pairs::Halves,
    qk_norm: QkNorm::Whole,
    windows: Windows { rope_scaled: false, ..THREE_OF_FOUR },
    ..Family::LLAMA
};

/// EXAONE 4: where there are windows (32B), full layers do not rotate. Source: transformers `modeling_exaone4.py`.
pub const EXAONE4: Family = Family {
    names: &["exaone4"],
    rope_where: RopeWhere::Windowed,
    qk_norm: QkNorm::PerHead,
    windows: THREE_OF_FOUR,
    ..OLMO2
};

/// Seed-OSS: the norm before the feed-forward part has another name. Source: transformers `modeling_seed_oss.py`.
pub const SEED_OSS: Family = Family { names: &["seed_oss"], ffn_norm: Some("post_attention_norm"), ..QWEN2 };

/// Hunyuan, dense: norms of queries and keys behind the rotation. Source: transformers
/// `modeling_hunyuan_v1_dense.py`.
pub const HUNYUAN: Family =
    Family { names: &["hunyuan-dense"], rope: Pairs::Halves, qk_norm: QkNorm::PerHeadRotated, ..Family::LLAMA };

/// ChatGLM 3, GLM-4-9B. Source: the models' `modeling_chatglm.py`.
pub const CHATGLM: Family = Family { names: &["chatglm"], ffn: Ffn::Fused, needs: &[QKV_BIASES], ..Family::LLAMA };

/// GLM 4 of April 2025: norms behind the branches too. Source: transformers `modeling_glm4.py`.
pub const GLM4: Family = Family {
    names: &["glm4"],
    attn_post_norm: OLMO2.attn_post_norm,
    ffn_post_norm: OLMO2.ffn_post_norm,
    needs: &[],
    ..CHATGLM
};

/// Command-R: both branches read one LayerNorm. Source: transformers `modeling_cohere.py`. Command-R+ has norms of
/// queries and keys.
pub const COMMAND_R: Family = Family {
    names: &["command-r"],
    block: Block::Parallel,
    norm: NormKind::Layer,
    ffn_norm: None,
    qk_norm: QkNorm::LayerIfThere,
    logit_scale: LogitScale::Multiply,
    ..Family::LLAMA
};

/// Command R7B: full layers do not rotate; the file has the window but not which layers have it. Source: transformers
/// `modeling_cohere2.py`.
pub const COHERE2: Family = Family {
    names: &["cohere2"],
    rope_where: RopeWhere::Windowed,
    qk_norm: QkNorm::None,
    windows: THREE_OF_FOUR,
    ..COMMAND_R
};

/// Nemotron, Minitron: norm weights in a file contain the 1 of LayerNorm1P. Source: transformers
/// `modeling_nemotron.py`.
pub const NEMOTRON: Family = Family {
    names: &["nemotron"],
    norm: NormKind::Layer,
    rope: Pairs::Halves,
    ffn: Ffn::Plain,
    act: FfnAct::Fixed(Act::Relu2),
    needs: &[NORM_BIASES],
    ..Family::LLAMA
};

/// StableLM 2; the 12B has parallel branches and norms of each head. Files of the 3B call its serial blocks parallel,
/// hence the norm decides. Source: transformers `modeling_stablelm.py`.
pub const STABLELM: Family = Family {
    names: &["stablelm"],
    block: Block::ByNorm,
    norm: NormKind::Layer,
    rope: Pairs::Halves,
    qk_norm: QkNorm::LayerIfThere,
    needs: &[NORM_BIASES],
    ..Family::LLAMA
};
