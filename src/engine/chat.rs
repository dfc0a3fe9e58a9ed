//! A conversation: messages, the model's own template, and a session that keeps what the turns have in common.

use std::path::Path;

use serde_json::{Value, json};

use super::cancel::CancelToken;
use super::generate::{Event, GenerateOptions, StopReason, Writer};
use super::load::Model;
use super::session::{SavedSession, Session, SessionOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::text::ChatInput;

/// A conversation with a model that brings a chat template.
pub struct Chat {
    session: Session,
    messages: Vec<Value>,
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
        Ok(Chat { session: self.session(options)?, messages: Vec::new() })
    }

    /// The tokens of a conversation as the model's template renders it, ready for the answer. Control tokens are
    /// recognised only where the template wrote them, never in what people say.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the file has no template or it refuses the messages.
    pub fn encode_chat(&self, messages: &[Value]) -> Result<Vec<u32>> {
        let Some(template) = self.chat_template()? else {
            return Err(Error::new(ErrorKind::Model, "the file has no chat template").in_file(self.gguf().path()));
        };
        let vocab = self.vocab()?;
        let text = |id: Option<u32>| id.map(|id| String::from_utf8_lossy(vocab.token_text(id)).into_owned());
        let (bos, eos) = (text(vocab.bos()).unwrap_or_default(), text(vocab.eos()).unwrap_or_default());
        let mut input = ChatInput::new(messages);
        (input.bos_token, input.eos_token) = (&bos, &eos);
        let prompt = template.prompt(&input).map_err(|e| e.in_file(self.gguf().path()))?;
        Ok(vocab.encode_prompt(&prompt))
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

    /// Asks; the conversation goes back to `before` when nothing comes of it.
    fn ask(&mut self, text: &str, before: Vec<Value>, options: &GenerateOptions) -> Result<ChatTurn<'_>> {
        self.messages.push(json!({"role": "user", "content": text}));
        match self.prepare(options) {
            Ok(writer) => Ok(ChatTurn { chat: self, writer, answer: String::new(), before: Some(before) }),
            Err(e) => {
                self.messages = before;
                Err(e)
            }
        }
    }

    /// Goes back to what the session and the new prompt have in common, and prepares the rest.
    fn prepare(&mut self, options: &GenerateOptions) -> Result<Writer> {
        let tokens = self.session.model().encode_chat(&self.messages)?;
        let n_ctx = self.session.n_ctx();
        if tokens.len() >= n_ctx as usize {
            let text = format!("the conversation has {} tokens, the context holds {n_ctx}", tokens.len());
            return Err(
                Error::new(ErrorKind::Usage, text).with_hint("begin a new conversation or use a larger context (-c)")
            );
        }
        let common = self.session.tokens().iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        // At least one token must be fed: its logits are what the answer begins with.
        let common = common.min(tokens.len().saturating_sub(1));
        self.session.rewind(common)?;
        Writer::new(&self.session, &tokens[common..], options)
    }
}

/// An answer in the making. When it ends or is dropped, what was written becomes the assistant's message; if nothing
/// was, because of an error or a cancel, the question is taken back too.
pub struct ChatTurn<'c> {
    chat: &'c mut Chat,
    writer: Writer,
    answer: String,
    /// The messages before the question; `None` once the answer is remembered.
    before: Option<Vec<Value>>,
}

impl Iterator for ChatTurn<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        let event = self.writer.next(&mut self.chat.session);
        match &event {
            Some(Ok(Event::Text(text))) => self.answer += text,
            Some(Ok(Event::Stop(end))) => self.remember(end.reason != StopReason::Cancelled),
            Some(Err(_)) | None => self.remember(false),
            Some(Ok(Event::Prompt { .. })) => {}
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
        let answer = std::mem::take(&mut self.answer);
        if complete || !answer.is_empty() {
            self.chat.messages.push(json!({"role": "assistant", "content": answer}));
        } else {
            self.chat.messages = before;
        }
    }
}

impl Drop for ChatTurn<'_> {
    fn drop(&mut self) {
        self.remember(false);
    }
}
