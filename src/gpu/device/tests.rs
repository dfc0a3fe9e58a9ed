use std::path::PathBuf;

use super::*;
use crate::gpu::adapters::{self, Adapter};

/// wgpu's back-end that computes nothing, with limits of ours: validation, buffers and copies are real.
fn noop(change: impl FnOnce(&mut wgpu::Limits)) -> Arc<Gpu> {
    let mut limits = wgpu::Limits::defaults();
    change(&mut limits);
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.backends = wgpu::Backends::NOOP;
    let noop = wgpu::NoopBackendOptions { limits: Some(limits), ..wgpu::NoopBackendOptions::enabled() };
    desc.backend_options.noop = noop;
    let found = adapters::found_by(desc);
    let [Adapter { facts, handle }] = found.as_slice() else { panic!("one adapter") };
    assert_eq!(facts.interface, adapters::Interface::Other);
    Gpu::open(handle).expect("it opens")
}

/// A real driver, or `None` with a word about it.
fn real() -> Option<Arc<Gpu>> {
    let opened = adapters().first().map(|a| Gpu::open(a).expect("the adapter opens"));
    assert!(opened.is_some() || std::env::var_os("TEALIGHT_REQUIRE_GPU").is_none(), "no GPU adapter");
    if opened.is_none() {
        println!("skipped: no GPU adapter");
    }
    opened
}

const KERNEL: &str = "@group(0) @binding(0) var<storage, read_write> o: array<u32>;
@compute @workgroup_size(1) fn main() { o[0] = o[1] + SHIFT; }";

fn kernel(shift: u32) -> String {
    format!("const SHIFT = {shift}u;\n{KERNEL}")
}

fn layout(gpu: &Gpu) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
    let ty = wgpu::BufferBindingType::Storage { read_only: false };
    let entry = wgpu::BindGroupLayoutEntry {
        binding: 0,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let desc = wgpu::BindGroupLayoutDescriptor { label: None, entries: &[entry] };
    let group = gpu.device.create_bind_group_layout(&desc);
    let bind_group_layouts = &[Some(&group)];
    let desc = wgpu::PipelineLayoutDescriptor { label: None, bind_group_layouts, immediate_size: 0 };
    let layout = gpu.device.create_pipeline_layout(&desc);
    (group, layout)
}

/// Runs a pipeline of [`KERNEL`] over [0, 5] and returns the first number.
fn run(gpu: &Gpu, pipeline: &wgpu::ComputePipeline, group: &wgpu::BindGroupLayout) -> u32 {
    let (data, back) = (gpu.storage("data", 16).unwrap(), gpu.readback("back", 16).unwrap());
    gpu.queue.write_buffer(&data, 0, &[0, 0, 0, 0, 5, 0, 0, 0]);
    let entry = wgpu::BindGroupEntry { binding: 0, resource: data.as_entire_binding() };
    let desc = wgpu::BindGroupDescriptor { label: None, layout: group, entries: &[entry] };
    let group = gpu.device.create_bind_group(&desc);
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
    encoder.copy_buffer_to_buffer(&data, 0, &back, 0, 16);
    gpu.queue.submit([encoder.finish()]);
    gpu.read(&back, 16, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).unwrap()
}

/// A folder of its own for a test, empty.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tealight-device-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// The device still takes bytes and gives them back.
fn check_usable(gpu: &Gpu) {
    let (data, back) = (gpu.storage("data", 5).unwrap(), gpu.readback("back", 8).unwrap());
    assert_eq!((data.size(), gpu.uniform("params", 1).unwrap().size()), (16, 16));
    gpu.queue.write_buffer(&data, 0, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(&data, 0, &back, 0, 8);
    gpu.queue.submit([encoder.finish()]);
    assert_eq!(gpu.read(&back, 8, <[u8]>::to_vec).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    gpu.check().unwrap();
}

#[test]
fn a_buffer_that_is_too_large_is_refused_and_the_device_goes_on() {
    let all = [Some(noop(|l| (l.max_buffer_size, l.max_storage_buffer_binding_size) = (4 << 20, 1 << 20))), real()];
    for gpu in all.iter().flatten() {
        let max = gpu.caps().max_buffer;
        for size in [max + 1, max * 2, u64::MAX - 3, u64::MAX] {
            for make in [Gpu::storage, Gpu::uniform, Gpu::readback] {
                let error = make(gpu, "weights", size).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
                assert!(error.to_string().contains("weights") && error.hint().is_some(), "{error}");
            }
        }
        check_usable(gpu);
    }
}

#[test]
fn memory_that_runs_out_is_an_error_and_the_device_goes_on() {
    // More than any machine has: the back-end's own allocation fails.
    let gpu = noop(|l| l.max_buffer_size = 1 << 62);
    let error = gpu.storage("cache", 1 << 60).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
    assert!(error.to_string().contains("out of memory"), "{error}");
    check_usable(&gpu);
}

#[test]
fn after_its_end_a_device_only_fails() {
    for gpu in [Some(noop(|_| {})), real()].iter().flatten() {
        let back = gpu.readback("back", 16).unwrap();
        let (_, layout) = layout(gpu);
        let cache = folder("end");
        gpu.load_pipelines(&cache);
        gpu.destroy();
        gpu.destroy();
        let errors = [
            gpu.check().err(),
            gpu.wait().err(),
            gpu.storage("x", 16).err(),
            gpu.uniform("x", 16).err(),
            gpu.readback("x", 16).err(),
            gpu.read(&back, 16, <[u8]>::to_vec).err(),
            gpu.pipeline("kernel", &kernel(1), &layout, true).err(),
            gpu.pipeline("kernel", &kernel(1), &layout, false).err(),
            gpu.save_pipelines(&cache).err(),
        ];
        for (i, error) in errors.iter().enumerate() {
            let error = error.as_ref().unwrap_or_else(|| panic!("call {i} succeeds"));
            assert_eq!(error.kind(), ErrorKind::Gpu, "call {i}: {error}");
            assert!(error.to_string().contains("destroyed") && error.hint().is_some(), "call {i}: {error}");
        }
        assert_eq!((gpu.memory(), cache.exists()), (None, false));
        assert!(!gpu.load_pipelines(&cache) && !gpu.name().is_empty() && !gpu.key().is_empty());
    }
}

#[test]
fn a_device_that_ends_with_work_in_flight_gives_no_result() {
    let Some(gpu) = real() else { return };
    let (data, back) = (gpu.storage("data", 1 << 20).unwrap(), gpu.readback("back", 1 << 20).unwrap());
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(&data, 0, &back, 0, 1 << 20);
    gpu.queue.submit([encoder.finish()]);
    gpu.device.destroy();
    // The loss is heard of at the latest by the one who wants the result.
    assert_eq!(gpu.read(&back, 1 << 20, <[u8]>::len).unwrap_err().kind(), ErrorKind::Gpu);
    assert_eq!(gpu.wait().unwrap_err().kind(), ErrorKind::Gpu);
}

#[test]
fn a_fault_that_nobody_waits_for_is_heard() {
    let gpu = noop(|_| {});
    let small = gpu.storage("small", 16).unwrap();
    gpu.queue.write_buffer(&small, 12, &[0; 8]);
    let error = gpu.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gpu, "{error}");
    assert_eq!(gpu.storage("next", 16).unwrap_err().kind(), ErrorKind::Gpu);
}

#[test]
fn kernels_are_compiled_by_several_threads_and_a_wrong_one_fails_alone() {
    let Some(gpu) = real() else { return };
    let (group, layout) = layout(&gpu);
    std::thread::scope(|scope| {
        let (gpu, group, layout) = (&gpu, &group, &layout);
        let threads: Vec<_> = (0..4)
            .map(|i| {
                scope.spawn(move || {
                    if i == 2 {
                        let text = "@compute @workgroup_size(1) fn main() { let x: u32 = 1.5; }";
                        let error = gpu.pipeline("wrong", text, layout, i % 2 == 0).unwrap_err();
                        assert!(error.to_string().contains("`wrong` does not compile"), "{error}");
                        return;
                    }
                    let pipeline = gpu.pipeline("right", &kernel(i), layout, i % 2 == 0).unwrap();
                    assert_eq!(run(gpu, &pipeline, group), 5 + i);
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().expect("no thread panics"));
    });
    check_usable(&gpu);
}

#[test]
fn compiled_kernels_are_kept_and_damaged_ones_left_out() {
    let Some(first) = real() else { return };
    let folder = folder("pipelines").join("below");
    let Some(name) = first.cache_name() else {
        println!("skipped: {} keeps no compiled kernels", first.name());
        return;
    };
    let path = folder.join(name);
    let compile = |gpu: &Gpu| {
        let (group, layout) = layout(gpu);
        let pipeline = gpu.pipeline("kernel", &kernel(7), &layout, false).unwrap();
        assert_eq!(run(gpu, &pipeline, &group), 12);
        gpu.save_pipelines(&folder).unwrap();
        assert!(pipeline_cache::read(&path, gpu.cache_stamp()).is_some());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    };
    assert!(!first.load_pipelines(&folder));
    compile(&first);
    let again = || real().expect("it was there before");
    let second = again();
    assert!(second.load_pipelines(&folder));
    compile(&second);

    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&b""[..], b"TLPIPE01", &whole[..whole.len() - 1], &flipped, &[0; 4096]] {
        std::fs::write(&path, damaged).unwrap();
        let gpu = again();
        assert!(!gpu.load_pipelines(&folder));
        compile(&gpu);
    }
    // Whole, but not what a driver gave: wgpu leaves it out.
    pipeline_cache::write(&path, first.cache_stamp(), b"not a cache of any driver").unwrap();
    let gpu = again();
    gpu.load_pipelines(&folder);
    compile(&gpu);
    // A folder that is a file.
    let error = first.save_pipelines(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    std::fs::remove_dir_all(folder.parent().unwrap()).unwrap();
}

#[test]
fn a_device_has_the_same_key_each_time_and_tells_its_memory() {
    let (Some(one), Some(two)) = (real(), real()) else { return };
    assert_eq!(one.key(), two.key());
    assert!(one.key().contains(one.name()), "{}", one.key());
    assert_ne!(one.key(), noop(|_| {}).key());
    println!("{}: {:?}, {:?}, {:?}", one.key(), one.kind(), one.memory(), one.caps());
    if let Some(memory) = one.memory() {
        assert!(memory.total > 1 << 20 && memory.budget.is_none_or(|b| b <= memory.total), "{memory:?}");
    }
    assert_eq!(noop(|_| {}).memory(), None);
}

#[test]
fn limits_take_capabilities_away_and_give_none() {
    let gpu = noop(|_| {});
    let caps = gpu.caps();
    assert!(caps.subgroups && caps.f16);
    assert_eq!(caps.limited_to(GpuVariant::Auto, u64::MAX), *caps);
    assert_eq!(caps.limited_to(GpuVariant::Auto, 4099), Caps { max_binding: 4096, ..caps.clone() });
    let plain = caps.limited_to(GpuVariant::Plain, 4099);
    assert!(!plain.subgroups && !plain.f16 && !plain.int8_dot && plain.max_binding == 4096);
    assert_eq!((plain.max_buffer, plain.max_groups), (caps.max_buffer, caps.max_groups));
    assert_eq!(Caps::BASELINE.limited_to(GpuVariant::Auto, u64::MAX), Caps::BASELINE);
}
