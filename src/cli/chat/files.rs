//! What a conversation reads and writes: texts that are handed over, and conversations as JSON.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tealight::gguf::AtomicFile;
use tealight::{Error, ErrorKind};

use super::super::{Outcome, input, usage};

/// Larger files are no conversations, and fit no context.
const MAX_BYTES: u64 = 64 << 20;

/// A path as people type it or drop it on a terminal: in quotes, with escaped blanks, from the home folder.
pub(super) fn path(text: &str) -> PathBuf {
    let text = text.trim();
    let quoted = ['"', '\''].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q));
    let text = match quoted {
        Some(text) => text.to_owned(),
        None if cfg!(unix) => text.replace("\\ ", " "),
        None => text.to_owned(),
    };
    match (text.strip_prefix('~'), std::env::home_dir()) {
        (Some(""), Some(home)) => home,
        (Some(rest), Some(home)) if rest.starts_with(std::path::is_separator) => home.join(&rest[1..]),
        _ => text.into(),
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io("cannot read", path, e))?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        let why = if meta.is_file() {
            format!("{} bytes; at most {MAX_BYTES} are read", meta.len())
        } else {
            "not a file".into()
        };
        return Err(Error::new(ErrorKind::Usage, why).in_file(path).into());
    }
    input::file(path)
}

/// A text that goes with a question.
pub(super) struct Attachment {
    name: String,
    text: String,
}

impl Attachment {
    pub(super) fn read(path: &Path) -> Outcome<Self> {
        let text = input::utf8(read(path)?, &format!("`{}`", tealight::error::printable(&path.to_string_lossy())))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, text })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// The question with what goes with it, each text between fences that it does not contain.
pub(super) fn question(attachments: &[Attachment], text: &str) -> String {
    let mut question = String::new();
    for Attachment { name, text } in attachments {
        let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        question += &format!("File `{name}`:\n{fence}\n{text}{end}{fence}\n\n");
    }
    question + text
}

/// Writes a conversation. A file that is something else is not replaced.
pub(super) fn save(path: &Path, model: &Path, messages: &[Value]) -> Outcome {
    if path.exists() && load(path).is_err() {
        let error = Error::new(ErrorKind::Usage, "the file exists and is no conversation: it is not replaced");
        return Err(error.in_file(path).with_hint("choose another name").into());
    }
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let text = serde_json::to_string_pretty(&json!({"model": name, "messages": messages}));
    let cannot = |e: std::io::Error| Error::io("cannot write", path, e);
    let mut file = AtomicFile::create(path, &[model])?;
    let text = text.map_err(|e| cannot(e.into()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(cannot)?;
    Ok(file.commit()?)
}

/// Reads the messages of a conversation: an object with `messages`, or the list alone.
pub(super) fn load(path: &Path) -> Outcome<Vec<Value>> {
    let wrong = |why: String| {
        let error = Error::new(ErrorKind::Usage, format!("not a conversation: {why}")).in_file(path);
        error.with_hint("`/save FILE` writes one: {\"messages\": [{\"role\": \"user\", \"content\": \"...\"}]}")
    };
    let value: Value = serde_json::from_slice(&read(path)?).map_err(|e| wrong(e.to_string()))?;
    let messages = match value {
        Value::Array(messages) => messages,
        Value::Object(mut object) => match object.remove("messages") {
            Some(Value::Array(messages)) => messages,
            _ => return Err(wrong("found no list `messages`".into()).into()),
        },
        _ => return Err(wrong("found neither an object nor a list".into()).into()),
    };
    for (i, message) in messages.iter().enumerate() {
        let has_role = message["role"].as_str().is_some_and(|role| ROLES.contains(&role));
        // A message that calls tools may say nothing.
        let has_content = message["content"].is_string() || message["tool_calls"].is_array();
        if !has_role || !has_content {
            let what = if has_role { "text as its `content`" } else { "a `role` of system, user, assistant or tool" };
            return Err(wrong(format!("message {} lacks {what}", i + 1)).into());
        }
    }
    Ok(messages)
}

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// A path that a command must have.
pub(super) fn needed(text: &str, command: &str) -> Outcome<PathBuf> {
    if text.is_empty() {
        return Err(usage(format!("`{command}` needs a path"), &format!("as in `{command} PATH`")));
    }
    Ok(path(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tealight-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn refusal(outcome: Outcome<impl Sized>) -> String {
        match outcome {
            Err(super::super::super::Failure::Error(e)) => e.to_string(),
            _ => panic!("a refusal"),
        }
    }

    #[test]
    fn paths_are_what_people_mean() {
        for (text, meant) in [("a b", "a b"), ("'a b'", "a b"), ("\"a b\" ", "a b"), ("~x", "~x"), ("'a", "'a")] {
            assert_eq!(path(text), Path::new(meant), "{text}");
        }
        assert_eq!(path("~/x"), std::env::home_dir().unwrap().join("x"));
        #[cfg(unix)]
        assert_eq!(path("a\\ b"), Path::new("a b"));
    }

    #[test]
    fn a_text_is_fenced_by_what_it_lacks() {
        let attachment = |text: &str| Attachment { name: "n.md".into(), text: text.into() };
        assert_eq!(question(&[attachment("x")], "Why?"), "File `n.md`:\n```\nx\n```\n\nWhy?");
        assert_eq!(question(&[attachment("```\ny\n```\n")], "?"), "File `n.md`:\n````\n```\ny\n```\n````\n\n?");
        assert_eq!(question(&[], "?"), "?");
    }

    #[test]
    fn conversations_come_back_as_they_were_written() {
        let folder = folder("save");
        let (file, model) = (folder.join("c.json"), folder.join("m.gguf"));
        std::fs::write(&model, "GGUF").unwrap();
        let messages =
            vec![json!({"role": "user", "content": "a\u{1b}\n"}), json!({"role": "assistant", "content": ""})];
        assert!(save(&file, &model, &messages).is_ok());
        assert_eq!(load(&file).ok(), Some(messages.clone()));
        assert!(save(&file, &model, &messages[..1]).is_ok(), "a conversation is replaced");
        assert_eq!(load(&file).ok().map(|m| m.len()), Some(1));
        let text = refusal(save(&model, &model, &messages));
        assert!(text.contains("is not replaced"), "{text}");
        assert_eq!(std::fs::read(&model).unwrap(), b"GGUF");
        for (text, word) in [
            ("[", "EOF"),
            ("1", "neither"),
            ("{}", "`messages`"),
            ("[{}]", "`role`"),
            ("[{\"role\":\"user\"}]", "`content`"),
            ("[{\"role\":\"wizard\",\"content\":\"\"}]", "`role`"),
        ] {
            std::fs::write(&file, text).unwrap();
            let refused = refusal(load(&file));
            assert!(refused.contains(word), "{text}: {refused}");
        }
        assert!(refusal(load(&folder)).contains("not a file"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
