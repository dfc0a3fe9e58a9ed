//! A device that goes away, and one without room: errors of the right kind, and never a wrong number.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::fixtures::own;
use super::support::{Model, Wanted, backend, pass, rows};
use crate::error::ErrorKind;
use crate::gpu::device::adapters;
use crate::gpu::pipelines::testing;
use crate::gpu::{Gpu, GpuOptions, GpuSequence, adapters as all_adapters};
use crate::plan::{Backend, CacheType, Rows, SequenceMemory};

const F16: CacheType = CacheType::F16;

/// A device that no other test uses.
fn alone() -> Option<Arc<Gpu>> {
    testing::gpu()?;
    Some(Gpu::open(adapters().first()?).unwrap())
}

/// A device that computes nothing, with limits of ours.
fn noop(change: impl FnOnce(&mut wgpu::Limits)) -> Arc<Gpu> {
    let mut limits = wgpu::Limits::defaults();
    change(&mut limits);
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.backends = wgpu::Backends::NOOP;
    desc.backend_options.noop =
        wgpu::NoopBackendOptions { limits: Some(limits), ..wgpu::NoopBackendOptions::enabled() };
    Gpu::open(&all_adapters::found_by(desc)[0].handle).unwrap()
}

/// Feeds one token.
fn token<B: Backend>(backend: &mut B, sequence: &mut B::Sequence, token: u32) -> crate::Result<Vec<f32>> {
    let mut out = vec![7.0];
    let pos = [sequence.len()];
    let rows = Rows { token: &[token], pos: &pos, seq: &[0], want: &[0], input: &[] };
    let result = backend.run(&rows, &mut [sequence], None, &AtomicBool::new(false), &mut out);
    assert!(result.is_ok() || out == [7.0], "numbers of a run that failed");
    result.map(|()| out)
}

#[test]
fn a_device_that_is_lost_while_text_is_written_is_an_error_from_then_on() {
    let Some(gpu) = alone() else { return };
    let fixture = own("llama31");
    let mut backend = backend(&gpu, &fixture.plan, &*fixture.weights, &GpuOptions::default()).unwrap();
    let mut sequence = GpuSequence::new(&gpu, &fixture.plan, 64, 64, F16, F16).unwrap();
    for t in 0..3 {
        token(&mut backend, &mut sequence, t).unwrap();
    }
    gpu.destroy();
    for t in 3..5 {
        let error = token(&mut backend, &mut sequence, t).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gpu, "{error}");
        assert!(error.hint().is_some());
        assert_eq!(sequence.len(), 3);
    }
    let kind = |result: crate::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(GpuSequence::new(&gpu, &fixture.plan, 64, 64, F16, F16).map(drop)), ErrorKind::Gpu);
    let again = super::support::backend(&gpu, &fixture.plan, &*fixture.weights, &GpuOptions::default());
    assert_eq!(kind(again.map(drop)), ErrorKind::Gpu);
}

#[test]
fn a_device_that_is_lost_at_any_moment_gives_right_numbers_or_none() {
    let Some(right) = testing::gpu() else { return };
    let fixture = own("llama31");
    let options = GpuOptions { int8: [false; 2], ..GpuOptions::default() };
    let open = |gpu: &Arc<Gpu>| {
        let backend = backend(gpu, &fixture.plan, &*fixture.weights, &options).unwrap();
        (backend, GpuSequence::new(gpu, &fixture.plan, 256, 64, F16, F16).unwrap())
    };
    let (mut on_right, mut sequence) = open(&right);
    let want: Vec<_> = (0..200).map(|t| token(&mut on_right, &mut sequence, t).unwrap()).collect();
    for delay in [1, 7, 20] {
        let Some(gpu) = alone() else { return };
        let (mut backend, mut sequence) = open(&gpu);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(delay));
                // Nobody is told: the loss is found out by whoever waits.
                gpu.device.destroy();
            });
            let mut is_lost = false;
            for (t, want) in want.iter().enumerate() {
                match token(&mut backend, &mut sequence, t as u32) {
                    Ok(got) => {
                        assert!(!is_lost, "an answer of a lost device");
                        assert_eq!(got, *want, "token {t}");
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Gpu, "{error}");
                        is_lost = true;
                    }
                }
            }
            if !is_lost {
                println!("skipped: the device went away too late");
            }
        });
    }
}

#[test]
fn a_device_without_room_is_an_error_of_memory() {
    let small = noop(|l| (l.max_buffer_size, l.max_storage_buffer_binding_size) = (1 << 20, 1 << 20));
    let (mut m, x) = Model::given(1, 64);
    let y = m.plan.buffer("y", 300);
    m.linear(tealight_quant::BlockType::F32, x, y);
    let (plan, weights) = m.finish(y);
    // 300 columns of so many rows are more than a buffer holds.
    let options = |n_batch| GpuOptions { n_batch, ..GpuOptions::default() };
    let error = backend(&small, &plan, &*weights, &options(4096)).err().expect("no room");
    assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
    assert!(error.hint().is_some());
    // Less is possible on the same device.
    assert!(backend(&small, &plan, &*weights, &options(64)).is_ok());

    let fixture = own("llama31");
    let error = GpuSequence::new(&small, &fixture.plan, 1 << 20, 64, F16, F16).err().expect("no room");
    assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
    assert!(error.hint().is_some());
    assert!(GpuSequence::new(&small, &fixture.plan, 64, 64, F16, F16).is_ok());

    // More than any machine has.
    let endless = noop(|l| (l.max_buffer_size, l.max_storage_buffer_binding_size) = (1 << 62, 1 << 62));
    let error = endless.storage("weights", 1 << 60).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
    let mut backend = backend(&endless, &plan, &*weights, &options(64)).unwrap();
    let mut sequences = [GpuSequence::new(&endless, &plan, 64, 64, F16, F16).unwrap()];
    pass(&mut backend, &plan, &mut sequences, &[rows(2)], Wanted::All).unwrap();
}
