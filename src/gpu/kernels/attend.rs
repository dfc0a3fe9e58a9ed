//! Filling caches and attending over them: layout of rows, constants and parameters of the kernels, and how the work
//! is cut into workgroups.

use crate::gpu::compose::{ATTEND, ATTEND_REDUCE, Kernel, STORE};
use crate::plan::{self, CacheSpec, CacheType, Operand, Span};

/// Workgroup memory that every device has.
const WORKGROUP_BYTES: u32 = 16 << 10;

/// Most queries of a tile: 16 results of 4 columns are 64 registers of an invocation.
const MAX_TILE: u32 = 16;

/// Widest heads: tiles of keys lie in workgroup memory, and a workgroup has an invocation for 4 columns of values.
const MAX_K: u32 = 1024;
const MAX_V: u32 = 512;

/// Workgroups that keep a device busy; more parts than that only add to the joining.
const BUSY: u32 = 128;

/// Fewest keys that are worth a workgroup of their own.
const MIN_KEYS: u32 = 128;

/// Words of a row of `width` numbers. f32 and f16 rows are dense; a q8_0 row has its codes, four per word, then a scale
/// in f32 for every 32 of them, padded to a multiple of 4 words.
pub(in crate::gpu) fn row_words(ty: CacheType, width: u32) -> u32 {
    match ty {
        CacheType::F32 => width,
        CacheType::F16 => width.div_ceil(2),
        CacheType::Q8_0 => (width / 4 + width / 32).next_multiple_of(4),
    }
}

/// The sequence's part of a batch; `Sequence` of `shaders/prelude.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Sequence {
    /// First entry of its rows in the order.
    pub first: u32,
    /// Its rows.
    pub count: u32,
    /// Positions held before the batch.
    pub len: u32,
    /// Parts into which attention cuts the keys.
    pub n_split: u32,
    /// Sides of the states that the batch reads and writes.
    pub sides: [u32; 2],
    pub pad: [u32; 2],
}

/// Heads of a buffer of rows: column c of head h of a row lies at row * `row` + `start` + h * `stride` + c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gpu) struct Heads {
    /// Numbers from one row to the next.
    pub row: u32,
    /// First column.
    pub start: u32,
    /// Columns from one head to the next.
    pub stride: u32,
}

impl Heads {
    /// `n` heads of an operand whose buffer has rows of `row` numbers. Plain columns are heads without gaps.
    pub fn of(o: Operand, row: u32, n: u32) -> Self {
        let stride = if o.heads == n { o.stride } else { o.width / n };
        Self { row, start: o.start, stride }
    }
}

/// One cache as the kernels see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gpu) struct CacheShape {
    /// Storage of keys and of values.
    pub types: [CacheType; 2],
    /// Heads of a row.
    pub heads: u32,
    /// Columns of a head of keys and of values; 0 where the cache has no values of its own.
    pub dims: [u32; 2],
    /// Rows that it holds.
    pub n_slot: u32,
}

impl CacheShape {
    /// The shape of a plan's cache of `n_slot` rows.
    pub fn new(spec: &CacheSpec, types: [CacheType; 2], n_slot: u32) -> Self {
        Self { types, heads: spec.heads, dims: [spec.k / spec.heads, spec.v / spec.heads], n_slot }
    }

    /// Words of the buffers of keys and of values.
    pub fn words(&self) -> [u64; 2] {
        let words = |i: usize| u64::from(self.n_slot) * u64::from(row_words(self.types[i], self.heads * self.dims[i]));
        [words(0), words(1)]
    }
}

/// Can the kernels fill and read a plan's cache? The error is why not.
pub(in crate::gpu) fn fits(spec: &CacheSpec, types: [CacheType; 2]) -> Result<(), String> {
    // Values that are parts of the keys are no rows of their own.
    let values = Some(("values", types[1], spec.v, MAX_V)).filter(|_| spec.v > 0);
    for (what, ty, width, most) in std::iter::once(("keys", types[0], spec.k, MAX_K)).chain(values) {
        if spec.heads == 0 || width == 0 || !width.is_multiple_of(spec.heads) {
            return Err(format!("{what} of {width} numbers do not make {} heads", spec.heads));
        }
        let dim = width / spec.heads;
        let unit = if ty == CacheType::Q8_0 { 32 } else { 4 };
        if !dim.is_multiple_of(unit) || dim > most {
            let stored = ty.block_type();
            return Err(format!(
                "{what} have heads of {dim} numbers; {stored} needs a multiple of {unit}, at most {most}"
            ));
        }
    }
    Ok(())
}

/// Parameters of `kernel/store`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct StoreParams {
    n_slot: u32,
    heads: u32,
    k_dim: u32,
    v_dim: u32,
    k: [u32; 3],
    v: [u32; 3],
    pad: [u32; 2],
}

/// The filling of one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gpu) struct Store {
    /// Where to.
    pub cache: CacheShape,
    /// Keys of the rows.
    pub k: Heads,
    /// Values of the rows.
    pub v: Heads,
}

impl Store {
    /// The kernel.
    pub fn kernel(&self) -> Kernel {
        let [k, v] = self.cache.types.map(fragments);
        let kernel = Kernel::new("store", STORE);
        [k.rows[0], v.rows[1], k.put[0], v.put[1]].into_iter().fold(kernel, Kernel::with)
    }

    /// Its parameters.
    pub fn params(&self) -> StoreParams {
        let CacheShape { heads, dims: [k_dim, v_dim], n_slot, .. } = self.cache;
        let view = |h: Heads| [h.row, h.start, h.stride];
        StoreParams { n_slot, heads, k_dim, v_dim, k: view(self.k), v: view(self.v), pad: [0; 2] }
    }

    /// Workgroups for `count` rows of one sequence.
    pub fn grid(&self, count: u32) -> [u32; 3] {
        let units = |i: usize| {
            let unit = if self.cache.types[i] == CacheType::Q8_0 { 32 } else { 4 };
            self.cache.heads * self.cache.dims[i] / unit
        };
        [(units(0) + units(1)).div_ceil(64), count, 1]
    }
}

/// Files of a storage type.
pub(super) struct Fragments {
    /// Reading rows of keys, and of values.
    pub(super) rows: [&'static str; 2],
    /// Writing them.
    put: [&'static str; 2],
}

pub(super) const fn fragments(ty: CacheType) -> Fragments {
    match ty {
        CacheType::F32 => {
            Fragments { rows: ["cache/f32@k", "cache/f32@v"], put: ["cache/put_f32@k", "cache/put_f32@v"] }
        }
        CacheType::F16 => {
            Fragments { rows: ["cache/f16@k", "cache/f16@v"], put: ["cache/put_f16@k", "cache/put_f16@v"] }
        }
        CacheType::Q8_0 => {
            Fragments { rows: ["cache/q8_0@k", "cache/q8_0@v"], put: ["cache/put_q8_0@k", "cache/put_q8_0@v"] }
        }
    }
}

/// Parameters of `kernel/attend` and `kernel/attend_reduce`; `Attend` of `shaders/lib/attend.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct AttendParams {
    q: [u32; 3],
    out: [u32; 3],
    kv_heads: u32,
    group: u32,
    n_slot: u32,
    window: u32,
    scale: f32,
    softcap: f32,
    temper_scale: f32,
    temper_length: u32,
    temper_add: u32,
    alibi_max: f32,
    alibi_heads: u32,
    ahead: u32,
    chunk: u32,
    has_sinks: u32,
}

/// One step of attention.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::gpu) struct Attend {
    step: plan::Attend,
    cache: CacheShape,
    q: Heads,
    out: Heads,
}

impl Attend {
    /// A step over a cache of that shape; `q_row` and `out_row` are the widths of its buffers. The error is why the
    /// kernels cannot do it.
    pub fn new(step: &plan::Attend, cache: CacheShape, q_row: u32, out_row: u32) -> Result<Self, String> {
        if step.kv_heads != cache.heads || step.heads == 0 || !step.heads.is_multiple_of(step.kv_heads) {
            return Err(format!("{} query heads over {} of {} heads of keys", step.heads, step.kv_heads, cache.heads));
        }
        let (k_dim, v_dim) = (cache.dims[0], step.v_prefix.unwrap_or(cache.dims[1]));
        if step.v_prefix.is_some_and(|n| n > k_dim || !n.is_multiple_of(4) || n > MAX_V) {
            return Err(format!("values are {v_dim} of {k_dim} numbers of the keys"));
        }
        if step.q.len() != step.heads * k_dim || step.out.len() != step.heads * v_dim {
            let (q, out, heads) = (step.q.len(), step.out.len(), step.heads);
            return Err(format!("{heads} heads of {k_dim} and {v_dim} numbers, but queries of {q}, results of {out}"));
        }
        let (q, out) = (Heads::of(step.q, q_row, step.heads), Heads::of(step.out, out_row, step.heads));
        Ok(Self { step: step.clone(), cache, q, out })
    }

    /// Query heads of a head of keys and values.
    const fn group(&self) -> u32 {
        self.step.heads / self.step.kv_heads
    }

    /// Invocations of a workgroup: a result of 512 columns needs 128.
    const fn invocations(&self) -> u32 {
        if self.v_dim() > 256 { 128 } else { 64 }
    }

    /// Columns of a head of values.
    const fn v_dim(&self) -> u32 {
        match self.step.v_prefix {
            Some(n) => n,
            None => self.cache.dims[1],
        }
    }

    /// Are values the beginnings of keys?
    pub const fn reads_keys_only(&self) -> bool {
        self.step.v_prefix.is_some()
    }

    /// Workgroup memory of a tile in bytes, as the kernel declares it.
    const fn tile_bytes(&self, tile: u32) -> u32 {
        let wg = self.invocations();
        4 * tile * (self.cache.dims[0] + wg + 8 + 5) + 16 * wg
    }

    /// Queries of a tile for `count` rows: no more than there are, nor than fit.
    pub const fn tile(&self, count: u32) -> u32 {
        let wanted = count * self.group();
        let mut tile = if wanted >= MAX_TILE { MAX_TILE } else { wanted.next_power_of_two() };
        while tile > 1 && self.tile_bytes(tile) > WORKGROUP_BYTES {
            tile /= 2;
        }
        tile
    }

    /// The kernel for tiles of `tile` queries.
    pub fn kernel(&self, tile: u32) -> Kernel {
        let (dk, dv) = (self.cache.dims[0], self.v_dim());
        let [k, v] = self.cache.types.map(fragments);
        let (v, vw) = if self.reads_keys_only() { (fragments(self.cache.types[0]), dk) } else { (v, dv) };
        let consts = [("DK", dk), ("DV", dv), ("VW", vw), ("TQ", tile), ("WG", self.invocations())];
        let kernel = Kernel::new("attend", ATTEND).with("lib/attend").with(k.rows[0]).with(v.rows[1]);
        consts.into_iter().fold(kernel, |kernel, (name, value)| kernel.set(name, value))
    }

    /// The kernel that joins the parts.
    pub fn reduce_kernel(&self) -> Kernel {
        Kernel::new("attend_reduce", ATTEND_REDUCE).with("lib/attend").set("DV", self.v_dim())
    }

    /// Parameters of both.
    pub fn params(&self) -> AttendParams {
        let view = |h: Heads| [h.row, h.start, h.stride];
        let temper = self.step.temper;
        AttendParams {
            q: view(self.q),
            out: view(self.out),
            kv_heads: self.step.kv_heads,
            group: self.group(),
            n_slot: self.cache.n_slot,
            window: match self.step.span {
                Span::Full | Span::All | Span::Chunk(_) => u32::MAX,
                Span::Near(n) => n.saturating_add(1),
                Span::Slide(n) => n,
            },
            scale: self.step.scale,
            softcap: self.step.softcap.unwrap_or(0.0),
            temper_scale: temper.map_or(0.0, |t| t.scale),
            temper_length: temper.map_or(0, |t| t.length),
            temper_add: temper.map_or(0, |t| t.add),
            alibi_max: self.step.alibi.map_or(0.0, |a| a.max),
            alibi_heads: 1 << self.step.heads.max(1).ilog2(),
            ahead: match self.step.span {
                Span::Full | Span::Slide(_) | Span::Chunk(_) => 0,
                Span::All => u32::MAX,
                Span::Near(n) => n,
            },
            chunk: if let Span::Chunk(n) = self.step.span { n } else { 0 },
            has_sinks: self.step.sinks.is_some().into(),
        }
    }

    /// Parts into which the keys of `count` rows behind `len` positions are cut: enough to keep the device busy, but
    /// 1 for prompts, whose tiles do that alone.
    pub fn n_split(&self, count: u32, len: u32) -> u32 {
        let groups = (count * self.group()).div_ceil(self.tile(count)) * self.step.kv_heads;
        let n_key = len + count - self.step.span.first_visible(len);
        BUSY.div_ceil(groups).min(n_key / MIN_KEYS).max(1)
    }

    /// Workgroups of the kernel for `count` rows of one sequence.
    pub fn grid(&self, count: u32, n_split: u32) -> [u32; 3] {
        [(count * self.group()).div_ceil(self.tile(count)), self.step.kv_heads, n_split]
    }

    /// Workgroups of the joining kernel.
    pub const fn reduce_grid(&self, count: u32) -> [u32; 3] {
        [self.step.heads, count, 1]
    }

    /// Words of `part` for `count` rows of one sequence.
    pub const fn part_words(&self, count: u32, n_split: u32) -> u64 {
        if n_split == 1 { 0 } else { (self.step.heads * count * n_split) as u64 * (self.v_dim() + 2) as u64 }
    }
}

#[cfg(test)]
mod tests;
