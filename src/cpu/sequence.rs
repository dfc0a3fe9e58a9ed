//! Keys, values and states of one sequence.

use half::f16;
use memmap2::MmapMut;
use tealight_quant as quant;

use super::kernels::{CHUNK, KEY_GROUP, KernelSet};
use super::pool::Shared;
use super::states::States;
use crate::cache::Positions;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{CacheSpec, CacheType, Plan, SequenceMemory};

/// Rows that a cache grows by at least.
const GROWTH: usize = 256;

/// Slots that are saved beyond those in use where storage has them, so that text goes on in the map of a saved session
/// for a while before its rows are copied.
const SAVED_ROOM: usize = 128;

/// Quantized rows of a cache: [n_slot, width] in blocks of Q8_0.
pub(super) struct BlockRows {
    /// Whole rows of 32-bit words; the words of a row hold its blocks, padded at the end.
    words: Shared<u32>,
    row_words: usize,
}

impl BlockRows {
    fn new(width: usize) -> Self {
        let row_words = (CacheType::Q8_0.bytes(width as u64) as usize).div_ceil(4);
        Self { words: Shared::new(), row_words }
    }

    fn put(&self, set: &KernelSet, slot: usize, x: &[f32], scratch: &mut QuantizeScratch) {
        let row = self.words.write(slot * self.row_words..(slot + 1) * self.row_words);
        let (q, d, sums) = scratch.sized(x.len());
        set.quantize_q8_0(x, q, d, sums);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(row);
        let block_bytes = CacheType::Q8_0.block_type().block_bytes();
        for ((block, q), d) in bytes.chunks_exact_mut(block_bytes).zip(q.chunks_exact(32)).zip(d) {
            block[..2].copy_from_slice(&f16::from_f32(*d).to_le_bytes());
            block[2..].copy_from_slice(bytemuck::cast_slice(q));
        }
    }

    /// Reads columns `start..start + out.len()` of row `slot`.
    pub fn get(&self, slot: usize, start: usize, out: &mut [f32]) {
        let row = self.words.read(slot * self.row_words..(slot + 1) * self.row_words);
        let ty = CacheType::Q8_0.block_type();
        let (len, size) = (ty.block_len(), ty.block_bytes());
        let blocks = &bytemuck::cast_slice::<u32, u8>(row)[start / len * size..(start + out.len()) / len * size];
        quant::dequantize(ty, blocks, out).expect("a head is a whole number of blocks: checked when it was made");
    }
}

/// How the numbers of a head lie in a block of 64 slots.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Row after row: [64, head width].
    Rows,
    /// Of sixteen rows, column after column: [4, head width, 16].
    Columns,
}

enum Storage {
    F32(Shared<f32>),
    F16(Shared<f16>),
    Blocks(BlockRows),
}

/// Rows of one cache, keys or values, in a storage type: [n_slot / 64, heads, 64, head width], so that what attention
/// reads of a head is long runs. Keys lie by columns within, as scores want them; quantized numbers are plain rows.
pub(super) struct RowStore {
    width: usize,
    head_width: usize,
    order: Order,
    storage: Storage,
}

/// What a store holds, by slot as [`RowStore`] says.
pub(super) enum Numbers<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Blocks(&'a BlockRows),
}

impl RowStore {
    fn new(ty: CacheType, width: u32, heads: u32, order: Order) -> Self {
        let (width, head_width) = (width as usize, (width / heads.max(1)) as usize);
        let storage = match ty {
            CacheType::F32 => Storage::F32(Shared::new()),
            CacheType::F16 => Storage::F16(Shared::new()),
            CacheType::Q8_0 => Storage::Blocks(BlockRows::new(width)),
        };
        Self { width, head_width, order, storage }
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows that there is storage for; without numbers there is for any.
    fn n_row(&self) -> usize {
        if self.width == 0 {
            return usize::MAX;
        }
        match &self.storage {
            Storage::F32(x) => x.len() / self.width.max(1),
            Storage::F16(x) => x.len() / self.width.max(1),
            Storage::Blocks(x) => x.words.len() / x.row_words.max(1),
        }
    }

    /// The first `n_row` rows as they lie, whole blocks of them.
    fn saved(&self, n_row: usize) -> &[u8] {
        match &self.storage {
            Storage::F32(x) => bytemuck::cast_slice(x.read(0..n_row * self.width)),
            Storage::F16(x) => bytemuck::cast_slice(x.read(0..n_row * self.width)),
            Storage::Blocks(x) => bytemuck::cast_slice(x.words.read(0..n_row * x.row_words)),
        }
    }

    /// Takes rows over that [`RowStore::saved`] gave. `false` where they are not so many, or lie badly.
    fn restore(&mut self, n_row: usize, map: MmapMut) -> bool {
        if self.width == 0 {
            return map.is_empty();
        }
        let row_bytes = match &self.storage {
            Storage::F32(_) => 4 * self.width,
            Storage::F16(_) => 2 * self.width,
            Storage::Blocks(x) => 4 * x.row_words,
        };
        if !n_row.is_multiple_of(CHUNK) || n_row.checked_mul(row_bytes) != Some(map.len()) {
            return false;
        }
        let storage = match &self.storage {
            Storage::F32(_) => Shared::from_map(map).map(Storage::F32),
            Storage::F16(_) => Shared::from_map(map).map(Storage::F16),
            Storage::Blocks(x) => {
                let row_words = x.row_words;
                Shared::from_map(map).map(|words| Storage::Blocks(BlockRows { words, row_words }))
            }
        };
        match storage {
            Some(storage) => self.storage = storage,
            None => return false,
        }
        true
    }

    fn grow(&mut self, n_row: usize, n_slot: usize) -> Result<()> {
        let have = self.n_row();
        if n_row <= have {
            return Ok(());
        }
        let target = n_row.max(have + have / 2).next_multiple_of(GROWTH).min(n_slot.max(n_row));
        // Whole blocks.
        let target = target.next_multiple_of(CHUNK);
        let grown = match &mut self.storage {
            Storage::F32(x) => x.grow(target * self.width),
            Storage::F16(x) => x.grow(target * self.width),
            Storage::Blocks(x) => x.words.grow(target * x.row_words),
        };
        grown.map_err(|e| e.with_hint("use a smaller context (-c) or a smaller cache type (-ctk q8_0 -ctv q8_0)"))
    }

    /// Writes `x` as row `slot`; `scratch` is resized as needed.
    pub fn put(&self, set: &KernelSet, slot: usize, x: &[f32], scratch: &mut QuantizeScratch) {
        let (n, within) = (self.head_width, slot % CHUNK);
        let row = |head: usize| {
            let start = self.start(slot, head) + within * n;
            start..start + n
        };
        let place = |column: usize| {
            let group = self.start(slot, column / n) + within / KEY_GROUP * n * KEY_GROUP;
            group + column % n * KEY_GROUP + within % KEY_GROUP
        };
        match (&self.storage, self.order) {
            (Storage::F32(to), Order::Rows) => {
                x.chunks_exact(n).enumerate().for_each(|(head, x)| to.write(row(head)).copy_from_slice(x));
            }
            (Storage::F16(to), Order::Rows) => {
                x.chunks_exact(n).enumerate().for_each(|(head, x)| set.f32_to_f16(x, to.write(row(head))));
            }
            (Storage::F32(to), Order::Columns) => x.iter().enumerate().for_each(|(i, x)| to.set(place(i), *x)),
            (Storage::F16(to), Order::Columns) => {
                let halves = scratch.halves(x.len());
                set.f32_to_f16(x, halves);
                halves.iter().enumerate().for_each(|(i, x)| to.set(place(i), *x));
            }
            (Storage::Blocks(to), _) => to.put(set, slot, x, scratch),
        }
    }

    /// The numbers of a head of row `slot`.
    pub fn get(&self, slot: usize, head: usize, out: &mut [f32]) {
        let (n, within) = (self.head_width, slot % CHUNK);
        let start = self.start(slot, head);
        let place = |i: usize| match self.order {
            Order::Rows => start + within * n + i,
            Order::Columns => start + within / KEY_GROUP * n * KEY_GROUP + i * KEY_GROUP + within % KEY_GROUP,
        };
        match &self.storage {
            Storage::F32(x) => out.iter_mut().enumerate().for_each(|(i, out)| *out = x.read(place(i)..place(i) + 1)[0]),
            Storage::F16(x) => {
                out.iter_mut().enumerate().for_each(|(i, out)| *out = x.read(place(i)..place(i) + 1)[0].to_f32());
            }
            Storage::Blocks(x) => x.get(slot, head * n, out),
        }
    }

    /// Where the numbers of a head begin in the block of a slot.
    pub fn start(&self, slot: usize, head: usize) -> usize {
        (slot / CHUNK * self.width + head * self.head_width) * CHUNK
    }

    /// All that is held.
    pub fn numbers(&self) -> Numbers<'_> {
        match &self.storage {
            Storage::F32(x) => Numbers::F32(x.read(0..x.len())),
            Storage::F16(x) => Numbers::F16(x.read(0..x.len())),
            Storage::Blocks(x) => Numbers::Blocks(x),
        }
    }

    fn bytes(&self) -> u64 {
        match &self.storage {
            Storage::F32(x) => 4 * x.len() as u64,
            Storage::F16(x) => 2 * x.len() as u64,
            Storage::Blocks(x) => 4 * x.words.len() as u64,
        }
    }
}

/// Room for one quantized row.
#[derive(Default)]
pub(super) struct QuantizeScratch {
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
    halves: Vec<f16>,
}

impl QuantizeScratch {
    fn halves(&mut self, n: usize) -> &mut [f16] {
        self.halves.resize(n, f16::ZERO);
        &mut self.halves
    }

    fn sized(&mut self, n: usize) -> (&mut [i8], &mut [f32], &mut [i16]) {
        self.q.resize(n, 0);
        self.d.resize(n / 32, 0.0);
        self.sums.resize(n / 16, 0);
        (&mut self.q, &mut self.d, &mut self.sums)
    }
}

/// One cache of the plan for one sequence.
pub(super) struct CacheRows {
    pub k: RowStore,
    pub v: RowStore,
}

/// What one sequence remembers on the CPU. Storage grows with the text, never beyond the context length.
pub struct CpuSequence {
    pub(super) caches: Vec<CacheRows>,
    pub(super) positions: Positions,
    pub(super) states: States,
}

impl CpuSequence {
    /// An empty sequence of up to `n_ctx` positions, fed by at most `n_batch` rows at once.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when a cache type does not fit the model's heads.
    pub fn new(plan: &Plan, n_ctx: u32, n_batch: u32, k: CacheType, v: CacheType) -> Result<Self> {
        let cache = |spec: &CacheSpec| {
            spec.check_types(k, v)?;
            let heads = spec.heads;
            let (k, v) =
                (RowStore::new(k, spec.k, heads, Order::Columns), RowStore::new(v, spec.v, heads, Order::Rows));
            Ok(CacheRows { k, v })
        };
        let caches = plan.caches().iter().map(cache).collect::<Result<_>>()?;
        Ok(Self { caches, positions: Positions::new(plan, n_ctx, n_batch), states: States::new(plan) })
    }

    /// Makes room for `n` further rows in every cache.
    pub(super) fn append(&mut self, n: u32) -> Result<()> {
        self.states.prepare(n)?;
        self.positions.append(n)?;
        for (i, cache) in self.caches.iter_mut().enumerate() {
            let slots = self.positions.slots(i);
            cache.k.grow(slots.slots_used(), slots.n_slot())?;
            cache.v.grow(slots.slots_used(), slots.n_slot())?;
        }
        Ok(())
    }

    /// The rows that [`CpuSequence::append`] made room for have been computed.
    pub(super) fn commit(&mut self) {
        self.states.commit(self.positions.len());
    }
}

/// Rows of one cache as they lie.
pub struct SavedRows<'a> {
    /// The oldest position that is held.
    pub first: u32,
    /// Slots of the cache.
    pub n_slot: u32,
    /// Slots that `k` and `v` hold, from the first on.
    pub n_row: u32,
    /// Keys.
    pub k: &'a [u8],
    /// Values.
    pub v: &'a [u8],
}

/// Rows of one cache that were saved, in private maps.
pub struct MappedRows {
    /// The oldest position that is held.
    pub first: u32,
    /// Slots of the cache that they were saved from.
    pub n_slot: u32,
    /// Slots that `k` and `v` hold, from the first on.
    pub n_row: u32,
    /// Keys.
    pub k: MmapMut,
    /// Values.
    pub v: MmapMut,
}

impl CpuSequence {
    /// All rows, by cache, then the states, as rows of none, for [`CpuSequence::restore`].
    pub fn saved<'s>(&'s self) -> Vec<SavedRows<'s>> {
        let rows = |(i, cache): (usize, &'s CacheRows)| {
            let slots = self.positions.slots(i);
            let used = slots.slots_used().next_multiple_of(CHUNK);
            let n_row = (used + SAVED_ROOM).min(cache.k.n_row()).min(cache.v.n_row());
            let (k, v) = (cache.k.saved(n_row), cache.v.saved(n_row));
            SavedRows { first: slots.first(), n_slot: slots.n_slot() as u32, n_row: n_row as u32, k, v }
        };
        let state = |(first, k, v)| SavedRows { first, n_slot: 0, n_row: 0, k, v };
        self.caches.iter().enumerate().map(rows).chain(self.states.saved().map(state)).collect()
    }

    /// Takes over the rows of a sequence of `len` positions that was saved with the same plan and cache types.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the rows do not fit; the sequence is empty then.
    pub fn restore(&mut self, len: u32, mut saved: Vec<MappedRows>) -> Result<()> {
        let states = saved.split_off(self.caches.len().min(saved.len()));
        let misfit = |what: &str| Error::new(ErrorKind::Model, format!("the saved rows do not fit: {what}"));
        let slots: Vec<(u32, u32)> = saved.iter().map(|rows| (rows.first, rows.n_slot)).collect();
        if !self.positions.restore(len, &slots) {
            self.clear();
            return Err(misfit("other positions are held, or in other places")
                .with_hint("use the context length (-c) that it was saved with"));
        }
        for (i, rows) in saved.into_iter().enumerate() {
            let (n_row, cache) = (rows.n_row as usize, &mut self.caches[i]);
            let enough = self.positions.slots(i).slots_used() <= n_row;
            if !enough || !cache.k.restore(n_row, rows.k) || !cache.v.restore(n_row, rows.v) {
                self.clear();
                return Err(misfit(&format!("{n_row} rows in cache {i}")));
            }
        }
        if !self.states.restore(len, states.iter().map(|s| (s.first, &s.k[..], &s.v[..]))) {
            self.clear();
            return Err(misfit("states of another form"));
        }
        Ok(())
    }
}

impl SequenceMemory for CpuSequence {
    fn len(&self) -> u32 {
        self.positions.len()
    }

    fn rewind(&mut self, len: u32) -> bool {
        let possible = self.states.nearest(len) == len && self.positions.rewind(len);
        if possible {
            self.states.rewind(len);
        }
        possible
    }

    fn nearest(&self, len: u32) -> u32 {
        self.states.nearest(len)
    }

    fn clear(&mut self) {
        self.positions.clear();
        self.states.rewind(0);
    }

    fn bytes(&self) -> u64 {
        self.caches.iter().map(|c| c.k.bytes() + c.v.bytes()).sum::<u64>() + self.states.bytes()
    }
}
