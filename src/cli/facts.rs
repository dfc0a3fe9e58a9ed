//! The table of facts: what the built-in model learned to say, `docs/faq.md` and `tealight help TOPIC`.
//!
//! `models/spark/facts.toml` uses little of TOML: tables `[[fact]]` of `key = "text"` and `key = ["text", "text"]`, a
//! line each. More is refused, so that what is read here is what Python reads there.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use tealight::engine::{BUILT_IN_FACTS, built_in};

const TABLE: &str = include_str!("../../models/spark/facts.toml");

/// Facts of this group are small talk: the model has them, the documentation does not.
const TALK: &str = "Small talk";

/// A question about tealight, and its answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fact {
    /// Name of the topic.
    pub id: String,
    /// Other names of the topic.
    pub intents: Vec<String>,
    /// Heading of `docs/faq.md`.
    pub group: String,
    /// First words of the model's answer; empty in small talk.
    pub label: String,
    pub question: String,
    pub answer: String,
    /// Commands of the answer that can be typed as they are.
    pub commands: Vec<String>,
    /// Topics, and pages of the repository.
    pub see: Vec<String>,
}

impl Fact {
    /// Is it about tealight?
    pub(crate) fn is_topic(&self) -> bool {
        self.group != TALK
    }

    /// What the model says.
    fn said(&self) -> String {
        if self.label.is_empty() { self.answer.clone() } else { format!("{}: {}", self.label, self.answer) }
    }
}

/// The facts of this build, in the order of the table.
pub(crate) fn all() -> Vec<Fact> {
    // A unit test reads the table, so it cannot be malformed in a build that passed.
    parse(TABLE).unwrap_or_default()
}

/// A hash of what the table says, as `facts_hash` of `models/spark/corpus.py` has it.
fn hash() -> String {
    let mut sum = Sha256::new();
    for fact in all() {
        sum.update(format!("{}\t{}\n", fact.id, fact.said()));
    }
    sum.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Did the built-in model learn the answers of this table?
///
/// # Errors
/// As [`built_in`].
pub(crate) fn are_learned() -> tealight::Result<bool> {
    let Some(gguf) = built_in()? else { return Ok(false) };
    Ok(gguf.metadata().str(BUILT_IN_FACTS)? == Some(hash().as_str()))
}

/// The table's answers as one page of Markdown.
pub(crate) fn faq() -> String {
    let facts = all();
    let mut text = "# Questions and answers\n\nMade from `models/spark/facts.toml` by `tealight help --faq`; the small built-in model learned the same answers. In a terminal: `tealight help TOPIC`.\n".to_owned();
    let mut groups: Vec<&str> = Vec::new();
    for fact in facts.iter().filter(|f| f.is_topic()) {
        if !groups.contains(&fact.group.as_str()) {
            groups.push(&fact.group);
        }
    }
    for group in groups {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {group}\n");
        for fact in facts.iter().filter(|f| f.group == group) {
            let _ = write!(text, "\n### {}\n{}\n", fact.question, capitalised(&fact.answer));
            let see: Vec<String> = fact.see.iter().map(|s| link(s, &facts)).collect();
            let _ = write!(text, "\nTopic `{}`", fact.id);
            let _ = if see.is_empty() { writeln!(text, ".") } else { writeln!(text, "; see {}.", see.join(", ")) };
        }
    }
    text
}

/// A page as a link from `docs/`, a topic as a link to its heading.
fn link(see: &str, facts: &[Fact]) -> String {
    if let Some(fact) = facts.iter().find(|f| f.id == see) {
        let anchor: String = fact
            .question
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        return format!("[{}](#{anchor})", fact.question);
    }
    match see.strip_prefix("docs/") {
        Some(page) => format!("[{see}]({page})"),
        None => format!("[{see}](../{see})"),
    }
}

/// A sentence by itself: behind a label it goes on in small letters.
pub(crate) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Reads the table.
fn parse(text: &str) -> Result<Vec<Fact>, String> {
    let mut facts: Vec<Fact> = Vec::new();
    for (n, line) in (1..).zip(text.lines()) {
        let wrong = |why: &str| format!("line {n}: {why}");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "[[fact]]" {
            facts.push(Fact::default());
            continue;
        }
        let (key, value) = line.split_once(" = ").ok_or_else(|| wrong("no `key = value`"))?;
        let fact = facts.last_mut().ok_or_else(|| wrong("no fact has begun"))?;
        // Strings and arrays of strings are written alike in TOML and JSON.
        let value: serde_json::Value = serde_json::from_str(value).map_err(|e| wrong(&e.to_string()))?;
        let text = || value.as_str().map(str::to_owned).ok_or_else(|| wrong("not a text"));
        let texts = || {
            let all = value.as_array().and_then(|a| a.iter().map(|v| v.as_str().map(str::to_owned)).collect());
            all.ok_or_else(|| wrong("not a list of texts"))
        };
        match key {
            "id" => fact.id = text()?,
            "group" => fact.group = text()?,
            "label" => fact.label = text()?,
            "question" => fact.question = text()?,
            "answer" => fact.answer = text()?,
            "intents" => fact.intents = texts()?,
            "commands" => fact.commands = texts()?,
            "see" => fact.see = texts()?,
            _ => return Err(wrong("an unknown key")),
        }
    }
    Ok(facts)
}

#[cfg(test)]
mod tests;
