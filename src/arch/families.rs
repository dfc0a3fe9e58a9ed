//! One entry per architecture: data only. Sources: the models' code in transformers, confirmed by the logits
//! of small models of every family (`tests/families.rs`).

mod encoders;
mod experts;
mod gemma;
mod gpt;
mod llama;
mod norms;
mod phi;
mod qwen;
mod recurrent;

use super::family::Family;

/// Every family.
pub const ALL: &[&Family] = &[
    &llama::LLAMA,
    &llama::MISTRAL3,
    &llama::SMOLLM3,
    &llama::ARCEE,
    &llama::GRANITE,
    &llama::MINICPM,
    &llama::BAICHUAN,
    &llama::OLMO,
    &llama::APERTUS,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma::GEMMA3N,
    &gemma::GEMMA4,
    &phi::PHI2,
    &phi::PHI3,
    &norms::OLMO2,
    &norms::EXAONE4,
    &norms::SEED_OSS,
    &norms::HUNYUAN,
    &norms::CHATGLM,
    &norms::GLM4,
    &norms::COMMAND_R,
    &norms::COHERE2,
    &norms::NEMOTRON,
    &norms::STABLELM,
    &gpt::STARCODER2,
    &gpt::GPT2,
    &gpt::OPT,
    &gpt::NEOX,
    &gpt::FALCON,
    &gpt::BLOOM,
    &gpt::MPT,
    &recurrent::MAMBA,
    &recurrent::MAMBA2,
    &recurrent::FALCON_H1,
    &recurrent::LFM2,
    &recurrent::QWEN35,
    &recurrent::JAMBA,
    &recurrent::GRANITE_HYBRID,
    &recurrent::QWEN3_NEXT,
    &recurrent::QWEN35MOE,
    &recurrent::LFM2MOE,
    &recurrent::NEMOTRON_H,
    &recurrent::KIMI_LINEAR,
    &encoders::BERT,
    &encoders::NOMIC_BERT,
    &encoders::MODERN_BERT,
    &encoders::EUROBERT,
    &encoders::GEMMA_EMBEDDING,
    &experts::QWEN2MOE,
    &experts::QWEN3MOE,
    &experts::OLMOE,
    &experts::GRANITEMOE,
    &experts::DEEPSEEK,
    &experts::ERNIE,
    &experts::HUNYUAN,
    &experts::DOTS1,
    &experts::MINIMAX,
    &experts::GLM4,
    &experts::PHIMOE,
    &experts::GPT_OSS,
    &experts::LLAMA4,
    &experts::DEEPSEEK2,
    &experts::DEEPSEEK32,
];

/// The family of an architecture.
pub fn find(name: &str) -> Option<&'static Family> {
    ALL.iter().copied().find(|f| f.names.contains(&name))
}
