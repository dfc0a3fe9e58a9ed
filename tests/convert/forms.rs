//! Forms of folders that published models have and the fixtures do not: each becomes a file that loads.

mod state;

use serde_json::{Value, json};
use tealight::convert::{ConvertOptions, Source};
use tealight::gguf::KeyValue;
use tealight::{Model, ModelOptions};

use crate::folder::{Folder, numbers};
use crate::run::write;

/// A folder with this configuration and these tensors alone.
fn folder(label: &str, config: Value, tensors: &[(&str, &[u64])]) -> Folder {
    let mut folder = Folder::new(label);
    folder.config = config;
    folder.tensors.clear();
    tensors.iter().for_each(|(name, shape)| folder.bf16(name, shape));
    folder
}

fn opened(folder: &Folder) -> Source {
    folder.open().unwrap_or_else(|e| panic!("{e}: {:?}", e.hint()))
}

/// Converts a folder, and opens what comes out as a model.
fn loaded(folder: &Folder) -> Source {
    let source = opened(folder);
    let file = folder.path.join("out.gguf");
    write(&source, &file);
    Model::open(&file, &ModelOptions::default().with_threads(1)).unwrap_or_else(|e| panic!("{e}: {:?}", e.hint()));
    source
}

#[track_caller]
fn has(source: &Source, key: &str, value: impl Into<KeyValue>) {
    assert_eq!(source.value(key), Some(&value.into()), "{key}");
}

#[track_caller]
fn refused(folder: &Folder, parts: &[&str]) {
    let text = folder.error().to_string();
    parts.iter().for_each(|part| assert!(text.contains(part), "found {text:?}, expected {part:?}"));
}

/// Shapes of a tensor in all of `n` layers, where `{}` is the layer.
fn in_layers<'a>(n: u32, names: &[(&str, &'a [u64])]) -> Vec<(String, &'a [u64])> {
    (0..n).flat_map(|i| names.iter().map(move |(name, shape)| (name.replace("{}", &i.to_string()), *shape))).collect()
}

fn add(folder: &mut Folder, tensors: &[(String, &[u64])]) {
    tensors.iter().for_each(|(name, shape)| folder.bf16(name, shape));
}

/// Merges of characters with tokens for bytes, as Gemma has them.
fn gemma_tokenizer(folder: &mut Folder) {
    folder.tokenizer = json!({
        "added_tokens": [{"id": 3, "content": "<|end|>", "special": true}],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "model": {"type": "BPE", "byte_fallback": true, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}});
}

/// Gemma 4 as published: the text part inside, full layers with their own heads and without values.
fn gemma4(label: &str) -> Folder {
    let text = json!({
        "model_type": "gemma4_text", "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 4, "global_head_dim": 8,
        "num_global_key_value_heads": 1, "attention_k_eq_v": true, "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": 0, "enable_moe_block": false, "num_experts": null, "top_k_experts": null,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "sliding_window": 8,
        "use_bidirectional_attention": "vision", "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh", "final_logit_softcapping": 30.0, "vocab_size": 4,
        "rope_parameters": {
            "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1e6, "rope_type": "proportional"},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}});
    let config = json!({"architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
        "text_config": text, "vision_config": {"hidden_size": 16, "num_hidden_layers": 99, "head_dim": 99}});
    let at = "model.language_model.";
    let mut made = folder(label, config, &[("model.vision_tower.patch.weight", &[2, 4])]);
    gemma_tokenizer(&mut made);
    made.bf16(&format!("{at}embed_tokens.weight"), &[4, 4]);
    made.bf16(&format!("{at}norm.weight"), &[4]);
    for i in 0..3 {
        // 1, as a tensor of one number: others begin with 0.
        made.tensors.insert(format!("{at}layers.{i}.layer_scalar"), ("BF16", vec![1], vec![0x80, 0x3f]));
        let (dim, kv) = if i == 2 { (8, 1) } else { (4, 2) };
        let mut put = |name: &str, shape: &[u64]| made.bf16(&format!("{at}layers.{i}.{name}"), shape);
        for norm in ["input", "post_attention", "pre_feedforward", "post_feedforward"] {
            put(&format!("{norm}_layernorm.weight"), &[4]);
        }
        put("self_attn.q_proj.weight", &[2 * dim, 4]);
        put("self_attn.k_proj.weight", &[kv * dim, 4]);
        if i < 2 {
            put("self_attn.v_proj.weight", &[kv * dim, 4]);
        }
        put("self_attn.o_proj.weight", &[4, 2 * dim]);
        put("self_attn.q_norm.weight", &[dim]);
        put("self_attn.k_norm.weight", &[dim]);
        put("mlp.gate_proj.weight", &[8, 4]);
        put("mlp.up_proj.weight", &[8, 4]);
        put("mlp.down_proj.weight", &[4, 8]);
    }
    made
}

#[test]
fn gemma_4_as_published_has_heads_by_layer() {
    let mut made = gemma4("gemma4");
    let source = loaded(&made);
    has(&source, "general.architecture", "gemma4");
    has(&source, "tokenizer.ggml.model", "gemma4");
    has(&source, "gemma4.attention.key_length", 8u32);
    has(&source, "gemma4.attention.key_length_swa", 4u32);
    has(&source, "gemma4.attention.head_count_kv", vec![2i32, 2, 1]);
    has(&source, "gemma4.rope.dimension_count", 8u32);
    has(&source, "gemma4.rope.dimension_count_swa", 4u32);
    has(&source, "gemma4.rope.freq_base_swa", 1e4f32);
    has(&source, "gemma4.attention.sliding_window_pattern", vec![true, true, false]);
    assert_eq!(source.value("gemma4.expert_count"), None);
    assert_eq!(numbers(&source, "rope_freqs.weight"), [1.0, 1e30, 1e30, 1e30]);
    assert!(source.notes.iter().any(|n| n.starts_with("1 tensors for images")), "{:?}", source.notes);

    // The same in the words of later versions of transformers.
    let text = &mut made.config["text_config"];
    text["per_layer_config"] = json!({"2": {"head_dim": 8, "num_key_value_heads": 1}});
    text["global_head_dim"] = json!(null);
    assert_eq!(opened(&made).metadata, source.metadata);
    made.config["text_config"]["per_layer_config"]["2"]["sliding_window"] = json!(4);
    refused(&made, &["config.json", "per_layer_config.2.sliding_window", "found 4"]);
    made.config["text_config"]["per_layer_config"] = json!({"7": {"head_dim": 8}});
    refused(&made, &["per_layer_config.7", "below 3"]);
    made.config["text_config"]["per_layer_config"] = json!({"1": {"head_dim": 8}, "2": {"head_dim": 8}});
    refused(&made, &["per_layer_config", "heads of width 8 and 4"]);
}

#[test]
fn gemma_4_takes_for_granted_what_its_class_does() {
    let mut made = gemma4("gemma4-silent");
    let text = &mut made.config["text_config"];
    // Without experts' or sharing's switch, keys are no values and the other number of heads is not used.
    for key in ["rope_parameters", "enable_moe_block", "use_bidirectional_attention", "attention_k_eq_v"] {
        text[key] = json!(null);
    }
    let source = opened(&made);
    has(&source, "gemma4.attention.head_count_kv", 2u32);
    has(&source, "gemma4.rope.freq_base", 1e6f32);
    assert_eq!(numbers(&source, "rope_freqs.weight"), [1.0, 1e30, 1e30, 1e30]);
    made.config["text_config"]["rope_parameters"] =
        json!({"full_attention": {"rope_type": "default", "rope_theta": 2e6}});
    let source = opened(&made);
    has(&source, "gemma4.rope.freq_base", 2e6f32);
    assert_eq!(numbers(&source, "rope_freqs.weight"), [1.0; 4]);
    made.config["text_config"]["use_bidirectional_attention"] = json!("all");
    refused(&made, &["use_bidirectional_attention", "found \"all\""]);
    made.config["text_config"]["use_bidirectional_attention"] = json!(null);
    made.config["text_config"]["layer_types"] = json!(["sliding_attention", "full_attention", "sliding_attention"]);
    refused(&made, &["layer_types", "a window for the last layer"]);
    made.config["text_config"]["layer_types"] = json!(["sliding_attention", "sliding_attention", "full_attention"]);
    made.config["text_config"]["rope_parameters"] = json!({"full_attention": {"rope_type": "default"},
        "sliding_attention": {"rope_type": "yarn", "factor": 2.0}});
    refused(&made, &["rope_parameters.sliding_attention.rope_type", "yarn"]);
}

#[test]
fn gemma_4_doubles_the_width_of_layers_that_share() {
    let mut made = gemma4("gemma4-wide");
    made.config["text_config"]["use_double_wide_mlp"] = json!(true);
    made.config["text_config"]["num_kv_shared_layers"] = json!(1);
    has(&opened(&made), "gemma4.feed_forward_length", vec![8i32, 8, 16]);
    made.config["text_config"]["num_kv_shared_layers"] = json!(0);
    has(&opened(&made), "gemma4.feed_forward_length", vec![8i32, 8, 8]);
}

/// Gemma 3n as published: matrices in layers that share, more tokens than the table by layer has.
fn gemma3n(label: &str) -> Folder {
    let config = json!({
        "architectures": ["Gemma3nForConditionalGeneration"],
        "text_config": {
            "hidden_size": 4, "intermediate_size": [8, 8], "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 4, "hidden_size_per_layer_input": 2, "vocab_size": 4,
            "vocab_size_per_layer_input": 3, "num_kv_shared_layers": 1, "altup_num_inputs": 3, "altup_active_idx": 1,
            "altup_correct_scale": true, "laurel_rank": 2, "activation_sparsity_pattern": [0.95, 0.0],
            "layer_types": ["full_attention", "full_attention"], "sliding_window": 8, "rope_theta": 2e6,
            "rope_local_base_freq": 5e3, "rope_scaling": null, "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
            "hidden_activation": "gelu_pytorch_tanh", "final_logit_softcapping": 20.0}});
    let mut made = folder(
        label,
        config,
        &[
            ("model.audio_tower.conv.weight", &[2, 2]),
            ("model.embed_vision.embedding.weight", &[2, 2]),
            ("model.language_model.embed_tokens.weight", &[4, 4]),
            ("model.language_model.embed_tokens_per_layer.weight", &[3, 4]),
            ("model.language_model.norm.weight", &[4]),
            ("model.language_model.altup_projections.0.weight", &[4, 4]),
            ("model.language_model.altup_projections.1.weight", &[4, 4]),
            ("model.language_model.altup_unembed_projections.0.weight", &[4, 4]),
            ("model.language_model.altup_unembed_projections.1.weight", &[4, 4]),
            ("model.language_model.per_layer_model_projection.weight", &[4, 4]),
            ("model.language_model.per_layer_projection_norm.weight", &[2]),
        ],
    );
    gemma_tokenizer(&mut made);
    let layers = in_layers(
        2,
        &[
            ("model.language_model.layers.{}.altup.correct_output_scale", &[4]),
            ("model.language_model.layers.{}.altup.correction_coefs.weight", &[3, 3]),
            ("model.language_model.layers.{}.altup.prediction_coefs.weight", &[9, 3]),
            ("model.language_model.layers.{}.altup.modality_router.weight", &[3, 4]),
            ("model.language_model.layers.{}.altup.router_norm.weight", &[4]),
            ("model.language_model.layers.{}.laurel.linear_left.weight", &[2, 4]),
            ("model.language_model.layers.{}.laurel.linear_right.weight", &[4, 2]),
            ("model.language_model.layers.{}.laurel.post_laurel_norm.weight", &[4]),
            ("model.language_model.layers.{}.per_layer_input_gate.weight", &[2, 4]),
            ("model.language_model.layers.{}.per_layer_projection.weight", &[4, 2]),
            ("model.language_model.layers.{}.post_per_layer_input_norm.weight", &[4]),
            ("model.language_model.layers.{}.input_layernorm.weight", &[4]),
            ("model.language_model.layers.{}.post_attention_layernorm.weight", &[4]),
            ("model.language_model.layers.{}.pre_feedforward_layernorm.weight", &[4]),
            ("model.language_model.layers.{}.post_feedforward_layernorm.weight", &[4]),
            ("model.language_model.layers.{}.self_attn.q_proj.weight", &[8, 4]),
            ("model.language_model.layers.{}.self_attn.k_proj.weight", &[4, 4]),
            ("model.language_model.layers.{}.self_attn.v_proj.weight", &[4, 4]),
            ("model.language_model.layers.{}.self_attn.o_proj.weight", &[4, 8]),
            ("model.language_model.layers.{}.self_attn.q_norm.weight", &[4]),
            ("model.language_model.layers.{}.self_attn.k_norm.weight", &[4]),
            ("model.language_model.layers.{}.mlp.gate_proj.weight", &[8, 4]),
            ("model.language_model.layers.{}.mlp.up_proj.weight", &[8, 4]),
            ("model.language_model.layers.{}.mlp.down_proj.weight", &[4, 8]),
        ],
    );
    add(&mut made, &layers);
    made
}

#[test]
fn gemma_3n_as_published_fills_its_table_and_keeps_what_sharing_layers_have() {
    let mut made = gemma3n("gemma3n");
    let source = loaded(&made);
    has(&source, "gemma3n.rope.freq_base", 2e6f32);
    has(&source, "gemma3n.rope.freq_base_swa", 5e3f32);
    has(&source, "gemma3n.altup.num_inputs", 3u32);
    has(&source, "gemma3n.altup.active_idx", 1u32);
    has(&source, "gemma3n.activation_sparsity_scale", vec![1.6448535f32, f32::NEG_INFINITY]);
    let rows = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 0.0, 0.25, 0.5, 0.75];
    assert_eq!(numbers(&source, "per_layer_token_embd.weight"), rows);
    assert!(source.tensors.iter().any(|t| t.name == "blk.1.attn_v.weight"));
    let model = Model::open(made.path.join("out.gguf"), &ModelOptions::default().with_threads(1)).expect("a model");
    let plan = model.plan(16).expect("its plan").to_string();
    assert!(plan.contains("layer 1 uses the keys and values of layer 0"), "{plan}");
    let stack = source.tensors.iter().find(|t| t.name == "altup_proj.weight").expect("a stack");
    assert_eq!(stack.shape, [2, 4, 4]);

    made.config["text_config"]["activation_sparsity_pattern"] = json!(0.9);
    has(&opened(&made), "gemma3n.activation_sparsity_scale", vec![1.2815515f32; 2]);
    made.config["text_config"]["activation_sparsity_pattern"] = json!(null);
    has(&opened(&made), "gemma3n.activation_sparsity_scale", vec![f32::NEG_INFINITY; 2]);
    made.config["text_config"]["activation_sparsity_pattern"] = json!([0.95, 1.0]);
    refused(&made, &["activation_sparsity_pattern", "2 shares of 0 up to 1"]);
    made.config["text_config"]["activation_sparsity_pattern"] = json!([0.95]);
    refused(&made, &["activation_sparsity_pattern"]);
    made.config["text_config"]["activation_sparsity_pattern"] = json!(0.9);
    made.config["text_config"]["intermediate_size"] = json!([8]);
    refused(&made, &["intermediate_size", "1 widths"]);
    made.config["text_config"]["intermediate_size"] = json!(8);
    has(&opened(&made), "gemma3n.feed_forward_length", 8u32);
    made.config["text_config"]["altup_correct_scale"] = json!(false);
    refused(&made, &["altup_correct_scale", "found false"]);
}

#[test]
fn falcons_of_both_forms_and_of_the_first_class_are_read() {
    // 7B: the number of heads says nothing beside `multi_query`.
    let config = json!({
        "architectures": ["RWForCausalLM"], "hidden_size": 8, "n_layer": 1, "n_head": 2, "num_kv_heads": 2,
        "multi_query": true, "alibi": false, "parallel_attn": true, "bias": false, "layer_norm_epsilon": 1e-5,
        "apply_residual_connection_post_layernorm": false, "vocab_size": 4});
    let shapes: &[(&str, &[u64])] = &[
        ("transformer.word_embeddings.weight", &[4, 8]),
        ("lm_head.weight", &[4, 8]),
        ("transformer.ln_f.weight", &[8]),
        ("transformer.ln_f.bias", &[8]),
        ("transformer.h.0.input_layernorm.weight", &[8]),
        ("transformer.h.0.input_layernorm.bias", &[8]),
        ("transformer.h.0.self_attention.query_key_value.weight", &[16, 8]),
        ("transformer.h.0.self_attention.dense.weight", &[8, 8]),
        ("transformer.h.0.mlp.dense_h_to_4h.weight", &[32, 8]),
        ("transformer.h.0.mlp.dense_4h_to_h.weight", &[8, 32]),
    ];
    let mut made = folder("falcon", config, shapes);
    let source = loaded(&made);
    has(&source, "falcon.attention.head_count_kv", 1u32);
    has(&source, "falcon.context_length", 2048u32);
    has(&source, "falcon.feed_forward_length", 32u32);
    assert!(source.notes.iter().any(|n| n.contains("lm_head.weight")), "{:?}", source.notes);
    for (key, value) in [("alibi", json!(true)), ("parallel_attn", json!(false)), ("activation", json!("relu"))] {
        let before = std::mem::replace(&mut made.config[key], value);
        refused(&made, &[key]);
        made.config[key] = before;
    }

    // 40B and 11B: two groups of two queries; one norm for both branches is 11B's.
    made.config["new_decoder_architecture"] = json!(true);
    made.config["n_head"] = json!(4);
    made.config["n_head_kv"] = json!(2);
    made.config["num_kv_heads"] = json!(null);
    let source = loaded(&made);
    has(&source, "falcon.attention.head_count_kv", 2u32);
    // Rows of a group: two queries of two rows, a key, a value; the first number of row r is 2 r.
    let firsts: Vec<f32> = numbers(&source, "blk.0.attn_qkv.weight").chunks(8).map(|row| row[0] / 2.0).collect();
    assert_eq!(firsts, [0., 1., 2., 3., 8., 9., 10., 11., 4., 5., 12., 13., 6., 7., 14., 15.]);
}

/// ChatGLM with rotations of another base.
fn chatglm(label: &str) -> Folder {
    let config = json!({
        "architectures": ["ChatGLMForConditionalGeneration"], "hidden_size": 8, "num_layers": 1,
        "num_attention_heads": 2, "ffn_hidden_size": 12, "kv_channels": 8, "multi_query_attention": true,
        "multi_query_group_num": 1, "layernorm_epsilon": 1e-5, "padded_vocab_size": 4, "seq_length": 64,
        "rope_ratio": 500, "rmsnorm": true, "post_layer_norm": true, "add_qkv_bias": true,
        "tie_word_embeddings": false});
    folder(
        label,
        config,
        &[
            ("transformer.embedding.word_embeddings.weight", &[4, 8]),
            ("transformer.encoder.final_layernorm.weight", &[8]),
            ("transformer.output_layer.weight", &[4, 8]),
            ("transformer.rotary_pos_emb.inv_freq", &[2]),
            ("transformer.encoder.layers.0.input_layernorm.weight", &[8]),
            ("transformer.encoder.layers.0.post_attention_layernorm.weight", &[8]),
            ("transformer.encoder.layers.0.self_attention.query_key_value.weight", &[32, 8]),
            ("transformer.encoder.layers.0.self_attention.query_key_value.bias", &[32]),
            ("transformer.encoder.layers.0.self_attention.dense.weight", &[8, 16]),
            ("transformer.encoder.layers.0.mlp.dense_h_to_4h.weight", &[24, 8]),
            ("transformer.encoder.layers.0.mlp.dense_4h_to_h.weight", &[8, 12]),
        ],
    )
}

#[test]
fn chatglm_multiplies_its_base_and_shares_heads() {
    let mut made = chatglm("chatglm");
    let source = loaded(&made);
    has(&source, "chatglm.rope.freq_base", 5e6f32);
    has(&source, "chatglm.rope.dimension_count", 4u32);
    has(&source, "chatglm.attention.key_length", 8u32);
    has(&source, "chatglm.attention.head_count_kv", 1u32);
    has(&source, "chatglm.context_length", 64u32);
    for (key, value) in [("multi_query_attention", json!(false)), ("rmsnorm", json!(false))] {
        made.config[key] = value;
        refused(&made, &[key, "found false"]);
        made.config[key] = json!(true);
    }
}

#[test]
fn a_vocabulary_of_tiktoken_becomes_merges() {
    let mut made = gemma3n("tiktoken-unknown");
    let convert = |made: &Folder| {
        made.write("config.json", made.config.to_string());
        made.write(
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"3": {"content": "[EOS]", "special": true}}, "eos_token": "[EOS]"}"#,
        );
        made.write("tiktoken.model", "YQ== 0\nYg== 1\nYWI= 2\n");
        made.write("model.safetensors", made.safetensors(|_| true));
        tealight::convert::open(&made.path, &ConvertOptions::new())
    };
    let error = convert(&made).expect_err("no patterns are known");
    assert!(
        error.to_string().contains("tiktoken") && error.hint().is_some_and(|h| h.contains("--override-kv")),
        "{error}"
    );

    made = chatglm("tiktoken");
    let source = convert(&made).unwrap_or_else(|e| panic!("{e}"));
    has(&source, "tokenizer.ggml.pre", "chatglm-bpe");
    has(&source, "tokenizer.ggml.merges", KeyValue::strings(["a b"]));
    has(&source, "tokenizer.ggml.tokens", KeyValue::strings(["a", "b", "ab", "[EOS]"]));
    has(&source, "tokenizer.ggml.eos_token_id", 3u32);
    assert!(source.notes.iter().any(|n| n.contains("`chatglm-bpe`")), "{:?}", source.notes);
    made.write("tiktoken.model", "YQ== 0\nYg== 7\n");
    let error = tealight::convert::open(&made.path, &ConvertOptions::new()).expect_err("no rank 1");
    assert!(error.to_string().contains("tiktoken.model") && error.to_string().contains("line 2"), "{error}");
}

#[test]
fn glm_4_in_the_names_of_transformers_is_chatglm() {
    let config = json!({
        "architectures": ["GlmForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 12, "rms_norm_eps": 1e-5, "rope_theta": 5e6,
        "partial_rotary_factor": 0.5, "attention_bias": true, "max_position_embeddings": 64, "vocab_size": 4,
        "tie_word_embeddings": false});
    let mut shapes: Vec<(String, &[u64])> = Vec::new();
    for (name, shape) in [("q", &[8u64, 8][..]), ("k", &[4, 8]), ("v", &[4, 8])] {
        shapes.push((format!("model.layers.0.self_attn.{name}_proj.weight"), shape));
        shapes.push((format!("model.layers.0.self_attn.{name}_proj.bias"), &shape[..1]));
    }
    let mut made = folder(
        "glm",
        config,
        &[
            ("model.embed_tokens.weight", &[4, 8]),
            ("model.norm.weight", &[8]),
            ("lm_head.weight", &[4, 8]),
            ("model.layers.0.input_layernorm.weight", &[8]),
            ("model.layers.0.post_attention_layernorm.weight", &[8]),
            ("model.layers.0.self_attn.o_proj.weight", &[8, 8]),
            ("model.layers.0.mlp.gate_up_proj.weight", &[24, 8]),
            ("model.layers.0.mlp.down_proj.weight", &[8, 12]),
        ],
    );
    add(&mut made, &shapes);
    let source = loaded(&made);
    has(&source, "general.architecture", "chatglm");
    has(&source, "chatglm.rope.dimension_count", 2u32);
    assert!(source.tensors.iter().any(|t| t.name == "blk.0.ffn_up.weight"));
}
