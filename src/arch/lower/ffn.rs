//! The feed-forward part of a layer.

use super::Lowering;
use crate::arch::family::{Ffn, FfnAct, Layer};
use crate::error::Result;
use crate::plan::{Act, Operand, Step};

impl Lowering<'_> {
    /// The activation of layer `i`.
    pub(super) fn act(&self, i: u32) -> Act {
        match (self.family.act, &self.config.xielu) {
            (FfnAct::Fixed(act), _) => self.config.act.unwrap_or(act),
            (FfnAct::Xielu, layers) => xielu(layers.as_ref().map_or([0.0; 4], |layers| layers[i as usize])),
        }
    }

    /// The feed-forward part over the normed rows `x` of the stream; the result is not yet added.
    pub(super) fn ffn(&mut self, i: u32, layer: &Layer, x: Operand, stream: Operand) -> Result<Operand> {
        // A layer that lost either is no dense one.
        let of_experts = ["ffn_gate_inp", "ffn_down_exps"].map(|stem| format!("blk.{i}.{stem}.weight"));
        match of_experts.iter().any(|name| self.tensors.has(name)) {
            true => self.experts(i, layer, x, stream),
            false => self.mlp(i, x, layer.n_ff, ""),
        }
    }

    /// One feed-forward part, whose tensors end in `suffix`.
    pub(super) fn mlp(&mut self, i: u32, x: Operand, n_ff: u32, suffix: &str) -> Result<Operand> {
        let blk = |stem: &str| format!("blk.{i}.{stem}{suffix}");
        let [g, u, gu, f] = ["g", "u", "gu", "f"].map(|name| format!("{name}{suffix}"));
        let act = self.act(i);
        let u = match self.family.ffn {
            Ffn::Gated => {
                let outputs = [(g.as_str(), blk("ffn_gate"), n_ff), (u.as_str(), blk("ffn_up"), n_ff)];
                let [gate, up] = self.linear(x, outputs, 1.0, None)?;
                if let Some(n_std) = self.config.sparsity.as_ref().and_then(|layers| layers[i as usize]) {
                    self.plan.push(Step::Sparsify { x: gate, out: gate, n_std });
                }
                self.plan.push(Step::Gate { x: gate, out: up, act, by: Some(up) });
                up
            }
            Ffn::Fused => {
                let [gu] = self.linear(x, [(gu.as_str(), blk("ffn_up"), n_ff.saturating_mul(2))], 1.0, None)?;
                let u = self.plan.buffer(u.as_str(), n_ff);
                self.plan.push(Step::Gate { x: gu.columns(0, n_ff), out: u, act, by: Some(gu.columns(n_ff, n_ff)) });
                u
            }
            Ffn::Plain => {
                let [u] = self.linear(x, [(u.as_str(), blk("ffn_up"), n_ff)], 1.0, None)?;
                self.plan.push(Step::Gate { x: u, out: u, act, by: None });
                u
            }
        };
        let [f] = self.linear(u, [(f.as_str(), blk("ffn_down"), self.config.n_embd)], 1.0, None)?;
        Ok(f)
    }
}

/// The activation for the numbers of a file, which holds them before training's constraints: positive =
/// softplus(alpha_p), negative = beta + softplus(alpha_n). Source: transformers `activations.py`.
fn xielu([positive, negative, beta, eps]: [f32; 4]) -> Act {
    let softplus = |x: f32| f64::from(x).exp().ln_1p() as f32;
    Act::Xielu { positive: softplus(positive), negative: beta + softplus(negative), beta, eps }
}
