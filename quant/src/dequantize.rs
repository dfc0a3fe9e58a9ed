//! Dequantization of whole rows, by type.

use crate::BlockType;
use crate::blocks::{Block, iq, k, legacy, mx, tq};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::fmt;

/// Writes the values of `bytes`, blocks of type `ty` in file order, to `out`. Integers and F64 are
/// rounded to the nearest f32.
///
/// # Errors
/// `bytes` is not a whole number of blocks, or `out` has not as many elements as they.
pub fn dequantize(ty: BlockType, bytes: &[u8], out: &mut [f32]) -> Result<(), DequantizeError> {
    let n_block = bytes.len() / ty.block_bytes();
    if !bytes.len().is_multiple_of(ty.block_bytes()) || n_block.checked_mul(ty.block_len()) != Some(out.len()) {
        return Err(DequantizeError { ty, n_bytes: bytes.len(), n_out: out.len() });
    }
    match ty {
        BlockType::F32 => numbers(bytes, out, f32::from_le_bytes),
        BlockType::F16 => match bytemuck::try_cast_slice::<u8, f16>(bytes) {
            Ok(halves) if cfg!(target_endian = "little") => halves.convert_to_f32_slice(out),
            _ => numbers(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        },
        BlockType::Bf16 => numbers(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        BlockType::F64 => numbers(bytes, out, |b| f64::from_le_bytes(b) as f32),
        BlockType::I8 => numbers(bytes, out, |b| f32::from(i8::from_le_bytes(b))),
        BlockType::I16 => numbers(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
        BlockType::I32 => numbers(bytes, out, |b| i32::from_le_bytes(b) as f32),
        BlockType::I64 => numbers(bytes, out, |b| i64::from_le_bytes(b) as f32),
        _ => with_blocks(ty, Dequantize { bytes, out }),
    }
    Ok(())
}

/// The index of the first block with a scale that is infinite or not a number, if there is one: such
/// a tensor is corrupt. Numbers without blocks (F16 and so on) are blocks of their own. Bytes behind
/// the last whole block are not looked at.
pub fn first_bad_scale(ty: BlockType, bytes: &[u8]) -> Option<usize> {
    fn first<const N: usize>(bytes: &[u8], is_finite: impl Fn([u8; N]) -> bool) -> Option<usize> {
        bytes.as_chunks().0.iter().position(|&b| !is_finite(b))
    }
    match ty {
        BlockType::F32 => first(bytes, |b| f32::from_le_bytes(b).is_finite()),
        BlockType::F16 => first(bytes, |b| f16::from_le_bytes(b).is_finite()),
        BlockType::Bf16 => first(bytes, |b| bf16::from_le_bytes(b).is_finite()),
        BlockType::F64 => first(bytes, |b| f64::from_le_bytes(b).is_finite()),
        BlockType::I8 | BlockType::I16 | BlockType::I32 | BlockType::I64 => None,
        _ => with_blocks(ty, FirstBadScale { bytes }),
    }
}

/// The lengths of a call of [`dequantize`] do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DequantizeError {
    /// The type of the blocks.
    pub ty: BlockType,
    /// Bytes given.
    pub n_bytes: usize,
    /// Elements asked for.
    pub n_out: usize,
}

impl fmt::Display for DequantizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {} are not {} elements", self.n_bytes, self.ty, self.n_out)
    }
}

impl std::error::Error for DequantizeError {}

fn numbers<const N: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    for (&b, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = number(b);
    }
}

/// Something done to the blocks of a type that is known only while running.
trait Visit {
    type Output;
    fn visit<B: Block<N>, const N: usize>(self) -> Self::Output;
}

struct Dequantize<'a> {
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl Visit for Dequantize<'_> {
    type Output = ();

    fn visit<B: Block<N>, const N: usize>(self) {
        for (block, out) in self.bytes.chunks_exact(size_of::<B>()).zip(self.out.as_chunks_mut().0) {
            bytemuck::from_bytes::<B>(block).dequantize(out);
        }
    }
}

struct FirstBadScale<'a> {
    bytes: &'a [u8],
}

impl Visit for FirstBadScale<'_> {
    type Output = Option<usize>;

    fn visit<B: Block<N>, const N: usize>(self) -> Option<usize> {
        let mut blocks = self.bytes.chunks_exact(size_of::<B>());
        blocks.position(|block| !bytemuck::from_bytes::<B>(block).has_finite_scales())
    }
}

fn with_blocks<V: Visit>(ty: BlockType, v: V) -> V::Output {
    match ty {
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
        BlockType::F32 | BlockType::F16 | BlockType::Bf16 | BlockType::F64 => unreachable!("plain numbers"),
        BlockType::I8 | BlockType::I16 | BlockType::I32 | BlockType::I64 => unreachable!("plain numbers"),
    }
}
