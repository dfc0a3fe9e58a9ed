//! A lowered plan with its pipelines and bind groups, and how it is recorded.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Stats;
use super::buffers::{Buffers, attends};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::compose::Kernel;
use crate::gpu::device::Gpu;
use crate::gpu::kernels::attend;
use crate::gpu::lower::{Bound, Dispatch, Grid, Kernels, MATVEC_ROWS, TILE};
use crate::gpu::pipelines::{Pipelines, Range};
use crate::gpu::sequence::{self, GpuSequence};
use crate::gpu::weights::DeviceWeights;
use crate::plan::Plan;

/// Parameter blocks begin at multiples of this.
const PARAM_ALIGN: u64 = 256;

/// A dispatch ready to record.
struct Ready {
    pipelines: Vec<wgpu::ComputePipeline>,
    group: Option<wgpu::BindGroup>,
}

/// A plan, or its beginning, ready to record.
pub(super) struct Program {
    /// Unique: sequences bind their caches to it.
    pub id: u64,
    pub dispatches: Vec<Dispatch>,
    ready: Vec<Ready>,
    pub attends: Vec<attend::Attend>,
}

impl Program {
    pub fn new(
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
            let compiled: Vec<_> = kernels.iter().map(|k| pipelines.get(k)).collect::<Result<_>>()?;
            if d.has_state() {
                ready.push(Ready { pipelines: compiled, group: None });
                continue;
            }
            let range = |bound: &Bound| match bound {
                Bound::Params => params,
                bound => buffers.range(bound, weights),
            };
            let ranges: Vec<Range<'_>> = d.bindings.iter().map(range).collect();
            let group = Some(pipelines.bind(first.slots, &ranges));
            ready.push(Ready { pipelines: compiled, group });
        }
        gpu.check()?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, dispatches, ready, attends: attends(plan) })
    }

    /// First dispatch over wanted rows only.
    pub fn take(&self) -> usize {
        self.dispatches.iter().position(|d| d.taken).unwrap_or(self.dispatches.len())
    }
}

/// One pass over a program.
pub(super) struct Recorder<'a> {
    pub gpu: &'a Gpu,
    pub program: &'a Program,
    pub pipelines: &'a mut Pipelines,
    pub stats: &'a mut Stats,
}

impl Recorder<'_> {
    /// Records one dispatch for `n` rows.
    pub fn record(
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
            let kernel = match dispatch.kernels {
                Kernels::Few(_) => n.next_power_of_two().ilog2() as usize,
                _ => 0,
            };
            let few = |rows: u32, z: u32| {
                let groups = rows.div_ceil(MATVEC_ROWS);
                let x = groups.min(self.gpu.caps().max_groups);
                [x, groups.div_ceil(x), z]
            };
            let grid = match dispatch.grid {
                Grid::Rows(x) => [x, n, 1],
                Grid::Sequences(x) => [x, sequences.len() as u32, 1],
                Grid::Matvec(rows) => few(rows, 1),
                Grid::HeadsFew(rows, heads) => few(rows, heads),
                Grid::ExpertsFew(rows, chosen) => few(rows, n * chosen.used),
                Grid::Matmul(rows) => [rows.div_ceil(TILE.0), n.div_ceil(TILE.1), 1],
                Grid::HeadsMany(rows, heads) => [rows.div_ceil(TILE.0), n.div_ceil(TILE.1), heads],
                Grid::ExpertsMany(rows, chosen) => [rows.div_ceil(TILE.0), 1, chosen.max_tiles(n)],
                Grid::Pairs(x, used) => [x, n, used],
                Grid::One => [1, 1, 1],
                Grid::Store(..) | Grid::Attend(_) | Grid::Select(_) | Grid::State { .. } => {
                    unreachable!("bound by the sequence")
                }
            };
            run(&ready.pipelines[kernel], group, grid);
            return Ok(());
        }
        for (sequence, &(count, n_split)) in sequences.iter_mut().zip(counts).filter(|(_, c)| c.0 > 0) {
            let len = sequence.positions.len();
            match sequence.bound(index) {
                Some(sequence::Bound::Store { store, pipeline, group }) => run(pipeline, group, store.grid(count)),
                Some(sequence::Bound::Positions(bound)) => {
                    for (first, groups) in (0..count).step_by(bound.at_once as usize).zip(&bound.groups) {
                        let grids = bound.positions.grids(bound.at_once.min(count - first), len);
                        for ((pipeline, group), grid) in bound.pipelines.iter().zip(groups).zip(grids) {
                            run(pipeline, group, grid);
                        }
                    }
                }
                Some(sequence::Bound::Chosen { chosen, pipeline, group }) => run(pipeline, group, chosen.grid(count)),
                Some(sequence::Bound::State(group)) => {
                    let Grid::State { x, y, per_row } = dispatch.grid else { unreachable!("bound as a state") };
                    run(&ready.pipelines[0], group, [x, y + if per_row { count } else { 0 }, 1]);
                }
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
