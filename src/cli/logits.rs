//! `tealight logits`: raw scores of given tokens, for comparing implementations.

use std::io::Write;
use std::path::Path;

use tealight::gguf::AtomicFile;
use tealight::plan::{Plan, Probe};
use tealight::{Error, ErrorKind, Model, Session, Want};

use super::args::LogitsArgs;
use super::interrupt::Interrupt;
use super::output::{self, Output};
use super::perplexity::Scoring;
use super::progress::Progress;
use super::{Failure, Outcome, answer, input, perplexity, usage};

pub(crate) fn run(args: &LogitsArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let (subject, _) = args.model.resolve(&args.words, false)?;
    let options = args.lora.resolve(args.compute.resolve()?);
    let model = subject.open(&options)?;
    // A call must not feed more than a pass takes, so that the rows of one pass are all that is held.
    let n_batch = model.n_batch();
    if args.nll {
        let file = args.file.as_deref().ok_or_else(|| usage("--nll needs a text", "give --file FILE"))?;
        let n_batch = args.chunk.unwrap_or(n_batch).min(n_batch);
        let session = args.cache.resolve(args.compute.exact);
        let scoring = Scoring { file, n_ctx: args.ctx_size, n_chunk: args.chunks, n_batch, session };
        return perplexity::score(&model, &scoring, None, out, interrupt);
    }
    let tokens = tokens(&model, args)?;
    answer::warn(&model, out);
    let n_token = u32::try_from(tokens.len()).map_err(|_| usage("too many tokens", "give fewer"))?;
    // Some models choose their rotation by the length of the context, so it is what the tokens need.
    let session = args.cache.resolve(args.compute.exact).with_ctx(n_token);
    let probe = args.label.as_deref().map(|label| find_label(&*model.plan(n_token)?, label)).transpose()?;
    let mut session = model.session(&session)?;
    answer::tell(&model, out);
    let _guard = interrupt.stoppable();
    session.set_cancel_token(interrupt.token());
    let rows = Rows { tokens: &tokens, n_chunk: args.chunk.unwrap_or(n_batch).min(n_batch), probe, last: args.last };
    let output = args.output.as_deref().unwrap_or(Path::new("-"));
    if output == Path::new("-") {
        rows.write(&mut session, out, &mut |bytes| output::to_stdout(bytes))?;
        answer::tell(&model, out);
        return Ok(());
    }
    let inputs: Vec<&Path> = model.gguf().shard_paths().collect();
    let mut file = AtomicFile::create(output, &inputs)?;
    rows.write(&mut session, out, &mut |bytes| {
        file.write_all(bytes).map_err(|e| Failure::Error(Error::io("cannot write", output, e)))
    })?;
    answer::tell(&model, out);
    Ok(file.commit()?)
}

fn tokens(model: &Model, args: &LogitsArgs) -> Outcome<Vec<u32>> {
    let tokens = match &args.prompt {
        Some(prompt) => input::encode(model, &input::bytes_of(prompt.clone())?, args.special)?,
        None => args.tokens.clone(),
    };
    if tokens.is_empty() {
        return Err(usage("no tokens given", "give --tokens 1,2,3 or --prompt TEXT"));
    }
    Ok(tokens)
}

fn find_label(plan: &Plan, label: &str) -> Outcome<Probe> {
    plan.find_label(label).ok_or_else(|| {
        let mut names: Vec<String> = Vec::new();
        for (i, step) in plan.steps().iter().enumerate() {
            let section = plan.section_of(i);
            for operand in step.writes() {
                let name = format!("{section}.{}", plan.buffers()[operand.buf.index()].name);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let label = tealight::error::printable(label);
        usage(format!("the plan has no label `{label}`"), &format!("the labels are {}", names.join(", ")))
    })
}

/// What is fed, and what of it is written.
struct Rows<'a> {
    tokens: &'a [u32],
    n_chunk: u32,
    probe: Option<Probe>,
    last: bool,
}

impl Rows<'_> {
    fn write(&self, session: &mut Session, out: &Output, write: &mut dyn FnMut(&[u8]) -> Outcome) -> Outcome {
        let progress = Progress::start(out, "reading tokens");
        let n_token = self.tokens.len();
        let mut done = 0;
        for chunk in self.tokens.chunks(self.n_chunk as usize) {
            let is_last = done + chunk.len() == n_token;
            let want = match self.last {
                false => Want::All,
                true if is_last => Want::Last,
                true => Want::None,
            };
            let rows = session.feed_probe(chunk, self.n_chunk, want, self.probe, &mut |_| {})?;
            done += chunk.len();
            progress.set(done, n_token);
            // Of an intermediate result every row comes back, wanted or not.
            let rows = match (self.last, self.probe) {
                (true, _) if !is_last => &[],
                (true, Some(probe)) => &rows[rows.len().saturating_sub(probe.operand().len() as usize)..],
                _ => rows,
            };
            let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
            write(&bytes)?;
        }
        Ok(())
    }
}

/// An error for a model that cannot say which token comes next.
pub(crate) fn check_writes_text(model: &Model) -> Outcome {
    if model.has_logits() {
        return Ok(());
    }
    let text = "an embedding model: it writes no text";
    let hint = "`tealight embed` gives the vectors of texts";
    Err(Error::new(ErrorKind::Model, text).in_file(model.gguf().path()).with_hint(hint).into())
}
