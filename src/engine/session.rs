//! One sequence of tokens and what the model remembers of it.

use std::sync::Arc;

use super::cancel::CancelToken;
use super::executor::{Executor, Loading, Memory};
use super::load::{Model, Program};
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
        let default = match self.n_ctx_train() {
            0 => SessionOptions::DEFAULT_CTX_LIMIT,
            n => n.min(SessionOptions::DEFAULT_CTX_LIMIT),
        };
        let n_ctx = options.n_ctx.unwrap_or(default);
        if n_ctx == 0 {
            return Err(Error::new(ErrorKind::Usage, "a context length of 0 holds no text"));
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

    /// Rows of one forward pass at most.
    pub(crate) fn n_batch(&self) -> u32 {
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
            progress(done + chunk.len());
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::ModelOptions;

    const TOKENS: [u32; 40] = {
        let mut t = [0; 40];
        let mut i = 0;
        while i < 40 {
            t[i] = (i as u32 * 37 + 11) % 300;
            i += 1;
        }
        t
    };

    fn model(fixture: &str) -> Model {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture).join("model.gguf");
        Model::open(path, &ModelOptions::default().with_exact(true).with_threads(2)).unwrap()
    }

    fn session(model: &Model) -> Session {
        model.session(&SessionOptions::default().with_ctx(64).with_cache(CacheType::F32, CacheType::F32)).unwrap()
    }

    /// Every family's kind of cache: full, windowed, with and without a fused projection.
    const FIXTURES: [&str; 4] = ["llama31", "gemma2", "gemma3", "phi35-long"];

    fn assert_close(got: &[f32], want: &[f32], what: &str) {
        assert_eq!(got.len(), want.len(), "{what}");
        let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let worst = got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 1e-5 * scale, "{what}: {worst} of {scale}");
    }

    #[test]
    fn sequences_interleaved_in_one_batch_do_not_see_each_other() {
        for fixture in FIXTURES {
            let model = model(fixture);
            let width = model.n_output() as usize;
            let whole = session(&model).feed(&TOKENS, 256, Want::All, &mut |_| {}).unwrap().to_vec();
            // `ahead` has read 13 tokens when `behind` begins; their rows alternate in one batch.
            let (mut ahead, mut behind) = (session(&model), session(&model));
            ahead.feed(&TOKENS[..13], 256, Want::None, &mut |_| {}).unwrap();
            let n = TOKENS.len() - 13;
            let token: Vec<u32> = (0..n).flat_map(|i| [TOKENS[13 + i], TOKENS[i]]).collect();
            let pos: Vec<u32> = (0..n as u32).flat_map(|i| [13 + i, i]).collect();
            let seq: Vec<u32> = (0..n).flat_map(|_| [0, 1]).collect();
            let want: Vec<u32> = (0..2 * n as u32).collect();
            let rows = Rows { token: &token, pos: &pos, seq: &seq, want: &want, input: &[] };
            let mut out = Vec::new();
            let memories = &mut [&mut ahead.memory, &mut behind.memory];
            let run = |b: &mut Executor| b.run(&rows, memories, None, CancelToken::new().flag(), &mut out);
            model.with_executor(&ahead.program, 64, run).unwrap();
            for (i, row) in out.chunks_exact(width).enumerate() {
                let at = if i % 2 == 0 { 13 + i / 2 } else { i / 2 };
                assert_close(row, &whole[at * width..(at + 1) * width], &format!("{fixture} row {i}"));
            }
        }
    }

    #[test]
    fn sessions_fed_together_get_what_each_would_get_alone() {
        let model = model("gemma3");
        let mut alone = session(&model);
        let want_a = alone.feed(&TOKENS[..9], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
        alone.clear();
        let want_b = alone.feed(&TOKENS[20..], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
        let (mut a, mut b) = (session(&model), session(&model));
        a.feed(&TOKENS[..8], 256, Want::None, &mut |_| {}).unwrap();
        let rows = model.feed_together(&mut [(&mut a, &TOKENS[8..9]), (&mut b, &TOKENS[20..])]).unwrap();
        assert_close(&rows[0], &want_a, "the first");
        assert_close(&rows[1], &want_b, "the second");
        assert_eq!((a.tokens().len(), b.tokens().len()), (9, 20));
    }

    #[test]
    fn only_wanted_rows_come_back() {
        for fixture in FIXTURES {
            let model = model(fixture);
            let width = model.n_output() as usize;
            let mut s = session(&model);
            let all = s.feed(&TOKENS, 256, Want::All, &mut |_| {}).unwrap().to_vec();
            s.clear();
            let last = s.feed(&TOKENS, 256, Want::Last, &mut |_| {}).unwrap();
            assert_close(last, &all[all.len() - width..], fixture);
            s.clear();
            assert!(s.feed(&TOKENS, 256, Want::None, &mut |_| {}).unwrap().is_empty());
        }
    }

    #[test]
    fn rewinding_gives_what_a_fresh_session_gives() {
        for fixture in FIXTURES {
            let model = model(fixture);
            let mut s = session(&model);
            let want = s.feed(&TOKENS[..21], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
            // Far enough that windows have moved on, so that tokens must be fed again.
            s.feed(&TOKENS[21..], 4, Want::None, &mut |_| {}).unwrap();
            for keep in [20, 5, 0] {
                s.rewind(keep).unwrap();
                assert_eq!(s.tokens(), &TOKENS[..keep]);
                let got = s.feed(&TOKENS[keep..21], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
                assert_close(&got, &want, &format!("{fixture} back to {keep}"));
            }
        }
    }

    #[test]
    fn a_cancelled_call_leaves_the_session_as_it_was() {
        let model = model("gemma2");
        let mut s = session(&model);
        s.feed(&TOKENS[..20], 256, Want::None, &mut |_| {}).unwrap();
        s.cancel_token().cancel();
        let e = s.feed(&TOKENS[20..30], 256, Want::Last, &mut |_| {}).unwrap_err();
        assert_eq!((e.kind(), s.tokens().len()), (ErrorKind::Interrupted, 20));
        s.cancel_token().reset();
        let got = s.feed(&TOKENS[20..30], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
        let want = session(&model).feed(&TOKENS[..30], 256, Want::Last, &mut |_| {}).unwrap().to_vec();
        assert_close(&got, &want, "after the cancelled call");
    }

    #[test]
    fn misuse_is_an_error() {
        let model = model("llama31");
        let mut s = session(&model);
        let kind = |r: Result<&[f32]>| r.map(<[f32]>::len).unwrap_err().kind();
        assert_eq!(kind(s.feed(&[0; 65], 256, Want::Last, &mut |_| {})), ErrorKind::Usage, "too long");
        assert_eq!(kind(s.feed(&[u32::MAX], 256, Want::Last, &mut |_| {})), ErrorKind::Usage, "no such token");
        assert!(s.tokens().is_empty());
        assert!(model.session(&SessionOptions::default().with_ctx(0)).is_err());
        let q8 = SessionOptions::default().with_cache(CacheType::Q8_0, CacheType::F16);
        assert_eq!(model.session(&q8).err().map(|e| e.kind()), Some(ErrorKind::Usage), "heads of 16");
    }

    #[test]
    fn quantized_caches_come_close() {
        let model = model("gemma3"); // heads of 32
        let want = session(&model).feed(&TOKENS, 256, Want::Last, &mut |_| {}).unwrap().to_vec();
        let options = SessionOptions::default().with_ctx(64).with_cache(CacheType::Q8_0, CacheType::Q8_0);
        let mut s = model.session(&options).unwrap();
        let got = s.feed(&TOKENS, 7, Want::Last, &mut |_| {}).unwrap();
        let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let worst = got.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst > 0.0 && worst < 0.05 * scale, "{worst} of {scale}");
    }

    #[test]
    fn intermediate_results_can_be_seen() {
        let model = model("qwen3");
        let plan = model.plan(64).unwrap();
        let mut s = session(&model);
        let probe = plan.find_label("blk.1.q").unwrap();
        let q = s.feed_probe(&TOKENS[..5], 256, Want::All, Some(probe), &mut |_| {}).unwrap().to_vec();
        assert_eq!(q.len(), 5 * probe.operand().len() as usize);
        let by_step = plan.find_label(&format!("{}.q", probe.step())).unwrap();
        assert_eq!(by_step, probe);
        assert!(plan.find_label("blk.9.q").is_none() && plan.find_label("blk.1.nothing").is_none());
    }

    #[test]
    fn an_embedding_model_gives_the_wanted_rows_and_one_vector_per_sequence() {
        use crate::gguf::{Gguf, GgufWriter};
        // A causal model becomes an embedding model by one key.
        let source =
            Gguf::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3/model.gguf")).unwrap();
        let mut writer = GgufWriter::new();
        for (key, ty, bytes) in source.metadata().raw() {
            writer.raw_key(key, ty, bytes);
        }
        writer.key("qwen3.pooling_type", 1u32);
        for t in source.tensors() {
            writer.tensor(&t.name, t.ty, &t.shape);
        }
        let mut body = writer.begin(Vec::new()).unwrap();
        source.tensors().iter().for_each(|t| body.write(source.bytes(t)).unwrap());
        let path = std::env::temp_dir().join(format!("tealight-pooled-{}.gguf", std::process::id()));
        std::fs::write(&path, body.finish().unwrap()).unwrap();
        let model = Model::open(&path, &ModelOptions::default().with_exact(true)).unwrap();
        std::fs::remove_file(&path).unwrap();

        let width = model.n_output() as usize;
        let mut s = session(&model);
        let all = s.feed(&TOKENS[..5], 256, Want::All, &mut |_| {}).unwrap().to_vec();
        assert_eq!(all.len(), 5 * width);
        s.clear();
        let last = s.feed(&TOKENS[..5], 256, Want::Last, &mut |_| {}).unwrap();
        assert_close(last, &all[4 * width..], "the last row");
        let (mut a, mut b) = (session(&model), session(&model));
        let rows = model.feed_together(&mut [(&mut a, &TOKENS[..5]), (&mut b, &TOKENS[..2])]).unwrap();
        assert_close(&rows[0], &all[4 * width..], "the first session");
        assert_close(&rows[1], &all[width..2 * width], "the second session");

        let plan = model.plan(64).unwrap();
        let pooled = plan.find_label("head.pooled").unwrap();
        s.clear();
        let mean = s.feed_probe(&TOKENS[..5], 256, Want::All, Some(pooled), &mut |_| {}).unwrap().to_vec();
        let want: Vec<f32> = (0..width).map(|i| all.iter().skip(i).step_by(width).sum::<f32>() / 5.0).collect();
        assert_close(&mean, &want, "the mean of the rows");
        s.clear();
        let in_parts = s.feed_probe(&TOKENS[..5], 2, Want::All, Some(pooled), &mut |_| {});
        assert_eq!(in_parts.map(<[f32]>::len).unwrap_err().kind(), ErrorKind::Usage, "not the whole sequence");
    }

    #[test]
    fn a_label_of_another_plan_is_refused() {
        let (small, large) = (model("qwen3"), model("gemma3"));
        let plan = large.plan(64).unwrap();
        let foreign = plan.find_label("head.logits").unwrap();
        let mut s = session(&small);
        let result = s.feed_probe(&TOKENS[..3], 256, Want::All, Some(foreign), &mut |_| {});
        assert_eq!(result.map(<[f32]>::len).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(s.feed(&TOKENS[..3], 256, Want::Last, &mut |_| {}).unwrap().len(), small.n_output() as usize);
    }
}
