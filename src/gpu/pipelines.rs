//! Compiled kernels, each once, and bindings for them.

use std::collections::HashMap;
use std::sync::Arc;

use super::compose::{Kernel, Slot};
use super::device::Gpu;
use crate::error::Result;

/// A range of a buffer.
#[derive(Clone, Copy)]
pub(super) struct Range<'a> {
    pub buffer: &'a wgpu::Buffer,
    pub start: u64,
    /// Bytes; a multiple of 4.
    pub size: u64,
}

impl<'a> Range<'a> {
    /// The whole buffer.
    pub fn all(buffer: &'a wgpu::Buffer) -> Self {
        Self { buffer, start: 0, size: buffer.size() }
    }
}

/// Kernels of one device.
pub(super) struct Pipelines {
    gpu: Arc<Gpu>,
    /// Compile with bounds checks.
    checked: bool,
    layouts: HashMap<&'static [Slot], (wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    compiled: HashMap<Kernel, wgpu::ComputePipeline>,
}

impl Pipelines {
    pub fn new(gpu: Arc<Gpu>, checked: bool) -> Self {
        Self { gpu, checked, layouts: HashMap::new(), compiled: HashMap::new() }
    }

    /// The layout of a kind of kernels.
    fn layout(&mut self, slots: &'static [Slot]) -> &(wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let device = &self.gpu.device;
        self.layouts.entry(slots).or_insert_with(|| {
            let ty = |slot: Slot| match slot {
                Slot::Read => wgpu::BufferBindingType::Storage { read_only: true },
                Slot::Write => wgpu::BufferBindingType::Storage { read_only: false },
                Slot::Uniform => wgpu::BufferBindingType::Uniform,
            };
            let entry = |(i, slot): (usize, &Slot)| wgpu::BindGroupLayoutEntry {
                binding: i as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty: ty(*slot), has_dynamic_offset: false, min_binding_size: None },
                count: None,
            };
            let entries: Vec<_> = slots.iter().enumerate().map(entry).collect();
            let group =
                device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
            let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            (group, pipeline)
        })
    }

    /// The compiled kernel.
    ///
    /// # Errors
    /// As [`Gpu::pipeline`].
    pub fn get(&mut self, kernel: &Kernel) -> Result<wgpu::ComputePipeline> {
        if let Some(pipeline) = self.compiled.get(kernel) {
            return Ok(pipeline.clone());
        }
        let layout = self.layout(kernel.slots).1.clone();
        let pipeline = compile(&self.gpu, kernel, &layout, self.checked)?;
        Ok(self.compiled.entry(kernel.clone()).or_insert(pipeline).clone())
    }

    /// Compiles those of the kernels that are not compiled yet, on several threads.
    ///
    /// # Errors
    /// As [`Gpu::pipeline`].
    pub fn compile(&mut self, kernels: &[Kernel]) -> Result<()> {
        use rayon::prelude::*;
        let mut missing: Vec<&Kernel> = Vec::new();
        for kernel in kernels.iter().filter(|k| !self.compiled.contains_key(*k)) {
            if !missing.contains(&kernel) {
                missing.push(kernel);
            }
        }
        let layouts: Vec<_> = missing.iter().map(|k| self.layout(k.slots).1.clone()).collect();
        let (gpu, checked) = (&self.gpu, self.checked);
        let one = |(kernel, layout): (&&Kernel, &wgpu::PipelineLayout)| compile(gpu, kernel, layout, checked);
        let compiled: Vec<_> = missing.par_iter().zip(&layouts).map(one).collect::<Result<_>>()?;
        self.compiled.extend(missing.into_iter().cloned().zip(compiled));
        Ok(())
    }

    /// Names of what is compiled.
    #[cfg(test)]
    pub fn labels(&self) -> Vec<String> {
        self.compiled.keys().map(Kernel::label).collect()
    }

    /// Bindings in the order of the slots.
    pub fn bind<'a>(&mut self, slots: &'static [Slot], ranges: &[Range<'a>]) -> wgpu::BindGroup {
        debug_assert_eq!(slots.len(), ranges.len());
        let resource = |r: &Range<'a>| {
            let size = std::num::NonZeroU64::new(r.size);
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: r.buffer, offset: r.start, size })
        };
        let entries: Vec<_> =
            (0u32..).zip(ranges).map(|(binding, r)| wgpu::BindGroupEntry { binding, resource: resource(r) }).collect();
        let layout = self.layout(slots).0.clone();
        let desc = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
        self.gpu.device.create_bind_group(&desc)
    }
}

fn compile(
    gpu: &Arc<Gpu>,
    kernel: &Kernel,
    layout: &wgpu::PipelineLayout,
    checked: bool,
) -> Result<wgpu::ComputePipeline> {
    let compile = || gpu.pipeline(&kernel.label(), &kernel.text(), layout, checked);
    #[cfg(test)]
    return testing::shared(gpu, kernel, checked, compile);
    #[cfg(not(test))]
    compile()
}

#[cfg(test)]
#[path = "pipelines/tests.rs"]
pub mod testing;
