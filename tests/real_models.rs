//! Real models write what llama.cpp writes. They are fetched by `tools/get-smollm2.sh` (or lie in the folder that
//! `TEALIGHT_MODELS` names); what is not here is skipped by name.

mod common;

use common::{read_json, real_model, shared, skipped, tokens};
use tealight::plan::CacheType;
use tealight::{Model, ModelOptions, SessionOptions, Want};

const MODELS: [(&str, &str); 2] =
    [("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma3", "gemma-3-270m-q4_k_m.gguf")];

/// Models that are here, each with its recorded results.
fn models() -> Vec<(&'static str, Model, serde_json::Value)> {
    let Some(shared) = shared() else {
        skipped("recorded results of real models");
        return Vec::new();
    };
    let expect = read_json(&shared.join("models/expect.json"));
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
