//! Quantized models: exact mode equals the recorded logits of the same weights, and the fast path errs no more than
//! llama.cpp's own recorded error.

mod common;

use common::{read_f32, read_json, shared, tokens};
use tealight::plan::CacheType;
use tealight::{Model, ModelOptions, SessionOptions, Want};

fn run(path: &std::path::Path, tokens: &[u32], exact: bool, kernels: &str) -> Vec<f32> {
    let mut knobs = tealight::Knobs::default();
    knobs.cpu = kernels.to_owned();
    let model = Model::open(path, &ModelOptions::default().with_exact(exact).with_knobs(knobs)).unwrap();
    let options = SessionOptions::default().with_ctx(tokens.len() as u32).with_cache(CacheType::F32, CacheType::F32);
    let mut session = model.session(&options).unwrap();
    session.feed(tokens, 512, Want::All, &mut |_| {}).unwrap().to_vec()
}

#[test]
fn quantized_models_equal_their_recorded_logits() {
    let Some(folder) = shared("fixtures/llama-256") else { return };
    let tokens = tokens(&read_json(&folder.join("expect.json"))["tokens"]);
    let mut n_case = 0;
    for entry in std::fs::read_dir(folder.join("quants")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "gguf") || path.ends_with("imatrix.gguf") {
            continue;
        }
        let recipe = path.file_stem().unwrap().to_string_lossy().into_owned();
        let expect = read_json(&path.with_extension("json"));
        let want = read_f32(&path.with_extension("exact.f32"));
        let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let exact = run(&path, &tokens, true, "auto");
        let error = exact.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
        assert!(error <= 1e-4, "{recipe}: exact mode differs by {error:e}");
        let peer = [&expect["llama_cpp_mean_err"], &expect["llama_cpp_no_repack_mean_err"]];
        let peer = peer.iter().filter_map(|v| v.as_f64()).fold(f64::INFINITY, f64::min);
        for kernels in ["scalar", "auto"] {
            let fast = run(&path, &tokens, false, kernels);
            let mean = fast.iter().zip(&want).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / want.len() as f64;
            println!("{recipe:8} exact {error:.1e}  {kernels} mean {mean:.5}  llama.cpp {peer:.5}");
            assert!(mean <= 1.1 * peer, "{recipe} with {kernels} kernels: mean error {mean}, llama.cpp {peer}");
        }
        n_case += 1;
    }
    assert!(n_case >= 5, "only {n_case} quantized models found");
}
