//! Folders that are refused: each says file, key or tensor, and what to do.

use proptest::prelude::*;
use serde_json::json;
use tealight::convert::{self, ConvertOptions};
use tealight::{Error, ErrorKind};

use crate::folder::Folder;

fn says(e: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = e.to_string();
    assert_eq!(e.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "found {text:?}, expected {part:?}");
    }
    assert!(kind == ErrorKind::Usage || e.hint().is_some() || text.contains("expected"), "{text}: no way out");
}

#[test]
fn the_folder_of_the_tests_is_good() {
    let folder = Folder::new("good");
    let source = folder.open().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(source.tensors.len(), 12);
    assert!(source.notes.is_empty(), "{:?}", source.notes);
}

#[test]
fn tensors_that_no_rule_takes_are_refused_by_name() {
    let mut folder = Folder::new("extra");
    folder.bf16("model.layers.0.self_attn.q_lora.weight", &[2, 4]);
    folder.bf16("model.layers.1.mlp.up_proj.weight", &[2, 4]);
    says(
        &folder.error(),
        ErrorKind::Model,
        &["model.layers.0.self_attn.q_lora.weight", "and 1 more", "LlamaForCausalLM"],
    );
}

#[test]
fn eyes_and_tied_heads_are_left_out_and_said() {
    let mut folder = Folder::new("senses");
    folder.bf16("vision_tower.patch.weight", &[2, 4]);
    folder.bf16("model.multi_modal_projector.linear.weight", &[2, 4]);
    folder.bf16("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]);
    folder.config["tie_word_embeddings"] = true.into();
    let source = folder.open().unwrap_or_else(|e| panic!("{e}"));
    assert!(source.notes.iter().any(|n| n.starts_with("2 tensors for images")), "{:?}", source.notes);
    assert!(source.notes.iter().any(|n| n.contains("lm_head.weight")), "{:?}", source.notes);
    assert!(!source.tensors.iter().any(|t| t.name == "output.weight"));

    let mut folder = Folder::new("headless");
    folder.tensors.remove("lm_head.weight");
    let source = folder.open().unwrap_or_else(|e| panic!("{e}"));
    assert!(source.notes.iter().any(|n| n.contains("no head of its own")), "{:?}", source.notes);
}

#[test]
fn layers_that_guess_further_tokens_are_left_out_and_said() {
    let mut folder = Folder::new("next");
    folder.bf16("model.layers.1.eh_proj.weight", &[2, 4]);
    folder.bf16("model.layers.1.self_attn.q_proj.weight", &[4, 4]);
    assert!(folder.error().to_string().contains("no rule"), "without the key they are tensors that nothing takes");
    folder.config["num_nextn_predict_layers"] = json!(1);
    let source = folder.open().unwrap_or_else(|e| panic!("{e}"));
    assert!(source.notes.iter().any(|n| n.starts_with("2 tensors of layers that guess")), "{:?}", source.notes);
    assert_eq!(source.tensors.len(), 12);
}

#[test]
fn what_config_json_lacks_or_lies_about_is_refused_by_key() {
    let cases = [
        ("hidden_size", json!(null), "hidden_size"),
        ("hidden_size", json!("wide"), "hidden_size"),
        ("num_hidden_layers", json!(0), "num_hidden_layers"),
        ("num_hidden_layers", json!(1000000), "num_hidden_layers"),
        ("num_hidden_layers", json!(2), "no tensor of layer 1"),
        ("num_attention_heads", json!(3), "does not fit 3 heads"),
        ("num_key_value_heads", json!(3), "num_key_value_heads"),
        ("max_position_embeddings", json!(-1), "max_position_embeddings"),
        ("architectures", json!([]), "architectures"),
        ("architectures", json!(["LlamaForSequenceClassification"]), "the nearest that can is LlamaForCausalLM"),
        ("rope_scaling", json!({"rope_type": "spiral"}), "rope_scaling.rope_type"),
        ("rope_scaling", json!({"rope_type": "linear"}), "rope_scaling.factor"),
        ("rope_scaling", json!({"rope_type": "linear", "factor": -1}), "rope_scaling.factor"),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8}), "low_freq_factor"),
        ("partial_rotary_factor", json!(1.5), "partial_rotary_factor"),
        ("quantization_config", json!({"quant_method": "gptq"}), "`gptq`"),
    ];
    for (i, (key, value, want)) in cases.into_iter().enumerate() {
        let mut folder = Folder::new(&format!("config{i}"));
        folder.config[key] = value;
        if key == "num_attention_heads" {
            folder.config["num_key_value_heads"] = json!(1);
            folder.config["head_dim"] = json!(2);
        }
        says(&folder.error(), ErrorKind::Model, &[want]);
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let folder = Folder::new("shards");
    let (a, b) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let first = |name: &str| name < "model.layers.0.mlp.up";
    folder.write_texts();
    folder.write(a, folder.safetensors(first));
    folder.write(b, folder.safetensors(|n| !first(n)));
    let index = |name: &str, file: &str| {
        let mut map: serde_json::Map<_, _> =
            folder.tensors.keys().map(|n| (n.clone(), json!(if first(n) { a } else { b }))).collect();
        map.insert(name.into(), json!(file));
        folder.write("model.safetensors.index.json", json!({"weight_map": map}).to_string());
    };
    let open = || convert::open(&folder.path, &ConvertOptions::new());
    let refused = |parts: &[&str]| says(&open().expect_err("refused"), ErrorKind::Model, parts);

    // Without an index the shards' own names say what belongs together.
    assert!(open().is_ok());
    index("lm_head.weight", a);
    assert!(open().is_ok());
    assert!(convert::open(&folder.path.join(b), &ConvertOptions::new()).is_ok());
    index("lm_head.weight", b);
    refused(&["lm_head.weight", b]);
    index("nothing.weight", a);
    refused(&["nothing.weight", a]);
    index("lm_head.weight", "../model-00001-of-00002.safetensors");
    refused(&["weight_map.lm_head.weight", "../model"]);
    folder.write("model.safetensors.index.json", "{\"weight_map\": {}}");
    refused(&["weight_map"]);
    folder.write("model.safetensors.index.json", "{\"weight_map\"");
    refused(&["no valid JSON"]);

    index("lm_head.weight", a);
    folder.write(b, folder.safetensors(|n| !first(n) || n == "lm_head.weight"));
    refused(&["tensor `lm_head.weight` at byte", "is also in", a]);
    std::fs::remove_file(folder.path.join(b)).expect("the shard");
    refused(&[b, "absent"]);
    std::fs::remove_file(folder.path.join("model.safetensors.index.json")).expect("the index");
    refused(&["1 of 2 shards"]);
}

#[test]
fn folders_without_a_model_say_what_is_missing() {
    let folder = Folder::new("missing");
    let open = |name: &str| convert::open(&folder.path.join(name), &ConvertOptions::new()).expect_err("refused");
    says(&open("nowhere"), ErrorKind::Io, &["cannot find"]);
    says(&open(""), ErrorKind::Model, &["config.json"]);
    folder.write("config.json", folder.config.to_string());
    says(&open(""), ErrorKind::Model, &["no safetensors"]);
    folder.write("pytorch_model.bin", "x");
    says(&open(""), ErrorKind::Model, &["pickled"]);
    says(&open("pytorch_model.bin"), ErrorKind::Model, &["neither"]);
    folder.write("model.safetensors", folder.safetensors(|_| true));
    says(&open(""), ErrorKind::Model, &["no tokenizer"]);
    folder.write("config.json", "[1]");
    says(&open(""), ErrorKind::Model, &["expected a JSON object"]);
    folder.write("config.json", "x".repeat(10));
    says(&open(""), ErrorKind::Model, &["no valid JSON"]);
}

#[test]
fn a_file_of_the_folder_stands_for_it() {
    let folder = Folder::new("file");
    folder.open().expect("a good folder");
    let source = convert::open(&folder.path.join("model.safetensors"), &ConvertOptions::new()).expect("its file");
    assert_eq!(source.tensors.len(), 12);
}

#[test]
fn a_file_that_changes_is_noticed() {
    let folder = Folder::new("changes");
    let source = folder.open().expect("a good folder");
    source.check_unchanged().expect("nobody has written");
    let file = folder.path.join("model.safetensors");
    let mut bytes = std::fs::read(&file).expect("the file");
    bytes.extend([0; 8]);
    std::fs::write(&file, bytes).expect("the file");
    assert_eq!(source.check_unchanged().err().map(|e| e.kind()), Some(ErrorKind::Io));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a byte of a folder's files becomes, there is an answer, and all rows of what is accepted can be read.
    #[test]
    fn damaged_folders_never_panic(edits in prop::collection::vec((0usize..4, 0usize..4096, any::<u8>()), 1..4)) {
        let mut folder = Folder::new("damage");
        folder.config["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
            "high_freq_factor": 4, "original_max_position_embeddings": 16});
        let mut files = [
            ("config.json", folder.config.to_string().into_bytes()),
            ("tokenizer.json", folder.tokenizer.to_string().into_bytes()),
            ("generation_config.json", br#"{"eos_token_id": [1, 2], "temperature": 0.6}"#.to_vec()),
            ("model.safetensors", folder.safetensors(|_| true)),
        ];
        for (file, at, value) in edits {
            let bytes = &mut files[file].1;
            let n = bytes.len();
            // Digits are likelier to give a file that is read further.
            bytes[at % n] = if value < 128 { b'0' + value % 10 } else { value };
        }
        for (name, bytes) in &files {
            folder.write(name, bytes);
        }
        if let Ok(source) = convert::open(&folder.path, &ConvertOptions::new()) {
            for t in &source.tensors {
                t.rows_bytes(0..t.n_row(), &mut Vec::new()).expect("its rows");
            }
        }
    }
}
