//! `tealight tokenize`: the token ids of a text. Needs a vocabulary, not a model that runs.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::sync::Arc;

use tealight::text::{Encode, Vocab};

use super::args::TokenizeArgs;
use super::output::Output;
use super::{Outcome, input, usage};

pub(crate) fn run(args: &TokenizeArgs, out: &mut Output) -> Outcome {
    let (subject, word) = args.model.resolve(&args.words, true)?;
    let text = match word {
        Some(word) if word != OsStr::new("-") => input::bytes_of(word)?,
        None if !input::is_piped() => return Err(usage("no text given", "add one in quotes, or pipe it in")),
        _ => input::stdin()?,
    };
    let gguf = Arc::new(subject.gguf()?);
    gguf.warnings().iter().for_each(|w| out.warning(w));
    let vocab = Vocab::load(&gguf)?;
    vocab.warnings().iter().for_each(|w| out.warning(w));
    let ids = vocab.encode(&text, Encode { add_special: !args.no_bos, parse_special: args.special });
    out.bytes(if args.pieces { pieces(&vocab, &ids) } else { line(&ids) }.as_bytes())
}

fn line(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(" ") + "\n"
}

/// One token a line: its id, a tab, its text in quotes with everything but printable ASCII and valid UTF-8 escaped.
fn pieces(vocab: &Vocab, ids: &[u32]) -> String {
    let mut text = String::new();
    for &id in ids {
        let mut piece = String::new();
        for chunk in vocab.piece(id, true).utf8_chunks() {
            piece.extend(chunk.valid().chars().map(quoted));
            piece.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{id}\t\"{piece}\"");
    }
    text
}

fn quoted(c: char) -> String {
    match c {
        '"' | '\\' | '\n' | '\t' | '\r' => c.escape_default().to_string(),
        _ => tealight::error::escaped(c.encode_utf8(&mut [0; 4])),
    }
}
