//! Matrices: activations prepared once per input, rows of weights computed where they lie.

use std::ops::Range;

use tealight_quant as quant;

use super::exact;
use super::kernels::{ActivationKind, KernelSet, PANEL_COLS, PANEL_ROWS, PANEL_TOKENS, Panel, Row8, Rows8};
use super::pool::{MAX_CHUNKS, Shared};
use crate::error::Result;
use crate::plan::{Part, Plan, WeightId, WeightRef};

/// Bytes of weights that one chunk of a product with few rows covers: about 5 us of reading, far above the cost of
/// claiming it, small enough to spread.
const CHUNK_BYTES: usize = 64 << 10;
/// Activation rows from which on a panel is faster than row products, also those of some rows at once.
const MIN_PANEL: usize = 6;
/// The most rows that are few: they go over each block of weights together.
const MAX_FEW: usize = MIN_PANEL - 1;
/// Activation rows from which on their blocks lie together, as panels read them: in few rows of a power of two
/// elements the caches keep what a panel needs, in many they would not.
const MIN_BY_BLOCK: usize = 16;

/// Activation rows that one matrix reads: all of a batch, or those of an expert or a head, which lie behind one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowGroup {
    /// Rows of the matrices before.
    pub first: usize,
    /// Rows of this one.
    pub n_row: usize,
}

impl RowGroup {
    /// The whole batch.
    pub const fn all(n_row: usize) -> Self {
        Self { first: 0, n_row }
    }
}

/// One kind of quantized activations, for each [`RowGroup`]: row after row, or from [`MIN_BY_BLOCK`] rows on the first
/// 256 elements of all rows, then the next ones.
struct Quantized {
    q: Shared<i8>,
    d: Shared<f32>,
    sums: Shared<i16>,
    kind: ActivationKind,
}

impl Quantized {
    const fn new(kind: ActivationKind) -> Self {
        Self { q: Shared::new(), d: Shared::new(), sums: Shared::new(), kind }
    }

    fn grow(&mut self, n: usize) -> Result<()> {
        self.q.grow(n)?;
        self.d.grow(n / self.kind.block_len())?;
        self.sums.grow(n / 16)
    }

    /// Where the rows of a matrix of `n` columns begin, when `first` such rows of others lie before them.
    const fn base(first: usize, n: usize) -> usize {
        first * n.next_multiple_of(PANEL_COLS)
    }

    /// Quantizes a row of those that one matrix reads.
    fn put(&self, set: &KernelSet, row: usize, of: RowGroup, x: &[f32]) {
        let (n_row, base) = (of.n_row, Self::base(of.first, x.len()));
        let per_part = if n_row < MIN_BY_BLOCK { x.len() } else { PANEL_COLS };
        for (i, x) in x.chunks(per_part).enumerate() {
            let start = base + if n_row < MIN_BY_BLOCK { row * x.len() } else { (i * n_row + row) * PANEL_COLS };
            let (end, per_scale) = (start + x.len(), self.kind.block_len());
            let q = self.q.write(start..end);
            let d = self.d.write(start / per_scale..end / per_scale);
            let sums = self.sums.write(start / 16..end / 16);
            match self.kind {
                ActivationKind::Q8K => set.quantize_q8_k(x, q, d, sums),
                _ => set.quantize_q8_0(x, q, d, sums),
            }
        }
    }

    /// A row of `n`, of less than [`MIN_BY_BLOCK`].
    fn row(&self, first: usize, row: usize, n: usize) -> Row8<'_> {
        let base = Self::base(first, n);
        let (start, end) = (base + row * n, base + (row + 1) * n);
        Row8 {
            q: self.q.read(start..end),
            d: self.d.read(start / self.kind.block_len()..end / self.kind.block_len()),
            sums: self.sums.read(start / 16..end / 16),
        }
    }

    /// All rows of `n` that one matrix reads.
    fn rows(&self, of: RowGroup, n: usize) -> Rows8<'_> {
        let (n_row, base) = (of.n_row, Self::base(of.first, n));
        let (token_stride, block_stride) =
            if n_row < MIN_BY_BLOCK { (n, PANEL_COLS) } else { (PANEL_COLS, n_row * PANEL_COLS) };
        Rows8 {
            q: self.q.read(base..self.q.len()),
            d: self.d.read(base / self.kind.block_len()..self.d.len()),
            sums: self.sums.read(base / 16..self.sums.len()),
            kind: self.kind,
            n,
            token_stride,
            block_stride,
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
        Self { q8_0: Quantized::new(ActivationKind::Q8_0), q8_k: Quantized::new(ActivationKind::Q8K) }
    }

    /// Room for `n_row` rows of at most `width` numbers of each kind, and for what panels read behind them. A row of
    /// several heads has the width of as many whole blocks as they begin.
    pub fn grow(&mut self, n_row: usize, width: usize) -> Result<()> {
        let n = n_row.saturating_mul(width.next_multiple_of(PANEL_COLS)).saturating_add(PANEL_COLS);
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
    /// What these matrices need with these kernels; exact mode reads f32 alone.
    pub fn of(plan: &Plan, weights: impl Iterator<Item = WeightId>, set: &KernelSet, exact: bool) -> Self {
        let mut kinds = Self::default();
        for id in weights.filter(|_| !exact) {
            match set.activation(plan.weights()[id.index()].ty) {
                ActivationKind::F32 => {}
                ActivationKind::Q8_0 => kinds.q8_0 = true,
                ActivationKind::Q8K => kinds.q8_k = true,
            }
        }
        kinds
    }

    pub const fn any(self) -> bool {
        self.q8_0 || self.q8_k
    }

    /// Quantizes a row of those that one matrix reads.
    pub fn put(self, to: &Activations, set: &KernelSet, row: usize, of: RowGroup, x: &[f32]) {
        if self.q8_0 {
            to.q8_0.put(set, row, of, x);
        }
        if self.q8_k {
            to.q8_k.put(set, row, of, x);
        }
    }
}

/// Whether so many activation rows are too few for panels.
pub(super) const fn is_few(n_row: usize) -> bool {
    n_row <= MAX_FEW
}

/// How the rows of a step's matrices are cut into chunks. It depends on shapes alone, never on threads.
pub(super) struct Cut {
    /// Per part: rows of a chunk, and the number of the part's first chunk.
    parts: Vec<(usize, usize)>,
    pub n_chunk: usize,
}

impl Cut {
    /// For batches of `n_row` rows; few are cut as one is.
    pub fn new(plan: &Plan, parts: &[Part], n_row: usize) -> Self {
        let mut cut = Self { parts: Vec::with_capacity(parts.len()), n_chunk: 0 };
        let limit = MAX_CHUNKS / parts.len();
        for part in parts {
            let w = &plan.weights()[part.weight.index()];
            let wanted = match is_few(n_row) {
                true => (CHUNK_BYTES / w.row_bytes().max(1)).max(1),
                false => PANEL_ROWS,
            };
            let rows = wanted.max(w.n_rows().div_ceil(limit).next_multiple_of(wanted));
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

/// How the rows of stacks of matrices are cut into chunks, when some of the matrices are computed with: each chunk is
/// rows of one matrix. It depends on shapes alone.
pub(super) struct StackCut {
    /// Per stack: rows of a matrix, rows of a chunk.
    stacks: Vec<(usize, usize)>,
    /// Chunks of one matrix of each stack.
    per_matrix: usize,
    pub n_chunk: usize,
}

impl StackCut {
    /// For batches of `n_row` rows, with `n_matrix` matrices of each of these stacks.
    pub fn new<'w>(stacks: impl Iterator<Item = &'w WeightRef>, n_matrix: usize, n_row: usize) -> Self {
        let stacks: Vec<&WeightRef> = stacks.collect();
        let limit = MAX_CHUNKS / (n_matrix * stacks.len()).max(1);
        let rows = |w: &WeightRef| {
            let wanted = match is_few(n_row) {
                true => (CHUNK_BYTES / w.row_bytes().max(1)).max(1),
                false => PANEL_ROWS,
            };
            wanted.max(w.out_len().div_ceil(limit.max(1)).next_multiple_of(wanted))
        };
        let stacks: Vec<(usize, usize)> = stacks.iter().map(|w| (w.out_len(), rows(w))).collect();
        let per_matrix = stacks.iter().map(|(n, rows)| n.div_ceil(*rows)).sum();
        Self { stacks, per_matrix, n_chunk: per_matrix * n_matrix }
    }

    /// (matrix, stack, rows of the matrix) of a chunk.
    pub fn chunk(&self, chunk: usize) -> (usize, usize, Range<usize>) {
        let (matrix, mut chunk) = (chunk / self.per_matrix, chunk % self.per_matrix);
        for (stack, &(n, rows)) in self.stacks.iter().enumerate() {
            let n_chunk = n.div_ceil(rows);
            if chunk < n_chunk {
                return (matrix, stack, chunk * rows..((chunk + 1) * rows).min(n));
            }
            chunk -= n_chunk;
        }
        unreachable!("a matrix has `per_matrix` chunks")
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct LinearScratch {
    /// Dequantized rows of a chunk.
    rows: Vec<f32>,
    kernel: Vec<f32>,
    panel: Option<Box<Panel>>,
    /// Results of a panel, by activation row.
    c: Vec<[f32; PANEL_ROWS]>,
}

impl LinearScratch {
    /// A copy of some numbers, where they will be overwritten.
    pub fn copy(&mut self, x: &[f32]) -> &[f32] {
        self.rows.clear();
        self.rows.extend_from_slice(x);
        &self.rows
    }
}

/// Rows of one matrix times the rows of a group.
pub(super) struct RowsWork<'a> {
    pub set: &'a KernelSet,
    pub exact: bool,
    pub weight: &'a WeightRef,
    /// Raw blocks of the rows at hand.
    pub bytes: &'a [u8],
    pub activations: &'a Activations,
    /// The activations that the matrix reads.
    pub group: RowGroup,
}

impl RowsWork<'_> {
    /// `x(row)` is the f32 input, `out(row)` the columns of the result that these weight rows make.
    pub fn run<'x, 'o>(
        &self,
        scratch: &mut LinearScratch,
        x: impl Fn(usize) -> &'x [f32],
        out: impl Fn(usize) -> &'o mut [f32],
    ) {
        let (set, ty) = (self.set, self.weight.ty);
        if self.exact {
            self.exact(scratch, x, out);
        } else if !is_few(self.group.n_row) && (set.has_panels(ty) || set.has_f32_panels(ty)) {
            self.panels(scratch, x, out);
        } else {
            self.rows(scratch, x, out);
        }
    }

    /// Weights in f32, sums in f64.
    fn exact<'x, 'o>(
        &self,
        scratch: &mut LinearScratch,
        x: impl Fn(usize) -> &'x [f32],
        out: impl Fn(usize) -> &'o mut [f32],
    ) {
        let (ty, w) = (self.weight.ty, &mut scratch.rows);
        w.resize(self.bytes.len() / ty.block_bytes() * ty.block_len(), 0.0);
        quant::dequantize(ty, self.bytes, w).expect("the bytes of whole rows: the gate has checked the tensor");
        for row in 0..self.group.n_row {
            let (x, w) = (x(row), w.chunks_exact(self.weight.row_len()));
            out(row).iter_mut().zip(w).for_each(|(o, w)| *o = exact::dot(w, x));
        }
    }

    /// Raw blocks times each row, or some rows of few.
    fn rows<'x, 'o>(
        &self,
        scratch: &mut LinearScratch,
        x: impl Fn(usize) -> &'x [f32],
        out: impl Fn(usize) -> &'o mut [f32],
    ) {
        let Self { set, weight, bytes, activations, group, .. } = *self;
        let (ty, n, n_row) = (weight.ty, weight.row_len(), group.n_row);
        let quantized = match set.activation(ty) {
            ActivationKind::F32 => {
                return (0..n_row).for_each(|row| set.matvec_f32(ty, bytes, x(row), out(row), &mut scratch.kernel));
            }
            ActivationKind::Q8_0 => &activations.q8_0,
            ActivationKind::Q8K => &activations.q8_k,
        };
        // every quantized type has panels, so there are few rows; the arrays repeat the last one
        let x: [_; MAX_FEW] = std::array::from_fn(|row| quantized.row(group.first, row.min(n_row - 1), n));
        let mut to: [_; MAX_FEW] = std::array::from_fn(|row| if row < n_row { out(row) } else { Default::default() });
        set.matvec_rows_q8(ty, bytes, &x[..n_row], &mut to[..n_row]);
    }

    fn panels<'x, 'o>(
        &self,
        scratch: &mut LinearScratch,
        x: impl Fn(usize) -> &'x [f32],
        out: impl Fn(usize) -> &'o mut [f32],
    ) {
        let Self { set, weight, bytes, activations, group, .. } = *self;
        let (ty, n, n_row) = (weight.ty, weight.row_len(), group.n_row);
        let panel = scratch.panel.get_or_insert_with(Panel::new);
        let quantized = match set.activation(ty) {
            ActivationKind::F32 => None,
            ActivationKind::Q8_0 => Some(activations.q8_0.rows(group, n)),
            ActivationKind::Q8K => Some(activations.q8_k.rows(group, n)),
        };
        for (i, bytes) in bytes.chunks(PANEL_ROWS * weight.row_bytes()).enumerate() {
            for first in (0..n_row).step_by(PANEL_TOKENS) {
                let tokens = first..n_row.min(first + PANEL_TOKENS);
                scratch.c.resize(tokens.len(), [0.0; PANEL_ROWS]);
                match &quantized {
                    Some(x) => set.matmul_q8(ty, bytes, x, tokens.clone(), panel, &mut scratch.c),
                    None => {
                        let x: Vec<_> = tokens.clone().map(&x).collect();
                        set.matmul_f32(ty, bytes, &x, panel, &mut scratch.c);
                    }
                }
                for (row, c) in tokens.zip(&scratch.c) {
                    let columns = out(row).iter_mut().skip(i * PANEL_ROWS);
                    columns.zip(c).for_each(|(out, c)| *out = *c);
                }
            }
        }
    }
}
