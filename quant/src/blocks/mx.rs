//! The 4-bit floating-point formats MXFP4 and NVFP4: E2M1 elements under a power of two or under an
//! E4M3 scale.

use super::{Block, block_struct};
use crate::BlockType;
use crate::grids::FP4_DOUBLED;

block_struct! {
    /// 32 E2M1 values times `2^(e - 127)`.
    BlockMxfp4: Mxfp4, 32 {
        /// Exponent, E8M0.
        e: u8,
        /// Byte j: element j in the low nibble, element j + 16 in the high one.
        qs: [u8; 16],
    }
}

block_struct! {
    /// 64 E2M1 values, 16 to a scale.
    BlockNvfp4: Nvfp4, 64 {
        /// Scales, unsigned E4M3.
        scales: [u8; 4],
        /// Byte 8s + j: element 16s + j in the low nibble, element 16s + 8 + j in the high one.
        qs: [u8; 32],
    }
}

impl BlockMxfp4 {
    /// `2^(e - 128)`: half the scale, as the elements' table is doubled. Subnormal for e < 2.
    #[inline(always)]
    pub fn half_scale(&self) -> f32 {
        match self.e {
            0 => f32::from_bits(1 << 21),
            1 => f32::from_bits(1 << 22),
            e => f32::from_bits((u32::from(e) - 1) << 23),
        }
    }
}

/// Half the value of an unsigned E4M3 number with bias 7. Bit 7 is ignored; 0x7f, which is NaN in
/// the OCP format, counts as zero, as in ggml.
#[inline(always)]
pub const fn half_e4m3(byte: u8) -> f32 {
    let (exp, man) = (byte >> 3 & 15, byte & 7);
    match byte & 0x7f {
        0 | 0x7f => 0.0,
        1..8 => man as f32 * (1.0 / 1024.0),
        _ => f32::from_bits((exp as u32 + 127 - 8) << 23 | (man as u32) << 20),
    }
}

impl Block<32> for BlockMxfp4 {
    const TYPE: BlockType = BlockType::Mxfp4;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let scale = self.half_scale();
        let (low, high) = out.split_at_mut(16);
        for ((&q, low), high) in self.qs.iter().zip(low).zip(high) {
            *low = f32::from(FP4_DOUBLED[usize::from(q & 15)]) * scale;
            *high = f32::from(FP4_DOUBLED[usize::from(q >> 4)]) * scale;
        }
    }

    fn has_finite_scales(&self) -> bool {
        self.e != 255
    }
}

impl Block<64> for BlockNvfp4 {
    const TYPE: BlockType = BlockType::Nvfp4;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 64]) {
        for (s, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = half_e4m3(self.scales[s]);
            let (low, high) = out.split_at_mut(8);
            for ((&q, low), high) in self.qs.as_chunks::<8>().0[s].iter().zip(low).zip(high) {
                *low = f32::from(FP4_DOUBLED[usize::from(q & 15)]) * scale;
                *high = f32::from(FP4_DOUBLED[usize::from(q >> 4)]) * scale;
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        true
    }
}
