//! Without the feature `gpu` there is no GPU: types without values.

use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::plan::{Backend, Probe, Rows, SequenceMemory};

/// No GPU.
pub enum GpuBackend {}
/// Nothing remembered on one.
pub enum GpuSequence {}

impl SequenceMemory for GpuSequence {
    fn len(&self) -> u32 {
        match *self {}
    }
    fn rewind(&mut self, _: u32) -> bool {
        match *self {}
    }
    fn clear(&mut self) {
        match *self {}
    }
    fn bytes(&self) -> u64 {
        match *self {}
    }
}

impl Backend for GpuBackend {
    type Sequence = GpuSequence;

    fn run(
        &mut self,
        _: &Rows<'_>,
        _: &mut [&mut GpuSequence],
        _: Option<Probe>,
        _: &AtomicBool,
        _: &mut Vec<f32>,
    ) -> Result<()> {
        match *self {}
    }
}
