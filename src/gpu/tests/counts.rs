//! What is handed to the device: one submission of one pass for a token, more for a prompt that is too much at once.

use super::fixtures::{Fixture, own, shared};
use super::support::{Wanted, backend, pass, rows};
use crate::gpu::exec::Stats;
use crate::gpu::pipelines::testing;
use crate::gpu::{GpuBackend, GpuOptions, GpuSequence};
use crate::plan::CacheType;

const F16: CacheType = CacheType::F16;

fn since(backend: &GpuBackend, before: Stats) -> [u64; 3] {
    let now = backend.stats();
    [now.submissions - before.submissions, now.passes - before.passes, u64::from(now.dispatches > before.dispatches)]
}

#[test]
fn a_token_is_one_submission_of_one_pass() {
    let Some(gpu) = testing::gpu() else { return };
    let with_experts = shared("fixtures").into_iter().flat_map(|folder| {
        ["mixtral", "deepseek2-lite"].map(|name| Fixture::open(&folder.join(name).join("model.gguf"), 256))
    });
    let own = ["llama31", "gemma3", "phi2", "falcon-h1", "qwen35", "lfm2", "deepseek32"].map(own);
    for fixture in own.into_iter().chain(with_experts.flatten()) {
        let name = &fixture.name;
        for int8 in [[false; 2], [true; 2]] {
            let options = GpuOptions { int8, ..GpuOptions::default() };
            let mut backend = backend(&gpu, &fixture.plan, &*fixture.weights, &options).unwrap();
            let sequence = || GpuSequence::new(&gpu, &fixture.plan, 600, 256, F16, F16).unwrap();
            let mut sequences = [sequence()];
            let mut run = |batches: &[_]| {
                let before = backend.stats();
                // Positions begin anew with every pass.
                sequences[0] = sequence();
                pass(&mut backend, &fixture.plan, &mut sequences, batches, Wanted::Last).unwrap();
                since(&backend, before)
            };
            assert_eq!(run(&[rows(30)]), [1, 1, 1], "{name}: a short prompt");
            // Enough to let the caches grow, and attention be cut into parts.
            let prompts = [rows(250), rows(20)];
            assert_eq!(run(&prompts), [2, 2, 1], "{name}: a prompt in two batches");
            let tokens = vec![rows(1); 5];
            assert_eq!(run(&[&prompts[..], &tokens[..]].concat()), [7, 7, 1], "{name}: five tokens");
        }
    }
}

#[test]
fn a_prompt_is_cut_into_submissions_by_the_budget_and_gives_the_same() {
    let Some(gpu) = testing::gpu() else { return };
    let fixture = own("llama31");
    let mut results = Vec::new();
    for (budget, n) in [(u64::MAX, 1), (0, 2)] {
        let options = GpuOptions::default();
        let mut backend = backend(&gpu, &fixture.plan, &*fixture.weights, &options).unwrap();
        backend.set_budget(budget);
        let mut sequences = [GpuSequence::new(&gpu, &fixture.plan, 64, 64, F16, F16).unwrap()];
        let out = pass(&mut backend, &fixture.plan, &mut sequences, &[rows(20)], Wanted::Last).unwrap();
        // What was measured raises a budget that is too small.
        assert_eq!((backend.stats().submissions, backend.stats().passes), (n, n), "budget {budget}");
        results.push(out);
    }
    assert_eq!(results[0], results[1]);
}
