//! Writing text: an iterator of events that reads a prompt, then samples token after token.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::session::{Session, Want};
use crate::error::{Error, ErrorKind, Result};
use crate::reply::{Parser, Part, ToolCall};
#[cfg(feature = "grammar")]
use crate::sample::grammar::{Grammar, Guide};
use crate::sample::{SampleOptions, Sampler, Tokens};
use crate::text::{Decoder, Encode, StopStrings, Vocab};

/// How text is written.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// Tokens at most; `None`: until the model ends or the context is full.
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    pub sampling: SampleOptions,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Show control tokens as text.
    pub render_special: bool,
    /// What happens when the context is full.
    pub overflow: ContextOverflow,
    /// In a conversation: give the answer as it is written, thoughts and calls of tools as text. So are answers whose
    /// form is given, and those that show control tokens.
    pub plain: bool,
    /// The form that the answer keeps to, from its first token on.
    #[cfg(feature = "grammar")]
    pub grammar: Option<Grammar>,
}

impl GenerateOptions {
    /// These sampling options, no other limits.
    pub fn new(sampling: SampleOptions) -> Self {
        Self { sampling, ..Self::default() }
    }

    /// Is the form of the answer given?
    pub(super) fn has_form(&self) -> bool {
        #[cfg(feature = "grammar")]
        return self.grammar.is_some();
        #[cfg(not(feature = "grammar"))]
        false
    }
}

/// What happens when the context is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextOverflow {
    /// The answer ends there, with [`StopReason::ContextFull`].
    #[default]
    Stop,
    /// The oldest part is left out and the rest is read again, as if the text had begun there. Of a conversation whole
    /// turns are left out, and never the system message or the last question; of other text half of it, and not the
    /// token that begins a text. Where nothing more can be left out the answer ends.
    Shift,
    /// The answer ends there with an error.
    Error,
}

/// What happens while text is written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// So much of the prompt has been read.
    Prompt {
        /// Tokens read.
        done: usize,
        /// Tokens to read.
        total: usize,
    },
    /// Further text; whole characters.
    Text(String),
    /// Further thoughts before the answer, in a conversation with a model that marks them.
    Reasoning(String),
    /// A tool that is called, in a conversation.
    ToolCall(ToolCall),
    /// The context was full: its beginning is left out from here on.
    Shift {
        /// Messages of the conversation that were left out; 0 of text without messages.
        messages: usize,
        /// Tokens that were left out.
        tokens: usize,
    },
    /// The end.
    Stop(Summary),
}

/// Why the text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The model ended it.
    EndOfText,
    /// The grammar is complete: nothing may follow.
    Complete,
    /// A stop string appeared.
    StopString,
    /// The number of tokens was reached.
    Length,
    /// The context is full.
    ContextFull,
    /// The caller cancelled.
    Cancelled,
}

/// The figures of an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Why it ended.
    pub reason: StopReason,
    /// Tokens of the prompt that were read.
    pub n_prompt: usize,
    /// Tokens of the prompt that the session held already.
    pub n_cached: usize,
    /// Tokens written.
    pub n_generated: usize,
    /// Reading the prompt.
    pub prompt_time: Duration,
    /// Writing.
    pub generate_time: Duration,
    /// Seed of the random numbers: the same one gives the same text.
    pub seed: u32,
    /// Was a form asked for ([`GenerateOptions::grammar`]) that the answer breaks off before it is met?
    pub is_unfinished: bool,
}

/// The vocabulary as samplers see it.
pub(super) struct VocabTokens<'a>(pub &'a Vocab);

impl Tokens for VocabTokens<'_> {
    fn n_tokens(&self) -> u32 {
        self.0.n_tokens()
    }

    fn piece(&self, id: u32) -> Cow<'_, [u8]> {
        self.0.piece(id, true)
    }

    fn encode(&self, text: &[u8]) -> Vec<u32> {
        self.0.encode(text, Encode { add_special: false, parse_special: false })
    }

    fn eog(&self) -> &[u32] {
        self.0.eog()
    }
}

/// Where the writing stands.
enum Phase {
    Prompt {
        done: usize,
    },
    Write,
    /// The last text is out, the end is not.
    Ended(StopReason),
    /// The last text is out, what went wrong is not.
    Failed(Option<Error>),
    Finished,
}

/// What the next token is chosen from.
enum Next {
    /// All logits, `[n_vocab]`.
    Logits(Vec<f32>),
    /// The greatest, each behind its id, where the sampler goes by no others: they were chosen where they were
    /// computed.
    Best(Vec<(u32, f32)>),
}

impl Next {
    /// Feeds tokens and keeps what the sampler needs of their logits.
    fn read(
        &mut self,
        sampler: &Sampler,
        guide: &Form,
        session: &mut Session,
        tokens: &[u32],
        want: Want,
    ) -> Result<()> {
        // Which tokens a form allows is known only here: any of the logits may count.
        let n_best = if guide.is_free() { sampler.n_best() } else { None };
        let max = if n_best.is_some() { session.max_best().min(session.model().n_output()) } else { 0 };
        let n_best = n_best.and_then(|k| u32::try_from(k).ok()).filter(|k| *k <= max);
        match (n_best, &mut *self) {
            (Some(k), Self::Best(kept)) => replace(kept, session.feed_best(tokens, want, k)?),
            (Some(k), _) => *self = Self::Best(session.feed_best(tokens, want, k)?.to_vec()),
            (None, Self::Logits(kept)) => replace(kept, session.feed(tokens, u32::MAX, want, &mut |_| {})?),
            (None, _) => *self = Self::Logits(session.feed(tokens, u32::MAX, want, &mut |_| {})?.to_vec()),
        }
        Ok(())
    }

    /// The next token of a vocabulary of `n_vocab`.
    fn choose(&mut self, sampler: &mut Sampler, form: &mut Form, n_vocab: u32) -> Result<u32> {
        match self {
            Self::Logits(logits) => form.choose(sampler, logits),
            Self::Best(best) => Ok(sampler.sample_best(best, n_vocab as usize)),
        }
    }
}

/// The form that an answer keeps to, if any.
struct Form(#[cfg(feature = "grammar")] Option<Guide>);

#[cfg(not(feature = "grammar"))]
impl Form {
    fn new(_: &Session, _: &GenerateOptions) -> Result<Self> {
        Ok(Self())
    }

    fn is_free(&self) -> bool {
        true
    }

    fn choose(&mut self, sampler: &mut Sampler, logits: &mut [f32]) -> Result<u32> {
        Ok(sampler.sample(logits))
    }

    fn accept(&mut self, _: u32) -> Result<()> {
        Ok(())
    }

    fn may_end(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn is_complete(&mut self) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(feature = "grammar")]
impl Form {
    fn new(session: &Session, options: &GenerateOptions) -> Result<Self> {
        let Some(grammar) = &options.grammar else { return Ok(Self(None)) };
        Ok(Self(Some(grammar.guide(session.model().token_table()?)?)))
    }

    fn is_free(&self) -> bool {
        self.0.is_none()
    }

    fn choose(&mut self, sampler: &mut Sampler, logits: &mut [f32]) -> Result<u32> {
        let Some(guide) = &mut self.0 else { return Ok(sampler.sample(logits)) };
        let chosen = sampler.sample_allowed(logits, guide.allowed()?);
        chosen.ok_or_else(|| guide.stuck("every token that goes on is forbidden by a bias"))
    }

    fn accept(&mut self, id: u32) -> Result<()> {
        self.0.as_mut().map_or(Ok(()), |guide| guide.accept(id))
    }

    /// Is what was written a whole text of the form?
    fn may_end(&mut self) -> Result<bool> {
        self.0.as_mut().map_or(Ok(true), Guide::may_end)
    }

    /// May nothing follow?
    fn is_complete(&mut self) -> Result<bool> {
        self.0.as_mut().map_or(Ok(false), Guide::is_complete)
    }
}

fn replace<T: Copy>(kept: &mut Vec<T>, new: &[T]) {
    kept.clear();
    kept.extend_from_slice(new);
}

/// The state of an answer, apart from the session that it is written in.
pub(super) struct Writer {
    prompt: Vec<u32>,
    n_cached: usize,
    /// Tokens of the prompt that the session has read.
    n_read: usize,
    n_written: usize,
    max_tokens: usize,
    render_special: bool,
    sampler: Sampler,
    form: Form,
    decoder: Decoder,
    stops: StopStrings,
    next: Next,
    /// The token that was written last, which the session has not read yet.
    unread: Option<u32>,
    /// All tokens of the answer.
    written: Vec<u32>,
    overflow: ContextOverflow,
    /// What takes the answer apart, in a conversation.
    reply: Option<Parser>,
    /// Events that come before anything else is computed.
    queue: VecDeque<Event>,
    phase: Phase,
    prompt_time: Duration,
    generate_time: Duration,
}

impl Writer {
    /// Prepares to append `prompt` behind what the session holds. Samplers see both as their history; tokens that the
    /// file suppresses are never chosen.
    pub fn new(session: &Session, prompt: &[u32], options: &GenerateOptions) -> Result<Self> {
        session.model().gguf().check_unchanged()?;
        let vocab = session.model().vocab()?;
        let n_cached = session.tokens().len();
        session.check_room(prompt.len())?;
        let mut sampling = options.sampling.clone();
        sampling.logit_bias.extend(vocab.suppressed().iter().map(|&id| (id, f32::NEG_INFINITY)));
        let mut sampler = Sampler::new(&sampling, &VocabTokens(vocab));
        session.tokens().iter().chain(prompt).for_each(|&id| sampler.accept(id));
        Ok(Self {
            prompt: prompt.to_vec(),
            n_cached,
            n_read: 0,
            n_written: 0,
            max_tokens: options.max_tokens.map_or(usize::MAX, |n| n as usize),
            render_special: options.render_special,
            sampler,
            form: Form::new(session, options)?,
            // Behind a prompt a leading blank is part of the text.
            decoder: match n_cached + prompt.len() {
                0 => Decoder::new(options.render_special),
                _ => Decoder::continuing(options.render_special),
            },
            stops: StopStrings::new(options.stop.iter().cloned()),
            next: Next::Logits(Vec::new()),
            unread: None,
            written: Vec::new(),
            overflow: options.overflow,
            reply: None,
            queue: VecDeque::new(),
            phase: Phase::Prompt { done: 0 },
            prompt_time: Duration::ZERO,
            generate_time: Duration::ZERO,
        })
    }

    /// Takes the answer apart by this parser.
    pub fn take_apart(&mut self, reply: Parser) {
        self.reply = Some(reply);
    }

    /// The next event, until it returns `None`. `shift` makes room in a full context.
    pub fn next(&mut self, session: &mut Session, shift: &mut Shift<'_>) -> Option<Result<Event>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(Ok(event));
            }
            let event = match self.phase {
                Phase::Prompt { done } => self.read(session, done),
                Phase::Write => self.write(session, shift),
                Phase::Ended(reason) => self.stop(reason),
                Phase::Failed(ref mut error) => error.take().map_or_else(|| self.stop(StopReason::Cancelled), Err),
                Phase::Finished => return None,
            };
            let event = match event {
                Err(e) if e.kind() == ErrorKind::Interrupted => self.finish(StopReason::Cancelled),
                other => other,
            };
            match (event, &mut self.reply) {
                // What waits is all that there is.
                (Ok(Event::Text(text)), None) if text.is_empty() => {}
                (Ok(Event::Text(text)), Some(reply)) => {
                    let parts = reply.push(&text, true);
                    self.queue.extend(parts.into_iter().map(event_of));
                }
                (Ok(end @ Event::Stop(_)), Some(reply)) => {
                    self.queue.extend(reply.finish().into_iter().map(event_of));
                    self.queue.push_back(end);
                    self.reply = None;
                }
                (Err(e), reply) => {
                    // What was held back is said before what went wrong; the error waits for its turn.
                    let rest = reply.take().map(|mut reply| reply.finish()).unwrap_or_default();
                    if rest.is_empty() {
                        self.phase = Phase::Finished;
                        return Some(Err(e));
                    }
                    self.queue.extend(rest.into_iter().map(event_of));
                    self.phase = Phase::Failed(Some(e));
                }
                (event, _) => return Some(event),
            }
        }
    }

    /// Reads one batch of the prompt.
    fn read(&mut self, session: &mut Session, done: usize) -> Result<Event> {
        let start = Instant::now();
        let total = self.prompt.len();
        let end = total.min(done + session.model().n_batch() as usize);
        let want = if end == total { Want::Last } else { Want::None };
        self.next.read(&self.sampler, &self.form, session, &self.prompt[done..end], want)?;
        self.prompt_time += start.elapsed();
        self.n_read = end;
        self.phase = if end == total { Phase::Write } else { Phase::Prompt { done: end } };
        Ok(Event::Prompt { done: end, total })
    }

    /// Writes tokens until there is text to show.
    fn write(&mut self, session: &mut Session, shift: &mut Shift<'_>) -> Result<Event> {
        let start = Instant::now();
        let event = self.write_some(session, shift);
        self.generate_time += start.elapsed();
        event
    }

    fn write_some(&mut self, session: &mut Session, shift: &mut Shift<'_>) -> Result<Event> {
        let model = session.model().clone();
        let vocab = model.vocab()?;
        loop {
            if let Some(id) = self.unread.take() {
                self.next.read(&self.sampler, &self.form, session, &[id], Want::Last)?;
            }
            if self.n_written >= self.max_tokens {
                return self.finish(StopReason::Length);
            }
            if session.cancel_token().is_cancelled() {
                return self.finish(StopReason::Cancelled);
            }
            if self.n_written == 0 && self.form.is_complete()? {
                return self.finish(StopReason::Complete);
            }
            let id = self.next.choose(&mut self.sampler, &mut self.form, model.n_output())?;
            self.sampler.accept(id);
            self.form.accept(id)?;
            if vocab.is_eog(id) {
                let text = if self.render_special { self.decoder.push(vocab, id) } else { String::new() };
                let text = self.stops.push(&text);
                return self.last_text(text, StopReason::EndOfText);
            }
            self.n_written += 1;
            self.written.push(id);
            let text = self.decoder.push(vocab, id);
            let text = self.stops.push(&text);
            self.mark(vocab, id, &text);
            if self.stops.stopped().is_some() {
                return self.last_text(text, StopReason::StopString);
            }
            if self.form.is_complete()? {
                return self.last_text(text, StopReason::Complete);
            }
            // The text is shown before the next token is computed.
            self.unread = Some(id).filter(|_| self.n_written < self.max_tokens);
            if session.room() == 0 && self.unread.is_some() {
                let n_before = self.written.len() - 1;
                let made_room = match self.overflow {
                    ContextOverflow::Shift => shift(session, &self.written[..n_before])?,
                    ContextOverflow::Stop | ContextOverflow::Error => None,
                };
                let Some(dropped) = made_room else { return self.last_text(text, StopReason::ContextFull) };
                self.queue.push_back(dropped);
            }
            if !text.is_empty() || !self.queue.is_empty() {
                return Ok(Event::Text(text));
            }
        }
    }

    /// Tells who takes the answer apart of a control token, which is no text.
    fn mark(&mut self, vocab: &Vocab, id: u32, text: &str) {
        let Some(reply) = &mut self.reply else { return };
        let name = vocab.token_text(id);
        if self.render_special || !text.is_empty() || name.is_empty() || !vocab.piece(id, false).is_empty() {
            return;
        }
        // No character and no stop string goes on behind it.
        let rest = self.decoder.finish();
        let rest = self.stops.push(&rest) + &self.stops.finish();
        let mut parts = reply.push(&rest, true);
        parts.extend(reply.push(&String::from_utf8_lossy(name), false));
        self.queue.extend(parts.into_iter().map(event_of));
    }

    /// What is held back, then the end.
    fn finish(&mut self, reason: StopReason) -> Result<Event> {
        self.last_text(String::new(), reason)
    }

    fn last_text(&mut self, mut text: String, reason: StopReason) -> Result<Event> {
        if reason != StopReason::StopString {
            let rest = self.decoder.finish();
            text += &self.stops.push(&rest);
            text += &self.stops.finish();
        }
        if text.is_empty() {
            return self.stop(reason);
        }
        self.phase = Phase::Ended(reason);
        Ok(Event::Text(text))
    }

    fn stop(&mut self, reason: StopReason) -> Result<Event> {
        if reason == StopReason::ContextFull && self.overflow == ContextOverflow::Error {
            let text = format!("the context is full: the answer breaks off after {} tokens", self.n_written);
            return Err(Error::new(ErrorKind::Usage, text)
                .with_hint("use a larger context (-c), or --context-overflow stop or shift"));
        }
        let is_unfinished = !self.form.may_end()?;
        self.phase = Phase::Finished;
        Ok(Event::Stop(Summary {
            reason,
            n_prompt: self.n_read,
            n_cached: self.n_cached,
            n_generated: self.n_written,
            prompt_time: self.prompt_time,
            generate_time: self.generate_time,
            seed: self.sampler.seed(),
            is_unfinished,
        }))
    }
}

/// Makes room in a full session, whose last tokens are those given: the answer so far. `None`: there is nothing that
/// could be left out. Else the event that says what was.
pub(super) type Shift<'a> = dyn FnMut(&mut Session, &[u32]) -> Result<Option<Event>> + 'a;

fn event_of(part: Part) -> Event {
    match part {
        Part::Text(text) => Event::Text(text),
        Part::Reasoning(text) => Event::Reasoning(text),
        Part::Call(call) => Event::ToolCall(call),
    }
}

/// Leaves out half of what a session holds, behind the token that begins a text.
fn shift_text(session: &mut Session) -> Result<Option<Event>> {
    let tokens = session.tokens();
    let bos = session.model().vocab()?.bos();
    let n_keep = usize::from(tokens.first().is_some_and(|id| Some(*id) == bos));
    let n_drop = tokens.len().saturating_sub(n_keep).div_ceil(2);
    if n_drop == 0 {
        return Ok(None);
    }
    let rest = [&tokens[..n_keep], &tokens[n_keep + n_drop..]].concat();
    session.clear();
    session.feed(&rest, u32::MAX, Want::None, &mut |_| {})?;
    Ok(Some(Event::Shift { messages: 0, tokens: n_drop }))
}

/// An answer in the making. Dropping it stops the writing; the session keeps what was written.
pub struct Generation<'s> {
    session: &'s mut Session,
    writer: Writer,
}

impl Iterator for Generation<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.writer.next(self.session, &mut |session, _| shift_text(session))
    }
}

impl Generation<'_> {
    /// The session as it stands: between events.
    pub fn session(&self) -> &Session {
        self.session
    }
}

impl Session {
    /// Appends `prompt` and writes on from it; an empty one writes on from what the session holds.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the prompt does not fit or there is nothing to continue, [`ErrorKind::Model`] when the
    /// model has no vocabulary, [`ErrorKind::Io`] when its file has changed.
    pub fn generate(&mut self, prompt: &[u32], options: &GenerateOptions) -> Result<Generation<'_>> {
        let writer = match (prompt, self.tokens().last().copied()) {
            // The last token is fed again for its logits.
            ([], Some(last)) => {
                self.rewind(self.tokens().len() - 1)?;
                Writer::new(self, &[last], options)?
            }
            ([], None) => {
                let text = "there is no text to continue";
                return Err(Error::new(ErrorKind::Usage, text).with_hint("give a prompt of one token at least"));
            }
            _ => Writer::new(self, prompt, options)?,
        };
        Ok(Generation { session: self, writer })
    }
}

#[cfg(test)]
mod tests;
