//! What a file to be is made of: metadata, and tensors that are made row by row when they are read.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};

use super::producer::{Each, Lazy, Leaf, Node};
use super::safetensors::File;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::{Gguf, KeyValue, ValueType};
use crate::quant::BlockType;

/// The types that a conversion writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutType {
    /// Each matrix as the checkpoint has it: nothing is lost. 8-bit floating-point becomes BF16.
    #[default]
    Auto,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// Upper half of an IEEE single.
    Bf16,
}

/// A model that has not been written yet.
#[derive(Debug)]
pub struct Source {
    /// Keys and values of the file to be, in order; the type says how each is stored.
    pub metadata: Vec<(String, KeyValue)>,
    /// Its tensors. Nothing of them has been read.
    pub tensors: Vec<LazyTensor>,
    /// What was left out or assumed, one line each.
    pub notes: Vec<String>,
    origin: Origin,
}

/// Files that must not change while they are read.
#[derive(Debug)]
enum Origin {
    Checkpoint(Vec<Arc<File>>),
    Gguf(Arc<Gguf>),
}

/// A tensor that is made from a checkpoint when its rows are read, in memory that does not grow with it.
#[derive(Clone, Debug)]
pub struct LazyTensor {
    /// Its name in GGUF.
    pub name: String,
    /// Outermost first (`[out, in]` for a weight); 1 to 4 dimensions, none of them 0.
    pub shape: Vec<u64>,
    /// The type that a conversion without quantizing writes.
    pub ty: BlockType,
    node: Node,
}

/// Stems of tensors that are small, or read as they are by every kernel. Source: llama.cpp's converter
/// (`prepare_tensors`), which keeps them in single precision.
const SINGLE: &[&str] = &[
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "indexer.proj.weight",
    "position_embd.weight",
    "token_types.weight",
    "ssm_a",
    "ssm_d",
    "ssm_conv1d.weight",
    "ssm_conv1d_q.weight",
    "ssm_conv1d_k.weight",
    "ssm_conv1d_v.weight",
    "shortconv.conv.weight",
    "altup_correct_coef.weight",
    "altup_predict_coef.weight",
    "attn_rel_b.weight",
];

/// Is a tensor of single numbers whatever the file's type?
fn is_single(name: &str, shape: &[u64]) -> bool {
    shape.len() <= 1
        || name.ends_with("_norm.weight")
        || name.ends_with(".bias")
        || SINGLE.iter().any(|s| name.ends_with(s))
}

impl LazyTensor {
    /// A tensor of the file to be, in the type that `out` gives it.
    pub(super) fn new(name: String, lazy: Lazy, out: OutType) -> Self {
        let single = is_single(&name, &lazy.shape);
        let ty = match (out, natural(&lazy.node)) {
            _ if single => BlockType::F32,
            (_, BlockType::Mxfp4) => BlockType::Mxfp4,
            (OutType::Auto, ty) => ty,
            (OutType::F32, _) => BlockType::F32,
            (OutType::F16, _) => BlockType::F16,
            (OutType::Bf16, _) => BlockType::Bf16,
        };
        Self { name, shape: lazy.shape, ty, node: lazy.node }
    }

    /// Numbers of a row: the last dimension.
    pub fn row_len(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: all dimensions but the last one.
    pub fn n_row(&self) -> u64 {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// The type whose bytes [`Self::rows_as_stored`] gives without computing; `None` where the tensor is computed.
    pub fn stored(&self) -> Option<BlockType> {
        let ty = self.node.raw_type()?;
        self.row_len().is_multiple_of(ty.block_len() as u64).then_some(ty)
    }

    /// Reads rows as numbers: `out` is [rows.len(), row_len].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when `out` is of another length or the rows are not all there.
    pub fn rows_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        let (start, n) = self.stretch(&rows)?;
        if n != out.len() {
            let message = format!("tensor `{}`: room for {} numbers, expected {n}", printable(&self.name), out.len());
            return Err(Error::new(ErrorKind::Usage, message));
        }
        self.node.read(start, out)
    }

    /// Appends the bytes of rows in the type of [`Self::stored`].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the tensor is computed or the rows are not all there.
    pub fn rows_as_stored(&self, rows: Range<u64>, out: &mut Vec<u8>) -> Result<()> {
        let (start, n) = self.stretch(&rows)?;
        if self.stored().is_none() {
            let message = format!("tensor `{}` is computed: there are no bytes to copy", printable(&self.name));
            return Err(Error::new(ErrorKind::Usage, message));
        }
        self.node.raw(start, n, out)
    }

    /// Appends the bytes of rows in the type [`Self::ty`]: what a conversion without quantizing writes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the rows are not all there, or the type is one that only quantizing gives;
    /// [`ErrorKind::Model`] for a number that F16 cannot hold.
    pub fn rows_bytes(&self, rows: Range<u64>, out: &mut Vec<u8>) -> Result<()> {
        let (start, n) = self.stretch(&rows)?;
        if self.stored() == Some(self.ty) {
            return self.node.raw(start, n, out);
        }
        let mut numbers = vec![0.0; n];
        self.node.read(start, &mut numbers)?;
        match self.ty {
            BlockType::F32 => numbers.iter().for_each(|x| out.extend(x.to_le_bytes())),
            BlockType::F16 => {
                for x in &numbers {
                    let half = f16::from_f32(*x);
                    if half.is_infinite() && x.is_finite() {
                        let message = format!("tensor `{}` holds {x}, which F16 cannot", printable(&self.name));
                        return Err(Error::new(ErrorKind::Model, message).with_hint("convert to BF16 or F32"));
                    }
                    out.extend(half.to_le_bytes());
                }
            }
            BlockType::Bf16 => numbers.iter().for_each(|x| out.extend(bf16::from_f32(*x).to_le_bytes())),
            ty => {
                let message = format!("tensor `{}`: {ty} takes quantizing", printable(&self.name));
                return Err(Error::new(ErrorKind::Usage, message));
            }
        }
        Ok(())
    }

    /// The first number of rows and how many there are.
    fn stretch(&self, rows: &Range<u64>) -> Result<(u64, usize)> {
        let inside = rows.start <= rows.end && rows.end <= self.n_row();
        let n = inside.then(|| usize::try_from((rows.end - rows.start) * self.row_len()).ok()).flatten();
        n.map(|n| (rows.start * self.row_len(), n)).ok_or_else(|| {
            let message = format!("tensor `{}`: rows {rows:?} of {}", printable(&self.name), self.n_row());
            Error::new(ErrorKind::Usage, message)
        })
    }
}

/// The smallest type that loses nothing of a tensor, as far as its files say.
fn natural(node: &Node) -> BlockType {
    match node {
        Node::Leaf(leaf) => leaf.natural(),
        Node::Values(_) => BlockType::F32,
        // Powers of two keep the digits, others need more of them.
        Node::Each(_, Each::Times(factor)) if factor.log2().fract() != 0.0 => BlockType::F32,
        Node::View { of, .. } | Node::Each(of, _) | Node::Scaled { of, .. } => natural(of),
        Node::Mxfp4 { .. } => BlockType::Mxfp4,
        Node::Joined(parts) => {
            let mut types = parts.iter().map(|(_, part)| natural(part));
            let first = types.next().unwrap_or(BlockType::F32);
            if types.all(|t| t == first) { first } else { BlockType::F32 }
        }
    }
}

impl Source {
    pub(super) fn of_checkpoint(
        metadata: Vec<(String, KeyValue)>,
        tensors: Vec<LazyTensor>,
        notes: Vec<String>,
        files: &[Arc<File>],
    ) -> Self {
        Self { metadata, tensors, notes, origin: Origin::Checkpoint(files.to_vec()) }
    }

    /// The model of a GGUF file, unchanged: for quantizing it, or changing its metadata.
    ///
    /// # Errors
    /// None today; files have passed the gate.
    pub fn of_gguf(gguf: &Arc<Gguf>) -> Result<Self> {
        let metadata = gguf
            .metadata()
            .raw()
            .filter(|(name, ..)| !name.starts_with("split.") && *name != "general.alignment")
            .map(|(name, ty, bytes)| (name.to_owned(), decoded(ty, &mut &bytes[..])))
            .collect();
        let tensor = |(index, t): (usize, &crate::gguf::Tensor)| LazyTensor {
            name: t.name.clone(),
            shape: t.shape.clone(),
            ty: t.ty,
            node: Node::Leaf(Leaf::Gguf { file: Arc::clone(gguf), index }),
        };
        let tensors = gguf.tensors().iter().enumerate().map(tensor).collect();
        Ok(Self { metadata, tensors, notes: Vec::new(), origin: Origin::Gguf(Arc::clone(gguf)) })
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&KeyValue> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Index of the file that holds a tensor; 0 where there is one.
    pub(super) fn shard(&self, name: &str) -> usize {
        match &self.origin {
            Origin::Checkpoint(_) => 0,
            Origin::Gguf(gguf) => gguf.tensor(name).map_or(0, |t| t.shard),
        }
    }

    /// Is it a GGUF file, which runs as it is?
    pub fn is_gguf(&self) -> bool {
        matches!(self.origin, Origin::Gguf(_))
    }

    /// The files that tensors are read from.
    pub fn files(&self) -> Vec<&Path> {
        match &self.origin {
            Origin::Checkpoint(files) => files.iter().map(|f| f.path.as_path()).collect(),
            Origin::Gguf(gguf) => gguf.shard_paths().collect(),
        }
    }

    /// Gives memory back that holds parts of the files; what is needed again is read again.
    pub(super) fn release(&self) {
        match &self.origin {
            Origin::Checkpoint(files) => files.iter().for_each(|f| f.release()),
            Origin::Gguf(gguf) => gguf.release(),
        }
    }

    /// Adds a key, or replaces its value.
    pub fn set(&mut self, key: &str, value: impl Into<KeyValue>) {
        let value = value.into();
        match self.metadata.iter_mut().find(|(name, _)| name == key) {
            Some(slot) => slot.1 = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
    }

    /// Fails if a file that the tensors are read from has changed: call it when all is read.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] naming the file.
    pub fn check_unchanged(&self) -> Result<()> {
        match &self.origin {
            Origin::Checkpoint(files) => files.iter().try_for_each(|f| f.check_unchanged()),
            Origin::Gguf(gguf) => gguf.check_unchanged(),
        }
    }
}

/// The value that stands at the beginning of `rest`, as a file that has passed the gate stores it.
fn decoded(ty: ValueType, rest: &mut &[u8]) -> KeyValue {
    fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
        let (head, tail) = rest.split_first_chunk::<N>().expect("the scan has checked the value");
        *rest = tail;
        *head
    }
    match ty {
        ValueType::U8 => KeyValue::U8(u8::from_le_bytes(take(rest))),
        ValueType::I8 => KeyValue::I8(i8::from_le_bytes(take(rest))),
        ValueType::U16 => KeyValue::U16(u16::from_le_bytes(take(rest))),
        ValueType::I16 => KeyValue::I16(i16::from_le_bytes(take(rest))),
        ValueType::U32 => KeyValue::U32(u32::from_le_bytes(take(rest))),
        ValueType::I32 => KeyValue::I32(i32::from_le_bytes(take(rest))),
        ValueType::F32 => KeyValue::F32(f32::from_le_bytes(take(rest))),
        ValueType::Bool => KeyValue::Bool(take::<1>(rest)[0] != 0),
        ValueType::U64 => KeyValue::U64(u64::from_le_bytes(take(rest))),
        ValueType::I64 => KeyValue::I64(i64::from_le_bytes(take(rest))),
        ValueType::F64 => KeyValue::F64(f64::from_le_bytes(take(rest))),
        ValueType::Str => {
            let n = usize::try_from(u64::from_le_bytes(take(rest))).expect("the scan has checked the length");
            let (text, tail) = rest.split_at_checked(n).expect("the scan has checked the length");
            *rest = tail;
            KeyValue::Str(text.to_vec())
        }
        ValueType::Array => {
            let element = ValueType::from_id(u32::from_le_bytes(take(rest))).expect("the scan has checked the type");
            let n = u64::from_le_bytes(take(rest));
            KeyValue::Array { element, items: (0..n).map(|_| decoded(element, rest)).collect() }
        }
    }
}

/// The number of the type that most matrices have, or that of files with blocks of 4 bits. Source: llama.cpp's `llama_ftype`.
pub(super) fn file_type(tensors: &[LazyTensor]) -> u32 {
    let n = |ty| tensors.iter().filter(|t| t.ty == ty && !is_single(&t.name, &t.shape)).count();
    let kinds = [(BlockType::F32, 0u32), (BlockType::F16, 1), (BlockType::Bf16, 32)];
    if n(BlockType::Mxfp4) > 0 {
        return 38;
    }
    kinds.into_iter().max_by_key(|(ty, _)| n(*ty)).map_or(0, |(_, id)| id)
}

/// Parameters as names of models have them: `135M`, `7B`, `8x7B`. Source: llama.cpp's `size_label`.
pub(super) fn size_label(tensors: &[LazyTensor], n_expert: u32) -> String {
    let n = |t: &LazyTensor| t.shape.iter().product::<u64>() as f64;
    let computed = |t: &&LazyTensor| !t.name.starts_with("rope_");
    let total: f64 = tensors.iter().filter(computed).map(n).sum();
    if n_expert == 0 {
        return rounded(total);
    }
    let experts: f64 = tensors.iter().filter(|t| t.name.contains("_exps.weight")).map(n).sum();
    format!("{n_expert}x{}", rounded(total - experts + experts / f64::from(n_expert)))
}

/// A count with two digits at least and a unit.
fn rounded(n: f64) -> String {
    let (scaled, unit) = match n {
        n if n > 1e12 => (n * 1e-12, "T"),
        n if n > 1e9 => (n * 1e-9, "B"),
        n if n > 1e6 => (n * 1e-6, "M"),
        n => (n * 1e-3, "K"),
    };
    let digits = usize::from(scaled.round() < 10.0);
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_can_be_read_by_several_threads() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<LazyTensor>();
        shared::<Source>();
    }

    #[test]
    fn counts_have_two_digits_at_least() {
        let counts = [90_304.0, 1_310_720.0, 134_515_008.0, 7.24e9, 1e13];
        assert_eq!(counts.map(rounded), ["90K", "1.3M", "135M", "7.2B", "10T"]);
    }
}
