//! Steps that change a state of every sequence. What needs no state comes first, for all rows at once; the rest runs
//! once per sequence, over its rows in order.

use super::{Bound, Dispatch, Grid, Kernels, Lowering, WG, words};
use crate::gpu::compose::{Kernel, ROWS};
use crate::gpu::kernels::state::{self, Columns, Conv, Gates, ScanSteps};
use crate::plan::{Act, Delta, Operand, Scan, Spread, StateKind, Step};

impl Lowering<'_> {
    fn row_view(&self, o: Operand) -> Columns {
        [self.stride(o), o.start]
    }

    /// A kernel over the rows of one sequence; `[x, y]` workgroups, and one more of y for each row where `per_row`.
    fn push_state(
        &mut self,
        kernel: Kernel,
        mut bindings: Vec<Bound>,
        params: Vec<u32>,
        ([x, y], per_row): ([u32; 2], bool),
        cost: u64,
    ) {
        bindings.extend([Bound::Params, Bound::Sequence]);
        self.push(Kernels::One(kernel), bindings, params, Grid::State { x, y, per_row }, cost);
    }

    /// Room for `width` numbers of every row beside the plan's buffers.
    fn needs_gates(&mut self, width: u32) {
        self.out.gates = self.out.gates.max(width);
    }

    pub(super) fn conv(&mut self, step: &Step) -> Result<(), String> {
        let Step::Conv { x, out, state, weight, bias, act } = step else { unreachable!("called for a Conv") };
        self.no_rows_behind_take()?;
        let silu = match act {
            Act::Id => false,
            Act::Silu => true,
            _ => return Err("no kernel for the activation behind a convolution".into()),
        };
        let StateKind::Tail { taps, channels } = self.plan.states()[state.index()].kind else {
            return Err("a convolution without a tail of inputs".into());
        };
        let (x_at, out_at, has_bias) = (self.row_view(*x), self.row_view(*out), bias.is_some().into());
        let params = Conv { x: x_at, out: out_at, channels, taps, has_bias, pad: 0 };
        let bindings = vec![
            self.place(*x),
            self.place(*out),
            Bound::State(*state),
            Bound::Vector(*weight),
            bias.map_or(Bound::Unused, Bound::Vector),
            Bound::Order,
        ];
        let grid = ([params.groups(), taps], true);
        let cost = u64::from(channels) * u64::from(taps + 1);
        self.push_state(Conv::kernel(silu), bindings, words(&params), grid, cost);
        Ok(())
    }

    pub(super) fn delta(&mut self, d: &Delta) -> Result<(), String> {
        self.no_rows_behind_take()?;
        let StateKind::Matrices { rows: dk, cols: dv, .. } = self.plan.states()[d.state.index()].kind else {
            return Err("a delta rule without matrices".into());
        };
        let n_decay = d.decay.len();
        let width = n_decay + d.heads;
        let params = state::Delta {
            q: self.row_view(d.q),
            k: self.row_view(d.k),
            v: self.row_view(d.v),
            out: self.row_view(d.out),
            heads: d.heads,
            key_heads: d.key_heads,
            cyclic: (d.spread == Spread::Cyclic).into(),
            gates: [width, n_decay],
            dv,
            scale: d.scale,
            pad: 0,
        };
        let (kernel, groups) = params.kernel(dk).ok_or_else(|| format!("no kernel for keys of {dk} numbers"))?;
        let gates = Gates {
            decay: self.view(d.decay),
            beta: self.view(d.beta),
            n_decay,
            per: n_decay / d.heads,
            heads: d.heads,
            pad: 0,
        };
        self.needs_gates(width);
        let bound = [self.place(d.decay), self.place(d.beta), Bound::Gates, Bound::Vector(d.a), Bound::Vector(d.dt)];
        let first = Kernel::new("delta_gates", ROWS).with("rows").with("lib/state").set("TAKEN", 0).set("WG", WG);
        self.push_rows(first, bound, words(&gates), Grid::Rows(width.div_ceil(WG)));
        let bindings = vec![
            self.place(d.q),
            self.place(d.k),
            self.place(d.v),
            self.place(d.out),
            Bound::Gates,
            Bound::State(d.state),
            Bound::Order,
        ];
        let cost = 3 * u64::from(d.heads) * u64::from(dk) * u64::from(dv);
        self.push_state(kernel, bindings, words(&params), (groups, false), cost);
        Ok(())
    }

    pub(super) fn scan(&mut self, s: &Scan) -> Result<(), String> {
        self.no_rows_behind_take()?;
        let StateKind::Matrices { rows: channels, cols: n, .. } = self.plan.states()[s.state.index()].kind else {
            return Err("a scan without matrices".into());
        };
        let rates = &self.plan.weights()[s.a.index()];
        let wide = rates.row_len() * rates.n_rows() != s.heads as usize;
        let params = state::Scan {
            x: self.row_view(s.x),
            b: self.row_view(s.b),
            c: self.row_view(s.c),
            out: self.row_view(s.out),
            heads: s.heads,
            channels,
            per_group: s.heads / s.groups,
            pad: 0,
        };
        let (kernel, groups) = params.kernel(n, wide).ok_or_else(|| format!("no kernel for states of {n} numbers"))?;
        let steps = ScanSteps { x: params.x, dt: self.row_view(s.dt), out: params.out, heads: s.heads, channels };
        self.needs_gates(s.heads);
        let bindings = vec![
            self.place(s.x),
            self.place(s.dt),
            self.place(s.out),
            Bound::Gates,
            Bound::Vector(s.d),
            Bound::Vector(s.bias),
            Bound::Params,
            Bound::Batch,
        ];
        let first = Grid::Rows(steps.groups());
        self.push(Kernels::One(ScanSteps::kernel()), bindings, words(&steps), first, 0);
        let bindings = vec![
            self.place(s.x),
            self.place(s.b),
            self.place(s.c),
            self.place(s.out),
            Bound::Gates,
            Bound::State(s.state),
            Bound::Vector(s.a),
            Bound::Order,
        ];
        let cost = 3 * u64::from(s.heads) * u64::from(channels) * u64::from(n);
        self.push_state(kernel, bindings, words(&params), (groups, false), cost);
        Ok(())
    }
}

impl Dispatch {
    /// Does it run once per sequence, over a state of it?
    pub fn has_state(&self) -> bool {
        matches!(self.grid, Grid::State { .. })
    }
}
