//! The attention of a layer.

use super::Lowering;
use crate::arch::family::{Layer, QkNorm, TemperWhere};
use crate::arch::rope;
use crate::error::Result;
use crate::plan::{Act, Attend, CacheSpec, NormKind, Operand, Step, Temper};

impl Lowering<'_> {
    /// Does the layer have norms of queries and keys? One of the two alone is a file that lost the other.
    fn has_qk_norm(&self, stem: &str) -> bool {
        let name = format!("{stem}.weight");
        let of_either = [name.clone(), name.replace("attn_k", "attn_q"), name.replace("attn_q", "attn_k")];
        of_either.iter().any(|name| self.tensors.has(name))
    }

    /// Normalises the heads of queries or keys of a layer that rotates them, or does not.
    fn qk_norm(&mut self, heads: Operand, stem: &str, rotated: bool) -> Result<()> {
        match self.family.qk_norm {
            QkNorm::None => {}
            QkNorm::PerHead | QkNorm::PerHeadRotated => {
                self.norm(heads, heads, stem, heads.width, NormKind::Rms)?;
            }
            QkNorm::Whole => {
                let whole = Operand { width: heads.len(), heads: 1, stride: 0, ..heads };
                self.norm(whole, whole, stem, whole.width, NormKind::Rms)?;
            }
            QkNorm::PerHeadIfThere if self.has_qk_norm(stem) => {
                self.norm(heads, heads, stem, heads.width, NormKind::Rms)?;
            }
            QkNorm::LayerIfThere if self.has_qk_norm(stem) => {
                let weight = self.tensors.vectors(&format!("{stem}.weight"), heads.heads, heads.width)?;
                let (weight, eps) = (Some(self.weight(weight)), self.config.norm_eps);
                let (kind, width) = (NormKind::Layer, heads.width);
                self.plan.push(Step::Norm { x: heads, out: heads, kind, eps, width, weight, bias: None });
            }
            QkNorm::PerHeadIfThere | QkNorm::LayerIfThere => {}
            QkNorm::Weightless { unless_experts } => {
                if rotated && self.config.experts.as_ref().is_none_or(|e| e.count != unless_experts) {
                    let (kind, width, eps) = (NormKind::Rms, heads.width, self.config.norm_eps);
                    self.plan.push(Step::Norm { x: heads, out: heads, kind, eps, width, weight: None, bias: None });
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
            let behind = matches!(self.family.qk_norm, QkNorm::PerHeadRotated | QkNorm::Weightless { .. });
            if !behind {
                self.qk_norm(operand, &blk(stem), layer.rope.is_some())?;
            }
            if let Some(pairs) = layer.rope {
                let n_rot = config.rope.n_rot.unwrap_or(dk);
                let table = rope::table(self.family, &config.rope, layer, n_rot, self.n_ctx, &mut self.tensors)?;
                let table = self.plan.table(table);
                self.plan.push(Step::Rope { x: operand, out: operand, table, pairs });
            }
            if behind {
                self.qk_norm(operand, &blk(stem), layer.rope.is_some())?;
            }
        }
        let spec = CacheSpec { name: format!("kv{i}"), k: nk, v: nv, heads: kv_heads, span: layer.span };
        let cache = self.plan.cache(spec);
        self.plan.push(Step::Store { cache, k, v: Some(v) });
        let out = self.plan.buffer("o", heads * dv);
        let scale = match self.family.scale_n_embd_layers {
            Some(n) if n == config.n_layer => (f64::from(config.n_embd) / f64::from(heads)).powf(-0.5) as f32,
            _ => config.attn_scale.unwrap_or(f64::from(dk).powf(-0.5) as f32),
        };
        let add = match self.family.temper {
            TemperWhere::All => Some(0),
            TemperWhere::Unrotated if layer.rope.is_none() => Some(1),
            TemperWhere::Never | TemperWhere::Unrotated => None,
        };
        let temper = config.temperature.zip(add);
        let sinks = self.tensors.maybe_vector(&blk("attn_sinks.weight"), heads)?;
        let sinks = sinks.map(|s| self.weight(s));
        self.plan.push(Step::Attend(Box::new(Attend {
            q,
            out,
            cache,
            heads,
            kv_heads,
            scale,
            span: layer.span,
            softcap: config.attn_softcap,
            temper: temper.map(|((scale, length), add)| Temper { scale, length, add }),
            alibi: layer.alibi,
            sinks,
            v_prefix: None,
            select: None,
        })));
        if self.family.gated {
            self.plan.push(Step::Gate { x: gate, out, act: Act::Sigmoid, by: Some(out) });
        }
        let [a] = self.linear(out, [("a", blk("attn_output"), config.n_embd)], 1.0, None)?;
        Ok(a)
    }
}
