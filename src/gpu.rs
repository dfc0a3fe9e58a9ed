//! The GPU back-end: executes any plan through wgpu, on Vulkan, Metal or DX12.
//!
//! `device` opens adapters and turns every failure into a value, `compose` joins the texts of kernels, `pipelines`
//! compiles them, `kernels` knows the constants, parameters and grids of each. Nothing here knows a metadata key or a model.

mod compose;
mod device;
mod hal;
mod kernels;
#[cfg(test)]
mod lint;
mod pipelines;

pub use device::{Caps, Gpu};
