//! What people should hear about where a model computes, and what they may ask.
#![forbid(unsafe_code)]

use std::fmt;

/// Something that happened to a model and that no result tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A choice that was made, and why.
    Choice(String),
    /// Something does not go as it was asked for; what happens instead.
    Fallback(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Choice(text) | Self::Fallback(text) => f.write_str(text),
        }
    }
}

/// Where the steps of a plan run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// Name of the GPU; empty where there is none in use.
    pub device: String,
    /// Name of the CPU kernels.
    pub cpu: String,
    /// The step from which on the GPU computes.
    pub first_gpu_step: Option<usize>,
    /// Kernels of the GPU: the last step that each computes, and its name.
    pub kernels: Vec<(usize, String)>,
    /// The reason.
    pub why: String,
}

impl Placement {
    pub(super) fn on_cpu(cpu: String, why: String) -> Self {
        Self { device: String::new(), cpu, first_gpu_step: None, kernels: Vec::new(), why }
    }
}
