//! The small model that the binary carries, so that there is something to talk to on every machine.
//!
//! It is made by the scripts in `models/spark`; the card there says from what, and what it can do. With the feature
//! `spark` switched off there is none.
#![forbid(unsafe_code)]

use crate::error::Result;
use crate::gguf::Gguf;

/// What the model inside the binary is called, wherever a model file may be named.
pub const BUILT_IN: &str = "spark";

/// Key of its metadata: a hash of the table of facts that it was trained on (`models/spark/corpus.py`).
pub const BUILT_IN_FACTS: &str = "tealight.facts";

#[cfg(feature = "spark")]
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

// Rows are computed on where they lie, by loads of up to 64 bytes.
#[cfg(feature = "spark")]
static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/spark/spark.gguf"));

/// The model inside this build, `None` when it was built without one. Nothing is copied or written.
///
/// # Errors
/// [`crate::ErrorKind::Model`] when its bytes are malformed, which the tests of the build rule out.
pub fn built_in() -> Result<Option<Gguf>> {
    #[cfg(feature = "spark")]
    let found = Gguf::from_static("spark.gguf", &BYTES.0).map(Some);
    #[cfg(not(feature = "spark"))]
    let found = Ok(None);
    found
}
