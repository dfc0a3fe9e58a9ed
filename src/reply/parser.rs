//! Takes an answer apart as it comes.

use super::calls::{self, Body};
use super::format::{Block, Format};
use super::{Part, ToolCall};

/// Reads one answer. Made by [`Format::parser`].
///
/// ```
/// use tealight::reply::{Format, Part};
/// let format = Format::detect("{{ '<think>' }}..", &|_| false, None);
/// let mut parser = format.parser("", 0);
/// let mut parts = parser.push("<thi", true);
/// parts.extend(parser.push("nk>Hm.</think>\n\nYes.", true));
/// parts.extend(parser.finish());
/// assert_eq!(parts, [Part::Reasoning("Hm.".into()), Part::Text("Yes.".into())]);
/// ```
pub struct Parser {
    format: Format,
    state: State,
    /// What is not decided on yet.
    text: String,
    /// Which of its bytes are text; the others are control tokens, which no text shows.
    shown: Vec<bool>,
    /// Where the end of a block is looked for.
    from: usize,
    /// Blanks behind what was given, which count only if more of its kind follows.
    space: String,
    /// A block has just ended: blanks belong to it.
    behind_block: bool,
    /// Calls so far, in the conversation.
    n_call: usize,
    parts: Vec<Part>,
}

enum State {
    /// Nothing is decided on yet.
    Start,
    Text,
    Reasoning {
        open: &'static str,
        close: &'static str,
    },
    Block(&'static Block),
    /// All of the answer is JSON, if it is a call.
    Bare,
    /// Between the messages of Harmony: up to `<|message|>`.
    Header,
    Message(Message),
    /// Behind `>>>NAME`; `None`: everyone.
    Recipient(Option<String>),
}

/// Who hears a message of Harmony.
#[derive(Clone, PartialEq)]
enum Message {
    Text,
    Reasoning,
    Call(String),
}

/// What ends a message of Harmony. The last two begin the next one.
const MESSAGE_ENDS: [&str; 5] = ["<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"];
const HEADERS: [&str; 2] = ["<|start|>", "<|channel|>"];

/// What a mark in text begins.
#[derive(Clone, Copy)]
enum Begins {
    Nothing,
    Thought(&'static str, &'static str),
    Block(&'static Block),
    Header,
}

impl Parser {
    pub(super) fn new(format: Format, prompt: &str, n_call: usize) -> Self {
        let tail = prompt.trim_end();
        let open = format.thoughts.iter().copied().find(|(open, _)| tail.ends_with(open));
        let state = match open {
            Some((open, close)) => State::Reasoning { open, close },
            None if format.recipients && !tail.ends_with(">>>") => State::Recipient(None),
            None => State::Start,
        };
        Self {
            format,
            state,
            text: String::new(),
            shown: Vec::new(),
            from: 0,
            space: String::new(),
            behind_block: open.is_some(),
            n_call,
            parts: Vec::new(),
        }
    }

    /// Takes further text, or the name of a control token, which is not `shown`; gives the parts that are decided on.
    pub fn push(&mut self, text: &str, shown: bool) -> Vec<Part> {
        self.text += text;
        self.shown.resize(self.text.len(), shown);
        while self.step(false) {}
        std::mem::take(&mut self.parts)
    }

    /// The answer has ended: gives what is left.
    pub fn finish(&mut self) -> Vec<Part> {
        while self.step(true) {}
        let space = std::mem::take(&mut self.space);
        match self.state {
            _ if self.behind_block => {}
            State::Reasoning { .. } | State::Message(Message::Reasoning) => {}
            _ => self.give(Part::Text(space)),
        }
        std::mem::take(&mut self.parts)
    }

    /// One decision; `false` when none can be made.
    fn step(&mut self, at_end: bool) -> bool {
        if self.text.is_empty() {
            return false;
        }
        match &self.state {
            State::Start => self.start(at_end),
            State::Text => self.read_text(at_end),
            State::Reasoning { open, close } => {
                let (open, close) = (*open, *close);
                // Some models open again what their prompt has opened.
                let begun = self.text.trim_start();
                if self.behind_block && begun.starts_with(open) {
                    self.skip(self.text.len() - begun.len() + open.len());
                    return true;
                }
                if self.behind_block && open.starts_with(begun) && !at_end {
                    return false;
                }
                self.read_until(&[close], at_end, Message::Reasoning, |parser| {
                    parser.skip(close.len());
                    parser.end_block();
                })
            }
            State::Block(block) => {
                let block = *block;
                self.read_block(block, at_end)
            }
            State::Bare => self.read_bare(at_end),
            State::Header => self.read_header(at_end),
            State::Message(message) => {
                let message = message.clone();
                self.read_message(message, at_end)
            }
            State::Recipient(name) => {
                let name = name.clone();
                self.read_recipient(name, at_end)
            }
        }
    }

    fn start(&mut self, at_end: bool) -> bool {
        let text = self.text.trim_start();
        if self.format.harmony {
            let begins = ["<|start|>", "<|channel|>", " to="];
            let is_open = begins.iter().any(|b| b.starts_with(&self.text));
            if is_open && !at_end {
                return false;
            }
            let is_header = begins.iter().any(|b| self.text.starts_with(b));
            self.state = if is_header { State::Header } else { State::Text };
        } else if self.format.recipients {
            match recipient(&self.text) {
                Recipient::Named(name, n) => {
                    self.skip(n);
                    self.state = State::Recipient(Some(name).filter(|n| n != "all"));
                }
                Recipient::Unfinished if !at_end => return false,
                _ => self.state = State::Recipient(None),
            }
        } else if self.format.bare_json && text.starts_with('{') {
            self.state = State::Bare;
        } else if self.format.bare_json && text.is_empty() && !at_end {
            return false;
        } else {
            self.state = State::Text;
        }
        true
    }

    fn marks(&self) -> Vec<(&'static str, Begins)> {
        let format = &self.format;
        let silent = format.silent.iter().map(|m| (*m, Begins::Nothing));
        let thoughts = format.thoughts.iter().map(|(open, close)| (*open, Begins::Thought(open, close)));
        let blocks = format.blocks.iter().map(|b| (b.open, Begins::Block(b)));
        let headers = HEADERS.into_iter().filter(|_| format.harmony).map(|m| (m, Begins::Header));
        silent.chain(thoughts).chain(blocks).chain(headers).collect()
    }

    fn read_text(&mut self, at_end: bool) -> bool {
        let marks = self.marks();
        let found = marks.iter().filter_map(|(mark, begins)| Some((self.text.find(mark)?, *mark, *begins)));
        let Some((at, mark, begins)) = found.min_by_key(|(at, mark, _)| (*at, usize::MAX - mark.len())) else {
            let keep = if at_end { 0 } else { held_back(&self.text, marks.iter().map(|m| m.0)) };
            return self.give_text(self.text.len() - keep, Message::Text);
        };
        let given = self.give_text(at, Message::Text);
        // A longer mark may be about to stand there.
        let is_longer = |(m, _): &(&str, Begins)| m.len() > self.text.len() && m.starts_with(&self.text);
        if !at_end && marks.iter().any(is_longer) {
            return given;
        }
        match begins {
            Begins::Nothing => self.skip(mark.len()),
            Begins::Thought(open, close) => {
                self.skip(mark.len());
                self.space.clear();
                self.behind_block = true;
                self.state = State::Reasoning { open, close };
            }
            Begins::Block(block) => {
                self.from = mark.len();
                self.state = State::Block(block);
            }
            Begins::Header => self.state = State::Header,
        }
        true
    }

    /// Gives text up to the first of these marks, and then does what it means.
    fn read_until(
        &mut self,
        marks: &[&'static str],
        at_end: bool,
        kind: Message,
        then: impl FnOnce(&mut Self),
    ) -> bool {
        if let Some(at) = marks.iter().filter_map(|mark| self.text.find(mark)).min() {
            self.give_text(at, kind);
            then(self);
            return true;
        }
        let keep = if at_end { 0 } else { held_back(&self.text, marks.iter().copied()) };
        self.give_text(self.text.len() - keep, kind)
    }

    /// Thoughts or a call are over: blanks behind them are theirs.
    fn end_block(&mut self) {
        if matches!(self.state, State::Reasoning { .. } | State::Message(Message::Reasoning)) {
            self.space.clear();
        }
        self.behind_block = true;
        self.state = State::Text;
    }

    fn read_block(&mut self, block: &'static Block, at_end: bool) -> bool {
        let start = block.open.len() - block.keep;
        let found = block.close.iter().filter_map(|c| Some((self.from + self.text[self.from..].find(c)?, *c))).min();
        let Some((at, close)) = found else {
            if at_end {
                let n = self.text.len();
                self.end_of_block(block, start, n, n);
                return true;
            }
            let longest = block.close.iter().map(|c| c.len()).max().unwrap_or(0);
            let mut from = self.text.len().saturating_sub(longest).max(self.from);
            while !self.text.is_char_boundary(from) {
                from -= 1;
            }
            self.from = from;
            return false;
        };
        // A string of JSON may hold the mark.
        if calls::is_unfinished_json(&self.text[start..at]) && self.text[start..].trim_start().starts_with(['{', '[']) {
            self.from = at + close.len();
            return true;
        }
        // What ends one block may begin the next.
        let n = if block.open.starts_with(close) { at } else { at + close.len() };
        self.end_of_block(block, start, at, n);
        true
    }

    /// Reads the calls between `start` and `end`, and takes `n` bytes; without calls they are text.
    fn end_of_block(&mut self, block: &Block, start: usize, end: usize, n: usize) {
        match calls::read(block.body, &self.text[start..end], self.format.tools.as_ref()) {
            Some(calls) => {
                self.skip(n);
                self.give_calls(calls);
            }
            None => {
                self.state = State::Text;
                self.give_text(n, Message::Text);
            }
        }
    }

    fn read_bare(&mut self, at_end: bool) -> bool {
        // Other JSON is an answer, and is shown as it comes.
        if let Some(is_call) = begins_call(&self.text) {
            if !is_call {
                self.state = State::Text;
                return true;
            }
            if at_end {
                let calls = calls::read(Body::Json, &self.text, None);
                self.state = State::Text;
                if let Some(calls) = calls {
                    self.skip(self.text.len());
                    self.give_calls(calls);
                }
                return true;
            }
        } else if at_end {
            self.state = State::Text;
            return true;
        }
        false
    }

    fn read_header(&mut self, at_end: bool) -> bool {
        const END: &str = "<|message|>";
        let Some(at) = self.text.find(END) else {
            if at_end {
                // Marks of an answer that was cut; none of it is text.
                self.skip(self.text.len());
            }
            return at_end;
        };
        let header = &self.text[..at];
        let word = |mark: &str| {
            let rest = header.split_once(mark)?.1;
            let end = rest.find(|c: char| c == '<' || c.is_whitespace()).unwrap_or(rest.len());
            Some(&rest[..end])
        };
        let message = match (word("to="), word("<|channel|>")) {
            (Some(name), _) if !name.is_empty() => {
                Message::Call(name.strip_prefix("functions.").unwrap_or(name).to_owned())
            }
            (_, Some("analysis")) => Message::Reasoning,
            _ => Message::Text,
        };
        if message == Message::Reasoning {
            self.space.clear();
            self.behind_block = true;
        }
        self.skip(at + END.len());
        self.state = State::Message(message);
        true
    }

    fn read_message(&mut self, message: Message, at_end: bool) -> bool {
        let end = |parser: &mut Self| {
            let was_text = matches!(parser.state, State::Message(Message::Text));
            let next = HEADERS.iter().any(|h| parser.text.starts_with(h));
            let mark = MESSAGE_ENDS.iter().find(|m| parser.text.starts_with(**m));
            if let Some(mark) = mark.filter(|_| !next) {
                parser.skip(mark.len());
            }
            parser.end_block();
            if was_text {
                // One message is a paragraph of its own.
                parser.space = "\n\n".to_owned();
            }
            if next {
                parser.state = State::Header;
            }
        };
        let Message::Call(name) = message else {
            return self.read_until(&MESSAGE_ENDS, at_end, message, end);
        };
        let found = MESSAGE_ENDS.iter().filter_map(|m| self.text.find(m)).min();
        let Some(at) = found.or(at_end.then_some(self.text.len())) else { return false };
        let body = self.text[..at].trim();
        let calls = match serde_json::from_str::<serde_json::Value>(body) {
            Ok(arguments) if arguments.is_object() => {
                Some(vec![ToolCall { id: String::new(), name: name.clone(), arguments }])
            }
            _ if name == "python" => calls::program(body),
            _ => None,
        };
        match calls {
            Some(calls) => {
                self.skip(at);
                self.give_calls(calls);
            }
            None => {
                self.give_text(at, Message::Text);
            }
        }
        end(self);
        true
    }

    fn read_recipient(&mut self, name: Option<String>, at_end: bool) -> bool {
        const MARK: &str = ">>>";
        let mut next = None;
        for (at, _) in self.text.match_indices(MARK) {
            match recipient(&self.text[at + MARK.len()..]) {
                Recipient::Named(name, n) => next = Some((at, Some((name, at + MARK.len() + n)))),
                Recipient::Unfinished if !at_end => next = Some((at, None)),
                _ => continue,
            }
            break;
        }
        let (at, next) = match next {
            Some((at, next)) => (at, next),
            None if at_end => (self.text.len(), None),
            None => (self.text.len() - held_back(&self.text, [MARK].into_iter()), None),
        };
        let Some(tool) = name else {
            let given = self.give_text(at, Message::Text);
            let Some((name, end)) = next else { return given };
            self.skip(end - at);
            self.state = State::Recipient(Some(name).filter(|n| n != "all"));
            return true;
        };
        if next.is_none() && !at_end {
            return false;
        }
        let arguments = serde_json::from_str::<serde_json::Value>(self.text[..at].trim());
        match arguments {
            Ok(arguments) if arguments.is_object() => {
                self.skip(at);
                self.give_calls(vec![ToolCall { id: String::new(), name: tool, arguments }]);
            }
            _ if tool == "python" && !self.text[..at].trim().is_empty() => {
                let calls = calls::program(self.text[..at].trim()).unwrap_or_default();
                self.skip(at);
                self.give_calls(calls);
            }
            _ => {
                // The name was not one of a tool.
                self.give(Part::Text(format!("{tool}\n")));
                self.give_text(at, Message::Text);
            }
        }
        self.state = State::Recipient(None);
        if let Some((name, end)) = next {
            self.skip(end - at);
            self.state = State::Recipient(Some(name).filter(|n| n != "all"));
        }
        true
    }

    /// Forgets the first `n` bytes.
    fn skip(&mut self, n: usize) {
        self.text.drain(..n);
        self.shown.drain(..n);
    }

    /// Gives what is shown of the first `n` bytes; `false` when there are none.
    fn give_text(&mut self, n: usize, kind: Message) -> bool {
        if n == 0 {
            return false;
        }
        let shown: String = self.text[..n].char_indices().filter(|(i, _)| self.shown[*i]).map(|(_, c)| c).collect();
        self.skip(n);
        let part = |text: String| if kind == Message::Reasoning { Part::Reasoning(text) } else { Part::Text(text) };
        if self.format.is_plain() {
            self.give(part(shown));
            return true;
        }
        let text = if self.behind_block { shown.trim_start() } else { &shown };
        let solid = text.trim_end();
        if solid.is_empty() {
            if !self.behind_block {
                self.space += text;
            }
            return true;
        }
        self.behind_block = false;
        let given = std::mem::take(&mut self.space) + solid;
        self.space += &text[solid.len()..];
        self.give(part(given));
        true
    }

    fn give_calls(&mut self, calls: Vec<ToolCall>) {
        for mut call in calls {
            self.n_call += 1;
            if call.id.is_empty() {
                call.id = format!("call{:05}", self.n_call % 100_000);
            }
            self.give(Part::Call(call));
        }
        self.behind_block = true;
        self.state = State::Text;
    }

    fn give(&mut self, part: Part) {
        match (self.parts.last_mut(), part) {
            (_, Part::Text(text) | Part::Reasoning(text)) if text.is_empty() => {}
            (Some(Part::Text(last)), Part::Text(text)) | (Some(Part::Reasoning(last)), Part::Reasoning(text)) => {
                *last += &text;
            }
            (_, part) => self.parts.push(part),
        }
    }
}

/// Bytes at the end of a text that may begin one of these marks.
fn held_back<'a>(text: &str, marks: impl Iterator<Item = &'a str>) -> usize {
    let begun = |mark: &str| {
        let longest = text.len().min(mark.len().saturating_sub(1));
        let is_begun = |n: &usize| mark.is_char_boundary(*n) && text.ends_with(&mark[..*n]);
        (1..=longest).rev().find(is_begun).unwrap_or(0)
    };
    marks.map(begun).max().unwrap_or(0)
}

/// Does JSON begin as calls do? `None` as long as nobody knows.
fn begins_call(text: &str) -> Option<bool> {
    let rest = text.trim_start().strip_prefix('{')?.trim_start();
    if rest.is_empty() {
        return None;
    }
    let Some(rest) = rest.strip_prefix('"') else { return Some(false) };
    let (key, _) = rest.split_once('"')?;
    Some(matches!(key, "name" | "type" | "function" | "parameters" | "arguments" | "id"))
}

/// What stands behind `>>>`.
enum Recipient {
    /// A name, and the bytes of its line.
    Named(String, usize),
    /// It may still become a name.
    Unfinished,
    None,
}

fn recipient(text: &str) -> Recipient {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    let n = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
    match text[n..].chars().next() {
        None => Recipient::Unfinished,
        Some('\n') if n > 0 => Recipient::Named(text[..n].to_owned(), n + 1),
        Some(_) => Recipient::None,
    }
}
