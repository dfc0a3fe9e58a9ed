//! Texts and files that break careless tokenizers.

use std::time::{Duration, Instant};

use crate::small::*;
use tealight::gguf::KeyValue;
use tealight::text::{Encode, Vocab};

#[test]
fn long_texts_take_time_in_proportion() {
    // Debug builds are slow; what is tested is growth, for which a quarter of a megabyte is plenty.
    let n = 1 << 18;
    let vocabularies = [
        ("bpe", small("l-bpe", bpe_keys())),
        ("spm", small("l-spm", spm_keys())),
        ("bert", small("l-bert", bert_keys())),
        ("ugm", small("l-ugm", unigram_keys())),
        ("rwkv", small("l-rwkv", rwkv_keys())),
        ("plamo", small("l-plamo", plamo_keys())),
    ];
    for (name, vocab) in &vocabularies {
        for (what, text) in long_texts(n) {
            let start = Instant::now();
            vocab.encode(&text, FULL);
            let took = start.elapsed();
            assert!(took < Duration::from_secs(4), "{name}, {what}: {took:?}");
        }
    }
}

#[test]
fn every_pre_tokenizer_is_linear() {
    for pre in [
        "gpt-2",
        "qwen2",
        "gpt-4o",
        "deepseek-llm",
        "deepseek-v3",
        "deepseek-coder",
        "kimi-k2",
        "jais-2",
        "superbpe",
        "exaone-moe",
        "chameleon",
        "bloom",
        "falcon",
        "gemma4",
    ] {
        let mut keys = bpe_keys();
        keys[1].1 = pre.into();
        let vocab = small("linear", keys);
        for (what, text) in long_texts(1 << 17) {
            let start = Instant::now();
            vocab.encode(&text, PLAIN);
            assert!(start.elapsed() < Duration::from_secs(30), "{pre}, {what}: {:?}", start.elapsed());
        }
    }
}

#[test]
fn many_special_tokens_in_one_text_take_time_in_proportion() {
    // Each of many occurs once; and lengths 1 to 1,000 of one letter, all of which match almost everywhere.
    let many: Vec<String> = (0..40_000).map(|i| format!("<tool_{i}>")).collect();
    let each_once = (many.concat().into_bytes(), (0..40_000).map(|i| i + 256).collect::<Vec<u32>>());
    let nested: Vec<String> = (1..=1000).map(|n| "a".repeat(n)).collect();
    let run = ([b'a'; 100_007].to_vec(), [vec![256 + 999; 100], vec![256 + 6]].concat());
    for (name, special, (text, want)) in [("many", many, each_once), ("nested", nested, run)] {
        let mut tokens: Vec<String> = alphabet().iter().map(char::to_string).collect();
        let types = [vec![1i32; tokens.len()], vec![4; special.len()]].concat();
        tokens.extend(special);
        let keys = vec![
            ("tokenizer.ggml.model", "gpt2".into()),
            ("tokenizer.ggml.pre", "gpt-2".into()),
            ("tokenizer.ggml.tokens", KeyValue::strings(&tokens)),
            ("tokenizer.ggml.token_type", types.into()),
            ("tokenizer.ggml.merges", KeyValue::strings([""; 0])),
        ];
        let vocab = small("many-special", keys);
        let start = Instant::now();
        let ids = vocab.encode(&text, PLAIN);
        let took = start.elapsed();
        assert!(ids == want, "{name}");
        assert!(took < Duration::from_secs(20), "{name}: {took:?}");
    }
}

// ---- malformed vocabularies

/// `keys` with one of them replaced, or taken away.
fn with(
    mut keys: Vec<(&'static str, KeyValue)>,
    key: &'static str,
    value: Option<KeyValue>,
) -> Vec<(&'static str, KeyValue)> {
    keys.retain(|(k, _)| *k != key);
    keys.extend(value.map(|v| (key, v)));
    keys
}

#[test]
fn what_cannot_be_a_vocabulary_is_refused_by_key() {
    type Case = (&'static str, Vec<(&'static str, KeyValue)>, &'static str);
    let none = || KeyValue::strings([""; 0]);
    let cases: Vec<Case> = vec![
        ("no model", with(bpe_keys(), "tokenizer.ggml.model", None), "no vocabulary"),
        ("no_vocab", with(bpe_keys(), "tokenizer.ggml.model", Some("no_vocab".into())), "no vocabulary"),
        (
            "unknown model",
            with(bpe_keys(), "tokenizer.ggml.model", Some("hybriddna\x1b[2J".into())),
            "tokenizer.ggml.model",
        ),
        ("model is a number", with(bpe_keys(), "tokenizer.ggml.model", Some(KeyValue::U32(1))), "tokenizer.ggml.model"),
        ("no tokens", with(bpe_keys(), "tokenizer.ggml.tokens", None), "tokenizer.ggml.tokens"),
        ("empty tokens", with(bpe_keys(), "tokenizer.ggml.tokens", Some(none())), "tokenizer.ggml.tokens"),
        (
            "tokens are numbers",
            with(bpe_keys(), "tokenizer.ggml.tokens", Some(vec![1i32, 2].into())),
            "tokenizer.ggml.tokens",
        ),
        ("tokens are text", with(bpe_keys(), "tokenizer.ggml.tokens", Some("a".into())), "tokenizer.ggml.tokens"),
        (
            "short types",
            with(bpe_keys(), "tokenizer.ggml.token_type", Some(vec![1i32].into())),
            "tokenizer.ggml.token_type",
        ),
        ("type 77", with(spm_keys(), "tokenizer.ggml.token_type", Some(vec![77i32; 278].into())), "77 for token 0"),
        (
            "types are floats",
            with(spm_keys(), "tokenizer.ggml.token_type", Some(vec![1f32; 278].into())),
            "tokenizer.ggml.token_type",
        ),
        ("short scores", with(spm_keys(), "tokenizer.ggml.scores", Some(vec![1f32].into())), "tokenizer.ggml.scores"),
        ("NaN scores", with(spm_keys(), "tokenizer.ggml.scores", Some(vec![f32::NAN; 278].into())), "NaN"),
        (
            "text scores",
            with(spm_keys(), "tokenizer.ggml.scores", Some(KeyValue::strings(["1"]))),
            "tokenizer.ggml.scores",
        ),
        ("text id", with(bpe_keys(), "tokenizer.ggml.bos_token_id", Some("1".into())), "tokenizer.ggml.bos_token_id"),
        ("no merges", with(bpe_keys(), "tokenizer.ggml.merges", None), "tokenizer.ggml.merges"),
        (
            "merges are numbers",
            with(bpe_keys(), "tokenizer.ggml.merges", Some(vec![1i32].into())),
            "tokenizer.ggml.merges",
        ),
        (
            "charsmap lies",
            with(unigram_keys(), "tokenizer.ggml.precompiled_charsmap", Some(vec![255u8; 9].into())),
            "precompiled_charsmap",
        ),
        ("pre is a number", with(bpe_keys(), "tokenizer.ggml.pre", Some(KeyValue::U32(3))), "tokenizer.ggml.pre"),
    ];
    for (name, keys, words) in cases {
        let error = match Vocab::load(&file_with("refused", keys)) {
            Ok(_) => panic!("{name} was accepted"),
            Err(e) => e,
        };
        assert_eq!(error.kind(), tealight::ErrorKind::Model, "{name}");
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert!(!error.to_string().contains('\x1b'), "{name}");
    }
}

#[test]
fn what_can_be_mended_is_used_with_a_warning() {
    let merges = |list: &[&str]| Some(KeyValue::strings(list));
    let cases = [
        ("unknown pre", with(bpe_keys(), "tokenizer.ggml.pre", Some("lama-bpe".into())), "`llama-bpe`"),
        (
            "unknown pre, what to do",
            with(bpe_keys(), "tokenizer.ggml.pre", Some("lama-bpe".into())),
            "convert the model",
        ),
        ("missing pre", with(bpe_keys(), "tokenizer.ggml.pre", None), "`default`"),
        ("id out of range", with(bpe_keys(), "tokenizer.ggml.eos_token_id", Some(KeyValue::U32(9999))), "eos_token_id"),
        ("negative id", with(bpe_keys(), "tokenizer.ggml.bos_token_id", Some(KeyValue::I32(-1))), "bos_token_id"),
        (
            "bad merges",
            with(bpe_keys(), "tokenizer.ggml.merges", merges(&["h e", "q q", "", " ", "x", "a b c", "h e", "l l"])),
            "5 of 8",
        ),
        ("empty merges", with(bpe_keys(), "tokenizer.ggml.merges", merges(&[])), "is empty"),
        ("long scores", with(spm_keys(), "tokenizer.ggml.scores", Some(vec![0f32; 999].into())), "999 values"),
        (
            "BOS to add but none",
            with(
                with(bpe_keys(), "tokenizer.ggml.bos_token_id", Some(KeyValue::U32(9999))),
                "tokenizer.ggml.add_bos_token",
                Some(KeyValue::Bool(true)),
            ),
            "BOS",
        ),
    ];
    for (name, keys, words) in cases {
        let vocab = Vocab::load(&file_with("mended", keys)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(vocab.warnings().iter().any(|w| w.contains(words)), "{name}: {:?}", vocab.warnings());
        let ids = vocab.encode(b"hello world", FULL);
        assert!(ids.iter().all(|id| *id < vocab.n_tokens()) && !ids.is_empty(), "{name}");
    }
}

#[test]
fn tokens_too_long_to_be_found_are_named() {
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    let long = vec![b'q'; 1025];
    let escaped = b"\\x71".repeat(300);
    for model in ["llama", "gpt2", "bert", "t5", "rwkv", "plamo2"] {
        let of_trie = !matches!(model, "llama" | "gpt2");
        for (text, kind, warned) in [
            (&long[..], NORMAL, of_trie),
            (&long, CONTROL, true),
            (&long[1..], NORMAL, false),
            (&long[1..], CONTROL, false),
            (&escaped, NORMAL, of_trie && model != "rwkv"),
        ] {
            let keys = vec![
                ("tokenizer.ggml.model", model.into()),
                ("tokenizer.ggml.tokens", KeyValue::strings([b"<unk>", &b"<s>"[..], b"</s>", text])),
                ("tokenizer.ggml.token_type", vec![2, CONTROL, CONTROL, kind].into()),
                ("tokenizer.ggml.merges", KeyValue::strings([""; 0])),
            ];
            let vocab = small("long", keys);
            let name = format!("{model}, {} bytes, type {kind}", text.len());
            let said = vocab.warnings().iter().any(|w| w.contains("1 tokens, number 3 first") && w.contains("1024"));
            assert_eq!(said, warned, "{name}: {:?}", vocab.warnings());
            if kind == CONTROL {
                let found = vocab.encode(text, Encode { add_special: false, parse_special: true }) == [3];
                assert_eq!(found, !warned, "{name}");
            }
        }
    }
}

#[test]
fn strange_token_texts_are_no_danger() {
    let long = vec![b'a'; 4 << 20];
    let strange: Vec<&[u8]> = vec![
        b"",
        b"",
        b"a",
        b"a",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\0",
        b"<0x-1>",
        b"<0x41>",
        b"<0x41>",
        b"<0xG0>",
        &long,
        b"<s>",
        b"<s><s>",
        b"a a",
        b" ",
    ];
    for model in ["llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "gemma4", "whitespace"] {
        let mut types: Vec<i32> = vec![1; strange.len()];
        types[7..11].fill(6);
        types[12..14].fill(3);
        let keys = vec![
            ("tokenizer.ggml.model", model.into()),
            ("tokenizer.ggml.tokens", KeyValue::strings(&strange)),
            ("tokenizer.ggml.token_type", types.into()),
            ("tokenizer.ggml.merges", KeyValue::strings(["a a", "  a", "a  ", "\\"])),
            (
                "tokenizer.ggml.precompiled_charsmap",
                vec![8u8, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127, 0, 65].into(),
            ),
        ];
        let vocab = small("strange", keys);
        assert!(vocab.warnings().iter().any(|w| w.contains("more than once")), "{model}: {:?}", vocab.warnings());
        for text in [&b""[..], b"a", b"aaaa <s><s><s> A\xff\xfe\xed\xa0\x80\0", "é中\u{2581} <0x41>".as_bytes()] {
            let ids = vocab.encode(text, FULL);
            check_stream(&vocab, &ids);
            vocab.decode(&ids, true, true);
        }
        for id in 0..vocab.n_tokens() + 2 {
            vocab.piece(id, true);
        }
    }
}

#[test]
fn a_sentencepiece_file_without_types_still_knows_its_bytes() {
    let typed = small("typed-spm", spm_keys());
    let untyped = small("untyped-spm", with(spm_keys(), "tokenizer.ggml.token_type", None));
    assert!(untyped.warnings().iter().any(|w| w.contains("token_type")), "{:?}", untyped.warnings());
    for text in ["hello", "ü€", "\u{1F600} x"] {
        let ids = untyped.encode(text.as_bytes(), FULL);
        assert_eq!(ids, typed.encode(text.as_bytes(), FULL), "{text}");
        assert_eq!(untyped.decode(&ids, true, false), typed.decode(&ids, true, false), "{text}");
    }
}
