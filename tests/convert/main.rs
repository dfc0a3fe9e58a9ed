//! Converting Hugging Face folders.

#[path = "../common/mod.rs"]
mod common;
mod fixtures;
mod folder;
mod refused;
mod stored;
mod tokenizers;
