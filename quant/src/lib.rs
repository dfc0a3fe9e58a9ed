//! Every ggml tensor type as data: its layout and its exact dequantization.
//!
//! This crate knows block formats and nothing else: no files, no threads, no models. Start in
//! [`BlockType`], the one table that the whole project asks for ids, names and sizes.
#![forbid(unsafe_code)]

mod types;

pub use types::{BlockType, UnknownType};
