//! Vocabulary, template, and whether an answer can end.

use serde_json::json;
use tealight::text::{Encode, Vocab};
use tealight::{Error, ErrorKind, Model};

use super::Finding;
use crate::cli::files;

/// Texts whose tokens must give them back: cases, digits, other scripts, signs beyond the basic plane.
const SAMPLES: [&str; 4] =
    ["Hello world, it is 2026!", "naïve café – Grüße", "世界 мир", "fn main() {\n    x += 1;\n}"];

const OTHER_FILE: &str = "get a newer conversion of the model, or convert it by `tealight quantize`";

/// Can the vocabulary be read, and do its tokens give texts back?
pub(super) fn vocabulary(model: &Model, found: &mut Vec<Finding>) {
    let vocab = match model.vocab() {
        Ok(vocab) => vocab,
        Err(e) => return found.push(Finding::of("vocabulary", &e)),
    };
    for warning in vocab.warnings() {
        found.push(Finding::odd("vocabulary", warning, OTHER_FILE));
    }
    let lossy: Vec<&str> = SAMPLES.into_iter().filter(|text| !gives_back(vocab, text)).collect();
    if lossy.is_empty() {
        let pre = vocab.pre().map(|p| format!(", `{}`", tealight::error::printable(p))).unwrap_or_default();
        let text =
            format!("{} tokens ({:?}{pre}) give texts back", files::count(vocab.n_tokens().into()), vocab.kind());
        found.push(Finding::good("vocabulary", text));
    } else {
        let text = format!("{} of {} sample texts do not come back from their tokens", lossy.len(), SAMPLES.len());
        found.push(Finding::odd(
            "vocabulary",
            text,
            "some vocabularies fold case or lack signs; if not, it is damaged",
        ));
    }
}

fn gives_back(vocab: &Vocab, text: &str) -> bool {
    let ids = vocab.encode(text.as_bytes(), Encode { add_special: false, parse_special: false });
    let back = vocab.decode(&ids, false, false);
    let back = String::from_utf8_lossy(&back).into_owned();
    back.trim_start() == text
}

/// Does the template make a conversation, and does a token of it end an answer?
pub(super) fn template(model: &Model, found: &mut Vec<Finding>) {
    let Ok(vocab) = model.vocab() else { return };
    if vocab.eog().is_empty() {
        let text = "no token ends an answer: the model writes until the context is full";
        found.push(Finding::odd("end", text, "limit answers by -n, or name a text that ends them by --reverse-prompt"));
    }
    match model.chat_template() {
        Ok(Some(_)) => {}
        Ok(None) => {
            let fix =
                "it completes text: `tealight run MODEL --raw`; for a conversation take its instruct or chat version";
            return found.push(Finding::odd("template", "the file has no chat template", fix));
        }
        Err(e) => return found.push(Finding::of("template", &e)),
    }
    let user = |text: &str| json!({"role": "user", "content": text});
    let answer = |text: &str| json!({"role": "assistant", "content": text});
    let question = model.encode_chat(&[user("One?")]);
    let turn = model.encode_chat(&[user("One?"), answer("ANSWERED"), user("Two?")]);
    match (question, turn) {
        (Ok(question), Ok(turn)) if question.is_empty() || turn.is_empty() => {
            let error = Error::new(ErrorKind::Model, "the chat template renders a question as nothing");
            found.push(Finding::of("template", &error));
        }
        (Ok(_), Ok(turn)) => {
            found.push(Finding::good("template", "renders a conversation"));
            ends(vocab, &turn, found);
        }
        (Err(e), _) | (_, Err(e)) => found.push(Finding::of("template", &e)),
    }
}

/// Is one of the tokens behind an answer of the rendered conversation one that ends a generation?
fn ends(vocab: &Vocab, turn: &[u32], found: &mut Vec<Finding>) {
    let text_of = |ids: &[u32]| String::from_utf8_lossy(&vocab.decode(ids, false, false)).into_owned();
    // The answer may be cut into any tokens: it ends with the first token that completes its text.
    let end = (1..=turn.len()).find(|&n| text_of(&turn[..n]).contains("ANSWERED"));
    let Some(end) = end else {
        // Templates that show the last question alone leave answers out; then the vocabulary decides.
        if let Some(id) = vocab.eot().or(vocab.eos()).filter(|id| vocab.is_eog(*id)) {
            found.push(Finding::good("end", format!("answers end with {}", name(vocab, id))));
        }
        return;
    };
    let behind = turn[end..].iter().take(4).find(|id| vocab.is_eog(**id));
    match behind {
        Some(id) => found.push(Finding::good("end", format!("answers end with {}", name(vocab, *id)))),
        None => {
            let shown = turn.get(end).map(|id| name(vocab, *id)).unwrap_or_else(|| "nothing".to_owned());
            let text = format!("behind an answer the template has {shown}, which does not end a generation");
            let fix = "if answers do not stop, end them by --reverse-prompt with the text that begins the next turn";
            found.push(Finding::odd("end", text, fix));
        }
    }
}

fn name(vocab: &Vocab, id: u32) -> String {
    format!("`{}`", tealight::error::printable(&String::from_utf8_lossy(vocab.token_text(id))))
}
