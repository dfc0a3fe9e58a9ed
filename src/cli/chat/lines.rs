//! Where the lines of a conversation come from: an editor at a terminal, else standard input.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::{FileHistory, History};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, Helper};
use tealight::{Error, ErrorKind};

use super::super::args::ChatArgs;
use super::super::output::{self, Output};
use super::super::{Outcome, input};
use super::complete;

const PROMPT: &str = ">>> ";
const MORE: &str = "... ";
/// Text over several lines stands between two of these.
const FENCE: &str = "\"\"\"";
/// Shown where nothing has been typed yet.
const PLACEHOLDER: &str = "Ask something; /help lists the commands";

/// The lines of a conversation.
pub(super) enum Lines {
    /// A person at a terminal.
    Editor(Box<LineEditor>),
    /// A person whose standard output goes elsewhere, so that nothing can be drawn.
    Typed,
    /// A program or a file.
    Piped,
}

/// What comes from them.
pub(super) enum Input {
    Text(String),
    /// Ctrl-C, and whether there was nothing that it could have cleared.
    Interrupt {
        was_empty: bool,
    },
    End,
}

pub(super) struct LineEditor {
    editor: Editor<Assistant, FileHistory>,
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
        let color = if out.is_plain() { ColorMode::Disabled } else { ColorMode::Enabled };
        let config = Config::builder().max_history_size(1000).map_err(failed)?;
        let config = config.color_mode(color).completion_type(CompletionType::List).build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Assistant { has_placeholder: Cell::new(!out.is_plain()), is_empty: Cell::new(true) }));
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

    /// The next input, which a person may have spread over several lines. An editor begins with `draft`.
    pub(super) fn next(&mut self, draft: &str) -> Outcome<Input> {
        let input = match self {
            Self::Piped => return Ok(stdin_line()?.map_or(Input::End, Input::Text)),
            Self::Editor(editor) => editor.input(draft)?,
            Self::Typed => typed()?.map_or(Input::End, Input::Text),
        };
        let Input::Text(text) = input else { return Ok(input) };
        self.remember(&text);
        Ok(Input::Text(joined(&text)))
    }

    /// Whether a draft can be edited.
    pub(super) fn is_editor(&self) -> bool {
        matches!(self, Self::Editor(_))
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
    fn input(&mut self, draft: &str) -> Outcome<Input> {
        loop {
            let read = self.editor.readline_with_initial(PROMPT, (draft, ""));
            let helper = self.editor.helper_mut();
            let was_empty = helper.is_none_or(|h| {
                h.has_placeholder.set(false);
                h.is_empty.replace(true)
            });
            return match read {
                Ok(input) => Ok(Input::Text(input)),
                Err(ReadlineError::Eof) => Ok(Input::End),
                Err(ReadlineError::Interrupted) => Ok(Input::Interrupt { was_empty }),
                Err(ReadlineError::Signal(rustyline::error::Signal::Resize)) => continue,
                // Bytes that are no text end the line, not the conversation.
                Err(ReadlineError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                    output::to_stderr("\nthe line is not UTF-8 text and was left out\n");
                    continue;
                }
                Err(e) => Err(failed(e)),
            };
        }
    }
}

/// What the editor asks while a line is typed.
struct Assistant {
    /// Nothing has been asked yet: a word of help is shown.
    has_placeholder: Cell<bool>,
    /// Whether the line is empty now.
    is_empty: Cell<bool>,
}

/// A text that is shown and never taken.
struct Placeholder;

impl Hint for Placeholder {
    fn display(&self) -> &str {
        PLACEHOLDER
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Helper for Assistant {}

impl Hinter for Assistant {
    type Hint = Placeholder;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<Placeholder> {
        self.is_empty.set(line.is_empty());
        (line.is_empty() && self.has_placeholder.get()).then_some(Placeholder)
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        format!("\x1b[2m{hint}\x1b[0m").into()
    }
}

impl Completer for Assistant {
    type Candidate = complete::Candidate;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Self::Candidate>)> {
        Ok(complete::complete(line.get(..at).unwrap_or_default()))
    }
}

/// Tells the editor when Enter ends the input and when it begins another line of it.
impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Whether nothing more is to come: no fence is open, and the line does not end in a backslash.
fn is_complete(input: &str) -> bool {
    match input.trim_start().strip_prefix(FENCE) {
        Some(fenced) => fenced.trim_end().ends_with(FENCE),
        None => !input.ends_with('\\'),
    }
}

/// The text of a complete input, without what held its lines together.
fn joined(input: &str) -> String {
    match input.trim().strip_prefix(FENCE).and_then(|text| text.strip_suffix(FENCE)) {
        Some(fenced) => fenced.trim_matches('\n').to_owned(),
        None => input.replace("\\\n", "\n"),
    }
}

/// Input of a person without an editor.
fn typed() -> Outcome<Option<String>> {
    output::to_stderr(PROMPT);
    let Some(mut input) = stdin_line()? else {
        // Ctrl-D leaves the cursor behind the prompt.
        output::to_stderr("\n");
        return Ok(None);
    };
    while !is_complete(&input) {
        output::to_stderr(MORE);
        let Some(line) = stdin_line()? else { return Ok(None) };
        input.push('\n');
        input += &line;
    }
    Ok(Some(input))
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

#[cfg(test)]
mod tests {
    use super::{is_complete, joined};

    #[test]
    fn text_over_several_lines_is_joined() {
        let cases = [
            ("one line", "one line"),
            ("first \\\nsecond", "first \nsecond"),
            ("\"\"\"a\n\nb\"\"\"", "a\n\nb"),
            ("\"\"\"\na\\\n b\n\"\"\" ", "a\\\n b"),
            ("say \"\"\" now", "say \"\"\" now"),
            ("", ""),
        ];
        for (input, text) in cases {
            assert!(is_complete(input), "{input:?}");
            assert_eq!(joined(input), text, "{input:?}");
        }
        for open in ["more \\", "\"\"\"", "\"\"\"a\nb", "\"\"\"a\"\" "] {
            assert!(!is_complete(open), "{open:?}");
        }
    }
}
