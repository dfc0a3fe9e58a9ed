//! Text as it is generated: whole characters only, and nothing of a stop string.

use super::vocab::Vocab;

/// Turns tokens into text one by one. What it gives is always whole characters; bytes that can no longer become a
/// character come out as U+FFFD.
#[derive(Clone, Debug)]
pub struct Decoder {
    pending: Vec<u8>,
    /// The next piece is the first, whose leading blank may be the vocabulary's own.
    first: bool,
    render_special: bool,
}

impl Decoder {
    /// For a text that begins with the first token: the blank that the vocabulary puts in front is dropped.
    pub fn new(render_special: bool) -> Self {
        Self { pending: Vec::new(), first: true, render_special }
    }

    /// For text behind a prompt: a leading blank is part of the text.
    pub fn continuing(render_special: bool) -> Self {
        Self { first: false, ..Self::new(render_special) }
    }

    /// Takes a token and gives the text that is complete.
    pub fn push(&mut self, vocab: &Vocab, id: u32) -> String {
        let piece = vocab.piece(id, self.render_special);
        let strip = std::mem::take(&mut self.first) && vocab.add_space_prefix();
        self.pending.extend_from_slice(if strip { piece.strip_prefix(b" ").unwrap_or(&piece) } else { &piece });
        self.release(false)
    }

    /// Gives what is still held back; call it when no token follows.
    pub fn finish(&mut self) -> String {
        self.release(true)
    }

    fn release(&mut self, all: bool) -> String {
        let mut out = String::with_capacity(self.pending.len());
        let mut kept = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            out.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let may_complete =
                !all && chunks.peek().is_none() && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if may_complete {
                kept = invalid.len();
            } else if !invalid.is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..self.pending.len() - kept);
        out
    }
}

/// Holds back text that may begin a stop string, and ends the text before one.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    stopped: Option<usize>,
}

impl StopStrings {
    /// Stops at the first of these texts; empty ones are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        Self { stops: stops.into_iter().collect(), held: String::new(), stopped: None }
    }

    /// Takes text and gives what is surely before any stop string. After a stop it gives nothing.
    pub fn push(&mut self, text: &str) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        self.held.push_str(text);
        let found = self.stops.iter().enumerate().filter(|(_, s)| !s.is_empty());
        let found = found.filter_map(|(i, s)| self.held.find(s.as_str()).map(|at| (at, i))).min();
        if let Some((at, i)) = found {
            self.stopped = Some(i);
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Which of the stop strings was met.
    pub fn stopped(&self) -> Option<usize> {
        self.stopped
    }

    /// Gives what is still held back; call it when no text follows.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that `stop` begins with, without being all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len().saturating_sub(1));
    (1..=longest)
        .rev()
        .find(|n| text.as_bytes().ends_with(&stop.as_bytes()[..*n]) && stop.is_char_boundary(*n))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_stop_string_is_held_back() {
        let mut stops = StopStrings::new(["<end>".into(), "\n\nUser:".into(), String::new()]);
        let got: Vec<String> = ["a<e", "x<en", "d", "> b"].iter().map(|t| stops.push(t)).collect();
        assert_eq!(got, ["a", "<ex", "", ""]);
        assert_eq!((stops.stopped(), stops.finish()), (Some(0), String::new()));
        let mut stops = StopStrings::new(["abab".into()]);
        assert_eq!(
            (stops.push("ab"), stops.push("aab"), stops.finish(), stops.stopped()),
            (String::new(), "aba".into(), "ab".into(), None)
        );
    }

    #[test]
    fn the_earliest_of_several_stops_counts() {
        let mut stops = StopStrings::new(["cd".into(), "bc".into()]);
        assert_eq!((stops.push("abcd"), stops.stopped()), ("a".into(), Some(1)));
    }
}
