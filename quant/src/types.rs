//! The table of tensor types. Source: ggml 0.25 (`ggml.h`, `ggml-common.h`); ids are those that a
//! GGUF file stores.

use std::fmt;

macro_rules! block_types {
    ($($variant:ident = $id:literal, $name:literal, $len:literal, $bytes:literal, $doc:literal;)*) => {
        /// A tensor type of a GGUF file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum BlockType {
            $(#[doc = $doc] $variant,)*
        }

        impl BlockType {
            /// Every type, in the order of ids.
            pub const ALL: &'static [BlockType] = &[$(BlockType::$variant,)*];

            /// The id that a GGUF file stores.
            pub const fn id(self) -> u32 {
                match self { $(BlockType::$variant => $id,)* }
            }

            /// The name as users know it, `Q4_K` say.
            pub const fn name(self) -> &'static str {
                match self { $(BlockType::$variant => $name,)* }
            }

            /// Elements in one block; the length of a row is a multiple of it.
            pub const fn block_len(self) -> usize {
                match self { $(BlockType::$variant => $len,)* }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> usize {
                match self { $(BlockType::$variant => $bytes,)* }
            }
        }
    };
}

block_types! {
    F32 = 0, "F32", 1, 4, "IEEE single.";
    F16 = 1, "F16", 1, 2, "IEEE half.";
    Q4_0 = 2, "Q4_0", 32, 18, "4 bits, one scale for 32.";
    Q4_1 = 3, "Q4_1", 32, 20, "4 bits, scale and minimum for 32.";
    Q5_0 = 6, "Q5_0", 32, 22, "5 bits, one scale for 32.";
    Q5_1 = 7, "Q5_1", 32, 24, "5 bits, scale and minimum for 32.";
    Q8_0 = 8, "Q8_0", 32, 34, "8 bits, one scale for 32.";
    Q8_1 = 9, "Q8_1", 32, 36, "8 bits with the sum of the quants (activations).";
    Q2K = 10, "Q2_K", 256, 84, "2 bits, 4-bit scales and minimums for 16.";
    Q3K = 11, "Q3_K", 256, 110, "3 bits, 6-bit scales for 16.";
    Q4K = 12, "Q4_K", 256, 144, "4 bits, 6-bit scales and minimums for 32.";
    Q5K = 13, "Q5_K", 256, 176, "5 bits, 6-bit scales and minimums for 32.";
    Q6K = 14, "Q6_K", 256, 210, "6 bits, 8-bit scales for 16.";
    Q8K = 15, "Q8_K", 256, 292, "8 bits with sums of 16 (activations).";
    Iq2Xxs = 16, "IQ2_XXS", 256, 66, "2.06 bits, codebook of 256.";
    Iq2Xs = 17, "IQ2_XS", 256, 74, "2.31 bits, codebook of 512.";
    Iq3Xxs = 18, "IQ3_XXS", 256, 98, "3.06 bits, codebook of 256.";
    Iq1S = 19, "IQ1_S", 256, 50, "1.56 bits, codebook of 2048.";
    Iq4Nl = 20, "IQ4_NL", 32, 18, "4 bits on a non-linear scale.";
    Iq3S = 21, "IQ3_S", 256, 110, "3.44 bits, codebook of 512.";
    Iq2S = 22, "IQ2_S", 256, 82, "2.56 bits, codebook of 1024.";
    Iq4Xs = 23, "IQ4_XS", 256, 136, "4 bits on a non-linear scale, 6-bit scales for 32.";
    I8 = 24, "I8", 1, 1, "Signed integer of 8 bits.";
    I16 = 25, "I16", 1, 2, "Signed integer of 16 bits.";
    I32 = 26, "I32", 1, 4, "Signed integer of 32 bits.";
    I64 = 27, "I64", 1, 8, "Signed integer of 64 bits.";
    F64 = 28, "F64", 1, 8, "IEEE double.";
    Iq1M = 29, "IQ1_M", 256, 56, "1.75 bits, the codebook of IQ1_S.";
    Bf16 = 30, "BF16", 1, 2, "Upper half of an IEEE single.";
    Tq1_0 = 34, "TQ1_0", 256, 54, "Ternary, five digits a byte.";
    Tq2_0 = 35, "TQ2_0", 256, 66, "Ternary, two bits a digit.";
    Mxfp4 = 39, "MXFP4", 32, 17, "E2M1 with a power of two for 32.";
    Nvfp4 = 40, "NVFP4", 64, 36, "E2M1 with an E4M3 scale for 16.";
    Q1_0 = 41, "Q1_0", 128, 18, "1 bit, one scale for 128.";
    Q2_0 = 42, "Q2_0", 64, 18, "2 bits, one scale for 64.";
}

impl BlockType {
    /// The type of an id, if there is one.
    ///
    /// # Errors
    /// The id is unknown, or it was retired by ggml; the message says which and what to do.
    pub fn from_id(id: u32) -> Result<Self, UnknownType> {
        Self::ALL.iter().copied().find(|t| t.id() == id).ok_or(UnknownType { id })
    }

    /// The type of a name, in letters of any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a row of `n` elements; `None` if `n` is not a whole number of blocks or the size
    /// passes 64 bits.
    pub const fn row_bytes(self, n: u64) -> Option<u64> {
        let len = self.block_len() as u64;
        if !n.is_multiple_of(len) {
            return None;
        }
        (n / len).checked_mul(self.block_bytes() as u64)
    }

    /// F32, F16 or BF16: plain numbers that every kernel reads exactly.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A tensor type id that this crate cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownType {
    /// The id in the file.
    pub id: u32,
}

impl fmt::Display for UnknownType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            4 | 5 | 31..=33 => {
                write!(f, "tensor type {} was removed from ggml: quantize the model again as Q4_0", self.id)
            }
            36..=38 => write!(f, "tensor type {} was removed from ggml: quantize the model again as IQ4_NL", self.id),
            id => write!(f, "unknown tensor type {id}"),
        }
    }
}

impl std::error::Error for UnknownType {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_found_again() {
        for (i, &t) in BlockType::ALL.iter().enumerate() {
            assert_eq!(BlockType::from_id(t.id()), Ok(t));
            assert_eq!(BlockType::from_name(&t.name().to_lowercase()), Some(t));
            assert!(i == 0 || BlockType::ALL[i - 1].id() < t.id());
        }
        for id in [4, 5, 31, 33, 36, 38, 43, 200, u32::MAX] {
            assert_eq!(BlockType::from_id(id), Err(UnknownType { id }));
        }
    }

    #[test]
    fn a_row_is_a_whole_number_of_blocks() {
        assert_eq!(BlockType::Q4K.row_bytes(512), Some(288));
        assert_eq!(BlockType::Q4_0.row_bytes(33), None);
        assert_eq!(BlockType::F64.row_bytes(u64::MAX), None);
    }
}
