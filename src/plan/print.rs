//! The plan as text: one line per step, parameters that differ from their default.

use std::fmt::{self, Write as _};

use super::{Act, Attend, Experts, Index, Operand, Plan, Route, Score, Span, Step, WeightId};

impl Plan {
    /// `q[4x32:0+32]` = 4 heads, 32 apart, columns 0..32; the bare name is the whole buffer.
    pub(super) fn show_operand(&self, o: Operand) -> String {
        let buffer = &self.buffers[o.buf.index()];
        if o.heads > 1 {
            format!("{}[{}x{}:{}+{}]", buffer.name, o.heads, o.stride, o.start, o.width)
        } else if (o.start, o.width) == (0, buffer.width) {
            buffer.name.clone()
        } else {
            format!("{}[{}+{}]", buffer.name, o.start, o.width)
        }
    }

    fn show_operands(&self, list: &[Operand]) -> String {
        list.iter().map(|&o| self.show_operand(o)).collect::<Vec<_>>().join(", ")
    }

    fn name(&self, id: WeightId) -> &str {
        &self.weights[id.index()].name
    }

    fn parameters(&self, step: &Step) -> Result<String, fmt::Error> {
        let mut p = String::new();
        match step {
            Step::Embed { table, index, scale, add, .. } => {
                write!(p, "{}", self.name(*table))?;
                match index {
                    Index::Token => {}
                    Index::Position(0) => p.push_str(" by position"),
                    Index::Position(first) => write!(p, " by position + {first}")?,
                    Index::Row(row) => write!(p, " row {row}")?,
                }
                if *scale != 1.0 {
                    write!(p, " scale={scale}")?;
                }
                if *add {
                    p.push_str(" add");
                }
            }
            Step::Norm { x, kind, eps, width, weight, bias, .. } => {
                let kind = match kind {
                    super::NormKind::Rms => "rms",
                    super::NormKind::Layer => "layer",
                    super::NormKind::L2 => "l2",
                };
                write!(p, "{kind} eps={eps:e}")?;
                if *width != x.len() {
                    write!(p, " width={width}")?;
                }
                for id in weight.iter().chain(bias) {
                    write!(p, " {}", self.name(*id))?;
                }
            }
            Step::Linear { parts, clamp, .. } => {
                let names = parts.iter().flat_map(|w| [Some(w.weight), w.bias]).flatten().map(|w| self.name(w));
                p.push_str(&names.collect::<Vec<_>>().join(", "));
                if parts.iter().any(|w| w.scale != 1.0) {
                    let scales = parts.iter().map(|w| w.scale.to_string());
                    write!(p, " scale={}", scales.collect::<Vec<_>>().join(","))?;
                }
                if let Some(c) = clamp {
                    write!(p, " clamp={c}")?;
                }
            }
            Step::Rope { table, pairs, .. } => {
                let t = &self.tables[table.index()];
                let pairs = if *pairs == super::Pairs::Adjacent { "norm" } else { "neox" };
                write!(p, "table{}[{}] amp={} {pairs}", table.index(), t.freqs.len(), t.amp)?;
            }
            Step::Store { cache, .. } => write!(p, "cache={}", self.caches[cache.index()].name)?,
            Step::Attend(a) => self.attend_parameters(a, &mut p)?,
            Step::Gate { act, .. } => p.push_str(&show_act(act)),
            Step::Add { scale, .. } if *scale != 1.0 => write!(p, "scale={scale}")?,
            Step::Add { .. } => {}
            Step::Softcap { cap, .. } => write!(p, "cap={cap}")?,
            Step::Scale { factor, weight, .. } => {
                write!(p, "factor={factor}")?;
                weight.iter().try_for_each(|id| write!(p, " {}", self.name(*id)))?;
            }
            Step::Rescale { eps, .. } => write!(p, "eps={eps:e}")?,
            Step::Mix { offset, .. } => write!(p, "offset={offset}")?,
            Step::Sparsify { n_std, .. } => write!(p, "n_std={n_std}")?,
            Step::Take { keep } => {
                let names: Vec<_> = keep.iter().map(|b| self.buffers[b.index()].name.as_str()).collect();
                p.push_str(&names.join(", "));
            }
            Step::Pool { kind, .. } => p.push_str(&format!("{kind:?}").to_lowercase()),
            Step::Conv { state, act, .. } => {
                write!(p, "state={} {}", self.states[state.index()].name, format!("{act:?}").to_lowercase())?;
                step.weights().iter().try_for_each(|id| write!(p, " {}", self.name(*id)))?;
            }
            Step::Delta(d) => {
                let spread = format!("{:?}", d.spread).to_lowercase();
                let (state, heads, kheads) = (&self.states[d.state.index()].name, d.heads, d.key_heads);
                write!(p, "state={state} heads={heads} key_heads={kheads} scale={:.4} {spread}", d.scale)?;
                step.weights().iter().try_for_each(|id| write!(p, " {}", self.name(*id)))?;
            }
            Step::Scan(s) => {
                let (state, heads, groups) = (&self.states[s.state.index()].name, s.heads, s.groups);
                write!(p, "state={state} heads={heads} groups={groups}")?;
                step.weights().iter().try_for_each(|id| write!(p, " {}", self.name(*id)))?;
            }
            Step::Select(s) => {
                let name = &self.caches[s.cache.index()].name;
                write!(p, "cache={name} heads={} scale={:.4} top={}", s.q.heads, s.scale, s.out.len())?;
            }
            Step::Route(r) => self.route_parameters(r, &mut p)?,
            Step::Experts(e) => self.expert_parameters(e, &mut p),
        }
        Ok(p)
    }

    fn attend_parameters(&self, a: &Attend, p: &mut String) -> fmt::Result {
        let name = &self.caches[a.cache.index()].name;
        write!(p, "cache={name} heads={} kv_heads={} scale={:.4} span=", a.heads, a.kv_heads, a.scale)?;
        match a.span {
            Span::Full => p.push_str("full"),
            Span::Slide(n) => write!(p, "slide({n})")?,
            Span::All => p.push_str("all"),
            Span::Near(n) => write!(p, "near({n})")?,
            Span::Chunk(n) => write!(p, "chunk({n})")?,
        }
        if let Some(c) = a.softcap {
            write!(p, " softcap={c}")?;
        }
        if let Some(t) = a.temper {
            write!(p, " temper={}/{}+{}", t.scale, t.length, t.add)?;
        }
        if let Some(a) = a.alibi {
            write!(p, " alibi={}", a.max)?;
        }
        if let Some(n) = a.v_prefix {
            write!(p, " v_prefix={n}")?;
        }
        if let Some(id) = a.sinks {
            write!(p, " sinks={}", self.name(id))?;
        }
        Ok(())
    }

    fn route_parameters(&self, r: &Route, p: &mut String) -> fmt::Result {
        match r.score {
            Score::Mixer { jitter } => write!(p, "mixer {jitter}")?,
            score => p.push_str(&format!("{score:?}").to_lowercase()),
        }
        write!(p, " k={}", r.idx.len())?;
        if let Some(g) = r.groups {
            write!(p, " groups={}/{}", g.used, g.count)?;
        }
        match r.renorm {
            Some(0.0) => p.push_str(" renorm"),
            Some(eps) => write!(p, " renorm+{eps:e}")?,
            None => {}
        }
        if r.scale != 1.0 {
            write!(p, " scale={}", r.scale)?;
        }
        for (what, id) in [("bias", r.bias), ("per_expert", r.per_expert)] {
            if let Some(id) = id {
                write!(p, " {what}={}", self.name(id))?;
            }
        }
        Ok(())
    }

    fn expert_parameters(&self, e: &Experts, p: &mut String) {
        p.push_str(&show_act(&e.act));
        if e.on_input {
            p.push_str(" on_input");
        }
        for id in e.parts().flat_map(|part| [Some(part.weight), part.bias]).flatten() {
            p.push(' ');
            p.push_str(self.name(id));
        }
    }
}

fn show_act(act: &Act) -> String {
    match act {
        Act::Xielu { positive, negative, beta, eps } => format!("xielu {positive},{negative},{beta},{eps:e}"),
        Act::ClampedSwiglu { alpha, limit } => format!("swiglu alpha={alpha} limit={limit}"),
        act => format!("{act:?}").to_lowercase(),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            if let Some((_, name)) = self.sections.iter().find(|(first, _)| *first == i) {
                writeln!(f, "{name}:")?;
            }
            let flow = format!("{} -> {}", self.show_operands(&step.reads()), self.show_operands(&step.writes()));
            let line = format!("{i:4} {:8} {:36} {}", step.name(), flow.trim_start(), self.parameters(step)?);
            writeln!(f, "{}", line.trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
