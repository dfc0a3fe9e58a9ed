//! A progress bar on standard error, for waits that a person notices.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;

/// A wait that is not worth a bar.
const PATIENCE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

/// Shows how far something is, once it has taken a while. Dropping it removes the bar, so that text can follow.
pub(crate) struct Progress {
    counts: Arc<Counts>,
    /// Hanging up ends the thread.
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Counts {
    done: AtomicU64,
    total: AtomicU64,
    name: Mutex<String>,
}

impl Progress {
    /// Begins; `what` is a phrase such as "reading the prompt", whose tokens are counted. Nothing is ever shown where
    /// `out` shows no progress.
    pub(crate) fn start(out: &Output, what: &'static str) -> Self {
        Self::start_counting(out, what, "{pos}/{len} tokens")
    }

    /// The same, counting bytes.
    pub(crate) fn start_bytes(out: &Output, what: &'static str) -> Self {
        Self::start_counting(out, what, "{bytes}/{total_bytes}")
    }

    /// The same, with the rate, and room for a name.
    pub(crate) fn start_named_bytes(out: &Output, what: &'static str) -> Self {
        Self::start_counting(out, what, "{bytes}/{total_bytes}, {bytes_per_sec} {prefix}")
    }

    /// What is at work now.
    pub(crate) fn name(&self, name: &str) {
        let mut shown = self.counts.name.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != name {
            *shown = name.to_owned();
        }
    }

    fn start_counting(out: &Output, what: &'static str, counts_as: &'static str) -> Self {
        let counts = Arc::<Counts>::default();
        let running = out.shows_progress().then(|| {
            let (hang_up, hung_up) = mpsc::channel();
            let counts = counts.clone();
            let show = move || {
                if hung_up.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                bar.set_message(what);
                bar.set_style(spinner());
                loop {
                    let total = counts.total.load(Ordering::Relaxed);
                    if total > 0 && bar.length().is_none() {
                        bar.set_style(counted(counts_as));
                        bar.set_length(total);
                    }
                    let name = counts.name.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    bar.set_prefix(name);
                    bar.set_position(counts.done.load(Ordering::Relaxed));
                    bar.tick();
                    if hung_up.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                        return bar.finish_and_clear();
                    }
                }
            };
            (hang_up, std::thread::spawn(show))
        });
        Self { counts, running }
    }

    /// So much is done.
    pub(crate) fn set(&self, done: usize, total: usize) {
        self.set_bytes(done as u64, total as u64);
    }

    /// So many bytes are done.
    pub(crate) fn set_bytes(&self, done: u64, total: u64) {
        self.counts.done.store(done, Ordering::Relaxed);
        self.counts.total.store(total, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((hang_up, thread)) = self.running.take() {
            drop(hang_up);
            // A bar that failed is no reason to fail.
            let _ = thread.join();
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a constant template")
}

fn counted(counts: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{msg}} {{bar:30}} {counts}, {{eta}} left"));
    style.expect("a constant template").progress_chars("=> ")
}
