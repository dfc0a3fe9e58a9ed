//! A folder that a test makes: a Llama of one layer whose every part can be changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tealight::convert::{self, ConvertOptions, Source};
use tealight::{Error, Result};

/// A tensor: its type, shape and bytes.
pub type Tensor = (&'static str, Vec<u64>, Vec<u8>);

/// Files of a model, removed with the value.
pub struct Folder {
    pub path: PathBuf,
    pub config: Value,
    pub tokenizer: Value,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Folder {
    /// The files of a model with 4 tokens, width 4, 2 heads and 1 layer. They are not written yet.
    pub fn new(label: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tealight-convert-{label}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "vocab_size": 4, "tie_word_embeddings": false});
        let tokenizer = json!({
            "added_tokens": [{"id": 3, "content": "<|end|>", "special": true}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}});
        let mut folder = Self { path, config, tokenizer, tensors: BTreeMap::new() };
        folder.bf16("model.embed_tokens.weight", &[4, 4]);
        folder.bf16("model.norm.weight", &[4]);
        folder.bf16("lm_head.weight", &[4, 4]);
        for (name, shape) in [
            ("input_layernorm", &[4][..]),
            ("post_attention_layernorm", &[4]),
            ("self_attn.q_proj", &[4, 4]),
            ("self_attn.k_proj", &[2, 4]),
            ("self_attn.v_proj", &[2, 4]),
            ("self_attn.o_proj", &[4, 4]),
            ("mlp.gate_proj", &[8, 4]),
            ("mlp.up_proj", &[8, 4]),
            ("mlp.down_proj", &[4, 8]),
        ] {
            folder.bf16(&format!("model.layers.0.{name}.weight"), shape);
        }
        folder
    }

    /// Adds a tensor of BF16 whose number i is i / 4.
    pub fn bf16(&mut self, name: &str, shape: &[u64]) {
        let n: u64 = shape.iter().product();
        let bytes = (0..n).flat_map(|i| ((i as f32 / 4.0).to_bits() >> 16).to_le_bytes()[..2].to_vec()).collect();
        self.tensors.insert(name.into(), ("BF16", shape.to_vec(), bytes));
    }

    /// Writes a file of the folder.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path.join(name), bytes).expect("a file of the test");
    }

    /// The bytes of a safetensors file of some of the tensors.
    pub fn safetensors(&self, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, (dtype, shape, bytes)) in self.tensors.iter().filter(|(n, _)| wanted(n)) {
            let start = data.len();
            data.extend(bytes);
            header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}));
        }
        let header = Value::Object(header).to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
    }

    /// Writes everything but the tensors.
    pub fn write_texts(&self) {
        self.write("config.json", self.config.to_string());
        self.write("tokenizer.json", self.tokenizer.to_string());
        self.write("tokenizer_config.json", json!({"eos_token": "<|end|>"}).to_string());
    }

    /// Writes everything and converts it.
    pub fn open(&self) -> Result<Source> {
        self.open_with(&ConvertOptions::new())
    }

    /// Writes everything and converts it.
    pub fn open_with(&self, options: &ConvertOptions) -> Result<Source> {
        self.write_texts();
        self.write("model.safetensors", self.safetensors(|_| true));
        convert::open(&self.path, options)
    }

    /// Why the folder is refused.
    pub fn error(&self) -> Error {
        self.open().expect_err("a folder that is refused")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// All numbers of a tensor.
pub fn numbers(source: &Source, name: &str) -> Vec<f32> {
    let t = source.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("{name}"));
    let mut out = vec![0.0; (t.n_row() * t.row_len()) as usize];
    t.rows_f32(0..t.n_row(), &mut out).expect("its rows");
    out
}
