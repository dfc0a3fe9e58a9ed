//! Making GGUF files: which type each tensor gets, and the way there.
//!
//! `recipe` decides, by llama.cpp's rules, the types of a model's tensors and their order in the file.
#![forbid(unsafe_code)]

pub mod recipe;
