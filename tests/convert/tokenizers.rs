//! Tokenizers of folders: what each form becomes, and that a real one comes back as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tealight::convert::{ConvertOptions, Source};
use tealight::gguf::{Gguf, KeyValue};

use crate::common;
use crate::folder::Folder;

fn texts(source: &Source, key: &str) -> Vec<String> {
    match source.value(key) {
        Some(KeyValue::Array { items, .. }) => items.iter().map(text).collect(),
        other => panic!("{key}: {other:?}"),
    }
}

fn text(value: &KeyValue) -> String {
    match value {
        KeyValue::Str(bytes) => String::from_utf8(bytes.clone()).expect("UTF-8"),
        other => panic!("{other:?}"),
    }
}

fn open(folder: &Folder) -> Source {
    folder.open().unwrap_or_else(|e| panic!("{e}: {:?}", e.hint()))
}

#[test]
fn merges_come_in_both_forms_and_rows_without_a_token_are_filled() {
    let mut folder = Folder::new("merges");
    folder.tokenizer["model"]["merges"] = json!([["a", "b"], ["a b", "c"]]);
    folder.tokenizer["added_tokens"] = json!([]);
    folder.write("special_tokens_map.json", r#"{"pad_token": {"content": "ab"}}"#);
    folder.write("generation_config.json", r#"{"eos_token_id": [2, 1], "temperature": 0.5, "top_k": 7}"#);
    let source = open(&folder);
    assert_eq!(texts(&source, "tokenizer.ggml.merges"), ["a b", "a\u{120}b c"]);
    assert_eq!(texts(&source, "tokenizer.ggml.tokens"), ["a", "b", "ab", "[PAD3]"]);
    assert_eq!(source.value("tokenizer.ggml.token_type"), Some(&KeyValue::from(vec![1i32, 1, 1, 5])));
    assert_eq!(source.value("tokenizer.ggml.padding_token_id"), Some(&KeyValue::U32(2)));
    assert_eq!(source.value("tokenizer.ggml.eos_token_id"), None);
    assert_eq!(source.value("general.sampling.temp"), Some(&KeyValue::F32(0.5)));
    assert_eq!(source.value("general.sampling.top_k"), Some(&KeyValue::I32(7)));
}

#[test]
fn a_pre_tokenizer_that_is_not_known_can_be_named() {
    let mut folder = Folder::new("pre");
    folder.tokenizer["pre_tokenizer"] = json!({"type": "Whitespace"});
    let e = folder.error();
    assert!(e.to_string().contains("tokenizer.json") && e.to_string().contains("Whitespace"), "{e}");
    assert!(e.hint().is_some_and(|h| h.contains("--override-kv tokenizer.ggml.pre=str:NAME")), "{:?}", e.hint());
    let source = folder.open_with(&ConvertOptions::new().set("tokenizer.ggml.pre", "qwen2")).expect("named by hand");
    assert_eq!(source.value("tokenizer.ggml.pre"), Some(&KeyValue::from("qwen2")));
}

#[test]
fn merges_with_byte_tokens_are_sentencepiece() {
    let mut folder = Folder::new("spm");
    folder.tokenizer = json!({
        "added_tokens": [{"id": 0, "content": "<unk>", "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]},
        "model": {"type": "BPE", "byte_fallback": true, "vocab": {"<unk>": 0, "<0x0A>": 1, "a": 2, "aa": 3},
            "merges": [["a", "a"]]}});
    let source = open(&folder);
    assert_eq!(source.value("tokenizer.ggml.model"), Some(&KeyValue::from("llama")));
    assert_eq!(source.value("tokenizer.ggml.token_type"), Some(&KeyValue::from(vec![3i32, 6, 1, 1])));
    assert_eq!(source.value("tokenizer.ggml.scores"), Some(&KeyValue::from(vec![-1000.0f32, 0.0, 0.0, -1.0])));
    assert_eq!(source.value("tokenizer.ggml.add_space_prefix"), Some(&KeyValue::Bool(false)));
}

#[test]
fn word_pieces_carry_their_mark_at_the_beginning() {
    let mut folder = Folder::new("wordpiece");
    folder.tokenizer = json!({
        "added_tokens": [{"id": 0, "content": "[CLS]", "special": true}],
        "normalizer": {"type": "BertNormalizer", "lowercase": false},
        "model": {"type": "WordPiece", "vocab": {"[CLS]": 0, "un": 1, "##do": 2, "x": 3}}});
    let source = open(&folder);
    assert_eq!(source.value("tokenizer.ggml.model"), Some(&KeyValue::from("bert")));
    assert_eq!(texts(&source, "tokenizer.ggml.tokens"), ["[CLS]", "\u{2581}un", "do", "\u{2581}x"]);
    assert_eq!(source.value("tokenizer.ggml.normalizer.lowercase"), Some(&KeyValue::Bool(false)));
}

#[test]
fn unigram_models_keep_scores_and_replacements() {
    let mut folder = Folder::new("unigram");
    folder.tokenizer = json!({
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAEC"},
        "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "always"},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.5], ["b", -2.0], ["ab", -1.0]]}});
    let source = open(&folder);
    assert_eq!(source.value("tokenizer.ggml.model"), Some(&KeyValue::from("t5")));
    assert_eq!(source.value("tokenizer.ggml.scores"), Some(&KeyValue::from(vec![0.0f32, -1.5, -2.0, -1.0])));
    assert_eq!(source.value("tokenizer.ggml.token_type"), Some(&KeyValue::from(vec![2i32, 1, 1, 1])));
    assert_eq!(source.value("tokenizer.ggml.precompiled_charsmap"), Some(&KeyValue::from(vec![0u8, 1, 2])));
    assert_eq!(source.value("tokenizer.ggml.add_space_prefix"), Some(&KeyValue::Bool(true)));
}

#[test]
fn templates_come_from_all_their_places() {
    let folder = Folder::new("templates");
    folder.write_texts();
    let config = json!({"eos_token": {"content": "<|end|>"}, "add_eos_token": true,
        "chat_template": [{"name": "default", "template": "A"}, {"name": "tool use", "template": "B"}]});
    let open = || {
        folder.write("tokenizer_config.json", config.to_string());
        folder.write("model.safetensors", folder.safetensors(|_| true));
        tealight::convert::open(&folder.path, &ConvertOptions::new()).unwrap_or_else(|e| panic!("{e}"))
    };
    let source = open();
    assert_eq!(source.value("tokenizer.chat_template"), Some(&KeyValue::from("A")));
    assert_eq!(source.value("tokenizer.chat_template.tool_use"), Some(&KeyValue::from("B")));
    assert_eq!(texts(&source, "tokenizer.chat_templates"), ["tool_use"]);
    assert_eq!(source.value("tokenizer.ggml.eos_token_id"), Some(&KeyValue::U32(3)));
    assert_eq!(source.value("tokenizer.ggml.add_eos_token"), Some(&KeyValue::Bool(true)));
    folder.write("chat_template.jinja", "C");
    assert_eq!(open().value("tokenizer.chat_template"), Some(&KeyValue::from("C")));
}

/// A folder with the tokenizer of a real file, as its makers published it, and the smallest weights.
#[test]
fn the_tokenizer_of_smollm2_comes_back_as_it_was() {
    let Some(path) = common::real_model("SmolLM2-135M-Instruct.Q4_1.gguf") else {
        common::skipped("the tokenizer of SmolLM2");
        return;
    };
    let original = Source::of_gguf(&Arc::new(Gguf::open(&path).expect("a good file"))).expect("a good file");
    let tokens = texts(&original, "tokenizer.ggml.tokens");
    let kinds: Vec<i32> = match original.value("tokenizer.ggml.token_type") {
        Some(KeyValue::Array { items, .. }) => {
            items.iter().map(|v| if let KeyValue::I32(n) = v { *n } else { panic!("{v:?}") }).collect()
        }
        other => panic!("{other:?}"),
    };
    let added: Vec<Value> = (0..tokens.len())
        .filter(|&i| kinds[i] == 3)
        .map(|i| json!({"id": i, "content": tokens[i], "special": true}))
        .collect();
    let vocab: Map<String, Value> = tokens.iter().enumerate().map(|(i, t)| (t.clone(), json!(i))).collect();
    let mut folder = Folder::new("smollm2");
    folder.bf16("model.embed_tokens.weight", &[tokens.len() as u64, 4]);
    folder.bf16("lm_head.weight", &[tokens.len() as u64, 4]);
    folder.config["vocab_size"] = json!(tokens.len());
    folder.tokenizer = json!({
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "model": {"type": "BPE", "ignore_merges": false, "vocab": vocab,
            "merges": texts(&original, "tokenizer.ggml.merges")}});
    folder.write_texts();
    folder.write("model.safetensors", folder.safetensors(|_| true));
    let special = |key: &str| match original.value(&format!("tokenizer.ggml.{key}_token_id")) {
        Some(KeyValue::U32(id)) => tokens[*id as usize].clone(),
        other => panic!("{key}: {other:?}"),
    };
    let config = json!({
        "bos_token": special("bos"), "eos_token": special("eos"), "unk_token": special("unknown"),
        "pad_token": special("padding"), "add_prefix_space": false,
        "chat_template": text(original.value("tokenizer.chat_template").expect("a template"))});
    folder.write("tokenizer_config.json", config.to_string());
    let source = tealight::convert::open(&folder.path, &ConvertOptions::new()).unwrap_or_else(|e| panic!("{e}"));
    let of = |s: &Source| -> BTreeMap<String, KeyValue> {
        s.metadata.iter().filter(|(k, _)| k.starts_with("tokenizer.")).cloned().collect()
    };
    let (ours, want) = (of(&source), of(&original));
    for (key, value) in &want {
        let short = |v: Option<&KeyValue>| format!("{v:?}").chars().take(200).collect::<String>();
        assert_eq!(short(ours.get(key)), short(Some(value)), "{key}");
        // Whether that file's converter wrote `add_space_prefix` is its own matter.
        assert!(ours.get(key) == Some(value), "{key}");
    }
    let more: Vec<_> = ours.keys().filter(|k| !want.contains_key(*k)).collect();
    assert!(
        more.iter().all(|k| ["tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_bos_token"].contains(&k.as_str())),
        "{more:?}"
    );
}
