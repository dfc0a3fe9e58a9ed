//! One opened GPU: its queue, what it can do, and what went wrong on it.
//!
//! wgpu reports failures by callbacks and its default handlers panic. Here every failure becomes a value: errors and
//! the loss of the device are remembered by handlers that are set first thing, and [`Gpu::check`] turns them into an
//! [`Error`]. A device that is lost stays lost; nothing read from it afterwards is ever used.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::hal;
use crate::error::{Error, ErrorKind, Result};

/// Longest wait for work in flight. A device that takes longer is taken for lost.
const PATIENCE: Duration = Duration::from_secs(10);

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

    /// The capabilities that both have.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            subgroups: self.subgroups && other.subgroups,
            f16: self.f16 && other.f16,
            int8_dot: self.int8_dot && other.int8_dot,
            max_binding: self.max_binding.min(other.max_binding),
            max_buffer: self.max_buffer.min(other.max_buffer),
            max_groups: self.max_groups.min(other.max_groups),
            max_invocations: self.max_invocations.min(other.max_invocations),
            workgroup_bytes: self.workgroup_bytes.min(other.workgroup_bytes),
            checked: self.checked || other.checked,
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
    caps: Caps,
    name: String,
    faults: Arc<Mutex<Faults>>,
}

impl Gpu {
    /// Opens an adapter with every wanted feature that it has and its own limits.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] when the driver refuses.
    pub(super) fn open(adapter: &wgpu::Adapter) -> Result<Arc<Self>> {
        use wgpu::Features as F;
        let wanted = F::SUBGROUP | F::SHADER_F16 | F::PIPELINE_CACHE | F::TIMESTAMP_QUERY;
        let info = adapter.get_info();
        let name = info.name.clone();
        let limits = adapter.limits();
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("tealight"),
            required_features: adapter.features() & wanted,
            required_limits: limits.clone(),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        });
        let (device, queue) = pollster::block_on(request)
            .map_err(|e| Error::new(ErrorKind::Gpu, format!("cannot open the GPU `{name}`: {e}")))?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let heard = faults.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            lock(&heard).first.get_or_insert_with(|| e.to_string());
        }));
        let heard = faults.clone();
        device.set_device_lost_callback(move |reason, text| {
            lock(&heard).lost.get_or_insert_with(|| format!("{reason:?}: {text}"));
        });
        let features = device.features();
        let caps = Caps {
            subgroups: features.contains(F::SUBGROUP),
            f16: features.contains(F::SHADER_F16),
            int8_dot: info.backend != wgpu::Backend::Metal,
            max_binding: (limits.max_storage_buffer_binding_size as u64) & !255,
            max_buffer: limits.max_buffer_size & !255,
            max_groups: limits.max_compute_workgroups_per_dimension,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            checked: false,
        };
        Ok(Arc::new(Self { device, queue, caps, name, faults }))
    }

    /// What it can do.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An error if anything went wrong since the device was opened.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`].
    pub fn check(&self) -> Result<()> {
        let faults = lock(&self.faults);
        match faults.lost.as_ref().map(|e| ("was lost", e)).or(faults.first.as_ref().map(|e| ("failed", e))) {
            Some((what, e)) => {
                let text = crate::error::printable(e);
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
        self.buffer(label, size.next_multiple_of(16), wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)
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
        let size = size.next_multiple_of(4).max(16);
        let no_room = |why: &str| {
            let text = format!("the GPU `{}` has no room for {size} bytes ({label}): {why}", self.name);
            Error::new(ErrorKind::Memory, text)
                .with_hint("keep more layers on the CPU (-ngl N), or use a smaller context (-c)")
        };
        if size > self.caps.max_buffer {
            return Err(no_room(&format!("a buffer holds at most {} bytes", self.caps.max_buffer)));
        }
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let desc = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&desc);
        match pollster::block_on(memory.pop()) {
            Some(_) => Err(no_room("out of memory")),
            None => self.check().map(|()| buffer),
        }
    }

    /// Lets the queue recycle what it needs no more.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] when the device was lost.
    pub fn poll(&self) -> Result<()> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(wgpu::PollType::Poll)));
        if polled.is_err() {
            lock(&self.faults).lost.get_or_insert_with(|| "it does not answer".to_owned());
        }
        self.check()
    }

    /// Waits until everything submitted so far is done.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] when the device was lost or does not answer.
    pub fn wait(&self) -> Result<()> {
        let wait = wgpu::PollType::Wait { submission_index: None, timeout: Some(PATIENCE) };
        // A lost device makes `poll` panic.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(wait)));
        self.check()?;
        match polled {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                lock(&self.faults).lost.get_or_insert_with(|| format!("no answer for {} s", PATIENCE.as_secs()));
                self.device.destroy();
                self.check()
            }
        }
    }

    /// The bytes of a [`Gpu::readback`] buffer, after a submission that copied into it.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn read<R>(&self, buffer: &wgpu::Buffer, size: u64, take: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let lost = || Error::new(ErrorKind::Gpu, format!("the GPU `{}` gave no result", self.name));
        let (answer, answered) = mpsc::channel();
        buffer.map_async(wgpu::MapMode::Read, ..size, move |result| drop(answer.send(result.is_ok())));
        self.wait()?;
        // A thread that waited at the same time may have taken the answer, and passes it on when this wait is over.
        if answered.recv_timeout(PATIENCE) != Ok(true) {
            return Err(lost());
        }
        let taken = buffer.get_mapped_range(..size).map(|bytes| take(&bytes)).map_err(|_| lost());
        buffer.unmap();
        taken
    }

    /// Compiles a kernel. Validation errors are faults of ours; they name the kernel.
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
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let desc = wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(source.into()) };
        let module =
            if checked { self.device.create_shader_module(desc) } else { hal::unchecked_module(&self.device, desc) };
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: checked,
            },
            cache: None,
        });
        match pollster::block_on(scope.pop()) {
            None => self.check().map(|()| pipeline),
            Some(e) => Err(Error::new(ErrorKind::Gpu, format!("kernel `{label}` does not compile: {e}"))),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The adapters that wgpu finds, in its order.
pub(super) fn adapters() -> Vec<wgpu::Adapter> {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    desc.flags = wgpu::InstanceFlags::empty();
    pollster::block_on(wgpu::Instance::new(desc).enumerate_adapters(wgpu::Backends::all()))
}
