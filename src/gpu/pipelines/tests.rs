//! One kernel over data of the caller, for tests of single kernels: buffers go up, the kernel runs once, all buffers
//! come back.

use super::*;
use crate::gpu::device::adapters;

/// The device of the tests: the first adapter; `None` where there is none, unless one is required.
pub fn gpu() -> Option<Arc<Gpu>> {
    static GPU: std::sync::OnceLock<Option<Arc<Gpu>>> = std::sync::OnceLock::new();
    let opened = GPU.get_or_init(|| adapters().first().map(|a| Gpu::open(a).expect("the adapter opens")));
    assert!(opened.is_some() || std::env::var_os("TEALIGHT_REQUIRE_GPU").is_none(), "no GPU adapter");
    if opened.is_none() {
        println!("skipped: no GPU adapter");
    }
    opened.clone()
}

/// Runs `kernel` over `buffers` (bytes by slot) with `grid` workgroups, and returns them as they are afterwards.
pub(in crate::gpu) fn run(
    gpu: &Arc<Gpu>,
    kernel: &Kernel,
    buffers: &[&[u8]],
    grid: [u32; 3],
    checked: bool,
) -> Vec<Vec<u8>> {
    let mut pipelines = Pipelines::new(gpu.clone(), checked);
    let pipeline = pipelines.get(kernel).unwrap_or_else(|e| panic!("{e}\n{}", kernel.text()));
    let up = |(slot, bytes): (&Slot, &&[u8])| {
        let buffer = match slot {
            Slot::Uniform => gpu.uniform("test", bytes.len() as u64),
            _ => gpu.storage("test", bytes.len() as u64),
        };
        let buffer = buffer.unwrap();
        gpu.queue.write_buffer(&buffer, 0, bytes);
        buffer
    };
    let on_gpu: Vec<_> = kernel.slots.iter().zip(buffers).map(up).collect();
    let ranges: Vec<_> = on_gpu.iter().map(Range::all).collect();
    let group = pipelines.bind(kernel.slots, &ranges);
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
    }
    let back: Vec<_> = kernel
        .slots
        .iter()
        .zip(&on_gpu)
        .map(|(slot, buffer)| {
            let back = gpu.readback("test", buffer.size()).unwrap();
            if *slot != Slot::Uniform {
                encoder.copy_buffer_to_buffer(buffer, 0, &back, 0, buffer.size());
            }
            back
        })
        .collect();
    gpu.queue.submit([encoder.finish()]);
    back.iter()
        .zip(buffers)
        .map(|(b, bytes)| gpu.read(b, b.size(), |got| got[..bytes.len()].to_vec()).unwrap())
        .collect()
}
