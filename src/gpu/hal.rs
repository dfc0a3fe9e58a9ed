//! What wgpu calls unsafe: shaders without bounds checks.
#![allow(unsafe_code)]

/// A shader module without run-time checks. Ours prove their indices themselves: every kernel clamps what it reads
/// and guards what it writes, and the tests run each of them with and without checks.
pub(super) fn unchecked_module(device: &wgpu::Device, desc: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    // SAFETY: the text is composed from this crate's own fragments, never from a model file, and its indices stay in
    // bounds for every parameter that `lower` writes: bindings are padded to whole groups, rows and columns are
    // clamped. Loops end, since their bounds are parameters.
    unsafe { device.create_shader_module_trusted(desc, wgpu::ShaderRuntimeChecks::unchecked()) }
}
