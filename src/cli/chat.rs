//! `tealight chat`: a conversation, at a terminal or by lines of standard input.

mod command;
mod complete;
mod files;
mod lines;
mod settings;
mod status;
mod talk;
mod think;
mod view;

use super::args::ChatArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::{Failure, Outcome};
pub(crate) use command::summary as commands;
use lines::{Input, Lines};
use talk::{Next, Talk};
pub(crate) use view::Think;

pub(crate) fn run(args: ChatArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let (path, _) = args.model.resolve(&args.words, false)?;
    let form = args.answer.form.resolve()?;
    let mut chat = talk::open(&path, &args, out, interrupt)?;
    chat.set_system(args.answer.system(false)?.as_deref());
    let mut talk = Talk::new(chat, &args, form, out)?;
    let mut lines = Lines::open(&args, out)?;
    talk.has_editor = lines.is_editor();
    if lines.is_interactive() {
        out.notice(&format!("{} - /help shows commands", talk.introduction()));
    }
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
