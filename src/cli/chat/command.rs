//! Commands in a conversation: lines that begin with `/`.

pub(super) const HELP: &str = "\
/help         this list
/clear        begin a new conversation; the system message stays
/regen        answer the last question again
/undo         take back the last question and its answer
/system TEXT  set the system message; without a text, remove it
/bye          leave (also /exit, /quit, Ctrl-D)

Ctrl-C stops an answer. A line that ends in `\\` goes on in the next one; so does a text between \"\"\" and \"\"\".
";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Help,
    Bye,
    Clear,
    Regen,
    Undo,
    System(&'a str),
    Unknown(&'a str),
}

impl<'a> Command<'a> {
    /// The command of a line; `None` if the line is for the model. Only one word of letters behind the slash makes a
    /// command: people do ask about paths.
    pub(super) fn of(line: &'a str) -> Option<Self> {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = word.strip_prefix('/')?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic() || c == '?') {
            return None;
        }
        Some(match name {
            "help" | "?" => Self::Help,
            "bye" | "exit" | "quit" => Self::Bye,
            "clear" | "new" => Self::Clear,
            "regen" => Self::Regen,
            "undo" => Self::Undo,
            "system" => Self::System(rest.trim()),
            _ => Self::Unknown(word),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn commands_are_told_apart_from_text() {
        assert_eq!(Command::of("/bye"), Some(Command::Bye));
        assert_eq!(Command::of(" /? "), Some(Command::Help));
        assert_eq!(Command::of("/system  Be brief. "), Some(Command::System("Be brief.")));
        assert_eq!(Command::of("/sytem x"), Some(Command::Unknown("/sytem")));
        for text in ["/usr/bin is what?", "/", "/ 2", "hello /bye", "", "//x"] {
            assert_eq!(Command::of(text), None, "{text}");
        }
    }
}
