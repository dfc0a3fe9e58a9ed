//! Every block format as integers: an unsigned code for each element, and an f32 scale (and minimum)
//! for each 16 or 32 of them. Nothing is rounded: products over codes are products over the weights.
//!
//! A weight is `scale * (code - offset) + min`. What is the scale here may take in a power of two that
//! the format keeps with its elements, so that these become integers.

use tealight_quant::BlockType;
use tealight_quant::blocks::iq::*;
use tealight_quant::blocks::k::*;
use tealight_quant::blocks::legacy::*;
use tealight_quant::blocks::mx::*;
use tealight_quant::blocks::tq::*;
use tealight_quant::blocks::{Block, half};
use tealight_quant::grids::*;

/// How a format is coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coding {
    /// Elements that share a scale: 16 or 32.
    pub sub: usize,
    /// The code of zero.
    pub offset: u8,
    /// The greatest code.
    pub max: u8,
    /// Whether there are minimums.
    pub has_min: bool,
    /// Elements of a block.
    pub block_len: usize,
}

/// A format with integer codes.
pub(super) trait Coded<const N: usize>: Block<N> {
    /// As [`Coding`] has them.
    const SUB: usize;
    const OFFSET: u8;
    const MAX: u8;
    const HAS_MIN: bool = false;

    /// Writes the codes, and the scales and minimums, [N / SUB] each; minimums only where the format
    /// has them. Inlined everywhere, as `Block::dequantize` is.
    fn codes(&self, q: &mut [u8; N], scale: &mut [f32], min: &mut [f32]);
}

/// Something done with the coded block struct of a type.
pub(super) trait CodedVisitor {
    /// What it gives.
    type Output;

    /// Does it for blocks `B` of `N` elements.
    fn visit<B: Coded<N>, const N: usize>(self) -> Self::Output;
}

/// Calls the visitor with the block struct of `ty`; `None` for numbers, and for the formats of
/// activations.
pub(super) fn visit_coded<V: CodedVisitor>(ty: BlockType, v: V) -> Option<V::Output> {
    Some(match ty {
        BlockType::Q4_0 => v.visit::<BlockQ4_0, _>(),
        BlockType::Q4_1 => v.visit::<BlockQ4_1, _>(),
        BlockType::Q5_0 => v.visit::<BlockQ5_0, _>(),
        BlockType::Q5_1 => v.visit::<BlockQ5_1, _>(),
        BlockType::Q8_0 => v.visit::<BlockQ8_0, _>(),
        BlockType::Q1_0 => v.visit::<BlockQ1_0, _>(),
        BlockType::Q2_0 => v.visit::<BlockQ2_0, _>(),
        BlockType::Q2K => v.visit::<BlockQ2K, _>(),
        BlockType::Q3K => v.visit::<BlockQ3K, _>(),
        BlockType::Q4K => v.visit::<BlockQ4K, _>(),
        BlockType::Q5K => v.visit::<BlockQ5K, _>(),
        BlockType::Q6K => v.visit::<BlockQ6K, _>(),
        BlockType::Iq2Xxs => v.visit::<BlockIq2Xxs, _>(),
        BlockType::Iq2Xs => v.visit::<BlockIq2Xs, _>(),
        BlockType::Iq2S => v.visit::<BlockIq2S, _>(),
        BlockType::Iq3Xxs => v.visit::<BlockIq3Xxs, _>(),
        BlockType::Iq3S => v.visit::<BlockIq3S, _>(),
        BlockType::Iq1S => v.visit::<BlockIq1S, _>(),
        BlockType::Iq1M => v.visit::<BlockIq1M, _>(),
        BlockType::Iq4Nl => v.visit::<BlockIq4Nl, _>(),
        BlockType::Iq4Xs => v.visit::<BlockIq4Xs, _>(),
        BlockType::Tq1_0 => v.visit::<BlockTq1_0, _>(),
        BlockType::Tq2_0 => v.visit::<BlockTq2_0, _>(),
        BlockType::Mxfp4 => v.visit::<BlockMxfp4, _>(),
        BlockType::Nvfp4 => v.visit::<BlockNvfp4, _>(),
        _ => return None,
    })
}

impl Coding {
    /// The coding of a type's blocks; `None` as in [`visit_coded`].
    pub fn of(ty: BlockType) -> Option<Self> {
        struct Pick;
        impl CodedVisitor for Pick {
            type Output = Coding;
            fn visit<B: Coded<N>, const N: usize>(self) -> Coding {
                Coding { sub: B::SUB, offset: B::OFFSET, max: B::MAX, has_min: B::HAS_MIN, block_len: N }
            }
        }
        visit_coded(ty, Pick)
    }
}

/// Low nibbles, then high nibbles: the order of elements in the 4-bit formats of 32.
#[inline(always)]
fn split_nibbles(qs: &[u8; 16], q: &mut [u8; 32]) {
    let (low, high) = q.split_at_mut(16);
    for ((&qs, low), high) in qs.iter().zip(low).zip(high) {
        *low = qs & 15;
        *high = qs >> 4;
    }
}

/// The same with fifth bits.
#[inline(always)]
fn split_fives(qh: [u8; 4], qs: &[u8; 16], q: &mut [u8; 32]) {
    split_nibbles(qs, q);
    let qh = u32::from_le_bytes(qh);
    for (i, q) in q.iter_mut().enumerate() {
        *q |= ((qh >> i & 1) << 4) as u8;
    }
}

/// Replaces nibbles by the codes of a table's values.
#[inline(always)]
fn look_up(table: &[i8; 16], offset: u8, q: &mut [u8; 32]) {
    q.iter_mut().for_each(|q| *q = (table[usize::from(*q & 15)] as u8).wrapping_add(offset));
}

impl Coded<32> for BlockQ4_0 {
    const SUB: usize = 32;
    const OFFSET: u8 = 8;
    const MAX: u8 = 15;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 32], scale: &mut [f32], _: &mut [f32]) {
        scale[0] = half(self.d);
        split_nibbles(&self.qs, q);
    }
}

impl Coded<32> for BlockQ4_1 {
    const SUB: usize = 32;
    const OFFSET: u8 = 0;
    const MAX: u8 = 15;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 32], scale: &mut [f32], min: &mut [f32]) {
        (scale[0], min[0]) = (half(self.d), half(self.m));
        split_nibbles(&self.qs, q);
    }
}

impl Coded<32> for BlockQ5_0 {
    const SUB: usize = 32;
    const OFFSET: u8 = 16;
    const MAX: u8 = 31;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 32], scale: &mut [f32], _: &mut [f32]) {
        scale[0] = half(self.d);
        split_fives(self.qh, &self.qs, q);
    }
}

impl Coded<32> for BlockQ5_1 {
    const SUB: usize = 32;
    const OFFSET: u8 = 0;
    const MAX: u8 = 31;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 32], scale: &mut [f32], min: &mut [f32]) {
        (scale[0], min[0]) = (half(self.d), half(self.m));
        split_fives(self.qh, &self.qs, q);
    }
}

impl Coded<32> for BlockQ8_0 {
    const SUB: usize = 32;
    const OFFSET: u8 = 128;
    const MAX: u8 = 255;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 32], scale: &mut [f32], _: &mut [f32]) {
        scale[0] = half(self.d);
        *q = self.qs.map(|q| q as u8 ^ 0x80);
    }
}

impl Coded<128> for BlockQ1_0 {
    const SUB: usize = 32;
    const OFFSET: u8 = 1;
    const MAX: u8 = 2;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 128], scale: &mut [f32], _: &mut [f32]) {
        scale.fill(half(self.d));
        for (&bits, q) in self.qs.iter().zip(q.as_chunks_mut::<8>().0) {
            *q = std::array::from_fn(|i| 2 * (bits >> i & 1));
        }
    }
}

impl Coded<64> for BlockQ2_0 {
    const SUB: usize = 32;
    const OFFSET: u8 = 1;
    const MAX: u8 = 3;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 64], scale: &mut [f32], _: &mut [f32]) {
        scale.fill(half(self.d));
        for (&bits, q) in self.qs.iter().zip(q.as_chunks_mut::<4>().0) {
            *q = std::array::from_fn(|i| bits >> (2 * i) & 3);
        }
    }
}

impl Coded<256> for BlockQ2K {
    const SUB: usize = 16;
    const OFFSET: u8 = 0;
    const MAX: u8 = 3;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], min: &mut [f32]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        for ((&s, scale), min) in self.scales.iter().zip(scale).zip(min) {
            *scale = d * f32::from(s & 15);
            *min = -(dmin * f32::from(s >> 4));
        }
        for (s, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (&bits, q) in self.qs.as_chunks::<32>().0[s / 4].iter().zip(q) {
                *q = bits >> (2 * (s % 4)) & 3;
            }
        }
    }
}

impl Coded<256> for BlockQ3K {
    const SUB: usize = 16;
    const OFFSET: u8 = 4;
    const MAX: u8 = 7;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        let d = half(self.d);
        for (k, scale) in scale.iter_mut().enumerate() {
            *scale = d * f32::from(self.scale(k));
        }
        for (s, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for ((&low, &high), q) in self.qs.as_chunks::<32>().0[s / 4].iter().zip(&self.hmask).zip(q) {
                *q = (low >> (2 * (s % 4)) & 3) | (high >> s & 1) << 2;
            }
        }
    }
}

/// The scales and minimums of Q4_K and Q5_K.
#[inline(always)]
fn k_scales(d: [u8; 2], dmin: [u8; 2], packed: &[u8; 12], scale: &mut [f32], min: &mut [f32]) {
    let (d, dmin) = (half(d), half(dmin));
    let (scales, mins) = scales_and_mins(packed);
    for ((s, m), (scale, min)) in scales.into_iter().zip(mins).zip(scale.iter_mut().zip(min)) {
        *scale = d * f32::from(s);
        *min = -(dmin * f32::from(m));
    }
}

impl Coded<256> for BlockQ4K {
    const SUB: usize = 32;
    const OFFSET: u8 = 0;
    const MAX: u8 = 15;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], min: &mut [f32]) {
        k_scales(self.d, self.dmin, &self.scales, scale, min);
        for (s, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            *q = self.qs.as_chunks::<32>().0[s / 2].map(|q| q >> (4 * (s % 2)) & 15);
        }
    }
}

impl Coded<256> for BlockQ5K {
    const SUB: usize = 32;
    const OFFSET: u8 = 0;
    const MAX: u8 = 31;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], min: &mut [f32]) {
        k_scales(self.d, self.dmin, &self.scales, scale, min);
        for (s, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for ((&low, &high), q) in self.qs.as_chunks::<32>().0[s / 2].iter().zip(&self.qh).zip(q) {
                *q = (low >> (4 * (s % 2)) & 15) | (high >> s & 1) << 4;
            }
        }
    }
}

impl Coded<256> for BlockQ6K {
    const SUB: usize = 16;
    const OFFSET: u8 = 32;
    const MAX: u8 = 63;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        let d = half(self.d);
        for (&s, scale) in self.scales.iter().zip(scale) {
            *scale = d * f32::from(s);
        }
        for (s, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (h, j) = (s / 4, s % 4);
            let low = &self.ql.as_chunks::<32>().0[2 * h + j % 2];
            for ((&low, &high), q) in low.iter().zip(&self.qh.as_chunks::<32>().0[h]).zip(q) {
                *q = (low >> (4 * (j / 2)) & 15) | (high >> (2 * j) & 3) << 4;
            }
        }
    }
}

impl Coded<32> for BlockIq4Nl {
    const SUB: usize = 32;
    const OFFSET: u8 = 128;
    const MAX: u8 = 255;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 32], scale: &mut [f32], _: &mut [f32]) {
        scale[0] = half(self.d);
        split_nibbles(&self.qs, q);
        look_up(&IQ4_VALUES, Self::OFFSET, q);
    }
}

/// The scales of IQ4_XS.
#[inline(always)]
pub(super) fn iq4_xs_scales(b: &BlockIq4Xs, scale: &mut [f32]) {
    let (d, high) = (half(b.d), u16::from_le_bytes(b.scales_h));
    for (s, scale) in scale.iter_mut().enumerate().take(8) {
        let low = u16::from(b.scales_l[s / 2] >> (4 * (s % 2)) & 15);
        *scale = d * (i32::from(low | (high >> (2 * s) & 3) << 4) - 32) as f32;
    }
}

impl Coded<256> for BlockIq4Xs {
    const SUB: usize = 32;
    const OFFSET: u8 = 128;
    const MAX: u8 = 255;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        iq4_xs_scales(self, scale);
        for (qs, q) in self.qs.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<32>().0) {
            split_nibbles(qs, q);
            look_up(&IQ4_VALUES, Self::OFFSET, q);
        }
    }
}

impl Coded<32> for BlockMxfp4 {
    const SUB: usize = 32;
    const OFFSET: u8 = 12;
    const MAX: u8 = 24;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 32], scale: &mut [f32], _: &mut [f32]) {
        scale[0] = self.half_scale();
        split_nibbles(&self.qs, q);
        look_up(&FP4_DOUBLED, Self::OFFSET, q);
    }
}

impl Coded<64> for BlockNvfp4 {
    const SUB: usize = 16;
    const OFFSET: u8 = 12;
    const MAX: u8 = 24;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 64], scale: &mut [f32], _: &mut [f32]) {
        for (s, q) in q.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            scale[s] = half_e4m3(self.scales[s]);
            let (low, high) = q.split_at_mut(8);
            for ((&qs, low), high) in self.qs.as_chunks::<8>().0[s].iter().zip(low).zip(high) {
                *low = (FP4_DOUBLED[usize::from(qs & 15)] as u8).wrapping_add(Self::OFFSET);
                *high = (FP4_DOUBLED[usize::from(qs >> 4)] as u8).wrapping_add(Self::OFFSET);
            }
        }
    }
}

impl Coded<256> for BlockTq1_0 {
    const SUB: usize = 32;
    const OFFSET: u8 = 1;
    const MAX: u8 = 2;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        scale[..8].fill(half(self.d));
        let (first, rest) = self.qs.split_at(32);
        let (q_first, q) = q.split_at_mut(160);
        let (q_rest, q_high) = q.split_at_mut(80);
        for (bytes, q) in [(first, q_first), (rest, q_rest), (&self.qh, q_high)] {
            for (n, q) in q.chunks_exact_mut(bytes.len()).enumerate() {
                for (&byte, q) in bytes.iter().zip(q) {
                    *q = digit(byte, n) as u8;
                }
            }
        }
    }
}

impl Coded<256> for BlockTq2_0 {
    const SUB: usize = 32;
    const OFFSET: u8 = 1;
    const MAX: u8 = 3;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        scale[..8].fill(half(self.d));
        for (s, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            *q = self.qs.as_chunks::<32>().0[s / 4].map(|q| q >> (2 * (s % 4)) & 3);
        }
    }
}

/// Codes of a codebook's entry with signs, or of a part of it whose signs begin at bit 0.
#[inline(always)]
fn signed_run<const N: usize>(offset: u8, grid: &[i8; N], signs: u8, q: &mut [u8; N]) {
    *q = std::array::from_fn(|i| {
        let g = grid[i] as u8;
        // -g where the sign is set: all its bits turned over, and one more
        let minus = 0u8.wrapping_sub(signs >> i & 1);
        offset.wrapping_add((g ^ minus).wrapping_sub(minus))
    });
}

impl Coded<256> for BlockIq2Xxs {
    const SUB: usize = 32;
    const OFFSET: u8 = 64;
    const MAX: u8 = 107;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        let d = half(self.d);
        for ((group, q), scale) in self.qs.iter().zip(q.as_chunks_mut::<32>().0).zip(scale) {
            let word = u32::from_le_bytes([group[4], group[5], group[6], group[7]]);
            *scale = (d * (0.5 + (word >> 28) as f32)) * 0.25;
            for (r, q) in q.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                signed_run(Self::OFFSET, &IQ2_XXS_GRID[usize::from(group[r])], even_signs(word >> (7 * r)), q);
            }
        }
    }
}

/// The scales of IQ2_XS and IQ2_S: the nibble s means (0.5 + s) / 4.
#[inline(always)]
fn iq2_scales(d: [u8; 2], nibbles: &[u8; 8], scale: &mut [f32]) {
    let d = half(d);
    for (&s, scale) in nibbles.iter().zip(scale.as_chunks_mut::<2>().0) {
        *scale = [s & 15, s >> 4].map(|s| (d * (0.5 + f32::from(s))) * 0.25);
    }
}

impl Coded<256> for BlockIq2Xs {
    const SUB: usize = 16;
    const OFFSET: u8 = 64;
    const MAX: u8 = 107;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        iq2_scales(self.d, &self.scales, scale);
        for (q, &code) in q.as_chunks_mut::<8>().0.iter_mut().zip(&self.qs) {
            let code = u16::from_le_bytes(code);
            signed_run(Self::OFFSET, &IQ2_XS_GRID[usize::from(code & 511)], even_signs(u32::from(code >> 9)), q);
        }
    }
}

impl Coded<256> for BlockIq2S {
    const SUB: usize = 16;
    const OFFSET: u8 = 64;
    const MAX: u8 = 107;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        iq2_scales(self.d, &self.scales, scale);
        for (run, q) in q.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let index = usize::from(self.qs[run]) | usize::from(self.qh[run / 4] >> (2 * (run % 4)) & 3) << 8;
            signed_run(Self::OFFSET, &IQ2_S_GRID[index], self.signs[run], q);
        }
    }
}

impl Coded<256> for BlockIq3Xxs {
    const SUB: usize = 32;
    const OFFSET: u8 = 64;
    const MAX: u8 = 126;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        let d = half(self.d);
        let groups = self.words.iter().zip(self.qs.as_chunks::<8>().0).zip(q.as_chunks_mut::<32>().0);
        for (((&word, index), q), scale) in groups.zip(scale) {
            let word = u32::from_le_bytes(word);
            *scale = (d * (0.5 + (word >> 28) as f32)) * 0.5;
            for (i, (&index, q)) in index.iter().zip(q.as_chunks_mut::<4>().0).enumerate() {
                let signs = even_signs(word >> (7 * (i / 2))) >> (4 * (i % 2));
                signed_run(Self::OFFSET, &IQ3_XXS_GRID[usize::from(index)], signs, q);
            }
        }
    }
}

impl Coded<256> for BlockIq3S {
    const SUB: usize = 32;
    const OFFSET: u8 = 16;
    const MAX: u8 = 31;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        let d = half(self.d);
        for (s, scale) in scale.iter_mut().enumerate().take(8) {
            *scale = d * f32::from(1 + 2 * (self.scales[s / 2] >> (4 * (s % 2)) & 15));
        }
        for (i, (&index, q)) in self.qs.iter().zip(q.as_chunks_mut::<4>().0).enumerate() {
            let index = usize::from(index) | usize::from(self.qh[i / 8] >> (i % 8) & 1) << 8;
            signed_run(Self::OFFSET, &IQ3_S_GRID[index], self.signs[i / 2] >> (4 * (i % 2)), q);
        }
    }
}

/// Codes of `8 (grid + delta)`: eight times an entry of -1, 0 or 1, and 1 more or less.
#[inline(always)]
fn shifted_run(offset: u8, index: usize, negative: bool, q: &mut [u8; 8]) {
    let zero = if negative { offset - 1 } else { offset + 1 };
    *q = IQ1_GRID[index].map(|g| zero.wrapping_add((g as u8).wrapping_mul(8)));
}

impl Coded<256> for BlockIq1S {
    const SUB: usize = 32;
    const OFFSET: u8 = 9;
    const MAX: u8 = 18;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        let d = half(self.d) * 0.125;
        for (((&qh, q), qs), scale) in
            self.qh.iter().zip(q.as_chunks_mut::<32>().0).zip(self.qs.as_chunks::<4>().0).zip(scale)
        {
            let qh = u16::from_le_bytes(qh);
            *scale = d * f32::from(2 * (qh >> 12 & 7) + 1);
            for (r, (&low, q)) in qs.iter().zip(q.as_chunks_mut::<8>().0).enumerate() {
                let index = usize::from(low) | usize::from(qh >> (3 * r) & 7) << 8;
                shifted_run(Self::OFFSET, index, qh & 0x8000 != 0, q);
            }
        }
    }
}

impl Coded<256> for BlockIq1M {
    const SUB: usize = 16;
    const OFFSET: u8 = 9;
    const MAX: u8 = 18;

    #[inline(always)]
    fn codes(&self, q: &mut [u8; 256], scale: &mut [f32], _: &mut [f32]) {
        let d = half(self.d()) * 0.125;
        for (k, scale) in scale.iter_mut().enumerate().take(16) {
            *scale = d * f32::from(2 * (u16::from_le_bytes(self.scales[k / 4]) >> (3 * (k % 4)) & 7) + 1);
        }
        for (run, q) in q.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let nibble = self.qh[run / 2] >> (4 * (run % 2)) & 15;
            let index = usize::from(self.qs[run]) | usize::from(nibble & 7) << 8;
            shifted_run(Self::OFFSET, index, nibble & 8 != 0, q);
        }
    }
}
