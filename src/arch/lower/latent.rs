//! Latent attention: keys and values of all heads are made from one vector per token, which alone is remembered.
//!
//! Instead of making keys, queries are taken into that vector's space: q . (K c) = (K^T q) . c. So attention has one
//! head of keys, the vector and the rotated dims that all heads share; its values are the vector; each head's values
//! are made from the sum. Source: DeepSeek-V2 (arXiv 2405.04434), 2.1.

use super::Lowering;
use crate::arch::config::{IndexerConfig, LatentConfig};
use crate::arch::family::Layer;
use crate::arch::rope;
use crate::error::Result;
use crate::plan::{Attend, CacheSpec, NormKind, Operand, Pairs, Part, Select, Span, Step, TableId};

impl Lowering<'_> {
    /// Latent attention over the normed rows `x`; the result is not yet added.
    pub(super) fn latent(&mut self, i: u32, layer: &Layer, latent: &LatentConfig, x: Operand) -> Result<Operand> {
        let (heads, blk) = (self.config.n_head, |stem: &str| format!("blk.{i}.{stem}"));
        let LatentConfig { rank, q_rank, n_rot, n_nope, value } = *latent;
        let (dk, stored) = (n_nope + n_rot, rank + n_rot);
        let kv = ("kv", blk("attn_kv_a_mqa"), stored);
        let (q, kv, from) = match q_rank {
            Some(q_rank) => {
                let [qa, kv] = self.linear(x, [("qa", blk("attn_q_a"), q_rank), kv], 1.0, None)?;
                let qa = self.norm(qa, qa, &blk("attn_q_a_norm"), q_rank, NormKind::Rms)?;
                let [q] = self.linear(qa, [("q", blk("attn_q_b"), heads * dk)], 1.0, None)?;
                (q, kv, qa)
            }
            None => {
                let [q, kv] = self.linear(x, [("q", blk("attn_q"), heads * dk), kv], 1.0, None)?;
                (q, kv, x)
            }
        };
        let c = kv.columns(0, rank);
        self.norm(c, c, &blk("attn_kv_a_norm"), rank, NormKind::Rms)?;
        // Per head [query in the latent space | rotated dims], as keys are.
        let absorbed = self.plan.buffer("ql", heads * stored);
        self.heads(&blk("attn_k_b"), part_of(q, heads, dk, 0..n_nope), part_of(absorbed, heads, stored, 0..rank))?;
        let table = match layer.rope {
            Some(_) => rope::table(self.family, &self.config.rope, layer, n_rot, self.n_ctx, &mut self.tensors)?,
            // No pair turns: what passes is copied.
            None => crate::plan::RopeTable { freqs: vec![], amp: 1.0 },
        };
        let (table, pairs) = (self.plan.table(table), self.family.rope);
        let (own, to) = (part_of(q, heads, dk, n_nope..dk), part_of(absorbed, heads, stored, rank..stored));
        self.plan.push(Step::Rope { x: own, out: to, table, pairs });
        let shared = kv.columns(rank, n_rot);
        if layer.rope.is_some() {
            self.plan.push(Step::Rope { x: shared, out: shared, table, pairs });
        }
        let spec = CacheSpec { name: format!("kv{i}"), k: stored, v: 0, heads: 1, span: layer.span };
        let cache = self.plan.cache(spec);
        self.plan.push(Step::Store { cache, k: kv, v: None });
        let select = match self.config.indexer {
            Some(indexer) => Some(self.indexer(i, indexer, [x, from], table)?),
            None => None,
        };
        let sums = self.plan.buffer("ol", heads * rank);
        // Yarn lengthens the logits by the square of what it would lengthen cos and sin by.
        let rope = &self.config.rope;
        let warm = 1.0 + f64::from(rope.log_multiplier.unwrap_or(0.0)) * f64::from(rope.factor).ln();
        self.plan.push(Step::Attend(Box::new(Attend {
            q: absorbed.split(heads, stored),
            out: sums,
            cache,
            heads,
            kv_heads: 1,
            scale: (warm * warm / f64::from(dk).sqrt()) as f32,
            span: layer.span,
            softcap: None,
            temper: None,
            alibi: None,
            sinks: None,
            v_prefix: Some(rank),
            select,
        })));
        let out = self.plan.buffer("o", heads * value);
        self.heads(&blk("attn_v_b"), sums.split(heads, rank), out.split(heads, value))?;
        let [a] = self.linear(out, [("a", blk("attn_output"), self.config.n_embd)], 1.0, None)?;
        Ok(a)
    }

    /// Which positions attention sees: heads of their own over a key per token. `x` are the normed rows, `from` what
    /// queries are made from. Source: DeepSeek-V3.2's `model.py`; a rotation of both by a Hadamard matrix, which it
    /// has for 8 bits, changes no product.
    fn indexer(&mut self, i: u32, indexer: IndexerConfig, [x, from]: [Operand; 2], table: TableId) -> Result<Operand> {
        let IndexerConfig { heads, dim, top } = indexer;
        let blk = |stem: &str| format!("blk.{i}.indexer.{stem}");
        let [q] = self.linear(from, [("qi", blk("attn_q_b"), heads * dim)], 1.0, None)?;
        let outputs = [("ki", blk("attn_k"), dim), ("wi", blk("proj"), heads)];
        let [k, w] = self.linear(x, outputs, 1.0, None)?;
        let weight = self.tensors.vector(&blk("k_norm.weight"), dim)?;
        let bias = self.tensors.vector(&blk("k_norm.bias"), dim)?;
        let (weight, bias) = (Some(self.weight(weight)), Some(self.weight(bias)));
        // PyTorch's epsilon would be 1e-5; the model sets its own, which no key says.
        self.plan.push(Step::Norm { x: k, out: k, kind: NormKind::Layer, eps: 1e-6, width: dim, weight, bias });
        let q = q.split(heads, dim);
        for operand in [q, k] {
            self.plan.push(Step::Rope { x: operand, out: operand, table, pairs: Pairs::Halves });
        }
        let spec = CacheSpec { name: format!("index{i}"), k: dim, v: 0, heads: 1, span: Span::Full };
        let cache = self.plan.cache(spec);
        self.plan.push(Step::Store { cache, k, v: None });
        let out = self.plan.buffer("chosen", top);
        let scale = f64::from(heads * dim).powf(-0.5) as f32;
        self.plan.push(Step::Select(Select { q, w, cache, out, scale }));
        Ok(out)
    }

    /// A matrix for each head of `x`.
    fn heads(&mut self, stem: &str, x: Operand, out: Operand) -> Result<()> {
        let weight = self.tensors.matrices(&format!("{stem}.weight"), x.heads, out.width, x.width)?;
        let scale = self.companion_scale(stem)?;
        let weight = self.weight(weight);
        self.plan.push(Step::Linear { x, parts: vec![Part { out, weight, bias: None, scale }], clamp: None });
        Ok(())
    }
}

/// Some columns of each head of a plain operand.
fn part_of(o: Operand, heads: u32, stride: u32, columns: std::ops::Range<u32>) -> Operand {
    let width = columns.end - columns.start;
    Operand { start: o.start + columns.start, width, heads, stride: if heads == 1 { 0 } else { stride }, ..o }
}
