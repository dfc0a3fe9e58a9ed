//! How well a model predicts a text, by llama-perplexity's method: chunks of the context's length, the first token
//! of each replaced by BOS where the model wants one, the second half of each scored. With a file of another model's
//! probabilities also how far the two are apart.

pub(super) mod base;
pub(super) mod divergence;

use std::path::Path;

use tealight::gguf::AtomicFile;
use tealight::{Model, Session, SessionOptions, Want};

use super::args::PerplexityArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::progress::Progress;
use super::{Outcome, answer, input, logits, usage};
use base::{BaseReader, BaseWriter};
use divergence::Divergence;

/// Sums over scored tokens.
#[derive(Clone, Copy, Default)]
pub(super) struct Score {
    /// Of -ln p.
    nll: f64,
    /// Of its square.
    nll2: f64,
    n: u64,
}

impl Score {
    pub(super) fn add(&mut self, nll: f64) {
        self.nll += nll;
        self.nll2 += nll * nll;
        self.n += 1;
    }

    /// Perplexity, and the standard error of it, which a single token does not have.
    pub(super) fn perplexity(&self) -> (f64, Option<f64>) {
        let n = self.n as f64;
        let mean = self.nll / n;
        let variance = (self.nll2 / n - mean * mean).max(0.0);
        let error = mean.exp() * (variance / (n - 1.0)).sqrt();
        // It passes what a number holds where the perplexity does.
        (mean.exp(), Some(error).filter(|e| self.n > 1 && e.is_finite()))
    }
}

/// What is scored, and how.
pub(super) struct Scoring<'a> {
    pub file: &'a Path,
    pub n_ctx: u32,
    /// Chunks at most.
    pub n_chunk: Option<u32>,
    /// Tokens of a call.
    pub n_batch: u32,
    pub session: SessionOptions,
}

/// A text in chunks.
pub(super) struct Chunks {
    /// [chunks, n_ctx].
    tokens: Vec<u32>,
    n_ctx: usize,
}

impl Chunks {
    /// The text of a file in whole chunks, at most `n_chunk`.
    pub(super) fn read(model: &Model, file: &Path, n_ctx: u32, n_chunk: Option<u32>) -> Outcome<Self> {
        let n_ctx = n_ctx as usize;
        let mut tokens = input::encode(model, &input::file(file)?, false)?;
        if tokens.len() < 2 * n_ctx {
            let text = format!("the text has {} tokens, two chunks of {n_ctx} are needed", tokens.len());
            return Err(usage(text, "take a longer text or a smaller --ctx-size"));
        }
        let n_chunk = (tokens.len() / n_ctx).min(n_chunk.map_or(usize::MAX, |n| n as usize));
        tokens.truncate(n_chunk * n_ctx);
        Ok(Self { tokens, n_ctx })
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len() / self.n_ctx
    }

    /// The tokens of all chunks.
    pub(super) fn n_token(&self) -> usize {
        self.tokens.len()
    }

    /// Passes over the first `n` chunks.
    pub(super) fn skip(&mut self, n: u32) {
        self.tokens.drain(..(n as usize).saturating_mul(self.n_ctx).min(self.tokens.len()));
    }

    /// The chunks as they are fed.
    pub(super) fn iter<'a>(&'a self, model: &'a Model) -> Outcome<impl Iterator<Item = Vec<u32>> + 'a> {
        let vocab = model.vocab()?;
        let bos = vocab.bos().filter(|_| vocab.add_bos());
        Ok(self.tokens.chunks_exact(self.n_ctx).map(move |chunk| {
            let mut chunk = chunk.to_vec();
            chunk[0] = bos.unwrap_or(chunk[0]);
            chunk
        }))
    }
}

pub(crate) fn run(args: &PerplexityArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let (subject, _) = args.model.resolve(&args.words, false)?;
    let options = args.lora.resolve(args.compute.resolve()?);
    let base = args.kl_divergence_base.as_deref();
    let n_batch = options.knobs.n_ubatch as u32;
    let session = args.cache.resolve(args.compute.exact);
    if args.kl_divergence {
        let base = base.ok_or_else(|| {
            usage("--kl-divergence needs a file", "give --kl-divergence-base FILE, written without --kl-divergence")
        })?;
        let mut base = BaseReader::open(base)?;
        let model = subject.open(&options)?;
        return compare(&model, &mut base, args.chunks, n_batch, &session, out, interrupt);
    }
    let file = args.file.as_deref().ok_or_else(|| usage("no text given", "give one by --file FILE"))?;
    let scoring = Scoring { file, n_ctx: args.ctx_size, n_chunk: args.chunks, n_batch, session };
    let model = subject.open(&options)?;
    score(&model, &scoring, base, out, interrupt)
}

/// Scores a text; the probabilities of all tokens go to the file `base`.
pub(super) fn score(
    model: &Model,
    scoring: &Scoring<'_>,
    base: Option<&Path>,
    out: &mut Output,
    interrupt: &Interrupt,
) -> Outcome {
    logits::check_writes_text(model)?;
    let chunks = Chunks::read(model, scoring.file, scoring.n_ctx, scoring.n_chunk)?;
    answer::warn(model, out);
    let mut session = model.session(&scoring.session.clone().with_ctx(scoring.n_ctx))?;
    answer::tell(model, out);
    let _guard = interrupt.stoppable();
    session.set_cancel_token(interrupt.token());
    let inputs: Vec<&Path> = model.gguf().shard_paths().chain([scoring.file]).collect();
    let file = base.map(|path| AtomicFile::create(path, &inputs)).transpose()?;
    let n_vocab = model.n_output() as usize;
    let mut file = file.map(|file| BaseWriter::begin(file, scoring.n_ctx, n_vocab, &chunks.tokens)).transpose()?;
    let progress = Progress::start(out, "scoring");
    let mut score = Score::default();
    for (i, chunk) in chunks.iter(model)?.enumerate() {
        each_scored(&mut session, &chunk, scoring.n_batch, &mut |row, next| {
            score.add(nll(row, next));
            file.as_mut().map_or(Ok(()), |file| Ok(file.row(row)?))
        })?;
        progress.set((i + 1) * chunk.len(), chunks.tokens.len());
        out.detail(&format!("[{}] {:.4}", i + 1, score.perplexity().0));
    }
    drop(progress);
    answer::tell(model, out);
    if let Some(file) = file {
        file.finish()?.commit()?;
    }
    out.bytes(final_estimate(&score).as_bytes())
}

pub(super) fn final_estimate(score: &Score) -> String {
    let (ppl, error) = score.perplexity();
    let error = error.map(|e| format!(" +/- {e:.5}")).unwrap_or_default();
    format!("Final estimate: PPL = {ppl:.4}{error}\n")
}

/// How far a model's probabilities are from those of a file.
fn compare(
    model: &Model,
    base: &mut BaseReader,
    n_chunk: Option<u32>,
    n_batch: u32,
    session: &SessionOptions,
    out: &mut Output,
    interrupt: &Interrupt,
) -> Outcome {
    logits::check_writes_text(model)?;
    let n_vocab = model.n_output() as usize;
    let mut chunks = base.begin(n_vocab)?;
    chunks.tokens.truncate(chunks.n_ctx * n_chunk.map_or(usize::MAX, |n| n as usize).min(chunks.len()));
    answer::warn(model, out);
    let mut session = model.session(&session.clone().with_ctx(chunks.n_ctx as u32))?;
    answer::tell(model, out);
    let _guard = interrupt.stoppable();
    session.set_cancel_token(interrupt.token());
    let progress = Progress::start(out, "comparing");
    let mut divergence = Divergence::new(n_vocab);
    let mut log_probs = Vec::new();
    for (i, chunk) in chunks.iter(model)?.enumerate() {
        each_scored(&mut session, &chunk, n_batch, &mut |row, next| {
            base.row(&mut log_probs)?;
            divergence.add(row, &log_probs, next);
            Ok(())
        })?;
        progress.set((i + 1) * chunk.len(), chunks.tokens.len());
        out.detail(&divergence.line(i + 1));
    }
    drop(progress);
    answer::tell(model, out);
    out.bytes(divergence.report().as_bytes())
}

/// Feeds a chunk to an empty session; `each` hears the logits of every scored token, and which token that is.
pub(super) fn each_scored(
    session: &mut Session,
    chunk: &[u32],
    n_batch: u32,
    each: &mut dyn FnMut(&[f32], usize) -> Outcome,
) -> Outcome {
    let first = chunk.len() / 2;
    session.clear();
    session.feed(&chunk[..first], n_batch, Want::None, &mut |_| {})?;
    let n_vocab = session.model().n_output() as usize;
    let mut at = first;
    // The last token's logits predict what is not in the chunk.
    for part in chunk[first..chunk.len() - 1].chunks(n_batch as usize) {
        let rows = session.feed(part, n_batch, Want::All, &mut |_| {})?;
        for row in rows.chunks_exact(n_vocab) {
            at += 1;
            each(row, chunk[at] as usize)?;
        }
    }
    Ok(())
}

/// What is subtracted from a logit to make it the logarithm of a probability.
pub(super) fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from((x - max).exp())).sum();
    sum.ln() + f64::from(max)
}

/// -ln of the probability of token `id`.
pub(super) fn nll(logits: &[f32], id: usize) -> f64 {
    log_sum_exp(logits) - f64::from(logits[id])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_give_the_size_of_the_vocabulary() {
        let mut score = Score::default();
        (0..4).for_each(|id| score.add(nll(&[1.5; 4], id)));
        let (ppl, error) = score.perplexity();
        assert!((ppl - 4.0).abs() < 1e-6 && error.is_some_and(|e| e.abs() < 1e-6), "{ppl} {error:?}");
    }

    #[test]
    fn what_is_no_number_is_not_an_error_term() {
        let mut score = Score::default();
        score.add(nll(&[0.0, 1.0], 0));
        let (ppl, error) = score.perplexity();
        assert!((ppl - (1.0 + 1f64.exp())).abs() < 1e-6 && error.is_none(), "{ppl} {error:?}");
        score.add(nll(&[f32::MIN, f32::MAX], 0));
        assert_eq!(score.perplexity(), (f64::INFINITY, None));
    }
}
