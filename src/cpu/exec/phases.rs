//! A plan's steps grouped into phases, and how large its buffers become.

use std::ops::Range;

use crate::cpu::kernels::KernelSet;
use crate::cpu::linear::{Cut, Kinds};
use crate::plan::{Operand, Plan, Probe, Step};

/// Steps that are executed together.
pub(super) enum Phase {
    /// Row-local steps, then the quantized input of the linear step behind them.
    Rows {
        steps: Range<usize>,
        prepare: Option<(Operand, Kinds)>,
    },
    /// A linear step, and the soft cap on its result.
    Linear {
        step: usize,
        cap: Option<f32>,
        /// Its chunks for few rows.
        few: Cut,
    },
    Attend(usize),
    Take(usize),
    Pool(usize),
    /// A step that changes the sequences' states.
    State(usize),
}

/// Numbers of a row that buffers hold: before the Take, when all rows of the batch are there, and behind it.
pub(super) struct Sizes {
    /// By buffer; 0 where no step of that side writes it.
    pub buffers: Vec<(usize, usize)>,
    /// The widest input that is quantized.
    pub quantized: (usize, usize),
}

impl Sizes {
    pub fn of(plan: &Plan, set: &KernelSet, exact: bool) -> Self {
        let mut sizes = Self { buffers: vec![(0, 0); plan.buffers().len()], quantized: (0, 0) };
        let mut is_taken = false;
        let raise = |pair: &mut (usize, usize), is_taken: bool, n: u32| {
            let side = if is_taken { &mut pair.1 } else { &mut pair.0 };
            *side = (*side).max(n as usize);
        };
        for o in plan.inputs() {
            raise(&mut sizes.buffers[o.buf.index()], false, plan.buffers()[o.buf.index()].width);
        }
        for step in plan.steps() {
            is_taken |= matches!(step, Step::Take { .. });
            for o in step.writes() {
                raise(&mut sizes.buffers[o.buf.index()], is_taken, plan.buffers()[o.buf.index()].width);
            }
            if let Step::Linear { x, .. } = step
                && Kinds::of(plan, step, set, exact).any()
            {
                raise(&mut sizes.quantized, is_taken, x.len());
            }
        }
        sizes
    }
}

/// Groups steps into phases; a probe's step ends its phase, and nothing follows.
pub(super) fn phases(plan: &Plan, set: &KernelSet, exact: bool, probe: Option<Probe>) -> Vec<Phase> {
    let steps = plan.steps();
    let end = probe.map_or(steps.len(), |p| p.step() + 1);
    // What depends on positions is prepared with the rows of the first phase.
    let mut phases = vec![Phase::Rows { steps: 0..0, prepare: None }];
    let mut i = 0;
    while i < end {
        let step = &steps[i];
        i += 1;
        match step {
            Step::Linear { x, parts, .. } => {
                let kinds = Kinds::of(plan, step, set, exact);
                if kinds.any() {
                    match phases.last_mut() {
                        Some(Phase::Rows { prepare, .. }) => *prepare = Some((*x, kinds)),
                        _ => phases.push(Phase::Rows { steps: i..i, prepare: Some((*x, kinds)) }),
                    }
                }
                let cap = match (&parts[..], steps[..end].get(i)) {
                    ([part], Some(Step::Softcap { x, out, cap })) if *x == part.out && *out == part.out => Some(*cap),
                    _ => None,
                };
                phases.push(Phase::Linear { step: i - 1, cap, few: Cut::new(plan, parts, 1) });
                i += usize::from(cap.is_some());
            }
            Step::Attend(_) => phases.push(Phase::Attend(i - 1)),
            Step::Take { .. } => phases.push(Phase::Take(i - 1)),
            Step::Pool { .. } => phases.push(Phase::Pool(i - 1)),
            Step::Conv { .. } | Step::Delta(_) | Step::Scan(_) => phases.push(Phase::State(i - 1)),
            _ => match phases.last_mut() {
                Some(Phase::Rows { steps, prepare: None }) => steps.end = i,
                _ => phases.push(Phase::Rows { steps: i - 1..i, prepare: None }),
            },
        }
    }
    phases
}
