//! The same for families whose layers keep a state, their kin without states, and Apertus.

use serde_json::json;
use tealight::convert::{ConvertOptions, OutType};
use tealight::{Model, ModelOptions};

use super::{add, folder, has, in_layers, loaded, opened, refused};
use crate::folder::{Folder, numbers};
use crate::run::write;

/// Kimi Linear as published: layers counted from 1, no kinds by name.
fn kimi(label: &str) -> Folder {
    let config = json!({
        "architectures": ["KimiLinearForCausalLM"], "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 72, "kv_lora_rank": 4, "q_lora_rank": null,
        "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 4, "mla_use_nope": true, "model_max_length": 64,
        "linear_attn_config": {"full_attn_layers": [2], "kda_layers": [1], "head_dim": 4, "num_heads": 2,
            "short_conv_kernel_size": 4},
        "first_k_dense_replace": 1, "moe_intermediate_size": 4, "moe_layer_freq": 1, "moe_renormalize": true,
        "moe_router_activation_func": "sigmoid", "num_expert_group": 1, "topk_group": 1, "num_experts": 2,
        "num_experts_per_token": 1, "num_shared_experts": 1, "num_nextn_predict_layers": 0, "rms_norm_eps": 1e-5,
        "rope_scaling": null, "rope_theta": 10000.0, "routed_scaling_factor": 2.446, "use_grouped_topk": true,
        "hidden_act": "silu", "tie_word_embeddings": false, "vocab_size": 4});
    let mut made = folder(
        label,
        config,
        &[
            ("model.embed_tokens.weight", &[4, 4]),
            ("model.norm.weight", &[4]),
            ("lm_head.weight", &[4, 4]),
            ("model.layers.0.input_layernorm.weight", &[4]),
            ("model.layers.0.post_attention_layernorm.weight", &[4]),
            ("model.layers.0.self_attn.A_log", &[1, 1, 2, 1]),
            ("model.layers.0.self_attn.dt_bias", &[8]),
            ("model.layers.0.self_attn.b_proj.weight", &[2, 4]),
            ("model.layers.0.self_attn.f_a_proj.weight", &[4, 4]),
            ("model.layers.0.self_attn.f_b_proj.weight", &[8, 4]),
            ("model.layers.0.self_attn.g_a_proj.weight", &[4, 4]),
            ("model.layers.0.self_attn.g_b_proj.weight", &[8, 4]),
            ("model.layers.0.self_attn.o_norm.weight", &[4]),
            ("model.layers.0.self_attn.o_proj.weight", &[4, 8]),
            ("model.layers.0.mlp.gate_proj.weight", &[8, 4]),
            ("model.layers.0.mlp.up_proj.weight", &[8, 4]),
            ("model.layers.0.mlp.down_proj.weight", &[4, 8]),
            ("model.layers.1.input_layernorm.weight", &[4]),
            ("model.layers.1.post_attention_layernorm.weight", &[4]),
            ("model.layers.1.self_attn.q_proj.weight", &[12, 4]),
            ("model.layers.1.self_attn.kv_a_proj_with_mqa.weight", &[6, 4]),
            ("model.layers.1.self_attn.kv_a_layernorm.weight", &[4]),
            ("model.layers.1.self_attn.kv_b_proj.weight", &[16, 4]),
            ("model.layers.1.self_attn.o_proj.weight", &[4, 8]),
            ("model.layers.1.block_sparse_moe.gate.weight", &[2, 4]),
            ("model.layers.1.block_sparse_moe.gate.e_score_correction_bias", &[2]),
        ],
    );
    for x in ["q", "k", "v"] {
        made.bf16(&format!("model.layers.0.self_attn.{x}_proj.weight"), &[8, 4]);
        made.bf16(&format!("model.layers.0.self_attn.{x}_conv1d.weight"), &[8, 1, 4]);
    }
    for (e, x) in [0, 1].into_iter().flat_map(|e| ["w1", "w2", "w3"].map(|x| (e, x))) {
        made.bf16(&format!("model.layers.1.block_sparse_moe.experts.{e}.{x}.weight"), &[4, 4]);
    }
    for x in ["gate", "up", "down"] {
        made.bf16(&format!("model.layers.1.block_sparse_moe.shared_experts.{x}_proj.weight"), &[4, 4]);
    }
    made
}

#[test]
fn kimi_linear_as_published_counts_layers_from_1() {
    let mut made = kimi("kimi");
    let source = loaded(&made);
    has(&source, "kimi-linear.attention.head_count_kv", vec![0i32, 1]);
    has(&source, "kimi-linear.kda.head_dim", 4u32);
    has(&source, "kimi-linear.ssm.conv_kernel", 4u32);
    has(&source, "kimi-linear.expert_gating_func", 2u32);
    has(&source, "kimi-linear.leading_dense_block_count", 1u32);
    let shape = |name: &str| source.tensors.iter().find(|t| t.name == name).map(|t| t.shape.clone());
    assert_eq!(shape("blk.0.ssm_a"), Some(vec![1, 1, 2, 1]));
    assert_eq!(shape("blk.0.ssm_conv1d_q.weight"), Some(vec![1, 8, 1, 4]));

    // In the words of transformers, which names the kinds and flattens the rest.
    let mut flat = kimi("kimi-flat");
    for (key, value) in [
        ("linear_attn_config", json!(null)),
        ("first_k_dense_replace", json!(null)),
        ("linear_head_dim", json!(4)),
        ("linear_num_heads", json!(2)),
        ("linear_conv_kernel_dim", json!(4)),
        ("layer_types", json!(["linear_attention", "full_attention"])),
        ("mlp_layer_types", json!(["dense", "sparse"])),
    ] {
        flat.config[key] = value;
    }
    let mut names = opened(&flat).metadata;
    names.retain(|(key, _)| key != "general.name");
    assert!(names.iter().all(|(key, value)| source.value(key) == Some(value)), "{names:?}");
    flat.config["mlp_layer_types"] = json!(["sparse", "dense"]);
    refused(&flat, &["mlp_layer_types", "dense layers, then sparse ones"]);

    for (key, value, part) in [
        ("mla_use_nope", json!(false), "mla_use_nope"),
        ("mla_use_output_gate", json!(true), "mla_use_output_gate"),
        ("moe_layer_freq", json!(2), "moe_layer_freq"),
        ("moe_router_activation_func", json!("relu"), "found `relu`"),
    ] {
        let before = std::mem::replace(&mut made.config[key], value);
        refused(&made, &[part]);
        made.config[key] = before;
    }
    made.config["linear_attn_config"]["num_heads"] = json!(4);
    refused(&made, &["linear_num_heads", "2, as attention has"]);
    made.config["linear_attn_config"]["kda_layers"] = json!([3]);
    refused(&made, &["linear_attn_config.kda_layers", "layers 1 to 2"]);
}

fn falcon_h1(label: &str) -> Folder {
    let config = json!({
        "architectures": ["FalconH1ForCausalLM"], "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5, "rope_theta": 1e11, "vocab_size": 4, "tie_word_embeddings": true,
        "mamba_d_conv": 4, "mamba_d_ssm": null, "mamba_expand": 1, "mamba_d_state": 2, "mamba_n_groups": 1,
        "mamba_n_heads": 2, "mamba_rms_norm": true, "mamba_norm_before_gate": false, "mamba_proj_bias": false,
        "mlp_bias": false, "attention_bias": false, "projectors_bias": false,
        "time_step_limit": [0.0, "INFINITE"], "embedding_multiplier": 5.656854249492381, "lm_head_multiplier": 0.5,
        "attention_in_multiplier": 2.0, "key_multiplier": 0.25, "attention_out_multiplier": 4.0,
        "mlp_multipliers": [0.5, 0.125], "ssm_in_multiplier": 2.0, "ssm_out_multiplier": 8.0,
        "ssm_multipliers": [1.0, 2.0, 3.0, 4.0, 5.0]});
    let mut made = folder(
        label,
        config,
        &[
            ("model.embed_tokens.weight", &[4, 4]),
            ("model.final_layernorm.weight", &[4]),
            ("model.layers.0.input_layernorm.weight", &[4]),
            ("model.layers.0.pre_ff_layernorm.weight", &[4]),
            ("model.layers.0.mamba.A_log", &[2]),
            ("model.layers.0.mamba.D", &[2]),
            ("model.layers.0.mamba.dt_bias", &[2]),
            ("model.layers.0.mamba.conv1d.weight", &[8, 1, 4]),
            ("model.layers.0.mamba.conv1d.bias", &[8]),
            ("model.layers.0.mamba.in_proj.weight", &[14, 4]),
            ("model.layers.0.mamba.norm.weight", &[4]),
            ("model.layers.0.mamba.out_proj.weight", &[4, 4]),
        ],
    );
    for x in [
        "self_attn.q",
        "self_attn.k",
        "self_attn.v",
        "self_attn.o",
        "feed_forward.gate",
        "feed_forward.up",
        "feed_forward.down",
    ] {
        made.bf16(&format!("model.layers.0.{x}_proj.weight"), &[4, 4]);
    }
    made
}

/// Writes a folder whose `config.json` has Python's infinity, which no JSON value can be.
fn write_python(made: &Folder) {
    made.write_texts();
    made.write("config.json", made.config.to_string().replace("\"INFINITE\"", "Infinity"));
    made.write("model.safetensors", made.safetensors(|_| true));
}

#[test]
fn falcon_h1_has_its_factors_in_its_matrices() {
    let mut made = falcon_h1("falcon-h1");
    write_python(&made);
    let source = tealight::convert::open(&made.path, &ConvertOptions::new()).unwrap_or_else(|e| panic!("{e}"));
    let file = made.path.join("out.gguf");
    write(&source, &file);
    Model::open(&file, &ModelOptions::default().with_threads(1)).unwrap_or_else(|e| panic!("{e}"));
    has(&source, "falcon-h1.ssm.inner_size", 4u32);
    let times = |name: &str| numbers(&source, name)[1] / 0.25;
    for (name, want) in [
        ("output.weight", 0.5),
        ("blk.0.attn_q.weight", 2.0),
        ("blk.0.attn_k.weight", 0.5),
        ("blk.0.attn_v.weight", 2.0),
        ("blk.0.attn_output.weight", 4.0),
        ("blk.0.ffn_gate.weight", 0.5),
        ("blk.0.ffn_up.weight", 1.0),
        ("blk.0.ffn_down.weight", 0.125),
        ("blk.0.ssm_out.weight", 8.0),
        ("token_embd.weight", 5.656_854),
    ] {
        assert_eq!(times(name), want, "{name}");
    }
    // Four rows of the gate and of the input, two of what goes in and comes out, two steps.
    let rows: Vec<f32> = numbers(&source, "blk.0.ssm_in.weight").chunks(4).map(|r| r[2]).collect();
    let factors = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0];
    let want: Vec<f32> = (0..14).map(|i| (i as f32 + 0.5) * 2.0 * factors[i]).collect();
    assert_eq!(rows, want);
    // Only a power of two keeps the digits of the embeddings.
    let ty = |name: &str| source.tensors.iter().find(|t| t.name == name).map(|t| t.ty.to_string());
    assert_eq!([ty("token_embd.weight"), ty("output.weight")], [Some("F32".into()), Some("BF16".into())]);
    let short = ConvertOptions::new().out(OutType::Bf16);
    let short = tealight::convert::open(&made.path, &short).unwrap_or_else(|e| panic!("{e}"));
    assert!(short.tensors.iter().all(|t| t.name != "token_embd.weight" || t.ty.to_string() == "BF16"));

    for (key, value) in [
        ("mamba_norm_before_gate", json!(true)),
        ("time_step_limit", json!([0.0, 0.1])),
        ("mlp_multipliers", json!([1.0])),
        ("attention_bias", json!(true)),
    ] {
        made.config["time_step_limit"] = json!(null);
        let before = std::mem::replace(&mut made.config[key], value);
        refused(&made, &[key]);
        made.config[key] = before;
    }
}

/// Granite 4 without experts, of these kinds of layers.
fn granite4(label: &str, kinds: &[&str], experts: u32) -> Folder {
    let config = json!({
        "architectures": ["GraniteMoeHybridForCausalLM"], "hidden_size": 4, "intermediate_size": 6,
        "shared_intermediate_size": 8, "num_hidden_layers": kinds.len(), "num_attention_heads": 2,
        "num_key_value_heads": 1, "num_local_experts": experts, "num_experts_per_tok": experts.min(1),
        "layer_types": kinds, "position_embedding_type": "rope", "rope_theta": 1e7, "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5, "attention_multiplier": 0.5, "embedding_multiplier": 12.0, "logits_scaling": 8.0,
        "residual_multiplier": 0.25, "mamba_d_conv": 4, "mamba_d_head": 4, "mamba_d_state": 2, "mamba_expand": 2,
        "mamba_n_groups": 1, "mamba_n_heads": 2, "mamba_conv_bias": true, "mamba_proj_bias": false,
        "tie_word_embeddings": true, "vocab_size": 4, "hidden_act": "silu"});
    let mut made = folder(label, config, &[("model.embed_tokens.weight", &[4, 4]), ("model.norm.weight", &[4])]);
    for (i, kind) in kinds.iter().enumerate() {
        let mut put = |name: &str, shape: &[u64]| made.bf16(&format!("model.layers.{i}.{name}"), shape);
        put("input_layernorm.weight", &[4]);
        put("post_attention_layernorm.weight", &[4]);
        put("shared_mlp.input_linear.weight", &[16, 4]);
        put("shared_mlp.output_linear.weight", &[4, 8]);
        if experts > 0 {
            put("block_sparse_moe.input_linear.weight", &[experts.into(), 12, 4]);
            put("block_sparse_moe.output_linear.weight", &[experts.into(), 4, 6]);
            put("block_sparse_moe.router.layer.weight", &[experts.into(), 4]);
        }
        if *kind == "mamba" {
            put("mamba.in_proj.weight", &[22, 4]);
            put("mamba.conv1d.weight", &[12, 1, 4]);
            put("mamba.conv1d.bias", &[12]);
            put("mamba.A_log", &[2]);
            put("mamba.D", &[2]);
            put("mamba.dt_bias", &[2]);
            put("mamba.norm.weight", &[8]);
            put("mamba.out_proj.weight", &[4, 8]);
        } else {
            put("self_attn.q_proj.weight", &[4, 4]);
            put("self_attn.k_proj.weight", &[2, 4]);
            put("self_attn.v_proj.weight", &[2, 4]);
            put("self_attn.o_proj.weight", &[4, 4]);
        }
    }
    made
}

#[test]
fn granite_4_is_what_its_layers_are() {
    let source = loaded(&granite4("granite-dense", &["mamba", "attention"], 0));
    has(&source, "general.architecture", "granitehybrid");
    has(&source, "granitehybrid.feed_forward_length", 8u32);
    has(&source, "granitehybrid.attention.head_count_kv", vec![0i32, 1]);
    has(&source, "granitehybrid.rope.scaling.finetuned", true);
    assert!(source.tensors.iter().any(|t| t.name == "blk.0.ffn_gate.weight"));
    assert!(source.value("granitehybrid.expert_count").is_none());

    let mut attention = granite4("granite-attention", &["attention", "attention"], 0);
    let source = loaded(&attention);
    has(&source, "general.architecture", "granite");
    has(&source, "granite.feed_forward_length", 8u32);
    has(&source, "granite.attention.scale", 0.5f32);
    has(&source, "granite.context_length", 32u32);
    attention.config["position_embedding_type"] = json!("nope");
    refused(&attention, &["position_embedding_type", "nope"]);

    let source = loaded(&granite4("granite-experts", &["attention"], 2));
    has(&source, "general.architecture", "granitemoe");
    has(&source, "granitemoe.expert_shared_feed_forward_length", 8u32);
    let source = loaded(&granite4("granite-both", &["mamba", "attention"], 2));
    has(&source, "general.architecture", "granitehybrid");
    has(&source, "granitehybrid.expert_count", 2u32);
}

#[test]
fn nemotron_h_without_experts_is_an_architecture_of_its_own() {
    let config = json!({
        "architectures": ["NemotronHForCausalLM"], "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 3,
        "hybrid_override_pattern": "M-*", "num_attention_heads": 2, "num_key_value_heads": 1, "attention_head_dim": 4,
        "mamba_num_heads": 2, "mamba_head_dim": 4, "ssm_state_size": 2, "n_groups": 1, "conv_kernel": 4, "expand": 2,
        "mlp_hidden_act": "relu2", "layer_norm_epsilon": 1e-5, "max_position_embeddings": 32, "vocab_size": 4,
        "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 7, "tie_word_embeddings": false});
    let mut made = folder(
        "nemotron-h",
        config,
        &[
            ("backbone.embeddings.weight", &[4, 4]),
            ("backbone.norm_f.weight", &[4]),
            ("lm_head.weight", &[4, 4]),
            ("backbone.layers.0.norm.weight", &[4]),
            ("backbone.layers.0.mixer.in_proj.weight", &[22, 4]),
            ("backbone.layers.0.mixer.conv1d.weight", &[12, 1, 4]),
            ("backbone.layers.0.mixer.conv1d.bias", &[12]),
            ("backbone.layers.0.mixer.A_log", &[2]),
            ("backbone.layers.0.mixer.D", &[2]),
            ("backbone.layers.0.mixer.dt_bias", &[2]),
            ("backbone.layers.0.mixer.norm.weight", &[8]),
            ("backbone.layers.0.mixer.out_proj.weight", &[4, 8]),
            ("backbone.layers.1.norm.weight", &[4]),
            ("backbone.layers.1.mixer.up_proj.weight", &[6, 4]),
            ("backbone.layers.1.mixer.down_proj.weight", &[4, 6]),
            ("backbone.layers.2.norm.weight", &[4]),
            ("backbone.layers.2.mixer.q_proj.weight", &[8, 4]),
            ("backbone.layers.2.mixer.k_proj.weight", &[4, 4]),
            ("backbone.layers.2.mixer.v_proj.weight", &[4, 4]),
            ("backbone.layers.2.mixer.o_proj.weight", &[4, 8]),
        ],
    );
    // What transformers 5 writes for any folder of the class concerns no layer of this one.
    let source = loaded(&made);
    has(&source, "general.architecture", "nemotron_h");
    has(&source, "nemotron_h.attention.head_count_kv", vec![0i32, 0, 1]);
    has(&source, "nemotron_h.feed_forward_length", vec![0i32, 6, 0]);
    has(&source, "nemotron_h.attention.key_length", 4u32);
    assert!(source.value("nemotron_h.expert_count").is_none());
    made.config["hybrid_override_pattern"] = json!("M-?");
    refused(&made, &["hybrid_override_pattern", "M-?"]);
    made.config["hybrid_override_pattern"] = json!("M-*");
    made.config["mlp_hidden_act"] = json!("silu");
    refused(&made, &["mlp_hidden_act"]);
}

#[test]
fn apertus_without_its_numbers_or_its_rotations_is_refused() {
    let config = json!({
        "architectures": ["ApertusForCausalLM"], "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 1.2e7, "hidden_act": "xielu", "qk_norm": true, "post_norm": false, "vocab_size": 4,
        "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 32, "rope_type": "llama3", "type": "llama3"},
        "tie_word_embeddings": false});
    let mut made = folder(
        "apertus",
        config,
        &[("model.embed_tokens.weight", &[4, 4]), ("model.norm.weight", &[4]), ("lm_head.weight", &[4, 4])],
    );
    let layers = in_layers(
        2,
        &[
            ("model.layers.{}.attention_layernorm.weight", &[4]),
            ("model.layers.{}.feedforward_layernorm.weight", &[4]),
            ("model.layers.{}.self_attn.q_proj.weight", &[4, 4]),
            ("model.layers.{}.self_attn.k_proj.weight", &[2, 4]),
            ("model.layers.{}.self_attn.v_proj.weight", &[2, 4]),
            ("model.layers.{}.self_attn.o_proj.weight", &[4, 4]),
            ("model.layers.{}.self_attn.q_norm.weight", &[2]),
            ("model.layers.{}.self_attn.k_norm.weight", &[2]),
            ("model.layers.{}.mlp.up_proj.weight", &[6, 4]),
            ("model.layers.{}.mlp.down_proj.weight", &[4, 6]),
            ("model.layers.{}.mlp.act_fn.alpha_p", &[1]),
            ("model.layers.{}.mlp.act_fn.alpha_n", &[1]),
            ("model.layers.{}.mlp.act_fn.beta", &[]),
            ("model.layers.{}.mlp.act_fn.eps", &[]),
        ],
    );
    add(&mut made, &layers);
    let source = loaded(&made);
    has(&source, "xielu.beta", vec![0f32; 2]);
    assert!(!source.tensors.iter().any(|t| t.name.contains("xielu")));
    made.tensors.remove("model.layers.1.mlp.act_fn.beta");
    refused(&made, &["`xielu.beta`", "1 of 2 layers"]);
    made.bf16("model.layers.1.mlp.act_fn.beta", &[2]);
    refused(&made, &["`xielu.beta` of layer 1", "[2]"]);
    made.bf16("model.layers.1.mlp.act_fn.beta", &[]);
    made.config["rope_scaling"] = json!(null);
    refused(&made, &["rope_parameters", "llama3"]);
}
