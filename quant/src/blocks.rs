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

    /// Writes the block's values, [N].
    fn dequantize(&self, out: &mut [f32; N]);

    /// Whether every scale of the block is a number and finite; quants are finite by nature.
    fn has_finite_scales(&self) -> bool;
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
