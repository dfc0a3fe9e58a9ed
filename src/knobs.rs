//! The tuning knobs: every `TEALIGHT_*` variable that the engine understands, declared in one place.
//! Nothing else reads the environment. User options are not knobs: they are flags of the binary.
#![forbid(unsafe_code)]

use std::ffi::OsString;

use crate::error::{Error, ErrorKind, Result, printable};

macro_rules! knobs {
    ($($(#[doc = $doc:literal])+ $name:ident: $ty:ty = $default:expr, $var:literal $(in $range:expr)?;)*) => {
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
            /// [`ErrorKind::Usage`] when a variable does not parse or is out of range.
            pub fn from_env() -> Result<Self> {
                Self::from_variables(|name| std::env::var_os(name))
            }

            fn from_variables(value_of: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
                let mut knobs = Self::default();
                $(
                    if let Some(text) = value_of($var) {
                        let text = text.to_string_lossy();
                        let wrong = |why: String| {
                            let text = printable(&text);
                            Error::new(ErrorKind::Usage, format!("environment variable {}=`{text}`: {why}", $var))
                        };
                        knobs.$name = text.parse::<$ty>().map_err(|e| wrong(e.to_string()))?;
                        $(
                            if !$range.contains(&knobs.$name) {
                                let (first, last) = ($range.start(), $range.end());
                                return Err(wrong(format!("expected a number from {first} to {last}")));
                            }
                        )?
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
    n_ubatch: usize = 256, "TEALIGHT_UBATCH" in 1..=65_536;
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

    #[test]
    fn values_that_do_not_fit_are_refused_by_name() {
        let read = |name: &'static str, value: &'static str| {
            Knobs::from_variables(|n| (n == name).then(|| value.into())).map_err(|e| e.to_string())
        };
        for (text, n) in [("1", 1), ("65536", 65_536)] {
            assert_eq!(read("TEALIGHT_UBATCH", text).map(|k| k.n_ubatch), Ok(n));
        }
        for wrong in ["0", "65537", "99999999999999999999", "-1", "many"] {
            let text = read("TEALIGHT_UBATCH", wrong).unwrap_err();
            assert!(text.starts_with(&format!("environment variable TEALIGHT_UBATCH=`{wrong}`: ")), "{text}");
        }
        assert!(read("TEALIGHT_UBATCH", "0").unwrap_err().ends_with("expected a number from 1 to 65536"));
        let text = read("TEALIGHT_SPINS", "\x1b[2J").unwrap_err();
        assert!(text.contains("`\\u{1b}[2J`"), "{text}");
        assert_eq!(read("TEALIGHT_NONE", ""), Ok(Knobs::default()));
    }
}
