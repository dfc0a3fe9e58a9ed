//! Activations, and what streams are scaled and mixed by.

use super::{Bound, Grid, Lowering, WG};
use crate::plan::{Act, Operand, Step};

/// Number of an activation in `shaders/act.wgsl`, and its numbers.
pub(super) const fn activation(act: Act) -> (u32, [f32; 4]) {
    match act {
        Act::Silu => (0, [0.0; 4]),
        Act::Gelu => (1, [0.0; 4]),
        Act::GeluErf => (2, [0.0; 4]),
        Act::Relu => (3, [0.0; 4]),
        Act::Relu2 => (4, [0.0; 4]),
        Act::Xielu { positive, negative, beta, eps } => (5, [positive, negative, beta, eps]),
        Act::Sigmoid => (6, [0.0; 4]),
        Act::ClampedSwiglu { alpha, limit } => (7, [alpha, limit, 0.0, 0.0]),
        Act::Id => (8, [0.0; 4]),
    }
}

impl Lowering<'_> {
    /// out = act(x) * by.
    pub(super) fn gate(&mut self, x: Operand, out: Operand, act: Act, by: Option<Operand>) {
        let (act, numbers) = activation(act);
        let is_narrow = x.len() < out.len();
        let kernel = self.rows_kernel("gate").with("math").with("act").set("WG", WG).set("ACT", act);
        let kernel = kernel.set("BY", by.is_some().into()).set("NARROW", is_narrow.into());
        let b = by.unwrap_or(x);
        let numbers = numbers.map(f32::to_bits);
        let params = [&self.view(x)[..], &self.view(b), &self.view(out), &[out.len()], &numbers].concat();
        let bound = [self.place(x), self.place(b), self.place(out), Bound::Unused, Bound::Unused];
        self.push_rows(kernel, bound, params, Grid::Rows(out.len().div_ceil(WG)));
    }

    /// Scale, Rescale, Sparsify and Mix.
    pub(super) fn streams(&mut self, step: &Step) -> Result<(), String> {
        let reduced = |name, slots| {
            let kernel = self.rows_kernel(name).with(self.variant.reduce());
            kernel.set("WG", 256).set("SLOTS", slots)
        };
        let unused = Bound::Unused;
        match *step {
            Step::Scale { x, out, factor, weight } => {
                let kernel = self.rows_kernel("scale").set("WG", WG).set("WEIGHT", weight.is_some().into());
                let params = [&self.view(x)[..], &self.view(out), &[x.len(), factor.to_bits()]].concat();
                let (a, weight) = (self.place(x), weight.map_or(unused, Bound::Vector));
                let grid = Grid::Rows(x.len().div_ceil(WG));
                self.push_rows(kernel, [a, a, self.place(out), weight, unused], params, grid);
            }
            Step::Rescale { x, like, out, eps } => {
                let kernel = reduced("rescale", 2);
                let views = [self.view(x), self.view(like), self.view(out)].concat();
                let params = [&views[..], &[x.width, eps.to_bits()]].concat();
                let bound = [self.place(x), self.place(like), self.place(out), unused, unused];
                self.push_rows(kernel, bound, params, Grid::Rows(x.heads));
            }
            Step::Sparsify { x, out, n_std } => {
                let kernel = reduced("sparsify", 1);
                let params = [&self.view(x)[..], &self.view(out), &[x.len(), n_std.to_bits()]].concat();
                let a = self.place(x);
                self.push_rows(kernel, [a, a, self.place(out), unused, unused], params, Grid::Rows(1));
            }
            Step::Mix { x, coef, base, out, offset } => {
                let in_a = base.buf == x.buf;
                if !in_a && [coef.buf, out.buf].contains(&base.buf) {
                    return Err("no kernel for streams that are mixed within one buffer".into());
                }
                let kernel = self.rows_kernel("mix").set("WG", WG).set("BASE_IN_A", in_a.into());
                let views = [self.view(x), self.view(coef), self.view(base), self.view(out)].concat();
                let params = [&views[..], &[x.width, x.heads, out.len(), offset.to_bits()]].concat();
                let weight = if in_a { unused } else { self.place(base) };
                let bound = [self.place(x), self.place(coef), self.place(out), weight, unused];
                self.push_rows(kernel, bound, params, Grid::Rows(out.len().div_ceil(WG)));
            }
            _ => unreachable!("called for one of four steps"),
        }
        Ok(())
    }
}
