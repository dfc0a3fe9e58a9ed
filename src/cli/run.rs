//! `tealight run`: one answer.

use tealight::Model;
use tealight::engine::{StopReason, Summary};
use tealight::sample::grammar::Grammar;

use super::args::RunArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::{Failure, Outcome, answer, input, usage};

pub(crate) fn run(args: RunArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let (subject, word) = args.model.choose(&args.words, args.prompt.is_none())?;
    let word = word.or_else(|| args.prompt.clone());
    let Some(prompt) = input::prompt(args.file.as_deref(), word, args.escape, out)? else {
        return Err(usage("no prompt given", "add one in quotes, or pipe it in; `tealight chat` holds a conversation"));
    };
    let form = args.answer.form.resolve()?;
    let model = answer::open(&subject, &args.compute.resolve()?, &args.start, out)?;
    let summary = write(&model, args, form, prompt, out, interrupt)?;
    match summary.is_some_and(|s| s.reason == StopReason::Cancelled) {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}

fn write(
    model: &Model,
    args: RunArgs,
    form: Option<Grammar>,
    prompt: Vec<u8>,
    out: &mut Output,
    interrupt: &Interrupt,
) -> Outcome<Option<Summary>> {
    let session = args.context.resolve(args.cache.resolve(args.compute.exact));
    let system = args.answer.system(args.escape)?;
    let options = args.answer.resolve(args.sampling.resolve(model)?, form, args.escape);
    let show_timings = args.answer.shows_timings();
    let is_raw = args.raw || model.chat_template()?.is_none();
    let _guard = interrupt.stoppable();
    answer::prepare(model, &session, &args.start, interrupt, out)?;
    if !is_raw {
        let mut chat = model.chat(&session)?;
        chat.set_cancel_token(interrupt.token());
        chat.set_system(system.as_deref());
        answer::tell(model, out);
        answer::check_context(model, chat.session().n_ctx(), out);
        let prompt = input::utf8(prompt, "the prompt")?;
        let summary = answer::stream(chat.say(&prompt, &options)?, out)?;
        return finish(model, summary, chat.session().n_ctx(), show_timings, out);
    }
    if system.is_some() {
        let why = if args.raw { "--raw leaves it out" } else { "the file has none" };
        return Err(usage(format!("a system message needs a chat template: {why}"), "put it into the prompt"));
    }
    let tokens = input::encode(model, &prompt, args.parse_special)?;
    let mut session = model.session(&session)?;
    answer::tell(model, out);
    answer::check_context(model, session.n_ctx(), out);
    session.set_cancel_token(interrupt.token());
    let summary = answer::stream(session.generate(&tokens, &options)?, out)?;
    finish(model, summary, session.n_ctx(), show_timings, out)
}

fn finish(
    model: &Model,
    summary: Option<Summary>,
    n_ctx: u32,
    show_timings: bool,
    out: &mut Output,
) -> Outcome<Option<Summary>> {
    out.end_line()?;
    answer::tell(model, out);
    if let Some(summary) = &summary {
        answer::report(summary, n_ctx, show_timings, out);
    }
    Ok(summary)
}
