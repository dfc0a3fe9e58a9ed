//! What the Tab key completes: commands, and what follows them.

use std::path::Path;

use tealight::error::escaped;

use super::command::{Completes, TABLE};
use super::{files, settings};

/// What may stand in the line.
pub(super) struct Candidate {
    text: String,
    shown: String,
}

impl rustyline::completion::Candidate for Candidate {
    fn display(&self) -> &str {
        &self.shown
    }

    fn replacement(&self) -> &str {
        &self.text
    }
}

/// Where the word before the cursor begins, and what it may become. `line` ends at the cursor.
pub(super) fn complete(line: &str) -> (usize, Vec<Candidate>) {
    let nothing = (line.len(), Vec::new());
    if !line.starts_with('/') {
        return nothing;
    }
    let Some(blank) = line.find(' ') else {
        let names = TABLE.iter().map(|spec| (spec.names[0], !spec.argument.is_empty()));
        let all = names.map(|(name, more)| if more { format!("/{name} ") } else { format!("/{name}") });
        return (0, words(line, all));
    };
    let Some(spec) = TABLE.iter().find(|spec| spec.names.contains(&&line[1..blank])) else { return nothing };
    let argument = line[blank..].trim_start();
    let at = line.len() - argument.len();
    match spec.completes {
        Completes::Nothing => nothing,
        Completes::Words(all) => (at, words(argument, all.iter().map(|word| (*word).to_owned()))),
        Completes::Settings => (at, words(argument, settings::names().map(|name| name + " "))),
        Completes::Paths => {
            let name_at = argument.rfind(std::path::is_separator).map_or(0, |i| i + 1);
            (at + name_at, paths(&argument[..name_at], &argument[name_at..]))
        }
    }
}

fn words(begun: &str, all: impl Iterator<Item = String>) -> Vec<Candidate> {
    let fitting = all.filter(|word| word.starts_with(begun));
    fitting.map(|text| Candidate { shown: text.trim_end().to_owned(), text }).collect()
}

/// Names in a folder that begin so; folders end in a slash. Names with control characters cannot be typed, so they
/// are left out.
fn paths(folder: &str, begun: &str) -> Vec<Candidate> {
    let folder = if folder.is_empty() { Path::new(".").to_owned() } else { files::path(folder) };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_hidden = name.starts_with('.') && !begun.starts_with('.');
            if !name.starts_with(begun) || is_hidden || escaped(&name) != name {
                return None;
            }
            let slash = if entry.path().is_dir() { "/" } else { "" };
            let text = name + slash;
            Some(Candidate { shown: text.clone(), text })
        })
        .collect();
    found.sort_by(|a, b| a.text.cmp(&b.text));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> (usize, Vec<String>) {
        let (at, all) = complete(line);
        (at, all.into_iter().map(|c| c.text).collect())
    }

    #[test]
    fn commands_and_their_words_are_completed() {
        let check = |line: &str, at: usize, all: &[&str]| {
            assert_eq!(found(line), (at, all.iter().map(|s| (*s).to_owned()).collect()), "{line:?}");
        };
        check("/re", 0, &["/regen"]);
        check("/s", 0, &["/system ", "/set ", "/show ", "/save ", "/stats"]);
        check("/think h", 7, &["hide"]);
        check("/show  par", 7, &["parameters"]);
        check("/set top-", 5, &["top-k ", "top-p ", "top-n-sigma "]);
        check("/sing x", 7, &[]);
        check("a /re", 5, &[]);
        check("/undo x", 7, &[]);
    }

    #[test]
    fn paths_are_completed_by_name() {
        let folder = std::env::temp_dir().join(format!("tealight-complete-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("with blank")).unwrap();
        std::fs::write(folder.join("with blank/notes.txt"), "").unwrap();
        std::fs::write(folder.join(".hidden"), "").unwrap();
        let base = folder.to_string_lossy().into_owned();
        let prefix = format!("/file {base}/");
        assert_eq!(found(&prefix), (prefix.len(), vec!["with blank/".to_owned()]));
        assert_eq!(found(&format!("{prefix}.h")).1, [".hidden"]);
        assert_eq!(found(&format!("{prefix}with blank/n")).1, ["notes.txt"]);
        #[cfg(unix)]
        {
            std::fs::write(folder.join("bad\x1b[2Jname"), "").unwrap();
            assert_eq!(found(&format!("{prefix}b")).1, Vec::<String>::new());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
