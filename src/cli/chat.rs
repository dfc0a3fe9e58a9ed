//! `tealight chat`: a conversation, at a terminal or by lines of standard input.

mod command;
mod complete;
mod files;
mod kept;
mod lines;
mod settings;
mod status;
mod talk;
mod view;

use super::args::ChatArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::{Failure, Outcome, model};
#[cfg(test)]
pub(crate) use command::names as command_names;
pub(crate) use command::summary as commands;
use kept::Kept;
pub(crate) use kept::{KeptArgs, store};
use lines::{Input, Lines};
use talk::{Next, Talk};
pub(crate) use view::Think;

pub(crate) fn run(args: ChatArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let form = args.answer.form.resolve()?;
    let mut kept = Kept::open(&args.kept)?;
    let subject = match kept.model().filter(|_| !args.model.is_named(&args.words)) {
        Some(path) => model::named(path.as_os_str())?,
        None => args.model.choose(&args.words, false)?.0,
    };
    let mut chat = talk::open(&subject, &args, out, interrupt)?;
    kept.begin(&mut chat, out)?;
    if let Some(text) = args.answer.system(false)? {
        chat.set_system(Some(&text));
    }
    let mut talk = Talk::new(chat, &args, form, out)?;
    let mut lines = Lines::open(&args, out)?;
    talk.has_editor = lines.is_editor();
    if lines.is_interactive() {
        out.notice(&format!("{} - /help shows commands", talk.introduction()));
    }
    let outcome = hold(&mut talk, &mut lines, &mut kept, out, interrupt);
    // Whatever ended the conversation, it is kept.
    let end = kept.finish(talk.chat());
    outcome.and(end)
}

/// Does what line after line asks for.
fn hold(
    talk: &mut Talk<'_>,
    lines: &mut Lines,
    kept: &mut Kept<'_>,
    out: &mut Output,
    interrupt: &Interrupt,
) -> Outcome {
    // The last question, while it is edited.
    let mut draft: Option<String> = None;
    let mut n_interrupt = 0;
    loop {
        let line = match lines.next(draft.as_deref().unwrap_or_default())? {
            Input::Text(line) => line,
            Input::End => return Ok(()),
            Input::Interrupt { was_empty } => {
                draft = None;
                n_interrupt = if was_empty { n_interrupt + 1 } else { 0 };
                if n_interrupt >= 2 {
                    return Ok(());
                }
                if was_empty {
                    out.notice("Ctrl-C once more leaves, and so does Ctrl-D");
                }
                continue;
            }
        };
        n_interrupt = 0;
        let turn = match draft.take() {
            Some(_) if line.trim().is_empty() => Ok(Next::Ask),
            Some(_) => talk.replace(&line, out, interrupt),
            None => talk.turn(&line, out, interrupt),
        };
        kept.after_turn(talk.chat())?;
        match turn {
            Ok(Next::Ask) => {}
            Ok(Next::Edit(text)) => draft = Some(text),
            Ok(Next::Leave) => return Ok(()),
            // A person reads what is wrong and goes on; a script must not.
            Err(Failure::Error(error)) if lines.is_interactive() => out.error(&error),
            Err(Failure::Interrupted) if lines.is_interactive() => {}
            Err(failure) => return Err(failure),
        }
    }
}
