//! The formats with one scale for a short block: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1, Q1_0, Q2_0.
//!
//! 4- and 5-bit quants of 32 elements lie "split": byte j holds element j in its low nibble and
//! element j + 16 in its high one.

use super::{Block, block_struct, half, half_is_finite};
use crate::BlockType;

block_struct! {
    /// 32 values `(q - 8) * d`.
    BlockQ4_0: Q4_0, 32 {
        /// Scale, f16.
        d: [u8; 2],
        /// Nibbles, split.
        qs: [u8; 16],
    }
}

block_struct! {
    /// 32 values `q * d + m`.
    BlockQ4_1: Q4_1, 32 {
        /// Scale, f16.
        d: [u8; 2],
        /// Minimum, f16.
        m: [u8; 2],
        /// Nibbles, split.
        qs: [u8; 16],
    }
}

block_struct! {
    /// 32 values `(q - 16) * d`.
    BlockQ5_0: Q5_0, 32 {
        /// Scale, f16.
        d: [u8; 2],
        /// Bit i is the fifth bit of element i, u32.
        qh: [u8; 4],
        /// Low nibbles, split.
        qs: [u8; 16],
    }
}

block_struct! {
    /// 32 values `q * d + m`.
    BlockQ5_1: Q5_1, 32 {
        /// Scale, f16.
        d: [u8; 2],
        /// Minimum, f16.
        m: [u8; 2],
        /// Bit i is the fifth bit of element i, u32.
        qh: [u8; 4],
        /// Low nibbles, split.
        qs: [u8; 16],
    }
}

block_struct! {
    /// 32 values `q * d`.
    BlockQ8_0: Q8_0, 32 {
        /// Scale, f16.
        d: [u8; 2],
        /// Quants.
        qs: [i8; 32],
    }
}

block_struct! {
    /// 32 activations `q * d`, with the sum that products with Q4_1 and Q5_1 need.
    BlockQ8_1: Q8_1, 32 {
        /// Scale, f16.
        d: [u8; 2],
        /// `d` times the sum of the quants, f16.
        s: [u8; 2],
        /// Quants.
        qs: [i8; 32],
    }
}

block_struct! {
    /// 128 values of `d` or `-d`.
    BlockQ1_0: Q1_0, 128 {
        /// Scale, f16.
        d: [u8; 2],
        /// Bit i % 8 of byte i / 8 is set where element i is positive.
        qs: [u8; 16],
    }
}

block_struct! {
    /// 64 values `(q - 1) * d`.
    BlockQ2_0: Q2_0, 64 {
        /// Scale, f16.
        d: [u8; 2],
        /// Four quants a byte, lowest bits first.
        qs: [u8; 16],
    }
}

impl Block<32> for BlockQ4_0 {
    const TYPE: BlockType = BlockType::Q4_0;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = half(self.d);
        let (low, high) = out.split_at_mut(16);
        for ((&q, low), high) in self.qs.iter().zip(low).zip(high) {
            *low = (i32::from(q & 15) - 8) as f32 * d;
            *high = (i32::from(q >> 4) - 8) as f32 * d;
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<32> for BlockQ4_1 {
    const TYPE: BlockType = BlockType::Q4_1;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (half(self.d), half(self.m));
        let (low, high) = out.split_at_mut(16);
        for ((&q, low), high) in self.qs.iter().zip(low).zip(high) {
            *low = f32::from(q & 15) * d + m;
            *high = f32::from(q >> 4) * d + m;
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d) && half_is_finite(self.m)
    }
}

/// The 5-bit quants of 32 elements, in order of elements.
#[inline(always)]
fn five_bits(qh: [u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    let qh = u32::from_le_bytes(qh);
    let mut quants = [0; 32];
    let (low, high) = quants.split_at_mut(16);
    for (i, ((&q, low), high)) in qs.iter().zip(low).zip(high).enumerate() {
        *low = q & 15 | ((qh >> i & 1) << 4) as u8;
        *high = q >> 4 | ((qh >> (i + 16) & 1) << 4) as u8;
    }
    quants
}

impl Block<32> for BlockQ5_0 {
    const TYPE: BlockType = BlockType::Q5_0;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = half(self.d);
        for (q, out) in five_bits(self.qh, &self.qs).into_iter().zip(out) {
            *out = (i32::from(q) - 16) as f32 * d;
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<32> for BlockQ5_1 {
    const TYPE: BlockType = BlockType::Q5_1;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (half(self.d), half(self.m));
        for (q, out) in five_bits(self.qh, &self.qs).into_iter().zip(out) {
            *out = f32::from(q) * d + m;
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d) && half_is_finite(self.m)
    }
}

impl Block<32> for BlockQ8_0 {
    const TYPE: BlockType = BlockType::Q8_0;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = half(self.d);
        for (&q, out) in self.qs.iter().zip(out) {
            *out = f32::from(q) * d;
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<32> for BlockQ8_1 {
    const TYPE: BlockType = BlockType::Q8_1;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = half(self.d);
        for (&q, out) in self.qs.iter().zip(out) {
            *out = f32::from(q) * d;
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d) && half_is_finite(self.s)
    }
}

impl Block<128> for BlockQ1_0 {
    const TYPE: BlockType = BlockType::Q1_0;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 128]) {
        let d = half(self.d);
        for (&bits, out) in self.qs.iter().zip(out.as_chunks_mut::<8>().0) {
            for (i, out) in out.iter_mut().enumerate() {
                let is_negative = !u32::from(bits) >> i & 1;
                *out = f32::from_bits(d.to_bits() ^ is_negative << 31);
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<64> for BlockQ2_0 {
    const TYPE: BlockType = BlockType::Q2_0;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 64]) {
        let d = half(self.d);
        for (&q, out) in self.qs.iter().zip(out.as_chunks_mut::<4>().0) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = ((i32::from(q) >> (2 * i) & 3) - 1) as f32 * d;
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}
