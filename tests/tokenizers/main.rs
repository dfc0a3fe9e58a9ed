//! Vocabularies: recorded tokenizations (`recorded.rs`), rules, round trips and streaming (`rules.rs`), long texts and
//! malformed files (`hostile.rs`), over small vocabularies of our own (`small.rs`).
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod recorded;
mod rules;
mod small;
