//! Layers that keep a state: convolutions, selective states, delta rules. Each reads the normed rows; the result is not
//! yet added.

use super::Lowering;
use crate::arch::family::{BetaForm, Layer, Mixer};
use crate::error::Result;
use crate::plan::{Act, Delta, NormKind, Operand, Part, Scan, Spread, StateId, StateKind, StateSpec, Step, WeightId};

/// Epsilon of the norms of a delta rule's keys and queries. Source: transformers `modeling_qwen3_next.py` (`l2norm`).
const L2_EPS: f32 = 1e-6;

impl Lowering<'_> {
    /// One of a layer's mixers over the normed rows `x`.
    pub(super) fn mixer(&mut self, mixer: Mixer, i: u32, layer: &Layer, x: Operand) -> Result<Operand> {
        match mixer {
            Mixer::Attention => match self.config.latent {
                Some(latent) => self.latent(i, layer, &latent, x),
                None => self.attention(i, layer, x),
            },
            Mixer::ShortConv => self.short_conv(i, x),
            Mixer::Mamba1 => self.mamba1(i, x),
            Mixer::Mamba2 => self.mamba2(i, x),
            Mixer::Delta => self.delta(i, x),
            Mixer::KeyDelta => self.key_delta(i, x),
        }
    }

    fn tail(&mut self, name: String, channels: u32) -> StateId {
        let kind = StateKind::Tail { taps: self.config.state.kernel - 1, channels };
        self.plan.state(StateSpec { name, kind })
    }

    fn matrices(&mut self, i: u32, heads: u32, rows: u32, cols: u32) -> StateId {
        self.plan.state(StateSpec { name: format!("state{i}"), kind: StateKind::Matrices { heads, rows, cols } })
    }

    fn vector(&mut self, name: &str, n: u32) -> Result<WeightId> {
        let weight = self.tensors.vector(name, n)?;
        Ok(self.weight(weight))
    }

    fn vectors(&mut self, name: &str, count: u32, n: u32) -> Result<WeightId> {
        let weight = self.tensors.vectors(name, count, n)?;
        Ok(self.weight(weight))
    }

    /// A convolution of `x` with the tensors that begin with `stem`, remembered as `tail`.
    fn conv(&mut self, x: Operand, out: Operand, stem: &str, tail: String, act: Act, biased: bool) -> Result<()> {
        let state = self.tail(tail, x.len());
        let weight = self.vectors(&format!("{stem}.weight"), x.len(), self.config.state.kernel)?;
        let bias = biased.then(|| self.vector(&format!("{stem}.bias"), x.len())).transpose()?;
        self.plan.push(Step::Conv { x, out, state, weight, bias, act });
        Ok(())
    }

    /// LFM2: a convolution between two gates.
    fn short_conv(&mut self, i: u32, x: Operand) -> Result<Operand> {
        let (n, blk) = (self.config.n_embd, |stem: &str| format!("blk.{i}.shortconv.{stem}"));
        let [bcx] = self.linear(x, [("bcx", blk("in_proj"), 3 * n)], 1.0, None)?;
        let (u, y) = (self.plan.buffer("u", n), self.plan.buffer("y", n));
        self.plan.push(Step::Gate { x: bcx.columns(0, n), out: u, act: Act::Id, by: Some(bcx.columns(2 * n, n)) });
        self.conv(u, y, &blk("conv"), format!("tail{i}"), Act::Id, false)?;
        self.plan.push(Step::Gate { x: bcx.columns(n, n), out: y, act: Act::Id, by: Some(y) });
        let [a] = self.linear(y, [("a", blk("out_proj"), n)], 1.0, None)?;
        Ok(a)
    }

    fn mamba1(&mut self, i: u32, x: Operand) -> Result<Operand> {
        let (c, blk) = (self.config.state.clone(), |stem: &str| format!("blk.{i}.ssm_{stem}"));
        let (inner, n, rank) = (c.inner, c.state, c.heads);
        let [xz] = self.linear(x, [("xz", blk("in"), 2 * inner)], 1.0, None)?;
        let (xc, y) = (self.plan.buffer("xc", inner), self.plan.buffer("ys", inner));
        self.conv(xz.columns(0, inner), xc, &blk("conv1d"), format!("tail{i}"), Act::Silu, true)?;
        let [dbc] = self.linear(xc, [("dbc", blk("x"), rank + 2 * n)], 1.0, None)?;
        let (dt, b, c) = (dbc.columns(0, rank), dbc.columns(rank, n), dbc.columns(rank + n, n));
        for (o, stem) in [(dt, "dt_norm"), (b, "b_norm"), (c, "c_norm")] {
            if self.family.dt_norms {
                self.norm(o, o, &blk(stem), o.width, NormKind::Rms)?;
            } else if self.config.state.bare_norms {
                let (kind, eps, width) = (NormKind::Rms, self.config.norm_eps, o.width);
                self.plan.push(Step::Norm { x: o, out: o, kind, eps, width, weight: None, bias: None });
            }
        }
        let steps = self.plan.buffer("dt", inner);
        // The bias is the scan's: it acts inside of its softplus.
        let (weight, scale) = (self.tensors.matrix(&blk("dt.weight"), inner, rank)?, self.companion_scale(&blk("dt"))?);
        let part = Part { out: steps, weight: self.weight(weight), bias: None, scale };
        self.plan.push(Step::Linear { x: dt, parts: vec![part], clamp: None });
        let scan = Scan {
            x: xc,
            dt: steps,
            b,
            c,
            out: y,
            state: self.matrices(i, inner, 1, n),
            heads: inner,
            groups: 1,
            a: self.vectors(&blk("a"), inner, n)?,
            d: self.vector(&blk("d"), inner)?,
            bias: self.vector(&blk("dt.bias"), inner)?,
        };
        self.plan.push(Step::Scan(Box::new(scan)));
        self.plan.push(Step::Gate { x: xz.columns(inner, inner), out: y, act: Act::Silu, by: Some(y) });
        let [a] = self.linear(y, [("a", blk("out"), self.config.n_embd)], 1.0, None)?;
        Ok(a)
    }

    fn mamba2(&mut self, i: u32, x: Operand) -> Result<Operand> {
        let (c, blk) = (self.config.state.clone(), |stem: &str| format!("blk.{i}.ssm_{stem}"));
        let (inner, heads, shared) = (c.inner, c.heads, c.groups * c.state);
        let channels = inner + 2 * shared;
        let [z] = self.linear(x, [("zxbcdt", blk("in"), inner + channels + heads)], 1.0, None)?;
        let (xbc, y) = (self.plan.buffer("xbc", channels), self.plan.buffer("ys", inner));
        self.conv(z.columns(inner, channels), xbc, &blk("conv1d"), format!("tail{i}"), Act::Silu, true)?;
        let scan = Scan {
            x: xbc.columns(0, inner),
            dt: z.columns(inner + channels, heads),
            b: xbc.columns(inner, shared),
            c: xbc.columns(inner + shared, shared),
            out: y,
            state: self.matrices(i, heads, inner / heads, c.state),
            heads,
            groups: c.groups,
            a: self.vectors(&blk("a"), heads, 1)?,
            d: self.vectors(&blk("d"), heads, 1)?,
            bias: self.vector(&blk("dt.bias"), heads)?,
        };
        self.plan.push(Step::Scan(Box::new(scan)));
        self.plan.push(Step::Gate { x: z.columns(0, inner), out: y, act: Act::Silu, by: Some(y) });
        if self.tensors.has(&blk("norm.weight")) {
            let width = inner / c.groups;
            let weight = Some(self.vectors(&blk("norm.weight"), c.groups, width)?);
            let (kind, eps) = (NormKind::Rms, self.config.norm_eps);
            self.plan.push(Step::Norm { x: y, out: y, kind, eps, width, weight, bias: None });
        }
        // Beside attention in one layer both results are needed.
        let [a] = self.linear(y, [("as", blk("out"), self.config.n_embd)], 1.0, None)?;
        Ok(a)
    }

    fn l2_norm(&mut self, o: Operand, width: u32) {
        self.plan.push(Step::Norm { x: o, out: o, kind: NormKind::L2, eps: L2_EPS, width, weight: None, bias: None });
    }

    /// Gated delta net with one decay per head.
    fn delta(&mut self, i: u32, x: Operand) -> Result<Operand> {
        let (c, blk) = (self.config.state.clone(), |stem: &str| format!("blk.{i}.{stem}"));
        let (d, heads, key_heads) = (c.state, c.heads, c.groups);
        let (keys, values) = (key_heads * d, heads * d);
        let channels = 2 * keys + values;
        let (qkv, z) = (("qkv", blk("attn_qkv"), channels), ("z", blk("attn_gate"), values));
        let (qkv, z, beta, decay) = match self.family.beta {
            BetaForm::PerKeyHead => {
                let [qkv, z, ba] = self.linear(x, [qkv, z, ("ba", blk("ssm_ba"), 2 * heads)], 1.0, None)?;
                let r = heads / key_heads;
                let alpha = ba.columns(r, 2 * heads - r).strided(key_heads, r, 2 * r);
                (qkv, z, ba.strided(key_heads, r, 2 * r), alpha)
            }
            BetaForm::Apart => {
                let (beta, alpha) = (("beta", blk("ssm_beta"), heads), ("alpha", blk("ssm_alpha"), heads));
                let [qkv, z, beta, alpha] = self.linear(x, [qkv, z, beta, alpha], 1.0, None)?;
                (qkv, z, beta, alpha)
            }
        };
        let (y, out) = (self.plan.buffer("qkvc", channels), self.plan.buffer("os", values));
        self.conv(qkv, y, &blk("ssm_conv1d"), format!("tail{i}"), Act::Silu, false)?;
        self.l2_norm(y.columns(0, 2 * keys), d);
        let delta = Delta {
            q: y.columns(0, keys),
            k: y.columns(keys, keys),
            v: y.columns(2 * keys, values),
            decay,
            beta,
            out,
            state: self.matrices(i, heads, d, d),
            heads,
            key_heads,
            a: self.vector(&blk("ssm_a"), heads)?,
            dt: self.vector(&blk("ssm_dt.bias"), heads)?,
            spread: self.family.spread,
            scale: f64::from(d).powf(-0.5) as f32,
        };
        self.plan.push(Step::Delta(Box::new(delta)));
        self.norm(out, out, &blk("ssm_norm"), d, NormKind::Rms)?;
        self.plan.push(Step::Gate { x: z, out, act: Act::Silu, by: Some(out) });
        let [a] = self.linear(out, [("a", blk("ssm_out"), self.config.n_embd)], 1.0, None)?;
        Ok(a)
    }

    /// Kimi's delta attention: a decay for each key channel, convolutions of queries, keys and values by themselves.
    fn key_delta(&mut self, i: u32, x: Operand) -> Result<Operand> {
        let (c, blk) = (self.config.state.clone(), |stem: &str| format!("blk.{i}.{stem}"));
        let (d, heads, n) = (c.state, c.heads, c.inner);
        let outputs = [
            ("qraw", blk("attn_q"), n),
            ("kraw", blk("attn_k"), n),
            ("vraw", blk("attn_v"), n),
            ("fa", blk("ssm_f_a"), d),
            ("ga", blk("ssm_g_a"), d),
            ("beta", blk("ssm_beta"), heads),
        ];
        let [q, k, v, fa, ga, beta] = self.linear(x, outputs, 1.0, None)?;
        let [decay] = self.linear(fa, [("fb", blk("ssm_f_b"), n)], 1.0, None)?;
        let [gate] = self.linear(ga, [("gb", blk("ssm_g_b"), n)], 1.0, None)?;
        let mut convolved = [q; 3];
        for ((to, x), name) in convolved.iter_mut().zip([q, k, v]).zip(["q", "k", "v"]) {
            *to = self.plan.buffer(&format!("{name}c"), n);
            self.conv(x, *to, &blk(&format!("ssm_conv1d_{name}")), format!("tail{name}{i}"), Act::Silu, false)?;
            if name != "v" {
                self.l2_norm(*to, d);
            }
        }
        let [q, k, v] = convolved;
        let out = self.plan.buffer("os", n);
        let delta = Delta {
            q,
            k,
            v,
            decay,
            beta,
            out,
            state: self.matrices(i, heads, d, d),
            heads,
            key_heads: heads,
            a: self.vectors(&blk("ssm_a"), heads, 1)?,
            dt: self.vector(&blk("ssm_dt.bias"), n)?,
            spread: Spread::Block,
            scale: f64::from(d).powf(-0.5) as f32,
        };
        self.plan.push(Step::Delta(Box::new(delta)));
        self.norm(out, out, &blk("ssm_norm"), d, NormKind::Rms)?;
        self.plan.push(Step::Gate { x: gate, out, act: Act::Sigmoid, by: Some(out) });
        let [a] = self.linear(out, [("a", blk("attn_output"), self.config.n_embd)], 1.0, None)?;
        Ok(a)
    }
}
