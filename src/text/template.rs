//! Chat templates: the Jinja programs of GGUF files, run as programs from strangers.
//!
//! The language is Jinja2 with the environment of Hugging Face's `apply_chat_template` (trim_blocks, lstrip_blocks,
//! loop controls, `generation`, `raise_exception`, `strftime_now`, `tojson` without HTML escapes, Python's methods).
//! The interpreter is our own, for two reasons that an engine without hooks in `~`, `+` and `*` cannot serve:
//!
//! * **Bounds.** Source (256 KB), tokens of one tag, nesting, steps, ranges, the length of each text and list, and
//!   all bytes that values hold at one time are limited, so every template ends quickly and in bounded memory. The
//!   sandbox's other rules hold as well: no attribute with two underscores, no method that changes its object, no
//!   loader, no clock but `strftime_now`.
//! * **Origin.** Every string knows which of its bytes came from people. Concatenation, slices, `strip`, `split`,
//!   `replace`, `join`, `tojson`, case changes and formats carry that knowledge along exactly; a change that cannot be
//!   traced counts wholly as from people. So [`ChatTemplate::prompt`] can say which parts of the text the template
//!   wrote, and [`Vocab::encode_parts`](super::Vocab::encode_parts) recognises control tokens only there. The
//!   rendered text itself is never changed.
//!
//! Everything in messages, tools and further variables counts as from people, except what an application chooses
//! and cannot spell a control token: the value of a `role` key or of a top-level variable that consists of ASCII
//! letters, digits, `_` and `-`. (Templates build tokens such as `<|user|>` from the role.)

mod access;
mod ast;
mod checks;
mod eval;
mod expressions;
mod filters;
mod format;
mod functions;
mod json;
mod lex;
mod methods;
mod operators;
mod parse;
mod time;
mod value;

use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result, escaped};
use crate::gguf::Metadata;

use ast::Stmt;
use eval::{Env, Machine};
use value::{Budget, Fail, ListKind, Out, Value};

/// Longest source; the longest template in public use stays below 40 KB.
const MAX_SOURCE: usize = 256 << 10;
/// Steps of one rendering, about a second of work; real conversations take below 1% of it.
const MAX_STEPS: u64 = 5_000_000;
/// Bytes that the values of one rendering may hold beside its input.
const MAX_LIVE_BYTES: usize = 128 << 20;
/// Longest text of a template's exception that is shown.
const MAX_MESSAGE: usize = 500;

/// A compiled chat template.
///
/// ```
/// use tealight::text::{ChatInput, ChatTemplate};
/// let template = ChatTemplate::new("{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}")?;
/// let messages = [serde_json::json!({"role": "user", "content": " Hello! "})];
/// assert_eq!(template.render(&ChatInput::new(&messages))?, "<|user|>Hello!\n");
/// # Ok::<(), tealight::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    body: Arc<[Stmt]>,
    /// Used in place of `body` when there are tools.
    tool_use: Option<Arc<[Stmt]>>,
}

/// What a template is given.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChatInput<'a> {
    /// Objects with `role`, `content` and whatever else the template knows.
    pub messages: &'a [serde_json::Value],
    /// A list of tool descriptions; `None` is Python's None.
    pub tools: Option<&'a serde_json::Value>,
    /// Whether the text ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Text of the token that begins a sequence; empty if there is none.
    pub bos_token: &'a str,
    /// Text of the token that ends a sequence; empty if there is none.
    pub eos_token: &'a str,
    /// Further variables, such as `enable_thinking`.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// What `strftime_now` shows: seconds since 1970 on the caller's clock, in the caller's time zone; `None` is now in UTC.
    pub now_s: Option<i64>,
}

impl<'a> ChatInput<'a> {
    /// These messages, no tools, with a generation prompt.
    pub fn new(messages: &'a [serde_json::Value]) -> Self {
        Self {
            messages,
            tools: None,
            add_generation_prompt: true,
            bos_token: "",
            eos_token: "",
            extra: serde_json::Map::new(),
            now_s: None,
        }
    }
}

/// Who wrote a part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The template: control tokens are meant.
    Template,
    /// People, tools or documents: everything is text.
    Content,
}

/// A rendered chat with the origin of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The rendered text.
    pub text: String,
    /// Byte ranges that cover `text` in order, neighbours differing in origin.
    pub parts: Vec<(Range<usize>, Trust)>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] with the line for a syntax error or a source beyond the limits.
    pub fn new(source: &str) -> Result<Self> {
        Ok(Self { body: compile(source)?, tool_use: None })
    }

    /// The template of a file: `tokenizer.chat_template`, and its `tool_use` variant for chats with tools.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`], and for a key that is not text.
    pub fn from_metadata(meta: &Metadata<'_>) -> Result<Option<Self>> {
        let get = |key: &str| -> Result<Option<Arc<[Stmt]>>> {
            let named = |e: Error| Error::new(ErrorKind::Model, format!("`{key}`: {e}")).in_file(meta.path());
            meta.str(key)?.map(|source| compile(source).map_err(named)).transpose()
        };
        let tool_use = get("tokenizer.chat_template.tool_use")?;
        let body = match get("tokenizer.chat_template")? {
            Some(body) => Some(body),
            None => get("tokenizer.chat_template.default")?.or_else(|| tool_use.clone()),
        };
        Ok(body.map(|body| Self { body, tool_use }))
    }

    /// The chat as text.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] with the line: what the template raised, what Python would raise, or a limit.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String> {
        self.prompt(input).map(|p| p.text)
    }

    /// The chat as text that remembers who wrote what.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn prompt(&self, input: &ChatInput<'_>) -> Result<Prompt> {
        let has_tools = input.tools.is_some_and(|t| t.as_array().is_none_or(|a| !a.is_empty()));
        let body = self.tool_use.as_ref().filter(|_| has_tools).unwrap_or(&self.body);
        let now_s = input.now_s.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
        });
        let budget = Budget::open();
        let env = variables(&budget, input).map_err(|e| failure(0, &e))?;
        budget.limit(MAX_LIVE_BYTES, MAX_STEPS);
        let mut machine = Machine::new(budget, now_s);
        machine.run(body, &env).map_err(|e| failure(machine.line, &e))?;
        let out = std::mem::take(&mut machine.out);
        let mut parts = Vec::with_capacity(2 * out.marks.len() + 1);
        let mut at = 0;
        for mark in out.marks {
            if at < mark.start {
                parts.push((at..mark.start, Trust::Template));
            }
            at = mark.end;
            parts.push((mark, Trust::Content));
        }
        if at < out.s.len() {
            parts.push((at..out.s.len(), Trust::Template));
        }
        Ok(Prompt { text: out.s, parts })
    }
}

fn variables(budget: &std::rc::Rc<Budget>, input: &ChatInput<'_>) -> Out<std::rc::Rc<Env>> {
    let env = Env::new(None);
    let messages: Out<Vec<_>> = input.messages.iter().map(|m| json::from_json(budget, m)).collect();
    env.set(&"messages".into(), Value::list(budget, messages?, ListKind::List)?);
    env.set(&"tools".into(), input.tools.map_or(Ok(Value::None), |t| json::from_json(budget, t))?);
    env.set(&"documents".into(), Value::None);
    env.set(&"add_generation_prompt".into(), Value::Bool(input.add_generation_prompt));
    env.set(&"bos_token".into(), Value::text(budget, input.bos_token)?);
    env.set(&"eos_token".into(), Value::text(budget, input.eos_token)?);
    for (name, value) in &input.extra {
        env.set(&name.as_str().into(), json::from_variable(budget, value)?);
    }
    Ok(env)
}

fn compile(source: &str) -> Result<Arc<[Stmt]>> {
    if source.len() > MAX_SOURCE {
        let message = format!("the chat template has {} bytes; at most {MAX_SOURCE} are accepted", source.len());
        return Err(Error::new(ErrorKind::Model, message));
    }
    parse::parse(source).map(Arc::from).map_err(|e| failure(0, &e))
}

fn failure(line: u32, Fail(message): &Fail) -> Error {
    let cut = message.char_indices().nth(MAX_MESSAGE).map_or(message.len(), |(i, _)| i);
    let at = if line > 0 { format!(", line {line}") } else { String::new() };
    Error::new(ErrorKind::Model, format!("chat template{at}: {}", escaped(&message[..cut])))
        .with_hint("`tealight run --raw` continues plain text without the template")
}
