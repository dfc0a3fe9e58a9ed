//! Models that look both ways.

use super::gemma::GEMMA3;
use crate::convert::hf::Field;
use crate::convert::names::{From, HfFamily, How, Key, Rule, Windows, key, same, with};

const BOTH_WAYS: Key = key("attention.causal", From::False);

const BERT_NAMES: &[Rule] = &[
    same("token_embd", "embeddings.word_embeddings"),
    same("token_types", "embeddings.token_type_embeddings"),
    same("position_embd", "embeddings.position_embeddings"),
    same("token_embd_norm", "embeddings.LayerNorm"),
    same("blk.{}.attn_q", "encoder.layer.{}.attention.self.query"),
    same("blk.{}.attn_k", "encoder.layer.{}.attention.self.key"),
    same("blk.{}.attn_v", "encoder.layer.{}.attention.self.value"),
    same("blk.{}.attn_output", "encoder.layer.{}.attention.output.dense"),
    same("blk.{}.attn_output_norm", "encoder.layer.{}.attention.output.LayerNorm"),
    same("blk.{}.ffn_up", "encoder.layer.{}.intermediate.dense"),
    same("blk.{}.ffn_down", "encoder.layer.{}.output.dense"),
    same("blk.{}.layer_output_norm", "encoder.layer.{}.output.LayerNorm"),
];

/// BERT. Its pooler is for sentences in pairs. Source: transformers `modeling_bert.py`.
pub(in crate::convert) const BERT: HfFamily = HfFamily {
    names: &["BertModel"],
    arch: "bert",
    rules: &[BERT_NAMES],
    keys: &[BOTH_WAYS],
    defaults: &[(Field::LayerEps, 1e-12), (Field::Tied, 1.0)],
    drop: &["pooler.dense.weight", "pooler.dense.bias"],
    expects: &[(Field::Activation, "\"gelu\"")],
    pre: &["roberta-bpe"],
    ..HfFamily::LLAMA
};

/// RoBERTa, XLM-RoBERTa, bge-m3: positions begin behind the id of the padding token. Source: transformers
/// `modeling_roberta.py`, `create_position_ids_from_input_ids`.
pub(in crate::convert) const ROBERTA: HfFamily = HfFamily {
    names: &["RobertaModel", "XLMRobertaModel", "CamembertModel"],
    rules: &[
        &[with("position_embd.weight", "embeddings.position_embeddings.weight", &[How::RowsBehindPad])],
        BERT_NAMES,
    ],
    keys: &[BOTH_WAYS, key("context_length", From::BehindPad(Field::Context))],
    ..BERT
};

/// nomic-embed-text 1 and 1.5. Source: the model's `modeling_hf_nomic_bert.py`.
pub(in crate::convert) const NOMIC_BERT: HfFamily = HfFamily {
    names: &["NomicBertModel"],
    arch: "nomic-bert",
    rules: &[&[
        same("token_embd", "embeddings.word_embeddings"),
        same("token_types", "embeddings.token_type_embeddings"),
        same("token_embd_norm", "emb_ln"),
        same("blk.{}.attn_qkv", "encoder.layers.{}.attn.Wqkv"),
        same("blk.{}.attn_output", "encoder.layers.{}.attn.out_proj"),
        same("blk.{}.attn_output_norm", "encoder.layers.{}.norm1"),
        // The second one has the activation.
        same("blk.{}.ffn_up", "encoder.layers.{}.mlp.fc11"),
        same("blk.{}.ffn_gate", "encoder.layers.{}.mlp.fc12"),
        same("blk.{}.ffn_down", "encoder.layers.{}.mlp.fc2"),
        same("blk.{}.layer_output_norm", "encoder.layers.{}.norm2"),
    ]],
    keys: &[BOTH_WAYS, key("context_length", From::Uint(Field::TrainedContext))],
    expects: &[(Field::Activation, "\"swiglu\""), (Field::Prenorm, "false"), (Field::Interleaved, "false")],
    drop: &[],
    ..BERT
};

/// ModernBERT. Source: transformers `modeling_modernbert.py`.
pub(in crate::convert) const MODERN_BERT: HfFamily = HfFamily {
    names: &["ModernBertModel"],
    arch: "modern-bert",
    rules: &[&[
        same("token_embd", "embeddings.tok_embeddings"),
        same("token_embd_norm", "embeddings.norm"),
        same("output_norm", "final_norm"),
        same("blk.{}.attn_norm", "layers.{}.attn_norm"),
        same("blk.{}.attn_qkv", "layers.{}.attn.Wqkv"),
        same("blk.{}.attn_output", "layers.{}.attn.Wo"),
        same("blk.{}.ffn_norm", "layers.{}.mlp_norm"),
        same("blk.{}.ffn_up", "layers.{}.mlp.Wi"),
        same("blk.{}.ffn_down", "layers.{}.mlp.Wo"),
    ]],
    keys: &[BOTH_WAYS, key("hidden_activation", From::Word(Field::HiddenActivation))],
    defaults: &[
        (Field::LayerEps, 1e-5),
        (Field::Tied, 1.0),
        (Field::Window, 128.0),
        (Field::FullEvery, 3.0),
        (Field::RopeTheta, 160000.0),
        (Field::RopeThetaLocal, 10000.0),
    ],
    windows: Windows::FullFirst,
    pre: &["modern-bert"],
    ..HfFamily::LLAMA
};

/// EuroBERT. Source: the model's `modeling_eurobert.py`.
pub(in crate::convert) const EUROBERT: HfFamily = HfFamily {
    names: &["EuroBertModel"],
    arch: "eurobert",
    rules: &[],
    keys: &[BOTH_WAYS],
    defaults: &[(Field::RmsEps, 1e-5), (Field::Tied, 1.0)],
    ..HfFamily::LLAMA
};

/// EmbeddingGemma. What its folder has for the time after pooling (`2_Dense`, `3_Dense`) is no part of the model's own
/// checkpoint. Source: transformers `modeling_gemma3.py`.
pub(in crate::convert) const GEMMA_EMBEDDING: HfFamily =
    HfFamily { names: &["Gemma3TextModel"], arch: "gemma-embedding", expects: &[(Field::BothWays, "true")], ..GEMMA3 };
