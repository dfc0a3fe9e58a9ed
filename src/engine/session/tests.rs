//! Sessions: rows of one and of several, going back, cancelling, looking inside.

use std::path::Path;

use super::*;
use crate::engine::ModelOptions;

const TOKENS: [u32; 40] = {
    let mut t = [0; 40];
    let mut i = 0;
    while i < 40 {
        t[i] = (i as u32 * 37 + 11) % 300;
        i += 1;
    }
    t
};

fn model(fixture: &str) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture).join("model.gguf");
    Model::open(path, &ModelOptions::default().with_exact(true).with_threads(2)).unwrap()
}

fn session(model: &Model) -> Session {
    model.session(&SessionOptions::default().with_ctx(64).with_cache(CacheType::F32, CacheType::F32)).unwrap()
}

/// Every family's kind of memory: full, windowed, with and without a fused projection, states of every kind of step.
const FIXTURES: [&str; 7] = ["llama31", "gemma2", "gemma3", "phi35-long", "lfm2", "qwen35", "falcon-h1"];

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= 1e-5 * scale, "{what}: {worst} of {scale}");
}

#[test]
fn sequences_interleaved_in_one_batch_do_not_see_each_other() {
    for fixture in FIXTURES {
        let model = model(fixture);
        let width = model.n_output() as usize;
        let whole = session(&model).feed(&TOKENS, 256, Want::All, &mut |_| {}).unwrap().to_vec();
        // `ahead` has read 13 tokens when `behind` begins; their rows alternate in one batch.
        let (mut ahead, mut behind) = (session(&model), session(&model));
        ahead.feed(&TOKENS[..13], 256, Want::None, &mut |_| {}).unwrap();
        let n = TOKENS.len() - 13;
        let token: Vec<u32> = (0..n).flat_map(|i| [TOKENS[13 + i], TOKENS[i]]).collect();
        let pos: Vec<u32> = (0..n as u32).flat_map(|i| [13 + i, i]).collect();
        let seq: Vec<u32> = (0..n).flat_map(|_| [0, 1]).collect();
        let want: Vec<u32> = (0..2 * n as u32).collect();
        let rows = Rows { token: &token, pos: &pos, seq: &seq, want: &want, input: &[] };
        let mut out = Vec::new();
        let memories = &mut [&mut ahead.memory, &mut behind.memory];
        let run = |b: &mut Executor| b.run(&rows, memories, None, CancelToken::new().flag(), &mut out);
        model.with_executor(&ahead.program, 64, run).unwrap();
        for (i, row) in out.chunks_exact(width).enumerate() {
            let at = if i % 2 == 0 { 13 + i / 2 } else { i / 2 };
            assert_close(row, &whole[at * width..(at + 1) * width], &format!("{fixture} row {i}"));
        }
    }
}

#[test]
fn sessions_fed_together_get_what_each_would_get_alone() {
    let model = model("gemma3");
    let mut alone = session(&model);
    let want_a = alone.feed(&TOKENS[..9], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
    alone.clear();
    let want_b = alone.feed(&TOKENS[20..], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
    let (mut a, mut b) = (session(&model), session(&model));
    a.feed(&TOKENS[..8], 256, Want::None, &mut |_| {}).unwrap();
    let rows = model.feed_together(&mut [(&mut a, &TOKENS[8..9]), (&mut b, &TOKENS[20..])]).unwrap();
    assert_close(&rows[0], &want_a, "the first");
    assert_close(&rows[1], &want_b, "the second");
    assert_eq!((a.tokens().len(), b.tokens().len()), (9, 20));
}

#[test]
fn only_wanted_rows_come_back() {
    for fixture in FIXTURES {
        let model = model(fixture);
        let width = model.n_output() as usize;
        let mut s = session(&model);
        let all = s.feed(&TOKENS, 256, Want::All, &mut |_| {}).unwrap().to_vec();
        s.clear();
        let last = s.feed(&TOKENS, 256, Want::Last, &mut |_| {}).unwrap();
        assert_close(last, &all[all.len() - width..], fixture);
        s.clear();
        assert!(s.feed(&TOKENS, 256, Want::None, &mut |_| {}).unwrap().is_empty());
    }
}

#[test]
fn rewinding_gives_what_a_fresh_session_gives() {
    for fixture in FIXTURES {
        let model = model(fixture);
        let mut s = session(&model);
        let want = s.feed(&TOKENS[..21], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
        // Far enough that windows have moved on, so that tokens must be fed again.
        s.feed(&TOKENS[21..], 4, Want::None, &mut |_| {}).unwrap();
        for keep in [20, 5, 0] {
            s.rewind(keep).unwrap();
            assert_eq!(s.tokens(), &TOKENS[..keep]);
            let got = s.feed(&TOKENS[keep..21], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
            assert_close(&got, &want, &format!("{fixture} back to {keep}"));
        }
    }
}

#[test]
fn a_cancelled_call_leaves_the_session_as_it_was() {
    for fixture in ["gemma2", "lfm2", "qwen35", "falcon-h1"] {
        let model = model(fixture);
        let mut s = session(&model);
        s.feed(&TOKENS[..20], 256, Want::None, &mut |_| {}).unwrap();
        s.cancel_token().cancel();
        let e = s.feed(&TOKENS[20..30], 256, Want::Last, &mut |_| {}).unwrap_err();
        assert_eq!((e.kind(), s.tokens().len()), (ErrorKind::Interrupted, 20));
        s.cancel_token().reset();
        let got = s.feed(&TOKENS[20..30], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
        let want = session(&model).feed(&TOKENS[..30], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
        assert_close(&got, &want, &format!("{fixture} after the cancelled call"));
    }
}

#[test]
fn a_batch_whose_result_is_refused_leaves_the_state_before_it() {
    for fixture in ["lfm2", "qwen35", "falcon-h1"] {
        let model = model(fixture);
        let mut s = session(&model);
        s.feed(&TOKENS[..20], 256, Want::None, &mut |_| {}).unwrap();
        s.feed(&TOKENS[20..30], 256, Want::None, &mut |_| {}).unwrap();
        // As after logits that are no numbers: what was computed is forgotten, more than once.
        for _ in 0..2 {
            s.memory.take_back(20);
            s.tokens.truncate(20);
            assert_eq!(s.memory.len(), 20, "nothing was computed again");
            let got = s.feed(&TOKENS[20..30], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
            let want = session(&model).feed(&TOKENS[..30], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
            assert_close(&got, &want, fixture);
        }
    }
}

/// What a model with states answers, and once more.
fn answers_twice(model: &Model, name: &str) {
    let mut s = session(model);
    let want = s.feed(&TOKENS[..20], 8, Want::Last, &mut |_| {}).unwrap().to_vec();
    for token in &TOKENS[20..26] {
        s.feed(&[*token], 1, Want::Last, &mut |_| {}).unwrap();
    }
    // From the memory alone; a history that differs a little later costs what differs.
    assert_eq!([18, 19, 22, 25].map(|n| s.memory.nearest(n)), [0, 19, 19, 25], "{name}");
    for keep in [22, 19] {
        s.rewind(keep).unwrap();
        assert_eq!(s.tokens(), &TOKENS[..keep]);
    }
    let again = s.feed(&TOKENS[19..20], 8, Want::Last, &mut |_| {}).unwrap().to_vec();
    assert_close(&again, &want, name);
}

#[test]
fn an_answer_begins_again_without_its_text_being_read_again() {
    for fixture in ["lfm2", "qwen35", "falcon-h1"] {
        answers_twice(&model(fixture), fixture);
    }
}

#[cfg(feature = "gpu")]
#[test]
fn an_answer_begins_again_on_a_gpu_too_and_on_both_sides() {
    use crate::engine::{DeviceChoice, GpuCheck, GpuLayers};
    if crate::gpu::testing::gpu().is_none() {
        return;
    }
    let both = [GpuLayers::All, GpuLayers::Count(1)];
    for (fixture, layers) in ["lfm2", "qwen35", "falcon-h1"].into_iter().flat_map(|f| both.map(|n| (f, n))) {
        let options = ModelOptions::default().with_device(DeviceChoice::Gpu).with_gpu_check(GpuCheck::Off);
        let name = format!("{fixture} with {layers:?} on the GPU");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture).join("model.gguf");
        answers_twice(&Model::open(path, &options.with_threads(2).with_gpu_layers(layers)).unwrap(), &name);
    }
}

#[test]
fn misuse_is_an_error() {
    let model = model("llama31");
    let mut s = session(&model);
    let kind = |r: Result<&[f32]>| r.map(<[f32]>::len).unwrap_err().kind();
    assert_eq!(kind(s.feed(&[0; 65], 256, Want::Last, &mut |_| {})), ErrorKind::Usage, "too long");
    assert_eq!(kind(s.feed(&[u32::MAX], 256, Want::Last, &mut |_| {})), ErrorKind::Usage, "no such token");
    assert!(s.tokens().is_empty());
    assert!(model.session(&SessionOptions::default().with_ctx(0)).is_err());
    let q8 = SessionOptions::default().with_cache(CacheType::Q8_0, CacheType::F16);
    assert_eq!(model.session(&q8).err().map(|e| e.kind()), Some(ErrorKind::Usage), "heads of 16");
}

#[test]
fn quantized_caches_come_close() {
    let model = model("gemma3"); // heads of 32
    let want = session(&model).feed(&TOKENS, 256, Want::Last, &mut |_| {}).unwrap().to_vec();
    let options = SessionOptions::default().with_ctx(64).with_cache(CacheType::Q8_0, CacheType::Q8_0);
    let mut s = model.session(&options).unwrap();
    let got = s.feed(&TOKENS, 7, Want::Last, &mut |_| {}).unwrap();
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst > 0.0 && worst < 0.05 * scale, "{worst} of {scale}");
}

#[test]
fn intermediate_results_can_be_seen() {
    let model = model("qwen3");
    let plan = model.plan(64).unwrap();
    let mut s = session(&model);
    let probe = plan.find_label("blk.1.q").unwrap();
    let q = s.feed_probe(&TOKENS[..5], 256, Want::All, Some(probe), &mut |_| {}).unwrap().to_vec();
    assert_eq!(q.len(), 5 * probe.operand().len() as usize);
    let by_step = plan.find_label(&format!("{}.q", probe.step())).unwrap();
    assert_eq!(by_step, probe);
    assert!(plan.find_label("blk.9.q").is_none() && plan.find_label("blk.1.nothing").is_none());
}

#[test]
fn an_embedding_model_gives_the_wanted_rows_and_one_vector_per_sequence() {
    use crate::gguf::{Gguf, GgufWriter};
    // A causal model becomes an embedding model by one key.
    let source = Gguf::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3/model.gguf")).unwrap();
    let mut writer = GgufWriter::new();
    for (key, ty, bytes) in source.metadata().raw() {
        writer.raw_key(key, ty, bytes);
    }
    writer.key("qwen3.pooling_type", 1u32);
    for t in source.tensors() {
        writer.tensor(&t.name, t.ty, &t.shape);
    }
    let mut body = writer.begin(Vec::new()).unwrap();
    source.tensors().iter().for_each(|t| body.write(source.bytes(t)).unwrap());
    let path = std::env::temp_dir().join(format!("tealight-pooled-{}.gguf", std::process::id()));
    std::fs::write(&path, body.finish().unwrap()).unwrap();
    let model = Model::open(&path, &ModelOptions::default().with_exact(true)).unwrap();
    std::fs::remove_file(&path).unwrap();

    let width = model.n_output() as usize;
    let mut s = session(&model);
    let all = s.feed(&TOKENS[..5], 256, Want::All, &mut |_| {}).unwrap().to_vec();
    assert_eq!(all.len(), 5 * width);
    s.clear();
    let last = s.feed(&TOKENS[..5], 256, Want::Last, &mut |_| {}).unwrap();
    assert_close(last, &all[4 * width..], "the last row");
    let (mut a, mut b) = (session(&model), session(&model));
    let rows = model.feed_together(&mut [(&mut a, &TOKENS[..5]), (&mut b, &TOKENS[..2])]).unwrap();
    assert_close(&rows[0], &all[4 * width..], "the first session");
    assert_close(&rows[1], &all[width..2 * width], "the second session");

    let plan = model.plan(64).unwrap();
    let pooled = plan.find_label("head.pooled").unwrap();
    s.clear();
    let mean = s.feed_probe(&TOKENS[..5], 256, Want::All, Some(pooled), &mut |_| {}).unwrap().to_vec();
    let want: Vec<f32> = (0..width).map(|i| all.iter().skip(i).step_by(width).sum::<f32>() / 5.0).collect();
    assert_close(&mean, &want, "the mean of the rows");
    s.clear();
    let in_parts = s.feed_probe(&TOKENS[..5], 2, Want::All, Some(pooled), &mut |_| {});
    assert_eq!(in_parts.map(<[f32]>::len).unwrap_err().kind(), ErrorKind::Usage, "not the whole sequence");
}

#[test]
fn a_label_of_another_plan_is_refused() {
    let (small, large) = (model("qwen3"), model("gemma3"));
    let plan = large.plan(64).unwrap();
    let foreign = plan.find_label("head.logits").unwrap();
    let mut s = session(&small);
    let result = s.feed_probe(&TOKENS[..3], 256, Want::All, Some(foreign), &mut |_| {});
    assert_eq!(result.map(<[f32]>::len).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(s.feed(&TOKENS[..3], 256, Want::Last, &mut |_| {}).unwrap().len(), small.n_output() as usize);
}

#[test]
fn long_texts_give_the_same_bits_however_attention_is_cut() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for fixture in ["llama31", "gemma3"] {
        let tokens: Vec<u32> = (0..2600).map(|i| (i * 37 + i / 7 + 11) % 300).collect();
        let last_rows = |n_threads: usize, n_chunk: u32| {
            let options = ModelOptions::default().with_threads(n_threads);
            let model = Model::open(path.join(fixture).join("model.gguf"), &options).unwrap();
            let mut session = model
                .session(&SessionOptions::default().with_ctx(2600).with_cache(CacheType::F32, CacheType::F32))
                .unwrap();
            session.feed(&tokens[..2580], 256, Want::None, &mut |_| {}).unwrap();
            session.feed(&tokens[2580..], n_chunk, Want::All, &mut |_| {}).unwrap().to_vec()
        };
        let want = last_rows(1, 20);
        for n_threads in [2, 3, 8] {
            assert_eq!(last_rows(n_threads, 20), want, "{fixture} with {n_threads} threads");
        }
        // Products of a row alone sum in another order than in a batch; attention does not.
        assert_close(&last_rows(2, 1), &want, fixture);
    }
}
