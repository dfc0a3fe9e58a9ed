//! `tealight chats`: what is kept of named chats.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tealight::chat::named::{ChatEntry, ChatName, ChatRecord};
use tealight::error::printable;
use tealight::gguf::AtomicFile;
use tealight::{Error, Result};

use super::chat::store;
use super::output::Output;
use super::{Outcome, files, terminal};

#[derive(Debug, Args)]
pub(crate) struct ChatsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// One JSON object; times in seconds since 1970 UTC, sizes in bytes
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what was said
    Show {
        /// Name of the chat
        name: ChatName,
    },
    /// Remove chats for good
    Rm {
        /// Names of chats
        #[arg(required = true, value_name = "NAME")]
        names: Vec<ChatName>,
    },
    /// Write what was said, as Markdown or JSON
    Export {
        /// Name of the chat
        name: ChatName,
        /// Form of the text
        #[arg(long, value_enum, default_value_t = Format::Markdown)]
        format: Format,
        /// Where to write [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Headings and text
    Markdown,
    /// The messages as objects
    Json,
}

pub(crate) fn run(args: &ChatsArgs, out: &mut Output) -> Outcome {
    let store = store()?;
    match &args.action {
        None => {
            let list = store.list()?;
            let text = match args.json {
                true => format!("{:#}\n", json!({"chats": list.iter().map(object).collect::<Value>()})),
                false => table(&list, now_s()),
            };
            if list.is_empty() && !args.json {
                out.notice("there are no chats yet; `tealight chat MODEL --name NAME` begins one");
            }
            out.bytes(text.as_bytes())
        }
        Some(Action::Show { name }) => {
            let record = store.read(name)?;
            out.model_text(&transcript(&record))
        }
        Some(Action::Rm { names }) => {
            // All of them must be there before one is gone.
            names.iter().try_for_each(|name| store.check(name))?;
            for name in names {
                store.remove(name)?;
                out.notice(&format!("the chat `{name}` is removed"));
            }
            Ok(())
        }
        Some(Action::Export { name, format, output }) => {
            let record = store.read(name)?;
            let text = match format {
                Format::Markdown => markdown(name, &record),
                Format::Json => format!("{:#}\n", exported(name, &record)),
            };
            match output {
                Some(path) => Ok(write(path, &text)?),
                None => out.model_text(&text),
            }
        }
    }
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    let mut file = AtomicFile::create(path, &[])?;
    file.write_all(text.as_bytes()).map_err(|e| Error::io("cannot write", path, e))?;
    file.commit()
}

fn object(entry: &ChatEntry) -> Value {
    let record = entry.record.as_ref().ok();
    json!({
        "name": entry.name.to_string(),
        "model": record.map(|r| r.model.to_string_lossy()),
        "turns": record.map(ChatRecord::n_turn),
        "created": record.map(|r| r.created_s),
        "used": record.map(|r| r.used_s),
        "bytes": entry.bytes,
        "error": entry.record.as_ref().err().map(ToString::to_string),
    })
}

fn exported(name: &ChatName, record: &ChatRecord) -> Value {
    json!({
        "name": name.to_string(),
        "model": record.model_name(),
        "created": record.created_s,
        "used": record.used_s,
        "messages": record.messages,
    })
}

/// A line for each chat.
fn table(list: &[ChatEntry], now_s: u64) -> String {
    let rows: Vec<[String; 5]> = list
        .iter()
        .map(|entry| match &entry.record {
            Ok(record) => [
                entry.name.to_string(),
                printable(&record.model_name()),
                match record.n_turn() {
                    1 => "1 turn".to_owned(),
                    n => format!("{n} turns"),
                },
                ago(now_s.saturating_sub(record.used_s)),
                files::size(entry.bytes),
            ],
            Err(_) => {
                [entry.name.to_string(), "damaged".into(), String::new(), String::new(), files::size(entry.bytes)]
            }
        })
        .collect();
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}", w = *w)).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// A span of time as people say it.
fn ago(seconds: u64) -> String {
    let (n, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {unit}{s} ago")
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

/// The text of a message.
fn content(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Questions behind `>>>`, as they were typed, and answers.
fn transcript(record: &ChatRecord) -> String {
    let mut text = String::new();
    for message in &record.messages {
        let content = content(message);
        text += &match message["role"].as_str().unwrap_or_default() {
            "user" => format!(">>> {}\n", content.replace('\n', "\n... ")),
            "assistant" => format!("{content}\n\n"),
            role => format!("[{}] {content}\n\n", terminal::safe(role)),
        };
    }
    text
}

/// Headings by who speaks.
fn markdown(name: &ChatName, record: &ChatRecord) -> String {
    let mut text = format!("# {name}\n\nModel: {}\n", printable(&record.model_name()));
    for message in &record.messages {
        let who = match message["role"].as_str().unwrap_or_default() {
            "user" => "You".to_owned(),
            "assistant" => "Assistant".to_owned(),
            "system" => "System".to_owned(),
            role => printable(role),
        };
        text += &format!("\n## {who}\n\n{}\n", content(message).trim_end());
        if let Some(calls) = message["tool_calls"].as_array().filter(|c| !c.is_empty()) {
            text += &format!("\n```json\n{:#}\n```\n", Value::from(calls.clone()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_said_shortly() {
        let said: Vec<String> = [5, 60, 7300, 86_400, 900_000].map(ago).into();
        assert_eq!(said, ["just now", "1 minute ago", "2 hours ago", "1 day ago", "10 days ago"]);
    }

    #[test]
    fn a_conversation_is_shown_and_exported() {
        let mut record = ChatRecord::default();
        record.model = "/models/m.gguf".into();
        record.messages = vec![
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "content": "Hello,\nyou"}),
            json!({"role": "assistant", "content": "**Hi**\n"}),
        ];
        assert_eq!(transcript(&record), "[system] Be brief.\n\n>>> Hello,\n... you\n**Hi**\n\n\n");
        let name = "work".parse().expect("a name");
        assert_eq!(
            markdown(&name, &record),
            "# work\n\nModel: m.gguf\n\n## System\n\nBe brief.\n\n## You\n\nHello,\nyou\n\n## Assistant\n\n**Hi**\n"
        );
        assert_eq!(exported(&name, &record)["messages"][2]["content"], "**Hi**\n");
    }
}
