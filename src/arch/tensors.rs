//! The tensor table as lowering sees it: shapes are checked, use is recorded, nothing is left over unsaid.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::{Gguf, Tensor};
use crate::plan::WeightRef;
use crate::quant::{self, BlockType};

/// Tensors of a model while it is lowered.
pub struct Tensors<'a> {
    gguf: &'a Gguf,
    used: BTreeSet<String>,
}

/// `[384, 32]`, as messages show shapes.
fn show(shape: &[u64]) -> String {
    format!("{shape:?}")
}

/// Shapes are equal but for ones, which change nothing about where numbers lie.
fn same_shape(a: &[u64], b: &[u64]) -> bool {
    let longer = |n: &&u64| **n != 1;
    a.iter().filter(longer).eq(b.iter().filter(longer))
}

impl<'a> Tensors<'a> {
    /// None is used yet.
    pub fn new(gguf: &'a Gguf) -> Self {
        Self { gguf, used: BTreeSet::new() }
    }

    /// Is there a tensor of this name?
    pub fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// The shape of a tensor, outermost first.
    pub fn shape(&self, name: &str) -> Option<&'a [u64]> {
        self.gguf.tensor(name).map(|t| t.shape.as_slice())
    }

    /// Counts a tensor as used, if it is there.
    pub fn mark_used(&mut self, name: &str) {
        if self.has(name) {
            self.used.insert(name.to_owned());
        }
    }

    /// Counts all tensors of a layer as used; are there any?
    pub fn mark_layer_used(&mut self, i: u32) -> bool {
        let prefix = format!("blk.{i}.");
        let names = self.gguf.tensors().iter().map(|t| &t.name).filter(|name| name.starts_with(&prefix));
        let before = self.used.len();
        self.used.extend(names.cloned());
        self.used.len() > before
    }

    /// An error when there is no tensor of this name.
    pub fn require(&self, name: &str) -> Result<()> {
        if self.has(name) { Ok(()) } else { Err(self.missing(name, "")) }
    }

    /// An error of the file as a whole.
    pub fn fault(&self, text: String) -> Error {
        Error::new(ErrorKind::Model, text).in_file(self.gguf.path())
    }

    fn missing(&self, name: &str, expected: &str) -> Error {
        let text = format!("tensor `{}` is missing{expected}", printable(name));
        let hint = "the file is incomplete or of a variant that is not supported";
        Error::new(ErrorKind::Model, text).in_file(self.gguf.path()).with_hint(hint)
    }

    fn error(&self, t: &Tensor, what: &str) -> Error {
        let text = format!("tensor `{}` at byte {}: {what}", printable(&t.name), t.offset);
        Error::new(ErrorKind::Model, text).in_file(self.gguf.shard_paths().nth(t.shard).unwrap_or(self.gguf.path()))
    }

    fn checked(&mut self, name: &str, shapes: &[&[u64]]) -> Result<&'a Tensor> {
        let expected = || shapes.iter().map(|s| show(s)).collect::<Vec<_>>().join(" or ");
        let Some(t) = self.gguf.tensor(name) else {
            return Err(self.missing(name, &format!(", expected shape {}", expected())));
        };
        if !shapes.iter().any(|s| same_shape(&t.shape, s)) {
            return Err(self.error(t, &format!("found shape {}, expected {}", show(&t.shape), expected())));
        }
        self.used.insert(name.to_owned());
        Ok(t)
    }

    fn reference(&self, t: &Tensor, shape: &[u64]) -> WeightRef {
        WeightRef { name: t.name.clone(), ty: t.ty, shape: shape.to_vec() }
    }

    /// A matrix [out, in] in any format that can be dequantized.
    pub fn matrix(&mut self, name: &str, n_out: u32, n_in: u32) -> Result<WeightRef> {
        self.weights(name, &[n_out, n_in].map(u64::from))
    }

    fn weights(&mut self, name: &str, shape: &[u64]) -> Result<WeightRef> {
        let t = self.checked(name, &[shape])?;
        if matches!(t.ty, BlockType::I8 | BlockType::I16 | BlockType::I32 | BlockType::I64) {
            return Err(self.error(t, &format!("found type {}, expected a floating or quantized type", t.ty)));
        }
        Ok(self.reference(t, shape))
    }

    /// A stack of matrices [n, out, in] in any format that can be dequantized.
    pub fn matrices(&mut self, name: &str, n: u32, n_out: u32, n_in: u32) -> Result<WeightRef> {
        self.weights(name, &[n, n_out, n_in].map(u64::from))
    }

    /// A stack of matrices [n, out, in] as one matrix [n * out, in].
    pub fn matrices_as_one(&mut self, name: &str, n: u32, n_out: u32, n_in: u32) -> Result<WeightRef> {
        let stack = self.matrices(name, n, n_out, n_in)?;
        Ok(WeightRef { shape: vec![u64::from(n) * u64::from(n_out), u64::from(n_in)], ..stack })
    }

    /// A vector that is multiplied or added element by element: F32, F16 or BF16.
    pub fn vector(&mut self, name: &str, n: u32) -> Result<WeightRef> {
        self.floating(name, &[u64::from(n)])
    }

    /// Vectors of `n` numbers, one for each of `count` heads.
    pub fn vectors(&mut self, name: &str, count: u32, n: u32) -> Result<WeightRef> {
        self.floating(name, &[u64::from(count), u64::from(n)])
    }

    fn floating(&mut self, name: &str, shape: &[u64]) -> Result<WeightRef> {
        let t = self.checked(name, &[shape])?;
        if !t.ty.is_float() {
            return Err(self.error(t, &format!("found type {}, expected F32, F16 or BF16", t.ty)));
        }
        let weight = self.reference(t, shape);
        if let Some(i) = self.floats(t)?.iter().position(|x| !x.is_finite()) {
            return Err(self.error(t, &format!("element {i} is not a finite number")));
        }
        Ok(weight)
    }

    /// As [`Self::vector`], if the file has it.
    pub fn maybe_vector(&mut self, name: &str, n: u32) -> Result<Option<WeightRef>> {
        self.has(name).then(|| self.vector(name, n)).transpose()
    }

    /// The numbers of a small tensor that lowering computes with, if the file has it.
    pub fn values(&mut self, name: &str, shape: &[u64]) -> Result<Option<Vec<f32>>> {
        if !self.has(name) {
            return Ok(None);
        }
        let t = self.checked(name, &[shape])?;
        let values = self.floats(t)?;
        match values.iter().position(|x| !(x.is_finite() && *x != 0.0)) {
            Some(i) => {
                Err(self.error(t, &format!("element {i} is {}, expected a finite number other than 0", values[i])))
            }
            None => Ok(Some(values)),
        }
    }

    fn floats(&self, t: &Tensor) -> Result<Vec<f32>> {
        let n: u64 = t.shape.iter().product();
        let mut out = vec![0.0; usize::try_from(n).map_err(|_| self.error(t, "is too large"))?];
        quant::dequantize(t.ty, self.gguf.bytes(t), &mut out).map_err(|e| self.error(t, &e.to_string()))?;
        Ok(out)
    }

    /// Optional tensors that the family always has: `x.bias` beside every `x.weight`, `x<y` beside every `y`.
    pub fn check_needs(&self, needs: &[&[&str]]) -> Result<()> {
        for need in needs.iter().copied().flatten() {
            let (need, beside) = match need.split_once('<') {
                Some((need, beside)) => (need, beside.to_owned()),
                None => (*need, need.replace(".bias", ".weight")),
            };
            for t in self.gguf.tensors() {
                let Some(prefix) = t.name.strip_suffix(&beside) else { continue };
                let wanted = format!("{prefix}{need}");
                if (prefix.is_empty() || prefix.ends_with('.')) && !self.has(&wanted) {
                    let text = format!("tensor `{}` is missing beside `{}`", printable(&wanted), printable(&t.name));
                    return Err(Error::new(ErrorKind::Model, text).in_file(self.gguf.path()));
                }
            }
        }
        Ok(())
    }

    /// A bias that one layer has, all layers have: a file that lost one would be computed silently wrong.
    pub fn check_layers_alike(&self) -> Result<()> {
        fn stem<'n>(name: &'n str, end: &str) -> Option<&'n str> {
            name.strip_prefix("blk.")?.split_once('.')?.1.strip_suffix(end)
        }
        let biased: BTreeSet<&str> = self.gguf.tensors().iter().filter_map(|t| stem(&t.name, ".bias")).collect();
        for t in self.gguf.tensors() {
            if let Some(bias) = t.name.strip_suffix(".weight").map(|n| format!("{n}.bias"))
                && stem(&t.name, ".weight").is_some_and(|s| biased.contains(s))
                && !self.has(&bias)
            {
                return Err(self.missing(&bias, ", but other layers have theirs"));
            }
        }
        Ok(())
    }

    /// Names of tensors that are not used yet.
    pub fn unused(&self) -> impl Iterator<Item = &'a str> {
        self.gguf.tensors().iter().map(|t| t.name.as_str()).filter(|n| !self.used.contains(*n))
    }

    /// Names what was ignored; refuses what nobody asked for.
    pub fn finish(self, ignore: &[&str]) -> Result<Vec<String>> {
        let (ignored, left): (Vec<_>, Vec<_>) = self.unused().partition(|n| ignore.iter().any(|end| n.ends_with(end)));
        if left.is_empty() {
            return Ok(ignored.iter().map(|n| format!("tensor `{n}` is not used by this computation")).collect());
        }
        let names: Vec<_> = left.iter().take(5).map(|n| format!("`{}`", printable(n))).collect();
        let more = if left.len() > 5 { format!(" and {} more", left.len() - 5) } else { String::new() };
        let text = format!("tensors that this architecture does not use: {}{more}", names.join(", "));
        let hint = "the model is a variant that is not supported; running it would be silently wrong";
        Err(Error::new(ErrorKind::Model, text).in_file(self.gguf.path()).with_hint(hint))
    }
}
