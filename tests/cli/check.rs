//! The verdict about a model.

use super::*;

fn check(path: &str, more: &[&str]) -> Run {
    tealight([&["check", path][..], more].concat())
}

fn json(run: &Run) -> serde_json::Value {
    serde_json::from_str(run.text()).unwrap()
}

/// The finding about `what`.
fn finding<'a>(report: &'a serde_json::Value, what: &str) -> &'a serde_json::Value {
    let all = report["findings"].as_array().unwrap();
    all.iter().find(|f| f["what"] == what).unwrap_or_else(|| panic!("no `{what}` in {report:#}"))
}

#[test]
fn every_fixture_that_runs_passes() {
    for name in fixture_names() {
        let run = check(&model(&name), &["--json", "-c", "64"]);
        assert_eq!(run.code, Some(0), "{name}: {} {}", run.text(), run.stderr);
        let report = json(&run);
        assert_eq!(report["runs"], true, "{name}");
        assert_eq!(finding(&report, "weights")["grade"], "ok", "{name}");
        assert!(report["memory"]["total"].as_u64().unwrap() > 0, "{name}");
        assert!(report["tokens_per_second_at_most"].as_f64().unwrap() > 0.0, "{name}");
    }
}

#[test]
fn a_verdict_is_a_line_and_the_hash_is_that_of_the_file() {
    let path = model("qwen3");
    let text = check(&path, &["--hash", "-c", "64"]).quietly();
    assert!(text.ends_with("model.gguf runs here\n"), "{text}");
    use sha2::Digest;
    let digest = sha2::Sha256::digest(std::fs::read(&path).unwrap());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    assert!(text.contains(&format!("sha256 {hex}  model.gguf\n")), "{text}");
    let quick = check(&path, &["--quick", "--json"]);
    let report = json(&quick);
    assert!(report["tokens_per_second_at_most"].is_null() && report["sha256"].as_array().unwrap().is_empty());
}

#[test]
fn a_number_that_is_none_is_found_and_named() {
    let folder = TempDir::new("check");
    for (name, tensor) in [("norm", "blk.0.attn_norm.weight"), ("matrix", "blk.1.ffn_down.weight")] {
        let gguf = tealight::gguf::Gguf::open(Path::new(&model("qwen3"))).unwrap();
        let at = gguf.tensor(tensor).unwrap().clone();
        let mut bytes = std::fs::read(model("qwen3")).unwrap();
        // The last number of the tensor, as f32, f16 or bf16: all bits of the exponent set and one of the fraction.
        let end = (at.offset + at.bytes) as usize;
        bytes[end - 2..end].copy_from_slice(&[0xc1, 0x7f]);
        let path = folder.path().join(format!("{name}.gguf"));
        std::fs::write(&path, bytes).unwrap();
        let run = check(&path.to_string_lossy(), &["--json", "-c", "64"]);
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        let report = json(&run);
        let found = finding(&report, "weights");
        assert_eq!((&found["grade"], &report["runs"]), (&"fault".into(), &false.into()));
        assert!(found["text"].as_str().unwrap().contains(tensor) && found["fix"].is_string(), "{found}");
    }
}

#[test]
fn what_does_not_run_says_why_and_what_to_do() {
    let folder = TempDir::new("check");
    let cut = folder.path().join("cut.gguf");
    let bytes = std::fs::read(model("qwen3")).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let run = check(&cut.to_string_lossy(), &[]);
    assert_eq!(run.code, Some(3));
    assert!(run.text().starts_with("fault  file ") && run.text().contains("fix: "), "{}", run.text());
    let vocabulary = vocabulary_only(&folder, "qwen3");
    let run = check(&vocabulary, &["--json"]);
    assert_eq!((run.code, json(&run)["runs"].as_bool()), (Some(3), Some(false)));
    // More context than the machine has memory for.
    let run = check(&model("qwen3"), &["--json", "-c", "4294967295"]);
    let report = json(&run);
    if report["memory"]["free"].is_null() {
        println!("skipped: this system does not tell its free memory");
    } else {
        assert_eq!(run.code, Some(4), "{report:#}");
        assert!(finding(&report, "memory")["fix"].is_string());
    }
    let text = check("no-such.gguf", &[]).error(5);
    assert!(text.contains("no-such.gguf"), "{text}");
}

#[cfg(feature = "spark")]
#[test]
fn the_built_in_model_has_no_fault() {
    let run = check("spark", &["--json"]);
    let report = json(&run);
    assert_eq!(run.code, Some(0), "{report:#}");
    let odd: Vec<_> = report["findings"].as_array().unwrap().iter().filter(|f| f["grade"] != "ok").collect();
    assert!(odd.is_empty(), "{odd:?}");
}
