//! Time of the CPU for one token on a GPU: a model of llama's form with 32 narrow layers, so that the device has
//! nothing to do. `cargo bench --bench gpu`; the limit for recording is 1 ms.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tealight::gpu::{GpuBackend, GpuOptions, GpuSequence, Pick, open};
use tealight::plan::{
    Act, Attend, Backend, CacheSpec, CacheType, Index, NormKind, Operand, Pairs, Part, Plan, PlanBuilder, RopeTable,
    Rows, Span, Step, WeightId, WeightRef, Weights,
};
use tealight::quant::BlockType;

const N_LAYER: usize = 32;
const WIDTH: u32 = 64;
const HEADS: (u32, u32) = (4, 2);
const HEAD_DIM: u32 = 16;
const N_VOCAB: u32 = 256;
const N_TOKEN: u32 = 300;

fn main() {
    let gpu = match open(Pick::Best) {
        Ok(Some(gpu)) => gpu,
        Ok(None) => return println!("skipped: no GPU"),
        Err(e) => return println!("skipped: {e}"),
    };
    let plan = Arc::new(llama());
    let weights = Small(plan.weights().iter().map(bytes).collect());
    let never = AtomicBool::new(false);
    let options = GpuOptions::default();
    let mut backend =
        GpuBackend::new(gpu.clone(), plan.clone(), &weights, &options, &never, &mut |_| {}).expect("a back-end");
    let mut sequence = GpuSequence::new(&gpu, &plan, N_TOKEN, 1, CacheType::F16, CacheType::F16).expect("a sequence");
    let (mut recording, mut whole) = (Vec::new(), Vec::new());
    let mut out = Vec::new();
    for pos in 0..N_TOKEN {
        let rows = Rows { token: &[pos % N_VOCAB], pos: &[pos], seq: &[0], want: &[0], input: &[] };
        let (before, start) = (backend.stats(), Instant::now());
        out.clear();
        backend.run(&rows, &mut [&mut sequence], None, &never, &mut out).expect("a token");
        whole.push(start.elapsed());
        recording.push(backend.stats().encoding - before.encoding);
    }
    let per_token = backend.stats().dispatches / u64::from(N_TOKEN);
    println!(
        "{}: {N_LAYER} layers, {per_token} dispatches a token; median of {N_TOKEN} tokens: recording {:.3} ms, \
         with the device {:.3} ms",
        gpu.name(),
        milliseconds(median(recording)),
        milliseconds(median(whole)),
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

struct Small(Vec<Vec<u8>>);

impl Weights for Small {
    fn bytes(&self, id: WeightId) -> &[u8] {
        &self.0[id.index()]
    }
}

/// Small numbers, other ones in every row.
fn bytes(w: &WeightRef) -> Vec<u8> {
    let n = w.row_len() * w.n_rows();
    (0..n).flat_map(|i| ((i * 37 % 101) as f32 * 0.002 - 0.1).to_le_bytes()).collect()
}

fn llama() -> Plan {
    let mut b = PlanBuilder::default();
    let weight = |b: &mut PlanBuilder, name: String, shape: &[u32]| {
        b.weight(WeightRef { name, ty: BlockType::F32, shape: shape.iter().map(|&n| n.into()).collect() })
    };
    let part = |b: &mut PlanBuilder, name: String, x: Operand, out: Operand| {
        let weight = weight(b, name, &[out.len(), x.len()]);
        Part { out, weight, bias: None, scale: 1.0 }
    };
    let norm = |b: &mut PlanBuilder, name: String, x: Operand, out: Operand| {
        let weight = Some(weight(b, name, &[WIDTH]));
        b.push(Step::Norm { x, out, kind: NormKind::Rms, eps: 1e-5, width: WIDTH, weight, bias: None });
    };
    let (x, h) = (b.buffer("x", WIDTH), b.buffer("h", WIDTH));
    let (n_q, n_kv) = (HEADS.0 * HEAD_DIM, HEADS.1 * HEAD_DIM);
    let (q, k, v) = (b.buffer("q", n_q), b.buffer("k", n_kv), b.buffer("v", n_kv));
    let (o, gate, up) = (b.buffer("attn", n_q), b.buffer("gate", 128), b.buffer("up", 128));
    let freqs = (0..HEAD_DIM / 2).map(|i| 10_000f64.powf(-f64::from(i) / 8.0)).collect();
    let table = b.table(RopeTable { freqs, amp: 1.0 });
    let embeddings = weight(&mut b, "token_embd".into(), &[N_VOCAB, WIDTH]);
    b.push(Step::Embed { out: x, table: embeddings, index: Index::Token, scale: 1.0, add: false });
    for layer in 0..N_LAYER {
        let name = |role: &str| format!("blk.{layer}.{role}");
        norm(&mut b, name("attn_norm"), x, h);
        let parts = [("q", q), ("k", k), ("v", v)].map(|(role, out)| part(&mut b, name(role), h, out));
        b.push(Step::Linear { x: h, parts: parts.to_vec(), clamp: None });
        let (q, k_heads) = (q.split(HEADS.0, HEAD_DIM), k.split(HEADS.1, HEAD_DIM));
        for o in [q, k_heads] {
            b.push(Step::Rope { x: o, out: o, table, pairs: Pairs::Halves });
        }
        let span = Span::Full;
        let cache = b.cache(CacheSpec { name: name("kv"), k: n_kv, v: n_kv, heads: HEADS.1, span });
        b.push(Step::Store { cache, k: k_heads, v: Some(v) });
        let attend = Attend::plain(q, o, cache, [HEADS.0, HEADS.1], 0.25, span);
        b.push(Step::Attend(Box::new(attend)));
        let parts = vec![part(&mut b, name("output"), o, h)];
        b.push(Step::Linear { x: o, parts, clamp: None });
        b.push(Step::Add { x, y: h, out: x, scale: 1.0 });
        norm(&mut b, name("ffn_norm"), x, h);
        let parts = [("gate", gate), ("up", up)].map(|(role, out)| part(&mut b, name(role), h, out));
        b.push(Step::Linear { x: h, parts: parts.to_vec(), clamp: None });
        b.push(Step::Gate { x: gate, out: gate, act: Act::Silu, by: Some(up) });
        let parts = vec![part(&mut b, name("down"), gate, h)];
        b.push(Step::Linear { x: gate, parts, clamp: None });
        b.push(Step::Add { x, y: h, out: x, scale: 1.0 });
    }
    norm(&mut b, "output_norm".into(), x, h);
    let logits = b.buffer("logits", N_VOCAB);
    let parts = vec![part(&mut b, "output".into(), h, logits)];
    b.push(Step::Linear { x: h, parts, clamp: None });
    b.output(logits);
    b.take_wanted();
    b.finish().expect("a plan that holds together")
}
