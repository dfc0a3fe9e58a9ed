//! Products of many activation rows: 32 rows of weights are unpacked once for all of them, 256 columns
//! at a time, and a product runs over what was unpacked.
//!
//! A [`Panel`] is the same bytes in every set, and every set sums a result in the same order: integer
//! dots of sub-blocks, which are exact, and one f32 fused multiply-add for each of them. So results
//! have the same bits in every set, and for every number of rows; but for [`WholeBlocks`].

use super::codes::Coding;
use super::{ActivationKind, KernelSet, SUM_LEN};
use std::ops::Range;
use tealight_quant::BlockType;

/// Rows of a panel.
pub const PANEL_ROWS: usize = 32;
/// Columns of a panel.
pub const PANEL_COLS: usize = 256;
/// Tokens that go over a panel before it is unpacked again: their activations stay in the second cache.
pub const PANEL_TOKENS: usize = 512;

/// Weights of [`PANEL_ROWS`] rows and [`PANEL_COLS`] columns.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct Panel {
    /// Codes, [column / 4][row][column % 4].
    pub(super) q: [[u8; 4 * PANEL_ROWS]; PANEL_COLS / 4],
    /// Scales, [sub-block][row].
    pub(super) scale: [[f32; PANEL_ROWS]; PANEL_COLS / SUM_LEN],
    /// Minimums, [sub-block][row].
    pub(super) min: [[f32; PANEL_ROWS]; PANEL_COLS / SUM_LEN],
    /// For [`WholeBlocks`]: codes without offset times the scales of their sub-blocks, 16 bits of which `q` has the
    /// lower and this the upper eight; the minimums of sub-blocks as integers, two by two, [pair][row].
    pub(super) high: [[u8; 4 * PANEL_ROWS]; PANEL_COLS / 4],
    pub(super) min_pairs: [[[i16; 2]; PANEL_ROWS]; PANEL_COLS / SUM_LEN / 2],
    /// Plain numbers, [column][row], for formats that are such.
    pub(super) w: [[f32; PANEL_ROWS]; PANEL_COLS],
    pub(super) rows: RowBuffers,
}

/// What is unpacked row by row, before rows and columns change places.
#[repr(C, align(64))]
#[derive(Clone)]
pub(super) struct RowBuffers {
    /// Codes, [row][column].
    pub q: [[u8; PANEL_COLS]; PANEL_ROWS],
    pub high: [[u8; PANEL_COLS]; PANEL_ROWS],
    /// Scales and minimums, [row][sub-block].
    pub scale: [[f32; PANEL_COLS / SUM_LEN]; PANEL_ROWS],
    pub min: [[f32; PANEL_COLS / SUM_LEN]; PANEL_ROWS],
}

impl Panel {
    /// A panel of zeros.
    pub fn new() -> Box<Self> {
        let zero = 0.0;
        Box::new(Self {
            q: [[0; _]; _],
            scale: [[zero; _]; _],
            min: [[zero; _]; _],
            high: [[0; _]; _],
            min_pairs: [[[0; 2]; _]; _],
            w: [[zero; _]; _],
            rows: RowBuffers { q: [[0; _]; _], high: [[0; _]; _], scale: [[zero; _]; _], min: [[zero; _]; _] },
        })
    }
}

/// Quantized activations of many tokens. Element `i` of block `b` (of 256) of token `t` lies at
/// `b * block_stride + t * token_stride + i` in `q`; its scale and its sum at that index divided by
/// the elements that share them. Everything reaches to the end of the last token's last block of 256,
/// even where a row ends before.
#[derive(Clone, Copy)]
pub struct Rows8<'a> {
    /// Quants, -127..=127.
    pub q: &'a [i8],
    /// Scales, one for 32 quants (Q8_0) or for 256 (Q8_K).
    pub d: &'a [f32],
    /// Sums of 16 quants.
    pub sums: &'a [i16],
    /// Which of the two they are.
    pub kind: ActivationKind,
    /// Elements of a row.
    pub n: usize,
    /// Elements from a token to the next, in a block.
    pub token_stride: usize,
    /// Elements from a block to the next, of a token.
    pub block_stride: usize,
}

/// A block of 256 activations of one token.
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    pub q: &'a [i8; PANEL_COLS],
    /// Scales: 8, or 1.
    pub d: &'a [f32],
    pub sums: &'a [i16; PANEL_COLS / SUM_LEN],
}

impl<'a> Rows8<'a> {
    #[inline(always)]
    pub(super) fn token(&self, token: usize, block: usize) -> Token<'a> {
        let at = block * self.block_stride + token * self.token_stride;
        let (per_scale, n_scale) = match self.kind {
            ActivationKind::Q8_0 => (32, PANEL_COLS / 32),
            _ => (256, 1),
        };
        let reach = "activations reach to the end of the last block";
        Token {
            q: self.q[at..].first_chunk().expect(reach),
            d: &self.d[at / per_scale..][..n_scale],
            sums: self.sums[at / SUM_LEN..].first_chunk().expect(reach),
        }
    }
}

/// A block of consecutive tokens, for kernels that look at several at once; the bounds are theirs to keep.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    q: *const i8,
    d: *const f32,
    sums: *const i16,
    q_stride: usize,
    d_stride: usize,
    sum_stride: usize,
}

impl Tokens {
    /// The tokens of a range, whose bounds are checked here; `None` if it is empty.
    #[inline(always)]
    pub fn of(x: &Rows8<'_>, block: usize, tokens: Range<usize>) -> Option<Self> {
        let first = tokens.start;
        // the last token's block is within its slices, so the others' are, which lie before it
        x.token(tokens.last()?, block);
        let Token { q, d, sums } = x.token(first, block);
        let per_scale = x.kind.block_len();
        Some(Self {
            q: q.as_ptr(),
            d: d.as_ptr(),
            sums: sums.as_ptr(),
            q_stride: x.token_stride,
            d_stride: x.token_stride / per_scale,
            sum_stride: x.token_stride / SUM_LEN,
        })
    }

    /// Goes on to later tokens.
    #[inline(always)]
    pub fn skip(&mut self, n: usize) {
        (self.q, self.d, self.sums) = (self.q(n), self.d(n), self.sums(n));
    }

    #[inline(always)]
    pub fn q(&self, token: usize) -> *const i8 {
        self.q.wrapping_add(token * self.q_stride)
    }

    /// Elements from a token to the next.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn q_stride(&self) -> usize {
        self.q_stride
    }

    #[inline(always)]
    pub fn d(&self, token: usize) -> *const f32 {
        self.d.wrapping_add(token * self.d_stride)
    }

    #[inline(always)]
    pub fn sums(&self, token: usize) -> *const i16 {
        self.sums.wrapping_add(token * self.sum_stride)
    }
}

/// Runs tiles of each of the sizes, largest first, as often as they fit what is left of the rows `$rest` of results;
/// `$at`, [`Tokens`] of as many, goes along.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
macro_rules! run_tiles {
    ($rest:ident, $at:ident, [], $tile:ident, $params:tt, $args:tt) => {
        debug_assert!($rest.is_empty())
    };
    ($rest:ident, $at:ident, [$n:literal $(, $more:literal)*], $tile:ident, [$($param:ident),+], [$($arg:expr),+]) => {
        let (tiles, $rest) = $rest.as_chunks_mut::<$n>();
        for c in tiles {
            // SAFETY: so many more tokens of the range, which `Tokens::of` has checked.
            unsafe { $tile::<$n, $($param),+>($($arg,)+ &$at, c) };
            $at.skip($n);
        }
        run_tiles!($rest, $at, [$($more),*], $tile, [$($param),+], [$($arg),+]);
    };
}
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
pub(super) use run_tiles;

/// The instance of `$tiles` for a coding: of elements of a sub-block, whether activations have one scale, whether
/// there are minimums, and what follows.
#[cfg(target_arch = "x86_64")]
macro_rules! by_coding {
    ($coding:expr, $kind:expr, $tiles:ident $(, $more:literal)?) => {
        match ($coding.sub, $kind == ActivationKind::Q8K, $coding.has_min) {
            (16, false, false) => $tiles::<16, false, false $(, $more)?>,
            (16, false, true) => $tiles::<16, false, true $(, $more)?>,
            (16, true, false) => $tiles::<16, true, false $(, $more)?>,
            (16, true, true) => $tiles::<16, true, true $(, $more)?>,
            (_, false, false) => $tiles::<32, false, false $(, $more)?>,
            (_, false, true) => $tiles::<32, false, true $(, $more)?>,
            (_, true, false) => $tiles::<32, true, false $(, $more)?>,
            (_, true, true) => $tiles::<32, true, true $(, $more)?>,
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use by_coding;

/// The rows of a panel: for each the bytes of its columns. Those that lie behind the last row of a
/// matrix repeat it.
pub(super) type PanelBytes<'a> = [&'a [u8]; PANEL_ROWS];
/// Unpacks codes, scales and minimums, or numbers.
pub(super) type Unpack = unsafe fn(rows: &PanelBytes<'_>, panel: &mut Panel);
/// Adds the products of a panel and a block of some tokens to `c`.
pub(super) type PanelProduct =
    unsafe fn(work: &PanelWork<'_>, x: &Rows8<'_>, block: usize, tokens: Range<usize>, c: &mut [[f32; PANEL_ROWS]]);
/// Adds the products of the first columns of a panel of numbers and as many of the tokens to `c`.
pub(super) type PanelProductF32 =
    unsafe fn(w: &[[f32; PANEL_ROWS]], x: &[&[f32]], first: usize, c: &mut [[f32; PANEL_ROWS]]);

/// A panel, and how it is read.
pub(super) struct PanelWork<'a> {
    pub panel: &'a Panel,
    pub coding: Coding,
    /// Sub-blocks that the columns at hand have.
    pub n_sub: usize,
}

/// A way to multiply blocks of 256 whose sub-blocks have integers as scales: their dots are summed as integers, exact,
/// and become a number once. More exact than one number for each sub-block by a rounding for each; other bits.
#[derive(Clone, Copy)]
pub(super) struct WholeBlocks {
    pub unpack: Unpack,
    pub product: PanelProduct,
    /// Tokens from which on this is the faster way, and at least what it takes.
    pub min_tokens: usize,
}

/// The kernels of panels.
#[derive(Clone, Copy)]
pub(super) struct PanelKernels {
    pub whole_blocks: fn(BlockType) -> Option<WholeBlocks>,
    pub unpack: fn(BlockType) -> Option<Unpack>,
    pub unpack_f32: fn(BlockType) -> Option<Unpack>,
    pub product: fn(Coding, ActivationKind) -> PanelProduct,
    pub product_f32: PanelProductF32,
}

/// Bytes of the first of [`PANEL_ROWS`] rows, from some column on.
fn panel_bytes<'a>(rows: &'a [u8], row_bytes: usize, columns: Range<usize>) -> PanelBytes<'a> {
    let last = rows.len() / row_bytes - 1;
    std::array::from_fn(|r| &rows[r.min(last) * row_bytes..][columns.clone()])
}

impl KernelSet {
    /// Whether [`KernelSet::matmul_q8`] takes the type.
    pub fn has_panels(&self, ty: BlockType) -> bool {
        (self.panels.unpack)(ty).is_some()
    }

    /// Whether [`KernelSet::matmul_f32`] takes the type.
    pub fn has_f32_panels(&self, ty: BlockType) -> bool {
        (self.panels.unpack_f32)(ty).is_some()
    }

    /// `c[t][r] = sum_k W[r, k] * x[t, k]` for the tokens of a range.
    ///
    /// `rows`: blocks of type `ty`, at most [`PANEL_ROWS`] rows. `c`: a row for each token of the
    /// range; columns without a row of weights hold anything.
    ///
    /// # Panics
    /// The lengths do not fit, or the type has no panels.
    pub fn matmul_q8(
        &self,
        ty: BlockType,
        rows: &[u8],
        x: &Rows8<'_>,
        tokens: Range<usize>,
        panel: &mut Panel,
        c: &mut [[f32; PANEL_ROWS]],
    ) {
        let (Some(mut unpack), Some(coding)) = ((self.panels.unpack)(ty), Coding::of(ty)) else {
            panic!("{ty} has no panels");
        };
        assert!(x.kind == ActivationKind::of(ty) && c.len() == tokens.len());
        let mut product = (self.panels.product)(coding, x.kind);
        if let Some(whole) = (self.panels.whole_blocks)(ty).filter(|whole| tokens.len() >= whole.min_tokens) {
            (unpack, product) = (whole.unpack, whole.product);
        }
        let n = x.n;
        let row_bytes = check_panel(ty, rows, n);
        c.fill([0.0; PANEL_ROWS]);
        for (block, first) in (0..n).step_by(PANEL_COLS).enumerate() {
            let n_col = PANEL_COLS.min(n - first);
            let byte = |column: usize| column / ty.block_len() * ty.block_bytes();
            let bytes = panel_bytes(rows, row_bytes, byte(first)..byte(first + n_col));
            // SAFETY: a `KernelSet` exists only if its features were detected.
            unsafe { unpack(&bytes, panel) };
            let work = PanelWork { panel, coding, n_sub: n_col / coding.sub };
            // SAFETY: as above.
            unsafe { product(&work, x, block, tokens.clone(), c) };
        }
    }

    /// The same for the types of plain numbers and activations that are such, [n] each.
    ///
    /// # Panics
    /// The lengths do not fit, or the type has no such panels.
    pub fn matmul_f32(&self, ty: BlockType, rows: &[u8], x: &[&[f32]], panel: &mut Panel, c: &mut [[f32; PANEL_ROWS]]) {
        let Some(unpack) = (self.panels.unpack_f32)(ty) else { panic!("{ty} has no panels of numbers") };
        let n = x.first().map_or(0, |x| x.len());
        assert!(c.len() == x.len() && x.iter().all(|x| x.len() == n));
        let row_bytes = check_panel(ty, rows, n);
        c.fill([0.0; PANEL_ROWS]);
        for first in (0..n).step_by(PANEL_COLS) {
            let n_col = PANEL_COLS.min(n - first);
            let columns = first * ty.block_bytes()..(first + n_col) * ty.block_bytes();
            let bytes = panel_bytes(rows, row_bytes, columns);
            // SAFETY: a `KernelSet` exists only if its features were detected.
            unsafe { unpack(&bytes, panel) };
            // SAFETY: as above.
            unsafe { (self.panels.product_f32)(&panel.w[..n_col], x, first, c) };
        }
    }
}

/// The bytes of a row, after checking that `rows` are at most a panel's, and at least one.
fn check_panel(ty: BlockType, rows: &[u8], n: usize) -> usize {
    let row_bytes = n / ty.block_len() * ty.block_bytes();
    assert!(n > 0 && n.is_multiple_of(ty.block_len()), "a row of {n} is not a whole number of blocks of {ty}");
    let n_row = rows.len() / row_bytes;
    assert!((1..=PANEL_ROWS).contains(&n_row) && n_row * row_bytes == rows.len(), "{n_row} rows of {n} {ty}");
    row_bytes
}
