//! Reading all weights once: hashes, and numbers that are none.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest, Sha256};
use tealight::error::{escaped, printable};
use tealight::gguf::{Gguf, Tensor};
use tealight::quant::first_bad_scale;
use tealight::{CancelToken, Error, ErrorKind};

use super::Finding;
use crate::cli::Outcome;
use crate::cli::output::Output;
use crate::cli::progress::Progress;

/// Bytes between two looks at the cancel token and the bar.
const PIECE: usize = 4 << 20;

/// Faults that are named one by one.
const MAX_NAMED: usize = 5;

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted")
}

/// The SHA-256 of every file in hexadecimal digits, with its name. One file is one chain of sums and so one thread's
/// work; several files are hashed at once.
pub(super) fn hashes(gguf: &Gguf, cancel: &CancelToken, out: &Output) -> Outcome<Vec<(String, String)>> {
    let files: Vec<_> =
        gguf.shard_paths().map(|p| escaped(&p.file_name().unwrap_or_default().to_string_lossy())).collect();
    let total: u64 = gguf.file_sizes().fold(0, u64::saturating_add);
    let (done, next) = (AtomicU64::new(0), AtomicUsize::new(0));
    let progress = Progress::start_bytes(out, "hashing");
    let hash = |k: usize| {
        let mut sum = Sha256::new();
        for piece in gguf.file_bytes(k).chunks(PIECE) {
            if cancel.is_cancelled() {
                return None;
            }
            sum.update(piece);
            progress.set_bytes(done.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64, total);
        }
        Some(sum.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>())
    };
    let worker = || {
        let mut all = Vec::new();
        loop {
            let k = next.fetch_add(1, Ordering::Relaxed);
            match files.get(k) {
                None => return Some(all),
                Some(_) => all.push((k, hash(k)?)),
            }
        }
    };
    let n_thread = thread::available_parallelism().map_or(1, usize::from).min(files.len()).max(1);
    let all: Option<Vec<_>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..n_thread).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_default()).collect()
    });
    let mut all: Vec<(usize, String)> = all.ok_or_else(interrupted)?.into_iter().flatten().collect();
    all.sort_unstable();
    Ok(all.into_iter().map(|(k, hash)| (files[k].clone(), hash)).collect())
}

/// Looks for numbers that are none: all values of norms and biases, the scales of all blocks.
pub(super) fn weights(gguf: &Gguf, cancel: &CancelToken, out: &Output, found: &mut Vec<Finding>) -> Outcome {
    let total: u64 = gguf.tensors().iter().map(|t| t.bytes).fold(0, u64::saturating_add);
    let (done, next) = (AtomicU64::new(0), AtomicUsize::new(0));
    let progress = Progress::start_bytes(out, "scanning the weights");
    let worker = || {
        let mut bad = Vec::new();
        loop {
            let k = next.fetch_add(1, Ordering::Relaxed);
            let Some(tensor) = gguf.tensors().get(k) else { return Some(bad) };
            let count = |n: usize| {
                progress.set_bytes(done.fetch_add(n as u64, Ordering::Relaxed) + n as u64, total);
                !cancel.is_cancelled()
            };
            match first_bad(tensor, gguf.bytes(tensor), count) {
                Scan::Clean => {}
                Scan::Bad(at) => bad.push((k, at)),
                Scan::Cancelled => return None,
            }
        }
    };
    let n_thread = thread::available_parallelism().map_or(1, usize::from);
    let bad: Option<Vec<_>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..n_thread).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_default()).collect()
    });
    drop(progress);
    let mut bad: Vec<(usize, u64)> = bad.ok_or_else(interrupted)?.into_iter().flatten().collect();
    bad.sort_unstable();
    for &(k, at) in bad.iter().take(MAX_NAMED) {
        let tensor = &gguf.tensors()[k];
        let text =
            format!("tensor `{}` holds a number that is none, at byte {at} of its file", printable(&tensor.name));
        let fix = "the file is damaged or was made from a damaged one: get it from another source";
        found.push(Finding::bad("weights", ErrorKind::Model, text, fix));
    }
    match bad.len() {
        0 => found.push(Finding::good("weights", "norms and scales are finite")),
        n if n > MAX_NAMED => {
            let text = format!("{} further tensors hold such numbers", n - MAX_NAMED);
            found.push(Finding::bad("weights", ErrorKind::Model, text, "get the file from another source"));
        }
        _ => {}
    }
    Ok(())
}

enum Scan {
    Clean,
    /// Byte of the file.
    Bad(u64),
    Cancelled,
}

/// The first block of a tensor whose scale, or value, is infinite or no number.
fn first_bad(tensor: &Tensor, bytes: &[u8], mut count: impl FnMut(usize) -> bool) -> Scan {
    let block = tensor.ty.block_bytes();
    for (i, piece) in bytes.chunks((PIECE / block).max(1) * block).enumerate() {
        let start = tensor.offset + (i * ((PIECE / block).max(1) * block)) as u64;
        if let Some(at) = first_bad_scale(tensor.ty, piece) {
            return Scan::Bad(start + (at * block) as u64);
        }
        if !count(piece.len()) {
            return Scan::Cancelled;
        }
    }
    Scan::Clean
}
