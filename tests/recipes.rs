//! The types that recipes choose are llama.cpp's, for all tensors of models of many shapes.
#![allow(clippy::print_stderr)] // skipped tests say so

use std::path::PathBuf;
use tealight::convert::recipe::{ModelFacts, Recipe, RecipeOptions, TensorFacts, choose_types, sort_for_output};
use tealight::quant::BlockType;

#[test]
fn every_decision_of_the_fixtures_is_llama_cpps() {
    let shared = match std::env::var_os("TEALIGHT_SHARED") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let Ok(text) = std::fs::read(shared.join("fixtures/quants/recipes.json")) else {
        eprintln!("skipped: recipes against llama.cpp: no fixtures");
        return;
    };
    let fixtures: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let code = |letter: char| {
        let name = fixtures["codes"][letter.to_string()].as_str().unwrap();
        BlockType::from_name(name).unwrap()
    };
    let (mut n_decision, mut wrong) = (0, Vec::new());
    for (name, model) in fixtures["models"].as_object().unwrap() {
        let number = |key: &str| model["metadata"][key].as_u64().unwrap_or(0) as usize;
        let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
        for tensor in model["tensors"].as_array().unwrap() {
            // The fixtures have shapes as files do: innermost first.
            let shape = tensor[1].as_array().unwrap().iter().rev().map(|n| n.as_u64().unwrap() as usize);
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
