//! The choice of the greatest numbers against whole rows, batch by batch.

use std::collections::HashMap;
use std::path::Path;

use super::*;
use crate::gguf::Gguf;
use crate::gpu::pipelines::testing;
use crate::plan::CacheType;

/// The weights of a file, by name.
struct Mapped {
    gguf: Gguf,
    tensors: Vec<usize>,
}

impl Weights for Mapped {
    fn bytes(&self, id: WeightId) -> &[u8] {
        self.gguf.bytes(&self.gguf.tensors()[self.tensors[id.index()]])
    }
}

fn fixture(name: &str) -> (Arc<Plan>, Mapped, u32) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf");
    let gguf = Gguf::open(&path).unwrap();
    let lowered = crate::arch::lower(&gguf, &crate::arch::Purpose { n_ctx: 64, ..Default::default() }).unwrap();
    let by_name: HashMap<&str, usize> = gguf.tensors().iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    let tensors = lowered.plan.weights().iter().map(|w| by_name[w.name.as_str()]).collect();
    (Arc::new(lowered.plan), Mapped { gguf, tensors }, lowered.n_vocab)
}

#[test]
fn a_choice_is_what_whole_rows_give() {
    let Some(gpu) = testing::gpu() else { return };
    let (plan, weights, n_vocab) = fixture("llama31");
    let options = GpuOptions { n_batch: 64, ..GpuOptions::default() };
    let cancel = AtomicBool::new(false);
    let mut backend = GpuBackend::new(gpu.clone(), plan.clone(), &weights, &options, &cancel, &mut |_| {}).unwrap();
    let sequence = || GpuSequence::new(&gpu, &plan, 64, 64, CacheType::F32, CacheType::F32).unwrap();
    let tokens: Vec<u32> = (0..50).map(|i| (i * 37 + 11) % n_vocab).collect();
    let (pos, seq): (Vec<u32>, Vec<u32>) = ((0..50).collect(), vec![0; 50]);
    // No row, one, several, and more than are treated at once.
    for want in [vec![], vec![49], vec![0, 7, 30], (0..50).collect()] {
        let rows = Rows { token: &tokens, pos: &pos, seq: &seq, want: &want, input: &[] };
        for k in [1, 2, 40, 64, 65] {
            let (mut expected, mut got) = (Vec::new(), Vec::new());
            let mut there = sequence();
            let fault = backend.choose(&rows, &mut [&mut there], k, &cancel, &mut got).unwrap();
            let whole = plan::choose_from_rows(&mut backend, &rows, &mut [&mut sequence()], k, &cancel, &mut expected);
            assert_eq!((fault, whole.unwrap(), there.len()), (None, None, 50));
            assert_eq!(got.len(), want.len() * k as usize);
            assert_eq!(got, expected, "{} rows, k = {k}", want.len());
        }
    }
}

#[test]
fn a_failed_choice_leaves_everything_as_it_was() {
    let Some(gpu) = testing::gpu() else { return };
    let (plan, weights, _) = fixture("llama31");
    let cancel = AtomicBool::new(false);
    let options = GpuOptions::default();
    let mut backend = GpuBackend::new(gpu.clone(), plan.clone(), &weights, &options, &cancel, &mut |_| {}).unwrap();
    let mut sequence = GpuSequence::new(&gpu, &plan, 64, 64, CacheType::F32, CacheType::F32).unwrap();
    let rows = Rows { token: &[1, 2], pos: &[0, 1], seq: &[0, 0], want: &[1], input: &[] };
    let mut out = vec![(9, 9.0)];
    let cancelled = backend.choose(&rows, &mut [&mut sequence], 3, &AtomicBool::new(true), &mut out);
    assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!((sequence.len(), out.len()), (0, 1));
    backend.choose(&rows, &mut [&mut sequence], 3, &cancel, &mut out).unwrap();
    assert_eq!((sequence.len(), out.len()), (2, 4));
}

#[test]
fn a_token_is_one_submission_of_one_pass() {
    let Some(gpu) = testing::gpu() else { return };
    let (plan, weights, _) = fixture("llama31");
    let cancel = AtomicBool::new(false);
    let options = GpuOptions::default();
    let mut backend = GpuBackend::new(gpu.clone(), plan.clone(), &weights, &options, &cancel, &mut |_| {}).unwrap();
    let mut sequence = GpuSequence::new(&gpu, &plan, 64, 64, CacheType::F16, CacheType::F16).unwrap();
    for pos in 0..3 {
        let before = backend.stats();
        let rows = Rows { token: &[1], pos: &[pos], seq: &[0], want: &[0], input: &[] };
        let mut best = Vec::new();
        backend.choose(&rows, &mut [&mut sequence], 1, &cancel, &mut best).unwrap();
        let after = backend.stats();
        assert_eq!((after.submissions - before.submissions, after.passes - before.passes, best.len()), (1, 1, 1));
        assert!(after.dispatches > before.dispatches && after.encoding > before.encoding);
    }
}

/// Logits of a few tokens, and the kernels that were compiled for them.
fn logits(options: &GpuOptions) -> Option<(Vec<f32>, Vec<String>)> {
    let gpu = testing::gpu()?;
    let (plan, weights, _) = fixture("llama31");
    let cancel = AtomicBool::new(false);
    let mut backend = GpuBackend::new(gpu.clone(), plan.clone(), &weights, options, &cancel, &mut |_| {}).unwrap();
    let mut sequence = GpuSequence::new(&gpu, &plan, 64, 64, CacheType::F32, CacheType::F32).unwrap();
    let token: Vec<u32> = (1..13).collect();
    let (pos, seq): (Vec<u32>, Vec<u32>) = ((0..12).collect(), vec![0; 12]);
    let rows = Rows { token: &token, pos: &pos, seq: &seq, want: &[11], input: &[] };
    let mut out = Vec::new();
    backend.run(&rows, &mut [&mut sequence], None, &cancel, &mut out).unwrap();
    Some((out, backend.pipelines.labels()))
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    let scale = a.iter().fold(0f32, |m, x| m.max(x.abs()));
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale
}

#[test]
fn plain_kernels_need_no_feature_and_compute_the_same() {
    let auto = GpuOptions { int8: [false; 2], ..GpuOptions::default() };
    let Some((want, kernels)) = logits(&auto) else { return };
    let optional = |kernels: &[String]| kernels.iter().filter(|k| k.contains("subgroup") || k.contains("int8")).count();
    let knobs = Knobs { gpu_variant: GpuVariant::Plain, ..Knobs::default() };
    let (got, plain) = logits(&GpuOptions::of(&knobs)).expect("it was there before");
    assert_eq!(optional(&plain), 0, "{plain:?}");
    let caps = testing::gpu().expect("it was there before").caps().clone();
    assert!(optional(&kernels) > 0 || !caps.subgroups, "{kernels:?}");
    assert!(worst(&want, &got) < 1e-4, "{}", worst(&want, &got));
}

#[test]
fn sabotage_is_felt() {
    let Some((want, _)) = logits(&GpuOptions::default()) else { return };
    let knobs = Knobs { gpu_sabotage: 1, ..Knobs::default() };
    let (got, _) = logits(&GpuOptions::of(&knobs)).expect("it was there before");
    assert!(got.iter().all(|x| x.is_finite()) && worst(&want, &got) > 0.05, "{}", worst(&want, &got));
}
