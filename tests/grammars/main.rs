//! Answers that keep to a form: every finished one is valid (`schemas.rs`), what is not supported is refused by its
//! name (`refused.rs`), GBNF means what it says (`gbnf.rs`), with tokenizers of every kind (`vocabularies.rs`).
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "../common/mod.rs"]
mod common;
mod gbnf;
mod refused;
mod schemas;
#[path = "../tokenizers/small.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod small;
mod vocabularies;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tealight::gguf::Gguf;
use tealight::sample::SampleOptions;
use tealight::sample::grammar::{Grammar, Guide, TokenTable};
use tealight::text::{Encode, Vocab};
use tealight::{Event, GenerateOptions, Model, ModelOptions, SessionOptions, StopReason};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf")
}

fn model(name: &str) -> Model {
    Model::open(fixture(name), &ModelOptions::default().with_threads(1)).unwrap()
}

fn vocab(path: &Path) -> Vocab {
    Vocab::load(&Arc::new(Gguf::open(path).unwrap())).unwrap()
}

fn table(name: &str) -> Arc<TokenTable> {
    Arc::new(TokenTable::new(&vocab(&fixture(name))).unwrap())
}

/// Options of an answer with this grammar, at temperature 1 and nothing left out.
fn options(grammar: &Grammar, seed: u32, max_tokens: u32) -> GenerateOptions {
    let mut sampling = SampleOptions::default();
    (sampling.seed, sampling.temp, sampling.top_k, sampling.top_p, sampling.min_p) = (seed, 1.0, 0, 1.0, 0.0);
    let mut options = GenerateOptions::new(sampling);
    options.max_tokens = Some(max_tokens);
    options.grammar = Some(grammar.clone());
    options
}

/// An answer and why it ended.
fn write(model: &Model, options: &GenerateOptions) -> tealight::Result<(String, StopReason)> {
    let mut session = model.session(&SessionOptions::default().with_ctx(4096)).unwrap();
    let prompt = model.encode(b"Answer: ", Encode { add_special: true, parse_special: false }).unwrap();
    let (mut text, mut reason) = (String::new(), None);
    for event in session.generate(&prompt, options)? {
        match event? {
            Event::Text(t) => text += &t,
            Event::Stop(summary) => reason = Some(summary.reason),
            _ => {}
        }
    }
    Ok((text, reason.expect("an answer ends")))
}

/// How a guide takes a text, cut into tokens by the vocabulary: the tokens taken, and may it end there?
fn take(guide: &mut Guide, vocab: &Vocab, text: &str) -> (usize, usize, bool) {
    let ids = vocab.encode(text.as_bytes(), Encode { add_special: false, parse_special: false });
    let mut n = 0;
    for &id in &ids {
        if guide.is_complete().unwrap_or(true) || !guide.allowed().is_ok_and(|allowed| allowed.contains(&id)) {
            break;
        }
        guide.accept(id).unwrap();
        n += 1;
    }
    (n, ids.len(), n == ids.len() && guide.may_end().unwrap())
}

/// Does a grammar match a text?
fn matches(grammar: &Grammar, table: &Arc<TokenTable>, vocab: &Vocab, text: &str) -> bool {
    take(&mut grammar.guide(table).unwrap(), vocab, text).2
}
