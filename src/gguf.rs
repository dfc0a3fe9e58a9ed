//! The gate: what a GGUF file holds, checked before anything else sees it.
