//! Commands in a conversation: lines that begin with `/`. One table has their names, their arguments and what they do;
//! `/help`, completion and the manual are made from it.

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Help,
    Exit,
    Clear,
    Regen,
    Undo,
    Edit,
    System,
    Set,
    Show,
    Save,
    Load,
    File,
    Stats,
    Model,
    Think,
}

/// What the Tab key completes behind a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completes {
    Nothing,
    Settings,
    Words(&'static [&'static str]),
    Paths,
}

/// A command.
pub(super) struct Spec {
    pub(super) action: Action,
    /// Without the slash; the first one is shown first.
    pub(super) names: &'static [&'static str],
    /// What may follow, empty if nothing does.
    pub(super) argument: &'static str,
    pub(super) help: &'static str,
    pub(super) completes: Completes,
}

/// What `/show` shows.
pub(super) const SHOWN: &[&str] = &["info", "parameters", "system", "template", "license", "messages"];
/// What `/think` takes.
pub(super) const THINK: &[&str] = &["on", "off", "hide"];

/// Every command, in the order of `/help`.
pub(super) const TABLE: &[Spec] = &[
    spec(Action::Help, &["help", "?"], "", "this list", Completes::Nothing),
    spec(Action::Exit, &["exit", "bye", "quit"], "", "leave (also Ctrl-D)", Completes::Nothing),
    spec(
        Action::Clear,
        &["clear", "new"],
        "",
        "begin a new conversation; the system message stays",
        Completes::Nothing,
    ),
    spec(Action::Regen, &["regen"], "", "answer the last question again", Completes::Nothing),
    spec(Action::Undo, &["undo"], "", "take back the last question and its answer", Completes::Nothing),
    spec(Action::Edit, &["edit"], "[TEXT]", "change the last question, or put TEXT in its place", Completes::Nothing),
    spec(Action::System, &["system"], "[TEXT]", "set the system message; without TEXT, remove it", Completes::Nothing),
    spec(
        Action::Set,
        &["set"],
        "[NAME [VALUE]]",
        "show settings, change one, or `reset` all of them",
        Completes::Settings,
    ),
    spec(
        Action::Show,
        &["show"],
        "[WHAT]",
        "info, parameters, system, template, license, messages",
        Completes::Words(SHOWN),
    ),
    spec(Action::Save, &["save"], "FILE", "write the conversation to a file, as JSON", Completes::Paths),
    spec(Action::Load, &["load"], "FILE", "go on with a conversation from a file", Completes::Paths),
    spec(Action::File, &["file", "read"], "PATH", "hand a text file over with the next question", Completes::Paths),
    spec(Action::Stats, &["stats"], "", "show figures of the conversation", Completes::Nothing),
    spec(Action::Model, &["model"], "[PATH]", "show the model, or go on with another one", Completes::Paths),
    spec(
        Action::Think,
        &["think"],
        "[on|off|hide]",
        "let the model think, or not, or without showing it",
        Completes::Words(THINK),
    ),
];

const fn spec(
    action: Action,
    names: &'static [&'static str],
    argument: &'static str,
    help: &'static str,
    completes: Completes,
) -> Spec {
    Spec { action, names, argument, help, completes }
}

/// What goes for every line.
const KEYS: &str = "\
Ctrl-C stops an answer; twice at an empty prompt it leaves. Tab completes,
Ctrl-R searches earlier lines. A line that ends in `\\` goes on in the next
one; so does a text between \"\"\" and \"\"\", or one that is pasted.
";

impl Spec {
    /// All names with their slashes, and the argument.
    fn usage(&self) -> String {
        let names: Vec<_> = self.names.iter().map(|name| format!("/{name}")).collect();
        format!("{} {}", names.join(", "), self.argument).trim_end().to_owned()
    }
}

/// The text of `/help`.
pub(super) fn help() -> String {
    let width = TABLE.iter().map(|spec| spec.usage().len()).max().unwrap_or(0);
    let lines: String = TABLE.iter().map(|spec| format!("{:width$}  {}\n", spec.usage(), spec.help)).collect();
    format!("{lines}\n{KEYS}")
}

/// The commands in one paragraph, for `tealight chat --help`.
pub(crate) fn summary() -> String {
    let names: Vec<_> = TABLE.iter().map(|spec| format!("/{} {}", spec.names[0], spec.argument)).collect();
    let names: Vec<_> = names.iter().map(|name| name.trim_end()).collect();
    format!(
        "Without a terminal each line of standard input is one turn.\n\nCommands in a conversation:\n  {}\n\n\
         With --name the conversation is kept, and goes on at once when it is opened again:\n  \
         tealight chat model.gguf --name work\n  tealight chat --name work",
        names.join(", ")
    )
}

/// All names of commands, without the slash.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|spec| spec.names).copied()
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// It is for the model.
    Text,
    /// A command and what follows it.
    Command(Action, &'a str),
    /// A word that is no command, and one that may have been meant.
    Unknown(&'a str, Option<&'static str>),
}

impl<'a> Line<'a> {
    /// Only one word of letters behind the slash makes a command: people do ask about paths.
    pub(super) fn of(line: &'a str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let Some(name) = word.strip_prefix('/') else { return Self::Text };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic() || c == '?') {
            return Self::Text;
        }
        match TABLE.iter().find(|spec| spec.names.contains(&name)) {
            Some(spec) => Self::Command(spec.action, rest.trim()),
            None => Self::Unknown(word, meant(name)),
        }
    }
}

/// The only command that begins with these letters, or that differs by one change.
fn meant(name: &str) -> Option<&'static str> {
    let mut longer = names().filter(|n| n.starts_with(name));
    match (longer.next(), longer.next()) {
        (Some(only), None) => Some(only),
        _ => names().find(|n| differs_by_one(n, name)),
    }
}

/// One letter too many, too few or wrong, or two neighbours exchanged.
fn differs_by_one(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[front..], &b[front..]);
    let rest = |s: &[u8], n: usize| s.get(n..).map(<[u8]>::to_vec);
    let changed = rest(a, 1).is_some() && rest(a, 1) == rest(b, 1);
    let longer = rest(a, 1).as_deref() == Some(b) || rest(b, 1).as_deref() == Some(a);
    let exchanged = a.len() > 1 && b.len() > 1 && a[0] == b[1] && a[1] == b[0] && a[2..] == b[2..];
    changed || longer || exchanged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_apart_from_text() {
        let is = |action, rest| Line::Command(action, rest);
        assert_eq!(Line::of("/bye"), is(Action::Exit, ""));
        assert_eq!(Line::of(" /? "), is(Action::Help, ""));
        assert_eq!(Line::of("/system  Be brief. "), is(Action::System, "Be brief."));
        assert_eq!(Line::of("/sytem x"), Line::Unknown("/sytem", Some("system")));
        assert_eq!(Line::of("/stast"), Line::Unknown("/stast", Some("stats")));
        assert_eq!(Line::of("/re"), Line::Unknown("/re", None));
        assert_eq!(Line::of("/sing"), Line::Unknown("/sing", None));
        for text in ["/usr/bin is what?", "/", "/ 2", "hello /bye", "", "//x"] {
            assert_eq!(Line::of(text), Line::Text, "{text}");
        }
    }

    #[test]
    fn every_name_is_one_command_s() {
        let mut names: Vec<_> = names().collect();
        let n = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), n);
        let text = help();
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
        assert!(names.iter().all(|name| text.contains(&format!("/{name}"))));
    }

    /// The rows of the manual are those of the table.
    #[test]
    fn the_manual_has_the_table() {
        let manual = include_str!("../../../docs/chat.md");
        for spec in TABLE {
            let names: Vec<_> = spec.names.iter().map(|name| format!("`/{name}`")).collect();
            let argument = if spec.argument.is_empty() { String::new() } else { format!(" `{}`", spec.argument) };
            let row =
                format!("| {}{} | {} |", names.join(", "), argument.replace('|', "\\|"), spec.help.replace('|', "\\|"));
            assert!(manual.contains(&row), "docs/chat.md lacks the row\n{row}");
        }
    }
}
