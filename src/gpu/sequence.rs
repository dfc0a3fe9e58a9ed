//! Keys, values and states of one sequence on the device.

use std::sync::Arc;

use super::device::Gpu;
use super::kernels::attend::{self, Attend, CacheShape, Heads, Store};
use super::kernels::positions::{self, Chosen};
use super::lower::{self, Dispatch, Grid, Place, row_stride};
use super::pipelines::{Pipelines, Range};
use crate::cache::{Positions, Sides};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{self, CacheType, Operand, Plan, SequenceMemory, WeightId};

/// Slots that a cache begins with; it doubles from there.
const FIRST_SLOTS: usize = 256;

/// One cache of the plan.
struct CacheBuffers {
    k: wgpu::Buffer,
    v: wgpu::Buffer,
    /// Slots that the buffers hold now.
    n_slot: usize,
}

/// A dispatch over the sequence's own caches.
pub(super) enum Bound {
    Store { store: Store, pipeline: wgpu::ComputePipeline, group: wgpu::BindGroup },
    Attend(Box<BoundAttend>),
    State(wgpu::BindGroup),
    Positions(BoundPositions),
    Chosen { chosen: Chosen, pipeline: wgpu::ComputePipeline, group: wgpu::BindGroup },
}

/// A choice of positions: scores, then the choice by them, for some rows at a time.
pub(super) struct BoundPositions {
    pub positions: positions::Positions,
    pub at_once: u32,
    pub pipelines: [wgpu::ComputePipeline; 2],
    /// By rows at a time.
    pub groups: Vec<[wgpu::BindGroup; 2]>,
}

/// Attention with the kernels that were needed so far.
pub(super) struct BoundAttend {
    pub attend: Attend,
    pub group: wgpu::BindGroup,
    pub reduce: (wgpu::ComputePipeline, wgpu::BindGroup),
    /// By binary logarithm of the tile.
    pub tiles: [Option<wgpu::ComputePipeline>; 5],
}

/// What one sequence remembers on a GPU. Buffers double as the text grows, up to the context length.
pub struct GpuSequence {
    gpu: Arc<Gpu>,
    pub(super) positions: Positions,
    shapes: Vec<CacheShape>,
    caches: Vec<CacheBuffers>,
    /// Which side of the states belongs to which position.
    sides: Sides,
    /// By state of the plan, f32: [sides, numbers].
    states: Vec<wgpu::Buffer>,
    /// Scores of positions, as many as any choice among them needs at a time.
    scores: Option<wgpu::Buffer>,
    n_batch: u32,
    /// The sequence's parameters: [`attend::Sequence`].
    pub(super) uniform: wgpu::Buffer,
    /// By dispatch of the program with this number; made anew when buffers have moved.
    bound: Option<(u64, Vec<Option<Bound>>)>,
    bytes: u64,
}

/// What a sequence is bound to.
pub(super) struct Context<'a> {
    pub plan: &'a Plan,
    pub pipelines: &'a mut Pipelines,
    /// Number of the program, and its dispatches.
    pub id: u64,
    pub dispatches: &'a [Dispatch],
    pub buffer: &'a dyn Fn(Place) -> &'a wgpu::Buffer,
    /// What a binding shows that is not the sequence's.
    pub range: &'a dyn Fn(&lower::Bound) -> Range<'a>,
    pub order: &'a wgpu::Buffer,
    pub part: &'a wgpu::Buffer,
    pub status: &'a wgpu::Buffer,
    /// Vectors of the plan, and what stands for none.
    pub vector: &'a dyn Fn(WeightId) -> &'a wgpu::Buffer,
    pub unused: &'a wgpu::Buffer,
}

impl GpuSequence {
    /// An empty sequence of up to `n_ctx` positions, fed by at most `n_batch` rows at once.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when a cache type does not fit the model's heads, [`ErrorKind::Memory`] when the device
    /// has no room or cannot hold a cache of that length, [`ErrorKind::Gpu`].
    pub fn new(gpu: &Arc<Gpu>, plan: &Plan, n_ctx: u32, n_batch: u32, k: CacheType, v: CacheType) -> Result<Self> {
        let positions = Positions::new(plan, n_ctx, n_batch);
        let mut shapes = Vec::new();
        for (i, spec) in plan.caches().iter().enumerate() {
            spec.check_types(k, v)?;
            attend::fits(spec, [k, v]).map_err(|why| {
                Error::new(ErrorKind::Gpu, format!("the GPU cannot keep {}: {why}", spec.name))
                    .with_hint("use the CPU (--device cpu)")
            })?;
            let shape = CacheShape::new(spec, [k, v], positions.slots(i).n_slot() as u32);
            let limit = gpu.caps().max_binding.min(gpu.caps().max_buffer);
            if let Some(words) = shape.words().into_iter().find(|words| 4 * words > limit) {
                let text = format!("a cache of {n_ctx} positions takes {} bytes, the GPU binds {limit}", 4 * words);
                return Err(Error::new(ErrorKind::Memory, text)
                    .with_hint("use a smaller context (-c), a smaller cache type (-ctk q8_0 -ctv q8_0) or the CPU"));
            }
            shapes.push(shape);
        }
        let mut sequence = Self {
            gpu: gpu.clone(),
            positions,
            shapes,
            caches: Vec::new(),
            sides: Sides::default(),
            states: Vec::new(),
            scores: None,
            n_batch,
            uniform: gpu.uniform("sequence", size_of::<attend::Sequence>() as u64)?,
            bound: None,
            bytes: 0,
        };
        for i in 0..sequence.shapes.len() {
            let n_slot = FIRST_SLOTS.min(sequence.positions.slots(i).n_slot());
            let cache = sequence.allocate(i, n_slot)?;
            sequence.caches.push(cache);
        }
        for spec in plan.states() {
            let size = spec.bytes();
            let limit = gpu.caps().max_binding.min(gpu.caps().max_buffer);
            if size > limit {
                let text = format!("{} takes {size} bytes, the GPU binds {limit}", spec.name);
                return Err(Error::new(ErrorKind::Memory, text).with_hint("use the CPU (--device cpu)"));
            }
            sequence.states.push(gpu.storage("state", size)?);
            sequence.bytes += size;
        }
        Ok(sequence)
    }

    fn allocate(&mut self, cache: usize, n_slot: usize) -> Result<CacheBuffers> {
        let shape = CacheShape { n_slot: n_slot as u32, ..self.shapes[cache] };
        let [k, v] = shape.words().map(|words| 4 * words);
        // A cache without values has a buffer for them all the same, of the least size.
        let buffers = CacheBuffers { k: self.gpu.storage("keys", k)?, v: self.gpu.storage("values", v)?, n_slot };
        self.bytes += k + v;
        Ok(buffers)
    }

    /// Sides of the states that the batch at hand reads and writes.
    pub(super) fn sides(&self) -> [u32; 2] {
        [self.sides.now() as u32, self.sides.next() as u32]
    }

    /// The rows that [`GpuSequence::append`] made room for have been computed.
    pub(super) fn commit(&mut self) {
        self.sides.commit(self.positions.len());
    }

    /// Makes room for `n` further rows in every cache.
    pub(super) fn append(&mut self, n: u32) -> Result<()> {
        self.sides.prepare(n);
        self.positions.append(n)?;
        for i in 0..self.caches.len() {
            let (used, most) = (self.positions.slots(i).slots_used(), self.positions.slots(i).n_slot());
            if used <= self.caches[i].n_slot {
                continue;
            }
            let old_words = CacheShape { n_slot: self.caches[i].n_slot as u32, ..self.shapes[i] }.words();
            let larger = self.allocate(i, used.next_power_of_two().min(most))?;
            self.bytes -= old_words.into_iter().map(|words| 4 * words).sum::<u64>();
            let old = std::mem::replace(&mut self.caches[i], larger);
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (from, to) in [(&old.k, &self.caches[i].k), (&old.v, &self.caches[i].v)] {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size().min(to.size()));
            }
            self.gpu.queue.submit([encoder.finish()]);
            self.bound = None;
        }
        Ok(())
    }

    /// The dispatches of a program over this sequence's caches.
    pub(super) fn bind(&mut self, context: &mut Context<'_>) -> Result<()> {
        if self.bound.as_ref().is_some_and(|(id, _)| *id == context.id) {
            return Ok(());
        }
        self.make_room_for_scores(context)?;
        let mut bound = Vec::with_capacity(context.dispatches.len());
        for dispatch in context.dispatches {
            bound.push(match &dispatch.grid {
                Grid::Store(cache, k, v) => Some(self.bind_store(context, cache.index(), (*k, *v))?),
                Grid::Attend(step) if step.select.is_some() => Some(self.bind_chosen(context, step)?),
                Grid::Attend(step) => Some(self.bind_attend(context, step)?),
                Grid::Select(step) => Some(self.bind_positions(context, step)?),
                Grid::State { .. } => Some(self.bind_state(context, dispatch)?),
                _ => None,
            });
        }
        self.bound = Some((context.id, bound));
        Ok(())
    }

    /// A dispatch over the sequence's caches, after [`GpuSequence::bind`].
    pub(super) fn bound(&mut self, dispatch: usize) -> Option<&mut Bound> {
        self.bound.as_mut()?.1.get_mut(dispatch)?.as_mut()
    }

    fn bind_store(&self, context: &mut Context<'_>, cache: usize, (k, v): (Operand, Option<Operand>)) -> Result<Bound> {
        let shape = self.shapes[cache];
        // Without values nothing is read there.
        let v = v.unwrap_or(k);
        let heads = |o: Operand| Heads::of(o, stride(context.plan, o), shape.heads);
        let store = Store { cache: shape, k: heads(k), v: heads(v) };
        let kernel = store.kernel();
        let pipeline = context.pipelines.get(&kernel)?;
        let params = self.params(bytemuck::bytes_of(&store.params()))?;
        let source = |o: Operand| Range::all((context.buffer)(Place { buf: o.buf, taken: false }));
        let ranges = [
            source(k),
            source(v),
            Range::all(&self.caches[cache].k),
            Range::all(&self.caches[cache].v),
            Range::all(context.order),
            Range::all(context.status),
            Range::all(&params),
            Range::all(&self.uniform),
        ];
        let group = context.pipelines.bind(kernel.slots, &ranges);
        Ok(Bound::Store { store, pipeline, group })
    }

    fn bind_attend(&self, context: &mut Context<'_>, step: &plan::Attend) -> Result<Bound> {
        let cache = step.cache.index();
        let strides = [step.q, step.out].map(|o| stride(context.plan, o));
        let attend = Attend::new(step, self.shapes[cache], strides[0], strides[1])
            .map_err(|why| Error::new(ErrorKind::Internal, format!("attention: {why}")))?;
        let params = self.params(bytemuck::bytes_of(&attend.params()))?;
        let place = |o: Operand| Range::all((context.buffer)(Place { buf: o.buf, taken: false }));
        let (params, uniform) = (Range::all(&params), Range::all(&self.uniform));
        let (part, order) = (Range::all(context.part), Range::all(context.order));
        let k = Range::all(&self.caches[cache].k);
        let v = if attend.reads_keys_only() { k } else { Range::all(&self.caches[cache].v) };
        let sinks = Range::all(step.sinks.map_or(context.unused, |id| (context.vector)(id)));
        let kernel = attend.kernel(1);
        let ranges = [place(step.q), k, v, place(step.out), part, order, params, uniform, sinks];
        let group = context.pipelines.bind(kernel.slots, &ranges);
        let reduce = attend.reduce_kernel();
        let reduce_group = context.pipelines.bind(reduce.slots, &[place(step.out), part, order, params, uniform]);
        let reduce = (context.pipelines.get(&reduce)?, reduce_group);
        Ok(Bound::Attend(Box::new(BoundAttend { attend, group, reduce, tiles: [const { None }; 5] })))
    }

    /// A choice of positions over what its cache has room for now.
    fn positions_of(&self, context: &Context<'_>, step: &plan::Select) -> positions::Positions {
        let (cache, rows) = (step.cache.index(), [step.q, step.w, step.out].map(|o| stride(context.plan, o)));
        positions::Positions::new(step, self.shapes[cache], rows, self.caches[cache].n_slot as u32)
    }

    fn make_room_for_scores(&mut self, context: &Context<'_>) -> Result<()> {
        let bytes = |dispatch: &Dispatch| match &dispatch.grid {
            Grid::Select(step) => {
                let positions = self.positions_of(context, step);
                positions.score_bytes(positions.at_once(self.n_batch))
            }
            _ => 0,
        };
        let most = context.dispatches.iter().map(bytes).max().unwrap_or(0);
        let have = self.scores.as_ref().map_or(0, wgpu::Buffer::size);
        if most > have {
            self.scores = Some(self.gpu.storage("scores", most)?);
            self.bytes += most - have;
        }
        Ok(())
    }

    fn bind_positions(&self, context: &mut Context<'_>, step: &plan::Select) -> Result<Bound> {
        let scores = self.scores.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "no room for scores"))?;
        let positions = self.positions_of(context, step);
        let at_once = positions.at_once(self.n_batch);
        let [score, choose] = positions.kernels();
        let place = |o: Operand| Range::all((context.buffer)(Place { buf: o.buf, taken: false }));
        let (scores, order, uniform) = (Range::all(scores), Range::all(context.order), Range::all(&self.uniform));
        let keys = Range::all(&self.caches[step.cache.index()].k);
        let mut groups = Vec::new();
        for first in (0..self.n_batch).step_by(at_once as usize) {
            let params = self.params(bytemuck::bytes_of(&positions.params(first)))?;
            let params = Range::all(&params);
            let score_ranges = [place(step.q), place(step.w), keys, scores, order, params, uniform];
            let choose_ranges = [scores, place(step.out), order, params, uniform];
            let group = context.pipelines.bind(score.slots, &score_ranges);
            groups.push([group, context.pipelines.bind(choose.slots, &choose_ranges)]);
        }
        let pipelines = [context.pipelines.get(&score)?, context.pipelines.get(&choose)?];
        Ok(Bound::Positions(BoundPositions { positions, at_once, pipelines, groups }))
    }

    fn bind_chosen(&self, context: &mut Context<'_>, step: &plan::Attend) -> Result<Bound> {
        let internal = |why: &str| Error::new(ErrorKind::Internal, format!("attention: {why}"));
        let select = step.select.ok_or_else(|| internal("nothing was chosen"))?;
        let (cache, rows) = (step.cache.index(), [step.q, step.out, select].map(|o| stride(context.plan, o)));
        let chosen = Chosen::new(step, self.shapes[cache], rows).map_err(|why| internal(&why))?;
        let kernel = chosen.kernel();
        let params = self.params(bytemuck::bytes_of(&chosen.params()))?;
        let place = |o: Operand| Range::all((context.buffer)(Place { buf: o.buf, taken: false }));
        let k = Range::all(&self.caches[cache].k);
        let v = if chosen.reads_keys_only() { k } else { Range::all(&self.caches[cache].v) };
        let (order, params, uniform) = (Range::all(context.order), Range::all(&params), Range::all(&self.uniform));
        let ranges = [place(step.q), k, v, place(step.out), place(select), order, params, uniform];
        let group = context.pipelines.bind(kernel.slots, &ranges);
        Ok(Bound::Chosen { chosen, pipeline: context.pipelines.get(&kernel)?, group })
    }

    fn bind_state(&self, context: &mut Context<'_>, dispatch: &Dispatch) -> Result<Bound> {
        let params = self.params(bytemuck::cast_slice(&dispatch.params))?;
        let range = |bound: &lower::Bound| match bound {
            lower::Bound::Params => Range::all(&params),
            lower::Bound::Sequence => Range::all(&self.uniform),
            lower::Bound::State(id) => Range::all(&self.states[id.index()]),
            bound => (context.range)(bound),
        };
        let ranges: Vec<Range<'_>> = dispatch.bindings.iter().map(range).collect();
        let slots = dispatch.kernels.all().first().map_or(&[][..], |kernel| kernel.slots);
        Ok(Bound::State(context.pipelines.bind(slots, &ranges)))
    }

    fn params(&self, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let buffer = self.gpu.uniform("parameters", bytes.len() as u64)?;
        self.gpu.queue.write_buffer(&buffer, 0, bytes);
        Ok(buffer)
    }
}

fn stride(plan: &Plan, o: Operand) -> u32 {
    row_stride(plan.buffers()[o.buf.index()].width)
}

impl SequenceMemory for GpuSequence {
    fn len(&self) -> u32 {
        self.positions.len()
    }

    fn rewind(&mut self, len: u32) -> bool {
        let possible = self.nearest(len) == len && self.positions.rewind(len);
        if possible {
            self.sides.rewind(len);
        }
        possible
    }

    fn nearest(&self, len: u32) -> u32 {
        if self.states.is_empty() { len } else { self.sides.nearest(len) }
    }

    fn clear(&mut self) {
        self.positions.clear();
        self.sides.rewind(0);
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
