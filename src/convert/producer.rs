//! Arrays that are made when they are read: a tensor of a file as it lies there, or what is computed from others.
//!
//! A [`Node`] is a flat row of numbers of which any stretch can be read; shapes are [`Lazy`]'s. Everything that moves
//! numbers without changing them (permuted rows, slices, transposition) is one kind of node, a strided view, so memory
//! stays bounded by the stretch that is read, whatever the size of the tensor.

use std::sync::Arc;

use half::{bf16, f16};

use super::safetensors::{Dtype, File};
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::Gguf;
use crate::quant::{self, BlockType};

/// A tensor of a checkpoint or of a GGUF file.
#[derive(Clone, Debug)]
pub(super) enum Leaf {
    /// Tensor `index` of a safetensors file.
    Stored { file: Arc<File>, index: usize },
    /// Tensor `index` of a GGUF file.
    Gguf { file: Arc<Gguf>, index: usize },
}

/// A change of single numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Each {
    /// w + 1: norms whose files hold the difference from 1.
    AddOne,
    /// -exp(w): rates whose files hold the logarithm.
    NegExp,
    /// w times this.
    Times(f64),
}

/// A flat array of numbers.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// As a file holds it.
    Leaf(Leaf),
    /// Computed before.
    Values(Arc<[f32]>),
    /// Element (i, j, ...) of `dims` is element `base + i * strides[0] + j * strides[1] + ...` of `of`.
    View { of: Arc<Node>, dims: Vec<u64>, strides: Vec<u64>, base: u64 },
    /// One after the other, each with its length.
    Joined(Vec<(u64, Node)>),
    /// Each number changed.
    Each(Arc<Node>, Each),
    /// Matrices of `shape` [.., rows, cols]: each tile of `tile` [rows, cols] has one of `scales`
    /// [.., ceil(rows / tile), ceil(cols / tile)].
    Scaled { of: Arc<Node>, shape: [u64; 2], tile: [u64; 2], scales: Arc<[f32]> },
    /// Two tensors of a checkpoint: 16 bytes and one power of two for 32 numbers.
    Mxfp4 { blocks: Leaf, scales: Leaf },
}

/// A tensor that is made when it is read.
#[derive(Clone, Debug)]
pub(super) struct Lazy {
    /// Outermost first.
    pub(super) shape: Vec<u64>,
    pub(super) node: Node,
}

impl Leaf {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Stored { file, index } => file.bytes(&file.tensors[*index]),
            Self::Gguf { file, index } => file.bytes(&file.tensors()[*index]),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Stored { file, index } => &file.tensors[*index].name,
            Self::Gguf { file, index } => &file.tensors()[*index].name,
        }
    }

    /// The type of GGUF that has the same bytes.
    fn block_type(&self) -> Option<BlockType> {
        match self {
            Self::Gguf { file, index } => Some(file.tensors()[*index].ty),
            Self::Stored { file, index } => match file.tensors[*index].dtype {
                Dtype::F32 => Some(BlockType::F32),
                Dtype::F16 => Some(BlockType::F16),
                Dtype::Bf16 => Some(BlockType::Bf16),
                _ => None,
            },
        }
    }

    /// The smallest type of GGUF that loses nothing of its numbers, before factors.
    pub(super) fn natural(&self) -> BlockType {
        match self {
            Self::Stored { file, index } if width(file.tensors[*index].dtype) == Some(1) => BlockType::Bf16,
            _ => self.block_type().unwrap_or(BlockType::F32),
        }
    }

    fn read(&self, start: u64, out: &mut [f32]) -> Result<()> {
        match self {
            Self::Stored { file, index } => {
                let dtype = file.tensors[*index].dtype;
                let width = width(dtype).ok_or_else(|| self.fault(&format!("{dtype} holds no numbers of a model")))?;
                let bytes = self.stretch(start, out.len(), 1, width)?;
                decode(dtype, bytes, out);
                Ok(())
            }
            Self::Gguf { file, index } => {
                let ty = file.tensors()[*index].ty;
                let bytes = self.stretch(start, out.len(), ty.block_len(), ty.block_bytes())?;
                quant::dequantize(ty, bytes, out).map_err(|e| self.fault(&e.to_string()))
            }
        }
    }

    /// The bytes of `n` numbers from `start` on, where `len` numbers take `width` bytes.
    fn stretch(&self, start: u64, n: usize, len: usize, width: usize) -> Result<&[u8]> {
        let bounds = || {
            let start = usize::try_from(start).ok().filter(|s| s.is_multiple_of(len))?;
            let (first, count) = (start / len, n.is_multiple_of(len).then_some(n / len)?);
            self.bytes().get(first.checked_mul(width)?..)?.get(..count.checked_mul(width)?)
        };
        bounds().ok_or_else(|| self.fault(&format!("{n} numbers from {start} are not whole blocks of it")))
    }

    fn fault(&self, what: &str) -> Error {
        Error::new(ErrorKind::Model, format!("tensor `{}`: {what}", printable(self.name())))
    }
}

/// Bytes of one number of a type that a model's weights may have.
fn width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F64 => Some(8),
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::Bf16 => Some(2),
        Dtype::F8E4m3 | Dtype::F8E5m2 | Dtype::F8E8m0 => Some(1),
        _ => None,
    }
}

/// Whether tensors of this type hold numbers that can be converted.
pub(super) fn is_number(dtype: Dtype) -> bool {
    width(dtype).is_some()
}

#[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds: GGUF models are of single precision")]
fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F64 => each::<8>(bytes, out, |b| f64::from_le_bytes(b) as f32),
        Dtype::F32 => each::<4>(bytes, out, f32::from_le_bytes),
        Dtype::F16 => each::<2>(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::Bf16 => each::<2>(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F8E4m3 => each::<1>(bytes, out, |[b]| e4m3(b)),
        // The upper half of an IEEE half.
        Dtype::F8E5m2 => each::<1>(bytes, out, |[b]| f16::from_bits(u16::from(b) << 8).to_f32()),
        Dtype::F8E8m0 => each::<1>(bytes, out, |[b]| e8m0(b)),
        _ => unreachable!("`width` knows only these"),
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    let (chunks, _) = bytes.as_chunks::<N>();
    for (x, b) in out.iter_mut().zip(chunks) {
        *x = number(*b);
    }
}

/// OCP E4M3: exponent bias 7, no infinities, one NaN of each sign.
fn e4m3(b: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(b >> 3 & 15), f32::from(b & 7));
    let magnitude = match (exponent, b & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        (e, _) => (1.0 + mantissa / 8.0) * 2f32.powi(e - 7),
    };
    if b & 0x80 == 0 { magnitude } else { -magnitude }
}

/// A power of two; 255 is NaN.
fn e8m0(b: u8) -> f32 {
    match b {
        255 => f32::NAN,
        // Below the smallest normal number.
        0 => f32::from_bits(1 << 22),
        b => f32::from_bits(u32::from(b) << 23),
    }
}

impl Node {
    /// Reads the numbers from `start` on that fill `out`.
    pub(super) fn read(&self, start: u64, out: &mut [f32]) -> Result<()> {
        match self {
            Self::Leaf(leaf) => leaf.read(start, out),
            Self::Values(values) => {
                let part = usize::try_from(start).ok().and_then(|s| values.get(s..)?.get(..out.len()));
                out.copy_from_slice(part.ok_or_else(|| outside(start))?);
                Ok(())
            }
            Self::View { of, .. } => {
                let mut at = 0;
                self.runs(start, out.len(), |from, step, n| {
                    let part = out.get_mut(at..at + n).ok_or_else(|| outside(from))?;
                    at += n;
                    if step == 1 { of.read(from, part) } else { of.gather(from, step, part) }
                })
            }
            Self::Joined(parts) => {
                let mut at = 0;
                pieces(parts, start, out.len(), |node, from, n| {
                    let part = out.get_mut(at..at + n).ok_or_else(|| outside(from))?;
                    at += n;
                    node.read(from, part)
                })
            }
            Self::Each(of, change) => {
                of.read(start, out)?;
                match change {
                    Each::AddOne => out.iter_mut().for_each(|x| *x += 1.0),
                    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds")]
                    Each::NegExp => out.iter_mut().for_each(|x| *x = -f64::from(*x).exp() as f32),
                    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds, once")]
                    Each::Times(factor) => out.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32),
                }
                Ok(())
            }
            Self::Scaled { of, shape: [rows, cols], tile, scales } => {
                of.read(start, out)?;
                let per_row = cols.div_ceil(tile[1]);
                let per_matrix = rows.div_ceil(tile[0]) * per_row;
                for (i, x) in (start..).zip(out.iter_mut()) {
                    let (row, col) = (i / cols, i % cols);
                    let at = row / rows * per_matrix + row % rows / tile[0] * per_row + col / tile[1];
                    let scale = usize::try_from(at).ok().and_then(|at| scales.get(at)).ok_or_else(|| outside(at))?;
                    *x *= scale;
                }
                Ok(())
            }
            Self::Mxfp4 { blocks, .. } => {
                let mut raw = Vec::new();
                self.raw(start, out.len(), &mut raw)?;
                quant::dequantize(BlockType::Mxfp4, &raw, out).map_err(|e| blocks.fault(&e.to_string()))
            }
        }
    }

    /// Numbers `from`, `from + step`, ...
    fn gather(&self, from: u64, step: u64, out: &mut [f32]) -> Result<()> {
        if let Self::Leaf(Leaf::Stored { file, index }) = self {
            let stored = &file.tensors[*index];
            let (bytes, width) = (file.bytes(stored), width(stored.dtype));
            for (i, x) in (0u64..).zip(out.iter_mut()) {
                let part = width.and_then(|w| {
                    let at = usize::try_from(from + i * step).ok()?.checked_mul(w)?;
                    bytes.get(at..)?.get(..w)
                });
                decode(stored.dtype, part.ok_or_else(|| outside(from))?, std::slice::from_mut(x));
            }
            return Ok(());
        }
        for (i, x) in (0u64..).zip(out.iter_mut()) {
            self.read(from + i * step, std::slice::from_mut(x))?;
        }
        Ok(())
    }

    /// Runs of a view: for `n` numbers from `start` on, in order, where each stretch begins in what is viewed, how far
    /// its numbers are apart, and how many there are.
    fn runs(&self, start: u64, n: usize, mut run: impl FnMut(u64, u64, usize) -> Result<()>) -> Result<()> {
        let Self::View { dims, strides, base, .. } = self else { return Err(outside(start)) };
        // Trailing dimensions that lie behind one another are one run.
        let mut inner = dims.len().saturating_sub(1);
        let mut len = dims.last().copied().unwrap_or(1);
        let step = strides.last().copied().unwrap_or(1);
        while inner > 0 && strides[inner - 1] == len * step {
            inner -= 1;
            len *= dims[inner];
        }
        let (mut at, end) = (start, start + n as u64);
        while at < end {
            let (mut outer, within) = (at / len, at % len);
            let mut from = base + within * step;
            for (dim, stride) in dims[..inner].iter().zip(&strides[..inner]).rev() {
                from += outer % dim * stride;
                outer /= dim;
            }
            if outer > 0 {
                return Err(outside(at));
            }
            let count = (len - within).min(end - at);
            run(from, step, usize::try_from(count).map_err(|_| outside(at))?)?;
            at += count;
        }
        Ok(())
    }

    /// The type whose bytes can be copied without a loss and without computing.
    pub(super) fn raw_type(&self) -> Option<BlockType> {
        match self {
            Self::Leaf(leaf) => leaf.block_type(),
            Self::Values(_) => Some(BlockType::F32),
            Self::View { of, dims, strides, .. } => {
                let packed = dims.last() == Some(&1) || strides.last() == Some(&1);
                of.raw_type().filter(|_| packed)
            }
            Self::Joined(parts) => {
                let mut types = parts.iter().map(|(_, node)| node.raw_type());
                let first = types.next()?;
                types.all(|t| t == first).then_some(first?)
            }
            Self::Mxfp4 { .. } => Some(BlockType::Mxfp4),
            Self::Each(..) | Self::Scaled { .. } => None,
        }
    }

    /// Appends the bytes of `n` numbers from `start` on, in the type of [`Self::raw_type`].
    pub(super) fn raw(&self, start: u64, n: usize, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Leaf(leaf) => {
                let ty = leaf.block_type().ok_or_else(|| leaf.fault("its bytes are of no GGUF type"))?;
                out.extend(leaf.stretch(start, n, ty.block_len(), ty.block_bytes())?);
                Ok(())
            }
            Self::Values(values) => {
                let part = usize::try_from(start).ok().and_then(|s| values.get(s..)?.get(..n));
                part.ok_or_else(|| outside(start))?.iter().for_each(|x| out.extend(x.to_le_bytes()));
                Ok(())
            }
            Self::View { of, .. } => self.runs(start, n, |from, step, n| {
                if step == 1 {
                    return of.raw(from, n, out);
                }
                (0..n as u64).try_for_each(|i| of.raw(from + i * step, 1, out))
            }),
            Self::Joined(parts) => pieces(parts, start, n, |node, from, n| node.raw(from, n, out)),
            Self::Mxfp4 { blocks, scales } => {
                // Checkpoints put elements 2 j and 2 j + 1 into byte j; ggml elements j and j + 16.
                let bytes = blocks.stretch(start, n, 32, 16)?;
                let scales = scales.stretch(start, n, 32, 1)?;
                for (block, scale) in bytes.as_chunks::<16>().0.iter().zip(scales) {
                    let nibble = |i: usize| if i.is_multiple_of(2) { block[i / 2] & 15 } else { block[i / 2] >> 4 };
                    out.push(*scale);
                    out.extend((0..16).map(|j| nibble(j) | nibble(j + 16) << 4));
                }
                Ok(())
            }
            Self::Each(..) | Self::Scaled { .. } => Err(outside(start)),
        }
    }
}

/// The parts that `n` numbers from `start` on lie in, in order.
fn pieces<'a>(
    parts: &'a [(u64, Node)],
    mut start: u64,
    n: usize,
    mut piece: impl FnMut(&'a Node, u64, usize) -> Result<()>,
) -> Result<()> {
    let mut left = n as u64;
    for (len, node) in parts {
        if start >= *len {
            start -= len;
            continue;
        }
        let count = (len - start).min(left);
        if count == 0 {
            return Ok(());
        }
        piece(node, start, usize::try_from(count).map_err(|_| outside(start))?)?;
        left -= count;
        start = 0;
    }
    if left == 0 { Ok(()) } else { Err(outside(start)) }
}

fn outside(at: u64) -> Error {
    Error::new(ErrorKind::Internal, format!("a conversion reads number {at} of a tensor that has fewer"))
}

impl Lazy {
    /// How many numbers it has; shapes have passed a gate, so their product fits.
    pub(super) fn len(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Other dimensions over the same numbers; `None` when there are not as many.
    pub(super) fn reshape(mut self, shape: &[u64]) -> Option<Self> {
        let n = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?;
        (n == self.len()).then(|| {
            self.shape = shape.to_vec();
            self
        })
    }

    /// Dimension `i` of the result is dimension `order[i]` of this.
    pub(super) fn permute(self, order: &[usize]) -> Option<Self> {
        let strides = packed(&self.shape);
        let mut seen: Vec<usize> = order.to_vec();
        seen.sort_unstable();
        if !seen.into_iter().eq(0..self.shape.len()) {
            return None;
        }
        let dims: Vec<u64> = order.iter().map(|&i| self.shape[i]).collect();
        let strides = order.iter().map(|&i| strides[i]).collect();
        let node = Node::View { of: Arc::new(self.node), dims: dims.clone(), strides, base: 0 };
        Some(Self { shape: dims, node })
    }

    /// `n` indices of dimension `axis`, from `start` on.
    pub(super) fn slice(self, axis: usize, start: u64, n: u64) -> Option<Self> {
        let strides = packed(&self.shape);
        let mut dims = self.shape;
        let dim = dims.get_mut(axis)?;
        if start.checked_add(n)? > *dim {
            return None;
        }
        *dim = n;
        let node = Node::View { of: Arc::new(self.node), dims: dims.clone(), base: start * strides[axis], strides };
        Some(Self { shape: dims, node })
    }

    /// One behind the other along the outermost dimension; the others must be equal.
    pub(super) fn join(parts: Vec<Self>) -> Option<Self> {
        let mut shape = parts.first()?.shape.clone();
        if shape.is_empty() || parts.iter().any(|p| p.shape.get(1..) != shape.get(1..)) {
            return None;
        }
        shape[0] = parts.iter().try_fold(0u64, |n, p| n.checked_add(p.shape[0]))?;
        let node = Node::Joined(parts.into_iter().map(|p| (p.len(), p.node)).collect());
        Some(Self { shape, node })
    }

    /// `n` rows, those that are lacking as the first one.
    pub(super) fn fill_rows(self, n: u64) -> Option<Self> {
        let rows = *self.shape.first()?;
        if rows >= n {
            return Some(self);
        }
        let first = self.clone().slice(0, 0, 1)?;
        let (mut dims, mut strides) = (first.shape, packed(&self.shape));
        (dims[0], strides[0]) = (n - rows, 0);
        let node = Node::View { of: Arc::new(first.node), dims: dims.clone(), strides, base: 0 };
        Self::join(vec![self, Self { shape: dims, node }])
    }

    /// Arrays of one shape become one with a further outermost dimension.
    pub(super) fn stack(parts: Vec<Self>) -> Option<Self> {
        let with_one = |p: Self| {
            let shape: Vec<u64> = std::iter::once(1).chain(p.shape.iter().copied()).collect();
            p.reshape(&shape)
        };
        Self::join(parts.into_iter().map(with_one).collect::<Option<_>>()?)
    }

    /// Each number changed.
    pub(super) fn each(self, change: Each) -> Self {
        Self { shape: self.shape, node: Node::Each(Arc::new(self.node), change) }
    }
}

/// Strides of numbers that lie one behind the other.
fn packed(shape: &[u64]) -> Vec<u64> {
    let mut strides: Vec<u64> = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(shape: &[u64]) -> Lazy {
        let n = shape.iter().product::<u64>();
        Lazy { shape: shape.to_vec(), node: Node::Values((0..n).map(|x| x as f32).collect()) }
    }

    fn all(lazy: &Lazy) -> Vec<f32> {
        let mut out = vec![0.0; lazy.len() as usize];
        lazy.node.read(0, &mut out).unwrap();
        out
    }

    #[test]
    fn numbers_move_as_their_indices_say() {
        let t = values(&[2, 3]).permute(&[1, 0]).unwrap();
        assert_eq!((all(&t), t.shape), (vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0], vec![3, 2]));
        assert_eq!(all(&values(&[4, 2]).slice(0, 1, 2).unwrap()), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(all(&values(&[2, 4]).slice(1, 1, 2).unwrap()), [1.0, 2.0, 5.0, 6.0]);
        let joined = Lazy::join(vec![values(&[1, 2]), values(&[2, 2])]).unwrap();
        assert_eq!((all(&joined), joined.shape), (vec![0.0, 1.0, 0.0, 1.0, 2.0, 3.0], vec![3, 2]));
        assert_eq!(Lazy::stack(vec![values(&[2]), values(&[2])]).unwrap().shape, [2, 2]);
        assert_eq!(all(&values(&[2]).each(Each::AddOne)), [1.0, 2.0]);
        assert_eq!(all(&values(&[2]).each(Each::NegExp)), [-1.0, -std::f32::consts::E]);
        assert_eq!(all(&values(&[2]).each(Each::Times(0.5))), [0.0, 0.5]);
        let filled = values(&[2, 2]).fill_rows(4).unwrap();
        assert_eq!((all(&filled), filled.shape), (vec![0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 0.0, 1.0], vec![4, 2]));
        assert_eq!(values(&[2, 2]).fill_rows(1).unwrap().shape, [2, 2]);
        assert!(values(&[2, 3]).permute(&[0, 0]).is_none());
        assert!(values(&[2, 3]).reshape(&[4, 2]).is_none());
        assert!(values(&[2, 3]).slice(0, 1, 2).is_none());
        assert!(Lazy::join(vec![values(&[1, 2]), values(&[1, 3])]).is_none());
    }

    #[test]
    fn bytes_of_eight_bits_are_the_numbers_of_their_standards() {
        assert_eq!([0x38, 0x7e, 0x01, 0xb8, 0x08].map(e4m3), [1.0, 448.0, 2f32.powi(-9), -1.0, 2f32.powi(-6)]);
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        assert_eq!([127, 0, 254].map(e8m0), [1.0, 2f32.powi(-127), 2f32.powi(127)]);
        let mut out = [0.0; 2];
        decode(Dtype::F8E5m2, &[0x3c, 0xc0], &mut out);
        assert_eq!(out, [1.0, -2.0]);
    }

    #[test]
    fn tiles_have_their_own_scale() {
        let scales: Arc<[f32]> = [1.0, 10.0, 100.0, 1000.0].into();
        let of = Arc::new(Node::Values([1.0; 12].into()));
        let node = Node::Scaled { of, shape: [3, 4], tile: [2, 2], scales };
        let mut out = [0.0; 12];
        node.read(0, &mut out).unwrap();
        assert_eq!(out, [1.0, 1.0, 10.0, 10.0, 1.0, 1.0, 10.0, 10.0, 100.0, 100.0, 1000.0, 1000.0]);
    }

    proptest! {
        #[test]
        fn any_stretch_reads_as_the_whole(a in 1u64..5, b in 1u64..5, c in 1u64..5, order in 0usize..6, cut in 0usize..100, n in 0usize..100) {
            let order = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][order];
            let t = values(&[a, b, c]).permute(&order).unwrap();
            let t = Lazy::join(vec![t.clone(), t]).unwrap();
            let whole = all(&t);
            let strides = packed(&[a, b, c]);
            let (d, s): (Vec<u64>, Vec<u64>) = order.iter().map(|&i| ([a, b, c][i], strides[i])).unzip();
            for (i, x) in (0u64..).zip(&whole[..whole.len() / 2]) {
                let want = i / (d[1] * d[2]) * s[0] + i / d[2] % d[1] * s[1] + i % d[2] * s[2];
                prop_assert_eq!(*x, want as f32);
            }
            let start = cut % whole.len();
            let n = n.min(whole.len() - start);
            let mut part = vec![0.0; n];
            t.node.read(start as u64, &mut part).unwrap();
            prop_assert_eq!(&part[..], &whole[start..start + n]);
            if t.node.raw_type().is_some() {
                let mut raw = Vec::new();
                t.node.raw(start as u64, n, &mut raw).unwrap();
                let bytes: Vec<u8> = part.iter().flat_map(|x| x.to_le_bytes()).collect();
                prop_assert_eq!(raw, bytes);
            }
        }
    }
}
