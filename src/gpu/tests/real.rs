//! Real models on the device write what llama.cpp writes. They are looked for where tests/real_models.rs looks; what is
//! not here is skipped by name.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::fixtures::{Fixture, shared};
use super::support::backend;
use crate::gpu::pipelines::testing;
use crate::gpu::{GpuOptions, GpuSequence};
use crate::plan::{Backend, CacheType, Rows, SequenceMemory};

const MODELS: [(&str, &str); 2] =
    [("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma3", "gemma-3-270m-q4_k_m.gguf")];

fn real_model(file: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let folders = [std::env::var_os("TEALIGHT_MODELS").map(PathBuf::from), cache.map(|c| c.join("tealight/models"))];
    let found = folders.into_iter().flatten().map(|f| f.join(file)).find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: {file}");
    }
    found
}

fn tokens(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as u32).collect()
}

#[test]
#[ignore = "takes minutes: cargo test --lib -- --ignored gpu::tests"]
fn real_models_write_on_the_device_what_llama_cpp_writes() {
    let (Some(gpu), Some(folder)) = (testing::gpu(), shared("models")) else { return };
    let expect: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("expect.json")).unwrap()).unwrap();
    for (name, file) in MODELS {
        let Some(path) = real_model(file) else { continue };
        let model = Fixture::open(&path, 512).expect("it has a plan");
        let mut backend = backend(&gpu, &model.plan, &*model.weights, &GpuOptions::default()).unwrap();
        for prompt in expect[name]["prompts"].as_array().unwrap() {
            let label = format!("{name}, prompt {}", prompt["name"]);
            let mut sequence = GpuSequence::new(&gpu, &model.plan, 512, 256, CacheType::F32, CacheType::F32).unwrap();
            let mut next = tokens(&prompt["tokens"]);
            let mut n_equal = 0;
            let recorded = tokens(&prompt["greedy"]).into_iter().zip(prompt["gap"].as_array().unwrap());
            for (want, gap) in recorded {
                let start = sequence.len();
                let pos: Vec<u32> = (start..start + next.len() as u32).collect();
                let (seq, last) = (vec![0; next.len()], [next.len() as u32 - 1]);
                let rows = Rows { token: &next, pos: &pos, seq: &seq, want: &last, input: &[] };
                let mut logits = Vec::new();
                backend.run(&rows, &mut [&mut sequence], None, &AtomicBool::new(false), &mut logits).unwrap();
                assert_eq!(logits.len(), model.n_vocab as usize);
                let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
                if best != want {
                    assert!(gap.as_f64().unwrap() < 0.3, "{label}: token {n_equal} is {best}, expected {want}");
                    break; // behind a legitimate divergence everything differs
                }
                n_equal += 1;
                next = vec![want];
            }
            println!("{label}: {n_equal} tokens equal");
        }
    }
}
