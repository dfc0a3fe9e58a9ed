//! The block formats: one struct per format, with the bytes of a block in file order, and its exact
//! dequantization. Source of layouts and formulas: ggml 0.25 (`ggml-common.h`, `ggml-quants.c`).
//!
//! Fields are byte arrays, so that every struct has alignment 1: blocks of a mapped file lie anywhere.
//! All arithmetic is f32, each operation rounded in the order written: the values equal ggml's bit
//! for bit.

pub mod iq;
pub mod k;
pub mod legacy;
pub mod mx;
pub mod tq;

use crate::BlockType;
use bytemuck::Pod;
use half::f16;

/// One block of `N` elements.
pub trait Block<const N: usize>: Pod {
    /// The tensor type whose rows consist of these blocks.
    const TYPE: BlockType;

    /// Writes the block's values, `[N]`. Inlined everywhere, so that a caller compiled for more
    /// instructions than the crate gets loops that use them.
    fn dequantize(&self, out: &mut [f32; N]);

    /// Whether every scale of the block is a number and finite; quants are finite by nature.
    fn has_finite_scales(&self) -> bool;
}

/// Something done with the block struct of a type that is known only while running.
pub trait BlockVisitor {
    /// What it gives.
    type Output;

    /// Does it for blocks `B` of `N` elements.
    fn visit<B: Block<N>, const N: usize>(self) -> Self::Output;
}

/// Calls the visitor with the block struct of `ty`; `None` for plain numbers (F32, I8 and so on).
pub fn visit_blocks<V: BlockVisitor>(ty: BlockType, v: V) -> Option<V::Output> {
    Some(match ty {
        BlockType::Q4_0 => v.visit::<legacy::BlockQ4_0, _>(),
        BlockType::Q4_1 => v.visit::<legacy::BlockQ4_1, _>(),
        BlockType::Q5_0 => v.visit::<legacy::BlockQ5_0, _>(),
        BlockType::Q5_1 => v.visit::<legacy::BlockQ5_1, _>(),
        BlockType::Q8_0 => v.visit::<legacy::BlockQ8_0, _>(),
        BlockType::Q8_1 => v.visit::<legacy::BlockQ8_1, _>(),
        BlockType::Q1_0 => v.visit::<legacy::BlockQ1_0, _>(),
        BlockType::Q2_0 => v.visit::<legacy::BlockQ2_0, _>(),
        BlockType::Q2K => v.visit::<k::BlockQ2K, _>(),
        BlockType::Q3K => v.visit::<k::BlockQ3K, _>(),
        BlockType::Q4K => v.visit::<k::BlockQ4K, _>(),
        BlockType::Q5K => v.visit::<k::BlockQ5K, _>(),
        BlockType::Q6K => v.visit::<k::BlockQ6K, _>(),
        BlockType::Q8K => v.visit::<k::BlockQ8K, _>(),
        BlockType::Iq2Xxs => v.visit::<iq::BlockIq2Xxs, _>(),
        BlockType::Iq2Xs => v.visit::<iq::BlockIq2Xs, _>(),
        BlockType::Iq2S => v.visit::<iq::BlockIq2S, _>(),
        BlockType::Iq3Xxs => v.visit::<iq::BlockIq3Xxs, _>(),
        BlockType::Iq3S => v.visit::<iq::BlockIq3S, _>(),
        BlockType::Iq1S => v.visit::<iq::BlockIq1S, _>(),
        BlockType::Iq1M => v.visit::<iq::BlockIq1M, _>(),
        BlockType::Iq4Nl => v.visit::<iq::BlockIq4Nl, _>(),
        BlockType::Iq4Xs => v.visit::<iq::BlockIq4Xs, _>(),
        BlockType::Tq1_0 => v.visit::<tq::BlockTq1_0, _>(),
        BlockType::Tq2_0 => v.visit::<tq::BlockTq2_0, _>(),
        BlockType::Mxfp4 => v.visit::<mx::BlockMxfp4, _>(),
        BlockType::Nvfp4 => v.visit::<mx::BlockNvfp4, _>(),
        BlockType::F32 | BlockType::F16 | BlockType::Bf16 | BlockType::F64 => return None,
        BlockType::I8 | BlockType::I16 | BlockType::I32 | BlockType::I64 => return None,
    })
}

/// A little-endian half as f32, exactly.
#[inline]
pub fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// Whether the bits are those of a finite half: an exponent below 31.
#[inline]
pub(crate) fn half_is_finite(bytes: [u8; 2]) -> bool {
    bytes[1] & 0x7c != 0x7c
}

/// Declares a block struct and checks its size against the table of types.
macro_rules! block_struct {
    ($(#[$doc:meta])* $name:ident: $ty:ident, $len:literal { $($(#[$fdoc:meta])* $field:ident: $fty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $fty,)*
        }

        impl $name {
            /// Elements of a block.
            pub const LEN: usize = $len;
        }

        const _: () = assert!(size_of::<$name>() == $crate::BlockType::$ty.block_bytes());
        const _: () = assert!(align_of::<$name>() == 1);
        const _: () = assert!($len == $crate::BlockType::$ty.block_len());
    };
}
pub(crate) use block_struct;
