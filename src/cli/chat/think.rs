//! Thoughts and answer, told apart by the tags `<think>` and `</think>` at the beginning of what a model writes.

const BEGIN: &str = "<think>";
const END: &str = "</think>";

/// What a model has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Thought(String),
    Answer(String),
}

/// Takes text in parts; what may be a tag is held back until it is known.
#[derive(Clone, Debug)]
pub(super) struct Splitter {
    state: State,
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but blanks has come.
    Begin,
    /// The thought has begun, and so far it is blank.
    Opened,
    Thought,
    /// The thought is over, and so far blanks follow it.
    Between,
    Answer,
}

impl Splitter {
    /// With `inside`, the prompt has written the opening tag.
    pub(super) fn new(inside: bool) -> Self {
        Self { state: if inside { State::Opened } else { State::Begin }, held: String::new() }
    }

    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held += text;
        let mut parts = Vec::new();
        loop {
            match self.state {
                State::Begin => {
                    let begun = self.held.trim_start();
                    if let Some(rest) = begun.strip_prefix(BEGIN) {
                        (self.state, self.held) = (State::Opened, rest.to_owned());
                    } else if BEGIN.starts_with(begun) {
                        return parts;
                    } else {
                        self.state = State::Answer;
                    }
                }
                State::Opened => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return parts;
                    }
                    self.state = State::Thought;
                }
                State::Thought => match self.held.find(END) {
                    Some(at) => {
                        let rest = self.held.split_off(at + END.len());
                        self.held.truncate(at);
                        let thought = std::mem::replace(&mut self.held, rest);
                        parts.extend(Some(Part::Thought(thought)).filter(|_| at > 0));
                        self.state = State::Between;
                    }
                    None => {
                        let n_held = (1..END.len()).rev().find(|n| self.held.ends_with(&END[..*n])).unwrap_or(0);
                        let rest = self.held.split_off(self.held.len() - n_held);
                        let thought = std::mem::replace(&mut self.held, rest);
                        parts.extend(Some(Part::Thought(thought)).filter(|p| *p != Part::Thought(String::new())));
                        return parts;
                    }
                },
                State::Between => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return parts;
                    }
                    self.state = State::Answer;
                }
                State::Answer => {
                    let text = std::mem::take(&mut self.held);
                    parts.extend(Some(Part::Answer(text)).filter(|p| *p != Part::Answer(String::new())));
                    return parts;
                }
            }
        }
    }

    /// What is held back, when nothing follows.
    pub(super) fn finish(&mut self) -> Vec<Part> {
        let text = std::mem::take(&mut self.held);
        match self.state {
            _ if text.is_empty() => Vec::new(),
            State::Thought => vec![Part::Thought(text)],
            _ => vec![Part::Answer(text)],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Thought and answer of a text that comes in pieces of `n` characters.
    fn split(inside: bool, text: &str, n: usize) -> (String, String) {
        let mut splitter = Splitter::new(inside);
        let chars: Vec<char> = text.chars().collect();
        let mut parts: Vec<Part> = Vec::new();
        for piece in chars.chunks(n) {
            parts.extend(splitter.push(&piece.iter().collect::<String>()));
        }
        parts.extend(splitter.finish());
        let mut both = (String::new(), String::new());
        for part in parts {
            match part {
                Part::Thought(text) => both.0 += &text,
                Part::Answer(text) => both.1 += &text,
            }
        }
        both
    }

    #[test]
    fn thoughts_stand_before_the_answer() {
        for n in 1..40 {
            let check = |inside, text: &str, thought: &str, answer: &str| {
                assert_eq!(split(inside, text, n), (thought.to_owned(), answer.to_owned()), "{text:?} by {n}");
            };
            check(false, "<think>\nwhy < not\n</think>\n\nBecause.", "why < not\n", "Because.");
            check(false, "\n <think></think>a", "", "a");
            check(false, "Say <think> and </think>.", "", "Say <think> and </think>.");
            check(false, "<thin ice", "", "<thin ice");
            check(false, "<thi", "", "<thi");
            check(true, "hm</think>\nso", "hm", "so");
            check(true, "cut off </thi", "cut off </thi", "");
            check(false, " a", "", " a");
            check(false, "<think>a</think>b</think>", "a", "b</think>");
        }
    }

    proptest! {
        #[test]
        fn how_a_text_is_cut_changes_nothing(
            text in "(<think>|</think>|<|/|think|[a-z ]|\n){0,20}", inside in any::<bool>(), n in 1..9usize
        ) {
            prop_assert_eq!(split(inside, &text, n), split(inside, &text, 1000));
        }
    }
}
