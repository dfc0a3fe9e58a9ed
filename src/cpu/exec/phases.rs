//! A plan's steps grouped into phases, and how large its buffers become.

use std::ops::Range;

use super::experts::ExpertPhase;
use crate::cpu::kernels::{KernelSet, PANEL_COLS};
use crate::cpu::linear::{Cut, Kinds, StackCut};
use crate::plan::{Operand, Part, Plan, Probe, Step};

/// Steps that are executed together.
pub(super) enum Phase {
    /// Row-local steps, then the quantized input of the step with matrices behind them.
    Rows {
        steps: Range<usize>,
        prepare: Option<Prepare>,
    },
    /// A linear step, and the soft cap on its result.
    Linear {
        step: usize,
        cap: Option<f32>,
        /// Its chunks for few rows.
        few: Cut,
    },
    /// A linear step whose heads have matrices of their own, and its chunks for few rows.
    Heads(usize, StackCut),
    Attend(usize),
    Select(usize),
    Take(usize),
    Pool(usize),
    /// A step that changes the sequences' states.
    State(usize),
    /// Experts, but for the sum of their results, which begins the rows behind.
    Experts(usize, ExpertPhase),
}

/// An input that is quantized as soon as it is there.
#[derive(Clone, Copy)]
pub(super) struct Prepare {
    pub x: Operand,
    pub kinds: Kinds,
    pub how: PrepareHow,
}

/// Which rows one matrix will read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PrepareHow {
    /// All.
    Whole,
    /// The only one; the inputs of more rows are sorted first.
    OnlyOne,
    /// One head of all.
    Heads,
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
            if let Some(prepare) = prepared(plan, step, set, exact) {
                let n = match prepare.how {
                    PrepareHow::Heads => prepare.x.heads * prepare.x.width.next_multiple_of(PANEL_COLS as u32),
                    _ => prepare.x.len(),
                };
                raise(&mut sizes.quantized, is_taken, n);
            }
        }
        sizes
    }
}

/// What a step with matrices wants quantized before it.
fn prepared(plan: &Plan, step: &Step, set: &KernelSet, exact: bool) -> Option<Prepare> {
    let (x, kinds, how) = match step {
        Step::Linear { x, parts, .. } => {
            let how = if is_stacked(plan, parts) { PrepareHow::Heads } else { PrepareHow::Whole };
            (*x, Kinds::of(plan, parts.iter().map(|p| p.weight), set, exact), how)
        }
        Step::Experts(e) if !e.on_input => {
            (e.x, Kinds::of(plan, e.inputs().map(|p| p.weight), set, exact), PrepareHow::OnlyOne)
        }
        _ => return None,
    };
    kinds.any().then_some(Prepare { x, kinds, how })
}

/// Have the heads of the input matrices of their own?
pub(super) fn is_stacked(plan: &Plan, parts: &[Part]) -> bool {
    parts.iter().any(|p| plan.weights()[p.weight.index()].n_matrix() > 1)
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
        if let Some(wanted) = prepared(plan, step, set, exact) {
            match phases.last_mut() {
                Some(Phase::Rows { prepare: prepare @ None, .. }) => *prepare = Some(wanted),
                _ => phases.push(Phase::Rows { steps: i..i, prepare: Some(wanted) }),
            }
        }
        match step {
            Step::Linear { x, parts, .. } if is_stacked(plan, parts) => {
                let weights = parts.iter().map(|p| &plan.weights()[p.weight.index()]);
                phases.push(Phase::Heads(i - 1, StackCut::new(weights, x.heads as usize, 1)));
            }
            Step::Linear { parts, .. } => {
                let cap = match (&parts[..], steps[..end].get(i)) {
                    ([part], Some(Step::Softcap { x, out, cap })) if *x == part.out && *out == part.out => Some(*cap),
                    _ => None,
                };
                phases.push(Phase::Linear { step: i - 1, cap, few: Cut::new(plan, parts, 1) });
                i += usize::from(cap.is_some());
            }
            Step::Attend(_) => phases.push(Phase::Attend(i - 1)),
            Step::Select(_) => phases.push(Phase::Select(i - 1)),
            Step::Take { .. } => phases.push(Phase::Take(i - 1)),
            Step::Pool { .. } => phases.push(Phase::Pool(i - 1)),
            Step::Conv { .. } | Step::Delta(_) | Step::Scan(_) => phases.push(Phase::State(i - 1)),
            Step::Experts(e) => {
                phases.push(Phase::Experts(i - 1, ExpertPhase::new(plan, e, set, exact)));
                phases.push(Phase::Rows { steps: i - 1..i, prepare: None });
            }
            _ => match phases.last_mut() {
                Some(Phase::Rows { steps, prepare: None }) => steps.end = i,
                _ => phases.push(Phase::Rows { steps: i - 1..i, prepare: None }),
            },
        }
    }
    phases
}
