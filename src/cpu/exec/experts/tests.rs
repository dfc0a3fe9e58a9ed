//! Experts and matrices of heads in blocks, in batches of every kind, against the plain computation.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tealight_quant::{BlockType, quantize};

use super::*;
use crate::cpu::{CpuBackend, CpuOptions, CpuSequence, Team};
use crate::plan::{
    Act, Backend, CacheType, Operand, Part, PlanBuilder, Route, Rows, Score, Step, WeightId, WeightRef, Weights,
};

struct Owned(Vec<Vec<u8>>);

impl Weights for Owned {
    fn bytes(&self, id: WeightId) -> &[u8] {
        &self.0[id.index()]
    }
}

/// Numbers between -1 and 1 from a counter.
struct Noise(u32);

impl Noise {
    fn numbers(&mut self, n: usize) -> Vec<f32> {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next(&mut self.0)).collect()
    }
}

/// A plan in the making.
struct Maker {
    plan: PlanBuilder,
    weights: Vec<Vec<u8>>,
    noise: Noise,
}

impl Maker {
    fn weight(&mut self, name: &str, ty: BlockType, shape: &[u64]) -> WeightId {
        let n: u64 = shape.iter().product();
        let row = *shape.last().unwrap();
        let values: Vec<f32> = self.noise.numbers(n as usize).iter().map(|x| x * (3.0 / row as f32).sqrt()).collect();
        let mut bytes = vec![0; n as usize / ty.block_len() * ty.block_bytes()];
        match ty {
            BlockType::F32 => bytes.copy_from_slice(bytemuck::cast_slice(&values)),
            _ => quantize(ty, &values, row as usize, None, &mut bytes).unwrap(),
        }
        self.weights.push(bytes);
        self.plan.weight(WeightRef { name: name.to_owned(), ty, shape: shape.to_vec() })
    }

    fn part(&mut self, name: &str, ty: BlockType, shape: [u64; 3], biased: bool) -> ExpertPart {
        let weight = self.weight(name, ty, &shape);
        let bias = biased.then(|| self.weight(&format!("{name}.bias"), BlockType::F32, &shape[..2]));
        ExpertPart { weight, bias }
    }
}

/// How experts are made.
#[derive(Clone, Copy)]
struct Form {
    ty: BlockType,
    gate_up: bool,
    gated: bool,
    biased: bool,
    on_input: bool,
}

const FORM: Form = Form { ty: BlockType::Q4K, gate_up: false, gated: true, biased: false, on_input: false };

const N_IN: u32 = 512;

/// Experts behind a router.
fn experts(form: Form) -> (Plan, Owned) {
    let (n_expert, k, n_ff, n_in) = (7, 3, 768, u64::from(N_IN));
    let mut m = Maker { plan: PlanBuilder::default(), weights: vec![], noise: Noise(7) };
    let x = m.plan.buffer("x", N_IN);
    m.plan.input(x);
    let [logits, idx, w] = [("router", 7), ("idx", k), ("w", k)].map(|(name, n)| m.plan.buffer(name, n));
    let router = m.weight("router", BlockType::F32, &[n_expert, n_in]);
    let part = Part { out: logits, weight: router, bias: None, scale: 4.0 };
    m.plan.push(Step::Linear { x, parts: vec![part], clamp: None });
    let (bias, groups, renorm, per_expert) = (None, None, Some(0.0), None);
    let score = Score::Softmax;
    let route = Route { x: logits, idx, w, score, bias, groups, renorm, scale: 1.0, per_expert };
    m.plan.push(Step::Route(Box::new(route)));
    let gate = (form.gated && !form.gate_up).then(|| m.part("gate", form.ty, [n_expert, n_ff, n_in], form.biased));
    let n_up = if form.gate_up { 2 * n_ff } else { n_ff };
    let up = m.part("up", form.ty, [n_expert, n_up, n_in], form.biased);
    let down = m.part("down", form.ty, [n_expert, 320, n_ff], form.biased);
    let out = m.plan.buffer("out", 320);
    let Form { gate_up, on_input, .. } = form;
    let step = Experts { x, idx, w, out, gate, up, gate_up, down, act: Act::Silu, on_input };
    m.plan.push(Step::Experts(Box::new(step)));
    m.plan.output(out);
    (m.plan.finish().unwrap(), Owned(m.weights))
}

/// A matrix for each of four heads, which lie apart.
fn heads(ty: BlockType) -> (Plan, Owned) {
    let mut m = Maker { plan: PlanBuilder::default(), weights: vec![], noise: Noise(9) };
    let x = m.plan.buffer("x", N_IN);
    m.plan.input(x);
    let out = m.plan.buffer("out", 4 * 80);
    let weight = m.weight("heads", ty, &[4, 80, 96]);
    let part = Part { out: out.split(4, 80), weight, bias: None, scale: 0.5 };
    m.plan.push(Step::Linear {
        x: Operand { start: 32, width: 96, heads: 4, stride: 128, ..x },
        parts: vec![part],
        clamp: None,
    });
    m.plan.output(out);
    (m.plan.finish().unwrap(), Owned(m.weights))
}

const N_ROW: usize = 70;

/// Results of `N_ROW` rows in batches of `n_batch`.
fn run((plan, weights): (Plan, Owned), exact: bool, n_batch: usize, n_threads: usize) -> Vec<f32> {
    let (plan, team) = (Arc::new(plan), Arc::new(Team::new(n_threads, 10).unwrap()));
    let options = CpuOptions { exact, kernels: "auto".into(), sum_inputs: false };
    let mut sequence = CpuSequence::new(&plan, 128, 128, CacheType::F32, CacheType::F32).unwrap();
    let mut backend = CpuBackend::new(plan, Arc::new(weights), team, &options).unwrap();
    let input = Noise(3).numbers(N_ROW * N_IN as usize);
    let mut out = Vec::new();
    for first in (0..N_ROW).step_by(n_batch) {
        let n = n_batch.min(N_ROW - first);
        let pos: Vec<u32> = (first as u32..(first + n) as u32).collect();
        let (zeros, want): (Vec<u32>, Vec<u32>) = (vec![0; n], (0..n as u32).collect());
        let input = &input[first * N_IN as usize..(first + n) * N_IN as usize];
        let rows = Rows { token: &zeros, pos: &pos, seq: &zeros, want: &want, input };
        backend.run(&rows, &mut [&mut sequence], None, &AtomicBool::new(false), &mut out).unwrap();
    }
    out
}

fn error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale
}

/// Rounding of activations to 8 bits, and of sums in f32.
fn tolerance(ty: BlockType) -> f32 {
    if ty.block_len() > 1 { 4e-2 } else { 1e-5 }
}

#[test]
fn blocks_of_experts_give_what_their_numbers_give_in_every_batch() {
    let forms = [
        FORM,
        Form { ty: BlockType::Q8_0, ..FORM },
        Form { ty: BlockType::F32, ..FORM },
        Form { gate_up: true, ..FORM },
        Form { gated: false, ..FORM },
        Form { biased: true, ..FORM },
        Form { on_input: true, ..FORM },
    ];
    for form in forms {
        let Form { ty, gate_up, gated, biased, on_input } = form;
        let name = format!("{ty} gate_up={gate_up} gated={gated} biased={biased} on_input={on_input}");
        let want = run(experts(form), true, N_ROW, 2);
        assert!(error(&run(experts(form), true, 1, 1), &want) <= 1e-6, "{name}: one by one");
        for n_batch in [N_ROW, 24, 3, 1] {
            let fast = run(experts(form), false, n_batch, 2);
            let e = error(&fast, &want);
            assert!(e <= tolerance(ty), "{name}, batches of {n_batch}: {e}");
            let again = run(experts(form), false, n_batch, 5);
            assert!(fast.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}: threads matter");
        }
    }
}

#[test]
fn matrices_of_heads_give_what_their_numbers_give_in_every_batch() {
    for ty in [BlockType::Q8_0, BlockType::Q4_0, BlockType::F32] {
        let want = run(heads(ty), true, N_ROW, 2);
        for n_batch in [N_ROW, 24, 3, 1] {
            let e = error(&run(heads(ty), false, n_batch, 3), &want);
            assert!(e <= tolerance(ty), "{ty}, batches of {n_batch}: {e}");
        }
    }
}

#[test]
fn pairs_are_sorted_by_expert_and_keep_their_order() {
    let experts = [3usize, 0, 3, 5, 0, 3, 5, 1];
    let shape = Shape { n_row: 4, n_used: 2, n_in: 1, n_ff: 1, n_out: 1, n_up: 1, n_expert: 7 };
    let mut memory = Shared::new();
    memory.grow(PairTable::len(shape)).unwrap();
    let table = PairTable { memory: &memory, n_group: shape.n_group(), n_pair: shape.n_pair() };
    table.fill(shape.n_expert, |pair| experts[pair]);
    let groups: Vec<_> = (0..shape.n_group()).map_while(|i| table.group(i)).collect();
    let found: Vec<_> = groups.iter().map(|g| (g.expert, g.rows.first, g.rows.n_row)).collect();
    assert_eq!(found, [(0, 0, 2), (1, 2, 1), (3, 3, 3), (5, 6, 2)]);
    let order: Vec<_> = (0..8).map(|place| table.pair(place)).collect();
    assert_eq!(order, [1, 4, 7, 0, 2, 5, 3, 6]);
    for place in 0..8 {
        let group = table.group_of(place).unwrap();
        assert_eq!(group.expert, experts[order[place]]);
    }
}
