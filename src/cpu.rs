//! The CPU back-end: executes any plan, and in exact mode is the oracle of every faster path.
//!
//! `exec` walks a plan with a team of threads (`pool`), `kernels` holds the arithmetic per instruction set,
//! `sequence` the keys and values, `exact` the plain computation. Nothing here knows a metadata key or a model.

mod attention;
mod exact;
mod exec;
pub(crate) mod kernels;
#[allow(dead_code)] // for benches, which compile it by itself
mod limits;
mod linear;
mod pool;
mod rows;
mod sequence;

pub use exec::{CpuBackend, CpuOptions};
pub use pool::Team;
pub use sequence::CpuSequence;

/// Threads to use unless told otherwise: physical performance cores, at most what this process may use.
pub fn default_threads() -> usize {
    pool::default_threads()
}
