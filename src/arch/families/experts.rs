//! Families with experts.

use super::norms::OLMO2;
use super::qwen::{QKV_BIASES, QWEN2, QWEN3};
use crate::arch::family::{ExpertRule, Family, FfnAct, QkNorm, Renorm, RopeWhere, TemperWhere, WindowKind, Windows};
use crate::plan::{Act, NormKind, Pairs, Score};

/// The biases by which routers with sigmoids choose.
pub const CHOICE_BIASES: &str = "exp_probs_b.bias<ffn_gate_inp.weight";
/// The share of the expert that every row goes to.
pub const SHARED_GATE: &str = "ffn_gate_inp_shexp.weight<ffn_up_shexp.weight";

/// Qwen 1.5 and 2 with experts; one more that every row goes to, by the share of a sigmoid. Source: transformers
/// `modeling_qwen2_moe.py` (`norm_topk_prob` is false in all published models; the file does not say it).
pub const QWEN2MOE: Family =
    Family { names: &["qwen2moe"], experts: Some(ExpertRule::SOFTMAX), needs: &[QKV_BIASES, &[SHARED_GATE]], ..QWEN2 };

/// Qwen 3 with experts. Source: transformers `modeling_qwen3_moe.py` (`norm_topk_prob` is true in all published
/// models).
pub const QWEN3MOE: Family = Family { names: &["qwen3moe"], experts: Some(ExpertRule::DEFAULT), ..QWEN3 };

/// OLMoE: one norm over all heads. Source: transformers `modeling_olmoe.py`.
pub const OLMOE: Family = Family {
    names: &["olmoe"],
    rope: Pairs::Halves,
    qk_norm: OLMO2.qk_norm,
    experts: Some(ExpertRule::SOFTMAX),
    ..Family::LLAMA
};

/// Granite 3 with experts. Source: transformers `modeling_granitemoe.py`: a softmax over the chosen is the renormalised
/// softmax over all.
pub const GRANITEMOE: Family =
    Family { names: &["granitemoe"], rope_where: RopeWhere::Flag, experts: Some(ExpertRule::DEFAULT), ..Family::LLAMA };

/// DeepSeek-MoE 16B. Source: the model's `modeling_deepseek.py`.
pub const DEEPSEEK: Family = Family {
    names: &["deepseek"],
    experts: Some(ExpertRule { renorm: Renorm::Key(0.0), ..ExpertRule::DEFAULT }),
    ..Family::LLAMA
};

/// ERNIE 4.5 with experts: a bias chooses among softmax scores. Source: transformers `modeling_ernie4_5_moe.py`
/// (`moe_norm_min` 1e-12).
pub const ERNIE: Family = Family {
    names: &["ernie4_5-moe"],
    experts: Some(ExpertRule { renorm: Renorm::Always(1e-12), ..ExpertRule::DEFAULT }),
    ..Family::LLAMA
};

/// Hunyuan A13B. Source: transformers `modeling_hunyuan_v1_moe.py`.
pub const HUNYUAN: Family = Family {
    names: &["hunyuan-moe"],
    rope: Pairs::Halves,
    qk_norm: QkNorm::PerHeadRotated,
    experts: Some(ExpertRule::DEFAULT),
    ..Family::LLAMA
};

/// dots.llm1. Source: transformers `modeling_dots1.py`.
pub const DOTS1: Family =
    Family { names: &["dots1"], experts: Some(ExpertRule::SIGMOID), needs: &[&[CHOICE_BIASES]], ..QWEN3MOE };

/// MiniMax M2: one norm over all heads. Source: the model's `modeling_minimax_m2.py`.
pub const MINIMAX: Family = Family { names: &["minimax-m2"], qk_norm: QkNorm::Whole, ..DOTS1 };

/// GLM 4.5 and 4.6; Air has no norms of queries and keys. Source: transformers `modeling_glm4_moe.py`.
pub const GLM4: Family =
    Family { names: &["glm4moe"], ffn_norm: Some("post_attention_norm"), qk_norm: QkNorm::PerHeadIfThere, ..DOTS1 };

/// Phi-3.5-MoE: LayerNorms although the file has the other norm's key, biases, two experts by the sparse mixer
/// (`router_jitter_noise` 0.01; the file does not say it). Source: transformers `modeling_phimoe.py`.
pub const PHIMOE: Family = Family {
    names: &["phimoe"],
    norm: NormKind::Layer,
    rope: Pairs::Halves,
    experts: Some(ExpertRule { score: Score::Mixer { jitter: 0.01 }, by_key: false, ..ExpertRule::SOFTMAX }),
    needs: &[QKV_BIASES, &["attn_output.bias", "attn_norm.bias", "ffn_norm.bias", "output_norm.bias", "output.bias"]],
    ..Family::LLAMA
};

/// gpt-oss: sinks, every second layer windowed, experts with biases and a limited activation. What its files do not
/// say: `swiglu_limit` 7, the 1.702 of the sigmoid, and yarn with `truncate` false. Source: transformers
/// `modeling_gpt_oss.py`.
pub const GPT_OSS: Family = Family {
    names: &["gpt-oss"],
    ffn_norm: Some("post_attention_norm"),
    rope: Pairs::Halves,
    yarn_rounds: false,
    windows: Windows { period: 2, ..Family::LLAMA.windows },
    act: FfnAct::Fixed(Act::ClampedSwiglu { alpha: 1.702, limit: 7.0 }),
    experts: Some(ExpertRule { score: Score::Chosen, by_key: false, ..ExpertRule::SOFTMAX }),
    needs: &[&[
        "attn_q.bias",
        "attn_k.bias",
        "attn_v.bias",
        "attn_output.bias",
        "attn_sinks.weight<attn_output.weight",
        "ffn_gate_inp.bias",
        "ffn_gate_exps.bias",
        "ffn_up_exps.bias",
        "ffn_down_exps.bias",
    ]],
    ..Family::LLAMA
};

/// Llama 4: three of four layers see the tokens of their chunk and rotate; the others warm queries by position. One
/// expert by its sigmoid, which multiplies what goes in, and one that every row goes to. Norms of queries and keys in
/// Scout (16 experts), none in Maverick (128). What files do not say: chunks of 8192, `floor_scale` 8192, `attn_scale`
/// 0.1. Source: transformers `modeling_llama4.py`.
pub const LLAMA4: Family = Family {
    names: &["llama4"],
    rope_where: RopeWhere::Windowed,
    qk_norm: QkNorm::Weightless { unless_experts: 128 },
    temper: TemperWhere::Unrotated,
    temper_default: Some((0.1, 8192)),
    windows: Windows { period: 4, default: Some(8192), kind: WindowKind::Chunk, ..Family::LLAMA.windows },
    experts: Some(ExpertRule { score: Score::Sigmoid, by_key: false, on_input: true, ..ExpertRule::SOFTMAX }),
    ..Family::LLAMA
};

/// DeepSeek V2, V2-Lite, V3 and R1, Kimi K2, GLM-4.7-Flash: latent attention. Scores are a softmax in V2, a sigmoid in
/// all that choose by biases, which first files do not say otherwise. Source: transformers `modeling_deepseek_v2.py`,
/// `modeling_deepseek_v3.py`, `modeling_glm4_moe_lite.py`.
pub const DEEPSEEK2: Family = Family {
    names: &["deepseek2"],
    latent: true,
    experts: Some(ExpertRule { score_biased: Some(Score::Sigmoid), renorm: Renorm::Key(1e-20), ..ExpertRule::DEFAULT }),
    ..Family::LLAMA
};

/// DeepSeek V3.2: V3 whose attention sees chosen positions. Source: transformers `modeling_deepseek_v32.py`.
pub const DEEPSEEK32: Family = Family { names: &["deepseek32"], indexer: true, ..DEEPSEEK2 };
