//! The attention of a layer.

use super::Lowering;
use crate::arch::family::{Layer, QkNorm};
use crate::arch::rope;
use crate::error::Result;
use crate::plan::{Act, Attend, CacheSpec, NormKind, Operand, Step, Temper};

impl Lowering<'_> {
    /// Normalises the heads of queries or keys.
    fn qk_norm(&mut self, heads: Operand, stem: &str) -> Result<()> {
        match self.family.qk_norm {
            QkNorm::None => {}
            QkNorm::PerHead | QkNorm::PerHeadRotated => {
                self.norm(heads, heads, stem, heads.width, NormKind::Rms)?;
            }
            QkNorm::Whole => {
                let whole = Operand { width: heads.len(), heads: 1, stride: 0, ..heads };
                self.norm(whole, whole, stem, whole.width, NormKind::Rms)?;
            }
            QkNorm::LayerIfThere => {
                let name = format!("{stem}.weight");
                // One of the two alone is a file that lost the other.
                let of_either = [name.clone(), name.replace("attn_k", "attn_q"), name.replace("attn_q", "attn_k")];
                if of_either.iter().any(|name| self.tensors.has(name)) {
                    let weight = self.tensors.vectors(&name, heads.heads, heads.width)?;
                    let (weight, eps) = (Some(self.weight(weight)), self.config.norm_eps);
                    let (kind, width) = (NormKind::Layer, heads.width);
                    self.plan.push(Step::Norm { x: heads, out: heads, kind, eps, width, weight, bias: None });
                }
            }
        }
        Ok(())
    }

    /// Attention over the normed rows `x`; the result is not yet added.
    pub(super) fn attention(&mut self, i: u32, layer: &Layer, x: Operand) -> Result<Operand> {
        let (config, blk) = (self.config, |stem: &str| format!("blk.{i}.{stem}"));
        let (heads, kv_heads) = (config.n_head, layer.n_head_kv);
        let (dk, dv) = (config.head_dim_k, config.head_dim_v);
        // Gated: of each head the query, then its gate.
        let stride = if self.family.gated { 2 * dk } else { dk };
        let (nq, nk, nv) = (heads * stride, kv_heads * dk, kv_heads * dv);
        let [q, k, v] = if self.tensors.has(&blk("attn_qkv.weight")) {
            let [qkv] = self.linear(x, [("qkv", blk("attn_qkv"), nq + nk + nv)], 1.0, config.clamp_kqv)?;
            [qkv.columns(0, nq), qkv.columns(nq, nk), qkv.columns(nq + nk, nv)]
        } else {
            let outputs = [("q", blk("attn_q"), nq), ("k", blk("attn_k"), nk), ("v", blk("attn_v"), nv)];
            self.linear(x, outputs, 1.0, config.clamp_kqv)?
        };
        let gate = q.columns(stride - dk, nq + dk - stride).strided(heads, dk, stride);
        let (q, k, v) = (q.strided(heads, dk, stride), k.split(kv_heads, dk), v.split(kv_heads, dv));
        for (operand, stem) in [(q, "attn_q_norm"), (k, "attn_k_norm")] {
            let behind = self.family.qk_norm == QkNorm::PerHeadRotated;
            if !behind {
                self.qk_norm(operand, &blk(stem))?;
            }
            if let Some(pairs) = layer.rope {
                let n_rot = config.rope.n_rot.unwrap_or(dk);
                let table = rope::table(self.family, &config.rope, layer, n_rot, self.n_ctx, &mut self.tensors)?;
                let table = self.plan.table(table);
                self.plan.push(Step::Rope { x: operand, out: operand, table, pairs });
            }
            if behind {
                self.qk_norm(operand, &blk(stem))?;
            }
        }
        let spec = CacheSpec { name: format!("kv{i}"), k: nk, v: nv, heads: kv_heads, span: layer.span };
        let cache = self.plan.cache(spec);
        self.plan.push(Step::Store { cache, k, v });
        let out = self.plan.buffer("o", heads * dv);
        let scale = match self.family.scale_n_embd_layers {
            Some(n) if n == config.n_layer => (f64::from(config.n_embd) / f64::from(heads)).powf(-0.5) as f32,
            _ => config.attn_scale.unwrap_or(f64::from(dk).powf(-0.5) as f32),
        };
        let temper = config.temperature.filter(|_| self.family.temper);
        self.plan.push(Step::Attend(Box::new(Attend {
            q,
            out,
            cache,
            heads,
            kv_heads,
            scale,
            span: layer.span,
            softcap: config.attn_softcap,
            temper: temper.map(|(scale, length)| Temper { scale, length, add: 0 }),
            alibi: layer.alibi,
        })));
        if self.family.gated {
            self.plan.push(Step::Gate { x: gate, out, act: Act::Sigmoid, by: Some(out) });
        }
        let [a] = self.linear(out, [("a", blk("attn_output"), config.n_embd)], 1.0, None)?;
        Ok(a)
    }
}
