//! The IQ formats: runs of 8 (or 4) elements are entries of a codebook, with signs and scales aside;
//! IQ4_NL and IQ4_XS have a table of 16 values instead.
//!
//! A block of 256 has 8 groups of 32 elements, a group 4 runs of 8.

use super::{Block, block_struct, half, half_is_finite};
use crate::BlockType;
use crate::grids::{IQ1_GRID, IQ2_S_GRID, IQ2_XS_GRID, IQ2_XXS_GRID, IQ3_S_GRID, IQ3_XXS_GRID, IQ4_VALUES};

block_struct! {
    /// 32 values `d * table[q]`.
    BlockIq4Nl: Iq4Nl, 32 {
        /// Scale, f16.
        d: [u8; 2],
        /// Byte j: element j in the low nibble, element j + 16 in the high one.
        qs: [u8; 16],
    }
}

block_struct! {
    /// 256 values `d * scale * table[q]`, 32 to a scale.
    BlockIq4Xs: Iq4Xs, 256 {
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Upper two bits of the eight 6-bit scales, u16.
        scales_h: [u8; 2],
        /// Low nibbles of the scales.
        scales_l: [u8; 4],
        /// Nibbles, each 16 bytes as in IQ4_NL.
        qs: [u8; 128],
    }
}

block_struct! {
    /// 256 values; a group is four codebook indices and a word of four 7-bit sign codes and a scale.
    BlockIq2Xxs: Iq2Xxs, 256 {
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Groups.
        qs: [[u8; 8]; 8],
    }
}

block_struct! {
    /// 256 values; a run is a 9-bit codebook index and a 7-bit sign code.
    BlockIq2Xs: Iq2Xs, 256 {
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Runs, u16.
        qs: [[u8; 2]; 32],
        /// A nibble for 16 elements.
        scales: [u8; 8],
    }
}

block_struct! {
    /// 256 values; a run is a 10-bit codebook index and a byte of signs.
    BlockIq2S: Iq2S, 256 {
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Low bytes of the indices.
        qs: [u8; 32],
        /// Sign bits of the runs.
        signs: [u8; 32],
        /// Upper two bits of the indices, four runs a byte.
        qh: [u8; 8],
        /// A nibble for 16 elements.
        scales: [u8; 8],
    }
}

block_struct! {
    /// 256 values; a run is two codebook entries of four elements.
    BlockIq3Xxs: Iq3Xxs, 256 {
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Indices, one for four elements.
        qs: [u8; 64],
        /// For each group four 7-bit sign codes and a scale, u32.
        words: [[u8; 4]; 8],
    }
}

block_struct! {
    /// 256 values; a run is two 9-bit codebook indices of four elements and a byte of signs.
    BlockIq3S: Iq3S, 256 {
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Low bytes of the indices.
        qs: [u8; 64],
        /// Ninth bits of the indices, one byte a group.
        qh: [u8; 8],
        /// Sign bits of the runs.
        signs: [u8; 32],
        /// A nibble for 32 elements.
        scales: [u8; 4],
    }
}

block_struct! {
    /// 256 values `d * scale * (grid + delta)`.
    BlockIq1S: Iq1S, 256 {
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Low bytes of the 11-bit indices.
        qs: [u8; 32],
        /// For each group upper bits of four indices, a 3-bit scale and the sign of delta, u16.
        qh: [[u8; 2]; 8],
    }
}

block_struct! {
    /// 256 values `d * scale * (grid + delta)`; `d` hides in the scales.
    BlockIq1M: Iq1M, 256 {
        /// Low bytes of the 11-bit indices.
        qs: [u8; 32],
        /// A nibble for each run: three upper bits of its index and the sign of delta.
        qh: [u8; 16],
        /// Sixteen 3-bit scales and, in the top nibbles, the f16 `d`; u16.
        scales: [[u8; 2]; 4],
    }
}

/// The signs of a run of a 7-bit code: the eighth makes the number of minus signs even.
#[inline(always)]
pub fn even_signs(code: u32) -> u8 {
    let code = (code & 127) as u8;
    code | (code.count_ones() as u8 & 1) << 7
}

/// Writes `db * grid * sign` for a run, or a part of one whose signs begin at bit 0. An array at once:
/// the compiler then makes one vector of it.
#[inline(always)]
fn signed_run<const N: usize>(db: f32, grid: &[i8; N], signs: u8, out: &mut [f32; N]) {
    *out = std::array::from_fn(|i| {
        let sign = (u32::from(signs) >> i & 1) << 31;
        f32::from_bits((db * f32::from(grid[i])).to_bits() ^ sign)
    });
}

/// The scale of IQ2_XS and IQ2_S for 16 elements: the nibble s means (0.5 + s) / 4.
#[inline(always)]
fn iq2_scale(d: f32, scales: u8, run: usize) -> f32 {
    let s = if run < 2 { scales & 15 } else { scales >> 4 };
    (d * (0.5 + f32::from(s))) * 0.25
}

impl Block<32> for BlockIq4Nl {
    const TYPE: BlockType = BlockType::Iq4Nl;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        nonlinear(half(self.d), &self.qs, out);
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

#[inline(always)]
fn nonlinear(d: f32, qs: &[u8; 16], out: &mut [f32; 32]) {
    let (low, high) = out.split_at_mut(16);
    for ((&q, low), high) in qs.iter().zip(low).zip(high) {
        *low = d * f32::from(IQ4_VALUES[usize::from(q & 15)]);
        *high = d * f32::from(IQ4_VALUES[usize::from(q >> 4)]);
    }
}

impl Block<256> for BlockIq4Xs {
    const TYPE: BlockType = BlockType::Iq4Xs;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, high) = (half(self.d), u16::from_le_bytes(self.scales_h));
        let qs = self.qs.as_chunks::<16>().0;
        for (ib, (out, qs)) in out.as_chunks_mut::<32>().0.iter_mut().zip(qs).enumerate() {
            let low = u16::from(self.scales_l[ib / 2] >> (4 * (ib % 2)) & 15);
            let scale = low | (high >> (2 * ib) & 3) << 4;
            nonlinear(d * (i32::from(scale) - 32) as f32, qs, out);
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<256> for BlockIq2Xxs {
    const TYPE: BlockType = BlockType::Iq2Xxs;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        for (group, out) in self.qs.iter().zip(out.as_chunks_mut::<32>().0) {
            let word = u32::from_le_bytes([group[4], group[5], group[6], group[7]]);
            let db = (d * (0.5 + (word >> 28) as f32)) * 0.25;
            for (r, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                signed_run(db, &IQ2_XXS_GRID[usize::from(group[r])], even_signs(word >> (7 * r)), out);
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<256> for BlockIq2Xs {
    const TYPE: BlockType = BlockType::Iq2Xs;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        for (run, (out, &code)) in out.as_chunks_mut::<8>().0.iter_mut().zip(&self.qs).enumerate() {
            let code = u16::from_le_bytes(code);
            let db = iq2_scale(d, self.scales[run / 4], run % 4);
            signed_run(db, &IQ2_XS_GRID[usize::from(code & 511)], even_signs(u32::from(code >> 9)), out);
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<256> for BlockIq2S {
    const TYPE: BlockType = BlockType::Iq2S;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        for (run, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let (ib, r) = (run / 4, run % 4);
            let index = usize::from(self.qs[run]) | usize::from(self.qh[ib] >> (2 * r) & 3) << 8;
            signed_run(iq2_scale(d, self.scales[ib], r), &IQ2_S_GRID[index], self.signs[run], out);
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<256> for BlockIq3Xxs {
    const TYPE: BlockType = BlockType::Iq3Xxs;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        for (run, (out, index)) in out.as_chunks_mut::<8>().0.iter_mut().zip(self.qs.as_chunks::<2>().0).enumerate() {
            let word = u32::from_le_bytes(self.words[run / 4]);
            let db = (d * (0.5 + (word >> 28) as f32)) * 0.5;
            let signs = even_signs(word >> (7 * (run % 4)));
            for ((&index, part), out) in index.iter().zip([0, 4]).zip(out.as_chunks_mut::<4>().0) {
                signed_run(db, &IQ3_XXS_GRID[usize::from(index)], signs >> part, out);
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<256> for BlockIq3S {
    const TYPE: BlockType = BlockType::Iq3S;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        for (run, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let ib = run / 4;
            let scale = self.scales[ib / 2] >> (4 * (ib % 2)) & 15;
            let db = d * f32::from(1 + 2 * scale);
            for (part, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let k = 2 * (run % 4) + part;
                let index = usize::from(self.qs[8 * ib + k]) | usize::from(self.qh[ib] >> k & 1) << 8;
                signed_run(db, &IQ3_S_GRID[index], self.signs[run] >> (4 * part), out);
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

/// Writes `dl * (grid + delta)` for a run.
#[inline(always)]
fn shifted_run(dl: f32, index: usize, negative: bool, out: &mut [f32; 8]) {
    let delta = if negative { -0.125 } else { 0.125 };
    *out = IQ1_GRID[index].map(|g| dl * (f32::from(g) + delta));
}

impl Block<256> for BlockIq1S {
    const TYPE: BlockType = BlockType::Iq1S;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        for (run, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let qh = u16::from_le_bytes(self.qh[run / 4]);
            let dl = d * f32::from(2 * (qh >> 12 & 7) + 1);
            let index = usize::from(self.qs[run]) | usize::from(qh >> (3 * (run % 4)) & 7) << 8;
            shifted_run(dl, index, qh & 0x8000 != 0, out);
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl BlockIq1M {
    /// The bits of `d`, little endian: the top nibbles of the four words of scales, lowest first.
    #[inline(always)]
    pub fn d(&self) -> [u8; 2] {
        let top = |i: usize| self.scales[i][1] >> 4;
        [top(0) | top(1) << 4, top(2) | top(3) << 4]
    }
}

impl Block<256> for BlockIq1M {
    const TYPE: BlockType = BlockType::Iq1M;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d());
        for (run, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let k = run / 2;
            let scale = u16::from_le_bytes(self.scales[k / 4]) >> (3 * (k % 4)) & 7;
            let nibble = self.qh[run / 2] >> (4 * (run % 2)) & 15;
            let index = usize::from(self.qs[run]) | usize::from(nibble & 7) << 8;
            shifted_run(d * f32::from(2 * scale + 1), index, nibble & 8 != 0, out);
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d())
    }
}
