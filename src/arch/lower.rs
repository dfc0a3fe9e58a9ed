//! Metadata, tensor table and family become a plan.

use super::config::{Config, architecture};
use super::families;
use super::family::{Block, EmbedScale, Family, Ffn, FfnAct, Layer, LogitScale, NormWeights, QkNorm};
use super::rope;
use super::tensors::Tensors;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::Gguf;
use crate::plan::{
    Act, Attend, CacheSpec, Index, NormKind, Operand, Part, Plan, PlanBuilder, Step, Temper, WeightId, WeightRef,
};

/// A plan and the numbers it was made from.
#[derive(Debug)]
pub struct Lowered {
    /// The computation.
    pub plan: Plan,
    /// The model's numbers.
    pub config: Config,
    /// Rows of the embedding table.
    pub n_vocab: u32,
}

/// Lowers the model of a file for sessions of `n_ctx` positions.
///
/// # Errors
/// [`ErrorKind::Model`] for an unknown architecture, a key out of range, a tensor that is missing, mis-shaped or
/// superfluous, each by name.
pub fn lower(gguf: &Gguf, n_ctx: u32) -> Result<Lowered> {
    let arch = architecture(gguf.metadata())?;
    let Some(family) = families::find(arch) else {
        let text = format!("architecture `{}` is not supported", printable(arch));
        let hint = format!("supported are: {}", super::supported().join(", "));
        return Err(Error::new(ErrorKind::Model, text).in_file(gguf.path()).with_hint(hint));
    };
    let tensors = Tensors::new(gguf);
    if tensors.has("blk.0.ffn_gate_inp.weight") {
        let text = format!("`{}` models with experts are not supported yet", printable(arch));
        return Err(Error::new(ErrorKind::Model, text).in_file(gguf.path()));
    }
    tensors.check_needs(family.needs)?;
    tensors.check_layers_alike()?;
    let n_vocab = match tensors.shape("token_embd.weight") {
        Some(&[.., n_vocab, _]) => u32::try_from(n_vocab).unwrap_or(u32::MAX),
        _ => 0, // named by `Lowering::embed`, which asks for one row at least
    };
    let config = Config::read(gguf.metadata(), family, n_vocab)?;
    let mut lowering = Lowering { family, config: &config, n_ctx, n_vocab, tensors, plan: PlanBuilder::default() };
    lowering.whole()?;
    let Lowering { tensors, mut plan, .. } = lowering;
    for note in tensors.finish(family.ignore)? {
        plan.note(note);
    }
    let plan = plan.finish().map_err(|e| {
        Error::new(ErrorKind::Internal, format!("the plan for `{arch}` is not valid: {e}")).in_file(gguf.path())
    })?;
    Ok(Lowered { plan, config, n_vocab })
}

struct Lowering<'a> {
    family: &'a Family,
    config: &'a Config,
    n_ctx: u32,
    n_vocab: u32,
    tensors: Tensors<'a>,
    plan: PlanBuilder,
}

/// One matrix of a group: name of its result, stem of its tensor, rows.
type Output<'n> = (&'n str, String, u32);

impl Lowering<'_> {
    fn whole(&mut self) -> Result<()> {
        self.plan.section("embed");
        let x = self.embed()?;
        for i in 0..self.config.n_layer {
            self.plan.section(format!("blk.{i}"));
            self.layer(i, x)?;
        }
        self.plan.section("head");
        self.head(x)
    }

    fn weight(&mut self, weight: WeightRef) -> WeightId {
        self.plan.weight(weight)
    }

    fn embed(&mut self) -> Result<Operand> {
        let n_embd = self.config.n_embd;
        let table = self.tensors.matrix("token_embd.weight", self.n_vocab.max(1), n_embd)?;
        let companion = self.companion_scale("token_embd")?;
        let table = self.weight(table);
        let scale = match self.family.embed_scale {
            EmbedScale::Key => self.config.embedding_scale.unwrap_or(1.0),
            EmbedScale::KeyOr(default) => self.config.embedding_scale.unwrap_or(default),
            EmbedScale::Sqrt => f64::from(n_embd).sqrt() as f32,
        };
        let x = self.plan.buffer("x", n_embd);
        self.plan.push(Step::Embed { out: x, table, index: Index::Token, scale: scale * companion, add: false });
        if let Some(first) = self.family.positions {
            self.embed_positions(x, first)?;
        }
        match self.family.embed_norm {
            Some(stem) => self.norm(x, x, stem, n_embd, self.family.norm),
            None => Ok(x),
        }
    }

    /// Adds what the model has learned about each position.
    fn embed_positions(&mut self, x: Operand, first: u32) -> Result<()> {
        let name = "position_embd.weight";
        let n_position = match self.tensors.shape(name) {
            Some(&[.., n, _]) => u32::try_from(n).unwrap_or(u32::MAX),
            _ => 1 + first, // named by `matrix`, which misses it
        };
        if n_position <= first {
            let text = format!("tensor `{name}` has {n_position} rows, expected more than {first}");
            return Err(Error::new(ErrorKind::Model, text));
        }
        let table = self.tensors.matrix(name, n_position, x.len())?;
        let table = self.weight(table);
        self.plan.push(Step::Embed { out: x, table, index: Index::Position(first), scale: 1.0, add: true });
        Ok(())
    }

    /// Normalises groups of `width` columns by the norm whose tensors begin with `stem`.
    fn norm(&mut self, x: Operand, out: Operand, stem: &str, width: u32, kind: NormKind) -> Result<Operand> {
        let (mut weight, mut bias) = (None, None);
        if self.family.norm_weights == NormWeights::File {
            weight = Some(self.tensors.vector(&format!("{stem}.weight"), width)?);
            bias = self.tensors.maybe_vector(&format!("{stem}.bias"), width)?;
        }
        let weight = weight.map(|w| self.weight(w));
        let bias = bias.map(|b| self.weight(b));
        self.plan.push(Step::Norm { x, out, kind, eps: self.config.norm_eps, width, weight, bias });
        Ok(out)
    }

    fn layer_norm(&mut self, x: Operand, out: Operand, i: u32, stem: &str) -> Result<Operand> {
        self.norm(x, out, &format!("blk.{i}.{stem}"), self.config.n_embd, self.family.norm)
    }

    /// The factor of a matrix that NVFP4 files keep beside it.
    fn companion_scale(&mut self, stem: &str) -> Result<f32> {
        self.tensors.mark_used(&format!("{stem}.input_scale"));
        Ok(self.tensors.values(&format!("{stem}.scale"), &[1])?.map_or(1.0, |s| s[0]))
    }

    /// Matrices over one input; the results are the buffers named in `outputs`.
    fn linear<const N: usize>(
        &mut self,
        x: Operand,
        outputs: [Output<'_>; N],
        scale: f32,
        clamp: Option<f32>,
    ) -> Result<[Operand; N]> {
        let mut parts = Vec::with_capacity(N);
        let mut outs = [x; N];
        for (slot, (name, stem, n_out)) in outs.iter_mut().zip(outputs) {
            let weight = self.tensors.matrix(&format!("{stem}.weight"), n_out, x.len())?;
            let bias = self.tensors.maybe_vector(&format!("{stem}.bias"), n_out)?;
            let companion = self.companion_scale(&stem)?;
            let out = self.plan.buffer(name, n_out);
            let weight = self.weight(weight);
            let bias = bias.map(|b| self.weight(b));
            parts.push(Part { out, weight, bias, scale: scale * companion });
            *slot = out;
        }
        self.plan.push(Step::Linear { x, parts, clamp });
        Ok(outs)
    }

    fn add(&mut self, x: Operand, y: Operand) {
        let default =
            self.family.residual.map_or(1.0, |r| (f64::from(r) / f64::from(self.config.n_layer).sqrt()) as f32);
        let scale = self.config.residual_scale.unwrap_or(default);
        self.plan.push(Step::Add { x, y, out: x, scale });
    }

    fn layer(&mut self, i: u32, x: Operand) -> Result<()> {
        let layer = self.family.layer(self.config, i);
        let own_ffn_norm = self
            .family
            .ffn_norm
            .filter(|stem| self.family.block != Block::ByNorm || self.tensors.has(&format!("blk.{i}.{stem}.weight")));
        let parallel = match self.family.block {
            Block::Serial => false,
            Block::Parallel => true,
            Block::ByKey => self.config.parallel.unwrap_or(true),
            Block::ByNorm => own_ffn_norm.is_none(),
        };
        let stems = self.family.attn_norm;
        let there = |stem: &&&str| self.tensors.has(&format!("blk.{i}.{stem}.weight"));
        let attn_norm = stems.iter().find(there).or(stems.last()).copied();
        let n = match attn_norm {
            Some(stem) => {
                let n = self.plan.buffer("n", self.config.n_embd);
                self.layer_norm(x, n, i, stem)?
            }
            None => x,
        };
        let a = self.attention(i, &layer, n)?;
        if parallel {
            // Both branches read the stream before either is added.
            let h = match own_ffn_norm {
                Some(stem) if Some(stem) != attn_norm => {
                    let n2 = self.plan.buffer("n2", self.config.n_embd);
                    self.layer_norm(x, n2, i, stem)?
                }
                _ => n,
            };
            let f = self.ffn(i, &layer, h)?;
            self.add(x, a);
            self.add(x, f);
            return Ok(());
        }
        if let Some(stem) = self.family.attn_post_norm {
            self.layer_norm(a, a, i, stem)?;
        }
        self.add(x, a);
        let h = match own_ffn_norm {
            Some(stem) => {
                let n = self.plan.buffer("n", self.config.n_embd);
                self.layer_norm(x, n, i, stem)?
            }
            None => x,
        };
        let f = self.ffn(i, &layer, h)?;
        if let Some(stem) = self.family.ffn_post_norm {
            self.layer_norm(f, f, i, stem)?;
        }
        self.add(x, f);
        Ok(())
    }

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

    fn attention(&mut self, i: u32, layer: &Layer, x: Operand) -> Result<Operand> {
        let (config, blk) = (self.config, |stem: &str| format!("blk.{i}.{stem}"));
        let (heads, kv_heads) = (config.n_head, layer.n_head_kv);
        let (dk, dv) = (config.head_dim_k, config.head_dim_v);
        let (nq, nk, nv) = (heads * dk, kv_heads * dk, kv_heads * dv);
        let [q, k, v] = if self.tensors.has(&blk("attn_qkv.weight")) {
            let [qkv] = self.linear(x, [("qkv", blk("attn_qkv"), nq + nk + nv)], 1.0, config.clamp_kqv)?;
            [qkv.columns(0, nq), qkv.columns(nq, nk), qkv.columns(nq + nk, nv)]
        } else {
            let outputs = [("q", blk("attn_q"), nq), ("k", blk("attn_k"), nk), ("v", blk("attn_v"), nv)];
            self.linear(x, outputs, 1.0, config.clamp_kqv)?
        };
        let (q, k, v) = (q.split(heads, dk), k.split(kv_heads, dk), v.split(kv_heads, dv));
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
        let [a] = self.linear(out, [("a", blk("attn_output"), config.n_embd)], 1.0, None)?;
        Ok(a)
    }

    fn ffn(&mut self, i: u32, layer: &Layer, x: Operand) -> Result<Operand> {
        let (n_ff, blk) = (layer.n_ff, |stem: &str| format!("blk.{i}.{stem}"));
        let act = match (self.family.act, &self.config.xielu) {
            (FfnAct::Fixed(act), _) => act,
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

    fn head(&mut self, x: Operand) -> Result<()> {
        let n_embd = self.config.n_embd;
        if let Some(kind) = self.config.pooling {
            let hidden = self.norm(x, x, "output_norm", n_embd, self.family.norm)?;
            self.plan.output(hidden);
            let out = self.plan.buffer("pooled", n_embd);
            self.plan.push(Step::Pool { x: hidden, out, kind });
            self.plan.output(out);
            self.plan.note("an embedding model: the result is hidden states and their pooled vector, not logits");
            self.tensors.mark_used("output.weight");
            return Ok(());
        }
        let y = self.plan.buffer("y", n_embd);
        let y = self.norm(x, y, "output_norm", n_embd, self.family.norm)?;
        let stem = if self.tensors.has("output.weight") { "output" } else { "token_embd" };
        let scale = match (self.family.logit_scale, self.config.logit_scale) {
            (LogitScale::Divide | LogitScale::DivideOrWidth(_), Some(s)) => 1.0 / s,
            (LogitScale::Multiply, Some(s)) => s,
            (LogitScale::DivideOrWidth(width), None) => width as f32 / n_embd as f32,
            (LogitScale::Divide | LogitScale::Multiply, None) => 1.0,
        };
        let [logits] = self.linear(y, [("logits", stem.to_owned(), self.n_vocab)], scale, None)?;
        if let Some(cap) = self.config.final_softcap {
            self.plan.push(Step::Softcap { x: logits, out: logits, cap });
        }
        self.plan.output(logits);
        self.plan.take_wanted();
        Ok(())
    }
}

/// The activation for the numbers of a file, which holds them before training's constraints: positive =
/// softplus(alpha_p), negative = beta + softplus(alpha_n). Source: transformers `activations.py`.
fn xielu([positive, negative, beta, eps]: [f32; 4]) -> Act {
    let softplus = |x: f32| f64::from(x).exp().ln_1p() as f32;
    Act::Xielu { positive: softplus(positive), negative: beta + softplus(negative), beta, eps }
}
