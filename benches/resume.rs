//! How soon the first token comes when a conversation goes on after a restart: read afresh, and from its saved session.
//!
//! `cargo bench --bench resume [MODEL.gguf [TOKENS]]`; without a model it takes SmolLM2 from the cache of
//! `tools/get-smollm2.sh`. Files lie in the page cache in both cases. Each figure is the median of five.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use tealight::{Event, GenerateOptions, Model, ModelOptions, SavedSession, SessionOptions};

/// Milliseconds until the first text, and of what.
struct Times {
    open: f64,
    restore: f64,
    first: f64,
    n_read: usize,
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn options() -> (SessionOptions, GenerateOptions) {
    let mut generate = GenerateOptions::default();
    generate.max_tokens = Some(1);
    generate.sampling.temp = 0.0;
    (SessionOptions::default().with_ctx(4096), generate)
}

/// Opens the model as after a restart and asks one more question.
fn first_text(path: &Path, messages: &[Value], saved: Option<&Path>) -> tealight::Result<Times> {
    let (session, generate) = options();
    let start = Instant::now();
    let model = Model::open(path, &ModelOptions::default())?;
    model.vocab()?;
    let mut chat = model.chat(&session)?;
    let open = ms(start);
    chat.set_messages(messages.to_vec());
    if let Some(saved) = saved {
        chat.restore(&SavedSession::open(saved)?)?;
    }
    let restore = ms(start) - open;
    let (mut first, mut n_read) = (None, 0);
    for event in chat.say("And what came of it in the end?", &generate)? {
        match event? {
            Event::Text(_) | Event::Reasoning(_) => first = first.or(Some(ms(start))),
            Event::Stop(end) => n_read = end.n_prompt,
            _ => {}
        }
    }
    Ok(Times { open, restore, first: first.unwrap_or_else(|| ms(start)), n_read })
}

fn median(mut runs: Vec<Times>) -> Times {
    runs.sort_by(|a, b| a.first.total_cmp(&b.first));
    runs.swap_remove(runs.len() / 2)
}

fn main() -> tealight::Result<()> {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let cache = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache/tealight/models"));
    let default = || cache.map(|c| c.join("SmolLM2-135M-Instruct.Q4_1.gguf")).filter(|p| p.is_file());
    let Some(path) = args.next().map(PathBuf::from).or_else(default) else {
        println!("skipped: no model (tools/get-smollm2.sh brings one, or name a file)");
        return Ok(());
    };
    let wanted: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(2000);

    let model = Model::open(&path, &ModelOptions::default())?;
    let mut messages = vec![json!({"role": "system", "content": "You are a helpful assistant."})];
    while model.encode_chat(&messages)?.len() < wanted {
        let n = messages.len();
        let question = format!("Tell me part {n} of the story of the lighthouse keeper, his daughter and the sea.");
        let answer =
            "The lamp was lit before dusk, as on every evening, and the daughter counted the ships. ".repeat(5);
        messages.push(json!({"role": "user", "content": question}));
        messages.push(json!({"role": "assistant", "content": answer}));
    }
    let (session, generate) = options();
    let mut chat = model.chat(&session)?;
    chat.set_messages(messages.clone());
    chat.say("Go on.", &generate)?.last().transpose()?;
    messages = chat.messages().to_vec();
    let file = std::env::temp_dir().join(format!("tealight-resume-{}.session", std::process::id()));
    let start = Instant::now();
    let bytes = chat.save(&file)?;
    let save = ms(start);
    let n_token = chat.session().tokens().len();
    drop((chat, model));

    let runs =
        |saved: Option<&Path>| (0..5).map(|_| first_text(&path, &messages, saved)).collect::<Result<Vec<_>, _>>();
    let fresh = median(runs(None)?);
    let resumed = median(runs(Some(&file))?);
    // What a leftover costs is room in a folder that is emptied anyway.
    let _ = std::fs::remove_file(&file);
    println!("{n_token} tokens, saved in {save:.0} ms: {:.1} MB", bytes as f64 / 1e6);
    for (name, t) in [("afresh", &fresh), ("resumed", &resumed)] {
        let Times { open, restore, first, n_read } = t;
        println!(
            "{name:8} first text after {first:7.1} ms (model {open:.1}, session {restore:.1}; {n_read} tokens read)"
        );
    }
    println!("share    {:.1} %", 100.0 * resumed.first / fresh.first);
    Ok(())
}
