//! The choice of positions, and attention over those that were chosen: constants and parameters of the kernels.

use super::attend::{CacheShape, Heads, fragments};
use crate::gpu::compose::{ATTEND_CHOSEN, Kernel, POSITIONS_CHOOSE, POSITIONS_SCORE};
use crate::plan;

/// Workgroup memory that every device has.
const WORKGROUP_BYTES: u32 = 16 << 10;
/// Most heads of a workgroup of attention.
const MAX_TILE: u32 = 8;
/// Keys of a chunk.
const WG: u32 = 64;
/// Bytes of scores at most that are kept at a time; never less than those of one row.
const SCORE_BYTES: u64 = 64 << 20;

/// Parameters of `kernel/positions_score` and `kernel/positions_choose`; `Positions` of `shaders/lib/positions.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct PositionsParams {
    q: [u32; 3],
    heads: u32,
    w: [u32; 2],
    out: [u32; 2],
    top: u32,
    n_slot: u32,
    stride: u32,
    first: u32,
    scale: f32,
    pad: [u32; 3],
}

/// One choice of positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::gpu) struct Positions {
    step: plan::Select,
    cache: CacheShape,
    /// Row strides of queries, counts and results.
    rows: [u32; 3],
    /// Positions that there is room for.
    n_slot: u32,
}

impl Positions {
    /// A choice among the keys of a cache that has room for `n_slot` now.
    pub fn new(step: &plan::Select, cache: CacheShape, rows: [u32; 3], n_slot: u32) -> Self {
        Self { step: *step, cache, rows, n_slot }
    }

    /// The kernels: scores, and the choice by them.
    pub fn kernels(&self) -> [Kernel; 2] {
        let keys = fragments(self.cache.types[0]).rows[0];
        let score = Kernel::new("positions_score", POSITIONS_SCORE).with("lib/positions").with(keys);
        [score.set("DK", self.cache.dims[0]), Kernel::new("positions_choose", POSITIONS_CHOOSE).with("lib/positions")]
    }

    /// Rows of a batch of up to `n_batch` that are treated at once.
    pub fn at_once(&self, n_batch: u32) -> u32 {
        (SCORE_BYTES / (4 * u64::from(self.n_slot))).clamp(1, n_batch.max(1).into()) as u32
    }

    /// Bytes of the scores of so many rows.
    pub fn score_bytes(&self, rows: u32) -> u64 {
        4 * u64::from(self.n_slot) * u64::from(rows)
    }

    /// Parameters for the rows from `first` on.
    pub fn params(&self, first: u32) -> PositionsParams {
        let (q, rows) = (Heads::of(self.step.q, self.rows[0], self.step.q.heads), self.rows);
        PositionsParams {
            q: [q.row, q.start, q.stride],
            heads: self.step.q.heads,
            w: [rows[1], self.step.w.start],
            out: [rows[2], self.step.out.start],
            top: self.step.out.len(),
            n_slot: self.cache.n_slot,
            stride: self.n_slot,
            first,
            scale: self.step.scale,
            pad: [0; 3],
        }
    }

    /// Workgroups of the kernels for `rows` rows that see up to `len` positions.
    pub const fn grids(&self, rows: u32, len: u32) -> [[u32; 3]; 2] {
        [[len.div_ceil(WG), rows, 1], [rows, 1, 1]]
    }
}

/// Parameters of `kernel/attend_chosen`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct ChosenParams {
    q: [u32; 3],
    out: [u32; 3],
    chosen: [u32; 2],
    top: u32,
    kv_heads: u32,
    group: u32,
    n_slot: u32,
    scale: f32,
    pad: [u32; 3],
}

/// Attention over chosen positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::gpu) struct Chosen {
    params: ChosenParams,
    cache: CacheShape,
    /// Columns of a head of values, and from one to the next.
    values: [u32; 2],
    is_prefix: bool,
}

impl Chosen {
    /// A step over a cache of that shape; `rows` are the row strides of queries, results and positions. The error is
    /// why the kernel cannot do it.
    pub fn new(step: &plan::Attend, cache: CacheShape, rows: [u32; 3]) -> Result<Self, String> {
        let Some(select) = step.select else { return Err("attention without chosen positions".into()) };
        if step.softcap.is_some() || step.temper.is_some() || step.alibi.is_some() || step.sinks.is_some() {
            return Err("no kernel for chosen positions with a soft cap, a temperature, biases or sinks".into());
        }
        if step.span != plan::Span::Full {
            return Err("no kernel for chosen positions within a window".into());
        }
        let [dk, v_dim] = cache.dims;
        let dv = step.v_prefix.unwrap_or(v_dim);
        let fits = step.kv_heads == cache.heads && step.heads > 0 && step.heads.is_multiple_of(step.kv_heads);
        let fits = fits && step.q.len() == step.heads * dk && step.out.len() == step.heads * dv;
        if !fits || dv == 0 || !dv.is_multiple_of(4) || dv > 512 || dv > step.v_prefix.map_or(dv, |_| dk) {
            let (heads, kv_heads) = (step.heads, step.kv_heads);
            return Err(format!("{heads} heads over {kv_heads} heads of {dk} and {dv} numbers that were chosen"));
        }
        let view = |o, row| {
            let heads = Heads::of(o, row, step.heads);
            [heads.row, heads.start, heads.stride]
        };
        let params = ChosenParams {
            q: view(step.q, rows[0]),
            out: view(step.out, rows[1]),
            chosen: [rows[2], select.start],
            top: select.len(),
            kv_heads: step.kv_heads,
            group: step.heads / step.kv_heads,
            n_slot: cache.n_slot,
            scale: step.scale,
            pad: [0; 3],
        };
        let values = if step.v_prefix.is_some() { [dv, dk] } else { [dv, dv] };
        Ok(Self { params, cache, values, is_prefix: step.v_prefix.is_some() })
    }

    /// Are values the beginnings of keys?
    pub const fn reads_keys_only(&self) -> bool {
        self.is_prefix
    }

    /// Heads of a workgroup.
    fn tile(&self) -> u32 {
        let bytes = |tile: u32| 4 * (tile * (self.cache.dims[0] + WG + 2) + WG);
        let mut tile = self.params.group.min(MAX_TILE).next_power_of_two();
        while tile > 1 && bytes(tile) > WORKGROUP_BYTES {
            tile /= 2;
        }
        tile
    }

    /// The kernel.
    pub fn kernel(&self) -> Kernel {
        let [k, v] = self.cache.types.map(|ty| fragments(ty).rows);
        let values = if self.is_prefix { k[1] } else { v[1] };
        let [dv, vw] = self.values;
        let consts = [("DK", self.cache.dims[0]), ("DV", dv), ("VW", vw), ("TQ", self.tile())];
        let kernel = Kernel::new("attend_chosen", ATTEND_CHOSEN).with(k[0]).with(values);
        consts.into_iter().fold(kernel, |kernel, (name, value)| kernel.set(name, value))
    }

    pub const fn params(&self) -> ChosenParams {
        self.params
    }

    /// Workgroups for `count` rows of one sequence.
    pub fn grid(&self, count: u32) -> [u32; 3] {
        [count * self.params.group.div_ceil(self.tile()), self.params.kv_heads, 1]
    }
}
