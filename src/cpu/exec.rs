//! The executor: a plan's steps grouped into phases, each phase cut into chunks for the team.
//!
//! Neighbouring row-local steps form one phase that a thread runs row by row, so that a row stays in its cache and
//! threads meet less often; the quantization of the next matrix's input ends such a phase. What a chunk is depends on
//! shapes alone, so results have the same bits for every number of threads.

mod batch;
mod experts;
mod pass;
mod phases;
mod states;
mod sums;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tealight_quant as quant;

use super::attention::{AttendScratch, AttendWork, Share};
use super::kernels::KernelSet;
use super::linear::{Activations, LinearScratch};
use super::pool::{Shared, Team};
use super::recurrence::StateScratch;
use super::rows::{RowContext, RowScratch};
use super::sequence::CpuSequence;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Backend, Operand, Plan, Probe, Rows, SequenceMemory, Step, WeightId, Weights};
use batch::Batch;
use experts::ExpertBuffers;
use pass::Pass;
use phases::{Phase, Sizes, phases};

/// Rows that a chunk of a row-local phase takes.
const PHASE_ROWS: usize = 4;
/// Tiles and heads below which attention cuts keys as well, so that every thread gets some.
const FEW_TASKS: usize = 64;
/// Rows of one sequence that attend together and share keys and values.
const ATTEND_ROWS: usize = 16;

/// Rows whose positions are chosen at a time: their scores for all positions are kept.
const SELECT_ROWS: usize = 32;

/// How a plan is executed.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// f32 activations, dequantized weights, f64 sums in matrices and norms: the oracle of every faster path.
    pub exact: bool,
    /// Kernel set: auto, scalar, avx2, avxvnni, avx512, amx, neon, dotprod or i8mm.
    pub kernels: String,
    /// Sum the squares of what matrices are multiplied with: [`CpuBackend::input_sums`].
    pub sum_inputs: bool,
}

/// What a matrix was multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSum {
    /// The matrix.
    pub weight: WeightId,
    /// Sum of the squares of each column of its inputs, `[in]`; of a stack of matrices [matrices, in].
    pub squares: Vec<f64>,
    /// Inputs, of each matrix of a stack.
    pub n_row: Vec<u64>,
}

/// One thread's buffers.
#[derive(Default)]
struct Scratch {
    rows: RowScratch,
    linear: LinearScratch,
    attend: AttendScratch,
    state: StateScratch,
}

/// Executes one plan on the CPU.
pub struct CpuBackend {
    plan: Arc<Plan>,
    weights: Arc<dyn Weights>,
    set: KernelSet,
    exact: bool,
    team: Arc<Team>,
    phases: Vec<Phase>,
    vectors: Vec<Vec<f32>>,
    buffers: Vec<Shared<f32>>,
    sizes: Sizes,
    rotations: Vec<Shared<f32>>,
    activations: Activations,
    experts: ExpertBuffers,
    scratch: Vec<Mutex<Scratch>>,
    /// Unfinished attention, or scores of positions.
    parts: Shared<f32>,
    batch: Batch,
    /// Squares of the inputs of each step with matrices, by step, as `sums` says. Empty where nobody asked for them.
    input_squares: Vec<Shared<f64>>,
}

impl CpuOptions {
    fn set(&self) -> Result<KernelSet> {
        match self.exact {
            true => Ok(KernelSet::SCALAR),
            false => KernelSet::by_name(&self.kernels).ok_or_else(|| unknown_kernels(&self.kernels)),
        }
    }

    /// Name of the kernel set that will be in use.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for kernels that this CPU lacks.
    pub fn kernels_in_use(&self) -> Result<&'static str> {
        Ok(name(self.exact, &self.set()?))
    }
}

fn name(exact: bool, set: &KernelSet) -> &'static str {
    if exact { "exact" } else { set.name() }
}

impl CpuBackend {
    /// An executor that computes with the threads of `team`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for kernels that this CPU lacks.
    pub fn new(plan: Arc<Plan>, weights: Arc<dyn Weights>, team: Arc<Team>, options: &CpuOptions) -> Result<Self> {
        let set = options.set()?;
        let mut vectors = vec![Vec::new(); plan.weights().len()];
        for step in plan.steps() {
            let small = match step {
                Step::Norm { .. } | Step::Conv { .. } | Step::Delta(_) | Step::Scan(_) => step.weights(),
                Step::Linear { parts, .. } => parts.iter().filter_map(|p| p.bias).collect(),
                Step::Experts(e) => e.parts().filter_map(|p| p.bias).collect(),
                Step::Attend(_) | Step::Route(_) | Step::Scale { .. } => step.weights(),
                _ => vec![],
            };
            for id in small {
                let w = &plan.weights()[id.index()];
                let mut values = vec![0.0; w.row_len() * w.n_rows()];
                quant::dequantize(w.ty, weights.bytes(id), &mut values)
                    .map_err(|e| Error::new(ErrorKind::Internal, format!("tensor `{}`: {e}", w.name)))?;
                vectors[id.index()] = values;
            }
            if let Step::Conv { weight, .. } = step {
                // [taps, channels]: neighbouring channels are computed together.
                let taps = plan.weights()[weight.index()].row_len();
                let kernel = &mut vectors[weight.index()];
                *kernel = (0..kernel.len())
                    .map(|i| kernel[i % (kernel.len() / taps) * taps + i / (kernel.len() / taps)])
                    .collect();
            }
        }
        let mut input_squares = Vec::new();
        if options.sum_inputs {
            for step in plan.steps() {
                let mut squares = Shared::new();
                squares.grow(sums::len(&plan, step))?;
                input_squares.push(squares);
            }
        }
        Ok(Self {
            phases: phases(&plan, &set, options.exact, None),
            vectors,
            buffers: plan.buffers().iter().map(|_| Shared::new()).collect(),
            sizes: Sizes::of(&plan, &set, options.exact),
            rotations: plan.tables().iter().map(|_| Shared::new()).collect(),
            activations: Activations::new(),
            experts: ExpertBuffers::new(),
            scratch: (0..team.n_threads()).map(|_| Mutex::default()).collect(),
            parts: Shared::new(),
            batch: Batch::default(),
            exact: options.exact,
            input_squares,
            plan,
            weights,
            set,
            team,
        })
    }

    /// Name of the kernel set in use.
    pub fn kernels(&self) -> &'static str {
        name(self.exact, &self.set)
    }

    /// What every matrix was multiplied with since the executor exists; empty unless [`CpuOptions::sum_inputs`]. Rows
    /// are counted in the order of batches, so sums have the same bits for every number of threads.
    pub fn input_sums(&self) -> Vec<InputSum> {
        let steps = self.plan.steps().iter().zip(&self.input_squares);
        steps.flat_map(|(step, squares)| sums::of(&self.plan, step, squares.read(0..squares.len()))).collect()
    }

    fn grow(&mut self) -> Result<()> {
        let (n_row, n_want) = (self.batch.all.len(), self.batch.wanted.len());
        let mut grow = || {
            for (buffer, (before, after)) in self.buffers.iter_mut().zip(&self.sizes.buffers) {
                buffer.grow((n_row * before).max(n_want * after))?;
            }
            for (table, out) in self.plan.tables().iter().zip(&mut self.rotations) {
                out.grow(n_row * 2 * table.freqs.len())?;
            }
            let mut n_list = n_row;
            for step in self.plan.steps() {
                let a = match step {
                    Step::Attend(a) => a,
                    Step::Take { .. } => {
                        n_list = n_want;
                        continue;
                    }
                    Step::Select(_) => {
                        let len = self.batch.order_pos.iter().max().map_or(0, |pos| *pos as usize + 1);
                        self.parts.grow(SELECT_ROWS.min(n_row) * len)?;
                        continue;
                    }
                    Step::Experts(e) => {
                        self.experts.grow(&self.plan, e, n_list)?;
                        continue;
                    }
                    _ => continue,
                };
                let n_part = self.batch.n_part(a);
                if n_part > 1 {
                    let n_task = self.batch.tiles.len() * Share::count(a);
                    self.parts.grow(n_task * n_part * AttendWork::part_len(ATTEND_ROWS, a))?;
                }
            }
            let (before, after) = self.sizes.quantized;
            self.activations.grow(n_row, before)?;
            self.activations.grow(n_want, after)
        };
        grow().map_err(|e| e.with_hint("use a smaller batch (TEALIGHT_UBATCH)"))
    }

    /// Appends an operand's columns of some rows.
    fn copy_out(&self, o: Operand, rows: impl Iterator<Item = usize>, out: &mut Vec<f32>) {
        let width = self.plan.buffers()[o.buf.index()].width as usize;
        for row in rows {
            for start in o.head_starts() {
                let start = row * width + start;
                out.extend_from_slice(self.buffers[o.buf.index()].read(start..start + o.width as usize));
            }
        }
    }
}

fn unknown_kernels(name: &str) -> Error {
    let have: Vec<_> = KernelSet::available().iter().map(KernelSet::name).collect();
    Error::new(ErrorKind::Usage, format!("this CPU has no kernel set `{}`", crate::error::printable(name)))
        .with_hint(format!("it has: auto, {}", have.join(", ")))
}

impl Backend for CpuBackend {
    type Sequence = CpuSequence;

    fn run(
        &mut self,
        rows: &Rows<'_>,
        sequences: &mut [&mut CpuSequence],
        probe: Option<Probe>,
        cancel: &AtomicBool,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let lengths: Vec<u32> = sequences.iter().map(|s| s.len()).collect();
        if let Some(probe) = probe {
            probe.check(&self.plan, &lengths)?;
        }
        self.batch.set(&self.plan, rows, &lengths)?;
        self.grow()?;
        for o in self.plan.inputs() {
            let width = self.plan.buffers()[o.buf.index()].width as usize;
            for (row, x) in rows.input.chunks_exact(o.len() as usize).enumerate() {
                let start = row * width + o.start as usize;
                self.buffers[o.buf.index()].write(start..start + x.len()).copy_from_slice(x);
            }
        }
        let mut result = Ok(());
        for (range, sequence) in self.batch.order.ranges.iter().zip(sequences.iter_mut()) {
            result = result.and_then(|()| sequence.append(range.len() as u32));
        }
        if result.is_ok() {
            let shared: Vec<&CpuSequence> = sequences.iter().map(|s| &**s).collect();
            let probed = probe.map(|p| phases(&self.plan, &self.set, self.exact, Some(p)));
            let pass = Pass {
                backend: self,
                batch: &self.batch,
                phases: probed.as_deref().unwrap_or(&self.phases),
                rows: RowContext {
                    plan: &self.plan,
                    set: &self.set,
                    weights: &*self.weights,
                    vectors: &self.vectors,
                    buffers: &self.buffers,
                    rotations: &self.rotations,
                    sequences: &shared,
                    expert_results: &self.experts.results,
                },
            };
            result = self.team.run(cancel, |worker| pass.walk(worker));
        }
        if let Err(e) = result {
            sequences.iter_mut().zip(lengths).for_each(|(s, len)| s.take_back(len));
            return Err(e);
        }
        let grown = self.batch.order.ranges.iter().zip(sequences.iter_mut()).filter(|(range, _)| !range.is_empty());
        grown.for_each(|(_, sequence)| sequence.commit());
        let (all, wanted) = (self.batch.all.len(), self.batch.want.iter().map(|&row| row as usize));
        let steps = self.plan.steps();
        let is_taken = |before: usize| steps[..before].iter().any(|s| matches!(s, Step::Take { .. }));
        match probe {
            None if is_taken(steps.len()) => self.copy_out(self.plan.outputs()[0], 0..wanted.len(), out),
            None => self.copy_out(self.plan.outputs()[0], wanted, out),
            Some(p) if matches!(steps[p.step()], Step::Pool { .. }) => {
                self.copy_out(p.operand(), self.batch.first_rows(), out);
            }
            Some(p) if is_taken(p.step()) => self.copy_out(p.operand(), 0..wanted.len(), out),
            Some(p) => self.copy_out(p.operand(), 0..all, out),
        }
        Ok(())
    }
}
