//! What people should hear about where a model computes.

use std::fmt;

/// Something that happened to a model and that no result tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A choice that was made, and why.
    Choice(String),
    /// Something does not go as it was asked for; what happens instead.
    Fallback(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Choice(text) | Self::Fallback(text) => f.write_str(text),
        }
    }
}
