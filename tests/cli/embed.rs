//! `embed`: vectors of texts.

use super::*;
use common::shared;
use serde_json::Value as Json;

/// The fixture `qwen3` as a model of vectors: pooling 1 mean, 2 cls, 3 last.
fn embedder(folder: &TempDir, pooling: u32) -> String {
    let mut edit = Edit::read(Path::new(&model("qwen3")));
    edit.set("qwen3.pooling_type", pooling);
    let path = folder.path().join("embedder.gguf");
    edit.write(&path);
    path.to_string_lossy().into_owned()
}

fn numbers(line: &str) -> Vec<f32> {
    line.split(' ').map(|x| x.parse().unwrap()).collect()
}

#[test]
fn texts_become_lines_of_numbers() {
    let folder = TempDir::new("embed");
    let m = embedder(&folder, 1);
    let both = tealight(["embed", &m, "a cat", "a dog sat"]).quietly();
    let lines: Vec<&str> = both.lines().collect();
    assert!(lines.len() == 2 && lines[0] != lines[1] && numbers(lines[0]).len() == numbers(lines[1]).len());
    let piped = piped(["embed", &m], b"a cat\r\na dog sat\n").quietly();
    assert_eq!(piped, both, "each line of standard input is a text");
    let dash = super::piped(["embed", &m, "-"], b"a cat\na dog sat").quietly();
    assert_eq!(dash, both);
    let by_flag = tealight(["embed", "-m", &m, "a cat", "a dog sat"]).quietly();
    assert_eq!(by_flag, both);
    let alone = tealight(["embed", &m, "a cat"]).quietly();
    let far = numbers(alone.trim()).iter().zip(numbers(lines[0])).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 1e-4, "{far}");
    let unit = numbers(tealight(["embed", &m, "a cat", "--normalize"]).quietly().trim());
    assert!((unit.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    let many: String = (0..150).map(|i| format!("text {i}\n")).collect();
    assert_eq!(super::piped(["embed", &m], many.as_bytes()).quietly().lines().count(), 150);
}

#[test]
fn json_is_what_programs_read() {
    let folder = TempDir::new("embed-json");
    let m = embedder(&folder, 3);
    let text = tealight(["embed", &m, "--json", "--normalize", "a cat", "a dog"]).quietly();
    let json: Json = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["object"], &json["model"]), (&Json::from("list"), &Json::from("embedder.gguf")));
    let lines = tealight(["embed", &m, "--normalize", "a cat", "a dog"]).quietly();
    for (i, line) in lines.lines().enumerate() {
        let one = &json["data"][i];
        assert_eq!((&one["object"], &one["index"]), (&Json::from("embedding"), &Json::from(i)));
        let vector: Vec<f32> =
            one["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        assert_eq!(vector, numbers(line));
    }
    assert!(json["usage"]["prompt_tokens"].as_u64().unwrap() >= 4);
    assert_eq!(json["usage"]["prompt_tokens"], json["usage"]["total_tokens"]);
    let each = tealight(["embed", &m, "--json", "--pooling", "none", "a cat"]).quietly();
    let each: Json = serde_json::from_str(&each).unwrap();
    let n_token = each["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    assert_eq!(each["data"][0]["embedding"].as_array().unwrap().len(), n_token);
    assert!(each["data"][0]["embedding"][0].is_array());
}

#[test]
fn poolings_differ_and_a_model_of_text_needs_one() {
    let folder = TempDir::new("embed-pooling");
    let (m, last) = (model("qwen3"), embedder(&folder, 3));
    let error = tealight(["embed", &m, "a cat"]).error(2);
    assert!(error.contains("writes text") && error.contains("--pooling"), "{error}");
    let chosen = tealight(["embed", &m, "--pooling", "last", "a cat"]).quietly();
    assert_eq!(chosen, tealight(["embed", &last, "a cat"]).quietly());
    assert_ne!(chosen, tealight(["embed", &last, "--pooling", "mean", "a cat"]).quietly());
    assert_ne!(chosen, tealight(["embed", &last, "--pooling", "cls", "a cat"]).quietly());
    let error = tealight(["run", &last, "hi"]).error(3);
    assert!(error.contains("writes no text") && error.contains("tealight embed"), "{error}");
    let error = tealight(["embed", &embedder(&folder, 4), "hi"]).error(3);
    assert!(error.contains("qwen3.pooling_type"), "{error}");
}

#[test]
fn what_cannot_be_a_vector_is_said() {
    let folder = TempDir::new("embed-wrong");
    let m = embedder(&folder, 1);
    let error = tealight(["embed", &m, "a cat", ""]).error(2);
    assert!(error.contains("text 2 has no tokens"), "{error}");
    let error = piped(["embed", &m], b"").error(2);
    assert!(error.contains("no text"), "{error}");
    let error = piped(["embed", &m], ("x\n".repeat(70) + &"word ".repeat(2000)).as_bytes());
    assert_eq!(error.code, Some(2));
    assert!(error.stderr.contains("text 71 has") && error.stderr.contains("the model takes"), "{}", error.stderr);
    let error = tealight(["embed", &m, "--pooling", "sum", "hi"]).error(2);
    assert!(error.contains("mean"), "{error}");
    assert!(tealight::<&str>(["embed"]).error(2).contains("no model"));
}

/// Texts through the vocabularies of the fixtures: the tokens of `expect.json` are those of its texts.
#[test]
fn encoders_read_their_own_texts() {
    let Some(fixtures) = shared("fixtures") else { return };
    for name in ["bert", "roberta", "xlm-roberta", "nomic-bert", "modernbert", "gemma-embedding"] {
        let folder = fixtures.join(name);
        let expect = read_json(&folder.join("expect.json"));
        let path = folder.join("model.gguf").to_string_lossy().into_owned();
        let one = &expect["tokenization"][0];
        let json = tealight(["embed", &path, "--exact", "--json", one["text"].as_str().unwrap()]).quietly();
        let json: Json = serde_json::from_str(&json).unwrap();
        let ids = tokens(&one["ids"]);
        assert_eq!(json["usage"]["prompt_tokens"].as_u64(), Some(ids.len() as u64), "{name}");
        let options = tealight::ModelOptions::default().with_exact(true);
        let model = tealight::Model::open(&path, &options).unwrap();
        let want = model.embed_tokens(&[ids], &tealight::EmbedOptions::default()).unwrap();
        let got: Vec<f32> =
            json["data"][0]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        assert_eq!(got, want[0].vectors[0], "{name}");
    }
}
