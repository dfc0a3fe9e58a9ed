//! What `run` and `chat` share: options of an answer, and showing it as it comes.

use std::time::Duration;

use tealight::engine::{Event, GenerateOptions, Notice, StopReason, Summary};
use tealight::sample::SampleOptions;
use tealight::sample::grammar::Grammar;
use tealight::{DeviceChoice, Model, ModelOptions, Result, SessionOptions};

use super::args::{AnswerArgs, StartArgs};
use super::interrupt::Interrupt;
use super::model::Subject;
use super::output::Output;
use super::progress::Progress;
use super::reply::Shown;
use super::{Outcome, input};

/// Opens a model that writes text. Its vocabulary and its weights are read meanwhile: [`prepare`] waits for what is
/// needed.
pub(crate) fn open(subject: &Subject, options: &ModelOptions, start: &StartArgs, out: &Output) -> Outcome<Model> {
    let progress = Progress::start(out, "loading the model");
    let model = subject.open(options)?;
    drop(progress);
    subject.tell(out);
    super::logits::check_writes_text(&model)?;
    if matches!(options.device, DeviceChoice::Cpu | DeviceChoice::Auto) && !start.warm {
        model.read_ahead();
    }
    let reader = model.clone();
    // What goes wrong is told to who asks next, and so is a thread that does not start.
    let _ = std::thread::Builder::new().spawn(move || reader.vocab().is_ok());
    Ok(model)
}

/// Loads weights to where they are computed with, as far as that takes a while, and shows what is odd about the file.
/// Ctrl-C stops it.
pub(crate) fn prepare(
    model: &Model,
    session: &SessionOptions,
    start: &StartArgs,
    interrupt: &Interrupt,
    out: &Output,
) -> Outcome {
    if start.warm {
        let progress = Progress::start_bytes(out, "reading the weights");
        model.warm(&interrupt.token(), &mut |done, total| progress.set_bytes(done, total))?;
    }
    let progress = Progress::start_bytes(out, "loading the weights");
    model.prepare(session, &interrupt.token(), &mut |done, total| progress.set_bytes(done, total))?;
    // Reading the vocabulary finds what is odd about it.
    model.vocab()?;
    drop(progress);
    warn(model, out);
    Ok(())
}

/// Shows what is odd about a model; about its vocabulary, if that has been read.
pub(crate) fn warn(model: &Model, out: &Output) {
    model.warnings().iter().for_each(|w| out.warning(w));
}

/// Tells where the model computes and why, and what did not go as asked.
pub(crate) fn tell(model: &Model, out: &Output) {
    for notice in model.take_notices() {
        match notice {
            Notice::Fallback(text) => out.warning(&text),
            other => out.notice(&other.to_string()),
        }
    }
}

/// Warns of a context that the model has never seen the like of.
pub(crate) fn check_context(model: &Model, n_ctx: u32, out: &Output) {
    let n_train = model.n_ctx_train();
    if n_train > 0 && n_ctx > n_train {
        out.warning(&format!(
            "the context of {n_ctx} tokens is longer than the {n_train} that the model was trained for"
        ));
    }
}

impl AnswerArgs {
    /// The options of an answer of this form; with `escape` its stop texts are written with backslashes.
    pub(crate) fn resolve(&self, sampling: SampleOptions, form: Option<Grammar>, escape: bool) -> GenerateOptions {
        let mut options = GenerateOptions::new(sampling);
        // Both negative numbers mean the same here: the model may always end, and what happens in a full context is
        // said by a flag of its own.
        options.max_tokens = u32::try_from(self.predict).ok();
        options.overflow = self.context_overflow.into();
        options.stop = self.reverse_prompt.iter().map(|text| escaped(text, escape)).collect();
        options.render_special = self.special;
        options.grammar = form;
        options
    }

    /// The system message.
    pub(crate) fn system(&self, escape: bool) -> Outcome<Option<String>> {
        match &self.system_prompt_file {
            Some(path) => {
                let text = input::without_line_end(input::file(path)?);
                input::utf8(text, "the system message").map(Some)
            }
            None => Ok(self.system_prompt.as_ref().map(|text| escaped(text, escape))),
        }
    }
}

fn escaped(text: &str, escape: bool) -> String {
    match escape {
        true => String::from_utf8_lossy(&input::unescaped(text.as_bytes())).into_owned(),
        false => text.to_owned(),
    }
}

/// Writes an answer as it comes. Its figures are `None` only if the answer ends without any.
pub(crate) fn stream(events: impl Iterator<Item = Result<Event>>, out: &mut Output) -> Outcome<Option<Summary>> {
    let mut progress = Some(Progress::start(out, "reading the prompt"));
    let mut shown = Shown::default();
    let mut summary = None;
    for event in events {
        let event = event?;
        match event {
            Event::Prompt { done, total } => progress.iter().for_each(|p| p.set(done, total)),
            _ => {
                // The bar goes before the first text comes: both may be on one terminal.
                progress = None;
                shown.event(&event, out)?;
            }
        }
        if let Event::Stop(figures) = event {
            summary = Some(figures);
        }
    }
    Ok(summary)
}

/// Tells people how the answer went.
pub(crate) fn report(summary: &Summary, n_ctx: u32, show_timings: bool, out: &Output) {
    if summary.reason == StopReason::ContextFull {
        out.warning(&format!(
            "the answer is cut: the context of {n_ctx} tokens is full (a larger one: -c; to go on \
             without its beginning: --context-overflow shift)"
        ));
    }
    if summary.is_unfinished {
        out.warning(&format!(
            "the answer breaks off after {} tokens: it is no whole text of the form that was asked for (more tokens: -n)",
            summary.n_generated
        ));
    }
    if show_timings {
        out.timing(&timing(summary));
    }
    out.detail(&format!(
        "prompt: {} tokens read, {} kept; answer: {} tokens; end: {:?}; seed: {}",
        summary.n_prompt, summary.n_cached, summary.n_generated, summary.reason, summary.seed
    ));
}

/// As llama.cpp shows it.
fn timing(summary: &Summary) -> String {
    let prompt = rate(summary.n_prompt, summary.prompt_time);
    let generation = rate(summary.n_generated, summary.generate_time);
    format!("[ Prompt: {prompt:.1} t/s | Generation: {generation:.1} t/s ]")
}

fn rate(n: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { n as f64 / time.as_secs_f64() }
}
