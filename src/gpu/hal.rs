//! What wgpu calls unsafe, and what its safe interface does not tell: shaders without bounds checks, caches of
//! compiled shaders, and the memory of a device. Sizes come from the driver's own interface, by way of wgpu's.
//!
//! Metal's size of memory is not told here: its interface cannot be named without a dependency of its own.
#![allow(unsafe_code)]

use super::adapters::Memory;

/// A shader module without run-time checks. Ours prove their indices themselves: every kernel clamps what it reads
/// and guards what it writes, and the tests run each of them with and without checks.
pub(super) fn unchecked_module(device: &wgpu::Device, desc: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    // SAFETY: the text is composed from this crate's own fragments, never from a model file, and its indices stay in
    // bounds for every parameter that `lower` writes: bindings are padded to whole groups, rows and columns are
    // clamped. Loops end, since their bounds are parameters.
    unsafe { device.create_shader_module_trusted(desc, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// A cache of compiled shaders, filled with what an earlier one gave; data of another driver are left out by wgpu and
/// the driver. The caller has checked that `data` are the bytes that were saved.
pub(super) fn pipeline_cache(device: &wgpu::Device, data: Option<&[u8]>) -> wgpu::PipelineCache {
    let desc = wgpu::PipelineCacheDescriptor { label: Some("tealight"), data, fallback: true };
    // SAFETY: the data are what `PipelineCache::get_data` returned: they come from a file of the user's own cache
    // folder whose length and checksum `pipeline_cache::unsealed` has compared.
    unsafe { device.create_pipeline_cache(&desc) }
}

/// Memory of the device, and how much of it this process may still take; `None` where the driver's interface is out of
/// reach.
pub(super) fn memory(adapter: &wgpu::Adapter) -> Option<Memory> {
    match adapter.get_info().backend {
        #[cfg(not(target_vendor = "apple"))]
        wgpu::Backend::Vulkan => vulkan::memory(adapter),
        #[cfg(windows)]
        wgpu::Backend::Dx12 => dx12::memory(adapter),
        _ => None,
    }
}

/// Are packed dot products of signed bytes instructions of the device, rather than sums of products? `None` where the
/// driver does not tell.
pub(super) fn packed_dot(adapter: &wgpu::Adapter) -> Option<bool> {
    match adapter.get_info().backend {
        #[cfg(not(target_vendor = "apple"))]
        wgpu::Backend::Vulkan => vulkan::packed_dot(adapter),
        _ => None,
    }
}

#[cfg(not(target_vendor = "apple"))]
mod vulkan {
    use ash::vk;

    use super::Memory;

    /// The largest heap on the device, which is where buffers of kernels go.
    pub fn memory(adapter: &wgpu::Adapter) -> Option<Memory> {
        // SAFETY: the handle is used within this function only, and nothing of it is destroyed.
        let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
        let shared = hal.shared_instance();
        if shared.instance_api_version() < vk::API_VERSION_1_1 {
            return None;
        }
        let tells_budget = hal.physical_device_capabilities().supports_extension(ash::ext::memory_budget::NAME);
        let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
        let mut properties = vk::PhysicalDeviceMemoryProperties2::default();
        if tells_budget {
            properties = properties.push_next(&mut budget);
        }
        // SAFETY: the physical device belongs to this instance, both outlive the call by the handle above, the
        // instance is of version 1.1, and what is chained is asked for only where the device has the extension.
        unsafe {
            shared.raw_instance().get_physical_device_memory_properties2(hal.raw_physical_device(), &mut properties);
        }
        let heaps = properties.memory_properties;
        let heaps = heaps.memory_heaps.iter().take(heaps.memory_heap_count as usize).enumerate();
        let local = heaps.filter(|(_, heap)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL));
        let (i, heap) = local.max_by_key(|(_, heap)| heap.size)?;
        let left = |i: usize| budget.heap_budget[i].saturating_sub(budget.heap_usage[i]).min(heap.size);
        Some(Memory { total: heap.size, budget: tells_budget.then(|| left(i)) })
    }

    /// As llama.cpp decides on its integer path: by what the driver calls accelerated.
    pub fn packed_dot(adapter: &wgpu::Adapter) -> Option<bool> {
        // SAFETY: as in `memory`.
        let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
        let shared = hal.shared_instance();
        let device = hal.physical_device_capabilities();
        let known = device.properties().api_version >= vk::API_VERSION_1_3
            || device.supports_extension(ash::khr::shader_integer_dot_product::NAME);
        if shared.instance_api_version() < vk::API_VERSION_1_1 || !known {
            return Some(false);
        }
        let mut dot = vk::PhysicalDeviceShaderIntegerDotProductProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut dot);
        // SAFETY: as in `memory`; the device has the extension, or the version that contains it.
        unsafe {
            shared.raw_instance().get_physical_device_properties2(hal.raw_physical_device(), &mut properties);
        }
        Some(dot.integer_dot_product4x8_bit_packed_signed_accelerated != vk::FALSE)
    }
}

#[cfg(windows)]
mod dx12 {
    use super::Memory;

    /// The local segment of the first node: dedicated memory, or that of the system on an integrated GPU.
    pub fn memory(adapter: &wgpu::Adapter) -> Option<Memory> {
        // SAFETY: the handle is used within this function only, and nothing of it is destroyed.
        let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Dx12>() }?;
        let dxgi = hal.raw_adapter();
        // SAFETY: the adapter is alive by the handle above.
        let desc = unsafe { dxgi.GetDesc2() }.ok()?;
        // The types are not re-exported; their defaults are the local segment and zeros.
        let mut info = Default::default();
        // SAFETY: as above; `info` is a plain structure of the type that the call writes.
        unsafe { dxgi.QueryVideoMemoryInfo(0, Default::default(), &mut info) }.ok()?;
        let dedicated = desc.DedicatedVideoMemory as u64;
        let total = if dedicated > 512 << 20 { dedicated } else { dedicated + desc.SharedSystemMemory as u64 };
        Some(Memory { total, budget: Some(info.Budget.saturating_sub(info.CurrentUsage).min(total)) })
    }
}
