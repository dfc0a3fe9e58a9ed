//! The team of threads that executes a forward pass, and the memory that they share.
//!
//! Every thread enters one closure and walks the same list of steps. A step's work is cut into chunks; each
//! thread owns a contiguous range of them and claims from its front, then steals from the back of the others'.
//! A step ends when its chunks are *done*, not when threads have arrived: a thread that the operating system has
//! taken away holds back the chunk in its hands and nothing else; when it comes back it falls through the
//! finished steps. Waiting spins briefly, then sleeps. A run, not a step, waits for every thread that entered it.

mod cores;
mod shared;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Condvar, Mutex, PoisonError};

pub(crate) use shared::Shared;

use crate::error::{Error, ErrorKind, Result};

/// On a cache line of its own, with the line that the prefetcher pairs it with.
#[repr(align(128))]
struct Padded<T>(T);

/// A private pool of threads.
pub struct Team {
    /// `None` for one thread: the caller does everything.
    pool: Option<rayon::ThreadPool>,
    state: State,
    /// Held while a run lasts: steps are counted for one walk at a time.
    running: Mutex<()>,
}

struct State {
    /// One per thread: step << 32 | chunks taken from the back << 16 | taken from the front of its range. Changed
    /// by compare-exchange only, so that a late thread never claims from a step that is over.
    cursors: Vec<Padded<AtomicU64>>,
    done: Padded<AtomicU32>,
    /// Steps completed since the team exists.
    step: Padded<AtomicU32>,
    n_asleep: Padded<AtomicU32>,
    /// Set before a step is opened that nobody may enter.
    abort: AtomicBool,
    panicked: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
    spins: u32,
}

/// One thread's place in the walk over the steps.
pub(crate) struct Worker<'a> {
    state: &'a State,
    cancel: &'a AtomicBool,
    step: u32,
    /// 0..n_threads.
    pub index: usize,
}

/// Most chunks of one step.
pub(crate) const MAX_CHUNKS: usize = u16::MAX as usize;

impl Team {
    /// A team of `n_threads`, of which the caller of [`Team::run`] is one. A thread pauses `spins` times before it
    /// sleeps.
    pub fn new(n_threads: usize, spins: u32) -> Result<Self> {
        let n_threads = n_threads.clamp(1, 1024);
        let pool = (n_threads > 1)
            .then(|| {
                let name = |i| format!("tealight-{}", i + 1);
                rayon::ThreadPoolBuilder::new().num_threads(n_threads - 1).thread_name(name).build()
            })
            .transpose()
            .map_err(|e| {
                Error::new(ErrorKind::Memory, format!("cannot start {n_threads} threads: {e}")).caused_by(e)
            })?;
        let cursors = (0..n_threads).map(|_| Padded(AtomicU64::new(0))).collect();
        let zero = || Padded(AtomicU32::new(0));
        Ok(Self {
            pool,
            running: Mutex::new(()),
            state: State {
                cursors,
                done: zero(),
                step: zero(),
                n_asleep: zero(),
                abort: AtomicBool::new(false),
                panicked: AtomicBool::new(false),
                lock: Mutex::new(()),
                wake: Condvar::new(),
                spins,
            },
        })
    }

    /// Threads of the team.
    pub fn n_threads(&self) -> usize {
        self.state.cursors.len()
    }

    /// Lets every thread run `walk`, which must call [`Worker::step`] in the same order with the same chunk
    /// counts everywhere and return when it gets `false`.
    pub fn run(&self, cancel: &AtomicBool, walk: impl Fn(&mut Worker<'_>) + Sync) -> Result<()> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &self.state;
        state.abort.store(cancel.load(Relaxed), SeqCst);
        state.panicked.store(false, SeqCst);
        // A run that broke off may have left a step half done: its number is never used again.
        let first = state.step.0.load(SeqCst).wrapping_add(1);
        state.begin(first);
        let enter = |index| {
            let mut worker = Worker { state, cancel, step: first, index };
            if catch_unwind(AssertUnwindSafe(|| walk(&mut worker))).is_err() {
                state.give_up();
            }
        };
        if !state.abort.load(SeqCst) {
            match &self.pool {
                None => enter(0),
                Some(pool) => pool.in_place_scope(|scope| {
                    scope.spawn_broadcast(|_, thread| enter(thread.index() + 1));
                    enter(0);
                }),
            }
        }
        if state.panicked.load(SeqCst) {
            return Err(Error::new(ErrorKind::Internal, "a computation failed"));
        }
        if state.abort.load(SeqCst) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        Ok(())
    }
}

impl State {
    /// Makes `step` the one whose chunks are claimed; nobody may be inside of another one.
    fn begin(&self, step: u32) {
        self.done.0.store(0, Relaxed);
        for cursor in &self.cursors {
            cursor.0.store(u64::from(step) << 32, Release);
        }
        self.step.0.store(step, SeqCst);
    }

    fn wake_sleepers(&self) {
        if self.n_asleep.0.load(SeqCst) > 0 {
            // Taking the lock orders this after a sleeper's last look at the step number.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// After a panic outside of a chunk: its thread will not come back, so nobody may wait for it.
    fn give_up(&self) {
        self.panicked.store(true, SeqCst);
        self.abort.store(true, SeqCst);
        self.wake_sleepers();
    }
}

impl Worker<'_> {
    /// Runs `work(chunk)` for every chunk in `0..n`, spread over the team; then all go on. Everything written before
    /// is visible after. `false`: leave the walk, the run is over.
    #[must_use]
    pub fn step(&mut self, n: usize, mut work: impl FnMut(usize)) -> bool {
        assert!((1..=MAX_CHUNKS).contains(&n), "a step of {n} chunks");
        let state = self.state;
        let step = self.step;
        self.step = step.wrapping_add(1);
        let n_threads = state.cursors.len();
        let border = |thread: usize| (n * thread / n_threads) as u64;
        for t in 0..n_threads {
            let owner = (self.index + t) % n_threads;
            let (start, end) = (border(owner), border(owner + 1));
            let cursor = &state.cursors[owner].0;
            let mut seen = cursor.load(Acquire);
            loop {
                let (front, back) = (seen & 0xffff, seen >> 16 & 0xffff);
                if (seen >> 32) as u32 != step || start + front + back >= end {
                    break;
                }
                let (chunk, next) = if t == 0 { (start + front, seen + 1) } else { (end - 1 - back, seen + 0x10000) };
                if let Err(now) = cursor.compare_exchange_weak(seen, next, AcqRel, Acquire) {
                    seen = now;
                    continue;
                }
                if catch_unwind(AssertUnwindSafe(|| work(chunk as usize))).is_err() {
                    state.panicked.store(true, SeqCst);
                }
                if state.done.0.fetch_add(1, AcqRel) + 1 == n as u32 {
                    self.open(step.wrapping_add(1));
                    return !state.abort.load(SeqCst);
                }
                seen = cursor.load(Acquire);
            }
        }
        self.wait_past(step);
        !state.abort.load(SeqCst)
    }

    fn open(&self, next: u32) {
        let state = self.state;
        if state.panicked.load(SeqCst) || self.cancel.load(Relaxed) {
            state.abort.store(true, SeqCst);
        }
        state.begin(next);
        state.wake_sleepers();
    }

    fn wait_past(&self, step: u32) {
        let state = self.state;
        let over = || (state.step.0.load(SeqCst).wrapping_sub(step) as i32) > 0 || state.abort.load(SeqCst);
        for _ in 0..state.spins {
            if over() {
                return;
            }
            std::hint::spin_loop();
        }
        state.n_asleep.0.fetch_add(1, SeqCst);
        let mut guard = state.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !over() {
            guard = state.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        state.n_asleep.0.fetch_sub(1, SeqCst);
    }
}

/// Threads to use unless told otherwise: physical performance cores, at most what this process may use by its
/// affinity and its group's quota.
pub(crate) fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    cores::performance_cores(Path::new("/")).map_or(allowed, |n| n.min(allowed)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> AtomicBool {
        AtomicBool::new(false)
    }

    #[test]
    fn every_chunk_runs_once_and_steps_follow_in_order_under_oversubscription() {
        for (n_threads, spins) in [(1, 0), (2, 0), (4, 10), (8, 200)] {
            let team = Team::new(n_threads, spins).unwrap();
            for _ in 0..10 {
                let cells: Vec<AtomicU32> = (0..64).map(|_| AtomicU32::new(0)).collect();
                let order = AtomicU32::new(0);
                let walk = |worker: &mut Worker<'_>| {
                    for step in 0..100u32 {
                        let n = 1 + step as usize * 7 % 64;
                        let work = |chunk: usize| {
                            assert_eq!(order.load(Relaxed), step);
                            cells[chunk].fetch_add(1, Relaxed);
                        };
                        // A step of one chunk sees all that the step before has done, and nothing of the next.
                        let check = |_| {
                            let total: u32 = cells.iter().map(|c| c.swap(0, Relaxed)).sum();
                            assert_eq!(total, n as u32);
                            assert_eq!(order.fetch_add(1, Relaxed), step);
                        };
                        if !(worker.step(n, work) && worker.step(1, check)) {
                            return;
                        }
                    }
                };
                team.run(&never(), walk).unwrap();
                assert_eq!(order.load(Relaxed), 100);
            }
        }
    }

    #[test]
    fn a_panic_in_a_chunk_ends_the_run_and_the_team_lives_on() {
        let team = Team::new(3, 10).unwrap();
        let result = team.run(&never(), |w| while w.step(9, |chunk| assert_ne!(chunk, 5, "planted")) {});
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Internal);
        team.run(&never(), |w| assert!(w.step(4, |_| {}))).unwrap();
    }

    #[test]
    fn a_panic_between_steps_leaves_nobody_waiting() {
        let team = Team::new(3, 10).unwrap();
        for thread in 0..3 {
            let walk = |w: &mut Worker<'_>| {
                assert!(w.step(2, |_| {}) || w.index != thread);
                assert_ne!(w.index, thread, "planted");
                while w.step(9, |_| {}) {}
            };
            assert_eq!(team.run(&never(), walk).unwrap_err().kind(), ErrorKind::Internal);
            team.run(&never(), |w| assert!(w.step(4, |_| {}))).unwrap();
        }
    }

    #[test]
    fn cancelling_ends_the_run_between_two_steps() {
        let team = Team::new(2, 10).unwrap();
        let cancel = never();
        let n_steps = AtomicU32::new(0);
        let walk = |w: &mut Worker<'_>| {
            let count = |_| {
                if n_steps.fetch_add(1, Relaxed) == 6 {
                    cancel.store(true, Relaxed);
                }
            };
            while w.step(1, count) {}
        };
        assert_eq!(team.run(&cancel, walk).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(n_steps.load(Relaxed), 7);
    }
}
