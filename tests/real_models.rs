//! Real models write what llama.cpp writes. They are fetched by `tools/get-smollm2.sh` (or lie in the folder that
//! `TEALIGHT_MODELS` names); what is not here is skipped by name.

#![allow(clippy::print_stdout)]

mod common;

use common::{read_json, real_model, shared, skipped, tokens};
use tealight::plan::CacheType;
use tealight::text::Encode;
use tealight::{Model, ModelOptions, SessionOptions, Want};

const MODELS: [(&str, &str); 2] =
    [("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma3", "gemma-3-270m-q4_k_m.gguf")];

/// Models that are here, each with its recorded results.
fn models() -> Vec<(&'static str, Model, serde_json::Value)> {
    let Some(folder) = shared("models") else { return Vec::new() };
    let expect = read_json(&folder.join("expect.json"));
    let mut found = Vec::new();
    for (name, file) in MODELS {
        match real_model(file) {
            Some(path) => {
                let model = Model::open(&path, &ModelOptions::default()).unwrap_or_else(|e| panic!("{e}"));
                found.push((name, model, expect[name].clone()));
            }
            None => skipped(file),
        }
    }
    found
}

#[test]
fn greedy_text_equals_llama_cpp_wherever_the_gap_is_clear() {
    for (name, model, expect) in models() {
        for prompt in expect["prompts"].as_array().unwrap() {
            let label = format!("{name}, prompt {}", prompt["name"]);
            let mut next = tokens(&prompt["tokens"]);
            let options = SessionOptions::default().with_ctx(512).with_cache(CacheType::F32, CacheType::F32);
            let mut session = model.session(&options).unwrap();
            let mut n_equal = 0;
            for (want, gap) in tokens(&prompt["greedy"]).into_iter().zip(prompt["gap"].as_array().unwrap()) {
                let logits = session.feed(&next, 512, Want::Last, &mut |_| {}).unwrap();
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

#[test]
fn prompts_tokenize_as_recorded() {
    for (name, model, expect) in models() {
        for prompt in expect["prompts"].as_array().unwrap() {
            let flag = |key: &str| prompt[key].as_bool().unwrap();
            let how = Encode { add_special: flag("add_special"), parse_special: flag("parse_special") };
            let ids = model.encode(prompt["prompt"].as_str().unwrap().as_bytes(), how).unwrap();
            assert_eq!(ids, tokens(&prompt["tokens"]), "{name}, prompt {}", prompt["name"]);
        }
        let mut eog = tokens(&expect["eog"]);
        eog.sort_unstable();
        assert_eq!(model.vocab().unwrap().eog(), eog, "{name}: tokens that end a text");
    }
}

/// Mean negative log likelihood of the second halves of chunks of 512 tokens, as llama-perplexity defines it.
fn perplexity(model: &Model, tokens: &[u32], n_chunk: usize) -> f64 {
    let vocab = model.vocab().unwrap();
    let width = model.n_output() as usize;
    let options = SessionOptions::default().with_ctx(512).with_cache(CacheType::F32, CacheType::F32);
    let mut session = model.session(&options).unwrap();
    let (mut sum, mut count) = (0f64, 0);
    for chunk in tokens.chunks_exact(512).take(n_chunk) {
        let mut chunk = chunk.to_vec();
        if vocab.add_bos() {
            chunk[0] = vocab.bos().unwrap();
        }
        session.clear();
        session.feed(&chunk[..256], 512, Want::None, &mut |_| {}).unwrap();
        let logits = session.feed(&chunk[256..511], 512, Want::All, &mut |_| {}).unwrap();
        for (row, &target) in logits.chunks_exact(width).zip(&chunk[257..]) {
            let max = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
            let total: f64 = row.iter().map(|x| f64::from((x - max).exp())).sum();
            sum -= f64::from(row[target as usize] - max) - total.ln();
            count += 1;
        }
    }
    (sum / f64::from(count)).exp()
}

fn assert_perplexity(n_chunk: usize) {
    for (name, model, expect) in models() {
        let text = std::fs::read(shared("models").unwrap().join("text-a.txt")).unwrap();
        let tokens = model.encode(&text, Encode { add_special: true, parse_special: false }).unwrap();
        let got = perplexity(&model, &tokens, n_chunk);
        let want = expect["perplexity_text_a"]["cumulative"][n_chunk - 1].as_f64().unwrap();
        println!("{name}: perplexity of {n_chunk} chunks {got:.4}, llama.cpp {want:.4}");
        assert!((got / want - 1.0).abs() <= 0.005, "{name}: perplexity {got}, llama.cpp {want}");
    }
}

#[test]
fn perplexity_equals_llama_cpp() {
    assert_perplexity(5);
}

#[test]
#[ignore = "takes minutes: cargo test --release --test real_models -- --ignored"]
fn perplexity_of_the_whole_text_equals_llama_cpp() {
    assert_perplexity(11);
}
