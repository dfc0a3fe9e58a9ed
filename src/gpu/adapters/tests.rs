use super::*;

const GIB: u64 = 1 << 30;

fn gpu(name: &str, kind: Kind, interface: Interface, gib: u64) -> Facts {
    Facts {
        name: name.into(),
        kind,
        interface,
        driver: String::new(),
        driver_version: "1".into(),
        id: (0x10de, name.len() as u32),
        bus: String::new(),
        memory: (gib > 0).then_some(Memory { total: gib * GIB, budget: None }),
        caps: Caps { subgroups: true, ..Caps::BASELINE },
        fault: None,
    }
}

fn check_rank(all: &[Facts], expected: &[usize]) {
    assert_eq!(rank(&all.iter().collect::<Vec<_>>()), expected);
}

#[test]
fn better_kinds_come_first_then_larger_memory_then_the_given_order() {
    use Interface::Vulkan;
    let all = [
        gpu("llvmpipe", Kind::Software, Vulkan, 512),
        gpu("virtio", Kind::Virtual, Vulkan, 64),
        gpu("Iris", Kind::Integrated, Vulkan, 32),
        gpu("small", Kind::Discrete, Vulkan, 8),
        gpu("larger", Kind::Discrete, Vulkan, 24),
        gpu("unknown", Kind::Discrete, Vulkan, 0),
        gpu("middle", Kind::Discrete, Vulkan, 24),
    ];
    check_rank(&all, &[4, 6, 3, 5, 2, 1, 0]);
    check_rank(&[], &[]);
}

#[test]
fn what_cannot_be_used_comes_last() {
    let mut broken = gpu("broken", Kind::Discrete, Interface::Dx12, 24);
    broken.fault = Some("why".into());
    check_rank(&[broken, gpu("llvmpipe", Kind::Software, Interface::Vulkan, 1)], &[1, 0]);
}

#[test]
fn a_gpu_is_listed_once_by_vulkan_before_dx12() {
    use Interface::{Dx12, Vulkan};
    let of = |interface, gib| gpu("RTX", Kind::Discrete, interface, gib);
    // DXGI often tells a little more memory, and that must not decide.
    check_rank(&[of(Dx12, 9), of(Vulkan, 8)], &[1]);
    check_rank(&[of(Vulkan, 8), of(Dx12, 9)], &[0]);
    // Two cards of one model through both, and one that only DX12 shows.
    check_rank(&[of(Vulkan, 8), of(Vulkan, 8), of(Dx12, 9), of(Dx12, 9)], &[0, 1]);
    check_rank(&[of(Vulkan, 8), of(Dx12, 9), of(Dx12, 9)], &[2, 0]);
    check_rank(&[of(Vulkan, 8), gpu("other", Kind::Discrete, Dx12, 4)], &[0, 1]);
    // The way that works is kept.
    let broken = |interface| Facts { fault: Some("why".into()), ..of(interface, 8) };
    check_rank(&[broken(Vulkan), of(Dx12, 8)], &[1]);
    check_rank(&[of(Vulkan, 8), broken(Dx12)], &[0]);
    check_rank(&[broken(Dx12)], &[0]);
}

#[test]
fn a_driver_with_two_manifests_is_listed_once_and_two_drivers_twice() {
    let of = |bus: &str, driver: &str| Facts {
        bus: bus.into(),
        driver: driver.into(),
        ..gpu("RX", Kind::Discrete, Interface::Vulkan, 8)
    };
    check_rank(&[of("0000:01:00.0", "radv"), of("0000:01:00.0", "radv")], &[0]);
    check_rank(&[of("0000:01:00.0", "radv"), of("0000:01:00.0", "amdvlk")], &[0, 1]);
    check_rank(&[of("0000:01:00.0", "radv"), of("0000:02:00.0", "radv")], &[0, 1]);
    check_rank(&[of("", "radv"), of("", "radv")], &[0, 1]);
}

#[test]
fn dx12_without_dxc_and_devices_below_webgpu_are_faulty() {
    use Interface::{Dx12, Vulkan};
    let good = Caps { subgroups: true, ..Caps::BASELINE };
    let plain = Caps::BASELINE;
    assert_eq!(fault(Vulkan, Kind::Discrete, &plain, 8), None);
    assert_eq!(fault(Dx12, Kind::Discrete, &good, 8), None);
    assert!(fault(Dx12, Kind::Discrete, &plain, 8).unwrap().contains("dxcompiler.dll"));
    assert!(fault(Dx12, Kind::Software, &good, 8).is_some());
    let check = |caps: Caps, n_storage, words: &str| {
        let text = fault(Vulkan, Kind::Integrated, &caps, n_storage).unwrap();
        assert!(text.contains(words), "{text}");
    };
    check(good.clone(), 4, "4 storage buffers, 8 are needed");
    check(Caps { max_invocations: 128, ..good.clone() }, 8, "128 invocations");
    check(Caps { workgroup_bytes: 8192, ..good.clone() }, 8, "8192 bytes of workgroup memory");
    check(Caps { max_binding: 1 << 20, ..good }, 8, "1048576 bytes of a binding");
}

/// Each choice, and the index, or words of the error with its hint.
fn check_choice(all: &[Facts], pick: Pick<'_>, expected: Result<Option<usize>, (ErrorKind, &[&str])>) {
    let found = choose(&all.iter().collect::<Vec<_>>(), pick);
    match (found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{pick:?}"),
        (Err(e), Err((kind, words))) => {
            let text = format!("{e}\n{}", e.hint().unwrap_or_default());
            assert_eq!(e.kind(), kind, "{pick:?}: {text}");
            assert!(words.iter().all(|w| text.contains(w)), "{pick:?}: {text}");
        }
        (found, expected) => panic!("{pick:?}: {found:?}, expected {expected:?}"),
    }
}

use std::result::Result;

#[test]
fn a_gpu_is_chosen_by_number_or_by_part_of_its_name() {
    use Interface::{Dx12, Vulkan};
    let mut broken = gpu("Old card", Kind::Discrete, Dx12, 1);
    broken.fault = Some("no compute shaders".into());
    let all = [
        gpu("NVIDIA GeForce RTX 4070", Kind::Discrete, Vulkan, 12),
        gpu("NVIDIA GeForce RTX 4070 Ti", Kind::Discrete, Vulkan, 12),
        gpu("AMD Radeon 780M", Kind::Integrated, Vulkan, 16),
        gpu("llvmpipe", Kind::Software, Vulkan, 16),
        broken,
    ];
    check_choice(&all, Pick::Hardware, Ok(Some(0)));
    check_choice(&all, Pick::Best, Ok(Some(0)));
    check_choice(&all, Pick::Index(3), Ok(Some(3)));
    check_choice(&all, Pick::Name("radeon"), Ok(Some(2)));
    check_choice(&all, Pick::Name("TI"), Ok(Some(1)));
    // A whole name is not ambiguous for being a part of another.
    check_choice(&all, Pick::Name("nvidia geforce rtx 4070"), Ok(Some(0)));
    check_choice(&all, Pick::Index(5), Err((ErrorKind::Usage, &["no GPU 5", "2 = AMD Radeon 780M"])));
    check_choice(&all, Pick::Name("rtx"), Err((ErrorKind::Usage, &["`rtx` fits several", "1 = NVIDIA"])));
    check_choice(&all, Pick::Name("arc\x1b"), Err((ErrorKind::Usage, &["`arc\\u{1b}`", "3 = llvmpipe"])));
    check_choice(&all, Pick::Name("old"), Err((ErrorKind::Gpu, &["`Old card`", "no compute shaders"])));
    check_choice(&all, Pick::Index(4), Err((ErrorKind::Gpu, &["`Old card`"])));
    // Software is taken when asked for, and not otherwise.
    check_choice(&all[3..], Pick::Hardware, Ok(None));
    check_choice(&all[3..], Pick::Best, Ok(Some(0)));
    check_choice(&all[4..], Pick::Hardware, Ok(None));
    check_choice(&all[4..], Pick::Best, Err((ErrorKind::Gpu, &["no compute shaders"])));
    check_choice(&[], Pick::Hardware, Ok(None));
    for pick in [Pick::Best, Pick::Index(0), Pick::Name("x")] {
        check_choice(&[], pick, Err((ErrorKind::Gpu, &["no GPU was found", "--device cpu"])));
    }
}

#[test]
fn a_driver_that_panics_is_an_error() {
    let error = caught("listing GPUs", || -> () { panic!("no {}", "luck") }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gpu);
    assert!(error.to_string().contains("listing GPUs") && error.to_string().contains("no luck"), "{error}");
    assert_eq!(caught("x", || 3).unwrap(), 3);
}

#[test]
fn files_of_the_kernel_tell_whether_a_gpu_may_be_there() {
    let dev = std::env::temp_dir().join(format!("tealight-dev-{}", std::process::id()));
    assert!(!has_gpu_node(&dev));
    std::fs::create_dir_all(dev.join("dri")).unwrap();
    for name in ["null", "nvme0", "dri/card0"] {
        std::fs::write(dev.join(name), "").unwrap();
        assert!(!has_gpu_node(&dev), "{name}");
    }
    for name in ["dri/renderD128", "nvidia0", "nvidiactl", "dxg", "mali0"] {
        std::fs::write(dev.join(name), "").unwrap();
        assert!(has_gpu_node(&dev), "{name}");
        std::fs::remove_file(dev.join(name)).unwrap();
    }
    std::fs::remove_dir_all(&dev).unwrap();
}

#[test]
fn what_is_found_can_be_opened_by_its_number_and_name() {
    let found = list().unwrap();
    println!("{found:#?}");
    for (i, facts) in found.iter().enumerate().filter(|(_, f)| f.fault.is_none()) {
        let opened = open(Pick::Index(i)).unwrap().unwrap();
        assert_eq!((opened.name(), opened.kind(), opened.caps()), (facts.name.as_str(), facts.kind, &facts.caps));
    }
    if found.is_empty() {
        println!("skipped: no GPU adapter");
        assert_eq!(open(Pick::Best).err().unwrap().kind(), ErrorKind::Gpu);
    }
    let error = open(Pick::Name("no such card")).err().unwrap();
    assert_eq!(error.kind(), if found.is_empty() { ErrorKind::Gpu } else { ErrorKind::Usage });
}
