//! Tensors stream through threads: a piece is a few rows, made by any thread, written in order. Pieces that are done
//! before their turn wait, and no thread runs far ahead, so memory does not grow with the model.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Job, Planned, n_matrix};
use crate::convert::LazyTensor;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::{AtomicFile, GgufWriter, KeyValue};
use crate::quant;

/// Numbers of a piece: 2 MiB as f32, which a thread works on for some 50 ms.
const PIECE_WEIGHTS: u64 = 512 << 10;
/// Pieces that threads may be ahead of the writer, for each thread.
const AHEAD: usize = 4;
/// Bytes read after which pages of the source are given back.
const RELEASE_BYTES: u64 = 64 << 20;

/// How far the writing is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The tensor that was written last.
    pub tensor: &'a str,
    /// Bytes of the source that are done.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// Some rows of a tensor.
struct Piece {
    /// Index into the tensors of the job.
    tensor: usize,
    rows: Range<u64>,
}

fn pieces(tensors: &[Planned], job: &Job<'_>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (i, t) in tensors.iter().enumerate() {
        let lazy = &job.source.tensors[t.index];
        let per_piece = (PIECE_WEIGHTS / lazy.row_len().max(1)).max(1);
        // A piece belongs to one matrix, since experts have an importance of their own.
        let per_matrix = lazy.n_row() / n_matrix(&t.shape).max(1);
        for matrix in 0..n_matrix(&t.shape) {
            let (start, end) = (matrix * per_matrix, (matrix + 1) * per_matrix);
            for first in (start..end).step_by(usize::try_from(per_piece).unwrap_or(usize::MAX)) {
                pieces.push(Piece { tensor: i, rows: first..end.min(first + per_piece) });
            }
        }
    }
    pieces
}

/// What threads and the writer share.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The next piece that nobody has taken.
    next: usize,
    /// Pieces that the writer has taken.
    written: usize,
    done: BTreeMap<usize, Result<Vec<u8>>>,
    /// Nobody needs further pieces.
    stop: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece to make; `None` when there is none.
    fn take(&self, n_piece: usize, ahead: usize) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stop || state.next == n_piece {
                return None;
            }
            if state.next < state.written + ahead {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put(&self, piece: usize, bytes: Result<Vec<u8>>) {
        self.lock().done.insert(piece, bytes);
        self.changed.notify_all();
    }

    /// Waits for a piece.
    fn wait(&self, piece: usize) -> Result<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if let Some(bytes) = state.done.remove(&piece) {
                state.written += 1;
                drop(state);
                self.changed.notify_all();
                return bytes;
            }
            if state.stop {
                return Err(Error::new(ErrorKind::Internal, "a thread that quantizes has died"));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

/// Stops the others when it is dropped while its thread panics, or when the writer is done.
struct StopOnDrop<'q> {
    queue: &'q Queue,
    only_panic: bool,
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        if !self.only_panic || thread::panicking() {
            self.queue.stop();
        }
    }
}

pub(super) fn write(
    job: &Job<'_>,
    destination: &Path,
    inputs: &[&Path],
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<()> {
    let paths = job.files(destination);
    let mut files = Vec::with_capacity(paths.len());
    for (i, path) in paths.iter().enumerate() {
        let bytes: u64 = job.tensors.iter().filter(|t| t.shard == i).map(|t| t.bytes).sum();
        let mut file = AtomicFile::create(path, inputs)?;
        file.reserve(bytes)?;
        files.push(file);
    }
    let pieces = pieces(&job.tensors, job);
    let default = || thread::available_parallelism().map_or(1, usize::from);
    let n_thread = job.options.n_threads.unwrap_or_else(default).clamp(1, 1024);
    let queue = Queue { state: Mutex::default(), changed: Condvar::new() };
    thread::scope(|scope| {
        let _stop = StopOnDrop { queue: &queue, only_panic: false };
        for i in 0..n_thread {
            let work = || {
                let _stop = StopOnDrop { queue: &queue, only_panic: true };
                let mut numbers = Vec::new();
                while let Some(i) = queue.take(pieces.len(), AHEAD * n_thread) {
                    queue.put(i, make(job, &pieces[i], &mut numbers));
                }
            };
            let builder = thread::Builder::new().name(format!("quantize-{i}"));
            builder.spawn_scoped(scope, work).map_err(|e| {
                Error::new(ErrorKind::Memory, format!("cannot start {n_thread} threads: {e}")).caused_by(e)
            })?;
        }
        let mut writer = Writer { job, queue: &queue, pieces: &pieces, cancel, done: 0, unreleased: 0, progress };
        let mut at = 0;
        for (i, file) in files.iter_mut().enumerate() {
            at = writer.file(i, file, at)?;
        }
        Ok(())
    })?;
    job.source.check_unchanged()?;
    files.into_iter().try_for_each(AtomicFile::commit)
}

/// The thread that writes.
struct Writer<'a, 'p> {
    job: &'a Job<'a>,
    queue: &'a Queue,
    pieces: &'a [Piece],
    cancel: &'a AtomicBool,
    /// Bytes of the source.
    done: u64,
    unreleased: u64,
    progress: &'p mut dyn FnMut(&Progress<'_>),
}

impl Writer<'_, '_> {
    /// Writes file `i`, whose first piece is `at`; returns the next file's.
    fn file(&mut self, i: usize, file: &mut AtomicFile, mut at: usize) -> Result<usize> {
        let path = file.destination().to_owned();
        let cannot = |e| Error::io("cannot write", &path, e);
        let tensors = &self.job.tensors;
        let total = tensors.iter().map(|t| source_bytes(t, t.n_weight())).sum();
        let mut body = self.head(i).begin(file).map_err(cannot)?;
        while let Some(piece) = self.pieces.get(at).filter(|p| tensors[p.tensor].shard == i) {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let t = &tensors[piece.tensor];
            body.write(&self.queue.wait(at)?).map_err(cannot)?;
            let n = source_bytes(t, (piece.rows.end - piece.rows.start) * t.shape.last().copied().unwrap_or(1));
            self.done += n;
            self.unreleased += n;
            if self.unreleased >= RELEASE_BYTES {
                self.job.source.release();
                self.unreleased = 0;
            }
            (self.progress)(&Progress { tensor: &t.name, done: self.done, total });
            at += 1;
        }
        body.finish().and_then(Write::flush).map_err(cannot)?;
        Ok(at)
    }

    /// What stands before the data.
    fn head(&self, i: usize) -> GgufWriter {
        let mut writer = GgufWriter::new();
        if i == 0 {
            for (key, value) in &self.job.metadata {
                writer.key(key, value.clone());
            }
        }
        if self.job.n_shard > 1 {
            // Numbers of these widths, as llama.cpp writes them; there are no files of more than 65535 shards.
            writer.key("split.no", KeyValue::U16(u16::try_from(i).unwrap_or(u16::MAX)));
            writer.key("split.count", KeyValue::U16(u16::try_from(self.job.n_shard).unwrap_or(u16::MAX)));
            let n_tensor = i32::try_from(self.job.tensors.len()).unwrap_or(i32::MAX);
            writer.key("split.tensors.count", KeyValue::I32(n_tensor));
        }
        for t in self.job.tensors.iter().filter(|t| t.shard == i) {
            writer.tensor(&t.name, t.to, &t.shape);
        }
        writer
    }
}

fn source_bytes(t: &Planned, n_weight: u64) -> u64 {
    n_weight / t.from.block_len() as u64 * t.from.block_bytes() as u64
}

/// The bytes of a piece; `numbers` is scratch.
fn make(job: &Job<'_>, piece: &Piece, numbers: &mut Vec<f32>) -> Result<Vec<u8>> {
    let t = &job.tensors[piece.tensor];
    let lazy = &job.source.tensors[t.index];
    let mut out = Vec::new();
    if lazy.stored() == Some(t.to) {
        lazy.rows_as_stored(piece.rows.clone(), &mut out)?;
        return Ok(out);
    }
    let fault = |what: String| Error::new(ErrorKind::Model, format!("tensor `{}`: {what}", printable(&t.source_name)));
    let n_row = piece.rows.end - piece.rows.start;
    let n = usize::try_from(n_row * lazy.row_len()).map_err(|_| fault("a row is too long".into()))?;
    numbers.resize(n, 0.0);
    lazy.rows_f32(piece.rows.clone(), numbers)?;
    check_finite(lazy, piece, numbers).map_err(fault)?;
    let row_len = n / usize::try_from(n_row).unwrap_or(1).max(1);
    let matrix = piece.rows.start / (lazy.n_row() / n_matrix(&t.shape).max(1)).max(1);
    let entry = job.options.importance.as_ref().and_then(|known| known.imatrix.entry(&t.source_name));
    // Tied embeddings may have an entry of another shape, which says nothing of them.
    let entry = entry.filter(|e| e.row_len() == row_len && e.n_matrix() as u64 == n_matrix(&t.shape));
    let importance = entry.map(|e| e.importance(usize::try_from(matrix).unwrap_or(0)));
    out.resize(n / t.to.block_len() * t.to.block_bytes(), 0);
    quant::quantize(t.to, numbers, row_len, importance.as_deref(), &mut out).map_err(|e| fault(e.to_string()))?;
    Ok(out)
}

/// Numbers that are not finite make blocks without meaning.
fn check_finite(lazy: &LazyTensor, piece: &Piece, numbers: &[f32]) -> std::result::Result<(), String> {
    match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => {
            let (row, column) = (i as u64 / lazy.row_len(), i as u64 % lazy.row_len());
            let row = piece.rows.start + row;
            Err(format!("the number in row {row}, column {column} is {}, expected a finite one", numbers[i]))
        }
    }
}
