//! Adapters of PEFT.

use serde_json::json;
use tealight::convert::{ConvertOptions, OutType, Source, open_adapter};
use tealight::gguf::{Gguf, KeyValue};

use crate::common;
use crate::folder::{Folder, numbers};

#[test]
fn an_adapter_becomes_the_file_of_llama_cpp() {
    let Some(fixtures) = common::shared("fixtures") else { return };
    let path = fixtures.join("lora-llama");
    let options = ConvertOptions::new().out(OutType::F32).name("Peft");
    let source = open_adapter(&path.join("peft"), &fixtures.join("llama2-spm/hf"), &options)
        .unwrap_or_else(|e| panic!("{e}: {:?}", e.hint()));
    let file = std::sync::Arc::new(Gguf::open(&path.join("adapter.gguf")).expect("a good file"));
    let want = Source::of_gguf(&file).expect("a good file");
    assert_eq!(source.tensors.len(), want.tensors.len());
    for t in &source.tensors {
        let other = file.tensor(&t.name).unwrap_or_else(|| panic!("{}", t.name));
        assert_eq!((t.ty, &t.shape), (other.ty, &other.shape), "{}", t.name);
        let mut bytes = Vec::new();
        t.rows_bytes(0..t.n_row(), &mut bytes).expect("rows");
        assert_eq!(bytes, file.bytes(other), "{}", t.name);
    }
    for (key, value) in &want.metadata {
        assert_eq!(source.value(key), Some(value), "{key}");
    }
    assert_eq!(source.metadata.len(), want.metadata.len());
}

/// A base and an adapter of its queries, in one folder.
fn adapter(label: &str) -> Folder {
    let mut folder = Folder::new(label);
    folder.tensors.clear();
    folder.config["head_dim"] = json!(4);
    let name = "base_model.model.model.layers.0.self_attn.q_proj";
    folder.bf16(&format!("{name}.lora_A.weight"), &[2, 4]);
    folder.bf16(&format!("{name}.lora_B.weight"), &[8, 2]);
    folder
}

fn open(folder: &Folder, config: serde_json::Value) -> tealight::Result<Source> {
    folder.write_texts();
    folder.write("adapter_config.json", config.to_string());
    folder.write("adapter_model.safetensors", folder.safetensors(|_| true));
    open_adapter(&folder.path, &folder.path, &ConvertOptions::new())
}

#[test]
fn rows_of_b_follow_those_of_the_base() {
    let folder = adapter("lora-rows");
    let source = open(&folder, json!({"lora_alpha": 8, "r": 2, "use_rslora": true})).unwrap_or_else(|e| panic!("{e}"));
    let first: Vec<f32> = numbers(&source, "blk.0.attn_q.weight.lora_b").chunks(2).map(|row| row[0] * 2.0).collect();
    assert_eq!(first, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(source.value("adapter.lora.alpha"), Some(&KeyValue::F32(8.0 * 2f32.sqrt())));
}

#[test]
fn adapters_that_gguf_cannot_say_are_refused() {
    let refused = |folder: &Folder, config, want: &str| {
        let e = open(folder, config).err().unwrap_or_else(|| panic!("{want}: accepted"));
        assert!(e.to_string().contains(want), "found {e}, expected {want}");
    };
    let good = || json!({"lora_alpha": 8, "r": 2});
    let mut folder = adapter("lora-refused");
    refused(&folder, json!({"lora_alpha": 8, "use_dora": true}), "use_dora");
    refused(&folder, json!({"lora_alpha": 8, "alpha_pattern": {"x": 1}}), "alpha_pattern");
    refused(&folder, json!({"r": 2}), "lora_alpha");
    folder.bf16("base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight", &[2, 4]);
    refused(&folder, good(), "layers.7.self_attn.q_proj.lora_A.weight");
    let mut folder = adapter("lora-parts");
    folder.bf16("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 4]);
    refused(&folder, good(), "lora_embedding_A");
    let mut folder = adapter("lora-ranks");
    folder.bf16("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", &[8, 3]);
    refused(&folder, good(), "ranks 2 and 3");
}
