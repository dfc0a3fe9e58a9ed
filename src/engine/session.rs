//! One sequence of tokens and what the model remembers of it.

use std::sync::Arc;

use super::cancel::CancelToken;
use super::load::{Model, Program};
use crate::cpu::CpuSequence;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Backend, CacheType, MemoryEstimate, Probe, Rows, SequenceMemory};

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

/// One sequence of tokens with its keys and values. `Send`; independent of other sessions of the model.
pub struct Session {
    model: Model,
    program: Arc<Program>,
    memory: CpuSequence,
    tokens: Vec<u32>,
    n_ctx: u32,
    cancel: CancelToken,
    /// Result rows of the last call.
    rows: Vec<f32>,
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
        let default = match self.n_ctx_train() {
            0 => SessionOptions::DEFAULT_CTX_LIMIT,
            n => n.min(SessionOptions::DEFAULT_CTX_LIMIT),
        };
        let n_ctx = options.n_ctx.unwrap_or(default);
        if n_ctx == 0 {
            return Err(Error::new(ErrorKind::Usage, "a context length of 0 holds no text"));
        }
        let program = self.program(n_ctx)?;
        let memory = CpuSequence::new(&program.plan, n_ctx, self.n_batch(), options.cache_k, options.cache_v)?;
        Ok(Session {
            model: self.clone(),
            program,
            memory,
            tokens: Vec::new(),
            n_ctx,
            cancel: CancelToken::new(),
            rows: Vec::new(),
            pos: Vec::new(),
            seq: Vec::new(),
            want: Vec::new(),
        })
    }

    /// Memory that a session of this kind needs when it is full, before anything is allocated.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the model is not supported.
    pub fn memory(&self, n_ctx: u32, options: &SessionOptions) -> Result<MemoryEstimate> {
        let plan = self.plan(n_ctx)?;
        Ok(plan.memory(n_ctx.into(), self.n_batch().into(), options.cache_k, options.cache_v))
    }

    /// Rows of one forward pass at most.
    fn n_batch(&self) -> u32 {
        self.options().knobs.n_ubatch.clamp(1, 1 << 16) as u32
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
        let room = (self.n_ctx as usize).saturating_sub(self.tokens.len());
        if tokens.len() > room {
            let text = format!("{} tokens do not fit: {room} of {} positions are free", tokens.len(), self.n_ctx);
            return Err(Error::new(ErrorKind::Usage, text).with_hint("use a larger context (-c)"));
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        let result = self.feed_chunks(tokens, n_chunk, want, probe, progress, &mut rows);
        self.rows = rows;
        result?;
        if let Some(i) = self.rows.iter().position(|x| !x.is_finite()) {
            return Err(self.not_finite(i, probe.is_some()));
        }
        Ok(&self.rows)
    }

    fn feed_chunks(
        &mut self,
        tokens: &[u32],
        n_chunk: u32,
        want: Want,
        probe: Option<Probe>,
        progress: &mut dyn FnMut(usize),
        rows: &mut Vec<f32>,
    ) -> Result<()> {
        let n_chunk = n_chunk.clamp(1, self.model.n_batch()) as usize;
        let mut out = Vec::new();
        let n_token = tokens.len();
        for (i, chunk) in tokens.chunks(n_chunk).enumerate() {
            let done = i * n_chunk;
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
            let batch = Rows { token: chunk, pos: &self.pos, seq: &self.seq, want: &self.want };
            let (memory, cancel) = (&mut self.memory, self.cancel.flag());
            self.program.with_backend(self.model.options(), |backend| {
                backend.run(&batch, &mut [memory], probe, cancel, &mut out)
            })?;
            self.tokens.extend_from_slice(chunk);
            if want == Want::All || (want == Want::Last && is_last) {
                rows.append(&mut out);
            }
            progress(done + chunk.len());
        }
        Ok(())
    }

    fn not_finite(&self, i: usize, probe: bool) -> Error {
        let what = if probe { "an intermediate result" } else { "a result" };
        let row = i / self.model.n_output().max(1) as usize;
        let text = format!("{what} is not a finite number (row {row}): the weights are damaged");
        Error::new(ErrorKind::Model, text)
            .in_file(self.model.gguf().path())
            .with_hint("download or convert the model again")
    }

    /// Goes back to the first `n` tokens. Where a window has moved on, the tokens are fed again.
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
        let tokens = self.tokens[..n].to_vec();
        self.clear();
        let n_batch = self.model.n_batch();
        self.feed(&tokens, n_batch, Want::None, &mut |_| {}).map(|_| ())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.memory.clear();
        self.tokens.clear();
    }
}
