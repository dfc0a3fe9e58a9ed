//! Whole models on the device against the CPU's exact computation.

use super::fixtures::fixtures;
use super::support::{Batch, Script, rows, worst};
use crate::gpu::GpuOptions;
use crate::gpu::pipelines::testing;
use crate::plan::CacheType;

/// `n` rows in batches of at most `chunk`.
fn chunks(n: usize, chunk: usize) -> Vec<Batch> {
    (0..n).step_by(chunk).map(|start| rows(chunk.min(n - start))).collect()
}

#[test]
fn every_fixture_gives_what_the_exact_cpu_gives() {
    let Some(gpu) = testing::gpu() else { return };
    for fixture in fixtures() {
        let (name, plan) = (&fixture.name, &fixture.plan);
        let options = GpuOptions { checked: name.starts_with('g'), int8: [false; 2], ..GpuOptions::default() };
        let batches = [chunks(45, 45), chunks(14, 7), chunks(6, 1)].concat();
        for cache in [CacheType::F32, CacheType::F16] {
            let script = Script { batches: &batches, cache: [cache; 2], want_all: true };
            let want = script.on_cpu(plan, fixture.weights.clone(), true);
            let got = script.on_gpu(&gpu, plan, &*fixture.weights, &options);
            let (error, at) = worst(&want, &got);
            println!("{name:20} {cache:?}: {error:.1e}");
            assert!(error <= 2e-3, "{name} {cache:?}: {error:e} at {at}: {} and not {}", got[at], want[at]);
        }
    }
}
