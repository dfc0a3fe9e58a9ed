//! The feed-forward part of a layer with experts.

use super::Lowering;
use crate::arch::family::{ExpertRule, Ffn, Layer, Renorm};
use crate::error::Result;
use crate::plan::{Act, ExpertPart, Experts, NormKind, Operand, Part, Route, Score, Step};

impl Lowering<'_> {
    /// Experts, and those that every row goes to, over the normed rows `x` of the stream; the result is not yet added.
    pub(super) fn experts(&mut self, i: u32, layer: &Layer, x: Operand, stream: Operand) -> Result<Operand> {
        let blk = |stem: &str| format!("blk.{i}.{stem}");
        let (Some(rule), Some(config)) = (self.family.experts, self.config.experts.as_ref()) else {
            let text = format!("tensor `{}` is there, but no key `expert_count`", blk("ffn_gate_inp.weight"));
            return Err(self.tensors.fault(text));
        };
        let (n, k) = (config.count, config.used);
        let dense = x;
        let (logits, x) = match rule.beside_dense {
            false => (self.linear(x, [("router", blk("ffn_gate_inp"), n)], 1.0, None)?[0], x),
            true => self.router_of_stream(i, n, stream)?,
        };
        let bias = self.tensors.maybe_vector(&blk("exp_probs_b.bias"), n)?;
        let per_expert = self.tensors.maybe_vector(&blk("ffn_down_exps.scale"), n)?;
        if matches!(rule.score, Score::Mixer { .. }) && (k != 2 || n < 3) {
            let text = format!("{k} of {n} experts are chosen; this architecture chooses two of at least three");
            return Err(self.tensors.fault(text));
        }
        let own = rule.score_biased.filter(|_| bias.is_some()).unwrap_or(rule.score);
        let route = Route {
            x: logits,
            idx: self.plan.buffer("idx", k),
            w: self.plan.buffer("weights", k),
            score: config.score.filter(|_| rule.by_key).unwrap_or(own),
            bias: bias.map(|b| self.weight(b)),
            groups: config.groups,
            renorm: renorm(rule, config.renorm),
            scale: config.scale,
            per_expert: per_expert.map(|p| self.weight(p)),
        };
        let (idx, w) = (route.idx, route.w);
        self.plan.push(Step::Route(Box::new(route)));
        let out = self.stacks(i, n, x, [idx, w], rule.on_input)?;
        // The width of what every row goes to is the tensor's: keys of some files say another one.
        let up = self.tensors.shape(&blk("ffn_up_shexp.weight")).and_then(|s| s.iter().rev().nth(1));
        let down = self.tensors.shape(&blk("ffn_down_shexp.weight")).and_then(|s| s.last());
        if let Some(&n_ff) = up.or(down) {
            let shared = self.mlp(i, x, u32::try_from(n_ff).unwrap_or(u32::MAX), "_shexp")?;
            if self.tensors.has(&blk("ffn_gate_inp_shexp.weight")) {
                let [gate] = self.linear(x, [("g_inp_shexp", blk("ffn_gate_inp_shexp"), 1)], 1.0, None)?;
                self.plan.push(Step::Gate { x: gate, out: shared, act: Act::Sigmoid, by: Some(shared) });
            }
            self.plan.push(Step::Add { x: out, y: shared, out, scale: 1.0 });
        }
        if rule.beside_dense {
            let dense = self.mlp(i, dense, layer.n_ff, "")?;
            self.layer_norm(dense, dense, i, "post_ffw_norm_1")?;
            self.layer_norm(out, out, i, "post_ffw_norm_2")?;
            self.plan.push(Step::Add { x: dense, y: out, out: dense, scale: 1.0 });
            return Ok(dense);
        }
        Ok(out)
    }

    /// The numbers of `n` experts by a router that reads the stream, and the input of the experts.
    fn router_of_stream(&mut self, i: u32, n: u32, stream: Operand) -> Result<(Operand, Operand)> {
        let (n_embd, eps) = (self.config.n_embd, self.config.norm_eps);
        let (x, input) = (self.plan.buffer("rn", n_embd), self.plan.buffer("en", n_embd));
        let weight = self.tensors.vector(&format!("blk.{i}.ffn_gate_inp.scale"), n_embd)?;
        let (kind, weight) = (NormKind::Rms, Some(self.weight(weight)));
        self.plan.push(Step::Norm { x: stream, out: x, kind, eps, width: n_embd, weight, bias: None });
        self.layer_norm(stream, input, i, "pre_ffw_norm_2")?;
        let weight = self.tensors.matrix(&format!("blk.{i}.ffn_gate_inp.weight"), n, n_embd)?;
        let (out, weight) = (self.plan.buffer("router", n), self.weight(weight));
        let scale = f64::from(n_embd).powf(-0.5) as f32;
        self.plan.push(Step::Linear { x, parts: vec![Part { out, weight, bias: None, scale }], clamp: None });
        Ok((out, input))
    }

    /// The matrices of `n` experts; their width is the tensor's.
    fn stacks(&mut self, i: u32, n: u32, x: Operand, [idx, w]: [Operand; 2], on_input: bool) -> Result<Operand> {
        let blk = |stem: &str| format!("blk.{i}.{stem}_exps");
        let n_embd = self.config.n_embd;
        let n_ff = match self.tensors.shape(&format!("{}.weight", blk("ffn_down"))) {
            Some(&[.., n_ff]) => u32::try_from(n_ff).unwrap_or(u32::MAX),
            _ => 1, // named by `stack`, which misses it
        };
        let down = self.stack(&blk("ffn_down"), n, n_embd, n_ff)?;
        let gate_up = self.tensors.has(&format!("{}.weight", blk("ffn_gate_up")));
        let (gate, up) = match (gate_up, self.family.ffn) {
            (true, _) => (None, self.stack(&blk("ffn_gate_up"), n, n_ff.saturating_mul(2), x.len())?),
            (false, Ffn::Plain) => (None, self.stack(&blk("ffn_up"), n, n_ff, x.len())?),
            (false, Ffn::Gated | Ffn::Fused) => {
                let gate = self.stack(&blk("ffn_gate"), n, n_ff, x.len())?;
                (Some(gate), self.stack(&blk("ffn_up"), n, n_ff, x.len())?)
            }
        };
        let (act, out) = (self.act(i), self.plan.buffer("fe", n_embd));
        let experts = Experts { x, idx, w, out, gate, up, gate_up, down, act, on_input };
        self.plan.push(Step::Experts(Box::new(experts)));
        Ok(out)
    }

    fn stack(&mut self, stem: &str, n: u32, n_out: u32, n_in: u32) -> Result<ExpertPart> {
        let weight = self.tensors.matrices(&format!("{stem}.weight"), n, n_out, n_in)?;
        let bias = format!("{stem}.bias");
        let bias = self.tensors.has(&bias).then(|| self.tensors.vectors(&bias, n, n_out)).transpose()?;
        Ok(ExpertPart { weight: self.weight(weight), bias: bias.map(|b| self.weight(b)) })
    }
}

fn renorm(rule: ExpertRule, key: Option<bool>) -> Option<f32> {
    match rule.renorm {
        Renorm::Never => None,
        Renorm::Always(eps) => Some(eps),
        Renorm::Key(eps) => key.unwrap_or(false).then_some(eps),
    }
}
