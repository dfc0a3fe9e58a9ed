//! Where the lines of a conversation come from: an editor at a terminal, else standard input.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::{FileHistory, History};
use rustyline::{Config, Editor};
use tealight::{Error, ErrorKind};

use super::super::args::ChatArgs;
use super::super::output::{self, Output};
use super::super::{Outcome, input};

const PROMPT: &str = ">>> ";
const MORE: &str = "... ";
/// Text over several lines stands between two of these.
const FENCE: &str = "\"\"\"";

/// The lines of a conversation.
pub(super) enum Lines {
    /// A person at a terminal.
    Editor(Box<LineEditor>),
    /// A person whose standard output goes elsewhere, so that nothing can be drawn.
    Typed,
    /// A program or a file.
    Piped,
}

pub(super) struct LineEditor {
    editor: Editor<(), FileHistory>,
    history: Option<PathBuf>,
}

impl Lines {
    pub(super) fn open(args: &ChatArgs, out: &Output) -> Outcome<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Piped);
        }
        if !out.stdout_is_terminal() {
            return Ok(Self::Typed);
        }
        let config = Config::builder().max_history_size(1000).map_err(failed)?.build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        let history = history_file(args);
        if let Some(path) = &history {
            let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            if let Err(e) = folder {
                out.warning(&format!("the history of lines will not be kept: {}: {e}", path.display()));
            }
            // The first conversation has no history.
            let _ = editor.load_history(path);
        }
        Ok(Self::Editor(Box::new(LineEditor { editor, history })))
    }

    pub(super) fn is_interactive(&self) -> bool {
        !matches!(self, Self::Piped)
    }

    /// The next input, which a person may have spread over several lines; `None` at the end.
    pub(super) fn next(&mut self) -> Outcome<Option<String>> {
        if !self.is_interactive() {
            return self.line("");
        }
        let Some(first) = self.line(PROMPT)? else { return Ok(None) };
        let mut text = String::new();
        let mut line = first;
        let fenced = line.trim_start().starts_with(FENCE);
        if fenced {
            line = line.trim_start()[FENCE.len()..].to_owned();
        }
        loop {
            let end = if fenced { line.trim_end().strip_suffix(FENCE) } else { None };
            let goes_on = if fenced { end.is_none() } else { line.ends_with('\\') };
            match end {
                Some(end) => text += end,
                None if fenced || !goes_on => text += &line,
                None => text += &line[..line.len() - 1],
            }
            if !goes_on {
                break;
            }
            text.push('\n');
            let Some(next) = self.line(MORE)? else { return Ok(None) };
            line = next;
        }
        let text = if fenced { text.trim_matches('\n').to_owned() } else { text };
        self.remember(&text);
        Ok(Some(text))
    }

    fn line(&mut self, prompt: &str) -> Outcome<Option<String>> {
        match self {
            Self::Editor(editor) => editor.line(prompt),
            Self::Typed => {
                output::to_stderr(prompt);
                stdin_line()
            }
            Self::Piped => stdin_line(),
        }
    }

    fn remember(&mut self, text: &str) {
        let Self::Editor(editor) = self else { return };
        let LineEditor { editor, history } = &mut **editor;
        if text.trim().is_empty() || !editor.history_mut().add(text).unwrap_or(false) {
            return;
        }
        if let Some(path) = history {
            // A history that cannot be kept is no reason to end a conversation; opening it has warned.
            let _ = editor.append_history(path);
        }
    }
}

impl LineEditor {
    fn line(&mut self, prompt: &str) -> Outcome<Option<String>> {
        loop {
            return match self.editor.readline(prompt) {
                Ok(line) => Ok(Some(line)),
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(ReadlineError::Signal(rustyline::error::Signal::Resize)) => continue,
                Err(e) => Err(failed(e)),
            };
        }
    }
}

/// A line of standard input without its end.
fn stdin_line() -> Outcome<Option<String>> {
    let mut line = Vec::new();
    let cannot = |e: io::Error| Error::new(ErrorKind::Io, format!("cannot read standard input: {e}")).caused_by(e);
    if io::stdin().lock().read_until(b'\n', &mut line).map_err(cannot)? == 0 {
        return Ok(None);
    }
    input::utf8(input::without_line_end(line), "a line of standard input").map(Some)
}

fn history_file(args: &ChatArgs) -> Option<PathBuf> {
    if args.no_history {
        return None;
    }
    args.history.clone().or_else(|| {
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let state = args.state_home.clone().filter(|state| state.is_absolute()).or_else(|| {
            let folder = match () {
                () if cfg!(target_os = "macos") => "Library/Application Support",
                () if cfg!(windows) => "AppData/Local",
                () => ".local/state",
            };
            home.map(|home| home.join(folder))
        });
        state.map(|state| state.join("tealight").join("history"))
    })
}

fn failed(error: ReadlineError) -> super::super::Failure {
    Error::new(ErrorKind::Io, format!("cannot read from the terminal: {error}")).caused_by(error).into()
}
