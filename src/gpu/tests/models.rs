//! Whole models on the device against the CPU's exact computation, and quantized ones against recorded logits.

use rayon::prelude::*;

use super::fixtures::{Fixture, fixtures, own, shared};
use super::support::{Batch, Script, Wanted, mean_error, rows, worst};
use crate::gpu::pipelines::testing;
use crate::gpu::{GpuOptions, unsupported};
use crate::knobs::GpuVariant;
use crate::plan::CacheType;

const FLOATS: GpuOptions = GpuOptions {
    n_batch: 64,
    variant: GpuVariant::Auto,
    max_chunk: u64::MAX,
    checked: false,
    int8: [false; 2],
    sabotage: false,
    cache_dir: None,
};

/// `n` rows in batches of at most `chunk`.
fn chunks(n: usize, chunk: usize) -> Vec<Batch> {
    (0..n).step_by(chunk).map(|start| rows(chunk.min(n - start))).collect()
}

/// What is wrong with a model's results: `None` if nothing is.
fn finding(fixture: &Fixture, script: &Script<'_>, options: &GpuOptions, limit: f32) -> Option<String> {
    let gpu = testing::gpu()?;
    let name = format!("{} with {:?}", fixture.name, script.cache);
    if let Some((step, why)) = unsupported(&fixture.plan, &gpu) {
        return Some(format!("{name}: step {step} cannot run: {why}"));
    }
    let want = script.on_cpu(&fixture.plan, fixture.weights.clone(), true);
    let got = script.on_gpu(&gpu, &fixture.plan, &*fixture.weights, options);
    let (error, at) = worst(&want, &got);
    println!("{name}: {error:.1e}");
    (error > limit).then(|| format!("{name}: {error:.1e}, most at {at}: {} and not {}", got[at], want[at]))
}

fn check(found: Vec<String>) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_fixture_gives_what_the_exact_cpu_gives() {
    if testing::gpu().is_none() {
        return;
    }
    // Prompts, several rows and single rows follow one another; some are of a length that cuts a tile.
    let batches = [chunks(45, 45), chunks(14, 7), chunks(4, 1)].concat();
    let judge = |(i, fixture): (usize, Fixture)| {
        let cache = [[CacheType::F32; 2], [CacheType::F16; 2]][i % 2];
        let options = GpuOptions {
            checked: i % 16 == 0,
            variant: if i % 16 == 1 { GpuVariant::Plain } else { GpuVariant::Auto },
            ..FLOATS
        };
        // What looks both ways takes a sequence whole, beside others.
        let whole: Vec<Batch> = vec![(0..56).map(|i| u32::from(i % 5 == 3)).collect()];
        let batches = if fixture.plan.is_causal() { &batches } else { &whole };
        let script = Script { batches, cache, wanted: Wanted::All };
        finding(&fixture, &script, &options, 2e-3)
    };
    check(fixtures().into_par_iter().enumerate().filter_map(judge).collect());
}

#[test]
fn an_adapter_gives_what_the_exact_cpu_gives() {
    let Some(folder) = shared("fixtures").filter(|_| testing::gpu().is_some()) else { return };
    let (model, adapter) = (folder.join("llama2-spm/model.gguf"), folder.join("lora-llama/adapter.gguf"));
    let plain = Fixture::open(&model, 256).expect("a plan");
    let changed = Fixture::open_with(&model, Some(&adapter), 256).expect("a plan");
    assert!(changed.plan.steps().len() > plain.plan.steps().len());
    let batches = [chunks(20, 20), chunks(5, 3), chunks(2, 1)].concat();
    let script = Script { batches: &batches, cache: [CacheType::F32; 2], wanted: Wanted::All };
    check(finding(&changed, &script, &FLOATS, 2e-3).into_iter().collect());
}

#[test]
fn two_sequences_in_one_batch_are_two_sequences() {
    if testing::gpu().is_none() {
        return;
    }
    let batches = [vec![0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0], vec![1], vec![0, 1], vec![1, 1, 1, 0], vec![0, 1], vec![0]];
    let script = Script { batches: &batches, cache: [CacheType::F16; 2], wanted: Wanted::Some };
    let judge = |name: &&str| finding(&own(name), &script, &FLOATS, 2e-3);
    check(["llama31", "gemma2", "qwen3", "falcon-h1", "qwen35", "lfm2"].par_iter().filter_map(judge).collect());
}

#[test]
fn a_quantized_cache_gives_what_the_exact_cpu_gives_with_one() {
    if testing::gpu().is_none() {
        return;
    }
    let batches = [chunks(30, 30), chunks(3, 1)].concat();
    let script = Script { batches: &batches, cache: [CacheType::Q8_0; 2], wanted: Wanted::All };
    let fits = |f: &Fixture| f.plan.caches().iter().all(|c| c.check_types(CacheType::Q8_0, CacheType::Q8_0).is_ok());
    let goes_on = |f: &Fixture| f.plan.is_causal();
    let able: Vec<Fixture> = fixtures().into_iter().filter(|f| fits(f) && goes_on(f)).take(2).collect();
    if able.is_empty() {
        println!("skipped: no fixture has heads of whole blocks");
    }
    // A key that rounds to the other code.
    check(able.par_iter().filter_map(|f| finding(f, &script, &FLOATS, 2e-2)).collect());
}

/// A quantized model with what was recorded of it.
struct Recorded {
    fixture: Fixture,
    tokens: Vec<u32>,
    /// Of the same weights, computed exactly.
    logits: Vec<f32>,
    /// Mean error of llama.cpp, which quantizes activations for every format.
    peer: f64,
}

impl Recorded {
    fn open(name: &str) -> Option<Self> {
        let folder = shared("fixtures/llama-256")?;
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let json = |name: &str| -> serde_json::Value { serde_json::from_slice(&read(name)).unwrap() };
        let tokens = json("expect.json")["tokens"].as_array().unwrap().clone();
        Some(Self {
            fixture: Fixture::open(&folder.join(format!("quants/{name}.gguf")), 256)?,
            tokens: tokens.iter().map(|t| t.as_u64().unwrap() as u32).collect(),
            logits: read(&format!("quants/{name}.exact.f32"))
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            peer: json(&format!("quants/{name}.json"))["llama_cpp_mean_err"].as_f64().unwrap(),
        })
    }
}

#[test]
fn quantized_models_give_recorded_logits_and_int8_errs_no_more_than_others() {
    check_recorded(&["Q4_0", "Q4_K_M", "IQ4_XS"]);
}

#[test]
#[ignore = "takes minutes: cargo test --lib -- --ignored gpu::tests"]
fn further_quantized_models_do_so_too() {
    check_recorded(&["Q8_0", "Q6_K"]);
}

fn check_recorded(names: &[&str]) {
    let Some(gpu) = testing::gpu() else { return };
    let judge = |name: &&str| -> Option<String> {
        let Recorded { fixture, tokens, logits: want, peer } = Recorded::open(name)?;
        let batch = [rows(tokens.len())];
        let script = Script { batches: &batch, cache: [CacheType::F32; 2], wanted: Wanted::All };
        let (plan, weights) = (&fixture.plan, &fixture.weights);
        let pass = |int8| {
            let options = GpuOptions { int8: [int8; 2], ..FLOATS };
            script.on_gpu_with(&gpu, plan, &**weights, &options, &tokens)
        };
        let (floats, int8) = (pass(false), pass(true));
        let fast = script.on_cpu_with(plan, weights.clone(), false, &tokens);
        let (error, _) = worst(&want, &floats);
        let errors = [&int8, &fast].map(|got| mean_error(&want, got));
        println!(
            "{name}: floats {error:.1e}, int8 {:.2e}, the CPU's {:.2e}, llama.cpp's {peer:.2e}",
            errors[0], errors[1]
        );
        // The CPU keeps f32 for formats without a fast kernel.
        (error > 2e-3 || errors[0] > 1.25 * errors[1].max(peer))
            .then(|| format!("{name}: {error:.1e} with floats, {errors:?}"))
    };
    check(names.par_iter().filter_map(judge).collect());
}
