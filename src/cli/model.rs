//! Which model a command means: a file, the name of one that is on this machine, or the one inside the program.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tealight::engine::{BUILT_IN, built_in};
use tealight::error::printable;
use tealight::gguf::Gguf;
use tealight::shelf::{Found, Match, Places, Shelf};
use tealight::{DeviceChoice, Error, ErrorKind, Knobs, Model, ModelOptions};

use super::args::{FIRST_STEPS, ModelFlag};
use super::output::Output;
use super::{Failure, Outcome, facts, usage};

/// A model that was named, or chosen where none was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    origin: Origin,
    /// What the user is told about the choice.
    notice: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    BuiltIn,
}

impl Subject {
    fn file(path: impl Into<PathBuf>) -> Self {
        Self { origin: Origin::File(path.into()), notice: None }
    }

    fn built_in(notice: Option<String>) -> Self {
        Self { origin: Origin::BuiltIn, notice }
    }

    /// Opens its file.
    pub(crate) fn gguf(&self) -> Outcome<Gguf> {
        match &self.origin {
            Origin::File(path) => Ok(Gguf::open(path)?),
            Origin::BuiltIn => built_in()?.ok_or_else(|| missing(BUILT_IN, &[])),
        }
    }

    /// Opens the model.
    pub(crate) fn open(&self, options: &ModelOptions) -> Outcome<Model> {
        Ok(Model::from_gguf(Arc::new(self.gguf()?), options)?)
    }

    /// Tells why this model, if nobody named it.
    pub(crate) fn tell(&self, out: &Output) {
        if let Some(notice) = &self.notice {
            out.notice(notice);
        }
    }
}

/// The model that a word names: a path, or a name of `tealight models`.
pub(crate) fn named(word: &OsStr) -> Outcome<Subject> {
    let path = Path::new(word);
    if path.exists() {
        return Ok(Subject::file(path));
    }
    let text = word.to_string_lossy();
    if text.eq_ignore_ascii_case(BUILT_IN) && has_built_in() {
        return Ok(Subject::built_in(None));
    }
    let shelf = shelf()?;
    match shelf.find(&text) {
        Match::One(found) => usable(found),
        Match::Several(found) => Err(ambiguous(&text, &found)),
        // The error of opening says what is wrong with a path.
        Match::None(near) if is_path(&text) && near.is_empty() => Ok(Subject::file(path)),
        Match::None(near) => Err(missing(&text, &near)),
    }
}

/// The file that a word names, for commands that take other things than models, too.
pub(crate) fn path_of(word: &Path) -> Outcome<PathBuf> {
    if word.exists() {
        return Ok(word.to_owned());
    }
    let shelf = shelf()?;
    match shelf.find(&word.to_string_lossy()) {
        Match::One(found) => match usable(found)?.origin {
            Origin::File(path) => Ok(path),
            Origin::BuiltIn => Ok(word.to_owned()),
        },
        Match::Several(found) => Err(ambiguous(&word.to_string_lossy(), &found)),
        Match::None(_) => Ok(word.to_owned()),
    }
}

fn shelf() -> Outcome<Shelf> {
    Ok(Shelf::search(&Places::of_system(&Knobs::from_env()?)))
}

fn has_built_in() -> bool {
    cfg!(feature = "spark")
}

/// Does a text look like the path of a file rather than a name or a question?
fn is_path(text: &str) -> bool {
    let separator = |c| c == '/' || (cfg!(windows) && c == '\\');
    text.to_lowercase().ends_with(".gguf") || (text.contains(separator) && !text.contains(char::is_whitespace))
}

fn usable(found: &Found) -> Outcome<Subject> {
    match &found.fault {
        None => Ok(Subject::file(&found.path)),
        Some(fault) => Err(Error::new(ErrorKind::Model, format!("`{}` cannot be used: {fault}", found.name))
            .with_hint("get it again with the program that keeps it; `tealight models` lists what is there")
            .into()),
    }
}

fn ambiguous(word: &str, found: &[&Found]) -> Failure {
    let names: Vec<&str> = found.iter().map(|f| f.name.as_str()).collect();
    usage(format!("`{}` may be {}", printable(word), names.join(" or ")), "give the whole name")
}

fn missing(word: &str, near: &[&str]) -> Failure {
    let error =
        Error::new(ErrorKind::Io, format!("no file and no model on this machine is called `{}`", printable(word)));
    let hint = match near {
        [] => "`tealight models` lists the models on this machine; a file is named by its path".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    error.with_hint(hint).into()
}

impl ModelFlag {
    /// The model and at most one further word, for commands that need a model.
    pub(crate) fn resolve(&self, words: &[OsString], accepts_text: bool) -> Outcome<(Subject, Option<OsString>)> {
        let (word, rest) = self.split(words, accepts_text)?;
        Ok((named(word.as_os_str())?, rest))
    }

    /// The same for commands that talk: without a model the only one on this machine answers, or else the one inside
    /// the program. A single word that names nothing is a text.
    pub(crate) fn choose(&self, words: &[OsString], accepts_text: bool) -> Outcome<(Subject, Option<OsString>)> {
        let is_free = self.model.is_none() && self.model_from_env.is_none();
        match words {
            [] if is_free => Ok((default()?, None)),
            [word] if is_free && accepts_text && !names_something(word)? => Ok((default()?, Some(word.clone()))),
            _ => self.resolve(words, accepts_text),
        }
    }
}

/// Is a single word a model, or what was meant to be one? A question has blanks.
fn names_something(word: &OsStr) -> Outcome<bool> {
    let text = word.to_string_lossy();
    if Path::new(word).exists() || is_path(&text) || text.eq_ignore_ascii_case(BUILT_IN) {
        return Ok(true);
    }
    Ok(match shelf()?.find(&text) {
        Match::One(_) | Match::Several(_) => true,
        Match::None(near) => !near.is_empty() && !text.contains(char::is_whitespace),
    })
}

/// More files than anybody has who has one model.
const MAX_OPENED: usize = 16;

/// The model that answers when none was named.
fn default() -> Outcome<Subject> {
    let shelf = shelf()?;
    let options = ModelOptions::default().with_device(DeviceChoice::Cpu).with_threads(1);
    let runs = |found: &&Found| {
        let is_model = found.facts().is_ok_and(|f| f.is_model && f.has_template);
        is_model && Model::open(&found.path, &options).is_ok_and(|m| m.has_logits())
    };
    let models: Vec<&Found> = match shelf.models.len() {
        0..=MAX_OPENED => shelf.models.iter().filter(runs).collect(),
        _ => shelf.models.iter().collect(),
    };
    if let [only] = models[..] {
        let other = if has_built_in() {
            format!("; `tealight chat {BUILT_IN}` is the small built-in one")
        } else {
            String::new()
        };
        let notice =
            format!("no model named: {} answers, the only one on this machine that converses{other}", only.name);
        return Ok(Subject { origin: Origin::File(only.path.clone()), notice: Some(notice) });
    }
    if !has_built_in() {
        let hint = if models.is_empty() { FIRST_STEPS } else { "`tealight models` lists those on this machine" };
        return Err(usage("no model given", hint));
    }
    let bigger = match models.len() {
        0 => "`tealight help get_models` tells how to get a bigger one".to_owned(),
        n => format!("`tealight models` lists the {n} bigger ones on this machine"),
    };
    let age = if facts::are_learned()? { "" } else { "it is older than this program; " };
    let notice = format!(
        "no model named: Spark answers, a small built-in model that knows tealight and little else\n{age}it can be wrong; {bigger}"
    );
    Ok(Subject::built_in(Some(notice)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart_from_names_and_questions() {
        for text in ["m.gguf", "a/m", "./m", "M.GGUF"] {
            assert!(is_path(text), "{text}");
        }
        for text in ["llama3.2", "what is 1/2 of it", "user model", "qwen:0.5b"] {
            assert!(!is_path(text), "{text}");
        }
    }

    #[test]
    fn an_unusable_model_says_why() {
        let named = |fault: Option<&str>| {
            let places = Places::default();
            assert_eq!(Shelf::search(&places), Shelf::default());
            let near: Vec<&str> = fault.into_iter().collect();
            match missing("lama", &near) {
                Failure::Error(e) => (e.kind(), e.hint().unwrap_or_default().to_owned()),
                _ => unreachable!("an error"),
            }
        };
        assert_eq!(named(Some("llama")), (ErrorKind::Io, "did you mean llama?".to_owned()));
        assert!(named(None).1.contains("tealight models"));
    }
}
