//! One opened GPU: its queue, what it can do, and what went wrong on it.
//!
//! wgpu reports failures by callbacks and its default handlers panic. Here every failure becomes a value: errors and
//! the loss of the device are remembered by handlers that are set first thing, and [`Gpu::check`] turns them into an
//! [`Error`]. A device that is lost stays lost; nothing read from it afterwards is ever used.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use super::adapters::{self, Kind, Memory, caught};
use super::{compose, hal, pipeline_cache};
use crate::error::{Error, ErrorKind, Result, printable};
use crate::knobs::GpuVariant;

/// Longest wait for work in flight. A device that takes longer is taken for lost. Software on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_WITH_SOFTWARE: Duration = Duration::from_secs(300);

/// What a device can do beyond plain WebGPU, and its limits; chooses the variants of kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Sums over a subgroup.
    pub subgroups: bool,
    /// f16 arithmetic and storage in shaders.
    pub f16: bool,
    /// Packed int8 dot products that are faster than four multiplications.
    pub int8_dot: bool,
    /// Largest range that one binding shows, in bytes.
    pub max_binding: u64,
    /// Largest buffer, in bytes.
    pub max_buffer: u64,
    /// Largest number of workgroups in one dimension.
    pub max_groups: u32,
    /// Largest number of invocations of a workgroup.
    pub max_invocations: u32,
    /// Workgroup memory in bytes.
    pub workgroup_bytes: u32,
    /// Bounds checks in shaders; without them a kernel vouches for its indices.
    pub checked: bool,
}

impl Caps {
    /// What every WebGPU device can do.
    pub const BASELINE: Self = Self {
        subgroups: false,
        f16: false,
        int8_dot: false,
        max_binding: 128 << 20,
        max_buffer: 256 << 20,
        max_groups: 65_535,
        max_invocations: 256,
        workgroup_bytes: 16 << 10,
        checked: true,
    };

    /// What is left of it for kernels of `variant` whose bindings show at most `max_binding` bytes.
    #[must_use]
    pub fn limited_to(&self, variant: GpuVariant, max_binding: u64) -> Self {
        let max_binding = self.max_binding.min(max_binding & !255);
        match variant {
            GpuVariant::Auto => Self { max_binding, ..self.clone() },
            GpuVariant::Plain => {
                let max_invocations = self.max_invocations.min(Self::BASELINE.max_invocations);
                Self { subgroups: false, f16: false, int8_dot: false, max_binding, max_invocations, ..self.clone() }
            }
        }
    }

    /// What an adapter can do.
    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
        let is_software = info.device_type == wgpu::DeviceType::Cpu;
        let int8_dot = match info.backend {
            // Four multiplications in disguise; llama.cpp measured a loss on Apple's GPUs.
            wgpu::Backend::Metal => false,
            // A software driver gains nothing, and takes the path of the GPUs that it stands in for.
            _ => is_software || hal::packed_dot(adapter).unwrap_or(features.contains(wgpu::Features::SUBGROUP)),
        };
        Self {
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            f16: features.contains(wgpu::Features::SHADER_F16),
            int8_dot,
            max_binding: limits.max_storage_buffer_binding_size & !255,
            max_buffer: limits.max_buffer_size & !255,
            max_groups: limits.max_compute_workgroups_per_dimension,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            checked: false,
        }
    }
}

/// What handlers have heard.
#[derive(Default)]
struct Faults {
    lost: Option<String>,
    first: Option<String>,
}

/// An opened GPU.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    adapter: wgpu::Adapter,
    caps: Caps,
    name: String,
    key: String,
    kind: Kind,
    faults: Arc<Mutex<Faults>>,
    /// Compiled shaders; the cache of the driver, once it was asked for.
    cache: OnceLock<Option<wgpu::PipelineCache>>,
}

impl Gpu {
    /// Opens an adapter with every wanted feature that it has and its own limits.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] when the driver refuses.
    pub(super) fn open(adapter: &wgpu::Adapter) -> Result<Arc<Self>> {
        let name = printable(adapter.get_info().name.trim());
        let cannot = |e: String| {
            Error::new(ErrorKind::Gpu, format!("cannot open the GPU `{name}`: {e}"))
                .with_hint("use the CPU (--device cpu), or update the graphics driver")
        };
        let opened = caught("opening a GPU", || Self::try_open(adapter, &name).map_err(|e| e.to_string()))?;
        opened.map(Arc::new).map_err(|e| cannot(printable(&e)))
    }

    fn try_open(adapter: &wgpu::Adapter, name: &str) -> std::result::Result<Self, wgpu::RequestDeviceError> {
        use wgpu::Features as F;
        let wanted = F::SUBGROUP | F::SHADER_F16 | F::PIPELINE_CACHE | F::TIMESTAMP_QUERY;
        let mut limits = adapter.limits();
        // DX12 sets so many descriptors aside; the default is a million.
        limits.max_non_sampler_bindings = limits.max_non_sampler_bindings.min(10_000);
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("tealight"),
            required_features: adapter.features() & wanted,
            required_limits: limits,
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        });
        let (device, queue) = pollster::block_on(request)?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let heard = faults.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            lock(&heard).first.get_or_insert_with(|| e.to_string());
        }));
        let heard = faults.clone();
        device.set_device_lost_callback(move |reason, text| {
            lock(&heard).lost.get_or_insert_with(|| format!("{reason:?}: {text}"));
        });
        let facts = adapters::facts(adapter);
        let (vendor, id) = facts.id;
        let key = format!(
            "{}/{vendor:04x}:{id:04x}/{}/{}/{}",
            facts.interface, facts.name, facts.driver, facts.driver_version
        );
        let (adapter, cache) = (adapter.clone(), OnceLock::new());
        let (caps, kind) = (facts.caps, facts.kind);
        Ok(Self { device, queue, adapter, caps, name: name.to_owned(), key, kind, faults, cache })
    }

    /// What it can do.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What distinguishes it from other devices and drivers: interface, model, name, driver and its version. The
    /// same text as long as none of them changes, for keys of what was found out about it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it is.
    #[cfg(test)]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its memory, and how much of it is left at this moment; `None` where the driver does not tell, or the device is
    /// lost.
    pub fn memory(&self) -> Option<Memory> {
        self.call(|| hal::memory(&self.adapter)).ok().flatten()
    }

    /// Gives the device back to the driver: everything fails from here on, as after a loss.
    #[cfg(test)]
    pub fn destroy(&self) {
        self.lose("it was destroyed");
    }

    /// Remembers that the device is gone and lets go of it.
    fn lose(&self, why: &str) {
        lock(&self.faults).lost.get_or_insert_with(|| why.to_owned());
        // A driver that fails here has failed before; the first reason is the one to tell.
        let _ = caught("closing a GPU", || self.device.destroy());
    }

    /// Calls wgpu, which panics on some failures of drivers; the device is lost then.
    fn call<R>(&self, f: impl FnOnce() -> R) -> Result<R> {
        self.check()?;
        caught("using a GPU", f).inspect_err(|e| self.lose(&e.to_string()))
    }

    /// An error if anything went wrong since the device was opened.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`].
    pub fn check(&self) -> Result<()> {
        let faults = lock(&self.faults);
        match faults.lost.as_ref().map(|e| ("was lost", e)).or(faults.first.as_ref().map(|e| ("failed", e))) {
            Some((what, e)) => {
                let text = printable(e);
                Err(Error::new(ErrorKind::Gpu, format!("the GPU `{}` {what}: {text}", self.name))
                    .with_hint("use the CPU (--device cpu), or update the graphics driver"))
            }
            None => Ok(()),
        }
    }

    /// A buffer for kernels, of `size` bytes rounded up to 4.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`] when the device has no room, [`ErrorKind::Gpu`] when it failed.
    pub fn storage(&self, label: &str, size: u64) -> Result<wgpu::Buffer> {
        use wgpu::BufferUsages as U;
        self.buffer(label, size, U::STORAGE | U::COPY_DST | U::COPY_SRC)
    }

    /// A buffer for parameters, of `size` bytes rounded up to 16.
    ///
    /// # Errors
    /// As [`Gpu::storage`].
    pub fn uniform(&self, label: &str, size: u64) -> Result<wgpu::Buffer> {
        self.buffer(label, size, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)
    }

    /// A buffer that the CPU reads.
    ///
    /// # Errors
    /// As [`Gpu::storage`].
    pub fn readback(&self, label: &str, size: u64) -> Result<wgpu::Buffer> {
        self.buffer(label, size, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }

    fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        self.check()?;
        let no_room = |why: &str| {
            let text = format!("the GPU `{}` has no room for {size} bytes ({label}): {why}", self.name);
            Error::new(ErrorKind::Memory, text)
                .with_hint("keep more layers on the CPU (-ngl N), or use a smaller context (-c)")
        };
        if size > self.caps.max_buffer {
            return Err(no_room(&format!("a buffer holds at most {} bytes", self.caps.max_buffer)));
        }
        // The largest size is a multiple of 256, so a size that is rounded up does not pass it.
        let step = if usage.contains(wgpu::BufferUsages::UNIFORM) { 16 } else { 4 };
        let rounded = size.next_multiple_of(step).max(16);
        let (buffer, fault) = self.call(|| {
            let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let desc = wgpu::BufferDescriptor { label: Some(label), size: rounded, usage, mapped_at_creation: false };
            let buffer = self.device.create_buffer(&desc);
            (buffer, pollster::block_on(memory.pop()))
        })?;
        match fault {
            Some(_) => Err(no_room("out of memory")),
            None => self.check().map(|()| buffer),
        }
    }

    /// Lets the queue recycle what it needs no more.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] when the device was lost.
    pub fn poll(&self) -> Result<()> {
        // An error is a timeout, and this does not wait.
        let _ = self.call(|| self.device.poll(wgpu::PollType::Poll))?;
        self.check()
    }

    const fn patience(&self) -> Duration {
        match self.kind {
            Kind::Software => PATIENCE_WITH_SOFTWARE,
            _ => PATIENCE,
        }
    }

    /// Waits until everything submitted so far is done.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] when the device was lost or does not answer.
    pub fn wait(&self) -> Result<()> {
        let wait = wgpu::PollType::Wait { submission_index: None, timeout: Some(self.patience()) };
        // A lost device makes `poll` panic.
        let polled = self.call(|| self.device.poll(wait))?;
        if polled.is_err() {
            self.lose(&format!("no answer for {} s", self.patience().as_secs()));
        }
        self.check()
    }

    /// The bytes of a [`Gpu::readback`] buffer, after a submission that copied into it.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn read<R>(&self, buffer: &wgpu::Buffer, size: u64, take: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let lost = || Error::new(ErrorKind::Gpu, format!("the GPU `{}` gave no result", self.name));
        let (answer, answered) = mpsc::channel();
        self.call(|| {
            buffer.map_async(wgpu::MapMode::Read, ..size, move |r| {
                let _ = answer.send(r.is_ok());
            })
        })?;
        self.wait()?;
        // A thread that waited at the same time may have taken the answer, and passes it on when this wait is over.
        if answered.recv_timeout(self.patience()) != Ok(true) {
            return Err(lost());
        }
        // `take` is the caller's: its panics are not the driver's.
        let taken = buffer.get_mapped_range(..size).map(|bytes| take(&bytes)).map_err(|_| lost());
        buffer.unmap();
        taken
    }

    /// Compiles a kernel; several threads may do so at once. Validation errors are faults of ours; they name the
    /// kernel.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] when the driver or wgpu refuses it.
    pub(super) fn pipeline(
        &self,
        label: &str,
        source: &str,
        layout: &wgpu::PipelineLayout,
        checked: bool,
    ) -> Result<wgpu::ComputePipeline> {
        let (pipeline, fault) = self.call(|| {
            let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
            let source = wgpu::ShaderSource::Wgsl(source.into());
            let desc = wgpu::ShaderModuleDescriptor { label: Some(label), source };
            let module = match checked {
                true => self.device.create_shader_module(desc),
                false => hal::unchecked_module(&self.device, desc),
            };
            let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(label),
                layout: Some(layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    zero_initialize_workgroup_memory: checked,
                },
                cache: self.cache.get().and_then(Option::as_ref),
            });
            (pipeline, pollster::block_on(scope.pop()))
        })?;
        match fault {
            None => self.check().map(|()| pipeline),
            Some(e) => Err(Error::new(ErrorKind::Gpu, format!("kernel `{label}` does not compile: {e}"))),
        }
    }

    /// Takes compiled shaders from `folder`, if an earlier [`Gpu::save_pipelines`] left some of this kind of GPU; to
    /// be called before the first kernel is compiled. Says whether there were any; damaged ones do not count.
    pub fn load_pipelines(&self, folder: &Path) -> bool {
        let mut found = false;
        self.cache.get_or_init(|| {
            let name = self.cache_name()?;
            let data = pipeline_cache::read(&folder.join(name), self.cache_stamp());
            found = data.is_some();
            let made = self.call(|| {
                let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
                let cache = hal::pipeline_cache(&self.device, data.as_deref());
                (cache, pollster::block_on(scope.pop()))
            });
            made.ok().and_then(|(cache, fault)| fault.is_none().then_some(cache))
        });
        found
    }

    /// Leaves the shaders compiled so far in `folder`, for [`Gpu::load_pipelines`]. Nothing happens on devices without
    /// such a cache, or when it was not loaded first.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be written, [`ErrorKind::Memory`] when the disk is full; as
    /// [`Gpu::check`].
    pub fn save_pipelines(&self, folder: &Path) -> Result<()> {
        self.check()?;
        let (Some(Some(cache)), Some(name)) = (self.cache.get(), self.cache_name()) else { return Ok(()) };
        let path = folder.join(name);
        match self.call(|| cache.get_data())? {
            Some(data) if pipeline_cache::read(&path, self.cache_stamp()).as_ref() != Some(&data) => {
                pipeline_cache::write(&path, self.cache_stamp(), &data)
                    .map_err(|e| Error::io("cannot keep compiled shaders", &path, e))
            }
            _ => Ok(()),
        }
    }

    /// What the compiled shaders of a file belong to: device, driver, its version, and our texts.
    fn cache_stamp(&self) -> u64 {
        pipeline_cache::checksum(compose::fingerprint(), self.key().as_bytes())
    }

    /// Name of the file of compiled shaders, on devices that have a cache of them.
    fn cache_name(&self) -> Option<String> {
        let has = self.device.features().contains(wgpu::Features::PIPELINE_CACHE);
        has.then(|| wgpu::util::pipeline_cache_key(&self.adapter.get_info())).flatten()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The adapters of this machine, for tests.
#[cfg(test)]
pub(super) fn adapters() -> Vec<wgpu::Adapter> {
    adapters::found().expect("drivers answer").into_iter().map(|a| a.handle).collect()
}

#[cfg(test)]
mod tests;
