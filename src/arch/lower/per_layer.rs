//! What each token brings to each layer by itself: embeddings of Gemma 3n and 4.

use super::Lowering;
use crate::error::Result;
use crate::plan::{Act, Index, NormKind, Operand, Step};

/// Name of the buffer that holds what all layers get of a row.
const BUFFER: &str = "ple";

impl Lowering<'_> {
    /// The mean, but for a factor of sqrt(2), of a table's entry and of what a matrix makes of the embedding `x`.
    pub(super) fn embed_per_layer(&mut self, x: Operand) -> Result<()> {
        let Some(n) = self.config.n_embd_per_layer else { return Ok(()) };
        let n_layer = self.config.n_layer;
        let out = self.plan.buffer(BUFFER, n * n_layer);
        let scale = f64::from(x.len()).powf(-0.5) as f32;
        let outputs = [("pl", "per_layer_model_proj".to_owned(), out.len())];
        let [projected] = self.linear(x, outputs, scale, None)?;
        let heads = projected.split(n_layer, n);
        self.norm(heads, heads, "per_layer_proj_norm", n, NormKind::Rms)?;
        let table = self.tensors.matrix("per_layer_token_embd.weight", self.n_vocab, out.len())?;
        let table = self.weight(table);
        let half = 0.5f64.sqrt();
        let scale = (half * f64::from(n).sqrt()) as f32;
        self.plan.push(Step::Embed { out, table, index: Index::Token, scale, add: false });
        self.plan.push(Step::Add { x: out, y: projected, out, scale: half as f32 });
        Ok(())
    }

    /// What layer `i` makes of its part of them, by the stream `x`; it is not yet added.
    pub(super) fn per_layer(&mut self, i: u32, x: Operand) -> Result<Option<Operand>> {
        let Some(n) = self.config.n_embd_per_layer else { return Ok(None) };
        let own = self.plan.buffer(BUFFER, n * self.config.n_layer).columns(i * n, n);
        let [gate] = self.linear(x, [("pg", format!("blk.{i}.inp_gate"), n)], 1.0, None)?;
        self.plan.push(Step::Gate { x: gate, out: gate, act: Act::Gelu, by: Some(own) });
        let [out] = self.linear(gate, [("pe", format!("blk.{i}.proj"), x.len())], 1.0, None)?;
        self.layer_norm(out, out, i, "post_norm").map(Some)
    }
}
