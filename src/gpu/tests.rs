//! Whole models on the device against the CPU's exact computation.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::pipelines::testing;
use super::{GpuBackend, GpuOptions, GpuSequence};
use crate::cpu::{CpuBackend, CpuOptions, CpuSequence, Team};
use crate::gguf::Gguf;
use crate::plan::{Backend, CacheType, Plan, Rows, WeightId, Weights};

struct Mapped {
    gguf: Gguf,
    plan: Arc<Plan>,
}

impl Weights for Mapped {
    fn bytes(&self, id: WeightId) -> &[u8] {
        let by_name: HashMap<&str, usize> =
            self.gguf.tensors().iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        self.gguf.bytes(&self.gguf.tensors()[by_name[self.plan.weights()[id.index()].name.as_str()]])
    }
}

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in [root.join("tests/fixtures"), root.join("../shared/fixtures")] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        found.extend(entries.map(|e| e.unwrap().path().join("model.gguf")).filter(|p| p.is_file()));
    }
    found.sort();
    found.dedup_by(|a, b| a.parent().unwrap().file_name() == b.parent().unwrap().file_name());
    found
}

fn run<B: Backend>(backend: &mut B, sequence: &mut B::Sequence, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for (i, part) in tokens.chunks(chunk).enumerate() {
        let pos: Vec<u32> = (0..part.len()).map(|j| (i * chunk + j) as u32).collect();
        let want: Vec<u32> = (0..part.len() as u32).collect();
        let seq = vec![0; part.len()];
        let rows = Rows { token: part, pos: &pos, seq: &seq, want: &want, input: &[] };
        backend.run(&rows, &mut [sequence], None, &AtomicBool::new(false), &mut out).unwrap();
    }
    out
}

#[test]
fn every_fixture_gives_what_the_exact_cpu_gives() {
    let Some(gpu) = testing::gpu() else { return };
    let team = Arc::new(Team::new(2, 100).unwrap());
    for path in fixtures() {
        let name = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let gguf = Gguf::open(&path).unwrap();
        let Ok(lowered) = crate::arch::lower(&gguf, 256) else { continue };
        let plan = Arc::new(lowered.plan);
        let tokens: Vec<u32> = (0..45).map(|i| (i * 37 + 11) % lowered.n_vocab).collect();
        let weights = Arc::new(Mapped { gguf, plan: plan.clone() });
        let options = CpuOptions { exact: true, kernels: "auto".into() };
        let mut cpu = CpuBackend::new(plan.clone(), weights.clone(), team.clone(), &options).unwrap();
        let cancel = AtomicBool::new(false);
        let options =
            GpuOptions { n_batch: 64, checked: name.starts_with('g'), int8: [false; 2], ..GpuOptions::default() };
        let mut on_gpu = GpuBackend::new(gpu.clone(), plan.clone(), &*weights, &options, &cancel, &mut |_| {}).unwrap();
        for cache in [CacheType::F32, CacheType::F16] {
            for chunk in [45, 7, 1] {
                let mut a = CpuSequence::new(&plan, 64, 64, cache, cache).unwrap();
                let mut b = GpuSequence::new(&gpu, &plan, 64, 64, cache, cache).unwrap();
                let want = run(&mut cpu, &mut a, &tokens, chunk);
                let got = run(&mut on_gpu, &mut b, &tokens, chunk);
                let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
                let worst = want.iter().zip(&got).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
                println!("{name:20} {cache:?} chunks of {chunk:2}: {worst:.1e}");
                assert!(worst <= 2e-3, "{name} {cache:?} in chunks of {chunk}: {worst:e}");
            }
        }
    }
}
