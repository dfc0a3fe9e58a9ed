//! Dequantization of whole rows, by type.

use crate::BlockType;
use crate::blocks::{Block, BlockVisitor, visit_blocks};
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
        _ => visit_blocks(ty, Dequantize { bytes, out }).expect("all types of plain numbers are above"),
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
        _ => visit_blocks(ty, FirstBadScale { bytes }).flatten(),
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

struct Dequantize<'a> {
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl BlockVisitor for Dequantize<'_> {
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

impl BlockVisitor for FirstBadScale<'_> {
    type Output = Option<usize>;

    fn visit<B: Block<N>, const N: usize>(self) -> Option<usize> {
        let mut blocks = self.bytes.chunks_exact(size_of::<B>());
        blocks.position(|block| !bytemuck::from_bytes::<B>(block).has_finite_scales())
    }
}
