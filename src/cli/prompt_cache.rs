//! `--prompt-cache`: a file of what was read, so that a text that begins alike need not be read again.

use std::path::{Path, PathBuf};

use clap::Args;
use tealight::{Error, ErrorKind, Event, Result, SavedSession, Session};

use super::output::Output;

#[derive(Debug, Args)]
pub(crate) struct PromptCacheArgs {
    /// Keep what is read in a file; a text that begins as the one in it goes on from there
    #[arg(long, value_name = "FILE")]
    pub prompt_cache: Option<PathBuf>,
    /// Use the file of --prompt-cache, but do not write it
    #[arg(long, requires = "prompt_cache")]
    pub prompt_cache_ro: bool,
    /// Keep the answer in the file of --prompt-cache too
    #[arg(long, requires = "prompt_cache")]
    pub prompt_cache_all: bool,
}

/// What is done with the file.
pub(crate) struct PromptCache<'a> {
    args: &'a PromptCacheArgs,
    is_saved: bool,
}

impl<'a> PromptCache<'a> {
    pub(crate) fn new(args: &'a PromptCacheArgs) -> Self {
        Self { args, is_saved: false }
    }

    /// The file, if it is there yet and `session` can go on from one.
    pub(crate) fn open(&self, session: &Session, out: &Output) -> Result<Option<SavedSession>> {
        let Some(path) = &self.args.prompt_cache else { return Ok(None) };
        if !session.keeps_rows() {
            out.warning("the prompt cache is not used: a GPU keeps what was read (--device cpu uses it)");
            return Ok(None);
        }
        if !path.exists() {
            out.detail(&format!("prompt cache: {} does not exist yet", path.display()));
            return Ok(None);
        }
        let saved = SavedSession::open(path).map_err(|e| e.with_hint(OTHER_FILE))?;
        out.detail(&format!("prompt cache: {} tokens", saved.tokens().len()));
        Ok(Some(saved))
    }

    /// The events of an answer; the file is written when the prompt has been read, before the answer makes the session
    /// longer: a window that has moved on cannot go back to the prompt.
    pub(crate) fn watch<'c, I>(&'c mut self, events: I, session: fn(&I) -> &Session) -> Watched<'c, 'a, I> {
        Watched { events, session, cache: self }
    }

    /// Writes the file in the end, if it was not before.
    pub(crate) fn finish(&mut self, session: &Session) -> Result<()> {
        if self.is_saved { Ok(()) } else { self.save(session) }
    }

    fn save(&mut self, session: &Session) -> Result<()> {
        let Some(path) = self.args.prompt_cache.as_deref().filter(|_| !self.args.prompt_cache_ro) else {
            return Ok(());
        };
        if session.keeps_rows() {
            check_replaceable(path)?;
            session.save(path, &[])?;
        }
        self.is_saved = true;
        Ok(())
    }
}

/// Events that pass by.
pub(crate) struct Watched<'c, 'a, I> {
    events: I,
    session: fn(&I) -> &Session,
    cache: &'c mut PromptCache<'a>,
}

impl<I: Iterator<Item = Result<Event>>> Iterator for Watched<'_, '_, I> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        let event = self.events.next()?;
        if let Ok(Event::Prompt { done, total }) = &event
            && done == total
            && !self.cache.args.prompt_cache_all
            && let Err(e) = self.cache.save((self.session)(&self.events))
        {
            return Some(Err(e));
        }
        Some(event)
    }
}

const OTHER_FILE: &str = "name another file, or delete this one";

/// Refuses to replace the file of something else.
fn check_replaceable(path: &Path) -> Result<()> {
    match SavedSession::open(path) {
        Err(e) if path.exists() && e.kind() == ErrorKind::Model => {
            let text = "not replaced: it is no whole saved session of this version";
            Err(Error::new(ErrorKind::Usage, text).in_file(path).with_hint(OTHER_FILE))
        }
        _ => Ok(()),
    }
}
