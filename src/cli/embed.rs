//! `tealight embed`: the vectors of texts.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use clap::Args;
use serde_json::json;
use tealight::engine::Embedding;
use tealight::{EmbedOptions, Model, Pooling};

use super::args::{ComputeArgs, LoraArgs, ModelFlag};
use super::interrupt::Interrupt;
use super::output::Output;
use super::progress::Progress;
use super::{Outcome, answer, input, usage};

/// Texts between two looks at the bar.
const PER_STEP: usize = 64;

pub(crate) const NOTES: &str = "Without a TEXT each line of standard input is one. Each vector is a line of numbers.

Examples:
  tealight embed model.gguf \"a text\"
  tealight embed model.gguf --json --normalize < texts.txt
  tealight embed llama.gguf --pooling last \"a text\"";

#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// Model file or name, then the texts; `-` as the text reads standard input, a text a line
    #[arg(value_names = ["MODEL", "TEXT"])]
    pub words: Vec<OsString>,
    /// One JSON object, as OpenAI has it: data with index and embedding, usage
    #[arg(long)]
    pub json: bool,
    /// Scale vectors to length 1
    #[arg(long)]
    pub normalize: bool,
    /// How the tokens of a text become its vector; none = a vector for each token [default: as the file says]
    #[arg(long, value_name = "HOW", value_enum, env = "LLAMA_ARG_POOLING", hide_env = true)]
    pub pooling: Option<HowArg>,
    #[command(flatten)]
    pub model: ModelFlag,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
}

/// How the tokens of a text become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HowArg {
    /// A vector for each token
    None,
    /// Their mean
    Mean,
    /// The first token's
    Cls,
    /// The last token's
    Last,
}

impl From<HowArg> for Pooling {
    fn from(how: HowArg) -> Self {
        match how {
            HowArg::None => Self::None,
            HowArg::Mean => Self::Mean,
            HowArg::Cls => Self::Cls,
            HowArg::Last => Self::Last,
        }
    }
}

pub(crate) fn run(args: &EmbedArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let (first, rest) = args.words.split_at(args.words.len().min(1));
    let (subject, text) = args.model.resolve(first, true)?;
    let words: Vec<OsString> = text.into_iter().chain(rest.iter().cloned()).collect();
    let texts = texts(words)?;
    let mut options = args.lora.resolve(args.compute.resolve()?);
    if let Some(how) = args.pooling {
        options = options.with_pooling(how.into());
    }
    let model = subject.open(&options)?;
    model.vocab()?;
    answer::warn(&model, out);
    let _guard = interrupt.stoppable();
    let options = EmbedOptions::default().with_normalize(args.normalize).with_cancel(interrupt.token());
    let mut found = Vec::with_capacity(texts.len());
    let progress = Progress::start(out, "reading the texts");
    for some in texts.chunks(PER_STEP) {
        let these = model.embed(some, &options.clone().with_first(found.len()))?;
        if !args.json {
            out.bytes(lines(&these).as_bytes())?;
        }
        found.extend(these);
        progress.set(found.len(), texts.len());
    }
    drop(progress);
    if args.json {
        out.bytes(object(&model, &found).as_bytes())?;
    }
    answer::tell(&model, out);
    Ok(())
}

/// The texts of the words, or of standard input, a line each.
fn texts(words: Vec<OsString>) -> Outcome<Vec<Vec<u8>>> {
    let asks_for_stdin = matches!(&words[..], [word] if word == OsStr::new("-"));
    if !words.is_empty() && !asks_for_stdin {
        return words.into_iter().map(input::bytes_of).collect();
    }
    if !asks_for_stdin && !input::is_piped() {
        return Err(usage("no text given", "add texts in quotes, or pipe them in, one a line"));
    }
    let bytes = input::without_line_end(input::stdin()?);
    if bytes.is_empty() {
        return Err(usage("standard input holds no text", "give a text a line"));
    }
    let line = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    Ok(bytes.split(|b| *b == b'\n').map(line).collect())
}

/// Numbers separated by blanks, a vector a line. Numbers are as short as they can be read back.
fn lines(found: &[Embedding]) -> String {
    let mut text = String::new();
    for vector in found.iter().flat_map(|e| &e.vectors) {
        for (i, x) in vector.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{x:?}", if i == 0 { "" } else { " " });
        }
        text.push('\n');
    }
    text
}

fn object(model: &Model, found: &[Embedding]) -> String {
    let name = model.gguf().path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let numbers = |v: &Vec<f32>| format!("[{}]", v.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(","));
    let per_token = model.pooling() == Some(Pooling::None);
    let data: Vec<String> = (0..)
        .zip(found)
        .map(|(i, e): (usize, _)| {
            let vectors: Vec<String> = e.vectors.iter().map(numbers).collect();
            let embedding = if per_token { format!("[{}]", vectors.join(",")) } else { vectors.join(",") };
            format!("    {{\"object\": \"embedding\", \"index\": {i}, \"embedding\": {embedding}}}")
        })
        .collect();
    let n_token: usize = found.iter().map(|e| e.n_token).sum();
    let usage = json!({"prompt_tokens": n_token, "total_tokens": n_token});
    format!(
        "{{\n  \"object\": \"list\",\n  \"model\": {},\n  \"data\": [\n{}\n  ],\n  \"usage\": {usage}\n}}\n",
        json!(name),
        data.join(",\n"),
    )
}
