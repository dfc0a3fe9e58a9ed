//! One entry per architecture: data only. Sources: the models' code in transformers, confirmed by the logits
//! of small models of every family (`tests/families.rs`).

mod gemma;
mod llama;
mod phi;
mod qwen;

use super::family::Family;

/// Every family.
pub const ALL: &[&Family] = &[
    &llama::LLAMA,
    &llama::MISTRAL3,
    &llama::SMOLLM3,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi::PHI2,
    &phi::PHI3,
];

/// The family of an architecture.
pub fn find(name: &str) -> Option<&'static Family> {
    ALL.iter().copied().find(|f| f.names.contains(&name))
}
