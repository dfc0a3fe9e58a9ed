//! `tealight devices`, and the flags that choose one.

use super::*;

/// Runs a command that asks drivers; Mesa's complain of a variable that sessions of a desktop have.
fn with_drivers(args: &[&str]) -> String {
    let mut command = command(args);
    command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    finish(command, None).quietly()
}

/// What machines have differs; that the table and the object say the same does not.
#[test]
fn devices_are_listed_for_people_and_for_programs() {
    let json: serde_json::Value = serde_json::from_str(&with_drivers(&["devices", "--json"])).unwrap();
    let table = with_drivers(&["devices"]);
    let devices = json["devices"].as_array().unwrap();
    if devices.is_empty() {
        let reason = json["reason"].as_str().expect("a reason for the lack of GPUs");
        assert_eq!(table, format!("no GPU: {reason}\n"));
    }
    for (i, device) in devices.iter().enumerate() {
        assert_eq!(device["index"], i);
        assert_eq!(device["usable"].as_bool().unwrap(), device["reason"].is_null(), "{device}");
        assert!(device["max_buffer"].as_u64() >= device["max_binding"].as_u64(), "{device}");
        let line = table.lines().find(|l| l.starts_with(&format!("{i:>2}  "))).expect("a line per GPU");
        for key in ["name", "kind", "backend"] {
            assert!(line.contains(device[key].as_str().unwrap()), "{key}: {line}");
        }
        assert!(table.contains(device["driver_version"].as_str().unwrap()), "{table}");
    }
    if !devices.is_empty() && devices.iter().all(|d| d["kind"] == "software") {
        assert!(table.contains("no GPU but software"), "{table}");
    }
}

/// The same answer, whichever spelling chooses the CPU.
#[test]
fn the_cpu_is_chosen_by_any_spelling() {
    let m = &model("qwen3");
    let run = |flags: &[&str]| {
        let args = [&["run", m, "--raw", "hi", "-n", "4", "--temp", "0"], flags].concat();
        tealight(args).quietly()
    };
    let plain = run(&["--device", "cpu"]);
    for flags in [
        &["-dev", "cpu", "-ngl", "99"][..],
        &["-dev", "none"],
        &["--device=cpu", "--n_gpu_layers", "-1", "--gpu-check", "off"],
        &["--device", "cpu", "--gpu-layers", "all", "--gpu-check=force"],
    ] {
        assert_eq!(run(flags), plain, "{flags:?}");
    }
    let mut command = command(["run", m, "--raw", "hi", "-n", "4", "--temp", "0"]);
    command.envs([("LLAMA_ARG_DEVICE", "cpu"), ("LLAMA_ARG_N_GPU_LAYERS", "7")]);
    assert_eq!(finish(command, None).quietly(), plain);
}

#[cfg(not(feature = "gpu"))]
#[test]
fn a_build_without_gpus_refuses_one_and_lists_none() {
    let m = &model("qwen3");
    for device in ["gpu", "0", "radeon"] {
        let text = tealight(["run", m, "hi", "--device", device]).error(2);
        assert!(text.contains("built without GPU support") && text.contains("hint: "), "{text}");
    }
    assert_eq!(tealight(["devices"]).quietly(), "no GPU: built without GPU support\n");
}
