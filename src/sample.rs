//! Choosing the next token: llama.cpp's chain of samplers, in names, order, defaults, formulas and
//! random numbers, so that options and a seed mean the same in both.
//!
//! A [`Sampler`] is told every token of the sequence by [`Sampler::accept`], those of the prompt too,
//! and picks one from logits by [`Sampler::sample`]. It knows the vocabulary through [`Tokens`] only,
//! and no model. Sorting breaks ties by id, where llama.cpp leaves their order open.
#![forbid(unsafe_code)]

mod candidates;
mod chain;
mod dry;
mod filters;
#[cfg(feature = "grammar")]
pub mod grammar;
mod mirostat;
mod options;
mod penalties;
mod rng;
#[cfg(test)]
mod tests;

pub use chain::Sampler;
pub use options::{Mirostat, RANDOM_SEED, SampleOptions, SamplerName, parse_sampler_letters, parse_samplers};

use std::borrow::Cow;

/// What a sampler needs of a vocabulary.
pub trait Tokens {
    /// Number of tokens; ids are below it.
    fn n_tokens(&self) -> u32;

    /// The text of a token, special tokens included. Empty for an unknown id.
    fn piece(&self, id: u32) -> Cow<'_, [u8]>;

    /// The ids of a text, in which nothing is a special token; no beginning or end is added.
    fn encode(&self, text: &[u8]) -> Vec<u32>;

    /// The ids that end a generation.
    fn eog(&self) -> &[u32];
}
