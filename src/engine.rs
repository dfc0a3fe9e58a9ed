//! The public interface: a [`Model`] is a file that can run, a [`Session`] is one sequence of tokens with its
//! memory. The engine prints nothing, ends no process, installs no handlers; any call can be cancelled.
#![forbid(unsafe_code)]

mod cancel;
mod load;
mod session;

pub use cancel::CancelToken;
pub use load::{Model, ModelOptions};
pub use session::{Session, SessionOptions, Want};
