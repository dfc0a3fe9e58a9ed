//! Which GPUs there are, in which order they are offered, and which one is meant.
//!
//! Looking is done by wgpu and the drivers; ranking and choosing are functions over plain [`Facts`], so that they are
//! tested without a GPU. Drivers that panic or fail are errors, never the end of the process.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::device::{Caps, Gpu};
use super::hal;
use crate::error::{Error, ErrorKind, Result, printable};

/// What a GPU is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A card with memory of its own.
    Discrete,
    /// Part of the processor; shares the memory of the system.
    Integrated,
    /// A part of a GPU that a hypervisor lends, or of a kind that the driver does not tell.
    Virtual,
    /// A driver that computes on the CPU.
    Software,
}

/// The interface of a driver, preferred ones first: Vulkan keeps compiled shaders and has packed dot products without
/// a compiler from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// Vulkan.
    Vulkan,
    /// Metal.
    Metal,
    /// Direct3D 12.
    Dx12,
    /// Anything else, such as wgpu's back-end that computes nothing.
    Other,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vulkan => "Vulkan",
            Self::Metal => "Metal",
            Self::Dx12 => "DX12",
            Self::Other => "other",
        })
    }
}

/// Memory of a device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What this process may still take before allocations fail or slow down, where the driver tells.
    pub budget: Option<u64>,
}

/// What is known of a GPU before it is opened. Texts are printable.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Its name, as the driver has it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// How it is reached.
    pub interface: Interface,
    /// The driver, empty where that is the operating system's.
    pub driver: String,
    /// The driver's version, in its own words.
    pub driver_version: String,
    /// Vendor and device, numbers of the PCI registry in most cases.
    pub id: (u32, u32),
    /// Address on the bus, empty where unknown.
    pub bus: String,
    /// Its memory.
    pub memory: Option<Memory>,
    /// What it can do.
    pub caps: Caps,
    /// Why it cannot be used.
    pub fault: Option<String>,
}

/// A GPU that was found.
pub(super) struct Adapter {
    pub facts: Facts,
    pub handle: wgpu::Adapter,
}

/// Which GPU is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick<'a> {
    /// The best one that is no software, if there is one.
    Hardware,
    /// The best one.
    Best,
    /// Number in the list.
    Index(usize),
    /// A part of its name, in any case; the whole name wins over parts.
    Name(&'a str),
}

/// May there be a GPU? Costs a look at file names where that tells; drivers are not touched. Software drivers do not
/// count.
pub fn may_exist() -> bool {
    !cfg!(target_os = "linux") || crate::knobs::names_vulkan_drivers() || has_gpu_node(Path::new("/dev"))
}

/// Files by which the kernel offers GPUs: of the direct rendering manager, NVIDIA (also Tegra), Mali and Adreno with
/// their vendors' drivers, and Windows below Linux.
fn has_gpu_node(dev: &Path) -> bool {
    let any = |folder: &Path, prefixes: &[&str]| {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name());
        names.into_iter().any(|n| prefixes.iter().any(|p| n.as_encoded_bytes().starts_with(p.as_bytes())))
    };
    any(&dev.join("dri"), &["render"]) || any(dev, &["nvidia", "nvhost", "nvgpu", "dxg", "mali", "kgsl"])
}

/// All GPUs, best first, each once.
///
/// # Errors
/// [`ErrorKind::Gpu`] when a driver panics.
pub fn list() -> Result<Vec<Facts>> {
    Ok(found()?.into_iter().map(|a| a.facts).collect())
}

/// Opens the GPU that is meant; `None` where [`Pick::Hardware`] finds nothing.
///
/// # Errors
/// [`ErrorKind::Usage`] when there is no such GPU or the name fits several, [`ErrorKind::Gpu`] when there is none at
/// all, or it cannot be used.
pub fn open(pick: Pick<'_>) -> Result<Option<Arc<Gpu>>> {
    let found = found()?;
    let facts: Vec<&Facts> = found.iter().map(|a| &a.facts).collect();
    choose(&facts, pick)?.map(|i| Gpu::open(&found[i].handle)).transpose()
}

/// The adapters of this machine, ranked.
pub(super) fn found() -> Result<Vec<Adapter>> {
    caught("listing GPUs", || {
        let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
        desc.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        found_by(desc)
    })
}

/// The adapters of an instance, ranked.
pub(super) fn found_by(mut desc: wgpu::InstanceDescriptor) -> Vec<Adapter> {
    // Validation layers and checks of indirect dispatches cost time, and the latter cap buffers at 4 GiB.
    desc.flags = wgpu::InstanceFlags::empty();
    // Over-commitment is an error of the buffer, before the driver pages or the device is lost.
    desc.memory_budget_thresholds.for_resource_creation = Some(90);
    let backends = desc.backends;
    let handles = pollster::block_on(wgpu::Instance::new(desc).enumerate_adapters(backends));
    let mut all: Vec<_> = handles.into_iter().map(|h| Some(Adapter { facts: facts(&h), handle: h })).collect();
    let order = rank(&all.iter().flatten().map(|a| &a.facts).collect::<Vec<_>>());
    order.into_iter().filter_map(|i| all[i].take()).collect()
}

/// Calls a driver; its panic is an error.
pub(super) fn caught<R>(what: &str, f: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = format!("{what}: the graphics driver failed: {}", panic_text(&*panic));
        Error::new(ErrorKind::Gpu, text).with_hint("use the CPU (--device cpu), or update the graphics driver")
    })
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    printable(text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic"))
}

/// What an adapter tells.
pub(super) fn facts(adapter: &wgpu::Adapter) -> Facts {
    let info = adapter.get_info();
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
        wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => Kind::Virtual,
        wgpu::DeviceType::Cpu => Kind::Software,
    };
    let interface = match info.backend {
        wgpu::Backend::Vulkan => Interface::Vulkan,
        wgpu::Backend::Metal => Interface::Metal,
        wgpu::Backend::Dx12 => Interface::Dx12,
        _ => Interface::Other,
    };
    // DX12 has the version in place of the driver's name.
    let (driver, version) = match info.driver_info.as_str() {
        "" => ("", info.driver.as_str()),
        version => (info.driver.as_str(), version),
    };
    let caps = Caps::of(adapter);
    let compute = adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS);
    let n_storage = adapter.limits().max_storage_buffers_per_shader_stage;
    Facts {
        name: printable(info.name.trim()),
        kind,
        interface,
        driver: printable(driver),
        driver_version: printable(version),
        id: (info.vendor, info.device),
        bus: printable(&info.device_pci_bus_id),
        memory: hal::memory(adapter),
        fault: if compute { fault(interface, kind, &caps, n_storage) } else { Some("no compute shaders".to_owned()) },
        caps,
    }
}

/// Why kernels cannot run, if they cannot.
fn fault(interface: Interface, kind: Kind, caps: &Caps, n_storage: u32) -> Option<String> {
    if interface == Interface::Dx12 {
        if kind == Kind::Software {
            return Some("Windows' software driver computes wrongly where threads wait for one another".to_owned());
        }
        // Every shader model that DXC compiles for has subgroups; FXC never has.
        if !caps.subgroups {
            return Some(
                "DX12 without the shader compiler DXC: put dxcompiler.dll beside the program or on the PATH".to_owned(),
            );
        }
    }
    let least = Caps::BASELINE;
    let lacks = [
        ("storage buffers", u64::from(n_storage), 8),
        ("bytes of a binding", caps.max_binding, least.max_binding - 256),
        ("bytes of a buffer", caps.max_buffer, least.max_buffer - 256),
        ("workgroups", u64::from(caps.max_groups), u64::from(least.max_groups)),
        ("invocations of a workgroup", u64::from(caps.max_invocations), u64::from(least.max_invocations)),
        ("bytes of workgroup memory", u64::from(caps.workgroup_bytes), u64::from(least.workgroup_bytes)),
    ];
    let lack = lacks.into_iter().find(|(_, has, needs)| has < needs);
    lack.map(|(what, has, needs)| format!("it has {has} {what}, {needs} are needed"))
}

/// Indices of `all`, best first, without those that are another way to the same GPU.
fn rank(all: &[&Facts]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for (i, facts) in all.iter().enumerate() {
        // A driver that two manifests name is found twice.
        let twice = |other: &Facts| {
            !facts.bus.is_empty()
                && (&facts.bus, facts.id, facts.interface) == (&other.bus, other.id, other.interface)
                && (&facts.driver, &facts.driver_version) == (&other.driver, &other.driver_version)
        };
        if !kept.iter().any(|k| twice(all[*k])) {
            kept.push(i);
        }
    }
    // Addresses are not told by every interface, so twins are paired by their order: the n-th of a model through one
    // interface is the n-th of it through another.
    let place = |i: usize| {
        let same = |k: &&usize| **k < i && (all[**k].id, all[**k].interface) == (all[i].id, all[i].interface);
        (all[i].id, kept.iter().filter(same).count())
    };
    let preference = |i: usize| (all[i].fault.is_some(), all[i].interface);
    let another_way = |i: usize| kept.iter().any(|&k| place(k) == place(i) && preference(k) < preference(i));
    let mut order: Vec<usize> = kept.iter().copied().filter(|&i| !another_way(i)).collect();
    order.sort_by_key(|&i| {
        let memory = all[i].memory.map_or(0, |m| m.total);
        (all[i].fault.is_some(), all[i].kind, std::cmp::Reverse(memory), all[i].interface, i)
    });
    order
}

/// The one of `all` (ranked) that is meant.
fn choose(all: &[&Facts], pick: Pick<'_>) -> Result<Option<usize>> {
    let names = || {
        let names: Vec<_> =
            all.iter().enumerate().map(|(i, f)| format!("{i} = {} ({})", f.name, f.interface)).collect();
        format!("the GPUs are {}", names.join(", "))
    };
    let works = |i: &usize| all[*i].fault.is_none();
    let hardware = || (0..all.len()).find(|i| works(i) && all[*i].kind != Kind::Software);
    let i = match pick {
        Pick::Hardware => return Ok(hardware()),
        _ if all.is_empty() => {
            return Err(Error::new(ErrorKind::Gpu, "no GPU was found")
                .with_hint("install the graphics driver of the GPU, or use the CPU (--device cpu)"));
        }
        Pick::Best => 0,
        Pick::Index(i) if i < all.len() => i,
        Pick::Index(i) => return Err(Error::new(ErrorKind::Usage, format!("there is no GPU {i}")).with_hint(names())),
        Pick::Name(name) => {
            let wanted = name.to_lowercase();
            let fits = |whole: bool| {
                let fit = move |n: &str| if whole { n == wanted } else { n.contains(&wanted) };
                (0..all.len()).filter(|i| fit(&all[*i].name.to_lowercase())).collect::<Vec<_>>()
            };
            let shown = printable(name);
            match [fits.clone()(true), fits(false)].iter().find(|f| !f.is_empty()).map(Vec::as_slice) {
                Some([one]) => *one,
                Some(_) => {
                    let text = format!("the name `{shown}` fits several GPUs");
                    return Err(Error::new(ErrorKind::Usage, text).with_hint(names()));
                }
                None => {
                    let text = format!("no GPU has a name with `{shown}`");
                    return Err(Error::new(ErrorKind::Usage, text).with_hint(names()));
                }
            }
        }
    };
    match &all[i].fault {
        None => Ok(Some(i)),
        Some(fault) => Err(Error::new(ErrorKind::Gpu, format!("the GPU `{}` cannot be used: {fault}", all[i].name))
            .with_hint("use another one (tealight devices), or the CPU (--device cpu)")),
    }
}

#[cfg(test)]
mod tests;
