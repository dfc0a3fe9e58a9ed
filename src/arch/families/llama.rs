//! Llama and its near relatives.

use crate::arch::family::{Block, EmbedScale, Family, Ffn, QkNorm, RopeWhere, Windows};
use crate::plan::{Act, NormKind, Pairs};

impl Family {
    /// The defaults of every family.
    pub const LLAMA: Family = Family {
        names: &["llama"],
        block: Block::Serial,
        norm: NormKind::Rms,
        ffn_norm: Some("ffn_norm"),
        attn_post_norm: None,
        ffn_post_norm: None,
        rope: Pairs::Adjacent,
        rope_where: RopeWhere::All,
        qk_norm: QkNorm::None,
        scale_n_embd_layers: None,
        temper: false,
        windows: Windows { period: 0, rope_theta: None, rope_scaled: true, default: None },
        ffn: Ffn::Gated,
        act: Act::Silu,
        embed_scale: EmbedScale::Key,
        attn_softcap: None,
        final_softcap: None,
        needs: &[],
        ignore: &[],
    };
}

/// Llama 1 to 3.3, Mistral 7B, Yi, R1 distills. Source: transformers `modeling_llama.py`. Queries and keys are
/// permuted by the converter, hence adjacent pairs; files of the first year carry unused `attn_rot_embd`.
pub const LLAMA: Family = Family { ignore: &["attn_rot_embd.weight"], ..Family::LLAMA };

/// Ministral 3, Mistral Small 3.x. Source: transformers `modeling_ministral3.py`; the temperature acts only
/// where the file has `attention.temperature_scale`.
pub const MISTRAL3: Family = Family { names: &["mistral3"], temper: true, ..Family::LLAMA };

/// SmolLM3. Source: transformers `modeling_smollm3.py` (`no_rope_layer_interval` 4); the file has no key for
/// the layers without rotation.
pub const SMOLLM3: Family = Family { names: &["smollm3"], rope_where: RopeWhere::NotEvery(4), ..Family::LLAMA };
