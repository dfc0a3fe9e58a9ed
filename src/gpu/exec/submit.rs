//! Handing recorded work to the device, cut by a budget of work, and reading back what was wanted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::GpuBackend;
use super::program::Recorder;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::lower::{Grid, Place, row_stride};
use crate::gpu::sequence::GpuSequence;
use crate::plan::{Operand, SequenceMemory};

/// Multiplications of the first submission of a prompt; later ones follow what was measured.
pub(super) const FIRST_BUDGET: u64 = 2 << 30;
/// Bounds of the budget, and the time that a submission should take.
const BUDGET: (u64, u64) = (256 << 20, 100 << 30);
const SUBMISSION: Duration = Duration::from_millis(60);
/// Bytes of the word for faults at the end of what is read back.
pub(super) const STATUS_BYTES: u64 = 16;

/// Rows of a buffer that are read back.
#[derive(Clone, Copy)]
pub(super) struct Copy {
    pub place: Place,
    /// First row, and rows.
    pub first: u32,
    pub rows: u32,
}

impl GpuBackend {
    /// Records dispatches, cut into submissions by the budget; the last one copies what is wanted.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn submit(
        &mut self,
        range: std::ops::Range<usize>,
        n: [u32; 2],
        sequences: &mut [&mut GpuSequence],
        counts: &[(u32, u32)],
        copies: &[Copy],
        cancel: &AtomicBool,
    ) -> Result<()> {
        let gpu = self.gpu.clone();
        let n_query: u64 = counts.iter().zip(sequences.iter()).map(|(c, s)| u64::from(c.0) * u64::from(s.len())).sum();
        let mut next = range.start;
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let start = Instant::now();
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut work = 0;
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                self.stats.passes += 1;
                let mut recorder = Recorder {
                    gpu: &gpu,
                    program: &self.program,
                    pipelines: &mut self.pipelines,
                    stats: &mut self.stats,
                };
                while next < range.end {
                    let dispatch = &self.program.dispatches[next];
                    let rows = n[usize::from(dispatch.taken)];
                    if dispatch.rows.contains(&rows) {
                        work += match &dispatch.grid {
                            Grid::Attend(a) => 2 * n_query * u64::from(a.q.len()),
                            _ => dispatch.cost * u64::from(rows),
                        };
                        recorder.record(&mut pass, next, rows, sequences, counts)?;
                    }
                    next += 1;
                    if work > self.budget {
                        break;
                    }
                }
            }
            let is_last = next == range.end;
            if is_last && !copies.is_empty() {
                self.copy(&mut encoder, copies)?;
            }
            let commands = encoder.finish();
            self.stats.encoding += start.elapsed();
            gpu.queue.submit([commands]);
            self.stats.submissions += 1;
            if is_last {
                return gpu.check();
            }
            let start = Instant::now();
            gpu.wait()?;
            let ratio = SUBMISSION.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-4);
            self.budget = ((work as f64 * ratio.clamp(0.25, 4.0)) as u64).clamp(BUDGET.0, BUDGET.1);
        }
    }

    /// Copies rows, then the word for faults, to where the CPU reads them.
    fn copy(&mut self, encoder: &mut wgpu::CommandEncoder, copies: &[Copy]) -> Result<()> {
        let plan = self.plan.clone();
        let row_bytes = |c: &Copy| 4 * u64::from(row_stride(plan.buffers()[c.place.buf.index()].width));
        let bytes = |c: &Copy| row_bytes(c) * u64::from(c.rows);
        let total = copies.iter().map(bytes).sum::<u64>() + STATUS_BYTES;
        if total > self.buffers.readback.size() {
            self.buffers.readback = self.gpu.readback("results", total.next_power_of_two())?;
        }
        let mut at = 0;
        for c in copies {
            let from = row_bytes(c) * u64::from(c.first);
            encoder.copy_buffer_to_buffer(self.buffers.place(c.place), from, &self.buffers.readback, at, bytes(c));
            at += bytes(c);
        }
        encoder.copy_buffer_to_buffer(&self.buffers.status, 0, &self.buffers.readback, at, STATUS_BYTES);
        Ok(())
    }

    fn stride(&self, place: Place) -> u32 {
        row_stride(self.plan.buffers()[place.buf.index()].width)
    }

    /// Reads what [`GpuBackend::copy`] copied and appends the operand's columns of every row.
    fn read(&self, copies: &[Copy], o: Operand, out: &mut Vec<f32>) -> Result<()> {
        let words = |c: &Copy| (self.stride(c.place) * c.rows) as usize;
        let total: usize = copies.iter().map(words).sum();
        self.gpu.read(&self.buffers.readback, 4 * total as u64 + STATUS_BYTES, |bytes| {
            let values: &[f32] = bytemuck::cast_slice(&bytes[..4 * total]);
            let Some(first) = copies.first() else { return Ok(()) };
            for row in values.chunks_exact(self.stride(first.place) as usize) {
                o.head_starts().for_each(|s| out.extend_from_slice(&row[s..s + o.width as usize]));
            }
            self.check_status(&bytes[4 * total..])
        })?
    }

    fn check_status(&self, bytes: &[u8]) -> Result<()> {
        if bytes[..4] == [0; 4] {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Model, "a key or value passed the range of the cache's numbers")
            .with_hint("use -ctk f32 -ctv f32; if that does not help, the weights are damaged"))
    }

    pub(super) fn finish(&self, copies: &[Copy], result: Operand, out: &mut Vec<f32>) -> Result<()> {
        if copies.is_empty() {
            return self.gpu.wait();
        }
        self.read(copies, result, out)
    }
}
