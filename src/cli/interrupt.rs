//! Ctrl-C: the first stops what is running and keeps its result, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;
use signal_hook::flag;
use tealight::{CancelToken, Error, ErrorKind};

use super::{Failure, Outcome};

/// The flags that the signal handler reads and sets.
pub(crate) struct Interrupt {
    cancel: Arc<AtomicBool>,
    /// Nothing is running that could be stopped in order.
    at_once: Arc<AtomicBool>,
}

impl Interrupt {
    /// Installs the handlers of the process.
    pub(crate) fn install() -> Outcome<Self> {
        let this = Self { cancel: Arc::default(), at_once: Arc::new(AtomicBool::new(true)) };
        let exit_code = ErrorKind::Interrupted.exit_code().into();
        // Handlers run in the order of their registration: the first Ctrl-C must not see its own mark.
        flag::register_conditional_shutdown(SIGINT, exit_code, this.at_once.clone()).map_err(cannot)?;
        flag::register(SIGINT, this.cancel.clone()).map_err(cannot)?;
        flag::register(SIGINT, this.at_once.clone()).map_err(cannot)?;
        // A file that passes the size limit of the process is then an error of the write, not a signal that kills.
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGXFSZ, Arc::<AtomicBool>::default()).map_err(cannot)?;
        Ok(this)
    }

    /// From now on the first Ctrl-C cancels the token, until the guard is dropped.
    pub(crate) fn stoppable(&self) -> Stoppable<'_> {
        self.cancel.store(false, Ordering::SeqCst);
        self.at_once.store(false, Ordering::SeqCst);
        Stoppable(self)
    }

    /// The token that Ctrl-C cancels.
    pub(crate) fn token(&self) -> CancelToken {
        CancelToken::from_flag(self.cancel.clone())
    }
}

/// While this lives, Ctrl-C asks before it kills.
pub(crate) struct Stoppable<'a>(&'a Interrupt);

impl Drop for Stoppable<'_> {
    fn drop(&mut self) {
        self.0.at_once.store(true, Ordering::SeqCst);
    }
}

fn cannot(error: std::io::Error) -> Failure {
    Error::new(ErrorKind::Internal, format!("cannot install a signal handler: {error}")).caused_by(error).into()
}
