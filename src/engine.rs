//! The public interface: a [`Model`] is a file that can run, a [`Session`] is one sequence of tokens with its
//! memory. The engine prints nothing, ends no process, installs no handlers; any call can be cancelled.
#![forbid(unsafe_code)]

mod adapter;
mod built_in;
mod cancel;
mod chat;
#[cfg(feature = "gpu")]
mod choice;
mod device;
mod embed;
mod executor;
mod generate;
mod limits;
mod load;
mod notice;
#[cfg(feature = "gpu")]
mod placement;
#[cfg(feature = "gpu")]
mod remembered;
mod sampling;
mod session;
#[cfg(feature = "gpu")]
mod trust;
mod warm;

pub use crate::arch::{Architecture, Pooling, architectures};
pub use crate::cpu::Limits;
#[doc(hidden)]
pub use crate::cpu::bench as kernel_bench;
pub use adapter::Adapter;
pub(crate) use adapter::list as list_adapters;
pub use built_in::{BUILT_IN, BUILT_IN_FACTS, built_in};
pub use cancel::CancelToken;
pub use chat::{Chat, ChatTurn};
pub use device::{DeviceChoice, DeviceInfo, DeviceKind, GpuCheck, GpuLayers, devices};
pub use embed::{EmbedOptions, Embedding};
pub use generate::{ContextOverflow, Event, GenerateOptions, Generation, StopReason, Summary};
pub use load::{InputSum, Model, ModelOptions};
pub use notice::{Notice, Placement};
pub use session::{SavedSession, Session, SessionOptions, Want};
pub use warm::available_memory;
