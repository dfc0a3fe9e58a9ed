//! The ternary formats TQ1_0 and TQ2_0: values of -d, 0 and d.

use super::{Block, block_struct, half, half_is_finite};
use crate::BlockType;

block_struct! {
    /// 256 values `(t - 1) * d`, five base-3 digits t a byte (four in the last bytes).
    BlockTq1_0: Tq1_0, 256 {
        /// Digits of elements 0 to 239; byte b's digit n is element 32n + b of the
        /// first 160, then 160 + 16n + b - 32.
        qs: [u8; 48],
        /// Digits of elements 240 to 255.
        qh: [u8; 4],
        /// Scale, f16.
        d: [u8; 2],
    }
}

block_struct! {
    /// 256 values `(q - 1) * d`; q = 3 is legal.
    BlockTq2_0: Tq2_0, 256 {
        /// Bits 2j of byte 32h + l are element 128h + 32j + l.
        qs: [u8; 64],
        /// Scale, f16.
        d: [u8; 2],
    }
}

/// Digit `n` of a byte, which is a fraction of 256 in base 3, most significant digit first.
#[inline(always)]
pub fn digit(byte: u8, n: usize) -> i32 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    (i32::from(byte.wrapping_mul(POWERS[n])) * 3) >> 8
}

impl Block<256> for BlockTq1_0 {
    const TYPE: BlockType = BlockType::Tq1_0;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        let (first, rest) = self.qs.split_at(32);
        let (out_first, out) = out.split_at_mut(160);
        let (out_rest, out_high) = out.split_at_mut(80);
        for (bytes, out) in [(first, out_first), (rest, out_rest), (&self.qh, out_high)] {
            for (n, out) in out.chunks_exact_mut(bytes.len()).enumerate() {
                for (&byte, out) in bytes.iter().zip(out) {
                    *out = (digit(byte, n) - 1) as f32 * d;
                }
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<256> for BlockTq2_0 {
    const TYPE: BlockType = BlockType::Tq2_0;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (h, j) = (group / 4, group % 4);
            for (&q, out) in self.qs.as_chunks::<32>().0[h].iter().zip(out) {
                *out = (i32::from(q >> (2 * j) & 3) - 1) as f32 * d;
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}
