//! Text to tokens and back; chat templates.

#![forbid(unsafe_code)]

mod template;

pub use template::{ChatInput, ChatTemplate, Prompt, Trust};
