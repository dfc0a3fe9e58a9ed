//! Runs quantized open-weight language models from GGUF files, exactly, on the CPU.
//!
//! The rooms, from the file to the answer: [`gguf`] is the gate that every file passes; [`text`] turns
//! text into tokens and back; `arch` describes model families as data and lowers them to a [`plan`];
//! `cpu` executes plans; [`sample`] chooses tokens; `engine` is the public interface that ties them.
//! [`convert`] makes files; [`shelf`] finds those that are there. [`chat`] holds what conversations need beyond all that.

mod arch;
mod cache;
pub mod chat;
pub mod convert;
mod cpu;
pub mod engine;
pub mod error;
pub mod gguf;
// Not part of the interface: benches measure it.
#[cfg(feature = "gpu")]
#[doc(hidden)]
pub mod gpu;
pub mod knobs;
pub mod plan;
pub mod reply;
pub mod sample;
pub mod shelf;
pub mod text;

pub use engine::{
    Adapter, CancelToken, Chat, ChatTurn, ContextOverflow, DeviceChoice, DeviceInfo, EmbedOptions, Event,
    GenerateOptions, Generation, GpuCheck, GpuLayers, InputSum, Model, ModelOptions, Pooling, SavedSession, Session,
    SessionOptions, StopReason, Summary, Want, devices,
};
pub use error::{Error, ErrorKind, Result};
pub use knobs::Knobs;
pub use tealight_quant as quant;

// The example of the readme is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
