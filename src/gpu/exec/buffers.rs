//! The buffers that the dispatches of a plan share, and what is written into them for a batch.

use super::GpuBackend;
use super::submit::STATUS_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::device::Gpu;
use crate::gpu::kernels::attend;
use crate::gpu::lower::{Bound, Grid, Lowered, Place, Scratch, row_stride};
use crate::gpu::pipelines::Range;
use crate::gpu::sequence::GpuSequence;
use crate::gpu::weights::DeviceWeights;
use crate::plan::{Plan, Rows, Step};

/// Buffers that programs share.
pub(super) struct Buffers {
    /// By buffer of the plan: all rows, wanted rows.
    places: Vec<[Option<wgpu::Buffer>; 2]>,
    pub codes: wgpu::Buffer,
    pub scales: wgpu::Buffer,
    pub aligned: wgpu::Buffer,
    pub gates: wgpu::Buffer,
    /// By [`Scratch::ALL`].
    pub scratch: Vec<wgpu::Buffer>,
    pub row_info: wgpu::Buffer,
    pub want: wgpu::Buffer,
    pub order: wgpu::Buffer,
    pub groups: wgpu::Buffer,
    pub rotations: Vec<wgpu::Buffer>,
    pub part: wgpu::Buffer,
    pub status: wgpu::Buffer,
    pub batch: wgpu::Buffer,
    pub unused: wgpu::Buffer,
    /// What is read back; grows.
    pub readback: wgpu::Buffer,
}

impl Buffers {
    pub fn new(gpu: &Gpu, plan: &Plan, lowered: &Lowered, n_batch: u32, want_rows: u32) -> Result<Self> {
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
                Grid::Store(_, k, v) => v.iter().chain([k]).for_each(|o| needed[o.buf.index()][0] = true),
                Grid::Attend(a) => {
                    [a.q, a.out].iter().chain(&a.select).for_each(|o| needed[o.buf.index()][0] = true);
                }
                Grid::Select(s) => [s.q, s.w, s.out].iter().for_each(|o| needed[o.buf.index()][0] = true),
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
        let scratch = |which: Scratch| {
            let size = 4 * widest(lowered.scratch[which as usize]);
            if size > gpu.caps().max_binding {
                let text = format!("experts of a batch leave {size} bytes, the GPU binds {}", gpu.caps().max_binding);
                return Err(Error::new(ErrorKind::Memory, text).with_hint("use a smaller batch (TEALIGHT_UBATCH)"));
            }
            gpu.storage("experts", size)
        };
        Ok(Self {
            places,
            codes: gpu.storage("codes", quantized)?,
            scales: gpu.storage("scales", quantized / 2)?,
            aligned: gpu.storage("aligned", 4 * widest(lowered.aligned))?,
            gates: gpu.storage("gates", 4 * n * u64::from(lowered.gates))?,
            scratch: Scratch::ALL.into_iter().map(scratch).collect::<Result<_>>()?,
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

    /// Takes over the places that are not there yet.
    pub fn add(&mut self, further: Self) {
        for (have, new) in self.places.iter_mut().flatten().zip(further.places.into_iter().flatten()) {
            if have.is_none() {
                *have = new;
            }
        }
    }

    /// What a binding shows that does not depend on a sequence or on the dispatch.
    pub fn range<'a>(&'a self, bound: &Bound, weights: &'a DeviceWeights) -> Range<'a> {
        match bound {
            Bound::Place(place) => Range::all(self.place(*place)),
            Bound::PlaneA(id, chunk) => weights.matrix_of(*id).chunks[*chunk].plane_a(),
            Bound::PlaneS(id, chunk) => weights.matrix_of(*id).chunks[*chunk].plane_s(),
            Bound::Grid(id) => Range::all(weights.matrix_of(*id).tables.as_ref().unwrap_or(&self.unused)),
            Bound::Vector(id) => Range::all(weights.vector_of(*id)),
            Bound::Codes => Range::all(&self.codes),
            Bound::Scales => Range::all(&self.scales),
            Bound::Aligned => Range::all(&self.aligned),
            Bound::Gates => Range::all(&self.gates),
            Bound::Scratch(which) => Range::all(&self.scratch[*which as usize]),
            Bound::RowInfo => Range::all(&self.row_info),
            Bound::Want => Range::all(&self.want),
            Bound::Order => Range::all(&self.order),
            Bound::Groups => Range::all(&self.groups),
            Bound::Rotation(table) => Range::all(&self.rotations[table.index()]),
            Bound::Batch => Range::all(&self.batch),
            Bound::Unused => Range::all(&self.unused),
            Bound::Params | Bound::State(_) | Bound::Sequence => unreachable!("bound where they are kept"),
        }
    }

    pub fn place(&self, place: Place) -> &wgpu::Buffer {
        self.places[place.buf.index()][usize::from(place.taken)].as_ref().expect("allocated for what is bound")
    }
}

impl GpuBackend {
    /// Writes what is particular to this batch.
    pub(super) fn write_batch(
        &self,
        rows: &Rows<'_>,
        counts: &[(u32, u32)],
        sequences: &[&mut GpuSequence],
        lengths: &[u32],
    ) {
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
            let sides = sequence.sides();
            let record = attend::Sequence { first: range.start as u32, count, len, n_split, sides, pad: [0; 2] };
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

    pub(super) fn write_counts(&self, n_row: u32, n_want: u32, want_start: u32) {
        let counts = [n_row, n_want, want_start, 0];
        self.gpu.queue.write_buffer(&self.buffers.batch, 0, bytemuck::cast_slice(&counts));
    }
}

/// The attention steps of a plan with the shape of any cache: for questions that do not depend on storage.
pub(super) fn attends(plan: &Plan) -> Vec<attend::Attend> {
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
pub(super) fn n_split(attends: &[attend::Attend], count: u32, len: u32) -> u32 {
    attends.iter().map(|a| a.n_split(count, len)).max().unwrap_or(1)
}
