//! An answer as a person or a program sees it.

use clap::ValueEnum;
use tealight::chat::render::{Markdown, Piece, Style};
use tealight::engine::{Event, Summary};

use super::super::output::Output;
use super::super::progress::Progress;
use super::super::screen::{Look, Screen};
use super::super::{Outcome, reply, terminal};

/// Whether a model thinks before it answers, and whether that is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Think {
    // Help of each value would make every page of help a long one.
    On,
    Off,
    Hide,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) look: Look,
    /// Lines end between words.
    pub(super) wraps: bool,
    /// Thoughts are left out.
    pub(super) hides_thoughts: bool,
}

impl Shown {
    /// What may be shown of a model's text: a program gets every byte.
    fn safe<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        match self.look {
            Look::Raw => text.into(),
            _ => terminal::safe(text),
        }
    }
}

/// One answer.
struct View {
    shown: Shown,
    markdown: Markdown,
    screen: Screen,
    /// What came last was a thought.
    in_thought: bool,
    /// What came last was a call of a tool, on a line of its own.
    called: bool,
    /// The line of raw text has begun.
    in_line: bool,
}

impl View {
    fn new(shown: Shown) -> Self {
        let screen = Screen::new(shown.look, if shown.wraps { terminal::columns } else { || 0 });
        Self { shown, markdown: Markdown::default(), screen, in_thought: false, called: false, in_line: false }
    }

    /// Takes what happens and gives what can be seen of it.
    fn event(&mut self, event: &Event) -> String {
        match event {
            Event::Reasoning(_) if self.shown.hides_thoughts => String::new(),
            Event::Reasoning(thought) => {
                let mut text = String::new();
                if !std::mem::replace(&mut self.in_thought, true) {
                    text += &self.tag("<think>\n");
                    self.screen.set_dim(true);
                }
                text + &self.plain(&self.shown.safe(thought))
            }
            Event::Text(answer) => {
                let mut text = self.end_thought();
                if std::mem::take(&mut self.called) {
                    text += &self.plain("\n");
                }
                text + &self.answer(&self.shown.safe(answer))
            }
            Event::ToolCall(call) => {
                let text = self.end_thought() + &self.line_end();
                self.called = true;
                text + &self.plain(&self.shown.safe(&reply::object(call).to_string()))
            }
            _ => String::new(),
        }
    }

    fn answer(&mut self, text: &str) -> String {
        match self.shown.look {
            Look::Styled => self.screen.show(&self.markdown.push(text)),
            Look::Wrapped => self.plain(text),
            // A program gets every byte.
            Look::Raw => self.plain(text),
        }
    }

    fn end_thought(&mut self) -> String {
        if !std::mem::take(&mut self.in_thought) {
            return String::new();
        }
        let mut text = match self.shown.look {
            Look::Raw => "\n".to_owned(),
            _ => self.screen.finish(),
        };
        self.screen.set_dim(false);
        text += &self.tag("</think>\n");
        text + &self.plain("\n")
    }

    /// Ends a line of the answer that has begun.
    fn line_end(&mut self) -> String {
        if self.shown.look == Look::Raw {
            return if std::mem::take(&mut self.in_line) { "\n".to_owned() } else { String::new() };
        }
        let rest = self.markdown.finish();
        self.screen.show(&rest) + &self.screen.finish()
    }

    /// Gives what is held back, and ends the line on a terminal.
    fn finish(&mut self) -> String {
        if self.shown.look == Look::Raw {
            return self.end_thought();
        }
        self.line_end()
    }

    /// Where nothing can be dim, the tags say what is thought.
    fn tag(&mut self, tag: &str) -> String {
        if self.shown.look == Look::Styled { String::new() } else { self.plain(tag) }
    }

    fn plain(&mut self, text: &str) -> String {
        if self.shown.look == Look::Raw {
            self.in_line = if text.is_empty() { self.in_line } else { !text.ends_with('\n') };
            return text.to_owned();
        }
        self.screen.show(&[Piece::Text(text.to_owned(), Style::default())])
    }
}

/// Writes an answer as it comes. Its figures are `None` only if the answer ends without any.
pub(super) fn stream(
    events: impl Iterator<Item = tealight::Result<Event>>,
    shown: Shown,
    out: &mut Output,
) -> Outcome<Option<Summary>> {
    let mut view = View::new(shown);
    let summary = write(events, &mut view, out);
    // Styles end with the answer, however that ended; what went wrong first is what is told.
    let rest = view.finish();
    let finished = put(&rest, shown.look, out);
    let summary = summary?;
    finished?;
    Ok(summary)
}

fn write(
    events: impl Iterator<Item = tealight::Result<Event>>,
    view: &mut View,
    out: &mut Output,
) -> Outcome<Option<Summary>> {
    let mut progress = Some(Progress::start(out, "reading the prompt"));
    let mut has_text = false;
    let mut summary = None;
    for event in events {
        match event? {
            Event::Prompt { done, total } => progress.iter().for_each(|p| p.set(done, total)),
            event @ (Event::Reasoning(_) | Event::Text(_) | Event::ToolCall(_)) => {
                let seen = view.event(&event);
                if !seen.is_empty() {
                    // The bar goes before the text comes: both may be on one terminal.
                    progress = None;
                    put(&seen, view.shown.look, out)?;
                } else if view.shown.hides_thoughts && !std::mem::replace(&mut has_text, true) {
                    // The bar before it must be gone when this one begins.
                    drop(progress.take());
                    progress = Some(Progress::start(out, "thinking"));
                }
            }
            Event::Shift { messages, tokens } => out.warning(&reply::left_out(messages, tokens)),
            Event::Stop(figures) => summary = Some(figures),
            _ => {}
        }
    }
    Ok(summary)
}

fn put(text: &str, look: Look, out: &mut Output) -> Outcome {
    match look {
        Look::Raw => out.model_text(text),
        _ => out.bytes(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tealight::reply::{Format, Part};

    fn shown(look: Look, hides_thoughts: bool, thought: &str, answer: &str) -> String {
        let mut view = View::new(Shown { look, wraps: true, hides_thoughts });
        let mut shown = String::new();
        for c in thought.chars() {
            shown += &view.event(&Event::Reasoning(c.into()));
        }
        for c in answer.chars() {
            shown += &view.event(&Event::Text(c.into()));
        }
        shown + &view.finish()
    }

    #[test]
    fn thoughts_are_dim_or_named_or_left_out() {
        let (thought, answer) = ("Hm **a**.", "**Yes**");
        let show = |look, hides| shown(look, hides, thought, answer);
        assert_eq!(show(Look::Styled, false), "\x1b[0;2mHm **a**.\x1b[0m\n\n\x1b[0;1mYes\x1b[0m\n");
        assert_eq!(show(Look::Wrapped, false), "<think>\nHm **a**.\n</think>\n\n**Yes**\n");
        assert_eq!(show(Look::Styled, true), "\x1b[0;1mYes\x1b[0m\n");
        assert_eq!(show(Look::Raw, false), "<think>\nHm **a**.\n</think>\n\n**Yes**");
        assert_eq!(show(Look::Raw, true), "**Yes**");
        assert_eq!(shown(Look::Raw, false, thought, ""), "<think>\nHm **a**.\n</think>\n\n");
    }

    #[test]
    fn calls_of_tools_have_lines_of_their_own() {
        let mut parser = Format::detect("<tool_call>", &|_| false, None).parser("", 0);
        let parts = parser.push("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>", true);
        let [Part::Call(call)] = &parts[..] else { panic!("{parts:?}") };
        for (look, want) in [
            (Look::Raw, "I **look**.\n{call}\nDone."),
            (Look::Wrapped, "I **look**.\n{call}\nDone.\n"),
            (Look::Styled, "I \x1b[0;1mlook\x1b[0m.\n{call}\nDone.\n"),
        ] {
            let mut view = View::new(Shown { look, wraps: false, hides_thoughts: false });
            let mut text = view.event(&Event::Text("I **look**.".into()));
            text += &view.event(&Event::ToolCall(call.clone()));
            text += &view.event(&Event::Text("Done.".into()));
            text += &view.finish();
            assert_eq!(text, want.replace("{call}", &reply::object(call).to_string()), "{look:?}");
        }
    }

    #[test]
    fn no_control_character_of_a_model_reaches_a_terminal() {
        let text = "a\x1b]0;t\x07 \x1b[2Jb\u{9b}31m\u{202e}c\r\n```\n\x1b[1m\n```\n";
        let plain = shown(Look::Wrapped, false, "\x1b[3m", text);
        assert_eq!(plain, "<think>\n[3m\n</think>\n\na]0;t [2Jb31mc\n```\n[1m\n```\n");
        let styled = shown(Look::Styled, false, "\x1b[3m", text);
        let ours = ["\x1b[0m", "\x1b[0;2m"];
        assert_eq!(styled.matches('\x1b').count(), ours.iter().map(|s| styled.matches(s).count()).sum::<usize>());
    }
}
