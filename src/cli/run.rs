//! `tealight run`: one answer.

use std::path::Path;

use serde_json::Value;
use tealight::engine::{Event, StopReason, Summary};
use tealight::sample::grammar::Grammar;
use tealight::{Error, ErrorKind, Model, Result};

use super::args::RunArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::prompt_cache::PromptCache;
use super::reply::Whole;
use super::{Failure, Outcome, answer, input, usage};

pub(crate) fn run(args: RunArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let (subject, word) = args.model.choose(&args.words, args.prompt.is_none())?;
    let word = word.or_else(|| args.prompt.clone());
    let Some(prompt) = input::prompt(args.file.as_deref(), word, args.escape, out)? else {
        return Err(usage("no prompt given", "add one in quotes, or pipe it in; `tealight chat` holds a conversation"));
    };
    let form = args.answer.form.resolve()?;
    let model = answer::open(&subject, &args.lora.resolve(args.compute.resolve()?), &args.start, out)?;
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
    let tools = args.tools.as_deref().map(read_tools).transpose()?;
    let mut cache = PromptCache::new(&args.prompt_cache);
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
        if let Some(saved) = cache.open(chat.session(), out)? {
            chat.restore(&saved)?;
        }
        chat.set_tools(tools)?;
        let turn = chat.say(&prompt, &options)?;
        let summary = show(cache.watch(turn, |turn| turn.session()), model, args.json, out)?;
        cache.finish(chat.session())?;
        return finish(model, summary, chat.session().n_ctx(), show_timings, out);
    }
    if tools.is_some() {
        return Err(usage("tools need a chat template: the file has none", "leave --tools out"));
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
    if let Some(saved) = cache.open(&session, out)? {
        session.restore(&saved)?;
        let common = session.tokens().iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        // At least one token must be read: its logits are what the answer begins with.
        session.rewind(common.min(tokens.len().saturating_sub(1)))?;
    }
    let rest = tokens[session.tokens().len()..].to_vec();
    let generation = session.generate(&rest, &options)?;
    let summary = show(cache.watch(generation, |g| g.session()), model, args.json, out)?;
    cache.finish(&session)?;
    finish(model, summary, session.n_ctx(), show_timings, out)
}

/// Definitions of tools; what each of them must have is checked where they are used.
fn read_tools(path: &Path) -> Outcome<Value> {
    let tools = serde_json::from_slice(&input::file(path)?);
    tools.map_err(|e| {
        let error = Error::new(ErrorKind::Usage, format!("not JSON: {e}")).in_file(path);
        error.with_hint("a list of {\"type\": \"function\", \"function\": {..}}").into()
    })
}

/// Shows an answer as it comes, or all of it as JSON.
fn show(
    events: impl Iterator<Item = Result<Event>>,
    model: &Model,
    json: bool,
    out: &mut Output,
) -> Outcome<Option<Summary>> {
    if !json {
        return answer::stream(events, out);
    }
    let whole = Whole::read(events)?;
    out.bytes(format!("{:#}\n", whole.to_json(model)).as_bytes())?;
    Ok(whole.end().cloned())
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
