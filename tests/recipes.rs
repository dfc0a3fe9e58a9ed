//! The types that recipes choose are llama.cpp's, for all tensors of models of many shapes.
#![allow(clippy::print_stderr)] // skipped tests say so

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tealight::convert::recipe::{
    ModelFacts, Recipe, RecipeOptions, TensorFacts, choose_types, require_importance, sort_for_output,
};
use tealight::gguf::{Gguf, Tensor};
use tealight::quant::{BlockType, dequantize, quantize};

/// The shared fixtures, or a line that says what is skipped.
fn fixtures(what: &str) -> Option<PathBuf> {
    let shared = match std::env::var_os("TEALIGHT_SHARED") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let dir = shared.join("fixtures");
    if !dir.join("quants").is_dir() {
        eprintln!("skipped: {what}: no fixtures");
        return None;
    }
    Some(dir)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(file: &Gguf, tensor: &Tensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.shape.iter().product::<u64>() as usize];
    dequantize(tensor.ty, file.bytes(tensor), &mut out).unwrap();
    out
}

/// The importance of columns by tensor, [n_matrix, row_len].
fn importance(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let file = Gguf::open(path).unwrap();
    let sums = file.tensors().iter().filter_map(|t| Some((t.name.strip_suffix(".in_sum2")?, t)));
    let mean = |(name, sums): (&str, &Tensor)| {
        let counts = numbers(&file, file.tensor(&format!("{name}.counts")).unwrap());
        let row_len = *sums.shape.last().unwrap() as usize;
        let rows = numbers(&file, sums)
            .chunks(row_len)
            .zip(counts)
            .flat_map(|(row, n)| row.iter().map(|&v| if n > 0.0 { v / n } else { 1.0 }).collect::<Vec<_>>())
            .collect();
        (name.to_owned(), rows)
    };
    sums.map(mean).collect()
}

/// Quantizes a model by a recipe and compares type and hash of each tensor.
fn check_model(
    file: &Gguf,
    recipe: Recipe,
    importance: Option<&BTreeMap<String, Vec<f32>>>,
    want: &Value,
) -> Vec<String> {
    let arch = file.metadata().str("general.architecture").unwrap().unwrap();
    let number = |key: &str| file.metadata().u64(&format!("{arch}.{key}")).unwrap().unwrap_or(0) as usize;
    let model = ModelFacts {
        arch: arch.to_owned(),
        n_layer: number("block_count"),
        n_head: number("attention.head_count"),
        n_head_kv: number("attention.head_count_kv"),
        n_expert: number("expert_count"),
        has_importance: importance.is_some(),
    };
    let mut tensors: Vec<&Tensor> = file.tensors().iter().collect();
    sort_for_output(&mut tensors, |t| &t.name);
    let facts: Vec<_> = tensors.iter().map(|t| TensorFacts { name: &t.name, shape: &t.shape, ty: t.ty }).collect();
    let decisions = choose_types(recipe, &model, &facts, &RecipeOptions::default()).unwrap();
    let of = |name: &str| importance.and_then(|all| all.get(name));
    require_importance(recipe, &facts, &decisions, |name| of(name).is_some()).unwrap();
    assert_eq!(tensors.len(), want.as_object().unwrap().len());
    let mut wrong = Vec::new();
    for (tensor, decision) in tensors.into_iter().zip(decisions) {
        let (name, ty) = (&tensor.name, decision.ty);
        let mut bytes = file.bytes(tensor).to_vec();
        if ty != tensor.ty {
            let (x, row_len) = (numbers(file, tensor), *tensor.shape.last().unwrap() as usize);
            // Each expert has an importance of its own.
            let n_matrix = if tensor.shape.len() > 2 { tensor.shape[0] as usize } else { 1 };
            let (n_number, n_byte) = (x.len() / n_matrix, ty.row_bytes(x.len() as u64).unwrap() as usize / n_matrix);
            bytes = vec![0; n_byte * n_matrix];
            for (i, (x, out)) in x.chunks(n_number).zip(bytes.chunks_mut(n_byte)).enumerate() {
                let q = of(name).map(|q| &q[i * row_len..][..row_len]);
                quantize(ty, x, row_len, q, out).unwrap();
            }
        }
        let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        if want[name]["type"].as_str() != Some(ty.name()) || want[name]["sha256"].as_str() != Some(&hash) {
            wrong.push(format!("{recipe} importance {}: {name} {ty}", importance.is_some()));
        }
    }
    wrong
}

#[test]
fn whole_models_have_llama_cpps_bytes() {
    let Some(dir) = fixtures("quantized models against llama.cpp") else { return };
    let (dense, experts) = (dir.join("llama-256"), dir.join("quants/moe"));
    let mut cases: Vec<(String, &Path, Value)> = Vec::new();
    for entry in std::fs::read_dir(dense.join("quants")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            cases.push((name, &dense, json(&path)["tensors"].clone()));
        }
    }
    for (name, case) in json(&experts.join("moe.json"))["recipes"].as_object().unwrap() {
        cases.push((name.clone(), &experts, case["tensors"].clone()));
    }
    let models = BTreeMap::from([
        (&*dense, (Gguf::open(&dense.join("model.gguf")).unwrap(), importance(&dense.join("quants/imatrix.gguf")))),
        (&*experts, (Gguf::open(&experts.join("in.gguf")).unwrap(), importance(&experts.join("imatrix.gguf")))),
    ]);
    assert!(cases.len() > 60, "{}", cases.len());
    let mut wrong = Vec::new();
    for (name, folder, tensors) in cases {
        let (file, all) = &models[folder];
        let (recipe, has_importance) = name.split_once('.').map_or((&*name, false), |(recipe, _)| (recipe, true));
        wrong.extend(check_model(file, Recipe::parse(recipe).unwrap(), has_importance.then_some(all), &tensors));
    }
    assert!(wrong.is_empty(), "{} tensors differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_decision_of_the_fixtures_is_llama_cpps() {
    let Some(dir) = fixtures("recipes against llama.cpp") else { return };
    let fixtures = json(&dir.join("quants/recipes.json"));
    let code = |letter: char| {
        let name = fixtures["codes"][letter.to_string()].as_str().unwrap();
        BlockType::from_name(name).unwrap()
    };
    let (mut n_decision, mut wrong) = (0, Vec::new());
    for (name, model) in fixtures["models"].as_object().unwrap() {
        let number = |key: &str| model["metadata"][key].as_u64().unwrap_or(0) as usize;
        let mut tensors: Vec<(String, Vec<u64>)> = Vec::new();
        for tensor in model["tensors"].as_array().unwrap() {
            // The fixtures have shapes as files do: innermost first.
            let shape = tensor[1].as_array().unwrap().iter().rev().map(|n| n.as_u64().unwrap());
            tensors.push((tensor[0].as_str().unwrap().to_owned(), shape.collect()));
        }
        let order: Vec<String> = tensors.iter().map(|t| t.0.clone()).collect();
        sort_for_output(&mut tensors, |t| &t.0);
        assert!(tensors.iter().map(|t| &t.0).eq(&order), "{name}: order of tensors");
        let facts: Vec<TensorFacts<'_>> =
            tensors.iter().map(|(name, shape)| TensorFacts { name, shape, ty: BlockType::F32 }).collect();
        for &recipe in Recipe::ALL {
            for has_importance in [false, true] {
                let types = &model["types"];
                let plain = &types[recipe.name()];
                // Listed only where importance changes something.
                let with = types.get(format!("{recipe}+im")).unwrap_or(plain);
                let Some(want) = (if has_importance { with } else { plain }).as_str() else { continue };
                let model = ModelFacts {
                    arch: model["arch"].as_str().unwrap().to_owned(),
                    n_layer: number("block_count"),
                    n_head: number("attention.head_count"),
                    n_head_kv: number("attention.head_count_kv"),
                    n_expert: number("expert_count"),
                    has_importance,
                };
                let got = choose_types(recipe, &model, &facts, &RecipeOptions::default()).unwrap();
                assert_eq!(got.len(), want.chars().count());
                for ((letter, got), (tensor, _)) in want.chars().zip(got).zip(&tensors) {
                    n_decision += 1;
                    if got.ty != code(letter) {
                        wrong.push(format!("{name} {recipe} {tensor}: {} is not {}", got.ty, code(letter)));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {n_decision}, such as {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    assert!(n_decision >= 133_323, "{n_decision}");
}
