//! The choice of experts and what they compute. The choice stays on the device: kernels address the matrices of chosen
//! experts by it.
//!
//! A pair is a row and one of its experts. A few rows take the matrices pair by pair; more are grouped by expert first,
//! so that a matrix is read once for all rows that chose it. Results lie by pairs either way, so that what stands between
//! and behind the products is the same.

use super::linear::{bindings_of, few_kernel, product_kernel};
use super::pointwise::activation;
use super::{
    Bound, Chosen, GROUP_LEN, Grid, Kernel, Kernels, Lowering, MATVEC_COLS, MATVEC_ROWS, Scratch, TILE, WG, row_stride,
    words,
};
use crate::gpu::compose::{EXPERTS_GATE, EXPERTS_GROUP};
use crate::gpu::kernels::experts;
use crate::gpu::planes::planes;
use crate::plan::{ExpertPart, Experts, Operand, Route, Score, WeightId};

/// Most experts of a step: counts and scores of all of them lie in workgroup memory.
const MAX_EXPERTS: u32 = 1024;
/// Most experts that a row chooses.
const MAX_USED: u32 = 64;

/// The input of products by pairs.
struct PairInput {
    source: Bound,
    /// First number of a row, numbers from one row to the next, and numbers that count.
    start: u32,
    row: u32,
    len: u32,
    /// Pairs that share a row.
    pairs: u32,
}

impl Lowering<'_> {
    pub(super) fn route(&mut self, r: &Route) -> Result<(), String> {
        let (n, k) = (r.x.len(), r.idx.len());
        fits(n, k)?;
        let (score, limit) = match r.score {
            Score::Softmax => (0, 0.0),
            Score::Sigmoid => (1, 0.0),
            Score::Chosen => (2, 0.0),
            Score::Mixer { jitter } => (3, 2.0 * jitter),
        };
        let kernel = self.rows_kernel("route").with("math").with("lib/select").set("SCORE", score);
        let kernel = kernel.set("N", n).set("K", k).set("GROUPS", r.groups.map_or(0, |g| g.count));
        let kernel = kernel.set("WG", n.next_power_of_two().clamp(32, 256));
        let params = experts::Route {
            a: self.view(r.x),
            idx: self.view(r.idx),
            w: self.view(r.w),
            used: r.groups.map_or(0, |g| g.used),
            has_bias: r.bias.is_some().into(),
            has_own: r.per_expert.is_some().into(),
            renorm: r.renorm.is_some().into(),
            eps: r.renorm.unwrap_or(0.0),
            scale: r.scale,
            limit,
            pad: 0,
        };
        let vector = |id: Option<WeightId>| id.map_or(Bound::Unused, Bound::Vector);
        let bound = [self.place(r.x), self.place(r.idx), self.place(r.w), vector(r.bias), vector(r.per_expert)];
        self.push_rows(kernel, bound, words(&params), Grid::Rows(1));
        Ok(())
    }

    pub(super) fn experts(&mut self, e: &Experts) -> Result<(), String> {
        let down = &self.plan.weights()[e.down.weight.index()];
        let chosen = Chosen { used: e.n_used(), of: down.n_matrix() as u32 };
        fits(chosen.of, chosen.used)?;
        e.parts().try_for_each(|p| self.fits_binding(p.weight))?;
        if [e.w, e.out, self.following_sum(e.out).map_or(e.out, |s| s.0)].iter().any(|o| o.buf == e.idx.buf) {
            return Err("no kernels for experts that write into the buffer of their choice".into());
        }
        if e.on_input && e.inputs().any(|p| p.bias.is_some()) {
            return Err("no kernels for biases behind a weighted input".into());
        }
        let n_ff = down.row_len() as u32;
        // Two pairs of each expert or more fill enough of a tile; else matrices are read pair by pair.
        let few = MATVEC_COLS.max(2 * chosen.of / chosen.used);
        self.group(e, chosen, few);
        let input = self.input(e.x, 1)?;
        let input =
            PairInput { source: input.source, start: input.start, row: input.row, len: e.x.len(), pairs: chosen.used };
        let parts: Vec<(ExpertPart, Scratch)> = match (e.gate, e.gate_up) {
            (Some(gate), _) => vec![(gate, Scratch::Gates), (e.up, Scratch::Ups)],
            (None, true) => vec![(e.up, Scratch::Gates)],
            (None, false) => vec![(e.up, Scratch::Ups)],
        };
        self.products(e, &input, &parts, (chosen, few))?;
        let stride = row_stride(n_ff);
        self.activate(e, chosen.used, n_ff, stride);
        let input = PairInput { source: Bound::Scratch(Scratch::Ups), start: 0, row: stride, len: n_ff, pairs: 1 };
        self.products(e, &input, &[(e.down, Scratch::Results)], (chosen, few))?;
        self.sum(e);
        Ok(())
    }

    /// Room for `words` of every pair's, `used` of them a row; their buffer.
    fn scratch(&mut self, which: Scratch, used: u32, words: u32) -> Bound {
        let size = &mut self.out.scratch[which as usize][usize::from(self.taken)];
        *size = (*size).max(used * words);
        Bound::Scratch(which)
    }

    /// First column of an operand, and columns from one row to the next.
    fn columns(&self, o: Operand) -> [u32; 2] {
        [o.start, self.stride(o)]
    }

    /// The table of pairs by expert, for more than `few` rows.
    fn group(&mut self, e: &Experts, chosen: Chosen, few: u32) {
        // The number of tiles, the pairs, and of every tile three numbers: there are no more tiles than pairs and every
        // 32nd of them again.
        let table = self.scratch(Scratch::Table, chosen.used, 5);
        let kernel = Kernel::new("experts_group", EXPERTS_GROUP).set("TAKEN", self.taken.into());
        let kernel = kernel.set("N", chosen.of).set("COLS", TILE.1);
        let [idx_start, idx_row] = self.columns(e.idx);
        let params = vec![idx_start, idx_row, chosen.used, 0];
        let bindings = vec![self.place(e.idx), table, Bound::Params, Bound::Batch];
        self.push(Kernels::One(kernel), bindings, params, Grid::One, 0);
        self.out.dispatches.last_mut().expect("just pushed").rows = few + 1..=u32::MAX;
    }

    /// Products of every pair's input with matrices of its expert.
    fn products(
        &mut self,
        e: &Experts,
        input: &PairInput,
        parts: &[(ExpertPart, Scratch)],
        (chosen, few): (Chosen, u32),
    ) -> Result<(), String> {
        let weight = |p: &ExpertPart| &self.plan.weights()[p.weight.index()];
        let layout = |p: &ExpertPart| {
            let w = weight(p);
            planes(w.ty).ok_or_else(|| format!("no kernels for {}", w.ty))
        };
        let layouts = parts.iter().map(|(p, _)| layout(p)).collect::<Result<Vec<_>, _>>()?;
        let int8 = layouts.iter().any(|l| l.has_codes()) && input.len.is_multiple_of(32);
        let int8 = [self.variant.int8_decode, self.variant.int8_prompt].map(|wanted| wanted && int8);
        // The pairs of a row lie side by side, so that they are quantized as one row.
        let per_row = chosen.used / input.pairs;
        self.quantize(int8, input.source, [input.start, input.row * per_row, input.len / 32 * per_row], few);
        let [idx_start, idx_row] = self.columns(e.idx);
        for ((part, to), layout) in parts.iter().zip(layouts) {
            let w = &self.plan.weights()[part.weight.index()];
            let rows = w.out_len() as u32;
            let y_row = row_stride(rows);
            let y = self.scratch(*to, chosen.used, y_row);
            let int8 = int8.map(|wanted| wanted && layout.has_codes());
            let chunks = self.chunks.chunks(part.weight);
            let cost = u64::from(rows) * u64::from(input.len) * u64::from(chosen.used) / chunks.len() as u64;
            for (chunk, (first, n_row)) in chunks.into_iter().enumerate() {
                let params = |is_int8: bool| {
                    let [x_start, x_row] = match is_int8 {
                        true => [0, input.len / 32],
                        false => [input.start / 4, input.row / 4],
                    };
                    words(&experts::Products {
                        rows,
                        groups: w.row_len().div_ceil(GROUP_LEN) as u32,
                        x_start,
                        x_row,
                        x_div: input.pairs,
                        y_row,
                        n_used: chosen.used,
                        first: first / rows,
                        count: n_row / rows,
                        grid_x: rows.div_ceil(MATVEC_ROWS).min(self.variant.max_groups),
                        idx_start,
                        idx_row,
                    })
                };
                let bindings = |choice: Bound| {
                    let planes = [Bound::PlaneA(part.weight, chunk), Bound::PlaneS(part.weight, chunk)];
                    let rest = [Bound::Grid(part.weight), input.source, y, choice, Bound::Params, Bound::Batch];
                    [&planes[..], &rest].concat()
                };
                let kernel = |name, int8, tiled: u32| {
                    let kernel = product_kernel(name, layout, int8, "experts");
                    kernel.set("TAKEN", self.taken.into()).set("TILED", tiled)
                };
                let one = few_kernel(kernel(["matvec", "matvec_int8"], int8[0], 0), self.variant.reduce(), 1);
                let many = kernel(["matmul", "matmul_int8"], int8[1], 1);
                let one_bindings = bindings_of(&bindings(self.place(e.idx)), int8[0]);
                let many_bindings = bindings_of(&bindings(Bound::Scratch(Scratch::Table)), int8[1]);
                let [one_params, many_params] = int8.map(params);
                self.push(Kernels::One(one), one_bindings, one_params, Grid::ExpertsFew(rows, chosen), cost);
                self.out.dispatches.last_mut().expect("just pushed").rows = 1..=few;
                self.push(Kernels::One(many), many_bindings, many_params, Grid::ExpertsMany(rows, chosen), cost);
                self.out.dispatches.last_mut().expect("just pushed").rows = few + 1..=u32::MAX;
            }
        }
        Ok(())
    }

    /// From gates and ups to what the last matrix reads, rows of `stride` numbers.
    fn activate(&mut self, e: &Experts, used: u32, n_ff: u32, stride: u32) {
        let (act, numbers) = activation(e.act);
        let ups = self.scratch(Scratch::Ups, used, stride);
        let (form, a, b) = match (e.gate, e.gate_up) {
            (Some(_), _) => (0, Bound::Scratch(Scratch::Gates), ups),
            (None, true) => (1, Bound::Scratch(Scratch::Gates), Bound::Scratch(Scratch::Gates)),
            (None, false) => (2, ups, ups),
        };
        let kernel = Kernel::new("experts_gate", EXPERTS_GATE).with("rows").with("math").with("act");
        let kernel = kernel.set("TAKEN", self.taken.into()).set("WG", WG).set("ACT", act).set("FORM", form);
        let both = if e.gate_up { 2 * n_ff } else { n_ff };
        let gate_bias = if e.gate_up { e.up.bias } else { e.gate.and_then(|g| g.bias) };
        let ([idx_start, idx_row], [w_start, w_row]) = (self.columns(e.idx), self.columns(e.w));
        let params = experts::Gate {
            n: n_ff,
            gate_row: row_stride(both),
            up_row: row_stride(both),
            up_start: both - n_ff,
            out_row: stride,
            n_used: used,
            has_gate_bias: gate_bias.is_some().into(),
            has_up_bias: e.up.bias.is_some().into(),
            bias_row: both,
            on_input: e.on_input.into(),
            idx_start,
            idx_row,
            w_start,
            w_row,
            pad: [0; 2],
            numbers,
        };
        let vector = |id: Option<WeightId>| id.map_or(Bound::Unused, Bound::Vector);
        let mut bindings = vec![a, b, ups, vector(gate_bias), vector(e.up.bias), Bound::Params, Bound::Batch];
        bindings.extend([self.place(e.idx), self.place(e.w)]);
        self.push(Kernels::One(kernel), bindings, words(&params), Grid::Pairs(stride.div_ceil(WG), used), 0);
    }

    /// The sum of the results of a row.
    fn sum(&mut self, e: &Experts) {
        let sum = self.following_sum(e.out);
        let (target, scale) = sum.unwrap_or((e.out, 1.0));
        let kernel = self.rows_kernel("experts_sum").set("WG", WG).set("ADD", sum.is_some().into());
        let ([idx_start, idx_row], [w_start, w_row]) = (self.columns(e.idx), self.columns(e.w));
        let params = experts::Sum {
            out: self.view(target),
            n: e.out.len(),
            row: row_stride(e.out.len()),
            n_used: e.n_used(),
            has_bias: e.down.bias.is_some().into(),
            on_input: e.on_input.into(),
            idx_start,
            idx_row,
            w_start,
            w_row,
            scale,
            pad: [0; 2],
        };
        let bias = e.down.bias.map_or(Bound::Unused, Bound::Vector);
        let bound = [Bound::Scratch(Scratch::Results), self.place(e.w), self.place(target), self.place(e.idx), bias];
        self.push_rows(kernel, bound, words(&params), Grid::Rows(e.out.len().div_ceil(WG)));
        self.step += usize::from(sum.is_some());
    }
}

fn fits(n: u32, used: u32) -> Result<(), String> {
    match n <= MAX_EXPERTS && used <= MAX_USED {
        true => Ok(()),
        false => Err(format!("no kernels for {used} of {n} experts: at most {MAX_USED} of {MAX_EXPERTS}")),
    }
}
