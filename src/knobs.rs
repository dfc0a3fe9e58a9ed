//! The tuning knobs: every `TEALIGHT_*` variable that the engine understands, declared in one place.
//! Nothing else reads the environment. User options are not knobs: they are flags of the binary.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result, printable};

macro_rules! knobs {
    ($($(#[doc = $doc:literal])+ $name:ident: $ty:ty = $default:expr, $var:literal $(in $range:expr)? $(, else $fallback:expr)?;)*) => {
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
                    if let Some(value) = value_of($var) {
                        let wrong = |why: String| {
                            let text = printable(&value.to_string_lossy());
                            Error::new(ErrorKind::Usage, format!("environment variable {}=`{text}`: {why}", $var))
                        };
                        knobs.$name = <$ty as Value>::read(&value).map_err(wrong)?;
                        $(
                            if !$range.contains(&knobs.$name) {
                                let (first, last) = ($range.start(), $range.end());
                                return Err(wrong(format!("expected a number from {first} to {last}")));
                            }
                        )?
                    } $(else { knobs.$name = $fallback(&value_of); })?
                )*
                Ok(knobs)
            }
        }
    };
}

knobs! {
    /// CPU kernel set: auto, scalar, avx2, avxvnni, avx512, amx, neon, dotprod or i8mm.
    cpu: String = String::from("auto"), "TEALIGHT_CPU";
    /// Rows of a prompt that one forward pass takes at most.
    n_ubatch: usize = 256, "TEALIGHT_UBATCH" in 1..=65_536;
    /// Pauses that a thread waits for a step before it sleeps.
    spins: u32 = 400, "TEALIGHT_SPINS";
    /// GPU kernels: auto, or plain for those that every device runs.
    gpu_variant: GpuVariant = GpuVariant::Auto, "TEALIGHT_GPU_VARIANT";
    /// Bytes that one binding of the GPU shows at most; the device's own limit holds as well.
    gpu_chunk: u64 = u64::MAX, "TEALIGHT_GPU_CHUNK" in 4096..=u64::MAX;
    /// 1: a kernel of the GPU computes wrong results, so that what must find wrong results can be tested.
    gpu_sabotage: u32 = 0, "TEALIGHT_GPU_SABOTAGE" in 0..=1;
    /// Folder of what is cheap to lose: compiled shaders, verdicts about GPUs. `None` keeps nothing, which is the
    /// library's default; the environment gives the folder of the system, or, when the variable is empty, none.
    cache_dir: Option<PathBuf> = None, "TEALIGHT_CACHE_DIR", else system_cache_dir;
    /// Folder of what people want to keep: named chats. `None` keeps nothing, which is the library's default; the
    /// environment gives the folder of the system, or, when the variable is empty, none.
    data_dir: Option<PathBuf> = None, "TEALIGHT_DATA_DIR", else system_data_dir;
    /// Folder of models of our own, beside those of other programs (`tealight models`). The environment gives `models`
    /// in the folder of the system, or, when the variable is empty, none.
    models_dir: Option<PathBuf> = None, "TEALIGHT_MODELS_DIR", else system_models_dir;
}

/// Which kernels a GPU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GpuVariant {
    /// The best that the device is able to.
    Auto,
    /// Those that need no optional feature.
    Plain,
}

impl FromStr for GpuVariant {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            _ => Err("expected auto or plain".into()),
        }
    }
}

/// What a variable may hold.
trait Value: Sized {
    fn read(text: &OsStr) -> std::result::Result<Self, String>;
}

macro_rules! parsed {
    ($($ty:ty),*) => {
        $(impl Value for $ty {
            fn read(text: &OsStr) -> std::result::Result<Self, String> {
                text.to_string_lossy().parse().map_err(|e: <$ty as FromStr>::Err| e.to_string())
            }
        })*
    };
}

parsed!(String, usize, u32, u64, GpuVariant);

impl Value for Option<PathBuf> {
    fn read(text: &OsStr) -> std::result::Result<Self, String> {
        Ok(Some(text).filter(|t| !t.is_empty()).map(PathBuf::from))
    }
}

/// Where the system keeps caches of programs, `None` without a home. Relative folders do not count, as
/// <https://specifications.freedesktop.org/basedir-spec> has it.
fn system_cache_dir(value_of: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| absolute(value_of, name);
    let caches = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_vendor = "apple") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("tealight"))
}

/// Where the system keeps data of programs, `None` without a home.
fn system_data_dir(value_of: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| absolute(value_of, name);
    let data = if cfg!(windows) {
        folder("APPDATA")
    } else if cfg!(target_vendor = "apple") {
        folder("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")))
    };
    data.map(|data| data.join("tealight"))
}

fn absolute(value_of: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    value_of(name).map(PathBuf::from).filter(|f| f.is_absolute())
}

/// The folder that `tools/get-smollm2.sh` writes to, too.
fn system_models_dir(value_of: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    system_cache_dir(value_of).map(|dir| dir.join("models"))
}

/// A variable of another program that says where it keeps models, as in `HF_HOME`; an empty one counts as absent.
pub(crate) fn of_other_programs(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Does the environment name drivers of Vulkan, so that a GPU may be there of which the system shows nothing?
#[cfg(feature = "gpu")]
pub(crate) fn names_vulkan_drivers() -> bool {
    // Source: the documentation of the Vulkan loader, LoaderInterfaceArchitecture.md.
    let names = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"];
    names.iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
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
        assert_eq!(read("TEALIGHT_GPU_VARIANT", "plain").map(|k| k.gpu_variant), Ok(GpuVariant::Plain));
        assert!(read("TEALIGHT_GPU_VARIANT", "fast").unwrap_err().ends_with("expected auto or plain"));
        assert_eq!(read("TEALIGHT_GPU_CHUNK", "65536").map(|k| k.gpu_chunk), Ok(65_536));
        assert!(read("TEALIGHT_GPU_CHUNK", "1").unwrap_err().contains("from 4096 to"));
    }

    #[cfg(unix)]
    #[test]
    fn the_cache_is_where_the_environment_has_it() {
        let check = |variables: &[(&str, &str)], expected: Option<&str>| {
            let value = |n: &str| variables.iter().find(|(name, _)| *name == n).map(|(_, value)| value.into());
            let knobs = Knobs::from_variables(value).unwrap();
            assert_eq!(knobs.cache_dir.as_deref(), expected.map(std::path::Path::new), "{variables:?}");
        };
        check(&[], None);
        check(&[("TEALIGHT_CACHE_DIR", "x/y"), ("HOME", "/h")], Some("x/y"));
        check(&[("TEALIGHT_CACHE_DIR", ""), ("HOME", "/h")], None);
        check(&[("HOME", "relative")], None);
        if cfg!(target_vendor = "apple") {
            check(&[("HOME", "/h")], Some("/h/Library/Caches/tealight"));
        } else {
            check(&[("HOME", "/h")], Some("/h/.cache/tealight"));
            check(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")], Some("/c/tealight"));
            check(&[("HOME", "/h"), ("XDG_CACHE_HOME", "c")], Some("/h/.cache/tealight"));
        }
    }
}
