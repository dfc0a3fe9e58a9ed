//! Answers on standard output: as people read them, or as one JSON object.

use serde_json::{Value, json};
use tealight::engine::{Event, StopReason, Summary};
use tealight::reply::ToolCall;
use tealight::{Model, Result};

use super::Outcome;
use super::output::Output;

/// Shows the parts of an answer: thoughts between tags, calls of tools as JSON, each on its line.
#[derive(Default)]
pub(crate) struct Shown {
    thinks: bool,
    /// A call was the last that was shown.
    called: bool,
}

impl Shown {
    /// Shows what an event brings.
    pub(crate) fn event(&mut self, event: &Event, out: &mut Output) -> Outcome {
        match event {
            Event::Reasoning(text) => {
                if !std::mem::replace(&mut self.thinks, true) {
                    out.model_text("<think>\n")?;
                }
                out.model_text(text)
            }
            Event::Text(text) => {
                self.end_thoughts(out)?;
                if std::mem::take(&mut self.called) {
                    out.model_text("\n")?;
                }
                out.model_text(text)
            }
            Event::ToolCall(call) => {
                self.end_thoughts(out)?;
                self.called = true;
                out.end_turn()?;
                out.model_text(&object(call).to_string())
            }
            Event::Stop(_) => self.end_thoughts(out),
            Event::Shift { messages, tokens } => {
                out.warning(&left_out(*messages, *tokens));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end_thoughts(&mut self, out: &mut Output) -> Outcome {
        match std::mem::take(&mut self.thinks) {
            true => out.model_text("\n</think>\n\n"),
            false => Ok(()),
        }
    }
}

/// What was left out of a full context.
pub(crate) fn left_out(messages: usize, tokens: usize) -> String {
    match messages {
        0 => format!("the context is full: {tokens} tokens of the text's beginning are left out from here on"),
        1 => format!("the context is full: the oldest message ({tokens} tokens) is left out from here on"),
        n => format!("the context is full: the oldest {n} messages ({tokens} tokens) are left out from here on"),
    }
}

/// A call of a tool as programs read it.
pub(crate) fn object(call: &ToolCall) -> Value {
    json!({"id": call.id, "name": call.name, "arguments": call.arguments})
}

/// The whole of an answer.
#[derive(Default)]
pub(crate) struct Whole {
    text: String,
    reasoning: String,
    calls: Vec<Value>,
    left_out: (usize, usize),
    end: Option<Summary>,
}

impl Whole {
    /// Reads an answer to its end.
    pub(crate) fn read(events: impl Iterator<Item = Result<Event>>) -> Result<Self> {
        let mut whole = Self::default();
        for event in events {
            match event? {
                Event::Text(text) => whole.text += &text,
                Event::Reasoning(text) => whole.reasoning += &text,
                Event::ToolCall(call) => whole.calls.push(object(&call)),
                Event::Shift { messages, tokens } => {
                    whole.left_out.0 += messages;
                    whole.left_out.1 += tokens;
                }
                Event::Stop(end) => whole.end = Some(end),
                _ => {}
            }
        }
        Ok(whole)
    }

    /// How it ended.
    pub(crate) fn end(&self) -> Option<&Summary> {
        self.end.as_ref()
    }

    /// One JSON object.
    pub(crate) fn to_json(&self, model: &Model) -> Value {
        let end = self.end.as_ref();
        let reasoning = Some(&self.reasoning).filter(|r| !r.is_empty());
        json!({
            "model": model.gguf().path().file_name().unwrap_or_default().to_string_lossy(),
            "content": self.text,
            "reasoning": reasoning,
            "tool_calls": self.calls,
            "stop": end.map(|e| name_of(e.reason)),
            "unfinished": end.map(|e| e.is_unfinished),
            "usage": end.map(|e| json!({
                "prompt_tokens": e.n_prompt + e.n_cached,
                "cached_tokens": e.n_cached,
                "completion_tokens": e.n_generated,
                "left_out_messages": self.left_out.0,
                "left_out_tokens": self.left_out.1,
            })),
            "timings": end.map(|e| json!({
                "prompt_ms": e.prompt_time.as_secs_f64() * 1e3,
                "generate_ms": e.generate_time.as_secs_f64() * 1e3,
            })),
            "seed": end.map(|e| e.seed),
        })
    }
}

fn name_of(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndOfText => "end",
        StopReason::Complete => "complete",
        StopReason::StopString => "stop_string",
        StopReason::Length => "length",
        StopReason::ContextFull => "context_full",
        StopReason::Cancelled => "cancelled",
        _ => "other",
    }
}
