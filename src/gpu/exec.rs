//! The executor: records the dispatches of a lowered plan and hands them to the device.
//!
//! Everything that does not change from token to token is made once: pipelines, buffers, parameters, bind groups. A
//! pass over few rows writes a small record of the batch, records one compute pass, submits once and reads back what
//! was wanted. A long prompt is cut into submissions by a budget of work, so that no driver takes the device for hung
//! and a cancel is heard; the part of a plan behind its Take runs on a slice of the wanted rows at a time.

mod buffers;
mod program;
mod submit;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use self::buffers::{Buffers, n_split};
use self::program::Program;
use self::submit::{Copy, FIRST_BUDGET};
use super::device::Gpu;
use super::lower::{self, Chunks, Lowered, Place, Variant, row_stride};
use super::pipelines::Pipelines;
use super::sequence::{Context, GpuSequence};
use super::weights::DeviceWeights;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Backend, Operand, Plan, Probe, RowOrder, Rows, SequenceMemory, Step, WeightId, Weights};

/// Wanted rows that the part of a plan behind its Take treats at once.
const WANT_ROWS: u32 = 32;

/// How a plan is executed on a GPU.
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// Rows of a batch at most.
    pub n_batch: u32,
    /// Largest range of weights that one binding shows; the device's limit holds too.
    pub max_chunk: u64,
    /// Compile kernels with bounds checks.
    pub checked: bool,
    /// Use only what every WebGPU device has.
    pub plain: bool,
    /// Quantize activations to int8 for packed dot products, where the device has them: prompts, and single rows.
    pub int8: [bool; 2],
    /// For tests: the first product with a matrix is computed wrong.
    pub sabotage: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self { n_batch: 256, max_chunk: u64::MAX, checked: false, plain: false, int8: [true, false], sabotage: false }
    }
}

/// Counts of what was handed to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Submissions with work.
    pub submissions: u64,
    /// Compute passes.
    pub passes: u64,
    /// Dispatches.
    pub dispatches: u64,
    /// Time that recording took.
    pub encoding: Duration,
}

/// Executes one plan on a GPU.
pub struct GpuBackend {
    gpu: Arc<Gpu>,
    plan: Arc<Plan>,
    options: GpuOptions,
    variant: Variant,
    weights: DeviceWeights,
    pipelines: Pipelines,
    buffers: Buffers,
    program: Program,
    want_rows: u32,
    order: RowOrder,
    budget: u64,
    stats: Stats,
}

impl Chunks for DeviceWeights {
    fn chunks(&self, id: WeightId) -> Vec<(u32, u32)> {
        self.matrix_of(id).chunks.iter().map(|c| (c.first, c.rows)).collect()
    }
}

/// Why the kernels cannot run a plan: the first step that they cannot do, by section and reason. `None`: they can.
pub fn unsupported(plan: &Plan, gpu: &Gpu) -> Option<(usize, String)> {
    let variant = Variant::of(gpu.caps());
    let lowered = lower::lower(plan, plan.steps().len(), &variant, &lower::WholeMatrices(plan));
    lowered.err().map(|e| (e.step, e.why))
}

/// The kernels that a plan would run on a GPU: the last step that each computes, and its name. Empty where one step
/// cannot run.
pub fn kernels(plan: &Plan, gpu: &Gpu, options: &GpuOptions) -> Vec<(usize, String)> {
    let lowered = lower::lower(plan, plan.steps().len(), &options.variant(gpu), &lower::WholeMatrices(plan));
    lowered.map(|l| lower::names(&l)).unwrap_or_default()
}

impl GpuOptions {
    fn variant(&self, gpu: &Gpu) -> Variant {
        let mut variant = Variant::of(gpu.caps());
        variant.subgroups &= !self.plain;
        variant.int8_prompt &= self.int8[0] && !self.plain;
        variant.int8_decode = gpu.caps().int8_dot && self.int8[1] && !self.plain;
        variant
    }
}

impl GpuBackend {
    /// Uploads the weights of a plan and prepares to run it. `progress` hears bytes of weights that are uploaded.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`] when the device has no room, [`ErrorKind::Gpu`] when it failed or cannot run the plan,
    /// [`ErrorKind::Interrupted`].
    pub fn new(
        gpu: Arc<Gpu>,
        plan: Arc<Plan>,
        weights: &dyn Weights,
        options: &GpuOptions,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let variant = options.variant(&gpu);
        let weights = DeviceWeights::upload(&gpu, &plan, weights, options.max_chunk, cancel, progress)?;
        let lowered = lower_or_say(&plan, plan.steps().len(), &variant, &weights)?;
        let mut pipelines = Pipelines::new(gpu.clone(), options.checked);
        let want_rows = want_rows(&gpu, &plan);
        let buffers = Buffers::new(&gpu, &plan, &lowered, options.n_batch, want_rows)?;
        let program = Program::new(&gpu, &plan, lowered.dispatches, &weights, &buffers, &mut pipelines)?;
        Ok(Self {
            gpu,
            plan,
            options: options.clone(),
            variant,
            weights,
            pipelines,
            buffers,
            program,
            want_rows,
            order: RowOrder::default(),
            budget: FIRST_BUDGET,
            stats: Stats::default(),
        })
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// What was handed to the device since the back-end was made.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Are activations of any product rounded to 8 bits?
    pub fn uses_int8(&self) -> bool {
        self.variant.int8_prompt || self.variant.int8_decode
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes()
    }
}

/// Wanted rows at once, so that the widest result fits into a binding.
fn want_rows(gpu: &Gpu, plan: &Plan) -> u32 {
    let widest = plan.buffers().iter().map(|b| u64::from(row_stride(b.width))).max().unwrap_or(1);
    let limit = gpu.caps().max_binding.min(gpu.caps().max_buffer).min(64 << 20);
    (limit / (4 * widest)).clamp(1, WANT_ROWS.into()) as u32
}

fn lower_or_say(plan: &Plan, end: usize, variant: &Variant, chunks: &dyn Chunks) -> Result<Lowered> {
    lower::lower(plan, end, variant, chunks).map_err(|e| {
        let step = plan.steps()[e.step].name();
        let text = format!("the GPU cannot run `{}` ({step}): {}", plan.section_of(e.step), e.why);
        Error::new(ErrorKind::Gpu, text).with_hint("use the CPU (--device cpu)")
    })
}

/// Which rows of a plan without Take, or before it, are the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Wanted,
    All,
    FirstOfSequence,
}

impl GpuBackend {
    /// The passes over all rows and over the wanted ones.
    fn run_program(
        &mut self,
        rows: &Rows<'_>,
        sequences: &mut [&mut GpuSequence],
        counts: &[(u32, u32)],
        (result, which): (Operand, Which),
        cancel: &AtomicBool,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let (n_row, n_want) = (rows.token.len() as u32, rows.want.len() as u32);
        let (take, end) = (self.program.take(), self.program.dispatches.len());
        let place = |taken: bool| Place { buf: result.buf, taken };
        if take == end {
            let all = || Copy { place: place(false), first: 0, rows: n_row };
            let one = |first: u32| Copy { place: place(false), first, rows: 1 };
            let firsts = self.order.ranges.iter().filter(|r| !r.is_empty()).map(|r| self.order.order[r.start]);
            let copies: Vec<Copy> = match which {
                Which::FirstOfSequence => firsts.map(one).collect(),
                Which::All => vec![all()],
                Which::Wanted => rows.want.iter().map(|&w| one(w)).collect(),
            };
            self.write_counts(n_row, n_want, 0);
            self.submit(0..end, [n_row, n_want], sequences, counts, &copies, cancel)?;
            return self.finish(&copies, result, out);
        }
        let slice = self.want_rows;
        let first = n_want.min(slice);
        self.write_counts(n_row, first, 0);
        let copies = |rows: u32| vec![Copy { place: place(true), first: 0, rows }];
        if n_want == 0 {
            self.submit(0..take, [n_row, 0], sequences, counts, &[], cancel)?;
            return self.gpu.wait();
        }
        self.submit(0..end, [n_row, first], sequences, counts, &copies(first), cancel)?;
        self.finish(&copies(first), result, out)?;
        for start in (slice..n_want).step_by(slice as usize) {
            let n = slice.min(n_want - start);
            self.write_counts(n_row, n, start);
            self.submit(take..end, [n_row, n], sequences, counts, &copies(n), cancel)?;
            self.finish(&copies(n), result, out)?;
        }
        Ok(())
    }

    /// The beginning of the plan up to a probe, step by step.
    fn probed(&mut self, probe: Probe) -> Result<Program> {
        let variant = Variant { fuse: false, ..self.variant.clone() };
        let lowered = lower_or_say(&self.plan, probe.step() + 1, &variant, &self.weights)?;
        let further = Buffers::new(&self.gpu, &self.plan, &lowered, self.options.n_batch, self.want_rows)?;
        self.buffers.add(further);
        let (gpu, plan) = (self.gpu.clone(), self.plan.clone());
        Program::new(&gpu, &plan, lowered.dispatches, &self.weights, &self.buffers, &mut self.pipelines)
    }
}

impl Backend for GpuBackend {
    type Sequence = GpuSequence;

    fn run(
        &mut self,
        rows: &Rows<'_>,
        sequences: &mut [&mut GpuSequence],
        probe: Option<Probe>,
        cancel: &AtomicBool,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        self.gpu.check()?;
        let lengths: Vec<u32> = sequences.iter().map(|s| s.len()).collect();
        if let Some(probe) = probe {
            probe.check(&self.plan, &lengths)?;
        }
        self.order.set(&self.plan, rows, &lengths)?;
        if rows.token.len() > self.options.n_batch as usize || sequences.len() > self.options.n_batch as usize {
            let text = format!("a batch of {} rows, at most {} fit", rows.token.len(), self.options.n_batch);
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let whole = match probe {
            Some(probe) => {
                let part = self.probed(probe)?;
                Some(std::mem::replace(&mut self.program, part))
            }
            None => None,
        };
        let n_before = out.len();
        let result = self.run_batch(rows, sequences, &lengths, probe, cancel, out);
        if let Some(whole) = whole {
            self.program = whole;
        }
        if let Err(e) = result {
            sequences.iter_mut().zip(lengths).for_each(|(s, len)| s.take_back(len));
            out.truncate(n_before);
            return Err(e);
        }
        Ok(())
    }
}

impl GpuBackend {
    fn run_batch(
        &mut self,
        rows: &Rows<'_>,
        sequences: &mut [&mut GpuSequence],
        lengths: &[u32],
        probe: Option<Probe>,
        cancel: &AtomicBool,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let mut counts = Vec::with_capacity(sequences.len());
        for ((sequence, range), &len) in sequences.iter_mut().zip(&self.order.ranges).zip(lengths) {
            sequence.append(range.len() as u32)?;
            let count = range.len() as u32;
            counts.push((count, if count == 0 { 1 } else { n_split(&self.program.attends, count, len) }));
            let buffers = &self.buffers;
            sequence.bind(&mut Context {
                plan: &self.plan,
                pipelines: &mut self.pipelines,
                id: self.program.id,
                dispatches: &self.program.dispatches,
                buffer: &|place| buffers.place(place),
                order: &buffers.order,
                part: &buffers.part,
                status: &buffers.status,
            })?;
        }
        self.write_batch(rows, &counts, sequences, lengths);
        let result = probe.map_or(self.plan.outputs()[0], |p| p.operand());
        let which = match probe {
            None => Which::Wanted,
            Some(p) if matches!(self.plan.steps()[p.step()], Step::Pool { .. }) => Which::FirstOfSequence,
            Some(_) => Which::All,
        };
        self.run_program(rows, sequences, &counts, (result, which), cancel, out)
    }
}
