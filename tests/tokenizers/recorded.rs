//! Recorded tokenizations and special ids of public vocabularies.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use crate::common::{read_json, shared};
use crate::small::*;
use serde_json::json;
use tealight::gguf::Gguf;
use tealight::text::{Encode, Vocab, VocabKind};

#[test]
fn recorded_tokenizations_are_equal() {
    let (mut n_case, mut wrong) = (0, String::new());
    for (name, vocab) in shared_vocabularies() {
        let path = shared("vocab").unwrap().join(format!("ggml-vocab-{name}.gguf"));
        let read = |ext: &str| std::fs::read_to_string(format!("{}.{ext}", path.display())).unwrap();
        let (texts, lines) = (read("inp"), read("out"));
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        let lines: Vec<&str> = lines.lines().collect();
        assert!(lines.len() + 1 >= texts.len() && lines.len() > 40, "{name}: {} lines", lines.len());
        for (text, line) in texts.iter().zip(lines) {
            let want: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let got = vocab.encode(text.as_bytes(), PLAIN);
            n_case += 1;
            if got != want {
                writeln!(wrong, "{name}: {text:?}\n want {want:?}\n  got {got:?}").unwrap();
            }
        }
    }
    println!("{n_case} cases");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn recorded_special_ids_and_decoded_texts_are_equal() {
    let vocabularies = shared_vocabularies();
    if vocabularies.is_empty() {
        return;
    }
    let extra = read_json(&shared("vocab").unwrap().join("extra.json"));
    let (mut n_case, mut wrong) = (0, String::new());
    for (name, vocab) in &vocabularies {
        let id = |id: Option<u32>| id.map_or(-1, i64::from);
        let got = json!({
            "add_bos": vocab.add_bos(), "add_eos": vocab.add_eos(), "bos": id(vocab.bos()), "eos": id(vocab.eos()),
            "eot": id(vocab.eot()), "sep": id(vocab.sep()), "pad": id(vocab.pad()), "nl": id(vocab.nl()),
            "n_tokens": vocab.n_tokens(), "eog": vocab.eog(),
        });
        if got != extra[name]["vocab"] {
            writeln!(wrong, "{name}:\n want {}\n  got {got}", extra[name]["vocab"]).unwrap();
        }
        for case in extra[name]["cases"].as_array().unwrap() {
            n_case += 1;
            let how = Encode { add_special: case["add_special"] == true, parse_special: case["parse_special"] == true };
            let text = case["text"].as_str().unwrap();
            let want = ids(&case["ids_hf"]).or_else(|| ids(&case["ids"])).unwrap();
            let got = vocab.encode(text.as_bytes(), how);
            if got != want {
                writeln!(wrong, "{name}: {text:?} {how:?}\n want {want:?}\n  got {got:?}").unwrap();
            }
            let recorded = ids(&case["ids"]).unwrap();
            for (key, remove, render) in
                [("detokenized", false, true), ("detokenized_no_special", how.add_special, false)]
            {
                let bytes = vocab.decode(&recorded, remove, render);
                let got = String::from_utf8_lossy(&bytes).into_owned();
                if case[key] != got.as_str() {
                    writeln!(wrong, "{name}: {key} of {text:?}\n want {}\n  got {got:?}", case[key]).unwrap();
                }
            }
        }
    }
    println!("{n_case} cases");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn fixtures_are_tokenized_as_their_models_do() {
    let Some(folder) = shared("fixtures") else { return };
    let (mut n_case, mut n_model, mut wrong) = (0, 0, String::new());
    let mut folders: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let (model, expect) = (folder.join("model.gguf"), folder.join("expect.json"));
        if !model.is_file() || !expect.is_file() {
            continue;
        }
        let expect = read_json(&expect);
        let Some(cases) = expect["tokenization"].as_array() else { continue };
        let vocab = load(&model);
        n_model += 1;
        let name = folder.file_name().unwrap().to_string_lossy();
        for case in cases {
            n_case += 1;
            let add_special = case["add_special"] == true;
            let how = Encode { add_special, parse_special: case["parse_special"].as_bool().unwrap_or(add_special) };
            let (text, want) = (case["text"].as_str().unwrap(), ids(&case["ids"]).unwrap());
            let got = vocab.encode(text.as_bytes(), how);
            if got != want {
                let llama_cpp = ids(&case["llama_cpp_ids"]);
                let same = if llama_cpp.as_ref() == Some(&got) { " (as llama.cpp)" } else { "" };
                writeln!(wrong, "{name} {:?}: {text:?}\n want {want:?}\n  got {got:?}{same}", vocab.pre()).unwrap();
            }
        }
    }
    println!("{n_case} cases of {n_model} models");
    assert!(wrong.is_empty(), "{wrong}");
}

// ---- small vocabularies of our own

#[test]
fn shared_vocabularies_give_texts_back() {
    for (name, vocab) in shared_vocabularies() {
        if vocab.kind() == VocabKind::Wpm {
            continue;
        }
        for text in [
            "Hello  world \n\n\t x",
            "a\u{301}ßΣς中文 한국어 \u{1f600}👨‍👩‍👧 \u{200d}\u{feff}",
            "don't 12345678 {}[]()",
            "\0\u{7f}\u{85}",
        ] {
            let ids = vocab.encode(text.as_bytes(), PLAIN);
            let got: Vec<u8> = ids.iter().flat_map(|id| vocab.piece(*id, false).into_owned()).collect();
            let blank = if vocab.add_space_prefix() { " " } else { "" };
            assert_eq!(String::from_utf8_lossy(&got), format!("{blank}{text}"), "{name}");
            check_stream(&vocab, &ids);
        }
    }
}

/// Load time and speed; run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "measures speed, proves nothing"]
fn figures() {
    let mut sample = String::new();
    if let Some(folder) = shared("reference") {
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            sample += &std::fs::read_to_string(path).unwrap_or_default();
        }
    }
    let sample = sample.as_bytes();
    let Some(folder) = shared("vocab") else { return };
    for name in ["llama-bpe", "qwen2", "deepseek-llm", "gpt-2", "llama-spm", "bert-bge"] {
        let path = folder.join(format!("ggml-vocab-{name}.gguf"));
        let open = || Arc::new(Gguf::open(&path).unwrap());
        let fastest = |f: &dyn Fn()| {
            let runs = (0..9).map(|_| {
                let start = Instant::now();
                f();
                start.elapsed()
            });
            runs.min().unwrap_or_default()
        };
        let file = open();
        let open_time = fastest(&|| drop(open()));
        let load_time = fastest(&|| drop(Vocab::load(&file).unwrap()));
        let vocab = load(&path);
        let start = Instant::now();
        vocab.encode(b"Hello", PLAIN);
        let first = start.elapsed();
        let start = Instant::now();
        let ids = vocab.encode(sample, PLAIN);
        let took = start.elapsed();
        let speed = sample.len() as f64 / 1e6 / took.as_secs_f64();
        println!(
            "{name}: open {open_time:?}, load {load_time:?}, first text {first:?}, {speed:.1} MB/s ({} tokens)",
            ids.len()
        );
        for (what, text) in long_texts(1_000_000) {
            let start = Instant::now();
            vocab.encode(&text, PLAIN);
            println!("    {what}: {:?}", start.elapsed());
        }
    }
}
