//! The choice of experts, and what they compute, against the CPU.

use tealight_quant::BlockType::{self, F32, Q4_0};

use super::cases::{Case, FUNCTIONS, SUMS};
use super::support::{Batch, Model, rows};
use crate::gpu::device::Caps;
use crate::gpu::lower::{Chosen, TILE, Variant, WholeMatrices, lower};
use crate::plan::{Act, ExpertPart, Experts, Groups, Operand, Route, Score, Step};

/// Few rows, and more than any case takes pair by pair.
fn batches() -> Vec<Batch> {
    [1, 3, 8, 9, 30, 70].map(rows).to_vec()
}

/// The choice of `used` of the experts that `x` has numbers of.
fn route(m: &mut Model, x: Operand, used: u32) -> Route {
    let (idx, w) = (m.plan.buffer("idx", used + 1).columns(1, used), m.plan.buffer("w", used));
    let (score, bias, groups, renorm, per_expert) = (Score::Softmax, None, None, None, None);
    Route { x, idx, w, score, bias, groups, renorm, scale: 1.0, per_expert }
}

/// What a choice changes.
type Change = fn(&mut Model, &mut Route);

/// Every kind of score over numbers of a few units, and such of which many are equal.
pub fn of_routes() -> Vec<Case> {
    let changes: [(&str, Change); 9] = [
        ("softmax", |_, _| {}),
        ("softmax, renormalised", |_, r| (r.renorm, r.scale) = (Some(1e-6), 2.5)),
        ("softmax, groups", |_, r| r.groups = Some(Groups { count: 4, used: 2 })),
        ("sigmoid", |_, r| r.score = Score::Sigmoid),
        ("sigmoid, bias", |m, r| {
            (r.score, r.bias, r.renorm) = (Score::Sigmoid, Some(m.vector(r.x.len())), Some(0.0));
        }),
        ("sigmoid, bias, groups", |m, r| {
            (r.score, r.bias) = (Score::Sigmoid, Some(m.vector(r.x.len())));
            r.groups = Some(Groups { count: 4, used: 2 });
        }),
        ("softmax, bias, groups, factors", |m, r| {
            (r.bias, r.per_expert) = (Some(m.vector(r.x.len())), Some(m.vector(r.x.len())));
            (r.groups, r.renorm) = (Some(Groups { count: 4, used: 3 }), Some(1e-20));
        }),
        ("chosen", |m, r| (r.score, r.per_expert) = (Score::Chosen, Some(m.vector(r.x.len())))),
        ("mixer", |_, r| r.score = Score::Mixer { jitter: 0.1 }),
    ];
    let mut cases = Vec::new();
    for (name, change) in changes {
        for (n, used) in [(8, 2), (12, 5), (300, 10)] {
            for ties in [false, true] {
                for weights in [false, true] {
                    let is_mixer = name == "mixer";
                    let (mut m, x) = Model::given(u64::from(n), n + 3);
                    let x = x.columns(3, n);
                    let logits = m.plan.buffer("logits", n);
                    m.plan.push(Step::Add { x, y: x, out: logits, scale: 5.0 });
                    if ties {
                        m.plan.push(Step::Gate { x: logits, out: logits, act: Act::Relu, by: None });
                    }
                    let mut r = route(&mut m, logits, if is_mixer { 2 } else { used });
                    change(&mut m, &mut r);
                    let out = if weights { r.w } else { r.idx };
                    m.plan.push(Step::Route(Box::new(r)));
                    let name = format!("route {name}: {used} of {n}, ties {ties}, weights {weights}");
                    cases.push(Case::new(name, m, out, if weights { FUNCTIONS } else { 0.0 }));
                }
            }
        }
    }
    cases
}

/// Sizes of a step of experts: input, hidden, result; experts that a row chooses, of how many.
#[derive(Clone, Copy)]
struct Sizes {
    n: [u32; 3],
    used: u32,
    of: u32,
}

/// What experts are like.
#[derive(Clone, Copy)]
struct Kind {
    /// 0: gate and factor apart, 1: in one tensor, 2: no gate.
    form: u32,
    act: Act,
    biases: bool,
    on_input: bool,
}

/// A choice and its experts over `x`, whose first columns are the router's numbers.
fn push(m: &mut Model, ty: BlockType, x: Operand, out: Operand, sizes: Sizes, kind: Kind) {
    let Sizes { n: [n_in, n_ff, n_out], used, of } = sizes;
    let mut r = route(m, x.columns(0, of), used);
    r.score = Score::Sigmoid;
    let (idx, w) = (r.idx, r.w);
    m.plan.push(Step::Route(Box::new(r)));
    let mut part = |rows: u32, len: u32| {
        let weight = m.weight(ty, &[of.into(), rows.into(), len.into()]);
        ExpertPart { weight, bias: kind.biases.then(|| m.weight(F32, &[of.into(), rows.into()])) }
    };
    let gate = (kind.form == 0).then(|| part(n_ff, n_in));
    let up = part(if kind.form == 1 { 2 * n_ff } else { n_ff }, n_in);
    let down = part(n_out, n_ff);
    let Kind { act, on_input, .. } = kind;
    let x = x.columns(of, n_in);
    let step = Experts { x, idx, w, out, gate, up, gate_up: kind.form == 1, down, act, on_input };
    m.plan.push(Step::Experts(Box::new(step)));
}

const USUAL: Kind = Kind { form: 0, act: Act::Silu, biases: false, on_input: false };

/// All but the formats.
pub fn of_experts() -> Vec<Case> {
    let clamped = Act::ClampedSwiglu { alpha: 1.702, limit: 0.4 };
    let kinds = [
        ("gate and factor", USUAL),
        ("biases, clamped", Kind { act: clamped, biases: true, ..USUAL }),
        ("in one tensor", Kind { form: 1, act: Act::Gelu, ..USUAL }),
        ("in one tensor, biases, clamped", Kind { form: 1, act: clamped, biases: true, ..USUAL }),
        ("no gate", Kind { form: 2, act: Act::Relu2, ..USUAL }),
        ("no gate, biases", Kind { form: 2, biases: true, ..USUAL }),
        ("weighted inputs", Kind { on_input: true, ..USUAL }),
    ];
    // Whole groups, ragged ones, more experts than are grouped for few rows, and all chosen. Experts of up to 16 KiB.
    let sizes = |ty| {
        let (whole, ragged) = if ty == Q4_0 { ([96, 32, 66], [64, 32, 70]) } else { ([96, 20, 66], [37, 31, 61]) };
        [
            Sizes { n: whole, used: 2, of: 5 },
            Sizes { n: ragged, used: 3, of: 40 },
            Sizes { n: [64, 32, 9], used: 4, of: 4 },
        ]
    };
    let mut cases = Vec::new();
    for ty in [F32, Q4_0] {
        for (i, (what, kind)) in kinds.into_iter().enumerate() {
            let sizes = sizes(ty)[i % 3];
            let (mut m, x) = Model::given(30, sizes.of + sizes.n[0] + 3);
            let out = m.plan.buffer("y", sizes.n[2] + 5).columns(5, sizes.n[2]);
            push(&mut m, ty, x, out, sizes, kind);
            cases.push(Case::new(format!("{ty} experts: {what}"), m, out, SUMS).on(batches()));
        }
        // Behind a Take, and a sum that follows.
        for (taken, sum) in [(true, false), (true, true), (false, true)] {
            let sizes = sizes(ty)[1];
            let (mut m, x) = Model::given(31, sizes.of + sizes.n[0]);
            let (r, y) = (m.plan.buffer("r", sizes.n[2]), m.plan.buffer("y", sizes.n[2]));
            if sum {
                m.embed(F32, 9, r, 1.0, false);
            }
            if taken {
                m.plan.push(Step::Take { keep: if sum { vec![x.buf, r.buf] } else { vec![x.buf] } });
            }
            push(&mut m, ty, x, y, sizes, USUAL);
            if sum {
                m.add(r, y, 0.5);
            }
            let name = format!("{ty} experts: behind a Take {taken}, then a sum {sum}");
            cases.push(Case::new(name, m, if sum { r } else { y }, SUMS).on(batches()));
        }
    }
    cases
}

/// Experts with matrices of one format.
pub fn of_format(ty: BlockType) -> Case {
    let len = if ty.block_len() == 1 { 77 } else { ty.block_len().max(64) as u32 };
    let sizes = Sizes { n: [len, len, 70], used: 2, of: 3 };
    let (mut m, x) = Model::given(ty.block_bytes() as u64, 3 + len);
    let y = m.plan.buffer("y", 70);
    push(&mut m, ty, x, y, sizes, USUAL);
    Case::new(format!("experts {ty}"), m, y, SUMS).on([1, 8, 9, 60].map(rows).to_vec())
}

#[test]
fn a_stack_of_too_large_experts_is_refused_by_name() {
    let (mut m, x) = Model::given(1, 5 + 64);
    let y = m.plan.buffer("y", 48);
    push(&mut m, F32, x, y, Sizes { n: [64, 32, 48], used: 2, of: 5 }, USUAL);
    let (plan, _) = m.finish(y);
    let why = |max_binding| {
        let variant = Variant { max_binding, ..Variant::of(&Caps::BASELINE) };
        lower(&plan, plan.steps().len(), &variant, &WholeMatrices(&plan)).err().map(|e| e.why)
    };
    // Gates are 8 KiB, what comes last 6.
    assert_eq!(why(8 << 10), None);
    let refused = why((8 << 10) - 1).expect("a gate is larger");
    assert!(refused.starts_with("no kernels for `w0`") && refused.contains("8191 bytes"), "{refused}");
}

#[test]
fn tiles_are_never_more_than_their_grid_has() {
    for (used, of) in [(1, 1), (2, 5), (8, 128), (4, 4)] {
        let chosen = Chosen { used, of };
        for n_row in [1u32, 2, 9, 31, 33, 100] {
            // Most tiles are wasted where all experts that are chosen at all, but one, have one pair.
            let n_pair = n_row * used;
            for n_busy in 1..=of.min(n_pair) {
                let first = (n_pair - (n_busy - 1)).div_ceil(TILE.1);
                assert!(first + n_busy - 1 <= chosen.max_tiles(n_row), "{n_row} rows, {n_busy} of {chosen:?}");
            }
        }
    }
}
