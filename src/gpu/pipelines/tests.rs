//! One kernel over data of the caller, for tests of single kernels: buffers go up, the kernel runs once, all buffers
//! come back.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::*;
use crate::gpu::device::adapters;

static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();

/// The device of the tests: the first adapter; `None` where there is none, unless one is required.
pub fn gpu() -> Option<Arc<Gpu>> {
    let opened = GPU.get_or_init(|| adapters().first().map(|a| Gpu::open(a).expect("the adapter opens")));
    assert!(opened.is_some() || std::env::var_os("TEALIGHT_REQUIRE_GPU").is_none(), "no GPU adapter");
    if opened.is_none() {
        println!("skipped: no GPU adapter");
    }
    opened.clone()
}

/// The kernel of the tests' device, compiled once for all tests: software drivers take most of their time for that.
pub(super) fn shared(
    gpu: &Arc<Gpu>,
    kernel: &Kernel,
    checked: bool,
    compile: impl FnOnce() -> Result<wgpu::ComputePipeline>,
) -> Result<wgpu::ComputePipeline> {
    static COMPILED: Mutex<Option<HashMap<(Kernel, bool), wgpu::ComputePipeline>>> = Mutex::new(None);
    let is_shared = GPU.get().and_then(Option::as_ref).is_some_and(|shared| Arc::ptr_eq(shared, gpu));
    if !is_shared {
        return compile();
    }
    let lock = || COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (kernel.clone(), checked);
    let found = lock().get_or_insert_default().get(&key).cloned();
    match found {
        Some(pipeline) => Ok(pipeline),
        None => {
            let pipeline = compile()?;
            lock().get_or_insert_default().insert(key, pipeline.clone());
            Ok(pipeline)
        }
    }
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
