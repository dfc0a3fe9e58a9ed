//! Steps that change states, alone against the CPU, and sequences that go back as the CPU's do.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::cases::{Case, SUMS};
use super::support::{Batch, Model, Noise, backend, rows};
use crate::cpu::{CpuBackend, CpuOptions, CpuSequence, Team};
use crate::error::ErrorKind;
use crate::gpu::pipelines::testing;
use crate::gpu::{GpuOptions, GpuSequence};
use crate::plan::{
    Act, Backend, CacheType, Delta, NormKind, Operand, Rows, Scan, SequenceMemory, Spread, StateId, StateKind,
    StateSpec, Step,
};

/// Several sequences in one batch, idle ones, a text, single rows.
fn ragged() -> Vec<Batch> {
    [vec![vec![0, 1, 0, 0, 1, 2], vec![1], vec![2, 2, 0], rows(20)], vec![rows(1); 3], vec![vec![0, 1, 2]]].concat()
}

fn state(m: &mut Model, kind: StateKind) -> StateId {
    m.plan.state(StateSpec { name: "s0".into(), kind })
}

/// All steps with a state.
pub fn of_states() -> Vec<Case> {
    [convolutions(), deltas(), scans()].into_iter().flatten().collect()
}

fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    for (channels, taps, act, has_bias, within) in [
        (70, 3, Act::Silu, true, false),
        (64, 2, Act::Id, false, true),
        (5, 1, Act::Silu, false, true),
        (130, 6, Act::Id, true, false),
    ] {
        let (mut m, given) = Model::given(21, 2 * channels + 3);
        // Results beside what is read, in one buffer, or in a buffer of their own.
        let y = if within { given } else { m.plan.buffer("y", channels + 2) };
        let (x, out) = (given.columns(3, channels), y.columns(if within { channels + 3 } else { 1 }, channels));
        let state = state(&mut m, StateKind::Tail { taps, channels });
        let weight = m.numbers(&[channels.into(), u64::from(taps) + 1], |x| x);
        let bias = has_bias.then(|| m.vector(channels));
        m.plan.push(Step::Conv { x, out, state, weight, bias, act });
        let name = format!("conv of {channels} channels, {taps} taps, {act:?}, bias {has_bias}, within {within}");
        cases.push(Case::new(name, m, out, SUMS).on(ragged()));
    }
    cases
}

/// One step of the delta rule.
#[derive(Clone, Copy)]
struct DeltaShape {
    heads: u32,
    key_heads: u32,
    dk: u32,
    dv: u32,
    per_key: bool,
    spread: Spread,
}

fn deltas() -> Vec<Case> {
    let usual = DeltaShape { heads: 4, key_heads: 2, dk: 16, dv: 16, per_key: false, spread: Spread::Block };
    let shapes = [
        usual,
        DeltaShape { spread: Spread::Cyclic, dk: 32, ..usual },
        DeltaShape { heads: 3, key_heads: 3, dk: 7, dv: 5, ..usual },
        DeltaShape { key_heads: 4, dk: 20, dv: 8, per_key: true, ..usual },
        DeltaShape { heads: 6, dk: 64, dv: 40, per_key: true, ..usual },
        DeltaShape { heads: 2, key_heads: 1, dk: 128, dv: 128, ..usual },
        DeltaShape { heads: 2, key_heads: 2, dk: 33, dv: 130, ..usual },
        DeltaShape { heads: 2, key_heads: 2, dk: 257, dv: 9, ..usual },
    ];
    shapes.into_iter().map(delta).collect()
}

fn delta(shape: DeltaShape) -> Case {
    let DeltaShape { heads, key_heads, dk, dv, per_key, spread } = shape;
    let (n_key, n_value) = (key_heads * dk, heads * dv);
    let n_decay = if per_key { heads * dk } else { heads };
    let (mut m, x) = Model::given(22, 2 * n_key + n_value + 1);
    let (g, y) = (m.plan.buffer("g", n_decay.max(2 * heads) + heads), m.plan.buffer("y", n_value + 2));
    let n_gate = g.width;
    m.linear(tealight_quant::BlockType::F32, x, g);
    let (q, k, v) = (x.columns(1, n_key), x.columns(1 + n_key, n_key), x.columns(1 + 2 * n_key, n_value));
    for heads in [q, k].map(|o| o.split(key_heads, dk)) {
        let (kind, eps) = (NormKind::L2, 1e-6);
        m.plan.push(Step::Norm { x: heads, out: heads, kind, eps, width: dk, weight: None, bias: None });
    }
    // One of each in turn where both are numbers of heads.
    let (decay, beta) = match per_key {
        true => (g.columns(0, n_decay), g.columns(n_gate - heads, heads)),
        false => (g.columns(1, 2 * heads - 1).strided(heads, 1, 2), g.columns(0, 2 * heads - 1).strided(heads, 1, 2)),
    };
    let out = y.columns(1, n_value);
    let state = state(&mut m, StateKind::Matrices { heads, rows: dk, cols: dv });
    let a = m.numbers(&[heads.into()], |x| -1.1 - x);
    let dt = m.numbers(&[n_decay.into()], |x| 3.0 * x - 4.0);
    let scale = 1.0 / (dk as f32).sqrt();
    m.plan.push(Step::Delta(Box::new(Delta {
        q,
        k,
        v,
        decay,
        beta,
        out,
        state,
        heads,
        key_heads,
        a,
        dt,
        spread,
        scale,
    })));
    let name = format!("delta, {heads} heads of {dk} x {dv} over {key_heads}, per key {per_key}, {spread:?}");
    Case::new(name, m, out, SUMS).on(ragged())
}

/// One selective scan.
#[derive(Clone, Copy)]
struct ScanShape {
    heads: u32,
    channels: u32,
    n: u32,
    groups: u32,
    wide: bool,
}

fn scans() -> Vec<Case> {
    let first = ScanShape { heads: 70, channels: 1, n: 16, groups: 1, wide: true };
    let second = ScanShape { heads: 6, channels: 20, n: 40, groups: 2, wide: false };
    let shapes = [
        first,
        ScanShape { n: 5, ..first },
        ScanShape { heads: 33, n: 40, ..first },
        second,
        ScanShape { heads: 4, channels: 64, n: 128, groups: 1, ..second },
        ScanShape { channels: 7, n: 17, groups: 3, ..second },
        ScanShape { heads: 2, channels: 3, n: 161, groups: 1, ..second },
    ];
    shapes.into_iter().map(|shape| scan(shape).0).collect()
}

fn scan(shape: ScanShape) -> (Case, Operand) {
    let ScanShape { heads, channels, n, groups, wide } = shape;
    let n_x = heads * channels;
    let (mut m, given) = Model::given(23, 2 * n_x + heads + 2 * groups * n);
    let (x, rest) = (given.columns(0, n_x), given.columns(n_x, heads + 2 * groups * n));
    let (dt, b, c) =
        (rest.columns(0, heads), rest.columns(heads, groups * n), rest.columns(heads + groups * n, groups * n));
    // The results lie beside what is read.
    let out = given.columns(n_x + heads + 2 * groups * n, n_x);
    let state = state(&mut m, StateKind::Matrices { heads, rows: channels, cols: n });
    let a = m.numbers(&[heads.into(), if wide { n.into() } else { 1 }], |x| -8.1 - 8.0 * x);
    let d = m.vector(heads);
    let bias = m.numbers(&[heads.into()], |x| 4.0 * x - 4.5);
    m.plan.push(Step::Scan(Box::new(Scan { x, dt, b, c, out, state, heads, groups, a, d, bias })));
    let name = format!("scan, {heads} heads of {channels} x {n} in {groups} groups, wide {wide}");
    (Case::new(name, m, out, SUMS).on(ragged()), out)
}

/// What happens to a sequence.
#[derive(Clone, Copy, Debug)]
enum Event {
    Feed(u32),
    /// A batch that is cancelled.
    Fail(u32),
    /// Back to the nearest position up to this share of what is held, in eighths.
    Rewind(u32),
    /// As after a failure behind the back-end.
    TakeBack(u32),
    Clear,
}

fn events(seed: u64) -> Vec<Event> {
    let mut noise = Noise(seed);
    let mut number = |n: u64| (noise.bits() % n) as u32;
    (0..40)
        .map(|_| match number(10) {
            0..=2 => Event::Feed(1 + number(6)),
            3..=5 => Event::Feed(1),
            6 => Event::Fail(1 + number(3)),
            7 => Event::Rewind(number(9)),
            8 => Event::TakeBack(number(4)),
            _ if number(4) == 0 => Event::Clear,
            _ => Event::Feed(1),
        })
        .collect()
}

/// One event; the results of the rows that were fed. `false`: it did not happen.
fn happen<B: Backend>(backend: &mut B, s: &mut B::Sequence, event: Event, width: usize) -> (bool, Vec<f32>) {
    let mut out = Vec::new();
    let len = s.len();
    let done = match event {
        Event::Feed(n) | Event::Fail(n) => {
            let pos: Vec<u32> = (len..len + n).collect();
            let (token, seq, want) = (vec![0; n as usize], vec![0; n as usize], (0..n).collect::<Vec<u32>>());
            let input: Vec<f32> = pos.iter().flat_map(|p| Noise(u64::from(*p)).numbers(width)).collect();
            let rows = Rows { token: &token, pos: &pos, seq: &seq, want: &want, input: &input };
            let cancel = AtomicBool::new(matches!(event, Event::Fail(_)));
            match backend.run(&rows, &mut [s], None, &cancel, &mut out) {
                Ok(()) => true,
                Err(e) => {
                    assert!(matches!(event, Event::Fail(_)) && e.kind() == ErrorKind::Interrupted, "{event:?}: {e}");
                    false
                }
            }
        }
        Event::Rewind(eighths) => {
            let near = s.nearest(len * eighths / 8);
            near > 0 && s.rewind(near)
        }
        Event::TakeBack(n) => {
            s.take_back(len.saturating_sub(n));
            true
        }
        Event::Clear => {
            s.clear();
            true
        }
    };
    (done, out)
}

#[test]
fn sequences_with_states_go_back_as_the_cpus_do() {
    let Some(gpu) = testing::gpu() else { return };
    let shape = ScanShape { heads: 6, channels: 4, n: 17, groups: 2, wide: false };
    let (Case { plan, weights, .. }, _) = scan(shape);
    let width = plan.inputs()[0].len() as usize;
    let options = CpuOptions { exact: true, kernels: "auto".into(), sum_inputs: false };
    let team = Arc::new(Team::new(1, 0).unwrap());
    let mut on_cpu = CpuBackend::new(plan.clone(), weights.clone(), team, &options).unwrap();
    let mut on_gpu = backend(&gpu, &plan, &*weights, &GpuOptions::default()).unwrap();
    let types = CacheType::F32;
    for seed in 0..6 {
        let mut theirs = CpuSequence::new(&plan, 400, 64, types, types).unwrap();
        let mut ours = GpuSequence::new(&gpu, &plan, 400, 64, types, types).unwrap();
        assert_eq!(ours.bytes(), plan.memory(400, 64, types, types).cache);
        for (i, event) in events(seed).into_iter().enumerate() {
            let (want, exact) = happen(&mut on_cpu, &mut theirs, event, width);
            let (got, found) = happen(&mut on_gpu, &mut ours, event, width);
            let place = format!("seed {seed}, event {i}: {event:?}");
            assert_eq!((got, ours.len()), (want, theirs.len()), "{place}");
            for len in 0..=theirs.len() {
                assert_eq!(ours.nearest(len), theirs.nearest(len), "{place}, back to {len}");
            }
            assert_eq!(found.len(), exact.len(), "{place}");
            let scale = exact.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
            let worst = exact.iter().zip(&found).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst <= SUMS * scale, "{place}: {worst} of {scale}");
        }
    }
}
