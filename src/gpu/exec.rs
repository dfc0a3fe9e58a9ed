//! The executor: records the dispatches of a lowered plan and hands them to the device.
//!
//! Everything that does not change from token to token is made once: pipelines, buffers, parameters, bind groups. A
//! pass over few rows writes a small record of the batch, records one compute pass, submits once and reads back what
//! was wanted. A long prompt is cut into submissions by a budget of work, so that no driver takes the device for hung
//! and a cancel is heard; the part of a plan behind its Take runs on a slice of the wanted rows at a time.

mod buffers;
mod choice;
mod program;
mod submit;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use self::buffers::{Buffers, n_split};
use self::choice::Choice;
use self::program::Program;
use self::submit::{Answer, Copy, FIRST_BUDGET, Fault, Tail};
use super::device::{Caps, Gpu};
use super::kernels::select;
use super::lower::{self, Chunks, Lowered, Place, Variant, row_stride};
use super::pipelines::Pipelines;
use super::sequence::{Context, GpuSequence};
use super::weights::DeviceWeights;
use crate::error::{Error, ErrorKind, Result};
use crate::knobs::{GpuVariant, Knobs};
use crate::plan::{self, Backend, Plan, Probe, RowOrder, Rows, SequenceMemory, Step, WeightId, Weights};

/// Wanted rows that the part of a plan behind its Take treats at once.
const WANT_ROWS: u32 = 32;

/// How a plan is executed on a GPU.
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// Rows of a batch at most.
    pub n_batch: u32,
    /// The kernels.
    pub variant: GpuVariant,
    /// Largest range of weights that one binding shows; the device's limit holds too.
    pub max_chunk: u64,
    /// Compile kernels with bounds checks.
    pub checked: bool,
    /// Quantize activations to int8 for packed dot products, where the device has them: prompts, and single rows.
    pub int8: [bool; 2],
    /// For tests of what must notice it: the first product with a matrix leaves out half of its columns.
    pub sabotage: bool,
    /// Where compiled kernels are kept.
    pub cache_dir: Option<PathBuf>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            n_batch: 256,
            variant: GpuVariant::Auto,
            max_chunk: u64::MAX,
            checked: false,
            int8: [true, false],
            sabotage: false,
            cache_dir: None,
        }
    }
}

impl GpuOptions {
    /// What the knobs say.
    pub fn of(knobs: &Knobs) -> Self {
        Self {
            n_batch: knobs.n_ubatch as u32,
            variant: knobs.gpu_variant,
            max_chunk: knobs.gpu_chunk,
            sabotage: knobs.gpu_sabotage == 1,
            cache_dir: knobs.cache_dir.clone(),
            ..Self::default()
        }
    }

    /// What kernels may use of a device.
    fn caps(&self, gpu: &Gpu) -> Caps {
        gpu.caps().limited_to(self.variant, self.max_chunk)
    }

    fn variant(&self, gpu: &Gpu) -> Variant {
        let caps = self.caps(gpu);
        let mut variant = Variant::of(&caps);
        variant.int8_prompt &= self.int8[0];
        variant.int8_decode = caps.int8_dot && self.int8[1];
        variant
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
    /// The choice that was asked for last.
    choice: Option<Choice>,
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
        let (caps, variant) = (options.caps(&gpu), options.variant(&gpu));
        if let Some(folder) = &options.cache_dir {
            gpu.load_pipelines(folder);
        }
        let weights = DeviceWeights::upload(&gpu, &plan, weights, caps.max_binding, cancel, progress)?;
        let mut lowered = lower_or_say(&plan, plan.steps().len(), &variant, &weights)?;
        if options.sabotage {
            lowered.sabotage();
        }
        let mut pipelines = Pipelines::new(gpu.clone(), options.checked);
        let want_rows = want_rows(&gpu, &plan);
        let buffers = Buffers::new(&gpu, &plan, &lowered, options.n_batch, want_rows)?;
        let program = Program::new(&gpu, &plan, lowered.dispatches, &weights, &buffers, &mut pipelines)?;
        let backend = Self {
            gpu,
            plan,
            options: options.clone(),
            variant,
            weights,
            pipelines,
            buffers,
            program,
            choice: None,
            want_rows,
            order: RowOrder::default(),
            budget: FIRST_BUDGET,
            stats: Stats::default(),
        };
        backend.keep_pipelines();
        Ok(backend)
    }

    /// Leaves compiled kernels for the next start.
    fn keep_pipelines(&self) {
        if let Some(folder) = &self.options.cache_dir {
            // What cannot be kept is compiled again.
            let _ = self.gpu.save_pipelines(folder);
        }
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Are activations of any product rounded to 8 bits?
    pub fn uses_int8(&self) -> bool {
        self.variant.int8_prompt || self.variant.int8_decode
    }

    /// What was handed to the device since the back-end was made.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

impl Drop for GpuBackend {
    fn drop(&mut self) {
        // Some kernels are compiled when they are first needed.
        self.keep_pipelines();
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
        which: Which,
        cancel: &AtomicBool,
        answer: &mut Answer<'_>,
    ) -> Result<()> {
        let (n_row, n_want) = (rows.token.len() as u32, rows.want.len() as u32);
        let (take, end) = (self.program.take(), self.program.dispatches.len());
        let result = match answer {
            Answer::Rows(result, _) => *result,
            Answer::Best(..) => self.plan.outputs()[0],
        };
        let place = |taken: bool| Place { buf: result.buf, taken };
        if take == end {
            let all = || Copy { place: place(false), first: 0, rows: n_row };
            let one = |first: u32| Copy { place: place(false), first, rows: 1 };
            let firsts = self.order.ranges.iter().filter(|r| !r.is_empty()).map(|r| self.order.order[r.start]);
            let tail = Tail::Rows(match which {
                Which::FirstOfSequence => firsts.map(one).collect(),
                Which::All => vec![all()],
                Which::Wanted => rows.want.iter().map(|&w| one(w)).collect(),
            });
            self.write_counts(n_row, n_want, 0);
            self.submit(0..end, [n_row, n_want], sequences, counts, &tail, cancel)?;
            return self.finish(&tail, answer);
        }
        let is_choice = matches!(answer, Answer::Best(..));
        let tail = |rows: u32| match is_choice {
            true => Tail::Best(rows),
            false => Tail::Rows(vec![Copy { place: place(true), first: 0, rows }]),
        };
        let slice = self.want_rows;
        let first = n_want.min(slice);
        self.write_counts(n_row, first, 0);
        if n_want == 0 {
            let nothing = Tail::Rows(Vec::new());
            self.submit(0..take, [n_row, 0], sequences, counts, &nothing, cancel)?;
            return self.finish(&nothing, answer);
        }
        self.submit(0..end, [n_row, first], sequences, counts, &tail(first), cancel)?;
        self.finish(&tail(first), answer)?;
        for start in (slice..n_want).step_by(slice as usize) {
            let n = slice.min(n_want - start);
            self.write_counts(n_row, n, start);
            self.submit(take..end, [n_row, n], sequences, counts, &tail(n), cancel)?;
            self.finish(&tail(n), answer)?;
        }
        Ok(())
    }

    /// The beginning of the plan up to a probe, step by step.
    fn probed(&mut self, probe: Probe) -> Result<Program> {
        let variant = Variant { fuse: false, ..self.variant.clone() };
        let mut lowered = lower_or_say(&self.plan, probe.step() + 1, &variant, &self.weights)?;
        if self.options.sabotage {
            lowered.sabotage();
        }
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
        let n_before = out.len();
        let lengths: Vec<u32> = sequences.iter().map(|s| s.len()).collect();
        let (mut result, mut which) = (self.plan.outputs()[0], Which::Wanted);
        if let Some(probe) = probe {
            probe.check(&self.plan, &lengths)?;
            result = probe.operand();
            which = match self.plan.steps()[probe.step()] {
                Step::Pool { .. } => Which::FirstOfSequence,
                _ => Which::All,
            };
        }
        let whole = match probe {
            Some(probe) => {
                let part = self.probed(probe)?;
                Some(std::mem::replace(&mut self.program, part))
            }
            None => None,
        };
        let ran = self.run_batch(rows, sequences, &lengths, which, cancel, &mut Answer::Rows(result, out));
        if let Some(whole) = whole {
            self.program = whole;
        }
        ran.inspect_err(|_| out.truncate(n_before))
    }

    fn max_choice(&self) -> u32 {
        if self.can_choose() { select::MAX_K } else { 0 }
    }

    fn choose(
        &mut self,
        rows: &Rows<'_>,
        sequences: &mut [&mut GpuSequence],
        k: u32,
        cancel: &AtomicBool,
        out: &mut Vec<(u32, f32)>,
    ) -> Result<Option<u32>> {
        if k == 0 || k > self.max_choice() {
            return plan::choose_from_rows(self, rows, sequences, k, cancel, out);
        }
        self.gpu.check()?;
        self.prepare_choice(k)?;
        let n_before = out.len();
        let lengths: Vec<u32> = sequences.iter().map(|s| s.len()).collect();
        let mut fault = Fault::default();
        let answer = &mut Answer::Best(out, &mut fault);
        let ran = self.run_batch(rows, sequences, &lengths, Which::Wanted, cancel, answer);
        if ran.is_err() || fault.first.is_some() {
            out.truncate(n_before);
        }
        ran.map(|()| fault.first)
    }
}

impl GpuBackend {
    /// One pass over a batch; after a failure the sequences hold what they held before.
    fn run_batch(
        &mut self,
        rows: &Rows<'_>,
        sequences: &mut [&mut GpuSequence],
        lengths: &[u32],
        which: Which,
        cancel: &AtomicBool,
        answer: &mut Answer<'_>,
    ) -> Result<()> {
        self.gpu.check()?;
        self.order.set(&self.plan, rows, lengths)?;
        if rows.token.len() > self.options.n_batch as usize || sequences.len() > self.options.n_batch as usize {
            let text = format!("a batch of {} rows, at most {} fit", rows.token.len(), self.options.n_batch);
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let result = self.record_batch(rows, sequences, lengths, which, cancel, answer);
        match result {
            Ok(()) => {
                let grown = self.order.ranges.iter().zip(sequences.iter_mut()).filter(|(range, _)| !range.is_empty());
                grown.for_each(|(_, sequence)| sequence.commit());
            }
            Err(_) => sequences.iter_mut().zip(lengths).for_each(|(s, len)| s.take_back(*len)),
        }
        result
    }

    fn record_batch(
        &mut self,
        rows: &Rows<'_>,
        sequences: &mut [&mut GpuSequence],
        lengths: &[u32],
        which: Which,
        cancel: &AtomicBool,
        answer: &mut Answer<'_>,
    ) -> Result<()> {
        let mut counts = Vec::with_capacity(sequences.len());
        for ((sequence, range), &len) in sequences.iter_mut().zip(&self.order.ranges).zip(lengths) {
            sequence.append(range.len() as u32)?;
            let count = range.len() as u32;
            counts.push((count, if count == 0 { 1 } else { n_split(&self.program.attends, count, len) }));
            let (buffers, weights) = (&self.buffers, &self.weights);
            sequence.bind(&mut Context {
                plan: &self.plan,
                pipelines: &mut self.pipelines,
                id: self.program.id,
                dispatches: &self.program.dispatches,
                buffer: &|place| buffers.place(place),
                range: &|bound| buffers.range(bound, weights),
                order: &buffers.order,
                part: &buffers.part,
                status: &buffers.status,
                vector: &|id| weights.vector_of(id),
                unused: &buffers.unused,
            })?;
        }
        self.write_batch(rows, &counts, sequences, lengths);
        self.run_program(rows, sequences, &counts, which, cancel, answer)
    }
}

#[cfg(test)]
impl GpuBackend {
    /// Multiplications of the next submission, from where it follows what is measured.
    pub(super) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
    }
}

#[cfg(test)]
mod tests;
