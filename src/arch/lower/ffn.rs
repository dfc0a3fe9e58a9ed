//! The feed-forward part of a layer.

use super::Lowering;
use crate::arch::family::{Ffn, FfnAct, Layer};
use crate::error::Result;
use crate::plan::{Act, Operand, Step};

impl Lowering<'_> {
    /// The feed-forward part over the normed rows `x`; the result is not yet added.
    pub(super) fn ffn(&mut self, i: u32, layer: &Layer, x: Operand) -> Result<Operand> {
        let (n_ff, blk) = (layer.n_ff, |stem: &str| format!("blk.{i}.{stem}"));
        let act = match (self.family.act, &self.config.xielu) {
            (FfnAct::Fixed(act), _) => self.config.act.unwrap_or(act),
            (FfnAct::Xielu, layers) => xielu(layers.as_ref().map_or([0.0; 4], |layers| layers[i as usize])),
        };
        let u = match self.family.ffn {
            Ffn::Gated => {
                let outputs = [("g", blk("ffn_gate"), n_ff), ("u", blk("ffn_up"), n_ff)];
                let [g, u] = self.linear(x, outputs, 1.0, None)?;
                self.plan.push(Step::Gate { x: g, out: u, act, by: Some(u) });
                u
            }
            Ffn::Fused => {
                let [gu] = self.linear(x, [("gu", blk("ffn_up"), 2 * n_ff)], 1.0, None)?;
                let u = self.plan.buffer("u", n_ff);
                self.plan.push(Step::Gate { x: gu.columns(0, n_ff), out: u, act, by: Some(gu.columns(n_ff, n_ff)) });
                u
            }
            Ffn::Plain => {
                let [u] = self.linear(x, [("u", blk("ffn_up"), n_ff)], 1.0, None)?;
                self.plan.push(Step::Gate { x: u, out: u, act, by: None });
                u
            }
        };
        let [f] = self.linear(u, [("f", blk("ffn_down"), self.config.n_embd)], 1.0, None)?;
        Ok(f)
    }
}

/// The activation for the numbers of a file, which holds them before training's constraints: positive =
/// softplus(alpha_p), negative = beta + softplus(alpha_n). Source: transformers `activations.py`.
fn xielu([positive, negative, beta, eps]: [f32; 4]) -> Act {
    let softplus = |x: f32| f64::from(x).exp().ln_1p() as f32;
    Act::Xielu { positive: softplus(positive), negative: beta + softplus(negative), beta, eps }
}
