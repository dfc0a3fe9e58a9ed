//! Every ggml tensor type as data: its layout and its exact dequantization.
//!
//! This crate knows block formats and nothing else: no files, no threads, no models. Start in
//! [`BlockType`], the one table that the whole project asks for ids, names and sizes; [`dequantize`]
//! turns blocks of any type into numbers.
#![deny(unsafe_code)]

pub mod activations;
pub mod blocks;
mod dequantize;
pub mod grids;
mod quantize;
mod types;

pub use dequantize::{DequantizeError, dequantize, first_bad_scale};
pub use quantize::{QuantizeError, QuantizeErrorKind, quantize};
pub use types::{BlockType, UnknownType};
