//! The GPU back-end: executes any plan through wgpu, on Vulkan, Metal or DX12.
//!
//! `device` opens adapters and turns every failure into a value, `compose` joins the texts of kernels, `pipelines`
//! compiles them, `planes` lays out weights. Nothing here knows a metadata key or a model.

mod compose;
mod device;
mod hal;
mod pipelines;
mod planes;

pub use device::{Caps, Gpu};
