//! A conversation: messages, the model's own template, and a session that keeps what the turns have in common.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::cancel::CancelToken;
use super::generate::{ContextOverflow, Event, GenerateOptions, StopReason, Writer};
use super::load::Model;
use super::session::{SavedSession, Session, SessionOptions, Want};
use crate::error::{Error, ErrorKind, Result};
use crate::reply::{Format, ToolCall};
use crate::text::{ChatInput, Prompt};

/// A conversation with a model that brings a chat template.
pub struct Chat {
    session: Session,
    messages: Vec<Value>,
    /// What the template is given beside the messages.
    variables: Map<String, Value>,
    tools: Option<Value>,
    /// Messages that the context has no room for, behind the system message.
    n_left_out: usize,
}

impl Model {
    /// A new conversation.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the file has no chat template, or one that does not compile.
    pub fn chat(&self, options: &SessionOptions) -> Result<Chat> {
        if self.chat_template()?.is_none() {
            let text = "the file has no chat template: the model completes text, it does not converse";
            return Err(Error::new(ErrorKind::Model, text).in_file(self.gguf().path()).with_hint("use `run --raw`"));
        }
        let session = self.session(options)?;
        Ok(Chat { session, messages: Vec::new(), variables: Map::new(), tools: None, n_left_out: 0 })
    }

    /// The tokens of a conversation as the model's template renders it, ready for the answer. Control tokens are
    /// recognised only where the template wrote them, never in what people say.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the file has no template or it refuses the messages.
    pub fn encode_chat(&self, messages: &[Value]) -> Result<Vec<u32>> {
        let prompt = self.render_chat(messages, &Map::new(), None)?;
        Ok(self.vocab()?.encode_prompt(&prompt))
    }

    /// A conversation as the template renders it, with further variables and tools.
    fn render_chat(&self, messages: &[Value], variables: &Map<String, Value>, tools: Option<&Value>) -> Result<Prompt> {
        let Some(template) = self.chat_template()? else {
            return Err(Error::new(ErrorKind::Model, "the file has no chat template").in_file(self.gguf().path()));
        };
        let vocab = self.vocab()?;
        let text = |id: Option<u32>| id.map(|id| String::from_utf8_lossy(vocab.token_text(id)).into_owned());
        let (bos, eos) = (text(vocab.bos()).unwrap_or_default(), text(vocab.eos()).unwrap_or_default());
        let mut input = ChatInput::new(messages);
        (input.bos_token, input.eos_token) = (&bos, &eos);
        input.extra.clone_from(variables);
        input.tools = tools;
        template.prompt(&input).map_err(|e| e.in_file(self.gguf().path()))
    }

    /// In which form the model thinks and calls tools, by its template and vocabulary.
    ///
    /// # Errors
    /// As [`Model::vocab`].
    pub fn reply_format(&self, tools: Option<&Value>) -> Result<Format> {
        let meta = self.gguf().metadata();
        let keys = ["tokenizer.chat_template", "tokenizer.chat_template.tool_use", "tokenizer.chat_template.default"];
        let mut template = String::new();
        for key in keys {
            template += meta.str(key)?.unwrap_or_default();
        }
        let vocab = self.vocab()?;
        Ok(Format::detect(&template, &|text| vocab.token_id(text.as_bytes()).is_some(), tools))
    }
}

impl Chat {
    /// The messages so far: objects with `role` and `content`.
    pub fn messages(&self) -> &[Value] {
        &self.messages
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Stops a running answer; what was written so far stays.
    pub fn cancel_token(&self) -> CancelToken {
        self.session.cancel_token()
    }

    /// Uses the caller's token from now on.
    pub fn set_cancel_token(&mut self, token: CancelToken) {
        self.session.set_cancel_token(token);
    }

    /// Sets, replaces or removes the system message.
    pub fn set_system(&mut self, text: Option<&str>) {
        self.messages.retain(|m| m["role"] != "system");
        if let Some(text) = text {
            self.messages.insert(0, json!({"role": "system", "content": text}));
        }
    }

    /// Goes on from these messages, in place of those that there are. What the session holds stays: it is gone on from
    /// as far as both have text in common.
    pub fn set_messages(&mut self, messages: Vec<Value>) {
        self.messages = messages;
        self.n_left_out = 0;
    }

    /// Sets a variable of the template beside the messages, such as `enable_thinking`; `None` removes it. The words are
    /// the template's own: one that it does not know changes nothing.
    pub fn set_variable(&mut self, name: &str, value: Option<Value>) {
        match value {
            Some(value) => drop(self.variables.insert(name.to_owned(), value)),
            None => drop(self.variables.shift_remove(name)),
        }
    }

    /// Sets the tools that the model may call: a list of definitions in the form of OpenAI, `{"type": "function",
    /// "function": {"name": .., "description": .., "parameters": ..}}`, which go to the template as they are.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is no list of objects with names.
    pub fn set_tools(&mut self, tools: Option<Value>) -> Result<()> {
        let is_tool = |t: &Value| t["function"]["name"].is_string() || t["name"].is_string();
        if let Some(tools) = &tools
            && !tools.as_array().is_some_and(|list| list.iter().all(is_tool))
        {
            let text = "the tools are no list of definitions with names";
            return Err(Error::new(ErrorKind::Usage, text)
                .with_hint("as in [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {}}}]"));
        }
        self.tools = tools;
        Ok(())
    }

    /// Adds what a tool gave; [`Chat::answer`] goes on from there.
    pub fn add_tool_result(&mut self, call: &ToolCall, content: &str) {
        let message = json!({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content});
        self.messages.push(message);
    }

    /// Takes over what a saved session held; see [`Session::restore`]. The messages stay.
    ///
    /// # Errors
    /// As [`Session::restore`].
    pub fn restore(&mut self, saved: &SavedSession) -> Result<()> {
        self.session.restore(saved)
    }

    /// Saves the session with the messages; see [`Session::save`].
    ///
    /// # Errors
    /// As [`Session::save`].
    pub fn save(&self, path: &Path) -> Result<u64> {
        self.session.save(path, &self.messages)
    }

    /// Forgets all messages but the system message.
    pub fn clear(&mut self) {
        self.messages.retain(|m| m["role"] == "system");
        self.n_left_out = 0;
    }

    /// Takes the last question and its answer back; `None` when there is none.
    pub fn undo(&mut self) -> Option<String> {
        let i = self.messages.iter().rposition(|m| m["role"] == "user")?;
        let text = self.messages[i]["content"].as_str().map(str::to_owned);
        self.messages.truncate(i);
        text
    }

    /// Says something; the answer comes as events and is remembered, also when it is cut short.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the template refuses the messages, [`ErrorKind::Usage`] when the conversation does
    /// not fit into the context; the conversation is then as before.
    pub fn say(&mut self, text: &str, options: &GenerateOptions) -> Result<ChatTurn<'_>> {
        let before = self.messages.clone();
        self.ask(text, before, options)
    }

    /// Asks the last question again; `None` when there is none.
    ///
    /// # Errors
    /// As [`Chat::say`].
    pub fn regenerate(&mut self, options: &GenerateOptions) -> Result<Option<ChatTurn<'_>>> {
        let before = self.messages.clone();
        let Some(text) = self.undo() else { return Ok(None) };
        self.ask(&text, before, options).map(Some)
    }

    /// Answers what was said so far, as after results of tools.
    ///
    /// # Errors
    /// As [`Chat::say`].
    pub fn answer(&mut self, options: &GenerateOptions) -> Result<ChatTurn<'_>> {
        let before = self.messages.clone();
        self.turn(before, options)
    }

    /// Asks; the conversation goes back to `before` when nothing comes of it.
    fn ask(&mut self, text: &str, before: Vec<Value>, options: &GenerateOptions) -> Result<ChatTurn<'_>> {
        self.messages.push(json!({"role": "user", "content": text}));
        self.turn(before, options)
    }

    fn turn(&mut self, before: Vec<Value>, options: &GenerateOptions) -> Result<ChatTurn<'_>> {
        match self.prepare(options) {
            Ok((writer, shifted)) => {
                Ok(ChatTurn { chat: self, writer, shifted, answer: Answer::default(), before: Some(before) })
            }
            Err(e) => {
                self.messages = before;
                Err(e)
            }
        }
    }

    /// Goes back to what the session and the new prompt have in common, and prepares the rest; says what was left out.
    fn prepare(&mut self, options: &GenerateOptions) -> Result<(Writer, Option<Event>)> {
        let mut view = View {
            messages: &self.messages,
            variables: &self.variables,
            tools: self.tools.as_ref(),
            n_left_out: &mut self.n_left_out,
        };
        let model = self.session.model().clone();
        let (mut prompt, mut tokens) = view.encode(&model)?;
        let n_ctx = self.session.n_ctx() as usize;
        let mut shifted = None;
        if tokens.len() >= n_ctx && options.overflow == ContextOverflow::Shift {
            shifted = view.leave_out(&model, n_ctx, 0)?;
            (prompt, tokens) = view.encode(&model)?;
        }
        if tokens.len() >= n_ctx {
            let text = format!("the conversation has {} tokens, the context holds {n_ctx}", tokens.len());
            return Err(Error::new(ErrorKind::Usage, text).with_hint(
                "begin a new conversation, use a larger context (-c), or --context-overflow shift, which leaves out the \
                 oldest turns",
            ));
        }
        go_to(&mut self.session, &tokens, 1)?;
        let rest = &tokens[self.session.tokens().len()..];
        let mut writer = Writer::new(&self.session, rest, options)?;
        if !options.plain && !options.render_special {
            let mut format = model.reply_format(self.tools.as_ref())?;
            if options.has_form() {
                // What is asked for in a form may look like a call, and begins outside of any thought.
                format = format.thoughts_only();
                prompt.text.clear();
            }
            if !format.is_plain() {
                let n_call = self.messages.iter().filter_map(|m| Some(m["tool_calls"].as_array()?.len())).sum();
                writer.take_apart(format.parser(&prompt.text, n_call));
            }
        }
        Ok((writer, shifted))
    }
}

/// Makes a session hold the first of these tokens, as many as it has in common with them but for `n_new` at least.
fn go_to(session: &mut Session, tokens: &[u32], n_new: usize) -> Result<()> {
    let common = session.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
    // Of a prompt at least one token must be fed: its logits are what the answer begins with.
    session.rewind(common.min(tokens.len().saturating_sub(n_new)))
}

/// A conversation as the model sees it: without what the context has no room for.
struct View<'c> {
    messages: &'c [Value],
    variables: &'c Map<String, Value>,
    tools: Option<&'c Value>,
    n_left_out: &'c mut usize,
}

impl View<'_> {
    fn visible(&self) -> Vec<Value> {
        let is_system = |m: &&Value| m["role"] == "system";
        let system = self.messages.iter().filter(is_system);
        let rest = self.messages.iter().filter(|m| !is_system(m)).skip(*self.n_left_out);
        system.chain(rest).cloned().collect()
    }

    fn encode(&mut self, model: &Model) -> Result<(Prompt, Vec<u32>)> {
        let mut visible = self.visible();
        // Turns that were taken back may leave nothing else.
        if *self.n_left_out > 0 && !visible.iter().any(|m| m["role"] == "user") {
            *self.n_left_out = 0;
            visible = self.visible();
        }
        let prompt = model.render_chat(&visible, self.variables, self.tools)?;
        let tokens = model.vocab()?.encode_prompt(&prompt);
        Ok((prompt, tokens))
    }

    /// Messages up to the second question that the model sees; `None` when there is one alone.
    fn oldest_turn(&self) -> Option<usize> {
        let rest = self.messages.iter().filter(|m| m["role"] != "system").skip(*self.n_left_out);
        let mut questions = rest.enumerate().filter(|(_, m)| m["role"] == "user").map(|(i, _)| i);
        questions.next()?;
        questions.next()
    }

    /// Leaves out the oldest turns until a quarter of the context is free behind the prompt and `n_written` tokens of
    /// an answer, or one turn alone is left. `None` when that does not make room for one more token.
    fn leave_out(&mut self, model: &Model, n_ctx: usize, n_written: usize) -> Result<Option<Event>> {
        let before = *self.n_left_out;
        let n_before = self.encode(model)?.1.len();
        let mut n_now = n_before;
        while n_now + n_written + n_ctx / 4 > n_ctx
            && let Some(n) = self.oldest_turn()
        {
            *self.n_left_out += n;
            n_now = self.encode(model)?.1.len();
        }
        let messages = *self.n_left_out - before;
        let makes_room = messages > 0 && n_now + n_written < n_ctx;
        if !makes_room {
            *self.n_left_out = before;
        }
        Ok(makes_room.then(|| Event::Shift { messages, tokens: n_before.saturating_sub(n_now) }))
    }
}

/// What was written so far.
#[derive(Default)]
struct Answer {
    text: String,
    reasoning: String,
    calls: Vec<Value>,
}

/// An answer in the making. When it ends or is dropped, what was written becomes the assistant's message, with
/// `reasoning_content` and `tool_calls` where there are such; if nothing was, because of an error or a cancel, the
/// question is taken back too.
pub struct ChatTurn<'c> {
    chat: &'c mut Chat,
    writer: Writer,
    /// What was left out of the prompt, which is said first.
    shifted: Option<Event>,
    answer: Answer,
    /// The messages before the question; `None` once the answer is remembered.
    before: Option<Vec<Value>>,
}

impl Iterator for ChatTurn<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(event) = self.shifted.take() {
            return Some(Ok(event));
        }
        let Chat { session, messages, variables, tools, n_left_out } = &mut *self.chat;
        let mut view = View { messages, variables, tools: tools.as_ref(), n_left_out };
        let mut shift = |session: &mut Session, written: &[u32]| {
            let model = session.model().clone();
            let Some(event) = view.leave_out(&model, session.n_ctx() as usize, written.len())? else { return Ok(None) };
            let tokens = [view.encode(&model)?.1, written.to_vec()].concat();
            go_to(session, &tokens, 0)?;
            let rest = tokens[session.tokens().len()..].to_vec();
            session.feed(&rest, u32::MAX, Want::None, &mut |_| {})?;
            Ok(Some(event))
        };
        let event = self.writer.next(session, &mut shift);
        match &event {
            Some(Ok(Event::Text(text))) => self.answer.text += text,
            Some(Ok(Event::Reasoning(text))) => self.answer.reasoning += text,
            Some(Ok(Event::ToolCall(call))) => self.answer.calls.push(call.to_message()),
            Some(Ok(Event::Stop(end))) => self.remember(end.reason != StopReason::Cancelled),
            Some(Err(_)) | None => self.remember(false),
            Some(Ok(Event::Prompt { .. } | Event::Shift { .. })) => {}
        }
        event
    }
}

impl ChatTurn<'_> {
    /// The session as it stands: between events.
    pub fn session(&self) -> &Session {
        &self.chat.session
    }

    fn remember(&mut self, complete: bool) {
        let Some(before) = self.before.take() else { return };
        let Answer { text, reasoning, calls } = std::mem::take(&mut self.answer);
        if !complete && text.is_empty() && reasoning.is_empty() && calls.is_empty() {
            self.chat.messages = before;
            return;
        }
        let mut message = json!({"role": "assistant", "content": text});
        if !reasoning.is_empty() {
            message["reasoning_content"] = reasoning.into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        self.chat.messages.push(message);
    }
}

impl Drop for ChatTurn<'_> {
    fn drop(&mut self) {
        self.remember(false);
    }
}
