//! Where a model computes: what people choose, and the devices that there are.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result, printable};

/// The device that computes.
///
/// Text, as the binary takes it: `cpu`, `auto`, `gpu`, a number of the list of devices, or a part of a GPU's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The CPU. No driver is touched.
    #[default]
    Cpu,
    /// The best GPU that is no software, else the CPU.
    Auto,
    /// The best GPU, be it a software driver; without one opening fails.
    Gpu,
    /// The GPU of this number in [`devices`].
    Index(usize),
    /// The GPU whose name contains this text, in any case.
    Name(String),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::Usage, format!("device `{}`: {why}", printable(text)))
                .with_hint("expected auto, cpu, gpu, a number or a part of a name; `tealight devices` lists them")
        };
        match text.trim() {
            "" => Err(wrong("there is no name")),
            "auto" => Ok(Self::Auto),
            // llama.cpp calls the absence of GPUs `none`.
            "cpu" | "none" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            n if n.bytes().all(|b| b.is_ascii_digit()) => {
                n.parse().map(Self::Index).map_err(|_| wrong("there is no such number"))
            }
            name => Ok(Self::Name(name.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Gpu => f.write_str("gpu"),
            Self::Index(i) => write!(f, "{i}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Layers that a GPU computes, the last ones of the model; the rest stays on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GpuLayers {
    /// As many as fit into the memory of the GPU.
    #[default]
    Auto,
    /// All of them; opening fails when they do not fit.
    All,
    /// So many, at most all.
    Count(u32),
}

impl FromStr for GpuLayers {
    type Err = Error;

    /// `auto`, `all` or a number, as llama.cpp's `-ngl`; its -1 and -2 are `auto` and `all`.
    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "auto" | "-1" => Ok(Self::Auto),
            "all" | "-2" => Ok(Self::All),
            n => n.parse().map(Self::Count).map_err(|_| {
                Error::new(ErrorKind::Usage, format!("layers on the GPU `{}`: not a count", printable(text)))
                    .with_hint("expected a number, auto or all")
            }),
        }
    }
}

impl fmt::Display for GpuLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::All => f.write_str("all"),
            Self::Count(n) => write!(f, "{n}"),
        }
    }
}

/// Whether a GPU is compared with the CPU before its results are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GpuCheck {
    /// Never.
    Off,
    /// At the first use of a GPU, driver, model family and version; the verdict is kept.
    #[default]
    On,
    /// Each time.
    Force,
}

impl FromStr for GpuCheck {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "force" => Ok(Self::Force),
            _ => Err(Error::new(ErrorKind::Usage, format!("check of the GPU `{}`: unknown", printable(text)))
                .with_hint("expected off, on or force")),
        }
    }
}

impl fmt::Display for GpuCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Force => "force",
        })
    }
}

/// What a GPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A card with memory of its own.
    Discrete,
    /// Part of the processor; shares the memory of the system.
    Integrated,
    /// A part of a GPU that a hypervisor lends, or of a kind that the driver does not tell.
    Virtual,
    /// A driver that computes on the CPU.
    Software,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
        })
    }
}

/// A GPU of this machine. Texts come from the driver and are printable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Number for [`DeviceChoice::Index`].
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// How it is reached: `Vulkan`, `Metal` or `DX12`.
    pub backend: String,
    /// The driver, empty where that is the operating system's.
    pub driver: String,
    /// The driver's version, in its own words.
    pub driver_version: String,
    /// All of its memory in bytes, where the driver tells.
    pub memory: Option<u64>,
    /// Bytes that this process may still take, where the driver tells.
    pub budget: Option<u64>,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Largest part of a buffer that a kernel sees at once, in bytes.
    pub max_binding: u64,
    /// What it can do beyond the least: `subgroups`, `f16`, `int8_dot`.
    pub features: Vec<String>,
    /// Why it cannot be used, if so.
    pub fault: Option<String>,
}

/// The GPUs of this machine, best first; software drivers are among them, last.
///
/// # Errors
/// [`ErrorKind::Gpu`] when a driver fails, [`ErrorKind::Usage`] when the crate was built without the feature `gpu`.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    found::devices()
}

#[cfg(feature = "gpu")]
mod found {
    use std::sync::Arc;

    use super::*;
    use crate::gpu::{self, Gpu, Pick};

    pub(super) fn devices() -> Result<Vec<DeviceInfo>> {
        Ok(gpu::list()?.into_iter().enumerate().map(|(index, facts)| info(index, facts)).collect())
    }

    fn info(index: usize, facts: gpu::Facts) -> DeviceInfo {
        let gpu::Facts { name, driver, driver_version, memory, caps, fault, .. } = facts;
        let features = [("subgroups", caps.subgroups), ("f16", caps.f16), ("int8_dot", caps.int8_dot)];
        DeviceInfo {
            index,
            name,
            kind: match facts.kind {
                gpu::Kind::Discrete => DeviceKind::Discrete,
                gpu::Kind::Integrated => DeviceKind::Integrated,
                gpu::Kind::Virtual => DeviceKind::Virtual,
                gpu::Kind::Software => DeviceKind::Software,
            },
            backend: facts.interface.to_string(),
            driver,
            driver_version,
            memory: memory.map(|m| m.total),
            budget: memory.and_then(|m| m.budget),
            max_buffer: caps.max_buffer,
            max_binding: caps.max_binding,
            features: features.iter().filter(|f| f.1).map(|f| f.0.to_owned()).collect(),
            fault,
        }
    }

    /// Opens the device that is chosen; `None` is the CPU.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such GPU, [`ErrorKind::Gpu`] when there is none at all or it fails.
    pub(in crate::engine) fn open(choice: &DeviceChoice) -> Result<Option<Arc<Gpu>>> {
        let pick = match choice {
            DeviceChoice::Cpu => return Ok(None),
            DeviceChoice::Auto if !gpu::may_exist() => return Ok(None),
            DeviceChoice::Auto => Pick::Hardware,
            DeviceChoice::Gpu => Pick::Best,
            DeviceChoice::Index(i) => Pick::Index(*i),
            DeviceChoice::Name(name) => Pick::Name(name),
        };
        gpu::open(pick)
    }
}

#[cfg(not(feature = "gpu"))]
mod found {
    use super::*;

    pub(super) fn devices() -> Result<Vec<DeviceInfo>> {
        Err(without_gpus())
    }

    /// Refuses every choice that needs a GPU.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`].
    pub(in crate::engine) fn open(choice: &DeviceChoice) -> Result<()> {
        match choice {
            DeviceChoice::Cpu | DeviceChoice::Auto => Ok(()),
            _ => Err(without_gpus()),
        }
    }

    fn without_gpus() -> Error {
        Error::new(ErrorKind::Usage, "built without GPU support")
            .with_hint("build with the feature `gpu`, or use the CPU (--device cpu)")
    }
}

pub(super) use found::open;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_shown() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("gpu", DeviceChoice::Gpu),
            ("0", DeviceChoice::Index(0)),
            ("12", DeviceChoice::Index(12)),
            ("Radeon 780M", DeviceChoice::Name("Radeon 780M".into())),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("none".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cpu);
        assert_eq!(DeviceChoice::default(), DeviceChoice::Cpu);
        for wrong in ["", "  ", "99999999999999999999999"] {
            assert_eq!(wrong.parse::<DeviceChoice>().unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
        }
    }

    #[test]
    fn layers_are_counted_as_llama_cpp_does() {
        for (text, layers) in [
            ("auto", GpuLayers::Auto),
            ("-1", GpuLayers::Auto),
            ("all", GpuLayers::All),
            ("-2", GpuLayers::All),
            ("0", GpuLayers::Count(0)),
            ("99", GpuLayers::Count(99)),
        ] {
            assert_eq!(text.parse::<GpuLayers>().unwrap(), layers, "{text}");
            assert_eq!(layers.to_string().parse::<GpuLayers>().unwrap(), layers);
        }
        for wrong in ["", "-3", "many", "1.5", "4294967296"] {
            assert_eq!(wrong.parse::<GpuLayers>().unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
        }
    }

    #[test]
    fn checks_are_read_and_shown() {
        for (text, check) in [("off", GpuCheck::Off), ("on", GpuCheck::On), ("force", GpuCheck::Force)] {
            assert_eq!(text.parse::<GpuCheck>().unwrap(), check);
            assert_eq!(check.to_string(), text);
        }
        assert_eq!("maybe".parse::<GpuCheck>().unwrap_err().kind(), ErrorKind::Usage);
    }

    #[cfg(not(feature = "gpu"))]
    #[test]
    fn without_the_feature_a_gpu_is_refused() {
        for choice in [DeviceChoice::Gpu, DeviceChoice::Index(0), DeviceChoice::Name("x".into())] {
            let error = open(&choice).unwrap_err();
            assert_eq!(error.to_string(), "built without GPU support");
            assert!(error.hint().is_some());
        }
        assert!(open(&DeviceChoice::Cpu).is_ok() && open(&DeviceChoice::Auto).is_ok());
        assert_eq!(devices().unwrap_err().kind(), ErrorKind::Usage);
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn the_cpu_is_no_gpu() {
        assert!(open(&DeviceChoice::Cpu).unwrap().is_none());
        let listed = devices().unwrap();
        assert!(listed.iter().enumerate().all(|(i, d)| d.index == i && !d.name.is_empty()));
        let error = open(&DeviceChoice::Index(listed.len())).err().unwrap();
        let expected = if listed.is_empty() { ErrorKind::Gpu } else { ErrorKind::Usage };
        assert_eq!(error.kind(), expected, "{error}");
    }
}
