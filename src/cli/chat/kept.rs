//! Conversations that are kept: `--name` and `--prompt-cache`.

use std::path::PathBuf;

use clap::Args;
use tealight::chat::named::{ChatName, ChatStore, NamedChat};
use tealight::{Chat, Error, ErrorKind, Knobs, Result, SavedSession};

use super::super::output::Output;
use super::super::prompt_cache::{PromptCache, PromptCacheArgs};
use super::super::{Outcome, files};

#[derive(Debug, Args)]
pub(crate) struct KeptArgs {
    /// Keep the conversation under a name and go on with it; MODEL may be left out then
    #[arg(long, value_name = "NAME", conflicts_with = "prompt_cache")]
    pub name: Option<ChatName>,
    /// With --name: go on with another model, which reads all that was said
    #[arg(long, requires = "name")]
    pub recompute: bool,
    #[command(flatten)]
    pub prompt_cache: PromptCacheArgs,
}

/// The folder of named chats.
pub(crate) fn store() -> Result<ChatStore> {
    let Some(data) = Knobs::from_env()?.data_dir else {
        let error = Error::new(ErrorKind::Usage, "there is no folder for named chats");
        return Err(error.with_hint("set HOME, or name a folder by TEALIGHT_DATA_DIR"));
    };
    Ok(ChatStore::new(data.join("chats")))
}

/// Tokens that a named chat may hold beyond its saved session: reading them again takes a second or so, saving the
/// session of a long conversation after each short answer as well.
const MAX_UNSAVED: usize = 256;

/// What is kept of a conversation.
pub(super) struct Kept<'a> {
    named: Option<Named>,
    prompt_cache: PromptCache<'a>,
}

struct Named {
    chat: NamedChat,
    recompute: bool,
    /// Tokens of the saved session.
    n_saved: usize,
    /// The session has changed since it was saved.
    is_behind: bool,
}

impl<'a> Kept<'a> {
    pub(super) fn open(args: &'a KeptArgs) -> Outcome<Self> {
        let named = match &args.name {
            Some(name) => {
                let chat = store()?.open(name)?;
                Some(Named { chat, recompute: args.recompute, n_saved: 0, is_behind: false })
            }
            None => None,
        };
        Ok(Self { named, prompt_cache: PromptCache::new(&args.prompt_cache) })
    }

    /// The model that the conversation was held with.
    pub(super) fn model(&self) -> Option<PathBuf> {
        self.named.as_ref()?.chat.record().map(|r| r.model.clone())
    }

    /// Brings back what was said, and what was computed of it.
    pub(super) fn begin(&mut self, chat: &mut Chat, out: &Output) -> Outcome {
        let Some(named) = &mut self.named else {
            if let Some(saved) = self.prompt_cache.open(chat.session(), out)? {
                chat.restore(&saved)?;
            }
            return Ok(());
        };
        let name = named.chat.name().clone();
        let Some(record) = named.chat.record() else {
            out.notice(&format!("a new chat `{name}`"));
            return Ok(());
        };
        if !named.recompute {
            named.chat.check_model(chat.session().model())?;
        }
        chat.set_messages(record.messages.clone());
        let n_turn = record.n_turn();
        let turns = if n_turn == 1 { "turn" } else { "turns" };
        match restore(chat, &named.chat) {
            Ok(0) if n_turn == 0 => out.notice(&format!("the chat `{name}`")),
            Ok(0) => out.notice(&format!("the chat `{name}`: {n_turn} {turns}, which are read again")),
            Ok(bytes) => {
                named.n_saved = chat.session().tokens().len();
                let (tokens, size) = (named.n_saved, files::size(bytes));
                out.notice(&format!("the chat `{name}` goes on: {n_turn} {turns}, {tokens} tokens ({size})"));
            }
            // The text is what counts; what is lost is time.
            Err(e) => out.notice(&format!("the chat `{name}`: {n_turn} {turns}, which are read again, because {e}")),
        }
        Ok(())
    }

    /// Keeps the conversation as it stands.
    pub(super) fn after_turn(&mut self, chat: &Chat) -> Outcome {
        let Some(named) = &mut self.named else { return Ok(()) };
        let messages = chat.messages();
        let known = named.chat.record().map_or(&[][..], |r| &r.messages);
        if known == messages {
            return Ok(());
        }
        named.chat.write(chat.session().model(), messages)?;
        named.is_behind = true;
        let n = chat.session().tokens().len();
        named.n_saved = named.n_saved.min(n);
        if n - named.n_saved > MAX_UNSAVED {
            named.save(chat)?;
        }
        Ok(())
    }

    /// Keeps all of it in the end.
    pub(super) fn finish(&mut self, chat: &Chat) -> Outcome {
        match &mut self.named {
            Some(named) if named.is_behind => Ok(named.save(chat)?),
            Some(_) => Ok(()),
            None => Ok(self.prompt_cache.finish(chat.session())?),
        }
    }
}

impl Named {
    fn save(&mut self, chat: &Chat) -> Result<()> {
        if chat.session().keeps_rows() {
            chat.session().save(&self.chat.session_path(), &[])?;
        }
        self.n_saved = chat.session().tokens().len();
        self.is_behind = false;
        Ok(())
    }
}

/// Restores the saved session of a chat, of so many bytes; 0: there is none.
fn restore(chat: &mut Chat, named: &NamedChat) -> Result<u64> {
    let path = named.session_path();
    if !path.exists() || !chat.session().keeps_rows() {
        return Ok(0);
    }
    let saved = SavedSession::open(&path)?;
    chat.restore(&saved)?;
    Ok(saved.file_bytes())
}
