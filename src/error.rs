//! The one public error: what went wrong, of which kind, and what to do about it.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::{Path, PathBuf};

/// Kinds of failure; the binary turns them into exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A fault of Tealight itself; please report it. Exit code 1.
    Internal,
    /// A wrong argument of the caller. Exit code 2.
    Usage,
    /// A model, template or vocabulary that is malformed or not supported. Exit code 3.
    Model,
    /// Not enough memory or disk. Exit code 4.
    Memory,
    /// Reading or writing failed. Exit code 5.
    Io,
    /// The GPU or its driver failed. Exit code 6.
    Gpu,
    /// The network failed. Exit code 7.
    Network,
    /// The caller cancelled. Exit code 130.
    Interrupted,
}

impl ErrorKind {
    /// The exit code of the binary for this kind of failure.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Model => 3,
            Self::Memory => 4,
            Self::Io => 5,
            Self::Gpu => 6,
            Self::Network => 7,
            Self::Interrupted => 130,
        }
    }
}

/// Any failure of the library. One line says what is wrong and where; [`Error::hint`] says what to do.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    file: Option<PathBuf>,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Results of the library.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` with a one-line message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, file: None, message: message.into(), hint: None, source: None }))
    }

    /// An operating system error while doing `what`, a verb phrase such as "cannot read".
    pub fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::OutOfMemory | std::io::ErrorKind::StorageFull => ErrorKind::Memory,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("{what}: {source}")).in_file(path).caused_by(source)
    }

    /// Names the file that the error is about.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.0.file.get_or_insert_with(|| path.to_owned());
        self
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Keeps the error that led to this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the user can do, where there is something.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The file that the error is about.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.0.file {
            write!(f, "{}: ", escaped(&file.to_string_lossy()))?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// Text of a file as it may appear in a message: control characters escaped, at most 80 characters.
pub fn printable(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => escaped(&text[..end]) + "…",
        None => escaped(text),
    }
}

/// Text with control characters and invisible direction marks shown as escapes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if hidden {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_file_and_hides_control_characters() {
        let e = Error::new(ErrorKind::Model, "bad").in_file(Path::new("a\x1b]0;b")).with_hint("x");
        assert_eq!(e.to_string(), "a\\u{1b}]0;b: bad");
        assert_eq!((e.kind().exit_code(), e.hint()), (3, Some("x")));
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(printable(&"x".repeat(100)).chars().count(), 81);
    }
}
