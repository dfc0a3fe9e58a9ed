//! Several residual streams, of which a layer reads one and corrects all. Source: Alternating Updates for Efficient
//! Transformers (arXiv 2301.13310), and Learned Augmented Residual Layer (arXiv 2411.07501), as in transformers
//! `modeling_gemma3n.py`.

use super::Lowering;
use crate::arch::config::StreamConfig;
use crate::error::Result;
use crate::plan::{Operand, Part, Step};

/// The least mean square of a stream that is made as strong as another.
const EPS: f32 = 1e-5;

/// The streams, and what a layer expects of them before it has run; heads of n_embd columns.
#[derive(Clone, Copy)]
pub(super) struct Streams {
    now: Operand,
    predicted: Operand,
    active: u32,
}

/// Heads `first..first + n` of an operand of adjacent heads.
fn heads(of: Operand, first: u32, n: u32) -> Operand {
    let width = of.width;
    Operand { start: of.start + first * width, width: n * width, heads: 1, stride: 0, ..of }.split(n, width)
}

impl Lowering<'_> {
    /// The embedding `x`, and what matrices make of it, as strong as itself.
    pub(super) fn open_streams(&mut self, config: StreamConfig, x: Operand) -> Result<Streams> {
        let (n, n_embd) = (config.count, x.len());
        let [now, predicted] = ["streams", "predicted"].map(|name| self.plan.buffer(name, n * n_embd).split(n, n_embd));
        self.plan.push(Step::Scale { x, out: heads(now, 0, 1), factor: 1.0, weight: None });
        let weight = self.tensors.matrices_as_one("altup_proj.weight", n - 1, n_embd, n_embd)?;
        let weight = self.weight(weight);
        let others = heads(now, 1, n - 1);
        let out = Operand { width: others.len(), heads: 1, stride: 0, ..others };
        self.plan.push(Step::Linear { x, parts: vec![Part { out, weight, bias: None, scale: 1.0 }], clamp: None });
        self.plan.push(Step::Rescale { x: others, like: x, out: others, eps: EPS });
        Ok(Streams { now, predicted, active: config.active })
    }

    /// `n` coefficients of a row by what its active stream holds.
    fn coefficients(&mut self, i: u32, x: Operand, streams: Streams, stem: &str, n: u32) -> Result<Operand> {
        let t = self.plan.buffer("t", x.len());
        self.layer_norm(x, t, i, "altup_router_norm")?;
        let router = [("mod", format!("blk.{i}.altup_router"), streams.now.heads)];
        let [modality] = self.linear(t, router, 1.0 / x.len() as f32, None)?;
        // tanh
        self.plan.push(Step::Softcap { x: modality, out: modality, cap: 1.0 });
        let [coef] = self.linear(modality, [(&*format!("coef{n}"), format!("blk.{i}.{stem}"), n)], 1.0, None)?;
        Ok(coef)
    }

    /// What layer `i` expects of the streams; the one it reads.
    pub(super) fn predict(&mut self, i: u32, streams: Streams) -> Result<Operand> {
        let Streams { now, predicted, active } = streams;
        let n = now.heads;
        let coef = self.coefficients(i, heads(now, active, 1), streams, "altup_predict_coef", n * n)?;
        self.plan.push(Step::Mix { x: now, coef, base: now, out: predicted, offset: 0.0 });
        Ok(heads(predicted, active, 1))
    }

    /// Adds a path of low rank beside attention, from its input `h`, to the stream `x`.
    pub(super) fn add_laurel(&mut self, i: u32, h: Operand, x: Operand) -> Result<()> {
        let stem = format!("blk.{i}.laurel_l");
        let rank = match self.tensors.shape(&format!("{stem}.weight")) {
            Some(&[.., rank, _]) => u32::try_from(rank).unwrap_or(u32::MAX),
            _ => 1, // named by `linear`, which misses it
        };
        let [low] = self.linear(h, [("l", stem, rank)], 1.0, None)?;
        let [laurel] = self.linear(low, [("lr", format!("blk.{i}.laurel_r"), x.len())], 1.0, None)?;
        self.layer_norm(laurel, laurel, i, "laurel_post_norm")?;
        for y in [h, laurel] {
            self.plan.push(Step::Add { x, y, out: x, scale: 1.0 });
        }
        self.plan.push(Step::Scale { x, out: x, factor: 0.5f64.sqrt() as f32, weight: None });
        Ok(())
    }

    /// Corrects all streams by what layer `i` changed in the active one, `x`, and adds the layer's own embeddings.
    pub(super) fn correct(&mut self, i: u32, x: Operand, streams: Streams) -> Result<()> {
        let Streams { now, predicted, active } = streams;
        let n = now.heads;
        let coef = self.coefficients(i, x, streams, "altup_correct_coef", n)?;
        let change = self.plan.buffer("change", x.len());
        self.plan.push(Step::Add { x, y: heads(predicted, active, 1), out: change, scale: -1.0 });
        self.plan.push(Step::Mix { x: change, coef, base: predicted, out: now, offset: 1.0 });
        let first = self.plan.buffer("first", x.len());
        let weight = self.tensors.vector(&format!("blk.{i}.altup_correct_scale.weight"), x.len())?;
        let weight = Some(self.weight(weight));
        self.plan.push(Step::Scale { x: heads(now, active, 1), out: first, factor: 1.0, weight });
        if let Some(y) = self.per_layer(i, first)? {
            for j in 1..n {
                let x = heads(now, j, 1);
                self.plan.push(Step::Add { x, y, out: x, scale: 1.0 });
            }
        }
        Ok(())
    }

    /// Their mean, each as strong as the first, in `x`.
    pub(super) fn join_streams(&mut self, streams: Streams, x: Operand) -> Result<()> {
        let (now, n_embd) = (streams.now, x.len());
        let n = now.heads - 1;
        let weight = self.tensors.matrices("altup_unembd_proj.weight", n, n_embd, n_embd)?;
        let weight = self.weight(weight);
        let out = self.plan.buffer("joined", n * n_embd).split(n, n_embd);
        let parts = vec![Part { out, weight, bias: None, scale: 1.0 }];
        self.plan.push(Step::Linear { x: heads(now, 1, n), parts, clamp: None });
        self.plan.push(Step::Rescale { x: out, like: heads(now, 0, 1), out, eps: EPS });
        self.plan.push(Step::Scale { x: heads(now, 0, 1), out: x, factor: 1.0, weight: None });
        for j in 0..n {
            self.plan.push(Step::Add { x, y: heads(out, j, 1), out: x, scale: 1.0 });
        }
        self.plan.push(Step::Scale { x, out: x, factor: 1.0 / now.heads as f32, weight: None });
        Ok(())
    }
}
