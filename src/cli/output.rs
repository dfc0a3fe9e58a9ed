//! The only place that writes to standard output and standard error: locked, unbuffered, checked.

use std::io::{self, IsTerminal, Write};

use tealight::{Error, ErrorKind};

use super::args::Shared;
use super::{Failure, Outcome, terminal};

/// Where results and notices go.
pub(crate) struct Output {
    /// A person reads the results.
    stdout_is_terminal: bool,
    /// A person reads the notices.
    stderr_is_terminal: bool,
    color: bool,
    /// The terminal understands no sequences.
    is_dumb: bool,
    no_color: bool,
    quiet: bool,
    verbose: bool,
    /// The last byte of the results, which tells where a line begins.
    last: u8,
}

impl Output {
    pub(crate) fn new(shared: &Shared) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        let is_dumb = shared.term.as_deref().is_some_and(|term| term == "dumb");
        Self {
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal,
            color: stderr_is_terminal && !shared.no_color && !is_dumb,
            is_dumb,
            no_color: shared.no_color,
            quiet: shared.quiet,
            verbose: shared.verbose,
            last: b'\n',
        }
    }

    /// Are there to be no styles?
    pub(crate) fn is_plain(&self) -> bool {
        self.no_color || self.is_dumb
    }

    /// Does the terminal understand no sequences?
    pub(crate) fn is_dumb(&self) -> bool {
        self.is_dumb
    }

    pub(crate) fn stdout_is_terminal(&self) -> bool {
        self.stdout_is_terminal
    }

    /// May notices be shown?
    pub(crate) fn is_talkative(&self) -> bool {
        !self.quiet
    }

    /// May progress be drawn?
    pub(crate) fn shows_progress(&self) -> bool {
        self.stderr_is_terminal && !self.quiet && !self.is_dumb
    }

    /// Text of a model: without control characters on a terminal, unchanged elsewhere.
    pub(crate) fn model_text(&mut self, text: &str) -> Outcome {
        if self.stdout_is_terminal { self.bytes(terminal::safe(text).as_bytes()) } else { self.bytes(text.as_bytes()) }
    }

    /// Results as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Outcome {
        self.last = bytes.last().copied().unwrap_or(self.last);
        to_stdout(bytes)
    }

    /// Ends the line on a terminal, if it has begun.
    pub(crate) fn end_line(&mut self) -> Outcome {
        if self.stdout_is_terminal && self.last != b'\n' { self.bytes(b"\n") } else { Ok(()) }
    }

    /// Ends the line everywhere, if it has begun: answers of a conversation must not run into one another.
    pub(crate) fn end_turn(&mut self) -> Outcome {
        if self.last == b'\n' { Ok(()) } else { self.bytes(b"\n") }
    }

    /// What may interest the user; not with `--quiet`. Control characters are left out here and in all that follows,
    /// whatever was done about them before.
    pub(crate) fn notice(&self, text: &str) {
        if !self.quiet {
            to_stderr(&format!("{}\n", terminal::safe(text)));
        }
    }

    /// What the user has asked for in a conversation: text of several lines, also with `--quiet`.
    pub(crate) fn told(&self, text: &str) {
        to_stderr(&terminal::safe(text));
    }

    /// What only the curious want to know.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            to_stderr(&format!("{}\n", terminal::safe(text)));
        }
    }

    /// What is odd but no reason to stop; not with `--quiet`.
    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet {
            to_stderr(&format!("{}: {}\n", self.styled("33", "warning"), terminal::safe(text)));
        }
    }

    /// Figures of a run, for people only.
    pub(crate) fn timing(&self, text: &str) {
        if self.stderr_is_terminal && !self.quiet {
            to_stderr(&format!("{}\n", self.styled("2", &terminal::safe(text))));
        }
    }

    /// What is wrong, and what to do about it.
    pub(crate) fn error(&mut self, error: &Error) {
        // An answer that broke off has not ended its line; its own failure is the one to report.
        let _ = self.end_line();
        to_stderr(&self.explained(error));
    }

    fn explained(&self, error: &Error) -> String {
        let mut text = format!("{}: {}\n", self.styled("1;31", "error"), terminal::safe(&error.to_string()));
        if let Some(hint) = error.hint() {
            text += &format!("{}: {}\n", self.styled("36", "hint"), terminal::safe(hint));
        }
        if error.kind() == ErrorKind::Internal {
            text += &format!("{}: this is a fault of tealight, please report it\n", self.styled("36", "hint"));
        }
        text
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes and flushes.
pub(crate) fn to_stdout(bytes: &[u8]) -> Outcome {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(failed)
}

/// Standard error is the last resort: where it is closed or full there is nobody left to tell.
pub(crate) fn to_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// A failed write to standard output.
pub(crate) fn failed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::ClosedPipe;
    }
    Failure::Error(Error::new(ErrorKind::Io, format!("cannot write to standard output: {error}")).caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_tealight_asks_once_for_a_report() {
        let out = Output::new(&Shared { quiet: false, verbose: false, no_color: true, term: None });
        let text = out.explained(&Error::new(ErrorKind::Internal, "a computation failed"));
        assert_eq!(text, "error: a computation failed\nhint: this is a fault of tealight, please report it\n");
        let text = out.explained(&Error::new(ErrorKind::Model, "damaged").with_hint("download it again"));
        assert_eq!(text, "error: damaged\nhint: download it again\n");
    }
}
