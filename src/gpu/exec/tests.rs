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
    let lowered = crate::arch::lower(&gguf, 64).unwrap();
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
