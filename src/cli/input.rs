//! Prompts: from arguments, files and standard input.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use tealight::text::Encode;
use tealight::{Error, ErrorKind, Model};

use super::output::{self, Output};
use super::{Outcome, usage};

/// The bytes of an argument.
pub(crate) fn bytes_of(word: OsString) -> Outcome<Vec<u8>> {
    #[cfg(unix)]
    {
        Ok(std::os::unix::ffi::OsStringExt::into_vec(word))
    }
    #[cfg(not(unix))]
    {
        let text = word.into_string().map_err(|_| usage("a text is not Unicode", "give it by file or pipe"))?;
        Ok(text.into_bytes())
    }
}

/// All of standard input.
pub(crate) fn stdin() -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let cannot = |e: io::Error| Error::new(ErrorKind::Io, format!("cannot read standard input: {e}")).caused_by(e);
    io::stdin().lock().read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

/// All of a file.
pub(crate) fn file(path: &Path) -> Outcome<Vec<u8>> {
    Ok(std::fs::read(path).map_err(|e| Error::io("cannot read", path, e))?)
}

/// Text without the end of its last line, which editors and `echo` add.
pub(crate) fn without_line_end(mut text: Vec<u8>) -> Vec<u8> {
    if text.ends_with(b"\n") {
        text.truncate(text.len() - if text.ends_with(b"\r\n") { 2 } else { 1 });
    }
    text
}

/// Is someone writing to standard input?
pub(crate) fn is_piped() -> bool {
    !io::stdin().is_terminal()
}

/// The prompt: a file, then the argument, then standard input behind a blank line. `-` as the argument stands for
/// standard input, which is otherwise read only when it is no terminal. The last line end of a file or of standard
/// input is not part of the prompt. `None`: nothing was given.
pub(crate) fn prompt(
    of_file: Option<&Path>,
    word: Option<OsString>,
    escape: bool,
    out: &Output,
) -> Outcome<Option<Vec<u8>>> {
    let asks_for_stdin = word.as_deref() == Some(OsStr::new("-"));
    let mut prompt = of_file.map(file).transpose()?.map(without_line_end);
    if let Some(word) = word.filter(|_| !asks_for_stdin) {
        let word = bytes_of(word)?;
        let word = if escape { unescaped(&word) } else { word };
        prompt.get_or_insert_default().extend(word);
    }
    if asks_for_stdin || is_piped() {
        // Some callers leave a pipe open that nobody writes to; a wait for it must not look like a hang.
        let waiting = prompt.is_some().then(|| announce_wait(out));
        let piped = without_line_end(stdin()?);
        drop(waiting);
        match &mut prompt {
            _ if piped.is_empty() => {}
            Some(prompt) => {
                prompt.extend(b"\n\n");
                prompt.extend(piped);
            }
            None => prompt = Some(piped),
        }
    }
    Ok(prompt)
}

/// A wait for standard input that is worth a word.
const PATIENCE: Duration = Duration::from_secs(3);

/// Says what is waited for, once it takes long; dropping the sender ends the wait.
fn announce_wait(out: &Output) -> Option<Sender<()>> {
    let (hang_up, hung_up) = mpsc::channel();
    let say = move || {
        if hung_up.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            output::to_stderr("reading standard input to its end (to leave it out: < /dev/null)\n");
        }
    };
    out.is_talkative().then(|| {
        std::thread::spawn(say);
        hang_up
    })
}

/// Replaces `\n`, `\r`, `\t`, `\'`, `\"`, `\\` and `\xHH` by what they stand for; other backslashes stay.
pub(crate) fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let (byte, used) = match (first, tail) {
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [c @ (b'\'' | b'"' | b'\\'), ..]) => (*c, 2),
            (b'\\', [b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
                (digit(*high) * 16 + digit(*low), 4)
            }
            (byte, _) => (*byte, 1),
        };
        out.push(byte);
        rest = &rest[used..];
    }
    out
}

/// The tokens of a plain text, with those that the model wants around it; `parse_special` makes control tokens of
/// their names.
pub(crate) fn encode(model: &Model, text: &[u8], parse_special: bool) -> Outcome<Vec<u32>> {
    Ok(model.vocab()?.encode(text, Encode { add_special: true, parse_special }))
}

/// Text for a chat template, which knows Unicode only.
pub(crate) fn utf8(bytes: Vec<u8>, what: &str) -> Outcome<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        usage(format!("{what} is not UTF-8 text at byte {at}"), "convert it, or use --raw, which takes any bytes")
    })
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn escapes_stand_for_their_characters() {
        assert_eq!(unescaped(br#"a\nb\t\"\\n\x41\q\"#), b"a\nb\t\"\\nA\\q\\");
        assert_eq!(unescaped("é\\x4".as_bytes()), "é\\x4".as_bytes());
    }
}
