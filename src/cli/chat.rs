//! `tealight chat`: a conversation, at a terminal or by lines of standard input.

mod command;
mod lines;

use tealight::Chat;
use tealight::engine::{GenerateOptions, StopReason};

use super::args::ChatArgs;
use super::interrupt::Interrupt;
use super::output::{self, Output};
use super::{Failure, Outcome, answer};
use command::Command;
use lines::Lines;

pub(crate) fn run(args: ChatArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let (subject, _) = args.model.choose(&args.words, false)?;
    let form = args.answer.form.resolve()?;
    let model = answer::open(&subject, &args.compute.resolve()?, &args.start, out)?;
    let session = args.context.resolve(args.cache.resolve(args.compute.exact));
    {
        let _guard = interrupt.stoppable();
        answer::prepare(&model, &session, &args.start, interrupt, out)?;
    }
    let mut chat = model.chat(&session)?;
    answer::tell(&model, out);
    answer::check_context(&model, chat.session().n_ctx(), out);
    chat.set_cancel_token(interrupt.token());
    chat.set_system(args.answer.system(false)?.as_deref());
    let mut lines = Lines::open(&args, out)?;
    let show_timings = args.answer.shows_timings();
    let options = args.answer.resolve(args.sampling.resolve(&model)?, form, false);
    if lines.is_interactive() {
        let name = model.gguf().path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        out.notice(&format!("{} - /help shows the commands, Ctrl-D leaves", tealight::error::printable(&name)));
    }
    let mut talk = Talk { chat, options, show_timings, n_repeat: 0 };
    while let Some(line) = lines.next()? {
        let turn = talk.turn(&line, out, interrupt);
        match turn {
            Ok(Next::Ask) => {}
            Ok(Next::Leave) => break,
            // A person reads what is wrong and goes on; a script must not.
            Err(Failure::Error(error)) if lines.is_interactive() => out.error(&error),
            Err(Failure::Interrupted) if lines.is_interactive() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// What comes after a line.
enum Next {
    Ask,
    Leave,
}

/// A conversation and how it is held.
struct Talk {
    chat: Chat,
    options: GenerateOptions,
    show_timings: bool,
    /// How often the last question has been asked again.
    n_repeat: u32,
}

impl Talk {
    /// Does what a line asks for.
    fn turn(&mut self, line: &str, out: &mut Output, interrupt: &Interrupt) -> Outcome<Next> {
        match Command::of(line) {
            None if line.trim().is_empty() => {}
            None => {
                self.n_repeat = 0;
                self.answer(Some(line), out, interrupt)?;
            }
            Some(Command::Help) => output::to_stderr(command::HELP),
            Some(Command::Bye) => return Ok(Next::Leave),
            Some(Command::Clear) => {
                self.chat.clear();
                out.notice("a new conversation begins");
            }
            Some(Command::Undo) => match self.chat.undo() {
                Some(text) => out.notice(&format!("taken back: {}", tealight::error::printable(&text))),
                None => out.notice("there is nothing to take back"),
            },
            Some(Command::Regen) => {
                self.n_repeat += 1;
                self.answer(None, out, interrupt)?;
            }
            Some(Command::System(text)) => {
                let text = Some(text).filter(|t| !t.is_empty());
                self.chat.set_system(text);
                out.notice(if text.is_some() { "the system message is set" } else { "the system message is removed" });
            }
            Some(Command::Unknown(word)) => {
                let word = tealight::error::printable(word);
                return Err(super::usage(format!("unknown command `{word}`"), "/help shows the commands"));
            }
        }
        Ok(Next::Ask)
    }

    /// Answers a question, or the last one once more.
    fn answer(&mut self, text: Option<&str>, out: &mut Output, interrupt: &Interrupt) -> Outcome {
        let mut options = self.options.clone();
        if options.sampling.seed != tealight::sample::RANDOM_SEED {
            // The same seed would give the same answer again.
            options.sampling.seed = options.sampling.seed.wrapping_add(self.n_repeat);
        }
        let guard = interrupt.stoppable();
        let n_ctx = self.chat.session().n_ctx();
        let model = self.chat.session().model().clone();
        let turn = match text {
            Some(text) => Some(self.chat.say(text, &options)?),
            None => self.chat.regenerate(&options)?,
        };
        let Some(turn) = turn else {
            out.notice("there is nothing to answer again");
            return Ok(());
        };
        let summary = answer::stream(turn, out)?;
        drop(guard);
        out.end_turn()?;
        answer::tell(&model, out);
        let Some(summary) = summary else { return Ok(()) };
        answer::report(&summary, n_ctx, self.show_timings, out);
        match summary.reason {
            StopReason::Cancelled => Err(Failure::Interrupted),
            _ => Ok(()),
        }
    }
}
