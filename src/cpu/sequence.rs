//! Keys and values of one sequence.

use half::f16;
use tealight_quant as quant;

use super::kernels::KernelSet;
use super::pool::Shared;
use crate::cache::RowSlots;
use crate::error::{Error, ErrorKind, Result};
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
    pub slots: RowSlots,
    pub k: RowStore,
    pub v: RowStore,
    n_slot: usize,
}

/// What one sequence remembers on the CPU. Storage grows with the text, never beyond the context length.
pub struct CpuSequence {
    pub(super) caches: Vec<CacheRows>,
    len: u32,
    n_ctx: u32,
    n_batch: u32,
}

impl CpuSequence {
    /// An empty sequence of up to `n_ctx` positions, fed by at most `n_batch` rows at once.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when a cache type does not fit the model's heads.
    pub fn new(plan: &Plan, n_ctx: u32, n_batch: u32, k: CacheType, v: CacheType) -> Result<Self> {
        let check = |ty: CacheType, width: u32, what: &str| {
            let len = ty.block_type().block_len() as u32;
            if width.is_multiple_of(len) {
                return Ok(());
            }
            let text =
                format!("{what} cannot be stored as {}: heads of {width} are no multiple of {len}", ty.block_type());
            Err(Error::new(ErrorKind::Usage, text).with_hint("use f16 for the cache of this model"))
        };
        let cache = |spec: &CacheSpec| {
            check(k, spec.k / spec.heads, "keys")?;
            check(v, spec.v / spec.heads, "values")?;
            Ok(CacheRows {
                slots: RowSlots::new(spec, n_ctx, n_batch),
                k: RowStore::new(k, spec.k),
                v: RowStore::new(v, spec.v),
                n_slot: spec.rows(n_ctx.into(), n_batch.into()) as usize,
            })
        };
        Ok(Self { caches: plan.caches().iter().map(cache).collect::<Result<_>>()?, len: 0, n_ctx, n_batch })
    }

    /// Makes room for `n` further rows in every cache.
    pub(super) fn append(&mut self, n: u32) -> Result<()> {
        if n > self.n_batch || n > self.n_ctx - self.len {
            let text = format!("{n} rows do not fit behind {} of {} positions", self.len, self.n_ctx);
            return Err(Error::new(ErrorKind::Usage, text));
        }
        for cache in &mut self.caches {
            cache.slots.append(n);
            let n_row = cache.slots.slots_used();
            cache.k.grow(n_row, cache.n_slot)?;
            cache.v.grow(n_row, cache.n_slot)?;
        }
        self.len += n;
        Ok(())
    }

    /// After a failed `append` or run: back to `len`, or to nothing where that is impossible.
    pub fn take_back(&mut self, len: u32) {
        self.len = self.len.max(len);
        if !self.rewind(len) {
            self.clear();
        }
    }
}

impl SequenceMemory for CpuSequence {
    fn len(&self) -> u32 {
        self.len
    }

    fn rewind(&mut self, len: u32) -> bool {
        let mut slots: Vec<_> = self.caches.iter().map(|c| c.slots.clone()).collect();
        let possible = len <= self.len && slots.iter_mut().all(|s| s.rewind(len));
        if possible {
            self.caches.iter_mut().zip(slots).for_each(|(c, s)| c.slots = s);
            self.len = len;
        }
        possible
    }

    fn clear(&mut self) {
        self.caches.iter_mut().for_each(|c| c.slots.clear());
        self.len = 0;
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
