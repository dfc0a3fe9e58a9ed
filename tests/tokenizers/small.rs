//! Small vocabularies of every kind, and what the tests do with them.

use std::path::Path;
use std::sync::Arc;

use crate::common::shared;
use serde_json::Value;
use tealight::gguf::{Gguf, GgufWriter, KeyValue};
use tealight::text::{Decoder, Encode, Vocab};

pub const PLAIN: Encode = Encode { add_special: false, parse_special: false };
pub const FULL: Encode = Encode { add_special: true, parse_special: true };

pub fn load(path: &Path) -> Vocab {
    let file = Arc::new(Gguf::open(path).unwrap_or_else(|e| panic!("{e}")));
    Vocab::load(&file).unwrap_or_else(|e| panic!("{e}"))
}

pub fn ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|v| u32::try_from(v.as_i64()?).ok()).collect()
}

/// The vocabularies of the shared data: name and vocabulary.
pub fn shared_vocabularies() -> Vec<(String, Vocab)> {
    let Some(folder) = shared("vocab") else { return Vec::new() };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "gguf"));
    paths.sort();
    let name = |p: &Path| p.file_stem().unwrap().to_string_lossy().replace("ggml-vocab-", "");
    paths.iter().map(|p| (name(p), load(p))).collect()
}

/// Writes a file with this metadata and opens it.
pub fn file_with(name: &str, keys: Vec<(&str, KeyValue)>) -> Arc<Gguf> {
    let mut writer = GgufWriter::new();
    writer.key("general.architecture", "llama");
    for (key, value) in keys {
        writer.key(key, value);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tokenizers");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}-{:?}.gguf", std::thread::current().id()));
    let out = std::fs::File::create(&path).unwrap();
    writer.begin(std::io::BufWriter::new(out)).unwrap().finish().unwrap();
    let file = Arc::new(Gguf::open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    file
}

/// GPT-2's byte alphabet, written down once more.
pub fn alphabet() -> Vec<char> {
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut hidden = (0x100..).filter_map(char::from_u32);
    (0..256).map(|b| if printable(b) { char::from_u32(b).unwrap() } else { hidden.next().unwrap() }).collect()
}

pub fn bpe_keys() -> Vec<(&'static str, KeyValue)> {
    let mut tokens: Vec<String> = alphabet().iter().map(char::to_string).collect();
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "a a", "aa aa", "1 2", "Ġ Ġ"];
    tokens.extend(merges.iter().map(|m| m.replace(' ', "")));
    let n_text = tokens.len();
    tokens.extend(["<|im_start|>", "<|im_end|>", "<tool>", "<|im_end|>x"].map(String::from));
    let mut types = vec![1i32; n_text];
    types.extend([3, 3, 4, 3]);
    vec![
        ("tokenizer.ggml.model", "gpt2".into()),
        ("tokenizer.ggml.pre", "llama-bpe".into()),
        ("tokenizer.ggml.tokens", KeyValue::strings(&tokens)),
        ("tokenizer.ggml.token_type", types.into()),
        ("tokenizer.ggml.merges", KeyValue::strings(merges)),
        ("tokenizer.ggml.bos_token_id", KeyValue::U32(266)),
        ("tokenizer.ggml.eos_token_id", KeyValue::U32(267)),
    ]
}

pub fn spm_keys() -> Vec<(&'static str, KeyValue)> {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    let mut types = vec![2i32, 3, 3];
    let mut scores = vec![0f32; 3];
    for byte in 0..=255u8 {
        tokens.push(format!("<0x{byte:02X}>"));
        types.push(6);
        scores.push(0.0);
    }
    for (i, text) in [
        "▁", "h", "e", "l", "o", "w", "r", "d", "▁h", "el", "lo", "ello", "▁hello", "▁w", "or", "▁wor", "▁▁", "aa", "a",
    ]
    .iter()
    .enumerate()
    {
        tokens.push((*text).to_owned());
        types.push(1);
        scores.push(i as f32 - 100.0);
    }
    vec![
        ("tokenizer.ggml.model", "llama".into()),
        ("tokenizer.ggml.tokens", KeyValue::strings(&tokens)),
        ("tokenizer.ggml.token_type", types.into()),
        ("tokenizer.ggml.scores", scores.into()),
    ]
}

pub fn bert_keys() -> Vec<(&'static str, KeyValue)> {
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁hello", "▁un", "aff", "able", "▁,", "▁世", "▁e"];
    vec![
        ("tokenizer.ggml.model", "bert".into()),
        ("tokenizer.ggml.tokens", KeyValue::strings(tokens)),
        ("tokenizer.ggml.token_type", vec![3i32, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1].into()),
        ("tokenizer.ggml.bos_token_id", KeyValue::U32(2)),
        ("tokenizer.ggml.seperator_token_id", KeyValue::U32(3)),
        ("tokenizer.ggml.unknown_token_id", KeyValue::U32(1)),
        ("tokenizer.ggml.padding_token_id", KeyValue::U32(0)),
    ]
}

pub fn unigram_keys() -> Vec<(&'static str, KeyValue)> {
    let tokens = ["<pad>", "</s>", "<unk>", "▁", "▁a", "b", "▁ab", "c", "bc", "é"];
    vec![
        ("tokenizer.ggml.model", "t5".into()),
        ("tokenizer.ggml.tokens", KeyValue::strings(tokens)),
        ("tokenizer.ggml.token_type", vec![3i32, 3, 2, 1, 1, 1, 1, 1, 1, 1].into()),
        ("tokenizer.ggml.scores", vec![0f32, 0.0, 0.0, -2.0, -3.0, -3.0, -4.0, -5.0, -4.5, -6.0].into()),
        ("tokenizer.ggml.add_space_prefix", KeyValue::Bool(true)),
        ("tokenizer.ggml.remove_extra_whitespaces", KeyValue::Bool(true)),
    ]
}

pub fn rwkv_keys() -> Vec<(&'static str, KeyValue)> {
    let mut tokens: Vec<String> = vec!["<s>".into()];
    tokens.extend((0..=255u8).map(|b| format!("\\x{b:02x}")));
    tokens.extend(["ab", "abc", "\\n\\n"].map(String::from));
    vec![("tokenizer.ggml.model", "rwkv".into()), ("tokenizer.ggml.tokens", KeyValue::strings(&tokens))]
}

pub fn plamo_keys() -> Vec<(&'static str, KeyValue)> {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>", "<pad>"].map(String::from).to_vec();
    tokens.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
    tokens.extend(["a", "b", "ab", "abc", "c"].map(String::from));
    let mut types = vec![2i32, 3, 3, 3];
    types.extend([6; 256]);
    types.extend([1; 5]);
    let mut scores = vec![0f32; 260];
    scores.extend([-1.0, -1.0, -2.0, -9.0, -1.0]);
    vec![
        ("tokenizer.ggml.model", "plamo2".into()),
        ("tokenizer.ggml.tokens", KeyValue::strings(&tokens)),
        ("tokenizer.ggml.token_type", types.into()),
        ("tokenizer.ggml.scores", scores.into()),
    ]
}

pub fn small(name: &str, keys: Vec<(&'static str, KeyValue)>) -> Vocab {
    Vocab::load(&file_with(name, keys)).unwrap()
}

pub fn texts(vocab: &Vocab, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|id| String::from_utf8_lossy(vocab.token_text(*id)).into_owned()).collect()
}

pub fn check(vocab: &Vocab, text: &str, how: Encode, want: &[&str]) {
    assert_eq!(texts(vocab, &vocab.encode(text.as_bytes(), how)), want, "{text:?}");
}

/// Streaming gives the text of the whole, and never half a character.
pub fn check_stream(vocab: &Vocab, ids: &[u32]) {
    let mut decoder = Decoder::new(true);
    let mut got: String = ids.iter().map(|id| decoder.push(vocab, *id)).collect();
    got += &decoder.finish();
    let whole: Vec<u8> = ids.iter().flat_map(|id| vocab.piece(*id, true).into_owned()).collect();
    let strip = vocab.add_space_prefix() && ids.first().is_some_and(|id| vocab.piece(*id, true).starts_with(b" "));
    assert_eq!(got, String::from_utf8_lossy(&whole[usize::from(strip)..]));
}

/// Texts that make careless tokenizers quadratic or overflow their stack.
pub fn long_texts(n: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut state = 1u64;
    let noise = (0..n).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    vec![
        ("blanks", vec![b' '; n]),
        ("one letter", vec![b'a'; n]),
        ("blanks and a letter", [vec![b' '; n], vec![b'x']].concat()),
        ("newlines", vec![b'\n'; n]),
        ("marks", "\u{301}".repeat(n / 2).into_bytes()),
        ("a letter with marks", format!("a{}", "\u{300}\u{316}".repeat(n / 4)).into_bytes()),
        ("digits", vec![b'7'; n]),
        ("punctuation", vec![b'!'; n]),
        ("bytes", noise.collect()),
        ("zeros", vec![0; n]),
        ("words", b"the quick brown fox, ".repeat(n / 21)),
        ("ends of turns", b"<|im_end|>".repeat(n / 10)),
        ("halves of tokens", b"<|im_".repeat(n / 5)),
    ]
}
