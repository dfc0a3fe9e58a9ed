//! The GPU back-end: executes any plan through wgpu, on Vulkan, Metal or DX12.
//!
//! `device` opens adapters and turns every failure into a value, `compose` joins the texts of kernels, `pipelines`
//! compiles them, `planes` says how weights lie and `weights` uploads them, `lower` turns a plan into dispatches,
//! `exec` records and submits them, `sequence` keeps keys and values. Nothing here knows a metadata key or a model.

mod adapters;
mod compose;
mod device;
mod exec;
mod hal;
mod kernels;
#[cfg(test)]
mod lint;
mod lower;
mod pipeline_cache;
mod pipelines;
mod planes;
mod sequence;
#[cfg(test)]
mod tests;
mod weights;

pub use adapters::{Facts, Kind, Pick, list, may_exist, open};
pub use compose::fingerprint;
pub use device::Gpu;
pub use exec::{GpuBackend, GpuOptions, kernels, unsupported};
#[cfg(test)]
pub use pipelines::testing;
pub use sequence::GpuSequence;
