//! Files become plans, or are refused by name: missing, mis-shaped and superfluous tensors, keys out of range.

mod common;

use std::path::{Path, PathBuf};

use common::edit::{Edit, TempDir};
use tealight::gguf::KeyValue;
use tealight::plan::CacheType;
use tealight::quant::BlockType;
use tealight::{ErrorKind, Model, ModelOptions};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf")
}

fn open(edit: &Edit) -> tealight::Result<Model> {
    let dir = TempDir::new("lowering");
    let path = dir.path().join("model.gguf");
    edit.write(&path);
    Model::open(&path, &ModelOptions::default())
}

/// The refusal's text; it must be of kind Model and name the file.
fn refused(edit: &Edit, what: &str) -> String {
    let Err(e) = open(edit) else { panic!("{what} was accepted") };
    assert_eq!(e.kind(), ErrorKind::Model, "{what}: {e}");
    assert!(e.file().is_some(), "{what}: {e} names no file");
    e.to_string()
}

#[test]
fn plans_of_all_families() {
    for name in [
        "llama31",
        "ministral3",
        "smollm3",
        "qwen2",
        "qwen3",
        "gemma2",
        "gemma3",
        "phi2",
        "phi35-long",
        "lfm2",
        "qwen35",
        "falcon-h1",
        "deepseek32",
    ] {
        let model = Model::open(fixture(name), &ModelOptions::default()).unwrap();
        insta::assert_snapshot!(format!("plan_{name}"), model.plan(64).unwrap().to_string());
    }
}

/// Models of the shared test data that show what the repository's own do not.
const SHARED: &[&str] = &[
    "apertus",
    "arcee",
    "baichuan",
    "bert",
    "bloom",
    "chatglm",
    "cohere2",
    "command-r",
    "deepseek",
    "deepseek2-lite",
    "deepseek2-v2",
    "deepseek2-v3",
    "deepseek32",
    "dots1",
    "ernie4_5",
    "eurobert",
    "ernie4_5-moe",
    "exaone4",
    "exaone4-full",
    "falcon",
    "falcon-h1",
    "falcon40",
    "gemma-embedding",
    "gemma3n",
    "gemma4",
    "gemma4-moe",
    "glm4",
    "glm47-flash",
    "glm4moe",
    "gpt-oss",
    "gpt2",
    "gptneox",
    "granite",
    "granitehybrid",
    "granitemoe",
    "hunyuan-dense",
    "hunyuan-moe",
    "internlm2",
    "jamba",
    "mamba",
    "mamba2",
    "kimi-k2",
    "kimi-linear",
    "lfm2moe",
    "llama4",
    "llama4-chunk",
    "minicpm",
    "modernbert",
    "minimax-m2",
    "mixtral",
    "mpt",
    "nemotron",
    "nemotron-h-moe",
    "nomic-bert",
    "olmo",
    "olmo2",
    "olmo3",
    "olmoe",
    "phimoe",
    "qwen25vl-text",
    "qwen35",
    "qwen2moe",
    "qwen35moe",
    "qwen3moe",
    "qwen3next",
    "qwen3vl-text",
    "seed-oss",
    "stablelm",
    "stablelm2-12b",
    "starcoder",
    "starcoder2",
];

#[test]
fn plans_of_shared_models() {
    let Some(folder) = common::shared("fixtures") else { return };
    for name in SHARED {
        let model = Model::open(folder.join(name).join("model.gguf"), &ModelOptions::default()).unwrap();
        insta::assert_snapshot!(format!("plan_{name}"), model.plan(64).unwrap().to_string());
    }
}

#[test]
fn every_tensor_that_a_shared_model_loses_is_missed() {
    let Some(folder) = common::shared("fixtures") else { return };
    let optional = ["output.weight", "rope_freqs.weight", "token_types.weight"];
    // A bias that some models of the family do not choose by; values of full layers, which may be the raw keys.
    let open = |name: &str, gone: &str| match name {
        "ernie4_5-moe" | "deepseek2-v3" | "deepseek32" | "glm47-flash" | "kimi-k2" => {
            gone.ends_with("exp_probs_b.bias")
        }
        "gemma4" => gone == "blk.2.attn_v.weight",
        _ => false,
    };
    for name in SHARED {
        let whole = Edit::read(&folder.join(name).join("model.gguf"));
        for i in 0..whole.tensors.len() {
            let mut edit = whole.clone();
            let gone = edit.tensors.remove(i).name;
            if !optional.contains(&gone.as_str()) && !open(name, &gone) {
                let text = refused(&edit, &format!("{name} without {gone}"));
                // A weight without its bias is as telling as a bias without its weight.
                let stem = gone.rsplit_once('.').unwrap().0.replace("attn_qkv", "attn_q").replace("gate_up", "gate");
                assert!(text.contains(&stem), "{text} does not name {stem}");
            }
        }
    }
}

#[test]
fn learned_positions_limit_the_context() {
    let Some(folder) = common::shared("fixtures") else { return };
    let model = Model::open(folder.join("gpt2/model.gguf"), &ModelOptions::default()).unwrap();
    let options = |n| tealight::SessionOptions::default().with_ctx(n);
    assert!(model.session(&options(256)).is_ok());
    let e = model.session(&options(257)).err().expect("a context that is too long");
    assert_eq!(e.kind(), ErrorKind::Usage);
    assert!(e.to_string().contains("256 positions"), "{e}");
}

#[test]
fn longrope_chooses_its_factors_by_the_context() {
    let model = Model::open(fixture("phi35-long"), &ModelOptions::default()).unwrap();
    let (short, long) = (model.plan(32).unwrap(), model.plan(33).unwrap());
    assert_ne!(short.tables(), long.tables());
    assert_eq!(long.tables(), model.plan(200).unwrap().tables());
}

#[test]
fn every_tensor_that_is_taken_away_is_missed() {
    // What the format leaves open: a tied head, factors that no key promises.
    let optional = ["output.weight", "rope_freqs.weight"];
    for name in ["llama31", "ministral3", "qwen2", "qwen3", "gemma3", "phi2", "phi35-long", "lfm2"] {
        let whole = Edit::read(&fixture(name));
        for i in 0..whole.tensors.len() {
            let mut edit = whole.clone();
            let gone = edit.tensors.remove(i).name;
            if !optional.contains(&gone.as_str()) {
                let text = refused(&edit, &format!("{name} without {gone}"));
                // A fused projection may stand for three: the first of them is missed.
                let gone = gone.replace("attn_qkv", "attn_q");
                assert!(text.contains(&gone), "{text} does not name {gone}");
            }
        }
    }
}

#[test]
fn tensors_of_another_shape_or_type_and_unknown_ones_are_refused() {
    let whole = Edit::read(&fixture("qwen3"));
    let check = |change: &dyn Fn(&mut Edit), words: &[&str]| {
        let mut edit = whole.clone();
        change(&mut edit);
        let text = refused(&edit, words[0]);
        assert!(words.iter().all(|w| text.contains(w)), "{text} lacks one of {words:?}");
    };
    check(&|e| e.tensor("blk.0.ffn_up.weight").shape.reverse(), &["blk.0.ffn_up.weight", "[32, 96]", "[96, 32]"]);
    check(
        &|e| {
            let mut extra = e.tensor("blk.0.attn_norm.weight").clone();
            extra.name = "blk.0.attn_sinks2.weight".into();
            e.tensors.push(extra);
        },
        &["blk.0.attn_sinks2.weight"],
    );
    check(
        &|e| {
            let t = e.tensor("blk.0.attn_q.weight");
            (t.ty, t.data) = (BlockType::I8, vec![1; t.shape.iter().product::<u64>() as usize]);
        },
        &["blk.0.attn_q.weight", "I8"],
    );
    check(
        &|e| {
            let t = e.tensor("blk.1.attn_norm.weight");
            (t.ty, t.data) = (BlockType::Q8_0, vec![0; 34]);
        },
        &["blk.1.attn_norm.weight", "Q8_0"],
    );
    check(
        &|e| {
            let t = e.tensor("blk.1.attn_norm.weight");
            t.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        },
        &["blk.1.attn_norm.weight", "finite"],
    );
}

#[test]
fn leading_dimensions_of_one_are_accepted() {
    let mut edit = Edit::read(&fixture("qwen3"));
    edit.tensors.iter_mut().for_each(|t| {
        while t.shape.len() < 4 {
            t.shape.insert(0, 1);
        }
    });
    open(&edit).unwrap();
}

#[test]
fn keys_out_of_range_are_refused_by_name() {
    let whole = Edit::read(&fixture("qwen3"));
    let cases: Vec<(&str, KeyValue)> = vec![
        ("block_count", KeyValue::U32(0)),
        ("block_count", KeyValue::U32(u32::MAX)),
        ("block_count", KeyValue::U32(4)),
        ("embedding_length", KeyValue::U32(0)),
        ("embedding_length", KeyValue::U32(u32::MAX)),
        ("embedding_length", KeyValue::Str(b"32".to_vec())),
        ("attention.head_count", KeyValue::U32(0)),
        ("attention.head_count", KeyValue::U32(u32::MAX)),
        ("attention.head_count", KeyValue::I32(-4)),
        ("attention.head_count_kv", KeyValue::U32(0)),
        ("attention.head_count_kv", KeyValue::U32(3)),
        ("attention.head_count_kv", KeyValue::Array { element: KeyValue::U32(2).ty(), items: vec![KeyValue::U32(2)] }),
        ("feed_forward_length", KeyValue::U32(0)),
        ("attention.key_length", KeyValue::U32(0)),
        ("rope.dimension_count", KeyValue::U32(7)),
        ("rope.dimension_count", KeyValue::U32(1000)),
        ("rope.freq_base", KeyValue::F32(0.0)),
        ("rope.freq_base", KeyValue::F32(f32::NAN)),
        ("rope.freq_base", KeyValue::F32(f32::INFINITY)),
        ("rope.freq_base", KeyValue::F32(-1.0)),
        ("rope.scaling.type", KeyValue::Str(b"wild\x1b[2J".to_vec())),
        ("rope.scaling.factor", KeyValue::F32(f32::NAN)),
        ("rope.scaling.type", KeyValue::Str(b"linear".to_vec())),
        ("vocab_size", KeyValue::U32(1000)),
        ("attention.layer_norm_rms_epsilon", KeyValue::F32(0.0)),
        ("attention.layer_norm_rms_epsilon", KeyValue::F32(f32::NAN)),
        ("attention.layer_norm_rms_epsilon", KeyValue::Str(b"x".to_vec())),
        ("attn_logit_softcapping", KeyValue::F32(f32::NEG_INFINITY)),
    ];
    for (key, value) in cases {
        let mut edit = whole.clone();
        edit.set(&format!("qwen3.{key}"), value.clone());
        let text = refused(&edit, &format!("{key} = {value:?}"));
        assert!(
            text.contains(key) || text.contains("blk.") || text.contains("scaling.factor"),
            "{text} does not name {key}"
        );
        assert!(!text.contains('\x1b'), "{text:?} passes control characters on");
    }
    for key in [
        "block_count",
        "embedding_length",
        "attention.head_count",
        "feed_forward_length",
        "attention.layer_norm_rms_epsilon",
    ] {
        let mut edit = whole.clone();
        edit.remove_key(&format!("qwen3.{key}"));
        let text = refused(&edit, key);
        assert!(text.contains(key) && text.contains("missing"), "{text}");
    }
}

#[test]
fn unknown_and_missing_architectures_are_named() {
    let whole = Edit::read(&fixture("qwen3"));
    let mut edit = whole.clone();
    edit.set("general.architecture", KeyValue::Str(b"qwen9\x1b]0;".to_vec()));
    let e = open(&edit).err().expect("an unknown architecture");
    assert!(e.to_string().contains("qwen9\\u{1b}]0;"), "{e}");
    assert!(e.to_string().contains("the nearest is `qwen2`"), "{e}");
    assert!(e.hint().unwrap().contains("inspect --architectures"), "the hint says where to look");
    let mut edit = whole;
    edit.remove_key("general.architecture");
    assert!(refused(&edit, "no architecture").contains("general.architecture"));
}

#[test]
fn unusual_but_valid_keys_change_nothing() {
    let whole = Edit::read(&fixture("qwen3"));
    let plan = open(&whole).unwrap().plan(64).unwrap().to_string();
    let mut edit = whole.clone();
    edit.set("qwen3.block_count", KeyValue::U64(3));
    edit.set("qwen3.embedding_length", KeyValue::I32(32));
    let per_layer = KeyValue::Array { element: KeyValue::U32(0).ty(), items: vec![KeyValue::U32(2); 3] };
    edit.set("qwen3.attention.head_count_kv", per_layer);
    edit.set("qwen3.attention.sliding_window", KeyValue::U32(0));
    edit.set("some.unknown.key", KeyValue::F32(f32::NAN));
    edit.tensors.reverse();
    assert_eq!(open(&edit).unwrap().plan(64).unwrap().to_string(), plan);
}

#[test]
fn the_memory_estimate_counts_windows_and_a_tied_head_once() {
    let model = Model::open(fixture("gemma3"), &ModelOptions::default()).unwrap();
    let options = tealight::SessionOptions::default();
    let (small, large) = (model.memory(1000, &options).unwrap(), model.memory(2000, &options).unwrap());
    let file: u64 = model.gguf().tensors().iter().map(|t| t.bytes).sum();
    assert_eq!(small.weights, file, "every tensor once");
    // One of seven layers is full: 32 keys and 32 values of two bytes each for every further position.
    assert_eq!(large.cache - small.cache, 1000 * (32 + 32) * 2);
}

#[test]
fn layers_that_predict_further_tokens_are_left_out_by_name() {
    let Some(folder) = common::shared("fixtures") else { return };
    let whole = Edit::read(&folder.join("glm4moe/model.gguf"));
    let plan = open(&whole).unwrap().plan(64).unwrap().to_string();
    let layer = |name: &str| name.strip_prefix("blk.")?.split_once('.')?.0.parse::<u32>().ok();
    let last = whole.tensors.iter().filter_map(|t| layer(&t.name)).max().unwrap();
    let mut edit = whole.clone();
    for t in whole.tensors.iter().filter(|t| layer(&t.name) == Some(last)) {
        let mut further = t.clone();
        further.name = t.name.replace(&format!("blk.{last}."), &format!("blk.{}.", last + 1));
        edit.tensors.push(further);
    }
    edit.set("glm4moe.block_count", KeyValue::U32(last + 2));
    edit.set("glm4moe.nextn_predict_layers", KeyValue::U32(1));
    let found = open(&edit).unwrap().plan(64).unwrap().to_string();
    assert_eq!(
        found,
        format!("{plan}note: layer {} predicts further tokens; it is not used by this computation\n", last + 1)
    );
    edit.set("glm4moe.nextn_predict_layers", KeyValue::U32(last + 2));
    assert!(refused(&edit, "nothing but further layers").contains("nextn_predict_layers"));
}

#[test]
fn numbers_of_experts_that_do_not_fit_are_refused_by_name() {
    let Some(folder) = common::shared("fixtures") else { return };
    for (name, key, value) in [
        ("mixtral", "llama.expert_used_count", 5),
        ("mixtral", "llama.expert_used_count", 0),
        ("mixtral", "llama.expert_count", 3),
        ("mixtral", "llama.expert_gating_func", 9),
        ("phimoe", "phimoe.expert_used_count", 3),
        ("deepseek2-v3", "deepseek2.expert_group_count", 3),
        ("deepseek2-v3", "deepseek2.expert_group_used_count", 5),
        ("deepseek2-v3", "deepseek2.attention.kv_lora_rank", 31),
        ("deepseek2-v3", "deepseek2.attention.key_length_mla", 8),
    ] {
        let mut edit = Edit::read(&folder.join(name).join("model.gguf"));
        edit.set(key, KeyValue::U32(value));
        let text = refused(&edit, &format!("{name} with {key} = {value}"));
        assert!(text.contains(key) || text.contains("blk.") || text.contains("expert"), "{text} does not name {key}");
    }
}

#[test]
fn a_latent_cache_holds_one_vector_and_the_rotated_dims_of_a_token() {
    let Some(folder) = common::shared("fixtures") else { return };
    for (name, n_layer, rank, n_rot) in [("deepseek2-lite", 3, 32, 8), ("glm47-flash", 2, 32, 16)] {
        let model = Model::open(folder.join(name).join("model.gguf"), &ModelOptions::default()).unwrap();
        for (ty, size) in [(CacheType::F16, 2), (CacheType::F32, 4)] {
            let options = tealight::SessionOptions::default().with_cache(ty, ty);
            let at = |n| model.memory(n, &options).unwrap().cache;
            assert_eq!(at(1001) - at(1000), n_layer * (rank + n_rot) * size, "{name} {ty:?}");
            let mut session = model.session(&options.with_ctx(64)).unwrap();
            session.feed(&[1; 64], 64, tealight::Want::Last, &mut |_| {}).unwrap();
            assert_eq!(session.cache_bytes(), 64 * n_layer * (rank + n_rot) * size, "{name} {ty:?}");
        }
    }
}

#[test]
fn factors_of_the_rotation_that_keys_promise_must_be_there() {
    let mut edit = Edit::read(&fixture("phi35-long"));
    edit.tensors.retain(|t| !t.name.starts_with("rope_factors"));
    assert!(refused(&edit, "longrope without factors").contains("rope_factors_long.weight"));
    let mut edit = Edit::read(&fixture("llama31"));
    edit.set("llama.rope.scaling.type", KeyValue::Str(b"llama3".to_vec()));
    open(&edit).unwrap();
    edit.tensors.retain(|t| t.name != "rope_freqs.weight");
    assert!(refused(&edit, "llama3 without factors").contains("rope_freqs.weight"));
    let mut edit = Edit::read(&fixture("ministral3"));
    edit.remove_key("mistral3.rope.scaling.original_context_length");
    edit.remove_key("mistral3.context_length");
    assert!(refused(&edit, "yarn without a context").contains("original_context_length"));
}

#[test]
fn keys_that_change_the_computation_are_not_ignored() {
    for (key, value) in [
        ("expert_count", KeyValue::U32(8)),
        ("nextn_predict_layers", KeyValue::U32(1)),
        ("attention.shared_kv_layers", KeyValue::U32(2)),
        ("attention.max_alibi_bias", KeyValue::F32(8.0)),
    ] {
        let mut edit = Edit::read(&fixture("qwen3"));
        edit.set(&format!("qwen3.{key}"), value);
        let text = refused(&edit, key);
        assert!(text.contains(key) && text.contains("not supported yet"), "{text}");
    }
    let mut edit = Edit::read(&fixture("qwen3"));
    edit.set("qwen3.attention.causal", KeyValue::Bool(true));
    edit.set("qwen3.expert_count", KeyValue::U32(0));
    open(&edit).unwrap();
}

#[test]
fn a_file_may_say_that_its_model_looks_both_ways() {
    let mut edit = Edit::read(&fixture("qwen3"));
    edit.set("qwen3.attention.causal", KeyValue::Bool(false));
    let model = open(&edit).unwrap();
    assert!(!model.is_causal() && !model.has_logits() && model.pooling().is_none());
    assert!(model.plan(64).unwrap().to_string().contains("span=all"));
    edit.set("qwen3.attention.sliding_window", KeyValue::U32(8));
    assert!(refused(&edit, "a window of the past, both ways").contains("qwen3.attention.causal"));
    let mut edit = Edit::read(&fixture("qwen3"));
    edit.set("qwen3.pooling_type", KeyValue::U32(4));
    assert!(refused(&edit, "a model that ranks").contains("qwen3.pooling_type"));
    edit.set("qwen3.pooling_type", KeyValue::U32(0));
    assert!(open(&edit).unwrap().has_logits());
}

#[test]
fn the_first_gemma_2_files_lack_keys_that_the_family_knows() {
    let mut edit = Edit::read(&fixture("gemma2"));
    for key in ["attn_logit_softcapping", "final_logit_softcapping", "attention.sliding_window"] {
        edit.remove_key(&format!("gemma2.{key}"));
    }
    let plan = open(&edit).unwrap().plan(64).unwrap().to_string();
    assert!(plan.contains("softcap=50") && plan.contains("cap=30") && plan.contains("slide(4096)"), "{plan}");
}

#[test]
fn the_factor_beside_a_tied_matrix_acts_on_both_of_its_uses() {
    let mut edit = Edit::read(&fixture("llama31"));
    let mut scale = edit.tensor("output_norm.weight").clone();
    (scale.name, scale.shape, scale.data) = ("token_embd.scale".into(), vec![1], 2f32.to_le_bytes().to_vec());
    edit.tensors.push(scale);
    let plan = open(&edit).unwrap().plan(64).unwrap().to_string();
    assert_eq!(plan.matches("token_embd.weight scale=2").count(), 2, "{plan}");
}
