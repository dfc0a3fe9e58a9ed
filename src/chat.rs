//! What conversations need beyond the model: [`render`] reads the Markdown of an answer as it comes, [`named`] keeps
//! conversations in a folder.
#![forbid(unsafe_code)]

pub mod named;
pub mod render;
