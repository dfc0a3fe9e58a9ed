//! From Hugging Face folders to GGUF files of any type: metadata, tensors, recipes, importance matrices.
#![forbid(unsafe_code)]

pub mod imatrix;
