//! The GPU back-end: executes any plan through wgpu, on Vulkan, Metal or DX12.
//!
//! `adapters` finds and chooses devices, `device` opens them and turns every failure into a value, `compose` joins the texts of kernels, `pipelines`
//! compiles them. Nothing here knows a metadata key or a model.

mod adapters;
mod compose;
mod device;
mod hal;
mod pipeline_cache;
mod pipelines;

pub use adapters::{Facts, Kind, Memory, Pick, list, may_exist, open};
pub use device::{Caps, Gpu};
