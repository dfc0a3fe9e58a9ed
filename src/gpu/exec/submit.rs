//! Handing recorded work to the device, cut by a budget of work, and reading back what was wanted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::GpuBackend;
use super::program::Recorder;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::kernels::select;
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

/// What is read back behind the last submission of a pass, besides the word for faults.
pub(super) enum Tail {
    Rows(Vec<Copy>),
    /// The records of the choice over so many wanted rows.
    Best(u32),
}

/// Where results go.
pub(super) enum Answer<'a> {
    /// The operand's columns of every row.
    Rows(Operand, &'a mut Vec<f32>),
    /// The greatest numbers of every row, until one is not finite.
    Best(&'a mut Vec<(u32, f32)>, &'a mut Fault),
}

/// Rows looked at so far, and the first with a number that is not finite.
#[derive(Default)]
pub(super) struct Fault {
    pub n_row: u32,
    pub first: Option<u32>,
}

impl GpuBackend {
    /// Records dispatches, cut into submissions by the budget; the last one ends with what is wanted.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn submit(
        &mut self,
        range: std::ops::Range<usize>,
        n: [u32; 2],
        sequences: &mut [&mut GpuSequence],
        counts: &[(u32, u32)],
        tail: &Tail,
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
                            Grid::Select(s) => n_query * u64::from(s.q.len()),
                            _ => dispatch.cost * u64::from(rows),
                        };
                        recorder.record(&mut pass, next, rows, sequences, counts)?;
                    }
                    next += 1;
                    if work > self.budget {
                        break;
                    }
                }
                if let (Tail::Best(rows), Some(choice), true) = (tail, &self.choice, next == range.end) {
                    self.stats.dispatches += choice.record(&mut pass, *rows);
                }
            }
            let is_last = next == range.end;
            if is_last {
                self.copy(&mut encoder, tail)?;
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

    /// Copies what is wanted, then the word for faults, to where the CPU reads them.
    fn copy(&mut self, encoder: &mut wgpu::CommandEncoder, tail: &Tail) -> Result<()> {
        let bytes = 4 * self.words(tail) as u64;
        if bytes + STATUS_BYTES > self.buffers.readback.size() {
            let size = (bytes + STATUS_BYTES).next_power_of_two();
            self.buffers.readback = self.gpu.readback("results", size)?;
        }
        let to = &self.buffers.readback;
        match tail {
            Tail::Rows(copies) => {
                let mut at = 0;
                for c in copies {
                    let row = 4 * u64::from(self.stride(c.place));
                    let (from, size) = (row * u64::from(c.first), row * u64::from(c.rows));
                    encoder.copy_buffer_to_buffer(self.buffers.place(c.place), from, to, at, size);
                    at += size;
                }
            }
            Tail::Best(_) => {
                let choice = self.choice.as_ref().expect("made before it is recorded");
                encoder.copy_buffer_to_buffer(choice.records(), 0, to, 0, bytes);
            }
        }
        encoder.copy_buffer_to_buffer(&self.buffers.status, 0, to, bytes, STATUS_BYTES);
        Ok(())
    }

    fn stride(&self, place: Place) -> u32 {
        row_stride(self.plan.buffers()[place.buf.index()].width)
    }

    /// Words that are read back in front of the word for faults.
    fn words(&self, tail: &Tail) -> usize {
        match tail {
            Tail::Rows(copies) => copies.iter().map(|c| (self.stride(c.place) * c.rows) as usize).sum(),
            Tail::Best(rows) => self.choice.as_ref().map_or(0, |c| c.record_words()) * *rows as usize,
        }
    }

    /// Waits for what [`GpuBackend::submit`] has handed in and takes over its end.
    pub(super) fn finish(&self, tail: &Tail, answer: &mut Answer<'_>) -> Result<()> {
        let end = 4 * self.words(tail);
        self.gpu.read(&self.buffers.readback, end as u64 + STATUS_BYTES, |bytes| {
            match (tail, answer) {
                (Tail::Rows(copies), Answer::Rows(o, out)) => {
                    let Some(first) = copies.first() else { return self.check_status(&bytes[end..]) };
                    let values: &[f32] = bytemuck::cast_slice(&bytes[..end]);
                    for row in values.chunks_exact(self.stride(first.place) as usize) {
                        o.head_starts().for_each(|s| out.extend_from_slice(&row[s..s + o.width as usize]));
                    }
                }
                (Tail::Best(_), Answer::Best(out, fault)) => {
                    let records: &[u32] = bytemuck::cast_slice(&bytes[..end]);
                    let n = self.choice.as_ref().map_or(1, |c| c.record_words());
                    for record in records.chunks_exact(n) {
                        match select::chosen(record) {
                            Some(pairs) if fault.first.is_none() => out.extend(pairs.map(|(x, column)| (column, x))),
                            Some(_) => {}
                            None => fault.first = fault.first.or(Some(fault.n_row)),
                        }
                        fault.n_row += 1;
                    }
                }
                _ => {}
            }
            self.check_status(&bytes[end..])
        })?
    }

    fn check_status(&self, bytes: &[u8]) -> Result<()> {
        if bytes[..4] == [0; 4] {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Model, "a key or value passed the range of the cache's numbers")
            .with_hint("use -ctk f32 -ctv f32; if that does not help, the weights are damaged"))
    }
}
