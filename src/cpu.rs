//! The CPU back-end: executes any plan, and in exact mode is the oracle of every faster path.
//!
//! `exec` walks a plan with a team of threads (`pool`), `kernels` holds the arithmetic per instruction set,
//! `sequence` the keys and values and `states` what has a fixed size, `exact` the plain computation. Nothing here knows a metadata key or a model.

mod act;
mod attention;
pub mod bench;
mod exact;
mod exec;
pub(crate) mod kernels;
mod limits;
mod linear;
mod pool;
mod recurrence;
mod route;
mod rows;
mod sequence;
mod states;

pub use exec::{CpuBackend, CpuOptions, InputSum};
pub use limits::Limits;
pub use pool::Team;
pub use sequence::{CpuSequence, MappedRows, SavedRows};

/// Threads to use unless told otherwise: physical performance cores, at most what this process may use.
pub fn default_threads() -> usize {
    pool::default_threads()
}

/// What a team can do at most with the kernels of `options`; `bytes` is what it reads.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] for kernels that this CPU lacks.
pub fn limits(team: &Team, options: &CpuOptions, bytes: &[&[u8]]) -> crate::error::Result<Limits> {
    // Exact mode has no set of its own.
    let set = kernels::KernelSet::by_name(options.kernels_in_use()?).unwrap_or(kernels::KernelSet::SCALAR);
    Limits::measure(team, &set, bytes)
}
