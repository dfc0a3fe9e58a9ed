//! Quantization of whole rows, by type, with ggml's bytes.

mod codebook;
mod dispatch;
mod few;
mod grid;
mod iq1;
mod iq4;
mod k;
mod lanes;
mod legacy;
mod mx;
mod rows;
mod search;

use crate::BlockType;
use dispatch::Set;
use half::f16;
use rows::Rows;
use std::fmt;

/// Quantizes whole rows to `ty`.
///
/// - `x`: [n_row, row_len]
/// - `importance`: `[row_len]`, how much the error of each column weighs; types that cannot use it
///   ignore it.
/// - `out`: the bytes of the rows' blocks, in order.
///
/// The bytes are those of ggml 0.25 (its x86-64 build) on every CPU. A block in which a number is not
/// finite, or so great or small that sums of products leave f32's range, gets levels without meaning;
/// its scale may be infinite or NaN ([`crate::first_bad_scale`] finds it). Other blocks of the row are
/// not affected, except in Q4_0 to Q5_1 with importance, which weigh by the whole row.
///
/// # Errors
/// Lengths that do not fit, a type that is not quantized to, or a missing importance.
pub fn quantize(
    ty: BlockType,
    x: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantizeError> {
    let set = Set::available().next().unwrap_or(Set::Baseline);
    quantize_with(set, ty, x, row_len, importance, out)
}

fn quantize_with(
    set: Set,
    ty: BlockType,
    x: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantizeError> {
    let error = |kind| Err(QuantizeError { ty, kind });
    if !ty.can_quantize() {
        return error(QuantizeErrorKind::Type);
    }
    let whole_rows = row_len > 0 && x.len().is_multiple_of(row_len) || x.is_empty();
    if !whole_rows || !row_len.is_multiple_of(ty.block_len()) {
        return error(QuantizeErrorKind::RowLength { n: x.len(), row_len });
    }
    let n_bytes = (x.len() / ty.block_len()).checked_mul(ty.block_bytes());
    if n_bytes != Some(out.len()) {
        return error(QuantizeErrorKind::OutputLength { n: x.len(), n_bytes: out.len() });
    }
    match importance {
        Some(q) if q.len() != row_len => {
            return error(QuantizeErrorKind::ImportanceLength { n: q.len(), row_len });
        }
        None if ty.needs_importance() => return error(QuantizeErrorKind::ImportanceMissing),
        _ => {}
    }
    let rows = Rows { x, row_len, importance };
    match ty {
        BlockType::F32 => numbers(x, out, f32::to_le_bytes),
        BlockType::F16 => numbers(x, out, |v| f16::from_f32(v).to_le_bytes()),
        BlockType::Bf16 => numbers(x, out, bf16_bytes),
        BlockType::Q4_0 => set.run::<legacy::Q4_0>(&rows, out),
        BlockType::Q4_1 => set.run::<legacy::Q4_1>(&rows, out),
        BlockType::Q5_0 => set.run::<legacy::Q5_0>(&rows, out),
        BlockType::Q5_1 => set.run::<legacy::Q5_1>(&rows, out),
        BlockType::Q8_0 => set.run::<legacy::Q8_0>(&Rows { importance: None, ..rows }, out),
        BlockType::Q1_0 => set.run::<few::Q1_0>(&rows, out),
        BlockType::Q2_0 => set.run::<few::Q2_0>(&rows, out),
        BlockType::Tq1_0 => set.run::<few::Tq1_0>(&rows, out),
        BlockType::Tq2_0 => set.run::<few::Tq2_0>(&rows, out),
        BlockType::Mxfp4 => set.run::<mx::Mxfp4>(&rows, out),
        BlockType::Nvfp4 => set.run::<mx::Nvfp4>(&rows, out),
        BlockType::Iq4Nl => set.run::<iq4::Iq4Nl>(&rows, out),
        BlockType::Iq4Xs => set.run::<iq4::Iq4Xs>(&rows, out),
        BlockType::Q2K => set.run::<k::Q2K>(&rows, out),
        BlockType::Q3K => set.run::<k::Q3K>(&rows, out),
        BlockType::Q4K => set.run::<k::Q4K>(&rows, out),
        BlockType::Q5K => set.run::<k::Q5K>(&rows, out),
        BlockType::Q6K => set.run::<k::Q6K>(&rows, out),
        BlockType::Iq2Xxs => set.run::<grid::Iq2Xxs>(&rows, out),
        BlockType::Iq2Xs => set.run::<grid::Iq2Xs>(&rows, out),
        BlockType::Iq2S => set.run::<grid::Iq2S>(&rows, out),
        BlockType::Iq3Xxs => set.run::<grid::Iq3Xxs>(&rows, out),
        BlockType::Iq3S => set.run::<grid::Iq3S>(&rows, out),
        BlockType::Iq1S => set.run::<iq1::Iq1S>(&rows, out),
        BlockType::Iq1M => set.run::<iq1::Iq1M>(&rows, out),
        BlockType::Q8_1 | BlockType::Q8K | BlockType::F64 => return error(QuantizeErrorKind::Type),
        BlockType::I8 | BlockType::I16 | BlockType::I32 | BlockType::I64 => return error(QuantizeErrorKind::Type),
    }
    Ok(())
}

fn numbers<const N: usize>(x: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (&x, out) in x.iter().zip(out.as_chunks_mut().0) {
        *out = bytes(x);
    }
}

/// Half to even; a NaN stays one and becomes quiet.
fn bf16_bytes(v: f32) -> [u8; 2] {
    let bits = v.to_bits();
    let upper = if v.is_nan() { bits >> 16 | 64 } else { (bits + (0x7fff + (bits >> 16 & 1))) >> 16 };
    (upper as u16).to_le_bytes()
}

impl BlockType {
    /// Whether [`quantize`] makes this type: not integers, F64, and what exists for activations only.
    pub const fn can_quantize(self) -> bool {
        use BlockType as T;
        !matches!(self, T::Q8_1 | T::Q8K | T::I8 | T::I16 | T::I32 | T::I64 | T::F64)
    }

    /// Whether [`quantize`] refuses to make this type without importance: these have so few bits that
    /// ggml knows no way without.
    pub const fn needs_importance(self) -> bool {
        matches!(self, BlockType::Iq2Xxs | BlockType::Iq2Xs | BlockType::Iq1S)
    }
}

/// A call of [`quantize`] that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizeError {
    /// The type asked for.
    pub ty: BlockType,
    /// What is wrong.
    pub kind: QuantizeErrorKind,
}

/// What is wrong with a call of [`quantize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuantizeErrorKind {
    /// Nothing is quantized to the type: see [`BlockType::can_quantize`].
    Type,
    /// The type needs importance: see [`BlockType::needs_importance`].
    ImportanceMissing,
    /// The numbers are not whole rows, or rows not whole blocks.
    RowLength {
        /// Numbers given.
        n: usize,
        /// Length of a row.
        row_len: usize,
    },
    /// The importance has not one number for each column.
    ImportanceLength {
        /// Numbers given.
        n: usize,
        /// Length of a row.
        row_len: usize,
    },
    /// The output has not the length of the blocks.
    OutputLength {
        /// Numbers to quantize.
        n: usize,
        /// Bytes given.
        n_bytes: usize,
    },
}

impl fmt::Display for QuantizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use QuantizeErrorKind as K;
        let ty = self.ty;
        match self.kind {
            K::Type => write!(f, "nothing can be quantized to {ty}"),
            K::ImportanceMissing => write!(f, "{ty} needs an importance matrix"),
            K::RowLength { n, row_len } => {
                write!(f, "{n} numbers are not whole rows of {row_len}, or these not whole blocks of {ty}")
            }
            K::ImportanceLength { n, row_len } => write!(f, "{n} weights of columns for rows of {row_len}"),
            K::OutputLength { n, n_bytes } => write!(f, "{n} numbers do not become {n_bytes} bytes of {ty}"),
        }
    }
}

impl std::error::Error for QuantizeError {}

#[cfg(test)]
mod tests;
