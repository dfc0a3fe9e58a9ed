//! Work on texts of strangers: on a thread with a large stack, for a limited time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Address space, not memory: a recursion over the deepest text that is taken stays below 10 MiB.
const STACK_BYTES: usize = 64 << 20;
/// What takes longer would keep an answer waiting; a schema of 1 MB takes about 2 s.
const TIME: Duration = Duration::from_secs(20);

/// Runs `work`. When its time is over the thread is left to end by the engine's own limits.
///
/// # Errors
/// Those of the work; usage when it takes too long; internal when it panics.
pub(super) fn bounded<T: Send + 'static>(what: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let run = move || {
        let result = catch_unwind(AssertUnwindSafe(work));
        // Nobody listens any more when the time is over.
        let _ = sender.send(result);
    };
    let started = thread::Builder::new().name("grammar".into()).stack_size(STACK_BYTES).spawn(run);
    started.map_err(|e| Error::new(ErrorKind::Memory, format!("a thread for {what} cannot start: {e}")))?;
    match receiver.recv_timeout(TIME) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(Error::new(ErrorKind::Internal, format!("{what} broke its compiler")))
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let text = format!("{what} takes longer than {} s to compile", TIME.as_secs());
            Err(Error::new(ErrorKind::Usage, text)
                .with_hint("make it simpler: patterns with large counts take longest"))
        }
    }
}
