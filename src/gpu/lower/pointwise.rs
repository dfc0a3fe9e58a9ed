//! Activations.

use super::{Bound, Grid, Lowering, WG};
use crate::plan::{Act, Operand};

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
}
