//! Vectors of texts: many short texts are one pass, a long one is as many as it needs.

use super::cancel::CancelToken;
use super::executor::Memory;
use super::load::{Model, Program};
use crate::arch::Pooling;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Backend, CacheType, Rows, SequenceMemory};
use crate::text::Encode;

/// Texts of one pass at most: each has keys and values of its own.
const MAX_TOGETHER: usize = 32;

/// How texts become vectors; by which pooling is the model's own affair
/// ([`ModelOptions::pooling`](super::ModelOptions::pooling)).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EmbedOptions {
    /// Scale each vector to length 1, so that the product of two is the cosine of their angle.
    pub normalize: bool,
    /// Number of the first text in messages, from 0.
    pub first: usize,
    /// Stops the call.
    pub cancel: CancelToken,
}

impl EmbedOptions {
    /// Chooses vectors of length 1.
    #[must_use]
    pub fn with_normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Sets the number of the first text in messages.
    #[must_use]
    pub fn with_first(mut self, first: usize) -> Self {
        self.first = first;
        self
    }

    /// Sets what stops the call.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }
}

/// What a text became.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Embedding {
    /// Its tokens, with those that the model expects around a text.
    pub n_token: usize,
    /// Its vector, [`Model::n_output`] numbers; with [`Pooling::None`] one for each token.
    pub vectors: Vec<Vec<f32>>,
}

/// A part of a text that is fed in one pass.
struct Part<'t> {
    text: usize,
    tokens: &'t [u32],
    start: usize,
    is_last: bool,
}

/// What is known of a text's vector.
#[derive(Clone, Default)]
struct Pooled {
    sum: Vec<f64>,
    rows: Vec<Vec<f32>>,
}

impl Model {
    /// The vectors of texts, in their order. Texts that are short go through the model together.
    ///
    /// ```no_run
    /// use tealight::{EmbedOptions, Model, ModelOptions};
    ///
    /// let model = Model::open("embedding-model.gguf", &ModelOptions::default())?;
    /// let found = model.embed(&["a cat", "a dog"], &EmbedOptions::default().with_normalize(true))?;
    /// let (a, b) = (&found[0].vectors[0], &found[1].vectors[0]);
    /// println!("{}", a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>());
    /// # Ok::<(), tealight::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when nothing says how rows become a vector, and for a text that has no tokens or more than
    /// the model takes; else as [`Session::feed`](super::Session::feed).
    pub fn embed<T: AsRef<[u8]>>(&self, texts: &[T], options: &EmbedOptions) -> Result<Vec<Embedding>> {
        let how = Encode { add_special: true, parse_special: false };
        let tokens: Vec<Vec<u32>> = texts.iter().map(|t| self.encode(t.as_ref(), how)).collect::<Result<_>>()?;
        self.embed_tokens(&tokens, options)
    }

    /// As [`Model::embed`], for texts as tokens.
    ///
    /// # Errors
    /// As [`Model::embed`].
    pub fn embed_tokens<T: AsRef<[u32]>>(&self, texts: &[T], options: &EmbedOptions) -> Result<Vec<Embedding>> {
        let pooling = self.checked_pooling()?;
        let Some(longest) = texts.iter().map(|t| t.as_ref().len()).max() else { return Ok(Vec::new()) };
        let limit = self.max_text();
        for (i, text) in texts.iter().enumerate() {
            let n = text.as_ref().len();
            if n == 0 || n > limit {
                let what = if n == 0 { "no tokens".to_owned() } else { format!("{n} tokens, the model takes {limit}") };
                let error = Error::new(ErrorKind::Usage, format!("text {} has {what}", options.first + i + 1));
                return Err(error.with_hint("give texts of at least one token, and long ones in parts"));
            }
        }
        // `longest` is at most `limit`, a u32.
        let n_ctx = u32::try_from(longest).unwrap_or(u32::MAX);
        let mut pass = Pass {
            model: self,
            program: &*self.program(n_ctx)?,
            n_ctx,
            pooling,
            options,
            memories: Vec::new(),
            found: vec![Pooled::default(); texts.len()],
        };
        for batch in batches(texts, self.options().knobs.n_ubatch.max(1), self.is_causal()) {
            pass.run(&batch)?;
        }
        let found = pass.found.into_iter().zip(texts);
        Ok(found
            .map(|(pooled, text)| {
                let n_token = text.as_ref().len();
                let mut vectors = pooled.vectors(n_token);
                if options.normalize {
                    vectors.iter_mut().for_each(|v| normalize(v));
                }
                Embedding { n_token, vectors }
            })
            .collect())
    }

    fn checked_pooling(&self) -> Result<Pooling> {
        if let Some(pooling) = self.pooling().filter(|_| !self.has_logits()) {
            return Ok(pooling);
        }
        let what = match self.has_logits() {
            true => "the model writes text, and its file does not say how a text gets one vector",
            false => "the file does not say how the vectors of a text's tokens become one",
        };
        let hint = "choose it: --pooling mean, cls or last (`last` for models that write text), or none";
        Err(Error::new(ErrorKind::Usage, what).in_file(self.gguf().path()).with_hint(hint))
    }

    /// Tokens of a text at most.
    fn max_text(&self) -> usize {
        let trained = Some(self.n_ctx_train()).filter(|n| *n > 0).unwrap_or(u32::MAX);
        let positions = self.any_program().plan.n_position().unwrap_or(u32::MAX);
        let at_once = if self.is_causal() { u32::MAX } else { self.n_batch() };
        trained.min(positions).min(at_once) as usize
    }
}

/// Cuts texts into passes of `n_row` rows: several whole texts, or a part of one. A text that cannot be cut is a pass
/// of its own when it is longer.
fn batches<T: AsRef<[u32]>>(texts: &[T], n_row: usize, may_cut: bool) -> Vec<Vec<Part<'_>>> {
    let mut batches: Vec<Vec<Part<'_>>> = Vec::new();
    let mut n_open = 0;
    for (text, tokens) in texts.iter().enumerate() {
        let tokens = tokens.as_ref();
        if tokens.len() > n_row {
            let step = if may_cut { n_row } else { tokens.len() };
            let parts = tokens.chunks(step).enumerate().map(|(i, tokens)| (i * step, tokens));
            let n = tokens.len();
            batches.extend(
                parts.map(|(start, tokens)| vec![Part { text, tokens, start, is_last: start + tokens.len() == n }]),
            );
            n_open = n_row;
            continue;
        }
        let part = Part { text, tokens, start: 0, is_last: true };
        match batches.last_mut() {
            Some(batch) if n_open + tokens.len() <= n_row && batch.len() < MAX_TOGETHER => batch.push(part),
            _ => {
                batches.push(vec![part]);
                n_open = 0;
            }
        }
        n_open += tokens.len();
    }
    batches
}

/// The passes of one call.
struct Pass<'a> {
    model: &'a Model,
    program: &'a Program,
    n_ctx: u32,
    pooling: Pooling,
    options: &'a EmbedOptions,
    /// One for each text of a pass, used again and again.
    memories: Vec<Memory>,
    /// By text.
    found: Vec<Pooled>,
}

impl Pass<'_> {
    fn run(&mut self, batch: &[Part<'_>]) -> Result<()> {
        if self.options.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let (mut token, mut pos, mut seq, mut want, mut text_of) = (vec![], vec![], vec![], vec![], vec![]);
        for (i, part) in batch.iter().enumerate() {
            for (j, id) in part.tokens.iter().enumerate() {
                let (is_first, is_last) = (part.start + j == 0, part.is_last && j + 1 == part.tokens.len());
                let is_wanted = match self.pooling {
                    Pooling::Cls => is_first,
                    Pooling::Last => is_last,
                    Pooling::None | Pooling::Mean => true,
                };
                if is_wanted {
                    want.push(token.len() as u32);
                    text_of.push(part.text);
                }
                token.push(*id);
                pos.push((part.start + j) as u32);
                seq.push(i as u32);
            }
        }
        let rows = Rows { token: &token, pos: &pos, seq: &seq, want: &want, input: &[] };
        let (model, n_ctx) = (self.model, self.n_ctx);
        let (memories, cancel) = (&mut self.memories, &self.options.cancel);
        let mut out = Vec::new();
        model.with_executor(self.program, n_ctx, |executor| {
            // Both ways a number in half precision would be the result's precision; rows live for one call.
            let ty = if model.is_causal() && !model.options().exact { CacheType::F16 } else { CacheType::F32 };
            while memories.len() < batch.len() {
                memories.push(executor.memory(n_ctx, model.n_batch(), ty, ty)?);
            }
            let fresh = batch.iter().zip(memories.iter_mut()).filter(|(part, _)| part.start == 0);
            fresh.for_each(|(_, memory)| memory.clear());
            let mut memories: Vec<&mut Memory> = memories[..batch.len()].iter_mut().collect();
            executor.run(&rows, &mut memories, None, cancel.flag(), &mut out)
        })?;
        let width = model.n_output() as usize;
        for (text, row) in text_of.into_iter().zip(out.chunks_exact(width.max(1))) {
            if row.iter().any(|x| !x.is_finite()) {
                let number = self.options.first + text + 1;
                let error = Error::new(ErrorKind::Model, format!("a result for text {number} is no number"));
                let hint = "the weights are damaged: download or convert the model again";
                return Err(error.in_file(model.gguf().path()).with_hint(hint));
            }
            self.found[text].add(row, self.pooling);
        }
        Ok(())
    }
}

impl Pooled {
    fn add(&mut self, row: &[f32], pooling: Pooling) {
        if pooling != Pooling::Mean {
            self.rows.push(row.to_vec());
            return;
        }
        self.sum.resize(row.len(), 0.0);
        self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }

    fn vectors(mut self, n_token: usize) -> Vec<Vec<f32>> {
        if !self.sum.is_empty() {
            self.rows.push(self.sum.iter().map(|sum| (sum / n_token as f64) as f32).collect());
        }
        self.rows
    }
}

/// Scales a vector to length 1; one of nothing but zeros stays.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(lengths: &[usize], n_row: usize, may_cut: bool) -> Vec<Vec<(usize, usize, usize)>> {
        let texts: Vec<Vec<u32>> = lengths.iter().map(|n| vec![0; *n]).collect();
        let show = |b: &Vec<Part<'_>>| b.iter().map(|p| (p.text, p.start, p.tokens.len())).collect();
        batches(&texts, n_row, may_cut).iter().map(show).collect()
    }

    #[test]
    fn short_texts_share_a_pass_and_long_ones_have_their_own() {
        assert_eq!(cut(&[3, 4, 2, 1], 8, true), [vec![(0, 0, 3), (1, 0, 4)], vec![(2, 0, 2), (3, 0, 1)]]);
        assert_eq!(cut(&[20, 1], 8, true), [vec![(0, 0, 8)], vec![(0, 8, 8)], vec![(0, 16, 4)], vec![(1, 0, 1)]]);
        assert_eq!(cut(&[1, 20, 1], 8, false), [vec![(0, 0, 1)], vec![(1, 0, 20)], vec![(2, 0, 1)]]);
        assert_eq!(cut(&[1; 40], 512, true).iter().map(Vec::len).collect::<Vec<_>>(), [MAX_TOGETHER, 8]);
        assert!(cut(&[], 8, true).is_empty());
    }

    #[test]
    fn a_normalised_vector_has_length_one() {
        let mut v = [3.0, -4.0];
        normalize(&mut v);
        assert_eq!(v, [0.6, -0.8]);
        let mut zero = [0.0; 3];
        normalize(&mut zero);
        assert_eq!(zero, [0.0; 3]);
    }
}
