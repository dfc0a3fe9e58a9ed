//! Llama and its near relatives.

use crate::arch::family::{
    AlibiWhere, BetaForm, Block, EmbedScale, ExpertRule, Family, Ffn, FfnAct, LogitScale, Mixer, NormWeights,
    OtherWhere, QkNorm, RopeWhere, TemperWhere, WindowKind, Windows,
};
use crate::plan::{Act, NormKind, Pairs, Spread};

impl Family {
    /// The defaults of every family.
    pub const LLAMA: Family = Family {
        names: &["llama"],
        block: Block::Serial,
        norm: NormKind::Rms,
        norm_weights: NormWeights::File,
        embed_norm: None,
        attn_norm: &["attn_norm"],
        ffn_norm: Some("ffn_norm"),
        attn_post_norm: None,
        ffn_post_norm: None,
        rope: Pairs::Adjacent,
        rope_where: RopeWhere::All,
        alibi: AlibiWhere::Never,
        positions: None,
        v_norm: false,
        shares_kv: false,
        streams: false,
        attn_scale: None,
        qk_norm: QkNorm::None,
        scale_n_embd_layers: None,
        temper: TemperWhere::Never,
        temper_default: None,
        yarn_rounds: true,
        windows: Windows {
            period: 0,
            rope_theta: None,
            rope_scaled: true,
            default: None,
            kind: WindowKind::Slide,
            full_first: false,
        },
        ffn: Ffn::Gated,
        act: FfnAct::Fixed(Act::Silu),
        experts: None,
        embed_scale: EmbedScale::Key,
        residual: None,
        logit_scale: LogitScale::Divide,
        attn_softcap: None,
        final_softcap: None,
        latent: false,
        indexer: false,
        needs: &[],
        ignore: &[],
        mixer: Mixer::Attention,
        other: None,
        other_where: OtherWhere::NoKvHeads,
        gated: false,
        beta: BetaForm::Apart,
        spread: Spread::Cyclic,
        dt_norms: false,
        causal: true,
        stream_norms: None,
        output_norm: Some("output_norm"),
        token_types: false,
        first_attn_norm: true,
    };
}

/// Llama 1 to 3.3, Mistral 7B, Yi, R1 distills. Source: transformers `modeling_llama.py`. Queries and keys are
/// permuted by the converter, hence adjacent pairs; files of the first year carry unused `attn_rot_embd`.
/// InternLM 2 (the model's `modeling_internlm2.py`) and ERNIE 4.5 (transformers `modeling_ernie4_5.py`; it turns
/// adjacent pairs itself) compute the same.
/// Mixtral is a Llama with experts (transformers `modeling_mixtral.py`).
pub const LLAMA: Family = Family {
    names: &["llama", "internlm2", "ernie4_5"],
    experts: Some(ExpertRule::DEFAULT),
    ignore: &["attn_rot_embd.weight"],
    ..Family::LLAMA
};

/// Ministral 3, Mistral Small 3.x. Source: transformers `modeling_ministral3.py`; the temperature acts only
/// where the file has `attention.temperature_scale`.
pub const MISTRAL3: Family = Family { names: &["mistral3"], temper: TemperWhere::All, ..Family::LLAMA };

/// SmolLM3. Source: transformers `modeling_smollm3.py` (`no_rope_layer_interval` 4); the file has no key for
/// the layers without rotation.
pub const SMOLLM3: Family = Family { names: &["smollm3"], rope_where: RopeWhere::NotEvery(4), ..Family::LLAMA };

/// Arcee AFM: no gate. Source: transformers `modeling_arcee.py`.
pub const ARCEE: Family =
    Family { names: &["arcee"], ffn: Ffn::Plain, act: FfnAct::Fixed(Act::Relu2), ..Family::LLAMA };

/// Granite 3: factors by key; here the key that elsewhere tells a file's history says whether the model rotates.
/// Source: transformers `modeling_granite.py`.
pub const GRANITE: Family = Family { names: &["granite"], rope_where: RopeWhere::Flag, ..Family::LLAMA };

/// MiniCPM 1 and 2. The first files lack all three factors: those of MiniCPM-2B stand here (scale_emb 12, scale_depth
/// 1.4, dim_model_base 256). Source: the model's `modeling_minicpm.py`.
pub const MINICPM: Family = Family {
    names: &["minicpm"],
    embed_scale: EmbedScale::KeyOr(12.0),
    residual: Some(1.4),
    logit_scale: LogitScale::DivideOrWidth(256),
    ..Family::LLAMA
};

/// Baichuan. The 13B of 40 layers biases by distance, the 7B rotates; the file does not say which. Source: the models'
/// `modeling_baichuan.py`.
pub const BAICHUAN: Family = Family { names: &["baichuan"], alibi: AlibiWhere::Layers(40), ..Family::LLAMA };

/// OLMo 1: norms without weights; queries, keys and values limited by key. Source: transformers `modeling_olmo.py`.
pub const OLMO: Family =
    Family { names: &["olmo"], norm: NormKind::Layer, norm_weights: NormWeights::None, ..Family::LLAMA };

/// Apertus: no gate, xIELU. Source: transformers `modeling_apertus.py`.
pub const APERTUS: Family = Family {
    names: &["apertus"],
    rope: Pairs::Halves,
    qk_norm: QkNorm::PerHead,
    ffn: Ffn::Plain,
    act: FfnAct::Xielu,
    ..Family::LLAMA
};
