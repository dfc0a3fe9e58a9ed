//! A model on a GPU, in part or whole, and what happens when the GPU fails.

use std::path::{Path, PathBuf};

use super::super::{
    CancelToken, DeviceChoice, GpuCheck, GpuLayers, Model, ModelOptions, Session, SessionOptions, Want,
};
use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf")
}

fn tokens(n: u32) -> Vec<u32> {
    (0..n).map(|i| (i * 37 + 11) % 300).collect()
}

fn open(name: &str, options: ModelOptions) -> Model {
    Model::open(fixture(name), &options.with_threads(2)).unwrap()
}

/// A model on the GPU of the tests, without the check; `None` where there is none.
fn on_gpu(name: &str, layers: GpuLayers) -> Option<Model> {
    crate::gpu::testing::gpu()?;
    let options = ModelOptions::default().with_device(DeviceChoice::Gpu).with_gpu_check(GpuCheck::Off);
    Some(open(name, options.with_gpu_layers(layers)))
}

fn exact(name: &str) -> Model {
    open(name, ModelOptions::default().with_exact(true))
}

fn session(model: &Model) -> Session {
    model.session(&SessionOptions::default().with_ctx(96).with_cache(CacheType::F32, CacheType::F32)).unwrap()
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= 2e-3 * scale, "{what}: {worst} of {scale}");
}

fn with_executor<R>(session: &Session, f: impl FnOnce(&mut Executor) -> R) -> R {
    let model = session.model();
    model.with_executor(&model.program(96).unwrap(), 96, |e| Ok(f(e))).unwrap()
}

#[test]
fn every_split_gives_what_the_whole_gives() {
    for (name, n_layer) in [("gemma2", 4), ("qwen3", 3), ("phi35-long", 2), ("falcon-h1", 2)] {
        let tokens = tokens(40);
        let want = session(&exact(name)).feed(&tokens, 256, Want::All, &mut |_| {}).unwrap().to_vec();
        for n in 0..=n_layer + 1 {
            let Some(model) = on_gpu(name, GpuLayers::Count(n)) else { return };
            let mut session = session(&model);
            let (cpu, gpu) = with_executor(&session, |e| (e.cpu.is_some(), e.gpu.is_some()));
            assert_eq!((cpu, gpu), (n < n_layer, n > 0), "{name}, {n} layers");
            let what = format!("{name} with {n} of {n_layer} layers on the GPU");
            // A prompt, a few, one by one, and back again over what was there.
            session.feed(&tokens[..21], 7, Want::None, &mut |_| {}).unwrap();
            let mut rows = session.feed(&tokens[21..], 1, Want::All, &mut |_| {}).unwrap().to_vec();
            let width = model.n_output() as usize;
            assert_close(&rows, &want[21 * width..], &what);
            session.rewind(30).unwrap();
            rows = session.feed(&tokens[30..], 256, Want::All, &mut |_| {}).unwrap().to_vec();
            assert_close(&rows, &want[30 * width..], &what);
        }
    }
}

#[test]
fn a_look_into_the_first_side_leaves_both_sides_as_they_were() {
    let tokens = tokens(12);
    let Some(model) = on_gpu("gemma2", GpuLayers::Count(2)) else { return };
    let (mut split, mut whole) = (session(&model), session(&exact("gemma2")));
    for label in ["blk.0.x", "blk.3.x"] {
        let probe = model.plan(96).unwrap().find_label(label);
        assert!(probe.is_some(), "{label}");
        let want = whole.feed_probe(&tokens, 256, Want::All, probe, &mut |_| {}).unwrap().to_vec();
        assert_close(split.feed_probe(&tokens, 256, Want::All, probe, &mut |_| {}).unwrap(), &want, label);
        split.clear();
        whole.clear();
    }
    let want = whole.feed(&tokens, 256, Want::Last, &mut |_| {}).unwrap().to_vec();
    assert_close(split.feed(&tokens, 256, Want::Last, &mut |_| {}).unwrap(), &want, "afterwards");
}

/// Feeds tokens one by one, and destroys the device after the first `n_good`.
fn fed_with_a_loss(session: &mut Session, tokens: &[u32], n_good: usize) -> Vec<f32> {
    let mut rows = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        if i == n_good {
            with_executor(session, |e| e.gpu.as_ref().unwrap().backend.gpu().destroy());
        }
        rows.extend_from_slice(session.feed(&[*token], 1, Want::All, &mut |_| {}).unwrap());
    }
    rows
}

#[test]
fn a_device_that_is_lost_hands_the_conversation_to_the_cpu() {
    for (name, layers) in [("llama31", GpuLayers::All), ("gemma2", GpuLayers::Count(2))] {
        let Some(model) = on_gpu(name, layers) else { return };
        let tokens = tokens(50);
        let want = session(&exact(name)).feed(&tokens, 256, Want::All, &mut |_| {}).unwrap().to_vec();
        let mut session_ = session(&model);
        // A second sequence has its memory on the same device.
        let mut other = session(&model);
        other.feed(&tokens[..9], 256, Want::None, &mut |_| {}).unwrap();
        let rows = fed_with_a_loss(&mut session_, &tokens, 33);
        assert_close(&rows, &want, name);
        let notices = model.take_notices();
        assert!(matches!(&notices[..], [Notice::Fallback(text)] if text.contains("the CPU goes on")), "{notices:?}");
        assert!(model.take_notices().is_empty());
        let width = model.n_output() as usize;
        let rows = other.feed(&tokens[9..20], 256, Want::All, &mut |_| {}).unwrap();
        assert_close(rows, &want[9 * width..20 * width], "the other sequence");
        session_.rewind(10).unwrap();
        let rows = session_.feed(&tokens[10..20], 256, Want::All, &mut |_| {}).unwrap();
        assert_close(rows, &want[10 * width..20 * width], "after going back");
    }
}

#[test]
fn two_sequences_of_one_batch_survive_a_loss() {
    let Some(model) = on_gpu("qwen3", GpuLayers::All) else { return };
    let tokens = tokens(24);
    let want = session(&exact("qwen3")).feed(&tokens, 256, Want::Last, &mut |_| {}).unwrap().to_vec();
    let (mut a, mut b) = (session(&model), session(&model));
    a.feed(&tokens[..20], 256, Want::None, &mut |_| {}).unwrap();
    b.feed(&tokens[..23], 256, Want::None, &mut |_| {}).unwrap();
    with_executor(&a, |e| e.gpu.as_ref().unwrap().backend.gpu().destroy());
    let rows = model.feed_together(&mut [(&mut a, &tokens[20..]), (&mut b, &tokens[23..])]).unwrap();
    assert_close(&rows[0], &want, "the first");
    assert_close(&rows[1], &want, "the second");
}

#[test]
fn a_cancel_while_tokens_are_fed_again_loses_nothing() {
    let Some(model) = on_gpu("llama31", GpuLayers::All) else { return };
    let tokens = tokens(30);
    let want = session(&exact("llama31")).feed(&tokens, 256, Want::Last, &mut |_| {}).unwrap().to_vec();
    let mut session = session(&model);
    session.feed(&tokens[..29], 256, Want::None, &mut |_| {}).unwrap();
    with_executor(&session, |e| e.gpu.as_ref().unwrap().backend.gpu().destroy());
    let cancelled = CancelToken::new();
    cancelled.cancel();
    session.set_cancel_token(cancelled);
    let error = session.feed(&tokens[29..], 256, Want::Last, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    session.set_cancel_token(CancelToken::new());
    assert_eq!(session.tokens(), &tokens[..29]);
    assert_close(session.feed(&tokens[29..], 256, Want::Last, &mut |_| {}).unwrap(), &want, "the next try");
}

/// A folder of facts that goes with its value.
struct Facts(PathBuf);

impl Facts {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tealight-{name}-{}", std::process::id()));
        // A killed run may have left one.
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    /// The one file of a kind.
    fn file(&self, kind: &str) -> PathBuf {
        let mut files: Vec<_> = std::fs::read_dir(self.0.join(kind)).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    fn options(&self) -> ModelOptions {
        let knobs = crate::Knobs { cache_dir: Some(self.0.clone()), ..Default::default() };
        ModelOptions::default().with_device(DeviceChoice::Gpu).with_knobs(knobs)
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_verdict_is_found_once_and_believed_until_it_is_forced() {
    if crate::gpu::testing::gpu().is_none() {
        return;
    }
    let facts = Facts::new("verdicts");
    let uses_gpu = |options: ModelOptions| {
        let model = open("gemma3", options);
        let is_used = with_executor(&session(&model), |e| e.gpu.is_some());
        (is_used, model.take_notices())
    };
    assert_eq!(uses_gpu(facts.options()), (true, vec![]));
    let file = facts.file("gpu-checks");
    let text = std::fs::read_to_string(&file).unwrap();
    let (key, verdict) = text.split_once('\n').unwrap();
    assert!(verdict.starts_with("equal within "), "{verdict}");
    std::fs::write(&file, format!("{key}\nits results differ\n")).unwrap();
    let (is_used, notices) = uses_gpu(facts.options());
    assert!(!is_used);
    assert!(
        matches!(&notices[..], [Notice::Fallback(t)] if t.ends_with("is not used: its results differ")),
        "{notices:?}"
    );
    assert_eq!(uses_gpu(facts.options().with_gpu_check(GpuCheck::Off)), (true, vec![]));
    assert_eq!(uses_gpu(facts.options().with_gpu_check(GpuCheck::Force)), (true, vec![]));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_placement_says_what_runs_where_and_why() {
    if crate::gpu::testing::gpu().is_none() {
        return;
    }
    let facts = Facts::new("placement");
    let model = open("qwen3", facts.options().with_gpu_layers(GpuLayers::Count(2)));
    let placement = model.placement(96).unwrap();
    let plan = model.plan(96).unwrap();
    let first = placement.first_gpu_step.unwrap();
    assert_eq!(plan.section_of(first), "blk.1");
    assert!(!placement.device.is_empty() && placement.why.starts_with("2 layers"), "{placement:?}");
    assert_eq!(placement.kernels.last().unwrap().0, plan.steps().len() - 1);
    assert!(placement.kernels.iter().all(|(step, name)| *step >= first && !name.is_empty()));
    for (options, why) in [
        (ModelOptions::default(), "it was asked for"),
        (facts.options().with_exact(true), "exact results were asked for"),
        (facts.options().with_gpu_layers(GpuLayers::Count(0)), "it was asked for"),
    ] {
        let placement = open("qwen3", options).placement(96).unwrap();
        assert_eq!((placement.first_gpu_step, placement.why.as_str()), (None, why));
    }
}

#[test]
fn speeds_are_measured_once() {
    let Some(gpu) = crate::gpu::testing::gpu() else { return };
    let facts = Facts::new("speeds");
    let model = open("llama31", facts.options());
    let plan = model.plan(96).unwrap();
    let measure = || model.measured(&plan, &gpu).unwrap();
    let first = measure();
    let file = facts.file("gpu-choices");
    assert_eq!(measure(), first, "remembered");
    std::fs::write(&file, "damaged").unwrap();
    measure();
    assert_ne!(std::fs::read_to_string(&file).unwrap(), "damaged");
}

#[test]
fn a_gpu_that_computes_wrongly_is_named_and_left() {
    if crate::gpu::testing::gpu().is_none() {
        return;
    }
    for name in ["gemma3", "phi2"] {
        let knobs = crate::Knobs { gpu_sabotage: 1, ..Default::default() };
        let model = open(name, ModelOptions::default().with_device(DeviceChoice::Gpu).with_knobs(knobs));
        let mut session = session(&model);
        assert!(with_executor(&session, |e| e.gpu.is_none()));
        let notices = model.take_notices();
        let [Notice::Fallback(text)] = &notices[..] else { panic!("{notices:?}") };
        assert!(text.contains("first in `blk.0` at `Linear`"), "{text}");
        let tokens = tokens(20);
        let want = self::session(&exact(name)).feed(&tokens, 256, Want::All, &mut |_| {}).unwrap().to_vec();
        assert_close(session.feed(&tokens, 256, Want::All, &mut |_| {}).unwrap(), &want, name);
    }
}
