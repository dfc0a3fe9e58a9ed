//! The types that recipes choose are llama.cpp's, for all tensors of models of many shapes, and whole files
//! that are quantized by them are llama.cpp's to the byte.
#![allow(clippy::print_stderr)] // skipped tests say so

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tealight::convert::imatrix::Imatrix;
use tealight::convert::quantize::{Importance, Job, QuantizeOptions};
use tealight::convert::recipe::{ModelFacts, Recipe, RecipeOptions, TensorFacts, choose_types, sort_for_output};
use tealight::convert::{self, ConvertOptions, Source};
use tealight::gguf::{Gguf, Tensor};
use tealight::quant::BlockType;

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

/// Quantizes a file by a recipe, with an importance matrix or without; the finished file.
fn quantized(source: &Source, recipe: Recipe, imatrix: Option<&Imatrix>, folder: &Path) -> Vec<u8> {
    let mut options = QuantizeOptions::default();
    options.recipe = Some(recipe);
    // the name that stands in the reference's files
    options.importance = imatrix.map(|i| Importance { imatrix: i.clone(), file: "imatrix.gguf".into() });
    options.n_threads = Some(2);
    let path = folder.join(format!("{recipe}.gguf"));
    Job::new(source, options).unwrap().write(&path, &[], &AtomicBool::new(false), &mut |_| {}).unwrap();
    std::fs::read(&path).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn whole_files_have_llama_cpps_bytes() {
    let Some(dir) = fixtures("quantized models against llama.cpp") else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recipes");
    std::fs::create_dir_all(&folder).unwrap();
    let (dense, experts) = (dir.join("llama-256"), dir.join("quants/moe"));
    let mut cases: Vec<(String, &Path, Value)> = Vec::new();
    for entry in std::fs::read_dir(dense.join("quants")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            cases.push((name, &dense, json(&path)));
        }
    }
    for (name, case) in json(&experts.join("moe.json"))["recipes"].as_object().unwrap() {
        cases.push((name.clone(), &experts, case.clone()));
    }
    let source = |path: &Path| convert::open(path, &ConvertOptions::new()).unwrap();
    let imatrix = |path: &Path| Imatrix::open(path).unwrap();
    let models = BTreeMap::from([
        (&*dense, (source(&dense.join("model.gguf")), imatrix(&dense.join("quants/imatrix.gguf")))),
        (&*experts, (source(&experts.join("in.gguf")), imatrix(&experts.join("imatrix.gguf")))),
    ]);
    assert!(cases.len() > 60, "{}", cases.len());
    let mut wrong = Vec::new();
    for (name, model, want) in cases {
        let (source, imatrix) = &models[model];
        let (recipe, has_importance) = name.split_once('.').map_or((&*name, false), |(recipe, _)| (recipe, true));
        let recipe = Recipe::parse(recipe).unwrap();
        let bytes = quantized(source, recipe, has_importance.then_some(imatrix), &folder);
        if want["file_sha256"].as_str() != Some(&sha256(&bytes)) {
            wrong.push(format!("{}: {name}: {}", model.display(), differences(&bytes, &want["tensors"], &folder)));
        }
    }
    assert!(wrong.is_empty(), "{} files differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Names of the tensors of a file whose type or bytes are not the reference's.
fn differences(bytes: &[u8], want: &Value, folder: &Path) -> String {
    let path = folder.join("differs.gguf");
    std::fs::write(&path, bytes).unwrap();
    let file = Gguf::open(&path).unwrap();
    let differs = |t: &&Tensor| {
        let want = &want[&t.name];
        want["type"].as_str() != Some(t.ty.name()) || want["sha256"].as_str() != Some(&sha256(file.bytes(t)))
    };
    let names: Vec<_> = file.tensors().iter().filter(differs).map(|t| t.name.clone()).collect();
    if names.is_empty() { "in the metadata".into() } else { names.join(", ") }
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
