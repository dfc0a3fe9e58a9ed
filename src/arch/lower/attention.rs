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

    /// Normalises and rotates the heads of queries or keys.
    fn place(&mut self, i: u32, layer: &Layer, heads: Operand, stem: &str) -> Result<()> {
        let stem = format!("blk.{i}.{stem}");
        let behind = matches!(self.family.qk_norm, QkNorm::PerHeadRotated | QkNorm::Weightless { .. });
        if !behind {
            self.qk_norm(heads, &stem, layer.rope.is_some())?;
        }
        if let Some(pairs) = layer.rope {
            let table = rope::table(self.family, &self.config.rope, layer, layer.n_rot, self.n_ctx, &mut self.tensors)?;
            let table = self.plan.table(table);
            self.plan.push(Step::Rope { x: heads, out: heads, table, pairs });
        }
        if behind {
            self.qk_norm(heads, &stem, layer.rope.is_some())?;
        }
        Ok(())
    }

    /// Checkpoints keep matrices in layers that use the keys and values of others.
    fn ignore_own_kv(&mut self, i: u32, layer: &Layer) {
        let names = ["attn_k.weight", "attn_v.weight", "attn_k_norm.weight"].map(|stem| format!("blk.{i}.{stem}"));
        if names.iter().any(|name| self.tensors.has(name)) {
            names.iter().for_each(|name| self.tensors.mark_used(name));
            let from = layer.kv_from;
            self.plan
                .note(format!("layer {i} uses the keys and values of layer {from}; its own matrices are not used"));
        }
    }

    /// Attention over the normed rows `x`; the result is not yet added.
    pub(super) fn attention(&mut self, i: u32, layer: &Layer, x: Operand) -> Result<Operand> {
        let (config, blk) = (self.config, |stem: &str| format!("blk.{i}.{stem}"));
        let (heads, kv_heads) = (config.n_head, layer.n_head_kv);
        let (dk, dv) = (layer.head_dim_k, layer.head_dim_v);
        // Gated: of each head the query, then its gate.
        let stride = if self.family.gated { 2 * dk } else { dk };
        let (nq, nk, nv) = (heads * stride, kv_heads * dk, kv_heads * dv);
        let is_own = layer.kv_from == i;
        let (q, k, v) = if self.tensors.has(&blk("attn_qkv.weight")) {
            let [qkv] = self.linear(x, [("qkv", blk("attn_qkv"), nq + nk + nv)], 1.0, config.clamp_kqv)?;
            (qkv.columns(0, nq), Some(qkv.columns(nq, nk)), Some(qkv.columns(nq + nk, nv)))
        } else {
            let (q, k) = (("q", blk("attn_q"), nq), ("k", blk("attn_k"), nk));
            // A normalised value may be the raw key.
            let may_be_raw = self.family.v_norm && dk == dv && !layer.is_windowed();
            let is_raw_key = may_be_raw && !self.tensors.has(&blk("attn_v.weight"));
            match (is_own, is_raw_key) {
                (false, _) => {
                    self.ignore_own_kv(i, layer);
                    let [q] = self.linear(x, [q], 1.0, config.clamp_kqv)?;
                    (q, None, None)
                }
                (true, true) => {
                    let [q, k] = self.linear(x, [q, k], 1.0, config.clamp_kqv)?;
                    (q, Some(k), Some(k))
                }
                (true, false) => {
                    let [q, k, v] = self.linear(x, [q, k, ("v", blk("attn_v"), nv)], 1.0, config.clamp_kqv)?;
                    (q, Some(k), Some(v))
                }
            }
        };
        let gate = q.columns(stride - dk, nq + dk - stride).strided(heads, dk, stride);
        let q = q.strided(heads, dk, stride);
        self.place(i, layer, q, "attn_q_norm")?;
        if let (Some(k), Some(mut v), true) = (k, v, is_own) {
            if self.family.v_norm {
                let (x, out) = (v.split(kv_heads, dv), self.plan.buffer("vn", nv));
                let (kind, eps, width) = (NormKind::Rms, self.config.norm_eps, dv);
                let step = Step::Norm { x, out: out.split(kv_heads, dv), kind, eps, width, weight: None, bias: None };
                self.plan.push(step);
                v = out;
            }
            let (k, v) = (k.split(kv_heads, dk), v.split(kv_heads, dv));
            self.place(i, layer, k, "attn_k_norm")?;
            let cache = self.plan.cache(kv_cache(i, layer));
            self.plan.push(Step::Store { cache, k, v: Some(v) });
        }
        let cache = self.plan.cache(kv_cache(layer.kv_from, layer));
        let out = self.plan.buffer("o", heads * dv);
        let scale = match self.family.scale_n_embd_layers {
            Some(n) if n == config.n_layer => (f64::from(config.n_embd) / f64::from(heads)).powf(-0.5) as f32,
            _ => {
                let scale = self.family.attn_scale.or(config.attn_scale);
                scale.unwrap_or(f64::from(dk).powf(-0.5) as f32)
            }
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

/// The cache of the keys and values that layer `i` makes, whose form is that of a layer that uses it.
fn kv_cache(i: u32, layer: &Layer) -> CacheSpec {
    let Layer { n_head_kv, head_dim_k, head_dim_v, span, .. } = *layer;
    CacheSpec { name: format!("kv{i}"), k: n_head_kv * head_dim_k, v: n_head_kv * head_dim_v, heads: n_head_kv, span }
}
