//! How well a model predicts a text, by llama-perplexity's method: chunks of the context's length, the first token
//! of each replaced by BOS where the model wants one, the second half of each scored.

use std::ops::AddAssign;

use tealight::{Model, Session, Want};

use super::args::LogitsArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::progress::Progress;
use super::{Outcome, answer, input, logits, usage};

/// Sums over scored tokens.
#[derive(Clone, Copy, Default)]
struct Score {
    /// Of -ln p.
    nll: f64,
    /// Of its square.
    nll2: f64,
    n: u64,
}

impl AddAssign<f64> for Score {
    fn add_assign(&mut self, nll: f64) {
        self.nll += nll;
        self.nll2 += nll * nll;
        self.n += 1;
    }
}

impl Score {
    /// Perplexity, and the standard error of it, which a single token does not have.
    fn perplexity(&self) -> (f64, Option<f64>) {
        let n = self.n as f64;
        let mean = self.nll / n;
        let variance = (self.nll2 / n - mean * mean).max(0.0);
        let error = mean.exp() * (variance / (n - 1.0)).sqrt();
        // It passes what a number holds where the perplexity does.
        (mean.exp(), Some(error).filter(|e| self.n > 1 && e.is_finite()))
    }
}

pub(super) fn run(model: &Model, args: &LogitsArgs, n_batch: u32, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    logits::check_writes_text(model)?;
    let n_ctx = args.ctx_size as usize;
    let path = args.file.as_deref().ok_or_else(|| usage("--nll needs a text", "give --file FILE"))?;
    let tokens = input::encode(model, &input::file(path)?, false)?;
    answer::warn(model, out);
    if tokens.len() < 2 * n_ctx {
        let text = format!("the text has {} tokens, two chunks of {n_ctx} are needed", tokens.len());
        return Err(usage(text, "take a longer text or a smaller --ctx-size"));
    }
    let vocab = model.vocab()?;
    let bos = vocab.bos().filter(|_| vocab.add_bos());
    let n_chunk = (tokens.len() / n_ctx).min(args.chunks.map_or(usize::MAX, |n| n as usize));
    let mut session = model.session(&args.cache.resolve(args.compute.exact).with_ctx(args.ctx_size))?;
    let _guard = interrupt.stoppable();
    session.set_cancel_token(interrupt.token());
    let progress = Progress::start(out, "scoring");
    let mut score = Score::default();
    for (i, chunk) in tokens.chunks_exact(n_ctx).take(n_chunk).enumerate() {
        let mut chunk = chunk.to_vec();
        chunk[0] = bos.unwrap_or(chunk[0]);
        score_chunk(&mut session, &chunk, args.chunk.unwrap_or(n_batch).min(n_batch), &mut score)?;
        progress.set((i + 1) * n_ctx, n_chunk * n_ctx);
        out.detail(&format!("[{}] {:.4}", i + 1, score.perplexity().0));
    }
    drop(progress);
    let (ppl, error) = score.perplexity();
    let error = error.map(|e| format!(" +/- {e:.5}")).unwrap_or_default();
    out.bytes(format!("Final estimate: PPL = {ppl:.4}{error}\n").as_bytes())
}

/// Scores the tokens of the second half but the first, each by the logits before it.
fn score_chunk(session: &mut Session, chunk: &[u32], n_batch: u32, score: &mut Score) -> Outcome {
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
            *score += nll(row, chunk[at] as usize);
        }
    }
    Ok(())
}

/// -ln of the probability of token `id`.
fn nll(logits: &[f32], id: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from((x - max).exp())).sum();
    sum.ln() - (f64::from(logits[id]) - f64::from(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_give_the_size_of_the_vocabulary() {
        let mut score = Score::default();
        for id in 0..4 {
            score += nll(&[1.5; 4], id);
        }
        let (ppl, error) = score.perplexity();
        assert!((ppl - 4.0).abs() < 1e-6 && error.is_some_and(|e| e.abs() < 1e-6), "{ppl} {error:?}");
    }

    #[test]
    fn what_is_no_number_is_not_an_error_term() {
        let mut score = Score::default();
        score += nll(&[0.0, 1.0], 0);
        let (ppl, error) = score.perplexity();
        assert!((ppl - (1.0 + 1f64.exp())).abs() < 1e-6 && error.is_none(), "{ppl} {error:?}");
        score += nll(&[f32::MIN, f32::MAX], 0);
        assert_eq!(score.perplexity(), (f64::INFINITY, None));
    }
}
