//! The table of cases: small plans of one or few steps, with the rows that they are run on.

use std::sync::Arc;

use tealight_quant::BlockType::{self, F32, Q4_0, Q4_1};

use super::support::{Batch, Model, Owned, Script, Wanted, rows};
use crate::plan::{
    Act, Alibi, Attend, CacheSpec, CacheType, Index, NormKind, Operand, Pairs, Part, Plan, PoolKind, RopeTable, Span,
    Step, Temper,
};

/// Sums in another order.
pub const SUMS: f32 = 2e-5;
/// Functions of f32 arithmetic.
pub const FUNCTIONS: f32 = 4e-6;

pub struct Case {
    pub name: String,
    pub plan: Arc<Plan>,
    pub weights: Arc<Owned>,
    pub batches: Vec<Batch>,
    pub cache: [CacheType; 2],
    pub wanted: Wanted,
    /// Largest error in units of the largest number.
    pub tolerance: f32,
}

impl Case {
    pub fn new(name: impl Into<String>, model: Model, out: Operand, tolerance: f32) -> Self {
        let (plan, weights) = model.finish(out);
        let batches = vec![rows(5), rows(1)];
        let cache = [CacheType::F32; 2];
        Self { name: name.into(), plan, weights, batches, cache, wanted: Wanted::All, tolerance }
    }

    pub fn on(self, batches: Vec<Batch>) -> Self {
        Self { batches, ..self }
    }

    fn wanting(self, wanted: Wanted) -> Self {
        Self { wanted, ..self }
    }

    pub fn script(&self) -> Script<'_> {
        Script { batches: &self.batches, cache: self.cache, wanted: self.wanted }
    }
}

/// Every number of columns that chooses another kernel, and ragged tiles.
fn columns() -> Vec<Batch> {
    (1..=9).chain([17, 70]).map(rows).collect()
}

/// An embedding and a product with a ragged matrix of one format.
pub fn of_format(ty: BlockType) -> Case {
    let (n_row, len) = (75, if ty.block_len() == 1 { 77 } else { 3 * ty.block_len() as u32 });
    let (mut m, x) = Model::given(u64::from(n_row) + ty.block_bytes() as u64, len);
    let y = m.plan.buffer("y", n_row + len);
    m.embed(ty, 40, y.columns(n_row, len), 0.7, false);
    m.linear(ty, x, y.columns(0, n_row));
    Case::new(format!("format {ty}"), m, y, SUMS).on(columns())
}

/// All but the formats and attention.
pub fn of_steps() -> Vec<Case> {
    [products(), heads(), norms(), rotations(), pointwise(), streams(), moves()].into_iter().flatten().collect()
}

/// What stands around a product, with a matrix of floats and of codes.
fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    for (ty, with_minimum) in [(F32, Q4_0), (Q4_0, Q4_1)] {
        let (mut m, x) = Model::given(1, 96);
        let y = m.plan.buffer("y", 150);
        let bias = Some(m.vector(70));
        let first = Part { bias, scale: 0.3, ..m.part(ty, x, y.columns(3, 70)) };
        let second = m.part(ty, x, y.columns(80, 69));
        m.plan.push(Step::Linear { x, parts: vec![first, second], clamp: Some(4.0) });
        let (a, b) = (y.columns(3, 70), y.columns(80, 69));
        m.plan.push(Step::Add { x: a.columns(0, 69), y: b, out: b, scale: -0.5 });
        cases.push(Case::new(format!("{ty}: two parts, bias, scale, clamp"), m, b, SUMS).on(columns()));

        for cap in [None, Some(5.0)] {
            let (mut m, x) = Model::given(2, 64);
            let (r, y) = (m.plan.buffer("r", 66), m.plan.buffer("y", 66));
            m.embed(F32, 9, r, 1.0, false);
            m.linear(ty, x, y);
            match cap {
                Some(cap) => m.plan.push(Step::Softcap { x: y, out: y, cap }),
                None => m.add(r, y, 0.25),
            }
            let out = if cap.is_some() { y } else { r };
            if cap.is_some() {
                m.add(y, r, 1.0);
            }
            cases.push(Case::new(format!("{ty}: then a sum, or a cap {cap:?}"), m, out, SUMS).on(columns()));
        }

        let (mut m, x) = Model::given(3, 200);
        let y = m.plan.buffer("y", 130);
        m.linear(ty, x.columns(1, 96), y.columns(0, 65));
        m.linear(ty, x.columns(100, 64), y.columns(65, 65));
        cases.push(Case::new(format!("{ty}: inputs that are not aligned"), m, y, SUMS).on(columns()));

        // The inverse of the largest of them is no number.
        let (mut m, x) = Model::given(18, 64);
        let (tiny, r) = (m.plan.buffer("tiny", 64), m.plan.buffer("r", 66));
        let part = Part { scale: 1e-38, ..m.part(F32, x, tiny) };
        m.plan.push(Step::Linear { x, parts: vec![part], clamp: None });
        m.embed(F32, 9, r, 1.0, false);
        let y = m.plan.buffer("y", 66);
        m.linear(with_minimum, tiny, y);
        m.add(r, y, 1.0);
        cases.push(Case::new(format!("{with_minimum}: tiny inputs"), m, r, SUMS).on(columns()));

        let (mut m, x) = Model::given(4, 64);
        let y = m.plan.buffer("y", 33);
        let mut part = m.part(ty, x, y);
        part.bias = Some(m.vector(33));
        m.plan.push(Step::Take { keep: vec![x.buf] });
        m.plan.push(Step::Linear { x, parts: vec![part], clamp: None });
        cases.push(Case::new(format!("{ty}: behind a Take"), m, y, SUMS).on(columns()));
    }
    cases
}

/// A matrix for each head, of inputs that lie apart, and such that are not aligned.
fn heads() -> Vec<Case> {
    let mut cases = Vec::new();
    for (ty, width) in [(F32, 40), (F32, 32), (Q4_0, 64)] {
        for start in [4, 3] {
            let (mut m, x) = Model::given(21, start + 3 * (width + 8));
            let y = m.plan.buffer("y", 4 + 3 * 100);
            let x = Operand { start, width, heads: 3, stride: width + 8, ..x };
            let out = Operand { start: 2, width: 60, heads: 3, stride: 100, ..y };
            let weight = m.weight(ty, &[3, 60, width.into()]);
            let parts = vec![Part { out, weight, bias: None, scale: 0.5 }];
            m.plan.push(Step::Linear { x, parts, clamp: None });
            cases.push(
                Case::new(format!("{ty}: matrices of heads of {width} from {start} on"), m, out, SUMS).on(columns()),
            );
        }
    }
    cases
}

fn norms() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [NormKind::Rms, NormKind::Layer, NormKind::L2] {
        let name = |what: &str| format!("norm {kind:?}: {what}");
        let (mut m, x) = Model::given(5, 300);
        let y = m.plan.buffer("y", 301);
        let (weight, bias) = (Some(m.vector(300)), Some(m.vector(300)));
        let out = y.columns(1, 300);
        m.plan.push(Step::Norm { x, out, kind, eps: 1e-5, width: 300, weight, bias });
        cases.push(Case::new(name("wide, weight and bias"), m, out, FUNCTIONS));

        // Heads of 24 in 40 columns, one weight for each of them.
        let (mut m, x) = Model::given(6, 3 + 40 * 4);
        let heads = Operand { start: 3, width: 24, heads: 4, stride: 40, ..x };
        let weight = Some(m.vector(96));
        m.plan.push(Step::Norm { x: heads, out: heads, kind, eps: 0.01, width: 24, weight, bias: None });
        cases.push(Case::new(name("heads in place"), m, x, FUNCTIONS));

        let (mut m, x) = Model::given(7, 128);
        let y = m.plan.buffer("y", 128);
        let weight = Some(m.vector(32));
        m.plan.push(Step::Norm {
            x: x.split(2, 64),
            out: y.split(2, 64),
            kind,
            eps: 1e-6,
            width: 32,
            weight,
            bias: None,
        });
        cases.push(Case::new(name("groups of heads, one weight"), m, y, FUNCTIONS));

        let (mut m, x) = Model::given(8, 160);
        let (r, y) = (m.plan.buffer("r", 160), m.plan.buffer("y", 160));
        m.embed(F32, 9, r, 1.0, false);
        m.plan.push(Step::Norm { x, out: y, kind, eps: 1e-5, width: 160, weight: None, bias: None });
        m.add(r, y, 0.5);
        cases.push(Case::new(name("then a sum"), m, r, FUNCTIONS));
    }
    cases
}

fn rotations() -> Vec<Case> {
    let mut cases = Vec::new();
    for pairs in [Pairs::Adjacent, Pairs::Halves] {
        for (n_pair, amp, in_place) in [(16, 1.0, true), (16, 1.3, false), (5, 1.0, true), (5, 0.7, false)] {
            let (mut m, x) = Model::given(10, 2 + 3 * 40);
            let y = m.plan.buffer("y", 96);
            let freqs = (0..n_pair).map(|i| 10_000f64.powf(-f64::from(i) / 7.0)).collect();
            let table = m.plan.table(RopeTable { freqs, amp });
            let heads = Operand { start: 2, width: 32, heads: 3, stride: 40, ..x };
            let out = if in_place { heads } else { y.split(3, 32) };
            m.plan.push(Step::Rope { x: heads, out, table, pairs });
            let name = format!("rope {pairs:?}: {n_pair} pairs of heads of 32, amplitude {amp}");
            let whole = if in_place { x } else { y };
            cases.push(Case::new(name, m, whole, FUNCTIONS).on(vec![rows(40), rows(1), vec![1, 0, 1, 1]]));
        }
    }
    cases
}

fn pointwise() -> Vec<Case> {
    let mut cases = Vec::new();
    let xielu = Act::Xielu { positive: 0.9, negative: 0.8, beta: 0.5, eps: -1e-6 };
    let clamped = Act::ClampedSwiglu { alpha: 1.702, limit: 0.5 };
    for act in [Act::Silu, Act::Gelu, Act::GeluErf, Act::Relu, Act::Relu2, xielu, Act::Sigmoid, Act::Id, clamped] {
        // The last one is far beyond where exp and tanh have an end.
        for (by, in_place, size) in
            [(false, false, 2.0), (false, true, 2.0), (true, false, 2.0), (true, true, 2.0), (true, false, 120.0)]
        {
            let (mut m, x) = Model::given(11, 105);
            let (far, b, y) = (m.plan.buffer("far", 105), m.plan.buffer("b", 109), m.plan.buffer("y", 107));
            m.plan.push(Step::Add { x, y: x, out: far, scale: size });
            let (b, y) = (b.columns(3, 105), y.columns(1, 105));
            m.embed(F32, 9, b, 1.0, false);
            let out = if in_place && by {
                b
            } else if in_place {
                far
            } else {
                y
            };
            m.plan.push(Step::Gate { x: far, out, act, by: by.then_some(b) });
            if !by {
                m.add(out, b, 1.0);
            }
            cases.push(Case::new(
                format!("gate {act:?}: by {by}, in place {in_place}, up to {size}"),
                m,
                out,
                FUNCTIONS,
            ));
        }
    }
    // Heads of 24 in 40 columns of one buffer, in 32 of another, side by side in the result.
    let (mut m, x) = Model::given(19, 3 + 40 * 4);
    let (b, y) = (m.plan.buffer("b", 2 + 32 * 4), m.plan.buffer("y", 96));
    m.embed(F32, 9, b, 1.0, false);
    let heads = |o: Operand, start, stride| Operand { start, width: 24, heads: 4, stride, ..o };
    let (gate, by) = (heads(x, 3, 40), heads(b, 2, 32));
    m.plan.push(Step::Gate { x: gate, out: by, act: Act::Sigmoid, by: Some(by) });
    m.plan.push(Step::Gate { x: gate, out: heads(y, 0, 24), act: Act::Silu, by: Some(by) });
    cases.push(Case::new("gate: heads that lie apart", m, y, FUNCTIONS));
    for in_place in [false, true] {
        let (mut m, x) = Model::given(20, 101);
        let y = m.plan.buffer("y", 75);
        let by = x.columns(5, 75);
        let out = if in_place { by } else { y };
        m.plan.push(Step::Gate { x: x.columns(90, 1), out, act: Act::Sigmoid, by: Some(by) });
        cases.push(Case::new(format!("gate: one number for many, in place {in_place}"), m, out, FUNCTIONS));
    }
    for in_place in [true, false] {
        let (mut m, x) = Model::given(12, 77);
        let (far, y) = (m.plan.buffer("far", 77), m.plan.buffer("y", 77));
        m.plan.push(Step::Add { x, y: x, out: far, scale: 4000.0 });
        let out = if in_place { far } else { y };
        m.plan.push(Step::Softcap { x: far, out, cap: 30.0 });
        cases.push(Case::new(format!("soft cap, in place {in_place}"), m, out, FUNCTIONS));

        let (mut m, x) = Model::given(13, 150);
        let y = m.plan.buffer("y", 75);
        let (a, b) = (x.columns(0, 75), x.columns(75, 75));
        m.plan.push(Step::Add { x: a, y: b, out: if in_place { b } else { y }, scale: -1.5 });
        cases.push(Case::new(format!("add, in place {in_place}"), m, if in_place { b } else { y }, FUNCTIONS));
    }
    cases
}

/// Streams side by side in one buffer.
fn streams() -> Vec<Case> {
    let mut cases = Vec::new();
    for in_place in [true, false] {
        for weighted in [true, false] {
            let (mut m, x) = Model::given(22, 80);
            let x = x.columns(3, 77);
            let y = m.plan.buffer("y", 77);
            let (out, weight) = (if in_place { x } else { y }, weighted.then(|| m.vector(77)));
            m.plan.push(Step::Scale { x, out, factor: 0.3, weight });
            cases.push(Case::new(format!("scale, in place {in_place}, weighted {weighted}"), m, out, FUNCTIONS));
        }
        let (mut m, x) = Model::given(23, 2 + 300 + 4 * 304);
        let y = m.plan.buffer("y", 4 * 300);
        let heads = Operand { start: 302, width: 300, heads: 4, stride: 304, ..x };
        let out = if in_place { heads } else { y.split(4, 300) };
        m.plan.push(Step::Rescale { x: heads, like: x.columns(2, 300), out, eps: 1e-6 });
        cases.push(Case::new(format!("rescale, in place {in_place}"), m, out, FUNCTIONS));

        let (mut m, x) = Model::given(24, 301);
        let x = x.columns(1, 300);
        let y = m.plan.buffer("y", 300);
        let out = if in_place { x } else { y };
        m.plan.push(Step::Sparsify { x, out, n_std: 0.7 });
        cases.push(Case::new(format!("sparsify, in place {in_place}"), m, out, FUNCTIONS));

        // The base among the streams, or elsewhere.
        let (mut m, x) = Model::given(25, 12 + 3 * 70);
        let (base, y) = (m.plan.buffer("base", 4 * 72), m.plan.buffer("y", 4 * 72));
        if !in_place {
            m.embed(F32, 9, base, 1.0, false);
        }
        let heads = |o: Operand, start, heads, stride| Operand { start, width: 66, heads, stride, ..o };
        let base = if in_place { heads(x, 12, 3, 70) } else { heads(base, 2, 4, 72) };
        let out = heads(y, 1, base.heads, 72);
        let coef = x.columns(0, 3 * base.heads);
        m.plan.push(Step::Mix { x: heads(x, 12, 3, 70), coef, base, out, offset: 0.5 });
        cases.push(Case::new(format!("mix, base among the streams {in_place}"), m, out, FUNCTIONS));
    }
    cases
}

fn moves() -> Vec<Case> {
    let mut cases = Vec::new();
    for ty in [F32, BlockType::F16, Q4_0] {
        let mut m = Model::new(14);
        let y = m.plan.buffer("y", 101);
        let out = y.columns(5, 64);
        m.embed(ty, 33, out, 8.0, false);
        m.embed(ty, 50, out, 0.5, true);
        let (table, index) = (m.weight(ty, &[700, 64]), Index::Position(2));
        m.plan.push(Step::Embed { out, table, index, scale: 1.5, add: true });
        cases.push(Case::new(format!("embed {ty} twice, and positions"), m, out, FUNCTIONS).on(columns()));
    }
    // Two buffers, of which one is changed behind the Take, and more wanted rows than are treated at once.
    let (mut m, x) = Model::given(15, 70);
    let (r, y) = (m.plan.buffer("r", 70), m.plan.buffer("y", 70));
    m.embed(F32, 9, r, 1.0, false);
    m.plan.push(Step::Take { keep: vec![x.buf, r.buf] });
    m.plan.push(Step::Gate { x: r, out: y, act: Act::Silu, by: Some(x) });
    m.add(r, y, 2.0);
    let (plan, weights) = m.finish(r);
    for (wanted, how) in [(Wanted::All, "all"), (Wanted::Some, "some")] {
        let (name, batches) = (format!("take {how}"), vec![rows(100), rows(1), vec![1, 1, 0, 1, 0]]);
        let (plan, weights, cache) = (plan.clone(), weights.clone(), [CacheType::F32; 2]);
        cases.push(Case { name, plan, weights, batches, cache, wanted, tolerance: FUNCTIONS });
    }
    for kind in [PoolKind::Mean, PoolKind::First, PoolKind::Last] {
        let (mut m, x) = Model::given(16, 70);
        let y = m.plan.buffer("y", 74);
        let out = y.columns(4, 66);
        m.plan.push(Step::Pool { x: x.columns(3, 66), out, kind });
        let batches = vec![vec![0, 1, 2, 1, 1, 0, 2, 1]];
        cases.push(Case::new(format!("pool {kind:?}"), m, out, FUNCTIONS).on(batches).wanting(Wanted::Firsts));
    }
    cases
}

/// One step of attention.
#[derive(Clone)]
struct Shape {
    name: &'static str,
    heads: u32,
    kv_heads: u32,
    dims: [u32; 2],
    span: Span,
    softcap: Option<f32>,
    temper: Option<Temper>,
    alibi: Option<Alibi>,
    sinks: bool,
    /// Values are so many numbers of the keys.
    v_prefix: Option<u32>,
    cache: [CacheType; 2],
    batches: Vec<Batch>,
}

/// Filling caches and attending over them.
pub fn of_attention() -> Vec<Case> {
    use CacheType::{F16, F32, Q8_0};
    let ragged = || vec![vec![0, 1, 0, 0, 1, 2], vec![1], vec![2, 2, 0], rows(20), vec![0, 1, 2]];
    let usual = Shape {
        name: "groups of 3",
        heads: 6,
        kv_heads: 2,
        dims: [32, 32],
        span: Span::Full,
        softcap: None,
        temper: None,
        alibi: None,
        sinks: false,
        v_prefix: None,
        cache: [F32, F32],
        batches: ragged(),
    };
    let latent = Shape { name: "latents", heads: 5, kv_heads: 1, dims: [96, 0], v_prefix: Some(64), ..usual.clone() };
    let long = || [vec![rows(300)], vec![rows(1); 2], vec![rows(33), vec![1; 9], vec![0, 1]]].concat();
    let shapes = [
        usual.clone(),
        Shape { name: "f16", cache: [F16, F16], ..usual.clone() },
        Shape { name: "q8_0", cache: [Q8_0, Q8_0], ..usual.clone() },
        Shape { name: "keys q8_0, values f16", cache: [Q8_0, F16], ..usual.clone() },
        Shape { name: "narrow window", span: Span::Slide(4), ..usual.clone() },
        Shape { name: "capped scores", softcap: Some(3.0), ..usual.clone() },
        Shape { name: "tempered", temper: Some(Temper { scale: 0.4, length: 3, add: 1 }), ..usual.clone() },
        Shape { name: "biased by distance", alibi: Some(Alibi { max: 8.0 }), ..usual.clone() },
        Shape { name: "biased, long", alibi: Some(Alibi { max: 8.0 }), batches: long(), ..usual.clone() },
        Shape { name: "one head, wider values", heads: 1, kv_heads: 1, dims: [12, 160], ..usual.clone() },
        Shape { name: "sinks", sinks: true, span: Span::Slide(4), ..usual.clone() },
        Shape { name: "sinks, long", sinks: true, batches: long(), ..usual.clone() },
        Shape { name: "chunks", span: Span::Chunk(7), ..usual.clone() },
        Shape { name: "chunks, long", span: Span::Chunk(200), batches: long(), ..usual.clone() },
        latent.clone(),
        Shape { name: "latents, q8_0", cache: [Q8_0, Q8_0], ..latent.clone() },
        Shape { name: "latents, wide", dims: [576, 0], v_prefix: Some(512), batches: ragged(), ..latent.clone() },
        Shape { name: "latents, long", batches: long(), cache: [F16, F16], ..latent },
        Shape { name: "wide heads", heads: 2, kv_heads: 1, dims: [256, 288], cache: [F16, F16], ..usual.clone() },
        Shape { name: "long, in parts", batches: long(), cache: [F16, F16], ..usual.clone() },
        Shape { name: "long, q8_0, window", span: Span::Slide(260), batches: long(), cache: [Q8_0, Q8_0], ..usual },
    ];
    shapes.into_iter().map(attend).collect()
}

fn attend(shape: Shape) -> Case {
    let Shape { heads, kv_heads, dims: [k_dim, v_dim], span, softcap, temper, alibi, .. } = shape;
    let (n_q, n_k, n_v) = (heads * k_dim, kv_heads * k_dim, kv_heads * v_dim);
    let n_out = heads * shape.v_prefix.unwrap_or(v_dim);
    let (mut m, x) = Model::given(17, n_q + n_k + n_v + 4);
    let o = m.plan.buffer("o", n_out + 3);
    let spec = CacheSpec { name: "kv".into(), k: n_k, v: n_v, heads: kv_heads, span };
    let cache = m.plan.cache(spec);
    let (k, v) = (x.columns(n_q, n_k), x.columns(n_q + n_k, n_v));
    m.plan.push(Step::Store { cache, k: k.split(kv_heads, k_dim), v: (n_v > 0).then_some(v) });
    let (q, out) = (x.columns(0, n_q).split(heads, k_dim), o.columns(1, n_out));
    let sinks = shape.sinks.then(|| m.vector(heads));
    // Scores of a few units: neither flat nor a single key.
    let scale = 8.0 / (k_dim as f32).sqrt();
    m.plan.push(Step::Attend(Box::new(Attend {
        q,
        out,
        cache,
        heads,
        kv_heads,
        scale,
        span,
        softcap,
        temper,
        alibi,
        sinks,
        v_prefix: shape.v_prefix,
        select: None,
    })));
    // A number that rounds to the other neighbour: half a unit of f16 of the values, one of 127 of q8_0.
    let tolerance = match shape.cache {
        [CacheType::F32, CacheType::F32] => SUMS,
        [CacheType::F16, CacheType::F16] => 1e-3,
        _ => 1e-2,
    };
    let case = Case::new(format!("attend: {}", shape.name), m, out, tolerance);
    Case { cache: shape.cache, ..case.on(shape.batches) }
}
