//! One sequence of tokens and what the model remembers of it.

mod saved;

use std::sync::Arc;

use super::cancel::CancelToken;
use super::executor::{Executor, Loading, Memory};
use super::load::{Model, Program};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Backend, CacheType, MemoryEstimate, Probe, Rows, SequenceMemory};

pub use saved::SavedSession;

/// How a session is made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Context length; `None`: what the model was trained for, at most [`SessionOptions::DEFAULT_CTX_LIMIT`].
    pub n_ctx: Option<u32>,
    /// Storage of keys.
    pub cache_k: CacheType,
    /// Storage of values.
    pub cache_v: CacheType,
}

impl SessionOptions {
    /// Largest context that a session takes unless told otherwise. Memory is taken as the text grows, so this is a
    /// bound against accidents, not a cost.
    pub const DEFAULT_CTX_LIMIT: u32 = 32 * 1024;

    /// Sets the context length.
    #[must_use]
    pub fn with_ctx(mut self, n_ctx: u32) -> Self {
        self.n_ctx = Some(n_ctx);
        self
    }

    /// Sets how keys and values are stored.
    #[must_use]
    pub fn with_cache(mut self, k: CacheType, v: CacheType) -> Self {
        (self.cache_k, self.cache_v) = (k, v);
        self
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { n_ctx: None, cache_k: CacheType::F16, cache_v: CacheType::F16 }
    }
}

/// Which rows of a call are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None: the tokens are only remembered.
    None,
    /// The last one.
    Last,
    /// All.
    All,
}

/// What is asked of a pass.
#[derive(Clone, Copy)]
enum Ask {
    /// Result rows, or what the probe sees.
    Rows(Option<Probe>),
    /// So many of the greatest numbers of each row.
    Best(u32),
}

/// One sequence of tokens with its keys and values. `Send`; independent of other sessions of the model.
pub struct Session {
    model: Model,
    program: Arc<Program>,
    memory: Memory,
    tokens: Vec<u32>,
    n_ctx: u32,
    cancel: CancelToken,
    /// Result rows of the last call.
    rows: Vec<f32>,
    /// The greatest logits of the last call that asked for them, each behind its id.
    best: Vec<(u32, f32)>,
    pos: Vec<u32>,
    seq: Vec<u32>,
    want: Vec<u32>,
}

impl Model {
    /// A new, empty session.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a context length of 0 or a cache type that does not fit the model.
    pub fn session(&self, options: &SessionOptions) -> Result<Session> {
        let n_ctx = self.n_ctx(options)?;
        let program = self.program(n_ctx)?;
        let (k, v) = (options.cache_k, options.cache_v);
        let memory = self.with_executor(&program, n_ctx, |e| e.memory(n_ctx, self.n_batch(), k, v))?;
        Ok(Session {
            model: self.clone(),
            program,
            memory,
            tokens: Vec::new(),
            n_ctx,
            cancel: CancelToken::new(),
            rows: Vec::new(),
            best: Vec::new(),
            pos: Vec::new(),
            seq: Vec::new(),
            want: Vec::new(),
        })
    }

    /// Loads what sessions of this kind compute with, where that takes a while: the weights on a GPU. Without it the
    /// first session does. `progress` hears the bytes that are loaded, and how many there are; `cancel` stops it.
    ///
    /// # Errors
    /// As [`Model::session`], [`ErrorKind::Interrupted`], and [`ErrorKind::Gpu`] or [`ErrorKind::Memory`] when the
    /// chosen device fails or has no room.
    pub fn prepare(
        &self,
        options: &SessionOptions,
        cancel: &CancelToken,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let n_ctx = self.n_ctx(options)?;
        let loading = &mut Loading { cancel: cancel.flag(), progress };
        self.with_loading(&*self.program(n_ctx)?, n_ctx, loading, |_| Ok(()))
    }

    /// Positions of sessions of this kind.
    fn n_ctx(&self, options: &SessionOptions) -> Result<u32> {
        let n_position = self.any_program().plan.n_position().unwrap_or(u32::MAX);
        let default = match self.n_ctx_train() {
            0 => SessionOptions::DEFAULT_CTX_LIMIT,
            n => n.min(SessionOptions::DEFAULT_CTX_LIMIT),
        };
        let n_ctx = options.n_ctx.unwrap_or(default.min(n_position));
        if n_ctx == 0 {
            return Err(Error::new(ErrorKind::Usage, "a context length of 0 holds no text"));
        }
        if n_ctx > n_position {
            let text = format!("a context length of {n_ctx}: the model has learned {n_position} positions");
            return Err(Error::new(ErrorKind::Usage, text));
        }
        Ok(n_ctx)
    }

    /// Memory that a session of this kind needs when it is full, before anything is allocated.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the model is not supported.
    pub fn memory(&self, n_ctx: u32, options: &SessionOptions) -> Result<MemoryEstimate> {
        let plan = self.plan(n_ctx)?;
        Ok(plan.memory(n_ctx.into(), self.n_batch().into(), options.cache_k, options.cache_v))
    }

    /// Appends tokens to several sessions of this model in one forward pass, and returns the last result row of each.
    /// The weights are read once for all of them. Any session's token cancels the call.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when a session is another model's or the batch is too large; else as [`Session::feed`], and
    /// the sessions hold what they held before.
    pub fn feed_together(&self, sessions: &mut [(&mut Session, &[u32])]) -> Result<Vec<Vec<f32>>> {
        let Some((first, _)) = sessions.first() else { return Ok(Vec::new()) };
        let (program, first_ctx) = (first.program.clone(), first.n_ctx);
        let n_row: usize = sessions.iter().map(|(_, tokens)| tokens.len()).sum();
        let fits = n_row <= self.n_batch() as usize
            && sessions
                .iter()
                .all(|(s, tokens)| Arc::ptr_eq(&s.program, &program) && !tokens.is_empty() && tokens.len() <= s.room());
        if !fits {
            let text =
                format!("{n_row} rows do not make a batch: sessions differ, a context is full, or they are too many");
            return Err(Error::new(ErrorKind::Usage, text));
        }
        if sessions.iter().any(|(s, _)| s.cancel.is_cancelled()) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let (mut token, mut pos, mut seq, mut want) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, (session, tokens)) in sessions.iter().enumerate() {
            let start = session.tokens.len();
            token.extend_from_slice(tokens);
            pos.extend((start..start + tokens.len()).map(|p| p as u32));
            seq.resize(token.len(), i as u32);
            want.push(token.len() as u32 - 1);
        }
        let batch = Rows { token: &token, pos: &pos, seq: &seq, want: &want, input: &[] };
        let mut rows = Vec::new();
        // A pass is short; tokens of the other sessions are looked at between passes.
        let cancel = sessions[0].0.cancel.clone();
        let mut memories: Vec<&mut Memory> = sessions.iter_mut().map(|(s, _)| &mut s.memory).collect();
        self.with_executor(&program, first_ctx, |b| b.run(&batch, &mut memories, None, cancel.flag(), &mut rows))?;
        if let Some(i) = rows.iter().position(|x| !x.is_finite()) {
            sessions.iter_mut().for_each(|(s, _)| s.memory.take_back(s.tokens.len() as u32));
            let session = &mut sessions[i / self.n_output() as usize];
            return Err(session.0.not_finite(session.1, i % self.n_output() as usize));
        }
        sessions.iter_mut().for_each(|(s, tokens)| s.tokens.extend_from_slice(tokens));
        Ok(rows.chunks_exact(self.n_output() as usize).map(<[f32]>::to_vec).collect())
    }

    /// Rows of one forward pass at most. A model that looks both ways takes as many at once as it was trained for.
    pub fn n_batch(&self) -> u32 {
        self.0.n_batch()
    }
}

impl Session {
    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Positions that the session can hold.
    pub fn n_ctx(&self) -> u32 {
        self.n_ctx
    }

    /// Positions that are free.
    pub fn room(&self) -> usize {
        (self.n_ctx as usize).saturating_sub(self.tokens.len())
    }

    pub(super) fn check_room(&self, n: usize) -> Result<()> {
        if n <= self.room() {
            return Ok(());
        }
        let text = format!("{n} tokens do not fit: {} of {} positions are free", self.room(), self.n_ctx);
        Err(Error::new(ErrorKind::Usage, text).with_hint("use a larger context (-c)"))
    }

    /// Bytes of keys and values allocated now.
    pub fn cache_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Stops a running call when it is cancelled; the session then holds what it held before the last batch.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Uses the caller's token from now on.
    pub fn set_cancel_token(&mut self, token: CancelToken) {
        self.cancel = token;
    }

    /// Appends tokens, `n_chunk` at a time at most, and returns the wanted result rows, [rows, n_output].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the context is full or a token is unknown, [`ErrorKind::Interrupted`] when it was
    /// cancelled, [`ErrorKind::Memory`], [`ErrorKind::Model`] when the result is not finite.
    pub fn feed(
        &mut self,
        tokens: &[u32],
        n_chunk: u32,
        want: Want,
        progress: &mut dyn FnMut(usize),
    ) -> Result<&[f32]> {
        self.feed_probe(tokens, n_chunk, want, None, progress)
    }

    /// As [`Session::feed`], but returns an intermediate result of the plan instead.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn feed_probe(
        &mut self,
        tokens: &[u32],
        n_chunk: u32,
        want: Want,
        probe: Option<Probe>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<&[f32]> {
        self.check_room(tokens.len())?;
        self.feed_chunks(tokens, n_chunk, want, Ask::Rows(probe), progress)?;
        Ok(&self.rows)
    }

    /// Most logits that [`Session::feed_best`] gives without reading all of them back; 0: it gains nothing.
    pub(super) fn max_best(&self) -> u32 {
        let max = self.model.with_executor(&self.program, self.n_ctx, |b| Ok(b.max_choice()));
        max.unwrap_or(0)
    }

    /// As [`Session::feed`], but returns the `k` greatest logits of the last row, each behind its id: greatest first,
    /// the lower id first among equals. With `want` none it returns nothing.
    pub(super) fn feed_best(&mut self, tokens: &[u32], want: Want, k: u32) -> Result<&[(u32, f32)]> {
        self.check_room(tokens.len())?;
        self.feed_chunks(tokens, u32::MAX, want, Ask::Best(k), &mut |_| {})?;
        Ok(&self.best)
    }

    fn feed_chunks(
        &mut self,
        tokens: &[u32],
        n_chunk: u32,
        want: Want,
        ask: Ask,
        progress: &mut dyn FnMut(usize),
    ) -> Result<()> {
        self.rows.clear();
        self.best.clear();
        let n_chunk = n_chunk.clamp(1, self.model.n_batch()) as usize;
        let n_token = tokens.len();
        if n_token > n_chunk && !self.model.is_causal() {
            let text =
                format!("{n_token} tokens in parts of {n_chunk}: the model looks both ways and needs them at once");
            let hint = format!("use larger parts; at most {} tokens fit", self.model.n_batch());
            return Err(Error::new(ErrorKind::Usage, text).with_hint(hint));
        }
        // A state in front of the last token is where the answer may begin again.
        let apart = usize::from(want == Want::Last && n_token > 1 && !self.program.plan.states().is_empty());
        let (text, last) = tokens.split_at(n_token - apart);
        let mut done = 0;
        for chunk in text.chunks(n_chunk).chain(last.chunks(1)) {
            let is_last = done + chunk.len() == n_token;
            self.pos.clear();
            self.pos.extend((0..chunk.len()).map(|i| (self.tokens.len() + i) as u32));
            self.seq.clear();
            self.seq.resize(chunk.len(), 0);
            self.want.clear();
            match want {
                Want::None => {}
                Want::Last if is_last => self.want.push(chunk.len() as u32 - 1),
                Want::Last => {}
                Want::All => self.want.extend(0..chunk.len() as u32),
            }
            let batch = Rows { token: chunk, pos: &self.pos, seq: &self.seq, want: &self.want, input: &[] };
            let (memory, cancel) = (&mut [&mut self.memory], self.cancel.flag());
            let (rows, best) = (&mut self.rows, &mut self.best);
            let n_before = rows.len();
            let width = match ask {
                Ask::Rows(Some(probe)) => probe.operand().len(),
                _ => self.model.n_output(),
            };
            let fault = self.model.with_executor(&self.program, self.n_ctx, |b| match ask {
                Ask::Rows(probe) => {
                    b.run(&batch, memory, probe, cancel, rows)?;
                    let odd = rows[n_before..].iter().position(|x| !x.is_finite());
                    Ok(odd.map(|i| i / width.max(1) as usize))
                }
                Ask::Best(k) => Ok(b.choose(&batch, memory, k, cancel, best)?.map(|row| row as usize)),
            })?;
            if let Some(row) = fault {
                self.memory.take_back(self.tokens.len() as u32);
                self.rows.clear();
                return Err(self.not_finite(chunk, row));
            }
            self.tokens.extend_from_slice(chunk);
            if want == Want::None {
                self.rows.truncate(n_before);
            }
            done += chunk.len();
            progress(done);
        }
        Ok(())
    }

    /// The error for a result that is no number, with the first layer whose result is none: the tokens, which the
    /// session does not hold, are fed once more for every layer.
    fn not_finite(&mut self, tokens: &[u32], row: usize) -> Error {
        let place = self.first_fault(tokens).map_or_else(String::new, |section| format!(", first in `{section}`"));
        let text = format!("a result is not a finite number (row {row}{place})");
        Error::new(ErrorKind::Model, text).in_file(self.model.gguf().path()).with_hint(
            "the weights are damaged: download or convert the model again; if they are not, a number passed the range \
             of the cache: use -ctk f32 -ctv f32",
        )
    }

    /// The first section of the plan whose result is not finite.
    fn first_fault(&mut self, tokens: &[u32]) -> Option<String> {
        let plan = self.program.plan.clone();
        let n_token = self.tokens.len() as u32;
        let pos: Vec<u32> = (n_token..n_token + tokens.len() as u32).collect();
        let (seq, want) = (vec![0; tokens.len()], [tokens.len() as u32 - 1]);
        let batch = Rows { token: tokens, pos: &pos, seq: &seq, want: &want, input: &[] };
        for (i, (_, section)) in plan.sections().iter().enumerate() {
            let end = plan.sections().get(i + 1).map_or(plan.steps().len(), |next| next.0);
            let Some(probe) = plan.last_result(end) else { continue };
            let mut rows = Vec::new();
            let memory = &mut self.memory;
            let run =
                |b: &mut Executor| b.run(&batch, &mut [memory], Some(probe), CancelToken::new().flag(), &mut rows);
            let result = self.model.with_executor(&self.program, self.n_ctx, run);
            self.memory.take_back(n_token);
            if result.is_ok() && rows.iter().any(|x| !x.is_finite()) {
                return Some(section.clone());
            }
        }
        None
    }

    /// Goes back to the first `n` tokens. Where a window has moved on, or a state is not kept, tokens are fed again.
    ///
    /// # Errors
    /// As [`Session::feed`] where tokens must be fed again.
    pub fn rewind(&mut self, n: usize) -> Result<()> {
        if n >= self.tokens.len() {
            return Ok(());
        }
        if self.memory.rewind(n as u32) {
            self.tokens.truncate(n);
            return Ok(());
        }
        let mut tokens = self.tokens[..n].to_vec();
        let near = self.memory.nearest(n as u32);
        if near > 0 && self.memory.rewind(near) {
            self.tokens.truncate(near as usize);
            tokens.drain(..near as usize);
        } else {
            self.clear();
        }
        let n_batch = self.model.n_batch();
        self.feed(&tokens, n_batch, Want::None, &mut |_| {}).map(|_| ())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.memory.clear();
        self.tokens.clear();
    }
}

#[cfg(test)]
mod tests;
