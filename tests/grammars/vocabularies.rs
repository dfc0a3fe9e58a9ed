//! Vocabularies of every kind: guides allow exactly the tokens that go on, and texts come out as the grammar has them.

use std::path::Path;
use std::sync::Arc;

use tealight::sample::grammar::{Grammar, TokenTable};
use tealight::text::{Decoder, TokenKind, Vocab, VocabKind};

use super::{fixture, small, vocab};
use crate::common::shared;

const SCHEMA: &str = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":12},"tags":{"type":"array",
 "items":{"enum":["a b","é日","x"]},"maxItems":2},"n":{"type":"integer","minimum":0,"maximum":99}},
 "required":["name","tags","n"],"additionalProperties":false}"#;

/// All vocabularies of the repository and of the shared data.
fn vocabularies() -> Vec<(String, Vocab)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths: Vec<_> =
        std::fs::read_dir(fixtures).unwrap().map(|e| e.unwrap().path().join("model.gguf")).collect();
    if let Some(folder) = shared("vocab") {
        paths.extend(std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()));
    }
    if let Some(folder) = shared("fixtures") {
        paths.extend(std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path().join("model.gguf")));
    }
    paths.retain(|p| p.extension().is_some_and(|e| e == "gguf") && p.exists());
    paths.sort();
    let load = |p: &Path| Vocab::load(&Arc::new(tealight::gguf::Gguf::open(p).ok()?)).ok();
    let mut all: Vec<_> = paths.iter().filter_map(|p| Some((p.to_string_lossy().into_owned(), load(p)?))).collect();
    let made = [
        ("made-spm", small::spm_keys()),
        ("made-bpe", small::bpe_keys()),
        ("made-rwkv", small::rwkv_keys()),
        ("made-plamo", small::plamo_keys()),
    ];
    all.extend(made.map(|(name, keys)| (name.to_owned(), small::small(name, keys))));
    all
}

/// Are there tokens for each byte that characters go on with?
fn writes_every_byte(vocab: &Vocab) -> bool {
    (0x80..0xc0u8).all(|byte| (0..vocab.n_tokens()).any(|id| *vocab.piece(id, false) == [byte]))
}

/// Writes with random choices among the allowed tokens; `None` where it takes too long.
fn random_text(grammar: &Grammar, table: &Arc<TokenTable>, vocab: &Vocab, seed: u64) -> Option<String> {
    let (mut guide, mut state) = (grammar.guide(table).unwrap(), seed);
    let (mut decoder, mut text) = (Decoder::continuing(true), String::new());
    for _ in 0..400 {
        let allowed = match guide.allowed() {
            Ok(allowed) => allowed.to_vec(),
            Err(e) => {
                // A character is begun that the vocabulary has no bytes to end.
                assert!(!writes_every_byte(vocab), "{e}: {text}");
                return None;
            }
        };
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let id = *allowed.get((state >> 33) as usize % allowed.len().max(1))?;
        if vocab.is_eog(id) {
            assert!(guide.may_end().unwrap());
            return Some(text + &decoder.finish());
        }
        assert!(!matches!(vocab.token_kind(id), TokenKind::Control | TokenKind::Unknown), "control token {id}");
        guide.accept(id).unwrap();
        text += &decoder.push(vocab, id);
        if guide.is_complete().unwrap_or(false) {
            return Some(text + &decoder.finish());
        }
    }
    None
}

#[test]
fn texts_come_out_valid_with_every_vocabulary() {
    let grammar = Grammar::json_schema(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    let all = vocabularies();
    assert!(all.len() >= 9, "{}", all.len());
    let (mut n_finished, mut kinds) = (0, Vec::new());
    for (name, vocab) in &all {
        let table = Arc::new(TokenTable::new(vocab).unwrap());
        // A vocabulary without quotes or braces cannot write it.
        if grammar.guide(&table).unwrap().allowed().is_err() {
            println!("{name}: cannot write JSON");
            continue;
        }
        for seed in 0..3 {
            let Some(text) = random_text(&grammar, &table, vocab, seed) else { continue };
            let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}: {text}"));
            assert!(validator.is_valid(&value), "{name}: {text}");
            n_finished += 1;
            if !kinds.contains(&vocab.kind()) {
                kinds.push(vocab.kind());
            }
        }
    }
    println!("{n_finished} texts with {} vocabularies of the kinds {kinds:?}", all.len());
    for kind in [VocabKind::Spm, VocabKind::Bpe, VocabKind::Rwkv, VocabKind::Plamo2] {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
    assert!(n_finished >= all.len(), "{n_finished} of {}", 3 * all.len());
}

#[test]
fn what_is_allowed_is_what_goes_on() {
    // Every token of a small vocabulary, one by one.
    let vocab = vocab(&fixture("llama31"));
    let table = Arc::new(TokenTable::new(&vocab).unwrap());
    let grammar = Grammar::regex("[ab]{2}c?").unwrap();
    let fits = |text: &[u8]| {
        let n = text.iter().take_while(|b| matches!(b, b'a' | b'b')).count();
        n <= 2 && (text.len() == n || n == 2 && &text[n..] == b"c")
    };
    let allowed = grammar.guide(&table).unwrap().allowed().unwrap().to_vec();
    for id in 0..vocab.n_tokens() {
        let piece = vocab.piece(id, false);
        let want = !piece.is_empty() && !vocab.is_eog(id) && fits(&piece);
        assert_eq!(allowed.contains(&id), want, "{id} {piece:?}");
    }
}
