//! Matrices: activations prepared once per input, rows of weights computed where they lie.

use std::ops::Range;

use tealight_quant as quant;

use super::exact;
use super::kernels::{ActivationKind, KernelSet, Row8};
use super::pool::Shared;
use crate::error::Result;
use crate::plan::{Part, Plan, Step, WeightRef};

/// Bytes of weights that one chunk of a single row's product covers: about 5 us of reading, far above the cost of
/// claiming it, small enough to spread.
const CHUNK_BYTES: usize = 64 << 10;
/// Weight rows of a chunk when many activation rows use them: they stay in the first-level cache.
const CHUNK_ROWS: usize = 16;

/// One kind of quantized activations of a batch.
struct Quantized {
    q: Shared<i8>,
    d: Shared<f32>,
    sums: Shared<i16>,
    block: usize,
}

impl Quantized {
    const fn new(block: usize) -> Self {
        Self { q: Shared::new(), d: Shared::new(), sums: Shared::new(), block }
    }

    fn grow(&mut self, n: usize) -> Result<()> {
        self.q.grow(n)?;
        self.d.grow(n.div_ceil(32))?;
        self.sums.grow(n.div_ceil(16))
    }

    fn put(&self, set: &KernelSet, row: usize, x: &[f32]) {
        let (start, end) = (row * x.len(), (row + 1) * x.len());
        let q = self.q.write(start..end);
        let d = self.d.write(start / self.block..end / self.block);
        let sums = self.sums.write(start / 16..end / 16);
        match self.block {
            32 => set.quantize_q8_0(x, q, d, sums),
            _ => set.quantize_q8_k(x, q, d, sums),
        }
    }

    fn row(&self, row: usize, n: usize) -> Row8<'_> {
        let (start, end) = (row * n, (row + 1) * n);
        Row8 {
            q: self.q.read(start..end),
            d: self.d.read(start / self.block..end / self.block),
            sums: self.sums.read(start / 16..end / 16),
        }
    }
}

/// The quantized input of the linear step at hand.
pub(super) struct Activations {
    q8_0: Quantized,
    q8_k: Quantized,
}

impl Activations {
    pub const fn new() -> Self {
        Self { q8_0: Quantized::new(32), q8_k: Quantized::new(256) }
    }

    /// Room for `n` numbers of each kind.
    pub fn grow(&mut self, n: usize) -> Result<()> {
        self.q8_0.grow(n)?;
        self.q8_k.grow(n)
    }
}

/// Kinds of activations that the parts of a linear step read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    q8_0: bool,
    q8_k: bool,
}

impl Kinds {
    /// What the step needs with these kernels; exact mode reads f32 alone.
    pub fn of(plan: &Plan, step: &Step, set: &KernelSet, exact: bool) -> Self {
        let Step::Linear { parts, .. } = step else { return Self::default() };
        let uses = |kind| !exact && parts.iter().any(|p| set.activation(plan.weights()[p.weight.index()].ty) == kind);
        Self { q8_0: uses(ActivationKind::Q8_0), q8_k: uses(ActivationKind::Q8K) }
    }

    pub const fn any(self) -> bool {
        self.q8_0 || self.q8_k
    }

    /// Quantizes a row.
    pub fn put(self, to: &Activations, set: &KernelSet, row: usize, x: &[f32]) {
        if self.q8_0 {
            to.q8_0.put(set, row, x);
        }
        if self.q8_k {
            to.q8_k.put(set, row, x);
        }
    }
}

/// How the rows of a step's matrices are cut into chunks. It depends on shapes alone, never on threads.
pub(super) struct Cut {
    /// Per part: rows of a chunk, and the number of the part's first chunk.
    parts: Vec<(usize, usize)>,
    pub n_chunk: usize,
}

impl Cut {
    pub fn new(plan: &Plan, parts: &[Part], n_row: usize, max_chunks: usize) -> Self {
        let mut cut = Self { parts: Vec::with_capacity(parts.len()), n_chunk: 0 };
        let limit = max_chunks / parts.len();
        for part in parts {
            let w = &plan.weights()[part.weight.index()];
            let wanted = if n_row == 1 { (CHUNK_BYTES / w.row_bytes().max(1)).max(1) } else { CHUNK_ROWS };
            let rows = wanted.max(w.n_rows().div_ceil(limit));
            cut.parts.push((rows, cut.n_chunk));
            cut.n_chunk += w.n_rows().div_ceil(rows);
        }
        cut
    }

    /// (part, its rows) of a chunk.
    pub fn chunk(&self, plan: &Plan, parts: &[Part], chunk: usize) -> (usize, Range<usize>) {
        let part = self.parts.partition_point(|(_, first)| *first <= chunk) - 1;
        let (rows, first) = self.parts[part];
        let start = (chunk - first) * rows;
        let end = (start + rows).min(plan.weights()[parts[part].weight.index()].n_rows());
        (part, start..end)
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct LinearScratch {
    /// Dequantized rows of a chunk.
    rows: Vec<f32>,
    kernel: Vec<f32>,
}

/// Rows of one matrix times all rows of the batch.
pub(super) struct RowsWork<'a> {
    pub set: &'a KernelSet,
    pub exact: bool,
    pub weight: &'a WeightRef,
    /// Raw blocks of the rows at hand.
    pub bytes: &'a [u8],
    pub activations: &'a Activations,
}

impl RowsWork<'_> {
    /// `x(row)` is the f32 input, `out(row)` the columns of the result that these weight rows make.
    pub fn run<'x, 'o>(
        &self,
        n_row: usize,
        scratch: &mut LinearScratch,
        x: impl Fn(usize) -> &'x [f32],
        out: impl Fn(usize) -> &'o mut [f32],
    ) {
        let Self { set, exact, weight, bytes, activations } = *self;
        let (ty, n) = (weight.ty, weight.row_len());
        let kind = set.activation(ty);
        let LinearScratch { rows, kernel } = scratch;
        // Formats without an integer kernel are dequantized once for all rows of the batch.
        let expand = exact || (kind == ActivationKind::F32 && !ty.is_float() && n_row > 1);
        if expand {
            rows.resize(bytes.len() / ty.block_bytes() * ty.block_len(), 0.0);
            quant::dequantize(ty, bytes, rows).expect("the bytes of whole rows: the gate has checked the tensor");
        }
        for row in 0..n_row {
            let out = out(row);
            if exact {
                let x = x(row);
                out.iter_mut().zip(rows.chunks_exact(n)).for_each(|(o, w)| *o = exact::dot(w, x));
            } else if expand {
                set.matvec_f32(quant::BlockType::F32, bytemuck::cast_slice(rows), x(row), out, kernel);
            } else {
                match kind {
                    ActivationKind::F32 => set.matvec_f32(ty, bytes, x(row), out, kernel),
                    ActivationKind::Q8_0 => set.matvec_q8(ty, bytes, activations.q8_0.row(row, n), out),
                    ActivationKind::Q8K => set.matvec_q8(ty, bytes, activations.q8_k.row(row, n), out),
                }
            }
        }
    }
}
