//! How weights lie on the GPU, for every format.
//!
//! A chunk of rows is two planes. `wq` has what a group of 32 weights reads as units of 16 bytes, `ws` what it reads
//! as words: scales, and bits that lie better there. Both together are the bytes of the file in another order, row
//! after row; rows of plain numbers are padded with zeros to a whole number of groups. A plane may be empty. The
//! fragments in `shaders/quant` read what stands here; the table [`FORMATS`] and they are two sides of one decision.
//!
//! Blocks whose bytes in `ws` are not whole words are kept in *units*: the words of all blocks of the unit, then their
//! remaining bytes (two halves, or four bytes). So a piece of a chunk can be packed for itself only if it begins at a
//! whole unit: [`Planes::row_step`].

use tealight_quant::BlockType;
use tealight_quant::grids::{IQ1_GRID, IQ2_S_GRID, IQ2_XS_GRID, IQ2_XXS_GRID, IQ3_S_GRID, IQ3_XXS_GRID};
use wgpu::WriteOnly;

use super::compose::Kernel;

/// Weights that a kernel's fragment gives at once; no group crosses rows.
pub(super) const GROUP_LEN: usize = 32;
/// Bindings begin at multiples of this.
pub(super) const ALIGN: u64 = 256;

/// The planes of one format.
#[derive(Debug)]
pub(super) struct Planes {
    ty: BlockType,
    /// Weights and bytes of a block in the file. A plain number is a block.
    block_len: usize,
    block_bytes: usize,
    /// Bytes of a block in `wq`; of a whole group for plain numbers.
    a_block: usize,
    /// Bytes of a unit in `ws`, and its blocks.
    s_unit: usize,
    unit_blocks: usize,
    fragments: &'static [&'static str],
    tables: fn() -> Vec<u32>,
    /// Fills the planes from blocks; plain numbers are only padded.
    split: Option<Split>,
}

type Split = fn(&[u8], WriteOnly<'_, [u8]>, WriteOnly<'_, [u8]>);

/// The planes of a type; `None` for types that are no weights: integers, F64 and the formats of activations.
pub(super) fn planes(ty: BlockType) -> Option<&'static Planes> {
    PLAIN.iter().chain(FORMATS).find(|p| p.ty == ty)
}

impl Planes {
    /// Does the fragment give `codes32`? Otherwise it gives `group32` alone.
    pub fn has_codes(&self) -> bool {
        self.split.is_some()
    }

    /// Groups of a row of `row_len` weights.
    pub fn groups_per_row(&self, row_len: usize) -> usize {
        row_len.div_ceil(GROUP_LEN)
    }

    /// Bytes of `wq` for `n_row` rows; a multiple of 16, maybe 0.
    pub fn a_bytes(&self, n_row: usize, row_len: usize) -> u64 {
        let per_row = if self.has_codes() { row_len / self.block_len } else { self.groups_per_row(row_len) };
        n_row as u64 * per_row as u64 * self.a_block as u64
    }

    /// Bytes of `ws` for `n_row` rows; a multiple of 4, maybe 0.
    pub fn s_bytes(&self, n_row: usize, row_len: usize) -> u64 {
        let n_block = n_row as u64 * (row_len / self.block_len) as u64;
        n_block.div_ceil(self.unit_blocks as u64) * self.s_unit as u64
    }

    /// Bytes of a chunk of `n_row` rows: `wq`, then `ws` from where a binding may begin.
    pub fn chunk_bytes(&self, n_row: usize, row_len: usize) -> u64 {
        self.a_bytes(n_row, row_len).next_multiple_of(ALIGN) + self.s_bytes(n_row, row_len)
    }

    /// Rows that fill whole units: a chunk may be packed in pieces that begin at multiples of this many rows.
    pub fn row_step(&self, row_len: usize) -> usize {
        // Units have 1, 2 or 4 blocks.
        let common = 1 << (row_len / self.block_len).trailing_zeros().min(self.unit_blocks.trailing_zeros());
        self.unit_blocks / common
    }

    /// The kernel with the files that read these planes.
    pub fn add_to(&self, kernel: Kernel) -> Kernel {
        self.fragments.iter().fold(kernel, |kernel, fragment| kernel.with(fragment))
    }

    /// What is bound as `tables`; empty for most formats.
    pub fn tables(&self) -> Vec<u32> {
        (self.tables)()
    }

    /// Writes whole rows of the file into planes, which are written in order, every byte once, and never read.
    ///
    /// # Panics
    /// `rows` is not whole rows, or the planes do not have the sizes of [`Planes::a_bytes`] and [`Planes::s_bytes`].
    pub fn pack(&self, rows: &[u8], row_len: usize, a: WriteOnly<'_, [u8]>, s: WriteOnly<'_, [u8]>) {
        let row_bytes = row_len / self.block_len * self.block_bytes;
        assert!(row_len.is_multiple_of(self.block_len) && rows.len().is_multiple_of(row_bytes.max(1)), "no whole rows");
        let n_row = rows.len() / row_bytes.max(1);
        let sizes = (self.a_bytes(n_row, row_len), self.s_bytes(n_row, row_len));
        assert_eq!((a.len() as u64, s.len() as u64), sizes, "sizes of planes");
        match self.split {
            Some(split) => split(rows, a, s),
            None => pad_rows(rows, row_bytes, a.len() / n_row.max(1), a),
        }
    }
}

/// Copies rows, each padded with zeros.
fn pad_rows(rows: &[u8], row_bytes: usize, padded: usize, mut out: WriteOnly<'_, [u8]>) {
    if out.len() == rows.len() {
        return out.copy_from_slice(rows);
    }
    for row in rows.chunks_exact(row_bytes) {
        take(&mut out, row_bytes).copy_from_slice(row);
        take(&mut out, padded - row_bytes).fill(0);
    }
}

/// Cuts the next `n` bytes off.
fn take<'a>(out: &mut WriteOnly<'a, [u8]>, n: usize) -> WriteOnly<'a, [u8]> {
    out.split_off(..n).expect("the sizes of planes are checked")
}

/// Splits blocks of `BYTES` bytes, `N` to a unit, into `A` bytes of `wq` each and `S` bytes of `ws` a unit.
/// `split` gets a block and its number in the unit.
#[inline(always)]
fn split_blocks<const BYTES: usize, const N: usize, const A: usize, const S: usize>(
    rows: &[u8],
    mut a: WriteOnly<'_, [u8]>,
    mut s: WriteOnly<'_, [u8]>,
    split: impl Fn(&[u8; BYTES], usize, &mut [u8; A], &mut [u8; S]),
) {
    if A == BYTES {
        return a.copy_from_slice(rows);
    }
    for unit in rows.chunks(N * BYTES) {
        let mut words = [0; S];
        for (i, block) in unit.as_chunks().0.iter().enumerate() {
            let mut quants = [0; A];
            split(block, i, &mut quants, &mut words);
            take(&mut a, A).copy_from_slice(&quants);
        }
        take(&mut s, S).copy_from_slice(&words);
    }
}

/// The entries of a codebook of runs of eight, 16 bits each, two a word: for each weight the number of its value among
/// `values`.
fn grid8(grid: &[[i8; 8]], values: [i8; 3]) -> Vec<u32> {
    let field = |v: i8| values.iter().position(|&x| x == v).expect("a grid has these values") as u32;
    let entry = |run: &[i8; 8]| (0..8).fold(0, |code, i| code | field(run[i]) << (2 * i));
    grid.as_chunks::<2>().0.iter().map(|[low, high]| entry(low) | entry(high) << 16).collect()
}

/// The entries of a codebook of runs of four, a word each.
fn grid4(grid: &[[i8; 4]]) -> Vec<u32> {
    grid.iter().map(|run| u32::from_le_bytes(run.map(|v| v as u8))).collect()
}

/// The plain numbers.
const PLAIN: &[Planes] = &[
    plain(BlockType::F32, &["weights", "quant/f32"]),
    plain(BlockType::F16, &["weights", "quant/f16"]),
    plain(BlockType::Bf16, &["weights", "quant/bf16"]),
];

const fn plain(ty: BlockType, fragments: &'static [&'static str]) -> Planes {
    let block_bytes = ty.block_bytes();
    let a_block = GROUP_LEN * block_bytes;
    let tables = Vec::new;
    Planes { ty, block_len: 1, block_bytes, a_block, s_unit: 0, unit_blocks: 1, fragments, tables, split: None }
}

/// The values of the codebooks of IQ2, and of IQ1, in the order of the fields that fragments take them from.
const IQ2_VALUES: [i8; 3] = [8, 25, 43];
const IQ1_VALUES: [i8; 3] = [-1, 0, 1];

/// The table of formats. For each: files that read it; the bytes of a block that go to `wq` in this order; those that
/// go to the words of `ws`; the f16 or the byte that remains.
macro_rules! formats {
    ($($ty:ident: $($file:literal)*; wq $($af:literal..$at:literal)*; ws $($wf:literal..$wt:literal)*;
        rest $($rf:literal..$rt:literal)?; $tables:expr;)*) => {
        /// Every format of blocks.
        const FORMATS: &[Planes] = &[$({
            const BYTES: usize = BlockType::$ty.block_bytes();
            const A: usize = 0 $(+ ($at - $af))*;
            const WORDS: usize = 0 $(+ ($wt - $wf))*;
            const REST: usize = 0 $(+ ($rt - $rf))?;
            const N: usize = if REST == 0 { 1 } else { 4 / REST };
            const S: usize = N * (WORDS + REST);
            const _: () = assert!(A.is_multiple_of(16) && WORDS.is_multiple_of(4) && A + WORDS + REST == BYTES);
            Planes {
                ty: BlockType::$ty,
                block_len: BlockType::$ty.block_len(),
                block_bytes: BYTES,
                a_block: A,
                s_unit: S,
                unit_blocks: N,
                fragments: &["weights", $($file,)* "quant/integer"],
                tables: || $tables,
                split: Some(|rows, a, s| split_blocks::<BYTES, N, A, S>(rows, a, s, |block, i, a, s| {
                    Cursor(a)$(.put(&block[$af..$at]))*;
                    Cursor(&mut s[i * WORDS..])$(.put(&block[$wf..$wt]))*;
                    Cursor(&mut s[N * WORDS + i * REST..])$(.put(&block[$rf..$rt]))?;
                })),
            }
        }),*];
    };
}

/// What is still to be written.
struct Cursor<'a>(&'a mut [u8]);

impl Cursor<'_> {
    #[inline(always)]
    fn put(self, bytes: &[u8]) -> Self {
        let (next, rest) = self.0.split_at_mut(bytes.len());
        next.copy_from_slice(bytes);
        Self(rest)
    }
}

formats! {
    Q4_0: "quant/q4_0"; wq 2..18; ws; rest 0..2; Vec::new();
    Q4_1: "quant/q4_1"; wq 4..20; ws 0..4; rest; Vec::new();
    Q5_0: "quant/q5_0"; wq 6..22; ws 2..6; rest 0..2; Vec::new();
    Q5_1: "quant/q5_1"; wq 8..24; ws 0..8; rest; Vec::new();
    Q8_0: "quant/q8_0"; wq 2..34; ws; rest 0..2; Vec::new();
    Q1_0: "quant/q1_0"; wq; ws 2..18; rest 0..2; Vec::new();
    Q2_0: "quant/q2_0"; wq 2..18; ws; rest 0..2; Vec::new();
    Mxfp4: "quant/fp4" "quant/mxfp4"; wq 1..17; ws; rest 0..1; Vec::new();
    Nvfp4: "quant/fp4" "quant/nvfp4"; wq 4..36; ws 0..4; rest; Vec::new();
    Q2K: "quant/q2_k"; wq 16..80; ws 0..16 80..84; rest; Vec::new();
    Q3K: "quant/q3_k"; wq 32..96 0..32; ws 96..108; rest 108..110; Vec::new();
    // The head of 16 bytes is read as one unit, so the blocks of the file are good as they are.
    Q4K: "quant/k_scales" "quant/q4_k"; wq 0..144; ws; rest; Vec::new();
    Q5K: "quant/k_scales" "quant/q5_k"; wq 0..176; ws; rest; Vec::new();
    Q6K: "quant/q6_k"; wq 0..192; ws 192..208; rest 208..210; Vec::new();
    Tq1_0: "quant/tq1_0"; wq 0..48; ws 48..52; rest 52..54; Vec::new();
    Tq2_0: "quant/tq2_0"; wq 0..64; ws; rest 64..66; Vec::new();
    Iq4Nl: "quant/iq4" "quant/iq4_nl"; wq 2..18; ws; rest 0..2; Vec::new();
    Iq4Xs: "quant/iq4" "quant/iq4_xs"; wq 8..136; ws 0..8; rest; Vec::new();
    Iq2Xxs: "quant/grid8" "quant/iq2" "quant/even_signs" "quant/iq2_xxs";
        wq 2..66; ws; rest 0..2; grid8(&IQ2_XXS_GRID, IQ2_VALUES);
    Iq2Xs: "quant/grid8" "quant/iq2" "quant/even_signs" "quant/iq2_xs";
        wq 2..66; ws 66..74; rest 0..2; grid8(&IQ2_XS_GRID, IQ2_VALUES);
    // The indices of each group, then its signs.
    Iq2S: "quant/grid8" "quant/iq2" "quant/iq2_s";
        wq 2..6 34..38 6..10 38..42 10..14 42..46 14..18 46..50 18..22 50..54 22..26 54..58 26..30 58..62 30..34 62..66;
        ws 66..82; rest 0..2; grid8(&IQ2_S_GRID, IQ2_VALUES);
    Iq3Xxs: "quant/grid4" "quant/even_signs" "quant/iq3_xxs"; wq 2..66; ws 66..98; rest 0..2; grid4(&IQ3_XXS_GRID);
    Iq3S: "quant/grid4" "quant/iq3_s"; wq 2..66; ws 66..110; rest 0..2; grid4(&IQ3_S_GRID);
    Iq1S: "quant/grid8" "quant/iq1" "quant/iq1_s"; wq; ws 2..50; rest 0..2; grid8(&IQ1_GRID, IQ1_VALUES);
    Iq1M: "quant/grid8" "quant/iq1" "quant/iq1_m"; wq; ws 0..56; rest; grid8(&IQ1_GRID, IQ1_VALUES);
}

#[cfg(test)]
mod tests;
