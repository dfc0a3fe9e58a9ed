//! An answer as a person or a program sees it.

use clap::ValueEnum;
use tealight::chat::render::{Markdown, Piece, Style};
use tealight::engine::{Event, Summary};

use super::super::output::Output;
use super::super::progress::Progress;
use super::super::screen::{Look, Screen};
use super::super::{Outcome, terminal};
use super::think::{Part, Splitter};

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
    /// The prompt ends within a thought.
    pub(super) begins_in_thought: bool,
}

/// One answer.
struct View {
    shown: Shown,
    splitter: Splitter,
    markdown: Markdown,
    screen: Screen,
    /// What came last was a thought.
    in_thought: bool,
}

impl View {
    fn new(shown: Shown) -> Self {
        let screen = Screen::new(shown.look, if shown.wraps { terminal::columns } else { || 0 });
        let splitter = Splitter::new(shown.begins_in_thought);
        Self { shown, splitter, markdown: Markdown::default(), screen, in_thought: false }
    }

    /// Takes text and gives what can be seen of it.
    fn push(&mut self, text: &str) -> String {
        // A program gets every byte, unless it has asked for less.
        match self.shown.look {
            Look::Raw if !self.shown.hides_thoughts => text.to_owned(),
            Look::Raw => {
                let parts = self.splitter.push(text);
                self.parts(parts)
            }
            _ => {
                let parts = self.splitter.push(&terminal::safe(text));
                self.parts(parts)
            }
        }
    }

    /// Gives what is held back, and ends the line on a terminal.
    fn finish(&mut self) -> String {
        let parts = self.splitter.finish();
        let text = self.parts(parts);
        if self.shown.look == Look::Raw {
            return text;
        }
        let rest = self.markdown.finish();
        text + &self.screen.show(&rest) + &self.screen.finish()
    }

    fn parts(&mut self, parts: Vec<Part>) -> String {
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Thought(_) if self.shown.hides_thoughts => {}
                Part::Thought(thought) => {
                    if !std::mem::replace(&mut self.in_thought, true) {
                        text += &self.tag("<think>\n");
                        self.screen.set_dim(true);
                    }
                    text += &self.plain(&thought);
                }
                Part::Answer(answer) => {
                    if std::mem::take(&mut self.in_thought) {
                        text += &self.screen.finish();
                        self.screen.set_dim(false);
                        text += &self.tag("</think>\n");
                        text += &self.plain("\n");
                    }
                    text += &match self.shown.look {
                        Look::Styled => self.screen.show(&self.markdown.push(&answer)),
                        Look::Wrapped => self.plain(&answer),
                        Look::Raw => answer,
                    };
                }
            }
        }
        text
    }

    /// Where nothing can be dim, the tags say what is thought.
    fn tag(&mut self, tag: &str) -> String {
        if self.shown.look == Look::Styled { String::new() } else { self.plain(tag) }
    }

    fn plain(&mut self, text: &str) -> String {
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
            Event::Text(text) => {
                let seen = view.push(&text);
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

    fn shown(look: Look, hides_thoughts: bool, text: &str) -> String {
        let mut view = View::new(Shown { look, wraps: true, hides_thoughts, begins_in_thought: false });
        let shown: String = text.chars().map(|c| view.push(c.encode_utf8(&mut [0; 4]))).collect();
        shown + &view.finish()
    }

    #[test]
    fn thoughts_are_dim_or_named_or_left_out() {
        let text = "<think>\nHm **a**.\n</think>\n\n**Yes**";
        assert_eq!(shown(Look::Styled, false, text), "\x1b[0;2mHm **a**.\x1b[0m\n\n\x1b[0;1mYes\x1b[0m\n");
        assert_eq!(shown(Look::Wrapped, false, text), "<think>\nHm **a**.\n</think>\n\n**Yes**\n");
        assert_eq!(shown(Look::Styled, true, text), "\x1b[0;1mYes\x1b[0m\n");
        assert_eq!(shown(Look::Raw, false, text), text);
        assert_eq!(shown(Look::Raw, true, text), "**Yes**");
    }

    #[test]
    fn no_control_character_of_a_model_reaches_a_terminal() {
        let text = "a\x1b]0;t\x07 \x1b[2Jb\u{9b}31m\u{202e}c\r\n```\n\x1b[1m\n```\n<think>\x1b[3m";
        let plain = shown(Look::Wrapped, false, text);
        assert_eq!(plain, "a]0;t [2Jb31mc\n```\n[1m\n```\n<think>[3m\n");
        let styled = shown(Look::Styled, false, text);
        let ours = ["\x1b[0m", "\x1b[0;2m"];
        assert_eq!(styled.matches('\x1b').count(), ours.iter().map(|s| styled.matches(s).count()).sum::<usize>());
    }
}
