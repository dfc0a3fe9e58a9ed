//! Keys and values of one sequence.

use half::f16;
use tealight_quant as quant;

use super::kernels::KernelSet;
use super::pool::Shared;
use crate::cache::Positions;
use crate::error::Result;
use crate::plan::{CacheSpec, CacheType, Plan, SequenceMemory};

/// Rows that a cache grows by at least.
const GROWTH: usize = 256;

/// Rows of one cache, keys or values: [n_slot, width], in a storage type.
pub(super) struct RowStore {
    ty: CacheType,
    width: usize,
    /// Whole rows of 32-bit words; the words of a row hold its blocks, padded at the end.
    words: Shared<u32>,
    row_words: usize,
}

impl RowStore {
    fn new(ty: CacheType, width: u32) -> Self {
        let row_words = (ty.bytes(width.into()) as usize).div_ceil(4);
        Self { ty, width: width as usize, words: Shared::new(), row_words }
    }

    fn grow(&mut self, n_row: usize, n_slot: usize) -> Result<()> {
        let have = self.words.len() / self.row_words.max(1);
        if n_row > have {
            let target = n_row.max(have + have / 2).next_multiple_of(GROWTH).min(n_slot.max(n_row));
            self.words
                .grow(target * self.row_words)
                .map_err(|e| e.with_hint("use a smaller context (-c) or a smaller cache type (-ctk q8_0 -ctv q8_0)"))?;
        }
        Ok(())
    }

    /// Writes `x` as row `slot`; `scratch` is resized as needed.
    pub fn put(&self, set: &KernelSet, slot: usize, x: &[f32], scratch: &mut QuantizeScratch) {
        let row = self.words.write(slot * self.row_words..(slot + 1) * self.row_words);
        match self.ty {
            CacheType::F32 => bytemuck::cast_slice_mut(row).copy_from_slice(x),
            CacheType::F16 => set.f32_to_f16(x, &mut bytemuck::cast_slice_mut::<u32, f16>(row)[..x.len()]),
            CacheType::Q8_0 => {
                let (q, d, sums) = scratch.sized(x.len());
                set.quantize_q8_0(x, q, d, sums);
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(row);
                let block_bytes = CacheType::Q8_0.block_type().block_bytes();
                for ((block, q), d) in bytes.chunks_exact_mut(block_bytes).zip(q.chunks_exact(32)).zip(d) {
                    block[..2].copy_from_slice(&f16::from_f32(*d).to_le_bytes());
                    block[2..].copy_from_slice(bytemuck::cast_slice(q));
                }
            }
        }
    }

    /// Reads columns `start..start + out.len()` of row `slot`.
    pub fn get(&self, set: &KernelSet, slot: usize, start: usize, out: &mut [f32]) {
        let row = self.words.read(slot * self.row_words..(slot + 1) * self.row_words);
        match self.ty {
            CacheType::F32 => out.copy_from_slice(&bytemuck::cast_slice(row)[start..start + out.len()]),
            CacheType::F16 => set.f16_to_f32(&bytemuck::cast_slice::<u32, f16>(row)[start..start + out.len()], out),
            CacheType::Q8_0 => {
                let ty = CacheType::Q8_0.block_type();
                let (len, size) = (ty.block_len(), ty.block_bytes());
                let blocks =
                    &bytemuck::cast_slice::<u32, u8>(row)[start / len * size..(start + out.len()) / len * size];
                quant::dequantize(ty, blocks, out)
                    .expect("a head is a whole number of blocks: checked when it was made");
            }
        }
    }

    fn bytes(&self) -> u64 {
        4 * self.words.len() as u64
    }
}

/// Room for one quantized row.
#[derive(Default)]
pub(super) struct QuantizeScratch {
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
}

impl QuantizeScratch {
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
}

impl CpuSequence {
    /// An empty sequence of up to `n_ctx` positions, fed by at most `n_batch` rows at once.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when a cache type does not fit the model's heads.
    pub fn new(plan: &Plan, n_ctx: u32, n_batch: u32, k: CacheType, v: CacheType) -> Result<Self> {
        let cache = |spec: &CacheSpec| {
            spec.check_types(k, v)?;
            Ok(CacheRows { k: RowStore::new(k, spec.k), v: RowStore::new(v, spec.v) })
        };
        let caches = plan.caches().iter().map(cache).collect::<Result<_>>()?;
        Ok(Self { caches, positions: Positions::new(plan, n_ctx, n_batch) })
    }

    /// Makes room for `n` further rows in every cache.
    pub(super) fn append(&mut self, n: u32) -> Result<()> {
        self.positions.append(n)?;
        for (i, cache) in self.caches.iter_mut().enumerate() {
            let slots = self.positions.slots(i);
            cache.k.grow(slots.slots_used(), slots.n_slot())?;
            cache.v.grow(slots.slots_used(), slots.n_slot())?;
        }
        Ok(())
    }
}

impl SequenceMemory for CpuSequence {
    fn len(&self) -> u32 {
        self.positions.len()
    }

    fn rewind(&mut self, len: u32) -> bool {
        self.positions.rewind(len)
    }

    fn take_back(&mut self, len: u32) {
        self.positions.take_back(len);
    }

    fn clear(&mut self) {
        self.positions.clear();
    }

    fn bytes(&self) -> u64 {
        self.caches.iter().map(|c| c.k.bytes() + c.v.bytes()).sum()
    }
}

impl RowStore {
    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }
}
