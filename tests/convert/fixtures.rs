//! What llama.cpp's converter made of a folder is what ours makes, byte by byte and key by key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tealight::convert::{self, ConvertOptions, OutType, Source};
use tealight::gguf::{Gguf, KeyValue};

use crate::common;

/// Keys that files of llama.cpp's converter lack in some families and ours have in all: each says what readers assume
/// or what `config.json` has.
const SAID_ALWAYS: &[&str] =
    &["rope.freq_base", "rope.dimension_count", "vocab_size", "attention.head_count_kv", "general.file_type"];

/// Names of pre-tokenizers that the fixtures' maker chose by hand, since llama.cpp knows folders by a hash: the
/// patterns of these folders are others, those of our names.
const NAMED_BY_HAND: &[(&str, &str)] = &[
    ("bloom", "gpt-2"),
    ("exaone4", "starcoder"),
    ("exaone4-full", "starcoder"),
    ("glm4", "chatglm-bpe"),
    ("glm4moe", "chatglm-bpe"),
    ("glm47-flash", "chatglm-bpe"),
    ("hunyuan-dense", "hunyuan"),
    ("seed-oss", "llama3"),
    // The only name of these patterns that takes words that are tokens whole, as the folder's tokenizer does.
    ("llama4", "granite-embed-multi-97m"),
    ("llama4-chunk", "granite-embed-multi-97m"),
    ("apertus", "llama-bpe"),
    // Words of these are cut in one way alone, which the model's kind says.
    ("bert", "default"),
    ("nomic-bert", "default"),
];

/// Lists of a fixture that llama.cpp's converter got wrong, and why.
const OURS_ARE_RIGHT: &[(&str, &[&str], &str)] = &[
    (
        "xlm-roberta",
        &["tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"],
        "llama.cpp's converter makes a filler of the last token, `<mask>`",
    ),
    (
        "gemma4",
        &["tokenizer.ggml.token_type"],
        "a token that was added is found in text before merges, so it is no normal one",
    ),
    (
        "gemma4-moe",
        &["tokenizer.ggml.token_type"],
        "the same; and the folder calls the ends of turns special, which llama.cpp's converter does not see",
    ),
];

/// A key of a fixture that differs: the value that ours has (`None`: no such key), and why.
struct Differs(&'static str, &'static str, Option<KeyValue>, &'static str);

fn differs() -> Vec<Differs> {
    let glm = "llama.cpp names it for the family; the published folders list their ends, which we write";
    let nemotron = "llama.cpp writes a fixed number; the folder has another one, or none";
    let pre = |(name, ours): &(&'static str, &'static str)| {
        Differs(name, "tokenizer.ggml.pre", Some((*ours).into()), "the file's name was chosen by hand")
    };
    let mut all: Vec<Differs> = NAMED_BY_HAND.iter().map(pre).collect();
    for name in ["bert", "roberta", "xlm-roberta", "nomic-bert"] {
        let why = "no reader asks for it: the table has so many rows";
        all.push(Differs(name, "tokenizer.ggml.token_type_count", None, why));
    }
    for (name, key) in
        [("eurobert", "eurobert.classifier.pooling_type"), ("modernbert", "modern-bert.classifier.pooling_type")]
    {
        all.push(Differs(name, key, None, "it concerns models that classify"));
    }
    for (name, key) in [("eurobert", "eurobert.rope.scaling.type"), ("modernbert", "modern-bert.rope.scaling.type")] {
        all.push(Differs(name, key, None, "`none` is what readers assume"));
    }
    all.extend([
        Differs("glm4moe", "tokenizer.ggml.bos_token_id", None, glm),
        Differs("glm4moe", "tokenizer.ggml.eot_token_id", None, glm),
        Differs("glm4moe", "tokenizer.ggml.eom_token_id", None, glm),
        Differs("glm4moe", "tokenizer.ggml.unknown_token_id", None, glm),
        Differs("deepseek2-lite", "deepseek2.expert_weights_norm", Some(false.into()), "said, not assumed"),
        Differs("deepseek2-v2", "deepseek2.expert_weights_norm", Some(false.into()), "said, not assumed"),
        Differs("llama4", "llama4.attention.sliding_window", Some(8192u32.into()), "a constant of readers, said"),
        Differs("llama4", "llama4.attention.temperature_length", Some(8192u32.into()), "a constant of readers, said"),
        Differs("llama4", "llama4.attention.temperature_scale", Some(0.1f32.into()), "a constant of readers, said"),
        Differs(
            "deepseek",
            "deepseek.expert_weights_norm",
            Some(false.into()),
            "llama.cpp has no such key for the family; our readers go by it",
        ),
        Differs("glm4", "tokenizer.ggml.bos_token_id", None, glm),
        Differs("glm4", "tokenizer.ggml.eot_token_id", None, glm),
        Differs("glm4", "tokenizer.ggml.unknown_token_id", None, glm),
        Differs("nemotron", "tokenizer.ggml.padding_token_id", None, nemotron),
        Differs("nemotron", "tokenizer.ggml.unknown_token_id", Some(0u32.into()), nemotron),
        Differs(
            "nemotron",
            "nemotron.attention.layer_norm_rms_epsilon",
            None,
            "its norms are LayerNorms: the other key",
        ),
        Differs(
            "hunyuan-dense",
            "tokenizer.ggml.eos_token_id",
            Some(375u32.into()),
            "llama.cpp takes `eod_token_id`; the tokenizer and its template end answers with this one",
        ),
        Differs("qwen3vl-text", "qwen3vl.n_deepstack_layers", None, "it concerns images, and the file is of the text"),
        Differs(
            "bloom",
            "tokenizer.ggml.eot_token_id",
            Some(2u32.into()),
            "`config.json` ends sequences with another token than the tokenizer does: both end answers",
        ),
        Differs("eurobert", "tokenizer.ggml.mask_token_id", None, "the id is beyond the vocabulary"),
        Differs(
            "modernbert",
            "modern-bert.attention.layer_norm_rms_epsilon",
            None,
            "its norms are LayerNorms: the other key",
        ),
        Differs("baichuan", "baichuan.tensor_data_layout", None, "no reader asks for it"),
        Differs("internlm2", "tokenizer.ggml.add_space_prefix", None, "true is what readers assume"),
        Differs(
            "mistral-swa",
            "llama.attention.sliding_window",
            Some(16u32.into()),
            "llama.cpp drops the window for `llama`; the model has it on every layer, and so have our readers",
        ),
        Differs(
            "smollm3",
            "tokenizer.ggml.pre",
            Some("llama-bpe".into()),
            "the folder's tokenizer takes words that are tokens whole; of the equal patterns `smaug-bpe` does not",
        ),
        Differs(
            "gemma",
            "tokenizer.ggml.eot_token_id",
            None,
            "llama.cpp writes a fixed 107, the id in the real vocabulary; readers find `<end_of_turn>` by its text",
        ),
        Differs(
            "llama-sharded",
            "tokenizer.ggml.eot_token_id",
            Some(380u32.into()),
            "`generation_config.json` lists two ends; the second would otherwise not end an answer",
        ),
        Differs("chatglm", "chatglm.attention.key_length", Some(16u32.into()), "said, not assumed"),
        Differs("chatglm", "chatglm.attention.value_length", Some(16u32.into()), "said, not assumed"),
        Differs("chatglm", "tokenizer.ggml.unknown_token_id", None, glm),
        Differs(
            "chatglm",
            "tokenizer.ggml.eot_token_id",
            Some(374u32.into()),
            "`config.json` ends sequences with another token than the tokenizer does: both end answers",
        ),
        Differs("falcon", "falcon.tensor_data_layout", None, "no reader asks for it"),
        Differs("falcon40", "falcon.tensor_data_layout", None, "no reader asks for it"),
        Differs("kimi-linear", "kimi-linear.expert_group_count", Some(1u32.into()), "said, not assumed"),
        Differs("kimi-linear", "kimi-linear.expert_weights_norm", Some(true.into()), "said, not assumed"),
        Differs(
            "nemotron-h-moe",
            "nemotron_h_moe.rope.dimension_count",
            Some(16u32.into()),
            "nothing rotates; llama.cpp takes the width over the heads, which is not that of a head",
        ),
        Differs("mamba", "general.name", Some("mamba".into()), "the file was named by the script that made it"),
        Differs("mamba2", "general.name", Some("mamba2".into()), "the file was named by the script that made it"),
        Differs("llama-256", "general.name", Some("llama-256".into()), "the file was named by the script that made it"),
    ]);
    all
}

/// Fixtures with a folder and a file made from it.
pub fn fixtures() -> Vec<(String, PathBuf)> {
    let Some(root) = common::shared("fixtures") else { return Vec::new() };
    let mut found: Vec<(String, PathBuf)> = std::fs::read_dir(root)
        .expect("the fixtures")
        .map(|e| e.expect("a fixture").path())
        .filter(|p| p.join("hf/config.json").is_file())
        .map(|p| (p.file_name().expect("a name").to_string_lossy().into_owned(), p))
        .collect();
    found.sort();
    found
}

fn architecture(folder: &Path) -> String {
    let config = common::read_json(&folder.join("config.json"));
    config["architectures"][0].as_str().unwrap_or_default().to_owned()
}

/// Every tensor of the file, and no other, with its bytes.
fn differing_tensors(source: &Source, file: &Gguf) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for t in &source.tensors {
        seen.insert(t.name.as_str());
        let Some(want) = file.tensor(&t.name) else {
            faults.push(format!("{} is not in the file", t.name));
            continue;
        };
        if (t.ty, &t.shape) != (want.ty, &want.shape) {
            faults.push(format!("{}: {} {:?}, expected {} {:?}", t.name, t.ty, t.shape, want.ty, want.shape));
            continue;
        }
        // In pieces, as the writer reads it.
        let mut bytes = Vec::new();
        let step = t.n_row() / 3 + 1;
        for start in (0..t.n_row()).step_by(step as usize) {
            t.rows_bytes(start..(start + step).min(t.n_row()), &mut bytes).expect("rows");
        }
        // The exponential and the power of torch are off by a bit at times; ours are rounded once.
        let computed = t.name.ends_with("ssm_a") || t.name == "rope_freqs.weight";
        let rates = computed && bytes.len() == file.bytes(want).len();
        if bytes != file.bytes(want) && !(rates && neighbours(&bytes, file.bytes(want))) {
            let at = bytes.iter().zip(file.bytes(want)).position(|(a, b)| a != b);
            faults.push(format!("{}: differs from byte {at:?} of {}", t.name, bytes.len()));
        }
    }
    faults
        .extend(file.tensors().iter().filter(|t| !seen.contains(t.name.as_str())).map(|t| format!("{} lacks", t.name)));
    faults
}

/// Are numbers of single precision equal but for their last bit?
fn neighbours(a: &[u8], b: &[u8]) -> bool {
    let words =
        |bytes: &[u8]| bytes.chunks_exact(4).map(|w| i32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect::<Vec<_>>();
    words(a).iter().zip(words(b)).all(|(a, b)| a.abs_diff(b) <= 1)
}

fn shown(value: Option<&KeyValue>) -> String {
    let text = value.map_or("nothing".to_owned(), |v| format!("{v:?}"));
    text.chars().take(200).collect()
}

fn differing_keys(name: &str, source: &Source, want: &Source) -> Vec<String> {
    let arch = match want.value("general.architecture") {
        Some(KeyValue::Str(arch)) => String::from_utf8_lossy(arch).into_owned(),
        other => panic!("general.architecture is {other:?}"),
    };
    let keys: BTreeSet<&str> = source.metadata.iter().chain(&want.metadata).map(|(k, _)| k.as_str()).collect();
    let listed = differs();
    let allowed = |key: &str| {
        let own = listed.iter().any(|d| d.0 == name && d.1 == key && d.2.as_ref() == source.value(key));
        let short = key.strip_prefix(&format!("{arch}.")).unwrap_or(key);
        let wrong = OURS_ARE_RIGHT.iter().any(|(of, keys, _)| *of == name && keys.contains(&key));
        own || wrong || want.value(key).is_none() && SAID_ALWAYS.contains(&short)
    };
    let differs = |key: &&&str| source.value(key) != want.value(key) && !allowed(key);
    let show = |key: &&str| format!("{key}: {}, expected {}", shown(source.value(key)), shown(want.value(key)));
    keys.iter().filter(differs).map(show).collect()
}

/// Fixtures whose folders are not converted: their files do not run either.
const REFUSED: &[&str] = &["t5", "flan-t5"];

#[test]
fn folders_become_the_files_of_llama_cpp() {
    let known = convert::supported();
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (name, path) in fixtures() {
        let hf = path.join("hf");
        assert_ne!(known.contains(&architecture(&hf).as_str()), REFUSED.contains(&name.as_str()), "{name}");
        if REFUSED.contains(&name.as_str()) || !path.join("model.gguf").is_file() {
            continue; // there is no file of an architecture that is only ours
        }
        let file = std::sync::Arc::new(Gguf::open(&path.join("model.gguf")).expect("a good file"));
        let want = Source::of_gguf(&file).expect("a good file");
        let out = match want.value("general.file_type") {
            Some(KeyValue::U32(0)) => OutType::F32,
            Some(KeyValue::U32(1)) => OutType::F16,
            _ => OutType::Bf16,
        };
        let options = ConvertOptions::new().out(out).name(&name);
        let source = convert::open(&hf, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        source.check_unchanged().expect("nobody writes there");
        let mut faults = differing_tensors(&source, &file);
        faults.extend(differing_keys(&name, &source, &want));
        match faults.is_empty() {
            true => done.push(name),
            false => failed.push(format!("{name}:\n  {}", faults.join("\n  "))),
        }
    }
    println!("{} equal: {}", done.len(), done.join(", "));
    differs().iter().for_each(|d| println!("but {} of {}: {}", d.1, d.0, d.3));
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}
