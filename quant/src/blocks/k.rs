//! The K formats: 256 elements with a scale (and a minimum) for each 16 or 32 of them, the scales
//! themselves being small integers under one f16.

use super::{Block, block_struct, half, half_is_finite};
use crate::BlockType;

block_struct! {
    /// 256 values `d * scale * q - dmin * min`, 16 to a scale.
    BlockQ2K: Q2K, 256 {
        /// Low nibble: scale; high nibble: minimum; one byte for 16 elements.
        scales: [u8; 16],
        /// Two bits an element: bits 2j of byte 32h + l are element 128h + 32j + l.
        qs: [u8; 64],
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Scale of the minimums, f16.
        dmin: [u8; 2],
    }
}

block_struct! {
    /// 256 values `d * scale * q`, 16 to a scale, q in -4..4.
    BlockQ3K: Q3K, 256 {
        /// Third bits: bit 4h + j of byte l is that of element 128h + 32j + l.
        hmask: [u8; 32],
        /// Low two bits, as in Q2_K.
        qs: [u8; 64],
        /// Sixteen 6-bit scales; see [`BlockQ3K::scale`].
        scales: [u8; 12],
        /// Scale of the scales, f16.
        d: [u8; 2],
    }
}

block_struct! {
    /// 256 values `d * scale * q - dmin * min`, 32 to a scale.
    BlockQ4K: Q4K, 256 {
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Scale of the minimums, f16.
        dmin: [u8; 2],
        /// Eight 6-bit scales and eight 6-bit minimums; see [`scales_and_mins`].
        scales: [u8; 12],
        /// Byte 32p + l: element 64p + l in the low nibble, 64p + 32 + l in the high one.
        qs: [u8; 128],
    }
}

block_struct! {
    /// 256 values `d * scale * q - dmin * min`, 32 to a scale.
    BlockQ5K: Q5K, 256 {
        /// Scale of the scales, f16.
        d: [u8; 2],
        /// Scale of the minimums, f16.
        dmin: [u8; 2],
        /// Scales and minimums as in Q4_K.
        scales: [u8; 12],
        /// Fifth bits: bit s of byte l is that of element 32s + l.
        qh: [u8; 32],
        /// Low nibbles as in Q4_K.
        qs: [u8; 128],
    }
}

block_struct! {
    /// 256 values `d * scale * q`, 16 to a scale, q in -32..32.
    BlockQ6K: Q6K, 256 {
        /// Low nibbles: for element 128h + 32j + l, nibble j / 2 of byte 64h + 32 (j % 2) + l.
        ql: [u8; 128],
        /// Upper two bits: for the same element, bits 2j of byte 32h + l.
        qh: [u8; 64],
        /// Scales, one for 16 elements.
        scales: [i8; 16],
        /// Scale of the scales, f16.
        d: [u8; 2],
    }
}

block_struct! {
    /// 256 activations `d * q`.
    BlockQ8K: Q8K, 256 {
        /// Scale, **f32**.
        d: [u8; 4],
        /// Quants.
        qs: [i8; 256],
        /// Sums of 16 quants, i16.
        bsums: [[u8; 2]; 16],
    }
}

/// The eight scales and eight minimums of Q4_K and Q5_K out of their 12 bytes.
#[inline(always)]
pub fn scales_and_mins(s: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = s[i] & 63;
        mins[i] = s[i + 4] & 63;
        scales[i + 4] = (s[i + 8] & 15) | (s[i] >> 6) << 4;
        mins[i + 4] = (s[i + 8] >> 4) | (s[i + 4] >> 6) << 4;
    }
    (scales, mins)
}

impl BlockQ3K {
    /// The signed scale of elements 16k to 16k + 15, -32..32.
    #[inline(always)]
    pub fn scale(&self, k: usize) -> i8 {
        let low = if k < 8 { self.scales[k] & 15 } else { self.scales[k - 8] >> 4 };
        let high = self.scales[8 + k % 4] >> (2 * (k / 4)) & 3;
        (low | high << 4) as i8 - 32
    }
}

impl BlockQ8K {
    /// The scale of the quants.
    #[inline(always)]
    pub fn scale(&self) -> f32 {
        f32::from_le_bytes(self.d)
    }
}

impl Block<256> for BlockQ2K {
    const TYPE: BlockType = BlockType::Q2K;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        for (k, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (h, j) = (k / 8, k / 2 % 4);
            let scale = d * f32::from(self.scales[k] & 15);
            let min = dmin * f32::from(self.scales[k] >> 4);
            // a slice without an end: the compiler unrolls the loop over an array of 16 into single steps
            for (&q, out) in self.qs[32 * h + 16 * (k % 2)..].iter().zip(out) {
                *out = scale * f32::from(q >> (2 * j) & 3) - min;
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d) && half_is_finite(self.dmin)
    }
}

impl Block<256> for BlockQ3K {
    const TYPE: BlockType = BlockType::Q3K;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        for (s, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let mut quants = self.qs.as_chunks::<32>().0[s / 4].map(|q| q >> (2 * (s % 4)) & 3);
            for (q, high) in quants.iter_mut().zip(&self.hmask) {
                *q |= (high >> s & 1) << 2;
            }
            let halves = quants.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0);
            for ((quants, out), k) in halves.zip(2 * s..) {
                let scale = d * f32::from(self.scale(k));
                *out = quants.map(|q| scale * (i32::from(q) - 4) as f32);
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<256> for BlockQ4K {
    const TYPE: BlockType = BlockType::Q4K;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        let (scales, mins) = scales_and_mins(&self.scales);
        for (s, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = (d * f32::from(scales[s]), dmin * f32::from(mins[s]));
            for (&q, out) in self.qs.as_chunks::<32>().0[s / 2].iter().zip(out) {
                *out = scale * f32::from(q >> (4 * (s % 2)) & 15) - min;
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d) && half_is_finite(self.dmin)
    }
}

impl Block<256> for BlockQ5K {
    const TYPE: BlockType = BlockType::Q5K;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        let (scales, mins) = scales_and_mins(&self.scales);
        for (s, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = (d * f32::from(scales[s]), dmin * f32::from(mins[s]));
            for ((&low, &high), out) in self.qs.as_chunks::<32>().0[s / 2].iter().zip(&self.qh).zip(out) {
                let q = (low >> (4 * (s % 2)) & 15) | (high >> s & 1) << 4;
                *out = scale * f32::from(q) - min;
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d) && half_is_finite(self.dmin)
    }
}

impl Block<256> for BlockQ6K {
    const TYPE: BlockType = BlockType::Q6K;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = half(self.d);
        for (k, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (h, j) = (k / 8, k / 2 % 4);
            let scale = d * f32::from(self.scales[k]);
            let low = &self.ql.as_chunks::<16>().0[4 * h + 2 * (j % 2) + k % 2];
            let high = &self.qh.as_chunks::<16>().0[2 * h + k % 2];
            for ((&low, &high), out) in low.iter().zip(high).zip(out) {
                let q = (low >> (4 * (j / 2)) & 15) | (high >> (2 * j) & 3) << 4;
                *out = scale * (i32::from(q) - 32) as f32;
            }
        }
    }

    fn has_finite_scales(&self) -> bool {
        half_is_finite(self.d)
    }
}

impl Block<256> for BlockQ8K {
    const TYPE: BlockType = BlockType::Q8K;

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.scale();
        for (&q, out) in self.qs.iter().zip(out) {
            *out = d * f32::from(q);
        }
    }

    fn has_finite_scales(&self) -> bool {
        self.scale().is_finite()
    }
}
