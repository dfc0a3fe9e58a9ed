//! Model families as data, and their lowering to a plan.
//!
//! A family is a `const` record of enums and numbers (`families/`); `layer` resolves it for one layer;
//! `lower` turns record, metadata and tensor table into a verified [`Plan`](crate::plan::Plan). Every tensor
//! of the file is used or named as ignored; a missing or mis-shaped one is an error with its name. Below this
//! room no model's name exists. Start reading in `family.rs`.
#![forbid(unsafe_code)]

mod adapter;
mod config;
mod families;
mod family;
mod lower;
mod rope;
mod table;
mod tensors;

pub use adapter::weight_name as adapter_weight_name;
pub use config::{Config, Pooling};
pub use lower::{Lowered, Purpose, lower};
pub use table::{Architecture, architectures};

/// Names of the architectures that can run, sorted.
pub fn supported() -> Vec<&'static str> {
    let mut names: Vec<_> = families::ALL.iter().flat_map(|f| f.names.iter().copied()).collect();
    names.sort_unstable();
    names
}
