//! Weights into memory before they are asked for: pages of the mapped file that are read and mapped while something
//! else is done, or while people look at a bar.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cancel::CancelToken;
use super::load::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Gguf;
use crate::plan::{Plan, Step, WeightId};

/// Bytes that are asked for at once: a few of the largest pages, so that an end of the model is noticed soon.
const PIECE_BYTES: u64 = 8 << 20;

/// A part of a tensor's data: the shard, and where in its file.
type Piece = (usize, Range<u64>);

impl Model {
    /// Begins to bring the matrices into memory, in the order in which a pass reads them, on a thread of its own that
    /// ends with the model. Returns at once; a second call does nothing. A session on the CPU does the same when its
    /// executor is made: calling this before the vocabulary is read lets both happen at once.
    ///
    /// Does nothing when the system says that the matrices exceed the memory that is available: then pages come when
    /// they are needed.
    pub fn read_ahead(&self) {
        if self.0.reads_ahead.swap(true, Ordering::Relaxed) {
            return;
        }
        let Ok(plan) = self.plan(0) else { return };
        let pieces = pieces(&self.0.gguf, &plan);
        if available_memory().is_some_and(|available| n_bytes(&pieces) > available) {
            return;
        }
        let gguf = Arc::downgrade(&self.0.gguf);
        let read = move || {
            for (shard, range) in pieces {
                let Some(gguf) = gguf.upgrade() else { return };
                gguf.populate(shard, range);
            }
        };
        // Without the thread pages come when they are needed.
        let _ = std::thread::Builder::new().name("tealight-ahead".into()).spawn(read);
    }

    /// Reads all matrices of the model, so that its first tokens wait for no disk. `progress` hears the bytes that
    /// are read, and all of them.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] when `cancel` is set, [`ErrorKind::Model`] when the model is not supported.
    pub fn warm(&self, cancel: &CancelToken, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        // Two readers of one disk are slower than one.
        self.0.reads_ahead.store(true, Ordering::Relaxed);
        let gguf = &self.0.gguf;
        let pieces = pieces(gguf, &*self.plan(0)?);
        let (mut done, total) = (0, n_bytes(&pieces));
        for (shard, range) in pieces {
            if cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            done += range.end - range.start;
            gguf.populate(shard, range);
            progress(done, total);
        }
        Ok(())
    }
}

/// The matrices of a plan in the order of their use, each once. What is looked up by rows is left out.
fn pieces(gguf: &Gguf, plan: &Plan) -> Vec<Piece> {
    let mut is_seen = vec![false; plan.weights().len()];
    let mut pieces = Vec::new();
    for step in plan.steps() {
        let weights: Vec<WeightId> = match step {
            Step::Linear { parts, .. } => parts.iter().map(|p| p.weight).collect(),
            Step::Experts(e) => e.parts().map(|p| p.weight).collect(),
            _ => continue,
        };
        for id in weights {
            if std::mem::replace(&mut is_seen[id.index()], true) {
                continue;
            }
            let name = &plan.weights()[id.index()].name;
            let Some(tensor) = gguf.tensor(name) else { continue };
            let (start, end) = (tensor.offset, tensor.offset + tensor.bytes);
            let starts = (start..end).step_by(PIECE_BYTES as usize);
            pieces.extend(starts.map(|at| (tensor.shard, at..end.min(at + PIECE_BYTES))));
        }
    }
    pieces
}

fn n_bytes(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|(_, range)| range.end - range.start).sum()
}

/// Bytes that can be used without driving others out, page cache included; `None` where the system does not tell.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::ModelOptions;

    fn model(name: &str) -> Model {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf");
        Model::open(path, &ModelOptions::default().with_threads(1)).unwrap()
    }

    #[test]
    fn all_matrices_are_read_once_and_counted() {
        for name in ["qwen3", "phi2", "gemma3"] {
            let model = model(name);
            let (mut heard, mut last) = (0, 0);
            model
                .warm(&CancelToken::new(), &mut |done, total| {
                    assert!(done > heard && done <= total);
                    (heard, last) = (done, total);
                })
                .unwrap();
            assert_eq!((heard, last), (last, model.plan(1).unwrap().work().bytes), "{name}");
        }
    }

    #[test]
    fn pieces_tile_the_matrices() {
        let model = model("qwen3");
        let gguf = &model.0.gguf;
        for (shard, range) in pieces(gguf, &model.plan(0).unwrap()) {
            assert!(!range.is_empty() && range.end - range.start <= PIECE_BYTES);
            let holds = |t: &&crate::gguf::Tensor| {
                t.shard == shard && t.offset <= range.start && range.end <= t.offset + t.bytes
            };
            assert_eq!(gguf.tensors().iter().filter(holds).count(), 1);
        }
        // What is not in the file is no reason to fail.
        gguf.populate(0, u64::MAX - 1..u64::MAX);
        gguf.populate(7, 0..1);
    }

    #[test]
    fn warming_can_be_cancelled_and_reading_ahead_outlives_no_model() {
        let model = model("qwen3");
        let cancel = CancelToken::new();
        cancel.cancel();
        assert_eq!(model.warm(&cancel, &mut |_, _| {}).unwrap_err().kind(), ErrorKind::Interrupted);
        let model = self::model("qwen3");
        model.read_ahead();
        model.read_ahead();
        let gguf = Arc::downgrade(&model.0.gguf);
        drop(model);
        let start = std::time::Instant::now();
        while gguf.strong_count() > 0 {
            assert!(start.elapsed().as_secs() < 60, "the thread keeps the file");
            std::thread::yield_now();
        }
    }
}
