//! Answers taken apart: what is said, what is thought, and which tools are called.
//!
//! A [`Format`] is found by the chat template's text and the vocabulary's tokens, never by a model's name. It says by
//! which texts a model marks its thoughts and calls. A [`Parser`] reads an answer as it comes and gives [`Part`]s. Text
//! is never lost: a block that does not hold what it should comes out as text, and so does all of an answer in a form
//! that is not known. Start reading in `reply/format.rs`, the table of forms; `reply/calls.rs` reads what stands in a
//! block.
#![forbid(unsafe_code)]

mod calls;
mod format;
mod literal;
mod parser;

pub use format::Format;
pub use parser::Parser;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// What is said.
    Text(String),
    /// What is thought before it.
    Reasoning(String),
    /// A tool that is called.
    Call(ToolCall),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ToolCall {
    /// What the result is to name: the model's own, or else nine letters and digits, as the strictest templates want.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// A JSON object.
    pub arguments: serde_json::Value,
}

impl ToolCall {
    /// The call as messages hold it.
    pub fn to_message(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        })
    }
}

#[cfg(test)]
mod tests;
