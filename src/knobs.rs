//! The tuning knobs: every `TEALIGHT_*` variable that the engine understands, declared in one place.
//! Nothing else reads the environment. User options are not knobs: they are flags of the binary.
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};

macro_rules! knobs {
    ($($(#[doc = $doc:literal])+ $name:ident: $ty:ty = $default:expr, $var:literal;)*) => {
        /// Tuning values of the engine; a value that is handed down when a model is opened.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct Knobs {
            $($(#[doc = $doc])+ pub $name: $ty,)*
        }

        impl Default for Knobs {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Knobs {
            /// Name, default and meaning of every variable.
            pub const LIST: &'static [(&'static str, &'static str, &'static str)] =
                &[$(($var, stringify!($default), concat!($($doc),+)),)*];

            /// The defaults, overridden by the environment.
            ///
            /// # Errors
            /// [`ErrorKind::Usage`] when a variable does not parse.
            pub fn from_env() -> Result<Self> {
                let mut knobs = Self::default();
                $(
                    if let Some(text) = std::env::var_os($var) {
                        let text = text.to_string_lossy();
                        knobs.$name = text.parse().map_err(|e| {
                            Error::new(ErrorKind::Usage, format!("environment variable {}=`{text}`: {e}", $var))
                        })?;
                    }
                )*
                Ok(knobs)
            }
        }
    };
}

knobs! {
    /// CPU kernel set: auto, scalar, avx2 or avx512.
    cpu: String = String::from("auto"), "TEALIGHT_CPU";
    /// Rows of a prompt that one forward pass takes at most.
    n_ubatch: usize = 256, "TEALIGHT_UBATCH";
    /// Pauses that a thread waits for a step before it sleeps.
    spins: u32 = 400, "TEALIGHT_SPINS";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_is_listed_once() {
        let mut names: Vec<_> = Knobs::LIST.iter().map(|k| k.0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Knobs::LIST.len());
        assert!(names.iter().all(|n| n.starts_with("TEALIGHT_")));
    }
}
