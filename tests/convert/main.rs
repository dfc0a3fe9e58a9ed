//! Converting Hugging Face folders.

mod adapters;
#[path = "../common/mod.rs"]
mod common;
mod fixtures;
mod folder;
mod forms;
mod refused;
mod run;
mod stored;
mod tokenizers;
