//! What conversations need beyond the model: [`render`] reads the Markdown of an answer as it comes.
#![forbid(unsafe_code)]

pub mod render;
