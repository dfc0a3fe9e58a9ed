//! Metadata, tensor table and family become a plan.

mod attention;
mod experts;
mod ffn;
mod latent;
mod per_layer;
mod recurrent;
mod streams;

use super::adapter::{self, Adapters, Term};
use super::config::{Config, Pooling, architecture};
use super::families;
use super::family::{Block, EmbedScale, Family, LogitScale, NormWeights};
use super::table;
use super::tensors::Tensors;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::Gguf;
use crate::plan::{Index, NormKind, Operand, Part, Plan, PlanBuilder, Step, WeightId, WeightRef};
use streams::Streams;

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

/// What a model is lowered for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Purpose<'a> {
    /// Positions of a session.
    pub n_ctx: u32,
    /// LoRA adapters that change it, each with its scale.
    pub adapters: &'a [(&'a Gguf, f32)],
    /// Vectors of texts by this pooling, in place of what the file is for.
    pub pooling: Option<Pooling>,
}

/// Lowers the model of a file.
///
/// # Errors
/// [`ErrorKind::Model`] for an unknown architecture, a key out of range, a tensor that is missing, mis-shaped or
/// superfluous, each by name; the same for adapters.
pub fn lower(gguf: &Gguf, purpose: &Purpose<'_>) -> Result<Lowered> {
    let arch = architecture(gguf.metadata())?;
    if adapter::is_adapter(gguf) {
        let text = format!("this is an adapter for `{}` models, no model", printable(arch));
        let hint = "name the model that it was trained on, and this file behind --lora";
        return Err(Error::new(ErrorKind::Model, text).in_file(gguf.path()).with_hint(hint));
    }
    let Some(family) = families::find(arch) else { return Err(unknown(arch).in_file(gguf.path())) };
    let tensors = Tensors::new(gguf);
    tensors.check_needs(family.needs)?;
    tensors.check_layers_alike()?;
    let n_vocab = match tensors.shape("token_embd.weight") {
        Some(&[.., n_vocab, _]) => u32::try_from(n_vocab).unwrap_or(u32::MAX),
        _ => 0, // named by `Lowering::embed`, which asks for one row at least
    };
    let config = Config::read(gguf.metadata(), family, n_vocab, purpose.pooling)?;
    let adapters = Adapters::read(purpose.adapters, arch)?;
    let n_ctx = purpose.n_ctx;
    let plan = PlanBuilder::default();
    let mut lowering = Lowering { family, config: &config, n_ctx, n_vocab, tensors, adapters, plan };
    lowering.whole()?;
    let Lowering { mut tensors, adapters, mut plan, .. } = lowering;
    adapters.finish()?;
    for i in config.n_layer..config.n_layer + config.n_layer_ahead {
        if tensors.mark_layer_used(i) {
            plan.note(format!("layer {i} predicts further tokens; it is not used by this computation"));
        }
    }
    for note in tensors.finish(family.ignore)? {
        plan.note(note);
    }
    let plan = plan.finish().map_err(|e| {
        Error::new(ErrorKind::Internal, format!("the plan for `{arch}` is not valid: {e}")).in_file(gguf.path())
    })?;
    Ok(Lowered { plan, config, n_vocab })
}

/// The refusal of an architecture that no family describes.
fn unknown(arch: &str) -> Error {
    const WHERE: &str =
        "`tealight inspect --architectures` lists what runs; `tealight inspect FILE` shows this file's keys";
    let Some(known) = table::find(arch).filter(|a| a.name == arch) else {
        let near = table::nearest(arch);
        let runs = if near.runs() { "which runs" } else { "which does not run either" };
        let name = printable(arch);
        let text = format!(
            "architecture `{name}` is not supported: the name is unknown; the nearest is `{}`, {runs}",
            near.name
        );
        return Error::new(ErrorKind::Model, text).with_hint(format!("{WHERE}; a newer Tealight may know it"));
    };
    let why = known.reason().unwrap_or_default();
    let text = format!("architecture `{}` ({}) is not supported: {why}", known.name, known.models);
    Error::new(ErrorKind::Model, text).with_hint(WHERE)
}

struct Lowering<'a> {
    family: &'a Family,
    config: &'a Config,
    n_ctx: u32,
    n_vocab: u32,
    tensors: Tensors<'a>,
    adapters: Adapters<'a>,
    plan: PlanBuilder,
}

/// One matrix of a group: name of its result, stem of its tensor, rows.
type Output<'n> = (&'n str, String, u32);

impl Lowering<'_> {
    fn whole(&mut self) -> Result<()> {
        self.plan.section("embed");
        let x = self.embed()?;
        self.embed_per_layer(x)?;
        let streams = self.config.streams.map(|s| self.open_streams(s, x)).transpose()?;
        for i in 0..self.config.n_layer {
            self.plan.section(format!("blk.{i}"));
            self.layer(i, x, streams)?;
        }
        if let Some(streams) = streams {
            self.join_streams(streams, x)?;
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
        for term in self.adapters.row_terms("token_embd.weight", self.n_vocab, n_embd)? {
            let rank = self.plan.buffer("la", term.rank);
            let table = self.weight(term.a);
            self.plan.push(Step::Embed { out: rank, table, index: Index::Token, scale: 1.0, add: false });
            self.add_term(x, rank, term.b, scale * term.scale);
        }
        if self.family.token_types && self.tensors.has("token_types.weight") {
            self.embed_token_type(x)?;
        }
        if let Some(first) = self.family.positions {
            self.embed_positions(x, first)?;
        }
        match self.family.embed_norm {
            Some(stem) => self.norm(x, x, stem, n_embd, self.family.norm),
            None => Ok(x),
        }
    }

    /// Adds what the model has learned about tokens of the first kind: those of a single text.
    fn embed_token_type(&mut self, x: Operand) -> Result<()> {
        let name = "token_types.weight";
        let n_type = match self.tensors.shape(name) {
            Some(&[.., n, _]) => u32::try_from(n).unwrap_or(u32::MAX),
            _ => 1,
        };
        let table = self.tensors.matrix(name, n_type, x.len())?;
        let table = self.weight(table);
        self.plan.push(Step::Embed { out: x, table, index: Index::Row(0), scale: 1.0, add: true });
        Ok(())
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
            // Falcon-H1's files have one norm without an ending.
            let bare = self.tensors.has(stem) && !self.tensors.has(&format!("{stem}.weight"));
            let name = if bare { stem.to_owned() } else { format!("{stem}.weight") };
            weight = Some(self.tensors.vector(&name, width)?);
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
        let mut terms = Vec::new();
        for (slot, (name, stem, n_out)) in outs.iter_mut().zip(outputs) {
            let weight = self.tensors.matrix(&format!("{stem}.weight"), n_out, x.len())?;
            let bias = self.tensors.maybe_vector(&format!("{stem}.bias"), n_out)?;
            let companion = self.companion_scale(&stem)?;
            let out = self.plan.buffer(name, n_out);
            let weight = self.weight(weight);
            let bias = bias.map(|b| self.weight(b));
            parts.push(Part { out, weight, bias, scale: scale * companion });
            *slot = out;
            // The table of embeddings is a head, too, where there is no other; its adapter changes what is looked up.
            let name = if stem == "token_embd" { "output.weight".to_owned() } else { format!("{stem}.weight") };
            let found = self.adapters.terms(&name, n_out, x.len())?;
            if let (Some(_), Some(limit)) = (found.first(), clamp) {
                let text = format!("adapters cannot change `{name}`, whose results are limited to {limit}");
                return Err(Error::new(ErrorKind::Model, text));
            }
            terms.extend(found.into_iter().map(|term| (out, Term { scale: scale * term.scale, ..term })));
        }
        let mut ranks = Vec::with_capacity(terms.len());
        for (i, (_, term)) in terms.iter().enumerate() {
            let out = self.plan.buffer(&format!("la{i}"), term.rank);
            let weight = self.plan.weight(term.a.clone());
            parts.push(Part { out, weight, bias: None, scale: 1.0 });
            ranks.push(out);
        }
        self.plan.push(Step::Linear { x, parts, clamp });
        for ((out, term), rank) in terms.into_iter().zip(ranks) {
            self.add_term(out, rank, term.b, term.scale);
        }
        Ok(outs)
    }

    /// x += scale * B a, the second half of an adapter's term.
    fn add_term(&mut self, x: Operand, a: Operand, b: WeightRef, scale: f32) {
        let out = self.plan.buffer("lb", x.len());
        let weight = self.weight(b);
        self.plan.push(Step::Linear { x: a, parts: vec![Part { out, weight, bias: None, scale }], clamp: None });
        self.plan.push(Step::Add { x, y: out, out: x, scale: 1.0 });
    }

    fn add(&mut self, x: Operand, y: Operand) {
        self.add_to(x, y, x);
    }

    /// out = x + y, with the factor of branches.
    fn add_to(&mut self, x: Operand, y: Operand, out: Operand) {
        let default =
            self.family.residual.map_or(1.0, |r| (f64::from(r) / f64::from(self.config.n_layer).sqrt()) as f32);
        let scale = self.config.residual_scale.unwrap_or(default);
        self.plan.push(Step::Add { x, y, out, scale });
    }

    fn layer(&mut self, i: u32, x: Operand, streams: Option<Streams>) -> Result<()> {
        // What the layer reads.
        let from = streams.map_or(Ok(x), |s| self.predict(i, s))?;
        let layer = self.family.layer(self.config, i);
        let own_ffn_norm = self
            .family
            .ffn_norm
            .filter(|stem| self.family.block != Block::ByNorm || self.tensors.has(&format!("blk.{i}.{stem}.weight")));
        let parallel = match self.family.block {
            Block::Serial | Block::One => false,
            Block::Parallel => true,
            Block::ByKey => self.config.parallel.unwrap_or(true),
            Block::ByNorm => own_ffn_norm.is_none(),
        };
        let stems = self.family.attn_norm;
        let there = |stem: &&&str| self.tensors.has(&format!("blk.{i}.{stem}.weight"));
        let is_bare = i == 0 && !self.family.first_attn_norm;
        let attn_norm = stems.iter().find(there).or(stems.last()).copied().filter(|_| !is_bare);
        let n = match attn_norm {
            Some(stem) => {
                let n = self.plan.buffer("n", self.config.n_embd);
                self.layer_norm(from, n, i, stem)?
            }
            None => from,
        };
        let mut branches = Vec::with_capacity(2);
        for mixer in layer.mixers.into_iter().flatten() {
            branches.push(self.mixer(mixer, i, &layer, n)?);
        }
        if self.family.block == Block::One {
            if layer.has_ffn {
                branches.push(self.ffn(i, &layer, n, x)?);
            }
            branches.into_iter().for_each(|branch| self.add(x, branch));
            return Ok(());
        }
        if parallel {
            // Both branches read the stream before either is added.
            let h = match own_ffn_norm {
                Some(stem) if Some(stem) != attn_norm => {
                    let n2 = self.plan.buffer("n2", self.config.n_embd);
                    self.layer_norm(x, n2, i, stem)?
                }
                _ => n,
            };
            let f = self.ffn(i, &layer, h, x)?;
            branches.into_iter().chain([f]).for_each(|branch| self.add(x, branch));
            return Ok(());
        }
        if let Some(stem) = self.family.attn_post_norm {
            branches.iter().try_for_each(|a| self.layer_norm(*a, *a, i, stem).map(|_| ()))?;
        }
        let mut base = from;
        for branch in branches {
            self.add_to(base, branch, x);
            base = x;
        }
        if streams.is_some() {
            self.add_laurel(i, n, x)?;
        }
        if let Some([stem, _]) = self.family.stream_norms {
            self.layer_norm(x, x, i, stem)?;
        }
        let h = match own_ffn_norm {
            Some(stem) => {
                let n = self.plan.buffer("n", self.config.n_embd);
                self.layer_norm(x, n, i, stem)?
            }
            None => x,
        };
        let f = self.ffn(i, &layer, h, x)?;
        if let Some(stem) = self.family.ffn_post_norm {
            self.layer_norm(f, f, i, stem)?;
        }
        self.add(x, f);
        if let Some([_, stem]) = self.family.stream_norms {
            self.layer_norm(x, x, i, stem)?;
        }
        match streams {
            Some(streams) => self.correct(i, x, streams)?,
            None => {
                let branch = self.per_layer(i, x)?;
                branch.into_iter().for_each(|y| self.plan.push(Step::Add { x, y, out: x, scale: 1.0 }));
            }
        }
        if let Some(factor) = self.tensors.values(&format!("blk.{i}.layer_output_scale.weight"), &[1])? {
            self.plan.push(Step::Scale { x, out: x, factor: factor[0], weight: None });
        }
        Ok(())
    }

    fn head(&mut self, x: Operand) -> Result<()> {
        let n_embd = self.config.n_embd;
        if self.config.embeds {
            if let Some(stem) = self.family.output_norm {
                self.norm(x, x, stem, n_embd, self.family.norm)?;
            }
            self.plan.output(x);
            if let Some(kind) = self.config.pooling.and_then(Pooling::kind) {
                let out = self.plan.buffer("pooled", n_embd);
                self.plan.push(Step::Pool { x, out, kind });
                self.plan.output(out);
            }
            self.tensors.mark_used("output.weight");
            self.tensors.mark_used("output.bias");
            return Ok(());
        }
        let mut y = x;
        if let Some(stem) = self.family.output_norm {
            y = self.plan.buffer("y", n_embd);
            self.norm(x, y, stem, n_embd, self.family.norm)?;
        }
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
