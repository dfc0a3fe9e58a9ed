//! The executor: a plan's steps grouped into phases, each phase cut into chunks for the team.
//!
//! Neighbouring row-local steps form one phase that a thread runs row by row, so that a row stays in its cache and
//! threads meet less often; the quantization of the next matrix's input ends such a phase. What a chunk is depends on
//! shapes alone, so results have the same bits for every number of threads.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use tealight_quant as quant;

use super::attention::{self, AttendScratch, AttendWork};
use super::kernels::KernelSet;
use super::linear::{Activations, Cut, Kinds, LinearScratch, RowsWork};
use super::pool::{MAX_CHUNKS, Shared, Team, Worker};
use super::rows::{RowContext, RowList, RowScratch, softcap};
use super::sequence::CpuSequence;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Attend, Backend, Operand, Plan, PoolKind, Probe, RowOrder, Rows, SequenceMemory, Step, Weights};

/// Rows that a chunk of a row-local phase takes.
const PHASE_ROWS: usize = 4;
/// Tiles and heads below which attention cuts keys as well, so that every thread gets some.
const FEW_TASKS: usize = 64;
/// Rows of one sequence that attend together and share keys and values.
const ATTEND_ROWS: usize = 16;

/// How a plan is executed.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// f32 activations, dequantized weights, f64 sums in matrices and norms: the oracle of every faster path.
    pub exact: bool,
    /// Kernel set: auto, scalar, avx2, avxvnni, avx512, neon, dotprod or i8mm.
    pub kernels: String,
}

/// Steps that are executed together.
enum Phase {
    /// Row-local steps, then the quantized input of the linear step behind them.
    Rows {
        steps: Range<usize>,
        prepare: Option<(Operand, Kinds)>,
    },
    /// A linear step, and the soft cap on its result.
    Linear {
        step: usize,
        cap: Option<f32>,
    },
    Attend(usize),
    Take(usize),
    Pool(usize),
}

/// Numbers of a row that buffers hold: before the Take, when all rows of the batch are there, and behind it.
struct Sizes {
    /// By buffer; 0 where no step of that side writes it.
    buffers: Vec<(usize, usize)>,
    /// The widest input that is quantized.
    quantized: (usize, usize),
}

impl Sizes {
    fn of(plan: &Plan, set: &KernelSet, exact: bool) -> Self {
        let mut sizes = Self { buffers: vec![(0, 0); plan.buffers().len()], quantized: (0, 0) };
        let mut is_taken = false;
        let raise = |pair: &mut (usize, usize), is_taken: bool, n: u32| {
            let side = if is_taken { &mut pair.1 } else { &mut pair.0 };
            *side = (*side).max(n as usize);
        };
        for o in plan.inputs() {
            raise(&mut sizes.buffers[o.buf.index()], false, plan.buffers()[o.buf.index()].width);
        }
        for step in plan.steps() {
            is_taken |= matches!(step, Step::Take { .. });
            for o in step.writes() {
                raise(&mut sizes.buffers[o.buf.index()], is_taken, plan.buffers()[o.buf.index()].width);
            }
            if let Step::Linear { x, .. } = step
                && Kinds::of(plan, step, set, exact).any()
            {
                raise(&mut sizes.quantized, is_taken, x.len());
            }
        }
        sizes
    }
}

/// One thread's buffers.
#[derive(Default)]
struct Scratch {
    rows: RowScratch,
    linear: LinearScratch,
    attend: AttendScratch,
}

/// Rows of one sequence that attend together.
struct Tile {
    seq: usize,
    /// Indices into the order of the batch.
    rows: Range<usize>,
}

/// The batch at hand.
#[derive(Default)]
struct Batch {
    all: RowList,
    wanted: RowList,
    want: Vec<u32>,
    /// Rows grouped by sequence.
    order: RowOrder,
    /// Positions in that order.
    order_pos: Vec<u32>,
    tiles: Vec<Tile>,
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
    scratch: Vec<Mutex<Scratch>>,
    /// Unfinished attention.
    parts: Shared<f32>,
    batch: Batch,
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
                Step::Norm { .. } => step.weights(),
                Step::Linear { parts, .. } => parts.iter().filter_map(|p| p.bias).collect(),
                _ => vec![],
            };
            for id in small {
                let w = &plan.weights()[id.index()];
                let mut values = vec![0.0; w.row_len() * w.n_rows()];
                quant::dequantize(w.ty, weights.bytes(id), &mut values)
                    .map_err(|e| Error::new(ErrorKind::Internal, format!("tensor `{}`: {e}", w.name)))?;
                vectors[id.index()] = values;
            }
        }
        Ok(Self {
            phases: phases(&plan, &set, options.exact, None),
            vectors,
            buffers: plan.buffers().iter().map(|_| Shared::new()).collect(),
            sizes: Sizes::of(&plan, &set, options.exact),
            rotations: plan.tables().iter().map(|_| Shared::new()).collect(),
            activations: Activations::new(),
            scratch: (0..team.n_threads()).map(|_| Mutex::default()).collect(),
            parts: Shared::new(),
            batch: Batch::default(),
            exact: options.exact,
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

    fn grow(&mut self) -> Result<()> {
        let (n_row, n_want) = (self.batch.all.len(), self.batch.wanted.len());
        let mut grow = || {
            for (buffer, (before, after)) in self.buffers.iter_mut().zip(&self.sizes.buffers) {
                buffer.grow((n_row * before).max(n_want * after))?;
            }
            for (table, out) in self.plan.tables().iter().zip(&mut self.rotations) {
                out.grow(n_row * 2 * table.freqs.len())?;
            }
            for step in self.plan.steps() {
                let Step::Attend(a) = step else { continue };
                let n_part = self.batch.n_part(a);
                if n_part > 1 {
                    let n_task = self.batch.tiles.len() * a.kv_heads as usize;
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

/// Groups steps into phases; a probe's step ends its phase, and nothing follows.
fn phases(plan: &Plan, set: &KernelSet, exact: bool, probe: Option<Probe>) -> Vec<Phase> {
    let steps = plan.steps();
    let end = probe.map_or(steps.len(), |p| p.step() + 1);
    // What depends on positions is prepared with the rows of the first phase.
    let mut phases = vec![Phase::Rows { steps: 0..0, prepare: None }];
    let mut i = 0;
    while i < end {
        let step = &steps[i];
        i += 1;
        match step {
            Step::Linear { x, parts, .. } => {
                let kinds = Kinds::of(plan, step, set, exact);
                if kinds.any() {
                    match phases.last_mut() {
                        Some(Phase::Rows { prepare, .. }) => *prepare = Some((*x, kinds)),
                        _ => phases.push(Phase::Rows { steps: i..i, prepare: Some((*x, kinds)) }),
                    }
                }
                let cap = match (&parts[..], steps[..end].get(i)) {
                    ([part], Some(Step::Softcap { x, out, cap })) if *x == part.out && *out == part.out => Some(*cap),
                    _ => None,
                };
                phases.push(Phase::Linear { step: i - 1, cap });
                i += usize::from(cap.is_some());
            }
            Step::Attend(_) => phases.push(Phase::Attend(i - 1)),
            Step::Take { .. } => phases.push(Phase::Take(i - 1)),
            Step::Pool { .. } => phases.push(Phase::Pool(i - 1)),
            _ => match phases.last_mut() {
                Some(Phase::Rows { steps, prepare: None }) => steps.end = i,
                _ => phases.push(Phase::Rows { steps: i - 1..i, prepare: None }),
            },
        }
    }
    phases
}

impl Batch {
    /// The first row of each sequence.
    fn first_rows(&self) -> impl Iterator<Item = usize> {
        self.tiles
            .iter()
            .enumerate()
            .filter(|(i, t)| *i == 0 || self.tiles[i - 1].seq != t.seq)
            .map(|(_, t)| self.order.order[t.rows.start] as usize)
    }

    /// Into how many chunks the keys of each tile and head are cut: 1 where there are chunks enough without.
    fn n_part(&self, step: &Attend) -> usize {
        let parts = |t: &Tile| attention::parts(step, &self.order_pos[t.rows.clone()]).len();
        let n_part = self.tiles.iter().map(parts).max().unwrap_or(1);
        let n_task = self.tiles.len() * step.kv_heads as usize;
        if n_task < FEW_TASKS && n_task * n_part <= MAX_CHUNKS { n_part } else { 1 }
    }

    /// Takes over a batch; `lengths` are the positions that the sequences hold already.
    fn set(&mut self, plan: &Plan, rows: &Rows<'_>, lengths: &[u32]) -> Result<()> {
        self.order.set(plan, rows, lengths)?;
        self.all.clear();
        for i in 0..rows.token.len() {
            self.all.push(rows.token[i], rows.pos[i], rows.seq[i]);
        }
        self.wanted.clear();
        for &w in rows.want {
            let i = w as usize;
            self.wanted.push(rows.token[i], rows.pos[i], rows.seq[i]);
        }
        self.want.clear();
        self.want.extend_from_slice(rows.want);
        self.order_pos.clear();
        self.order_pos.extend(self.order.order.iter().map(|&row| rows.pos[row as usize]));
        self.tiles.clear();
        for (seq, range) in self.order.ranges.iter().enumerate() {
            let tiles = range.clone().step_by(ATTEND_ROWS);
            self.tiles.extend(tiles.map(|i| Tile { seq, rows: i..(i + ATTEND_ROWS).min(range.end) }));
        }
        Ok(())
    }
}

/// Rows that attend together in one step.
struct TileAt<'p> {
    pass: &'p Pass<'p>,
    tile: &'p Tile,
    step: &'p Attend,
}

impl<'p> TileAt<'p> {
    fn pos(&self) -> &'p [u32] {
        &self.pass.batch.order_pos[self.tile.rows.clone()]
    }

    fn work(&self, kv_head: usize) -> AttendWork<'p> {
        let (pass, step) = (self.pass, self.step);
        let sequence = pass.rows.sequences[self.tile.seq];
        let cache = &sequence.caches[step.cache.index()];
        let slots = sequence.positions.slots(step.cache.index());
        AttendWork { set: pass.rows.set, step, cache, slots, kv_head, pos: self.pos() }
    }

    fn row(&self, row: usize) -> usize {
        self.pass.batch.order.order[self.tile.rows.start + row] as usize
    }

    fn query(&self, row: usize, head: usize) -> &'p [f32] {
        let q = self.step.q;
        let start = q.start + head as u32 * q.stride;
        self.pass.rows.read(self.row(row), Operand { start, heads: 1, stride: 0, ..q })
    }

    fn put(&self, row: usize, head: usize, values: &[f32]) {
        let out = self.step.out;
        let width = out.len() / self.step.heads;
        let o = Operand { start: out.start + head as u32 * width, width, heads: 1, stride: 0, ..out };
        self.pass.rows.write(self.row(row), o).copy_from_slice(values);
    }
}

/// One pass over the phases; shared by all threads.
struct Pass<'a> {
    backend: &'a CpuBackend,
    batch: &'a Batch,
    phases: &'a [Phase],
    rows: RowContext<'a>,
}

impl Pass<'_> {
    fn walk(&self, worker: &mut Worker<'_>) {
        let mut guard = self.backend.scratch[worker.index].lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = &self.batch.all;
        let steps = self.rows.plan.steps();
        for (i, phase) in self.phases.iter().enumerate() {
            let scratch = &mut *guard;
            let go_on = match phase {
                Phase::Rows { steps: range, prepare } => {
                    self.row_phase(worker, list, &steps[range.clone()], *prepare, i == 0, scratch)
                }
                Phase::Linear { step, cap } => {
                    self.linear(worker, list.len(), &steps[*step], *cap, &mut scratch.linear)
                }
                Phase::Attend(step) => match &steps[*step] {
                    Step::Attend(a) => self.attend(worker, a, &mut scratch.attend),
                    _ => unreachable!("the phase was made from an Attend"),
                },
                Phase::Take(step) => {
                    list = &self.batch.wanted;
                    worker.step(1, |_| self.take(&steps[*step]))
                }
                Phase::Pool(step) => worker.step(1, |_| self.pool(&steps[*step])),
            };
            if !go_on {
                return;
            }
            if list.len() == 0 {
                return; // nothing is wanted: the caches are filled, the rest is of no use
            }
        }
    }

    fn row_phase(
        &self,
        worker: &mut Worker<'_>,
        list: &RowList,
        steps: &[Step],
        prepare: Option<(Operand, Kinds)>,
        first: bool,
        scratch: &mut Scratch,
    ) -> bool {
        let n = list.len();
        let per_chunk = PHASE_ROWS.max(n.div_ceil(MAX_CHUNKS));
        let work = |chunk: usize| {
            for row in chunk * per_chunk..((chunk + 1) * per_chunk).min(n) {
                if first {
                    self.rows.rotate_tables(row, list.pos[row]);
                }
                steps.iter().for_each(|step| self.rows.run(step, list, row, &mut scratch.rows));
                if let Some((x, kinds)) = prepare {
                    kinds.put(&self.backend.activations, self.rows.set, row, n, self.rows.read(row, x));
                }
            }
        };
        worker.step(n.div_ceil(per_chunk), work)
    }

    fn linear(
        &self,
        worker: &mut Worker<'_>,
        n_row: usize,
        step: &Step,
        cap: Option<f32>,
        scratch: &mut LinearScratch,
    ) -> bool {
        let Step::Linear { x, parts, clamp } = step else { unreachable!("the phase was made from a Linear") };
        let plan = self.rows.plan;
        let cut = Cut::new(plan, parts, n_row, MAX_CHUNKS);
        let work = |chunk: usize| {
            let (part, range) = cut.chunk(plan, parts, chunk);
            let part = &parts[part];
            let weight = &plan.weights()[part.weight.index()];
            let bytes =
                &self.rows.weights.bytes(part.weight)[range.start * weight.row_bytes()..range.end * weight.row_bytes()];
            let columns = part.out.columns(range.start as u32, range.len() as u32);
            let out = |row: usize| self.rows.write(row, columns);
            let task = RowsWork {
                set: self.rows.set,
                exact: self.backend.exact,
                weight,
                bytes,
                activations: &self.backend.activations,
            };
            task.run(n_row, scratch, |row| self.rows.read(row, *x), out);
            let bias = part.bias.map(|b| &self.rows.vectors[b.index()][range.clone()]);
            if part.scale == 1.0 && bias.is_none() && clamp.is_none() && cap.is_none() {
                return;
            }
            for row in 0..n_row {
                let out = self.rows.write(row, columns);
                if part.scale != 1.0 {
                    self.rows.set.scale_f32(part.scale, out);
                }
                if let Some(bias) = bias {
                    self.rows.set.axpy_f32(1.0, bias, out);
                }
                if let Some(c) = clamp {
                    out.iter_mut().for_each(|x| *x = x.clamp(-c, *c));
                }
                if let Some(cap) = cap {
                    softcap(out, cap);
                }
            }
        };
        worker.step(cut.n_chunk, work)
    }

    fn attend(&self, worker: &mut Worker<'_>, step: &Attend, scratch: &mut AttendScratch) -> bool {
        let kv_heads = step.kv_heads as usize;
        let n_tile = self.batch.tiles.len();
        let tile_at = |i: usize| TileAt { pass: self, tile: &self.batch.tiles[i], step };
        let n_part = self.batch.n_part(step);
        if n_part <= 1 {
            let tiles_per_chunk = n_tile.div_ceil(MAX_CHUNKS / kv_heads);
            let work = |chunk: usize| {
                let (group, kv_head) = (chunk / kv_heads, chunk % kv_heads);
                for i in group * tiles_per_chunk..((group + 1) * tiles_per_chunk).min(n_tile) {
                    let tile = tile_at(i);
                    tile.work(kv_head).run(scratch, |row, h| tile.query(row, h), |row, h, x| tile.put(row, h, x));
                }
            };
            return worker.step(n_tile.div_ceil(tiles_per_chunk) * kv_heads, work);
        }
        // Few rows and many keys: each part of the keys is a chunk of its own.
        let len = AttendWork::part_len(ATTEND_ROWS, step);
        let place = |task: usize, n: usize| task * len..task * len + n;
        let work = |chunk: usize| {
            let (task, part) = (chunk / n_part, chunk % n_part);
            let tile = tile_at(task / kv_heads);
            let n = AttendWork::part_len(tile.tile.rows.len(), step);
            let parts = attention::parts(step, tile.pos());
            if let Some(part) = parts.clone().nth(part) {
                let out = self.backend.parts.write(place(chunk, n));
                tile.work(task % kv_heads).run_part(scratch, part, |row, h| tile.query(row, h), out);
            }
        };
        if !worker.step(n_tile * kv_heads * n_part, work) {
            return false;
        }
        worker.step(n_tile * kv_heads, |task| {
            let tile = tile_at(task / kv_heads);
            let n = AttendWork::part_len(tile.tile.rows.len(), step);
            let parts = attention::parts(step, tile.pos());
            let parts = (0..parts.len()).map(|i| self.backend.parts.read(place(task * n_part + i, n)));
            tile.work(task % kv_heads).merge_parts(scratch, parts, |row, h, x| tile.put(row, h, x));
        })
    }

    fn take(&self, step: &Step) {
        let Step::Take { keep } = step else { unreachable!("the phase was made from a Take") };
        for buf in keep {
            let width = self.rows.plan.buffers()[buf.index()].width as usize;
            let all = self.rows.buffers[buf.index()].write(0..self.batch.all.len() * width);
            for (to, &from) in self.batch.want.iter().enumerate() {
                all.copy_within(from as usize * width..(from as usize + 1) * width, to * width);
            }
        }
    }

    fn pool(&self, step: &Step) {
        let Step::Pool { x, out, kind } = step else { unreachable!("the phase was made from a Pool") };
        for seq in 0..self.rows.sequences.len() {
            let rows: Vec<usize> =
                (0..self.batch.all.len()).filter(|&r| self.batch.all.seq[r] as usize == seq).collect();
            let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { continue };
            let to = self.rows.write(first, *out);
            match kind {
                PoolKind::First => to.copy_from_slice(self.rows.read(first, *x)),
                PoolKind::Last => to.copy_from_slice(self.rows.read(last, *x)),
                PoolKind::Mean => {
                    to.fill(0.0);
                    rows.iter().for_each(|&r| self.rows.set.axpy_f32(1.0, self.rows.read(r, *x), to));
                    self.rows.set.scale_f32(1.0 / rows.len() as f32, to);
                }
            }
        }
    }
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
        for (i, sequence) in sequences.iter_mut().enumerate() {
            let n = rows.seq.iter().filter(|s| **s as usize == i).count() as u32;
            result = result.and_then(|()| sequence.append(n));
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
                },
            };
            result = self.team.run(cancel, |worker| pass.walk(worker));
        }
        if let Err(e) = result {
            sequences.iter_mut().zip(lengths).for_each(|(s, len)| s.take_back(len));
            return Err(e);
        }
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
