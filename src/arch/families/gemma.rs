//! Gemma 1 to 4 and 3n. Norm weights in a file already contain the 1 that transformers adds.

use crate::arch::family::{EmbedScale, ExpertRule, Family, FfnAct, QkNorm, Windows};
use crate::plan::{Act, Pairs};

/// Gemma. Source: transformers `modeling_gemma.py`.
pub const GEMMA: Family = Family {
    names: &["gemma"],
    rope: Pairs::Halves,
    act: FfnAct::Fixed(Act::Gelu),
    embed_scale: EmbedScale::Sqrt,
    ..Family::LLAMA
};

/// Norms after both branches; even layers windowed, which the file does not say. The 27B (46 layers) scales
/// scores by its width. The first files lack both soft caps and the window: the published models' stand here.
/// Source: transformers `modeling_gemma2.py`.
pub const GEMMA2: Family = Family {
    names: &["gemma2"],
    attn_post_norm: Some("post_attention_norm"),
    ffn_post_norm: Some("post_ffw_norm"),
    windows: Windows { period: 2, default: Some(4096), ..Family::LLAMA.windows },
    attn_softcap: Some(50.0),
    final_softcap: Some(30.0),
    scale_n_embd_layers: Some(46),
    ..GEMMA
};

/// Five windowed layers to one full one; windowed layers rotate with base 10000, unscaled; older files lack
/// both facts. The 27B has 62 layers. Source: transformers `modeling_gemma3.py`.
pub const GEMMA3: Family = Family {
    names: &["gemma3"],
    qk_norm: QkNorm::PerHead,
    windows: Windows { period: 6, rope_theta: Some(10000.0), rope_scaled: false, ..Family::LLAMA.windows },
    attn_softcap: None,
    final_softcap: None,
    scale_n_embd_layers: Some(62),
    ..GEMMA2
};

/// Four residual streams, of which a layer reads one and corrects all (AltUp); a low-rank path beside attention
/// (Laurel); embeddings for each layer; gates of which only what stands out counts; normalised values; keys and values
/// shared by the last layers. Source: transformers `modeling_gemma3n.py`.
pub const GEMMA3N: Family = Family {
    names: &["gemma3n"],
    v_norm: true,
    shares_kv: true,
    streams: true,
    windows: Windows { period: 5, ..GEMMA3.windows },
    attn_scale: Some(1.0),
    final_softcap: Some(30.0),
    scale_n_embd_layers: None,
    needs: &[&["attn_v.weight<attn_k.weight"]],
    ..GEMMA3
};

/// Gemma 4: full layers without a matrix for values take the raw keys; layers are scaled as a whole; the 26B has experts
/// beside a dense part. Its norm weights are whole, files and model alike. Source: transformers `modeling_gemma4.py`.
pub const GEMMA4: Family = Family {
    names: &["gemma4"],
    streams: false,
    windows: GEMMA3.windows,
    final_softcap: None,
    experts: Some(ExpertRule { beside_dense: true, ..ExpertRule::DEFAULT }),
    needs: &[&[
        "rope_freqs.weight<token_embd.weight",
        "layer_output_scale.weight<attn_norm.weight",
        "ffn_down_exps.scale<ffn_down_exps.weight",
    ]],
    ..GEMMA3N
};
