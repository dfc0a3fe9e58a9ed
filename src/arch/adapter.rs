//! LoRA adapters: what they change in the matrices of a model, as further terms of its steps.
//!
//! For a matrix T [out, in] an adapter has `T.lora_a` [rank, in] and `T.lora_b` [out, rank]; the model then computes
//! T x + s B (A x) with s = scale * alpha / rank (Hu et al. 2021, arXiv 2106.09685). For the table of embeddings, which
//! is looked up by rows, `lora_a` is [n_vocab, rank] and `lora_b` [n_embd, rank]. Names and forms are those of
//! llama.cpp's `convert_lora_to_gguf.py`.

use super::tensors::Tensors;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::Gguf;
use crate::plan::WeightRef;

/// Does a file hold something that changes a model, rather than a model?
pub fn is_adapter(gguf: &Gguf) -> bool {
    gguf.metadata().str("general.type").is_ok_and(|t| t == Some("adapter"))
}

/// The name in a plan of a tensor of adapter `i`.
pub fn weight_name(i: usize, tensor: &str) -> String {
    format!("lora{i}.{tensor}")
}

/// Two factors of an adapter, as weights of a plan.
pub struct Term {
    /// A, [rank, in]; for embeddings [n_vocab, rank].
    pub a: WeightRef,
    /// B, [out, rank].
    pub b: WeightRef,
    /// Numbers between both.
    pub rank: u32,
    /// Factor of B A.
    pub scale: f32,
}

struct Adapter<'a> {
    gguf: &'a Gguf,
    tensors: Tensors<'a>,
    scale: f32,
    /// `adapter.lora.alpha`; 0 counts as the rank.
    alpha: f32,
}

/// The adapters of a model while it is lowered.
pub struct Adapters<'a>(Vec<Adapter<'a>>);

impl<'a> Adapters<'a> {
    /// Adapters and their scales, for a model of architecture `arch`.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when a file is no LoRA adapter, or one for another architecture.
    pub fn read(files: &[(&'a Gguf, f32)], arch: &str) -> Result<Self> {
        files.iter().map(|(gguf, scale)| Adapter::read(gguf, *scale, arch)).collect::<Result<_>>().map(Self)
    }

    /// What they add to the matrix `name`, [n_out, n_in].
    pub fn terms(&mut self, name: &str, n_out: u32, n_in: u32) -> Result<Vec<Term>> {
        self.each(name, |rank| ([rank, n_in], [n_out, rank]))
    }

    /// What they add to the table `name`, [n_row, n_embd], whose rows are looked up.
    pub fn row_terms(&mut self, name: &str, n_row: u32, n_embd: u32) -> Result<Vec<Term>> {
        self.each(name, |rank| ([n_row, rank], [n_embd, rank]))
    }

    fn each(&mut self, name: &str, shapes: impl Fn(u32) -> ([u32; 2], [u32; 2])) -> Result<Vec<Term>> {
        let adapters = self.0.iter_mut().enumerate();
        adapters.filter_map(|(i, adapter)| adapter.term(i, name, &shapes).transpose()).collect()
    }

    /// Refuses what changes nothing that the model has.
    pub fn finish(self) -> Result<()> {
        for adapter in &self.0 {
            if let Some(name) = adapter.tensors.unused().next() {
                let text = format!("tensor `{}` fits no matrix of the model that adapters can change", printable(name));
                let hint = "the adapter was trained on another model: use it with that one";
                return Err(Error::new(ErrorKind::Model, text).in_file(adapter.gguf.path()).with_hint(hint));
            }
        }
        Ok(())
    }
}

impl<'a> Adapter<'a> {
    fn read(gguf: &'a Gguf, scale: f32, arch: &str) -> Result<Self> {
        let meta = gguf.metadata();
        let refuse = |text: String, hint: &str| {
            Err(Error::new(ErrorKind::Model, text).in_file(gguf.path()).with_hint(hint.to_owned()))
        };
        if !is_adapter(gguf) {
            let hint = "an adapter is a GGUF file with `general.type` = adapter; `tealight quantize` makes one of PEFT";
            return refuse("not a LoRA adapter".into(), hint);
        }
        match meta.str("adapter.type")? {
            Some("lora") => {}
            found => {
                let found = printable(found.unwrap_or("nothing"));
                return Err(meta.key_error("adapter.type", found, "lora: other adapters are not supported"));
            }
        }
        match meta.str("general.architecture")? {
            Some(found) if found == arch => {}
            found => {
                let (found, arch) = (printable(found.unwrap_or("unknown")), printable(arch));
                let text = format!("the adapter is for `{found}` models, this one is a `{arch}`");
                return refuse(text, "use it with the model that it was trained on");
            }
        }
        if meta.value("adapter.alora.invocation_tokens").is_some() {
            let text = "the adapter acts behind its invocation tokens only, which is not supported";
            return refuse(text.into(), "do without it");
        }
        let alpha = meta.f32("adapter.lora.alpha")?.unwrap_or(0.0);
        if !alpha.is_finite() {
            return Err(meta.key_error("adapter.lora.alpha", alpha, "a finite number"));
        }
        if gguf.tensors().is_empty() {
            return refuse("the adapter holds no tensors".into(), "convert it again");
        }
        Ok(Self { gguf, tensors: Tensors::new(gguf), scale, alpha })
    }

    fn term(&mut self, i: usize, name: &str, shapes: impl Fn(u32) -> ([u32; 2], [u32; 2])) -> Result<Option<Term>> {
        let [name_a, name_b] = ["a", "b"].map(|part| format!("{name}.lora_{part}"));
        if !self.tensors.has(&name_a) && !self.tensors.has(&name_b) {
            return Ok(None);
        }
        // One of the two alone is an adapter that lost the other.
        [&name_a, &name_b].into_iter().try_for_each(|name| self.tensors.require(name))?;
        let rank = self.tensors.shape(&name_b).and_then(|shape| shape.last().copied()).unwrap_or(0);
        let rank = u32::try_from(rank).unwrap_or(u32::MAX);
        let ([rows_a, columns_a], [rows_b, columns_b]) = shapes(rank);
        let mut factor = |name: &str, n_row, n_column| -> Result<WeightRef> {
            let weight = self.tensors.matrix(name, n_row, n_column)?;
            Ok(WeightRef { name: weight_name(i, name), ..weight })
        };
        let a = factor(&name_a, rows_a, columns_a)?;
        let b = factor(&name_b, rows_b, columns_b)?;
        let per_rank = if self.alpha == 0.0 { 1.0 } else { self.alpha / rank as f32 };
        Ok(Some(Term { a, b, rank, scale: self.scale * per_rank }))
    }
}
