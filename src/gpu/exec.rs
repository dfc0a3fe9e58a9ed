//! The executor: records the dispatches of a lowered plan and hands them to the device.
//!
//! Everything that does not change from token to token is made once: pipelines, buffers, parameters, bind groups. A
//! pass over few rows writes a small record of the batch, records one compute pass, submits once and reads back what
//! was wanted. A long prompt is cut into submissions by a budget of work, so that no driver takes the device for hung
//! and a cancel is heard; the part of a plan behind its Take runs on a slice of the wanted rows at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::compose::Kernel;
use super::device::Gpu;
use super::kernels::attend;
use super::lower::{self, Bound, Chunks, Dispatch, Grid, Lowered, MATVEC_ROWS, Place, TILE, Variant, row_stride};
use super::pipelines::{Pipelines, Range};
use super::sequence::{self, Context, GpuSequence};
use super::weights::DeviceWeights;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Backend, Operand, Plan, Probe, RowOrder, Rows, SequenceMemory, Step, WeightId, Weights};

/// Wanted rows that the part of a plan behind its Take treats at once.
const WANT_ROWS: u32 = 32;
/// Multiplications of the first submission of a prompt; later ones follow what was measured.
const FIRST_BUDGET: u64 = 2 << 30;
/// Bounds of the budget, and the time that a submission should take.
const BUDGET: (u64, u64) = (256 << 20, 100 << 30);
const SUBMISSION: Duration = Duration::from_millis(60);
/// Parameter blocks begin at multiples of this.
const PARAM_ALIGN: u64 = 256;
/// Bytes of the word for faults at the end of what is read back.
const STATUS_BYTES: u64 = 16;

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

/// A dispatch ready to record.
struct Ready {
    pipelines: Vec<wgpu::ComputePipeline>,
    group: Option<wgpu::BindGroup>,
}

/// A plan, or its beginning, ready to record.
struct Program {
    /// Unique: sequences bind their caches to it.
    id: u64,
    dispatches: Vec<Dispatch>,
    ready: Vec<Ready>,
    attends: Vec<attend::Attend>,
}

/// Buffers that programs share.
struct Buffers {
    /// By buffer of the plan: all rows, wanted rows.
    places: Vec<[Option<wgpu::Buffer>; 2]>,
    codes: wgpu::Buffer,
    scales: wgpu::Buffer,
    aligned: wgpu::Buffer,
    row_info: wgpu::Buffer,
    want: wgpu::Buffer,
    order: wgpu::Buffer,
    groups: wgpu::Buffer,
    rotations: Vec<wgpu::Buffer>,
    part: wgpu::Buffer,
    status: wgpu::Buffer,
    batch: wgpu::Buffer,
    unused: wgpu::Buffer,
    /// What is read back; grows.
    readback: wgpu::Buffer,
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
        let mut variant = Variant::of(gpu.caps());
        variant.subgroups &= !options.plain;
        variant.int8_prompt &= options.int8[0] && !options.plain;
        variant.int8_decode = gpu.caps().int8_dot && options.int8[1] && !options.plain;
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

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// Writes what is particular to this batch.
    fn write_batch(&self, rows: &Rows<'_>, counts: &[(u32, u32)], sequences: &[&mut GpuSequence], lengths: &[u32]) {
        let queue = &self.gpu.queue;
        let info: Vec<[u32; 4]> = rows.token.iter().zip(rows.pos).map(|(&t, &p)| [t, p, 0, 0]).collect();
        queue.write_buffer(&self.buffers.row_info, 0, bytemuck::cast_slice(&info));
        queue.write_buffer(&self.buffers.order, 0, bytemuck::cast_slice(&self.order.order));
        if !rows.want.is_empty() {
            queue.write_buffer(&self.buffers.want, 0, bytemuck::cast_slice(rows.want));
        }
        let ranges = self.order.ranges.iter();
        let groups: Vec<[u32; 2]> = ranges.clone().map(|r| [r.start as u32, r.len() as u32]).collect();
        queue.write_buffer(&self.buffers.groups, 0, bytemuck::cast_slice(&groups));
        queue.write_buffer(&self.buffers.status, 0, &[0; STATUS_BYTES as usize]);
        for (((sequence, range), &(count, n_split)), &len) in sequences.iter().zip(ranges).zip(counts).zip(lengths) {
            let record = attend::Sequence { first: range.start as u32, count, len, n_split };
            queue.write_buffer(&sequence.uniform, 0, bytemuck::bytes_of(&record));
        }
        for (table, buffer) in self.plan.tables().iter().zip(&self.buffers.rotations) {
            let mut turns: Vec<[f32; 2]> = Vec::with_capacity(rows.pos.len() * table.freqs.len());
            for &pos in rows.pos {
                turns.extend(table.freqs.iter().map(|freq| {
                    let (sin, cos) = (f64::from(pos) * freq).sin_cos();
                    [cos as f32 * table.amp, sin as f32 * table.amp]
                }));
            }
            queue.write_buffer(buffer, 0, bytemuck::cast_slice(&turns));
        }
        for o in self.plan.inputs() {
            let stride = row_stride(self.plan.buffers()[o.buf.index()].width);
            let buffer = self.buffers.place(Place { buf: o.buf, taken: false });
            for (row, x) in rows.input.chunks_exact(o.len() as usize).enumerate() {
                let at = 4 * (row as u64 * u64::from(stride) + u64::from(o.start));
                queue.write_buffer(buffer, at, bytemuck::cast_slice(x));
            }
        }
    }

    fn write_counts(&self, n_row: u32, n_want: u32, want_start: u32) {
        let counts = [n_row, n_want, want_start, 0];
        self.gpu.queue.write_buffer(&self.buffers.batch, 0, bytemuck::cast_slice(&counts));
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

impl Buffers {
    fn new(gpu: &Gpu, plan: &Plan, lowered: &Lowered, n_batch: u32, want_rows: u32) -> Result<Self> {
        let rows = [n_batch, want_rows];
        let mut needed = vec![[false; 2]; plan.buffers().len()];
        plan.inputs().iter().for_each(|o| needed[o.buf.index()][0] = true);
        for dispatch in &lowered.dispatches {
            for bound in &dispatch.bindings {
                if let Bound::Place(p) = bound {
                    needed[p.buf.index()][usize::from(p.taken)] = true;
                }
            }
            match &dispatch.grid {
                Grid::Store(_, k, v) => [k, v].iter().for_each(|o| needed[o.buf.index()][0] = true),
                Grid::Attend(a) => [a.q, a.out].iter().for_each(|o| needed[o.buf.index()][0] = true),
                _ => {}
            }
        }
        let place = |(buffer, needed): (&crate::plan::Buffer, [bool; 2])| -> Result<[Option<wgpu::Buffer>; 2]> {
            let one = |side: usize| {
                let size = 4 * u64::from(row_stride(buffer.width)) * u64::from(rows[side]);
                needed[side].then(|| gpu.storage(&buffer.name, size)).transpose()
            };
            Ok([one(0)?, one(1)?])
        };
        let places = plan.buffers().iter().zip(needed).map(place).collect::<Result<_>>()?;
        let widest = |widths: [u32; 2]| (0..2).map(|i| u64::from(widths[i]) * u64::from(rows[i])).max().unwrap_or(0);
        let n = u64::from(n_batch);
        let quantized = widest(lowered.quantized);
        Ok(Self {
            places,
            codes: gpu.storage("codes", quantized)?,
            scales: gpu.storage("scales", quantized / 2)?,
            aligned: gpu.storage("aligned", 4 * widest(lowered.aligned))?,
            row_info: gpu.storage("rows", 16 * n)?,
            want: gpu.storage("wanted", 4 * n)?,
            order: gpu.storage("order", 4 * n)?,
            groups: gpu.storage("groups", 8 * n)?,
            rotations: plan
                .tables()
                .iter()
                .map(|t| gpu.storage("rotation", 8 * n * t.freqs.len() as u64))
                .collect::<Result<_>>()?,
            part: gpu.storage("parts", 4 * part_words(plan, n_batch))?,
            status: gpu.storage("status", STATUS_BYTES)?,
            batch: gpu.uniform("batch", 16)?,
            unused: gpu.storage("unused", 256)?,
            readback: gpu.readback("results", 1 << 20)?,
        })
    }

    fn place(&self, place: Place) -> &wgpu::Buffer {
        self.places[place.buf.index()][usize::from(place.taken)].as_ref().expect("allocated for what is bound")
    }
}

/// The attention steps of a plan with the shape of any cache: for questions that do not depend on storage.
fn attends(plan: &Plan) -> Vec<attend::Attend> {
    let shape = |step: &Step| {
        let Step::Attend(a) = step else { return None };
        let cache = attend::CacheShape::new(&plan.caches()[a.cache.index()], [crate::plan::CacheType::F16; 2], 1);
        attend::Attend::new(a, cache, 0, 0).ok()
    };
    let key = |a: &attend::Attend| (a.params(), a.reduce_kernel());
    let mut found: Vec<attend::Attend> = Vec::new();
    for attend in plan.steps().iter().filter_map(shape) {
        if !found.iter().any(|a| key(a) == key(&attend)) {
            found.push(attend);
        }
    }
    found
}

/// Words that the unfinished parts of attention take at most.
fn part_words(plan: &Plan, n_batch: u32) -> u64 {
    let attends = attends(plan);
    let words = |count: u32| {
        let n_split = n_split(&attends, count, u32::MAX / 2);
        attends.iter().map(|a| a.part_words(count, n_split)).max().unwrap_or(0)
    };
    (1..=n_batch).map(words).max().unwrap_or(0).max(4)
}

/// Into how many parts attention cuts keys: one number for all steps of a pass.
fn n_split(attends: &[attend::Attend], count: u32, len: u32) -> u32 {
    attends.iter().map(|a| a.n_split(count, len)).max().unwrap_or(1)
}

impl Program {
    fn new(
        gpu: &Gpu,
        plan: &Plan,
        dispatches: Vec<Dispatch>,
        weights: &DeviceWeights,
        buffers: &Buffers,
        pipelines: &mut Pipelines,
    ) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let block = |d: &Dispatch| (4 * d.params.len() as u64).next_multiple_of(PARAM_ALIGN);
        let mut bytes = vec![0u8; dispatches.iter().map(block).sum::<u64>() as usize];
        let mut starts = Vec::with_capacity(dispatches.len());
        let mut at = 0;
        for d in &dispatches {
            starts.push(at);
            bytes[at as usize..at as usize + 4 * d.params.len()].copy_from_slice(bytemuck::cast_slice(&d.params));
            at += block(d);
        }
        let params = gpu.uniform("parameters", at)?;
        gpu.queue.write_buffer(&params, 0, &bytes);
        let all: Vec<Kernel> = dispatches.iter().flat_map(|d| d.kernels.all()).cloned().collect();
        pipelines.compile(&all)?;
        let mut ready = Vec::with_capacity(dispatches.len());
        for (d, start) in dispatches.iter().zip(starts) {
            let kernels = d.kernels.all();
            let Some(first) = kernels.first() else {
                ready.push(Ready { pipelines: Vec::new(), group: None });
                continue;
            };
            let params = Range { buffer: &params, start, size: (4 * d.params.len() as u64).next_multiple_of(16) };
            let range = |bound: &Bound| -> Range<'_> {
                match bound {
                    Bound::Place(place) => Range::all(buffers.place(*place)),
                    Bound::PlaneA(id, chunk) => weights.matrix_of(*id).chunks[*chunk].plane_a(),
                    Bound::PlaneS(id, chunk) => weights.matrix_of(*id).chunks[*chunk].plane_s(),
                    Bound::Grid(id) => Range::all(weights.matrix_of(*id).tables.as_ref().unwrap_or(&buffers.unused)),
                    Bound::Vector(id) => Range::all(weights.vector_of(*id)),
                    Bound::Codes => Range::all(&buffers.codes),
                    Bound::Scales => Range::all(&buffers.scales),
                    Bound::Aligned => Range::all(&buffers.aligned),
                    Bound::RowInfo => Range::all(&buffers.row_info),
                    Bound::Want => Range::all(&buffers.want),
                    Bound::Order => Range::all(&buffers.order),
                    Bound::Groups => Range::all(&buffers.groups),
                    Bound::Rotation(table) => Range::all(&buffers.rotations[table.index()]),
                    Bound::Params => params,
                    Bound::Batch => Range::all(&buffers.batch),
                    Bound::Unused => Range::all(&buffers.unused),
                }
            };
            let ranges: Vec<Range<'_>> = d.bindings.iter().map(range).collect();
            let group = Some(pipelines.bind(first.slots, &ranges));
            let compiled = kernels.iter().map(|k| pipelines.get(k)).collect::<Result<_>>()?;
            ready.push(Ready { pipelines: compiled, group });
        }
        gpu.check()?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, dispatches, ready, attends: attends(plan) })
    }

    /// First dispatch over wanted rows only.
    fn take(&self) -> usize {
        self.dispatches.iter().position(|d| d.taken).unwrap_or(self.dispatches.len())
    }
}

/// One pass over a program.
struct Recorder<'a> {
    gpu: &'a Gpu,
    program: &'a Program,
    pipelines: &'a mut Pipelines,
    stats: &'a mut Stats,
}

impl Recorder<'_> {
    /// Records one dispatch for `n` rows.
    fn record(
        &mut self,
        pass: &mut wgpu::ComputePass<'_>,
        index: usize,
        n: u32,
        sequences: &mut [&mut GpuSequence],
        counts: &[(u32, u32)],
    ) -> Result<()> {
        let (dispatch, ready) = (&self.program.dispatches[index], &self.program.ready[index]);
        let mut run = |pipeline: &wgpu::ComputePipeline, group: &wgpu::BindGroup, [x, y, z]: [u32; 3]| {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(x, y, z);
            self.stats.dispatches += 1;
        };
        if let Some(group) = &ready.group {
            let (kernel, grid) = match dispatch.grid {
                Grid::Rows(x) => (0, [x, n, 1]),
                Grid::Sequences(x) => (0, [x, sequences.len() as u32, 1]),
                Grid::Matvec(rows) => {
                    let groups = rows.div_ceil(MATVEC_ROWS);
                    let x = groups.min(self.gpu.caps().max_groups);
                    (n.next_power_of_two().ilog2() as usize, [x, groups.div_ceil(x), 1])
                }
                Grid::Matmul(rows) => (0, [rows.div_ceil(TILE.0), n.div_ceil(TILE.1), 1]),
                Grid::Store(..) | Grid::Attend(_) => unreachable!("bound by the sequence"),
            };
            run(&ready.pipelines[kernel], group, grid);
            return Ok(());
        }
        for (sequence, &(count, n_split)) in sequences.iter_mut().zip(counts).filter(|(_, c)| c.0 > 0) {
            match sequence.bound(index) {
                Some(sequence::Bound::Store { store, pipeline, group }) => run(pipeline, group, store.grid(count)),
                Some(sequence::Bound::Attend(bound)) => {
                    let tile = bound.attend.tile(count);
                    let slot = tile.ilog2() as usize;
                    if bound.tiles[slot].is_none() {
                        bound.tiles[slot] = Some(self.pipelines.get(&bound.attend.kernel(tile))?);
                    }
                    let pipeline = bound.tiles[slot].as_ref().expect("set above");
                    run(pipeline, &bound.group, bound.attend.grid(count, n_split));
                    if n_split > 1 {
                        run(&bound.reduce.0, &bound.reduce.1, bound.attend.reduce_grid(count));
                    }
                }
                None => return Err(Error::new(ErrorKind::Internal, "a sequence is not bound to its program")),
            }
        }
        Ok(())
    }
}

/// Which rows of a plan without Take, or before it, are the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Wanted,
    All,
    FirstOfSequence,
}

/// Rows of a buffer that are read back.
#[derive(Clone, Copy)]
struct Copy {
    place: Place,
    /// First row, and rows.
    first: u32,
    rows: u32,
}

impl GpuBackend {
    /// Records dispatches, cut into submissions by the budget; the last one copies what is wanted.
    #[allow(clippy::too_many_arguments)]
    fn submit(
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

    fn finish(&self, copies: &[Copy], result: Operand, out: &mut Vec<f32>) -> Result<()> {
        if copies.is_empty() {
            return self.gpu.wait();
        }
        self.read(copies, result, out)
    }

    /// The beginning of the plan up to a probe, step by step.
    fn probed(&mut self, probe: Probe) -> Result<Program> {
        let variant = Variant { fuse: false, ..self.variant.clone() };
        let lowered = lower_or_say(&self.plan, probe.step() + 1, &variant, &self.weights)?;
        let places = Buffers::new(&self.gpu, &self.plan, &lowered, self.options.n_batch, self.want_rows)?.places;
        for (have, new) in self.buffers.places.iter_mut().zip(places) {
            for (have, new) in have.iter_mut().zip(new) {
                if have.is_none() {
                    *have = new;
                }
            }
        }
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

#[cfg(test)]
impl GpuBackend {
    /// Multiplications of the next submission, from where it follows what is measured.
    pub(super) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
    }
}
