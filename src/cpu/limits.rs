//! What a team of threads can do at most: bytes read, integer products and fused multiply-adds per second. Speeds
//! are stated as shares of these, measured in the same run: they change with the machine's other work.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::kernels::{KernelSet, Peak, readers};
use super::pool::{MAX_CHUNKS, Team};
use crate::error::Result;

/// Steps of one chunk of products: some 0.4 ms, more than a thread takes to wake up.
const N_STEP: usize = 100_000;
/// Such chunks for each thread.
const CHUNKS: usize = 8;
/// Bytes of a chunk that is read.
const READ_BYTES: usize = 256 << 10;
/// Runs, of which the best counts.
const N_RUN: usize = 3;

/// The most that threads can do together, by trial.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that plain reading gets from memory in a second.
    pub read_bytes_per_s: f64,
    /// Products of 8-bit integers in a second; `None` where the kernels in use have no instruction for them.
    pub int8_macs_per_s: Option<f64>,
    /// Fused multiply-adds of f32 in a second; `None` as above.
    pub f32_macs_per_s: Option<f64>,
}

impl Limits {
    /// The better of two measurements of one machine, number by number: whatever disturbs one makes it less.
    #[must_use]
    pub fn best(self, other: Self) -> Self {
        let most = |a: Option<f64>, b: Option<f64>| a.map_or(b, |a| Some(b.map_or(a, |b| a.max(b))));
        Self {
            read_bytes_per_s: self.read_bytes_per_s.max(other.read_bytes_per_s),
            int8_macs_per_s: most(self.int8_macs_per_s, other.int8_macs_per_s),
            f32_macs_per_s: most(self.f32_macs_per_s, other.f32_macs_per_s),
        }
    }

    /// Measures a team on kernels of a set; `bytes` is what is read.
    pub(super) fn measure(team: &Team, set: &KernelSet, bytes: &[&[u8]]) -> Result<Self> {
        Ok(Self {
            read_bytes_per_s: read_rate(team, bytes)?,
            int8_macs_per_s: peak_rate(team, set, Peak::Int8)?,
            f32_macs_per_s: peak_rate(team, set, Peak::F32)?,
        })
    }
}

/// Bytes per second at which a team reads.
pub(super) fn read_rate(team: &Team, bytes: &[&[u8]]) -> Result<f64> {
    let total: usize = bytes.iter().map(|b| b.len()).sum();
    let chunk_bytes = READ_BYTES.max(total.div_ceil(MAX_CHUNKS / 2));
    let chunks: Vec<&[u8]> = bytes.iter().flat_map(|b| b.chunks(chunk_bytes)).take(MAX_CHUNKS).collect();
    let n_read: usize = chunks.iter().map(|c| c.len()).sum();
    let mut best: f64 = 0.0;
    for read in readers() {
        let seconds = best_seconds(team, N_RUN, chunks.len(), |_, chunk| read(chunks[chunk]))?;
        best = best.max(n_read as f64 / seconds);
    }
    Ok(best)
}

/// Products per second of a team; `None` where the set has no instruction for them.
pub(super) fn peak_rate(team: &Team, set: &KernelSet, of: Peak) -> Result<Option<f64>> {
    let Some(n_product) = set.peak(of, 1) else { return Ok(None) };
    let n_chunk = team.n_threads() * CHUNKS;
    let run = |_, _| {
        set.peak(of, N_STEP);
    };
    let seconds = best_seconds(team, N_RUN, n_chunk, run)?;
    Ok(Some((n_chunk * N_STEP * n_product) as f64 / seconds))
}

/// The least seconds in which a team does `work(thread, chunk)` for each of `n_chunk` chunks, of `n_run` times. The
/// threads stay awake between them. Infinity for no chunks.
pub(super) fn best_seconds(
    team: &Team,
    n_run: usize,
    n_chunk: usize,
    work: impl Fn(usize, usize) + Sync,
) -> Result<f64> {
    if n_chunk == 0 {
        return Ok(f64::INFINITY);
    }
    let stamps = Mutex::new(Vec::with_capacity(n_run + 1));
    let stamp = |_| stamps.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    team.run(&AtomicBool::new(false), |worker| {
        let thread = worker.index;
        // The first time wakes the threads.
        for _ in 0..=n_run {
            if !worker.step(1, stamp) || !worker.step(n_chunk, |chunk| work(thread, chunk)) {
                return;
            }
        }
        let _ = worker.step(1, stamp);
    })?;
    let stamps = stamps.into_inner().unwrap_or_else(PoisonError::into_inner);
    let times = stamps.windows(2).skip(1).map(|t| (t[1] - t[0]).as_secs_f64());
    Ok(times.fold(f64::INFINITY, f64::min).max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::*};

    #[test]
    fn every_chunk_is_done_in_every_run() {
        for n_threads in [1, 3] {
            let team = Team::new(n_threads, 10).unwrap();
            let counts: Vec<_> = (0..7).map(|_| AtomicUsize::new(0)).collect();
            let count = |thread: usize, chunk: usize| {
                assert!(thread < n_threads);
                counts[chunk].fetch_add(1, Relaxed);
            };
            let seconds = best_seconds(&team, 4, 7, count).unwrap();
            assert!(seconds > 0.0 && seconds.is_finite());
            assert!(counts.iter().all(|c| c.load(Relaxed) == 5), "{counts:?}");
        }
    }

    #[test]
    fn every_set_but_the_scalar_one_has_limits() {
        let (team, bytes) = (Team::new(2, 10).unwrap(), vec![1; 3 << 20]);
        for set in KernelSet::available() {
            let limits = Limits::measure(&team, &set, &[&bytes[..7], &bytes[7..]]).unwrap();
            assert!(limits.read_bytes_per_s > 0.0 && limits.read_bytes_per_s.is_finite());
            let has = set.name() != "scalar";
            for peak in [limits.int8_macs_per_s, limits.f32_macs_per_s] {
                assert_eq!(peak.is_some_and(|p| p > 0.0 && p.is_finite()), has, "{}", set.name());
            }
        }
        assert_eq!(read_rate(&team, &[]).unwrap(), 0.0);
    }

    #[test]
    fn the_better_measurement_counts() {
        let of = |read, int8| Limits { read_bytes_per_s: read, int8_macs_per_s: int8, f32_macs_per_s: None };
        assert_eq!(of(2.0, Some(3.0)).best(of(1.0, Some(4.0))), of(2.0, Some(4.0)));
        assert_eq!(of(2.0, None).best(of(5.0, Some(1.0))), of(5.0, Some(1.0)));
    }
}
