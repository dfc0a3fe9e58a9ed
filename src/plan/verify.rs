//! What must hold for every plan, and which buffers are needed how long.

use super::{BufId, Experts, Index, Operand, Plan, Route, Step, WeightId};

/// A plan that must not run: a fault of the lowering, never of a model file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("step {step} ({name}): {what}")]
pub struct PlanError {
    /// Index of the step.
    pub step: usize,
    /// Kind of the step.
    pub name: &'static str,
    /// What is wrong.
    pub what: String,
}

/// Columns of every buffer that hold a value.
struct Written(Vec<Vec<bool>>);

impl Written {
    fn all(&self, o: Operand) -> bool {
        o.head_starts().all(|s| self.0[o.buf.index()][s..s + o.width as usize].iter().all(|&w| w))
    }

    fn set(&mut self, o: Operand) {
        for s in o.head_starts() {
            self.0[o.buf.index()][s..s + o.width as usize].fill(true);
        }
    }
}

/// Do two operands share a column?
fn overlap(a: Operand, b: Operand) -> bool {
    a.buf == b.buf
        && a.head_starts().any(|s| b.head_starts().any(|t| s < t + b.width as usize && t < s + a.width as usize))
}

impl Plan {
    /// Every column read was written before, nothing is out of bounds, no step overwrites its input unless
    /// it may, attention reads a cache that an earlier step filled, and no result is useless.
    pub(super) fn verify(&self, live: &[Vec<BufId>]) -> Result<(), PlanError> {
        let mut written = Written(self.buffers.iter().map(|b| vec![false; b.width as usize]).collect());
        let mut stored = vec![false; self.caches.len()];
        if self.inputs.len() > 1 || self.inputs.iter().any(|o| !o.is_contiguous()) {
            return Err(PlanError { step: 0, name: "", what: "a plan has one contiguous input at most".into() });
        }
        self.inputs.iter().for_each(|o| written.set(*o));
        for (i, step) in self.steps.iter().enumerate() {
            let fail = |what: String| Err(PlanError { step: i, name: step.name(), what });
            let (reads, writes) = (step.reads(), step.writes());
            for o in reads.iter().chain(&writes) {
                let buffer = &self.buffers[o.buf.index()];
                if o.is_empty() || o.end() > buffer.width || (o.heads > 1 && o.stride < o.width) {
                    return fail(format!(
                        "{} does not lie in a buffer of {} columns",
                        self.show_operand(*o),
                        buffer.width
                    ));
                }
            }
            if let Some(o) = reads.iter().find(|o| !written.all(**o)) {
                return fail(format!("reads {}, which nobody wrote", self.show_operand(*o)));
            }
            for w in &writes {
                for r in &reads {
                    if overlap(*r, *w) && !(step.in_place() && r == w) {
                        return fail(format!("{} overwrites its input", self.show_operand(*w)));
                    }
                }
                if writes.iter().filter(|o| overlap(**o, *w)).count() > 1 {
                    return fail(format!("{} is written twice", self.show_operand(*w)));
                }
            }
            self.verify_shape(step).or_else(fail)?;
            match step {
                Step::Store { cache, .. } => stored[cache.index()] = true,
                Step::Select(s) if !stored[s.cache.index()] => {
                    return fail("reads a cache that no earlier step filled".into());
                }
                Step::Attend(a) if !stored[a.cache.index()] => {
                    return fail("reads a cache that no earlier step filled".into());
                }
                Step::Take { keep } => {
                    for (b, w) in written.0.iter_mut().enumerate() {
                        if !keep.iter().any(|k| k.index() == b) {
                            w.fill(false);
                        }
                    }
                }
                _ => {}
            }
            writes.iter().for_each(|o| written.set(*o));
            if !writes.is_empty() && !writes.iter().any(|o| live[i].contains(&o.buf)) {
                return fail("its result is of no use".into());
            }
        }
        Ok(())
    }

    fn verify_shape(&self, step: &Step) -> Result<(), String> {
        let need = |right: bool, what: &str| if right { Ok(()) } else { Err(what.to_owned()) };
        let weight = |id: &super::WeightId| &self.weights[id.index()];
        match step {
            Step::Embed { out, table, .. } => {
                need(out.is_contiguous() && weight(table).row_len() == out.len() as usize, "table does not fit")?;
                match step {
                    Step::Embed { index: Index::Row(row), .. } => {
                        need((*row as usize) < weight(table).n_rows(), "the table has no such row")
                    }
                    _ => Ok(()),
                }
            }
            Step::Norm { x, out, width, weight: w, bias, .. } => {
                need(
                    x.len() == out.len() && x.width.is_multiple_of(*width) && x.heads == out.heads,
                    "groups do not fit",
                )?;
                let fits = |w: &super::WeightId| {
                    let n = weight(w).row_len() * weight(w).n_rows();
                    n == *width as usize || n == x.len() as usize
                };
                need(w.iter().chain(bias).all(fits), "weight does not fit")
            }
            Step::Linear { x, parts, .. } => {
                let contiguous = |o: &Operand| o.is_contiguous();
                let fits = |p: &super::Part| {
                    let w = weight(&p.weight);
                    if w.n_matrix() > 1 {
                        let heads = |o: &Operand, width| o.heads as usize == w.n_matrix() && o.width as usize == width;
                        return heads(x, w.row_len()) && heads(&p.out, w.out_len()) && p.bias.is_none();
                    }
                    let bias =
                        p.bias.is_none_or(|b| weight(&b).row_len() * weight(&b).n_rows() == p.out.len() as usize);
                    let plain = contiguous(x) && contiguous(&p.out);
                    plain && w.row_len() == x.len() as usize && w.n_rows() == p.out.len() as usize && bias
                };
                let stacked = |p: &super::Part| weight(&p.weight).n_matrix() > 1;
                need(parts.iter().all(|p| stacked(p) == stacked(&parts[0])), "matrices and heads of them do not mix")?;
                need(parts.iter().all(fits), "matrix does not fit")
            }
            Step::Rope { x, out, table, .. } => {
                let n_rot = 2 * self.tables[table.index()].freqs.len();
                need(n_rot <= x.width as usize && x.width == out.width && x.heads == out.heads, "table does not fit")
            }
            Step::Store { cache, k, v } => {
                let c = &self.caches[cache.index()];
                need(
                    k.len() == c.k && v.map_or(0, Operand::len) == c.v && c.k.is_multiple_of(c.heads),
                    "rows do not fit the cache",
                )
            }
            Step::Attend(a) => {
                let c = &self.caches[a.cache.index()];
                need(
                    !a.span.looks_ahead() || a.alibi.is_none() && a.temper.is_none(),
                    "looks ahead from a biased position",
                )?;
                need(a.span == c.span, "the cache keeps another span than the queries see")?;
                need(a.kv_heads == c.heads && a.heads.is_multiple_of(a.kv_heads), "heads do not divide")?;
                need(a.q.heads == a.heads && a.q.width == c.k / c.heads, "queries do not fit the keys")?;
                need(a.select.is_none_or(|s| s.is_contiguous() && a.span == super::Span::Full), "cannot choose so")?;
                let fits = |w: WeightId| weight(&w).row_len() * weight(&w).n_rows() == a.heads as usize;
                need(a.sinks.is_none_or(fits), "one sink for each head")?;
                let width = match a.v_prefix {
                    Some(n) => {
                        if c.v == 0 && n <= c.k / c.heads {
                            n
                        } else {
                            0
                        }
                    }
                    None => c.v / c.heads,
                };
                need(
                    a.out.is_contiguous() && width > 0 && a.out.len() == a.heads * width,
                    "result does not fit the values",
                )
            }
            Step::Gate { x, out, by, .. } => {
                let narrow = x.len() == 1 && by.is_some();
                need((narrow || x.len() == out.len()) && by.is_none_or(|b| b.len() == out.len()), "widths differ")?;
                let apart = [Some(*x), Some(*out), *by].into_iter().flatten().filter(|o| !o.is_contiguous());
                let widths: Vec<u32> = apart.map(|o| o.width).collect();
                need(widths.is_empty() || !narrow, "one number for heads that lie apart")?;
                need(widths.windows(2).all(|w| w[0] == w[1]), "heads differ")
            }
            Step::Add { x, y, out, .. } => {
                need(x.len() == out.len() && y.len() == out.len(), "widths differ")?;
                need([x, y, out].iter().all(|o| o.is_contiguous()), "needs contiguous operands")
            }
            Step::Softcap { x, out, .. } | Step::Sparsify { x, out, .. } | Step::Pool { x, out, .. } => {
                need(x.len() == out.len() && x.is_contiguous() && out.is_contiguous(), "widths differ")
            }
            Step::Scale { x, out, weight: w, .. } => {
                let fits = w.is_none_or(|id| weight(&id).row_len() * weight(&id).n_rows() == x.len() as usize);
                need(x.len() == out.len() && x.is_contiguous() && out.is_contiguous() && fits, "widths differ")
            }
            Step::Rescale { x, like, out, .. } => {
                let same = x.heads == out.heads && x.width == out.width && x.width == like.width;
                need(same && like.heads == 1, "heads differ")
            }
            Step::Mix { x, coef, base, out, .. } => {
                let same = base.heads == out.heads && [x, base].iter().all(|o| o.width == out.width);
                let fits = coef.len() == out.heads * x.heads && coef.is_contiguous();
                need(same && fits, "streams differ")
            }
            Step::Take { .. } => Ok(()),
            Step::Conv { .. } | Step::Delta(_) | Step::Scan(_) => self.verify_state(step),
            Step::Select(s) => {
                let c = &self.caches[s.cache.index()];
                let keys = c.heads == 1 && c.span == super::Span::Full && s.q.width == c.k && s.q.heads == s.w.len();
                need(keys && s.w.is_contiguous() && s.out.is_contiguous(), "queries do not fit the keys")
            }
            Step::Route(r) => self.verify_route(r),
            Step::Experts(e) => self.verify_experts(e),
        }
    }

    fn verify_route(&self, r: &Route) -> Result<(), String> {
        let fits = |id: WeightId| {
            let w = &self.weights[id.index()];
            w.row_len() * w.n_rows() == r.x.len() as usize
        };
        let groups = r.groups.is_none_or(|g| {
            g.count > 0
                && (1..=g.count).contains(&g.used)
                && r.x.len().is_multiple_of(g.count)
                && r.x.len() / g.count * g.used >= r.idx.len()
        });
        let mixer = !matches!(r.score, super::Score::Mixer { .. }) || (r.idx.len() == 2 && r.x.len() > 2);
        match [r.x, r.idx, r.w].iter().all(|o| o.is_contiguous())
            && r.idx.len() == r.w.len()
            && (1..=r.x.len()).contains(&r.idx.len())
            && [r.bias, r.per_expert].into_iter().flatten().all(fits)
            && groups
            && mixer
        {
            true => Ok(()),
            false => Err("the router's numbers do not fit".into()),
        }
    }

    fn verify_experts(&self, e: &Experts) -> Result<(), String> {
        let weight = |id: WeightId| &self.weights[id.index()];
        let shape = |id: WeightId| (weight(id).n_matrix(), weight(id).out_len(), weight(id).row_len());
        let (n_expert, n_out, n_ff) = shape(e.down.weight);
        let fits = |p: &super::ExpertPart, want: (usize, usize, usize)| {
            let bias = p.bias.is_none_or(|b| weight(b).row_len() * weight(b).n_rows() == want.0 * want.1);
            shape(p.weight) == want && bias
        };
        let n_in = e.x.len() as usize;
        let up_len = if e.gate_up { 2 * n_ff } else { n_ff };
        match [e.x, e.idx, e.w, e.out].iter().all(|o| o.is_contiguous())
            && e.idx.len() == e.w.len()
            && e.out.len() as usize == n_out
            && fits(&e.down, (n_expert, n_out, n_ff))
            && fits(&e.up, (n_expert, up_len, n_in))
            && e.gate.is_none_or(|g| !e.gate_up && fits(&g, (n_expert, n_ff, n_in)))
            && (!matches!(e.act, super::Act::ClampedSwiglu { .. }) || e.gate_up || e.gate.is_some())
        {
            true => Ok(()),
            false => Err("the experts' matrices do not fit".into()),
        }
    }
}

impl Plan {
    /// For every step: the buffers whose contents are still needed after it.
    pub fn needed_after(&self) -> Vec<Vec<BufId>> {
        let mut live: Vec<BufId> = Vec::new();
        let add = |live: &mut Vec<BufId>, b: BufId| {
            if !live.contains(&b) {
                live.push(b);
            }
        };
        self.outputs.iter().for_each(|o| add(&mut live, o.buf));
        let mut after = Vec::with_capacity(self.steps.len());
        for step in self.steps.iter().rev() {
            let mut sorted = live.clone();
            sorted.sort_unstable();
            after.push(sorted);
            let partial = matches!(step, Step::Embed { add: true, .. });
            for o in step.writes() {
                if o.len() == self.buffers[o.buf.index()].width && !partial {
                    live.retain(|b| *b != o.buf);
                }
            }
            step.reads().iter().for_each(|o| add(&mut live, o.buf));
        }
        after.reverse();
        after
    }
}
