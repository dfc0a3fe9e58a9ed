//! The choice of the greatest numbers of result rows, where they are computed.

use super::GpuBackend;
use crate::error::Result;
use crate::gpu::device::Gpu;
use crate::gpu::kernels::select::Select;
use crate::gpu::lower::{Place, row_stride};
use crate::gpu::pipelines::{Pipelines, Range};

/// The kernels that find the `k` greatest numbers of each wanted row, and where they leave them.
pub(super) struct Choice {
    k: u32,
    select: Select,
    stages: [wgpu::ComputePipeline; 2],
    group: wgpu::BindGroup,
    /// By wanted row: what [`crate::gpu::kernels::select::chosen`] reads.
    records: wgpu::Buffer,
}

impl Choice {
    /// Over at most `n_row` rows of `logits`, which `select` describes.
    fn new(
        gpu: &Gpu,
        pipelines: &mut Pipelines,
        logits: &wgpu::Buffer,
        select: Select,
        k: u32,
        n_row: u32,
    ) -> Result<Self> {
        let part = gpu.storage("parts of the choice", 4 * select.part_words(n_row) as u64)?;
        let records = gpu.storage("choice", 4 * u64::from(n_row) * select.record_words() as u64)?;
        let params = gpu.uniform("choice", size_of::<Select>() as u64)?;
        gpu.queue.write_buffer(&params, 0, bytemuck::bytes_of(&select));
        let [first, second] = select.stages(n_row).map(|(kernel, _)| kernel);
        pipelines.compile(&[first.clone(), second.clone()])?;
        let ranges = [Range::all(logits), Range::all(&part), Range::all(&records), Range::all(&params)];
        let group = pipelines.bind(first.slots, &ranges);
        let stages = [pipelines.get(&first)?, pipelines.get(&second)?];
        gpu.check()?;
        Ok(Self { k, select, stages, group, records })
    }

    /// Records the choice over the first `n_row` rows; returns the number of dispatches.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>, n_row: u32) -> u64 {
        for (pipeline, (_, [x, y, z])) in self.stages.iter().zip(self.select.stages(n_row)) {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &self.group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
        self.stages.len() as u64
    }

    pub fn records(&self) -> &wgpu::Buffer {
        &self.records
    }

    /// Words of a row's record.
    pub fn record_words(&self) -> usize {
        self.select.record_words()
    }
}

impl GpuBackend {
    /// Do wanted rows lie one after the other, with their columns side by side?
    pub(super) fn can_choose(&self) -> bool {
        let o = self.plan.outputs()[0];
        let is_dense = o.heads == 1 || o.stride == o.width;
        is_dense && self.program.take() < self.program.dispatches.len()
    }

    /// Makes ready to choose `k` numbers.
    pub(super) fn prepare_choice(&mut self, k: u32) -> Result<()> {
        if self.choice.as_ref().is_some_and(|c| c.k == k) {
            return Ok(());
        }
        let o = self.plan.outputs()[0];
        let logits = self.buffers.place(Place { buf: o.buf, taken: true });
        let row = row_stride(self.plan.buffers()[o.buf.index()].width);
        let select = Select::new(o.len(), row, o.start, k);
        self.choice = Some(Choice::new(&self.gpu, &mut self.pipelines, logits, select, k, self.want_rows)?);
        Ok(())
    }
}
