//! `tealight inspect`.

use super::*;

fn json(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&tealight(args).quietly()).expect("one JSON object")
}

#[test]
fn json_lists_tensors_where_they_lie() {
    for name in fixture_names() {
        let path = model(&name);
        let report = json(&["inspect", &path, "--json"]);
        let bytes = std::fs::read(&path).unwrap();
        let edit = Edit::read(Path::new(&path));
        let tensors = report["tensors"].as_array().expect("a list");
        assert_eq!(tensors.len(), edit.tensors.len());
        for (found, tensor) in tensors.iter().zip(&edit.tensors) {
            assert_eq!(found["name"], tensor.name.as_str());
            assert_eq!(found["type"], tensor.ty.name());
            assert_eq!(found["shape"], serde_json::json!(tensor.shape));
            assert_eq!(found["file"], "model.gguf");
            let (offset, n) = (found["offset"].as_u64().unwrap() as usize, found["bytes"].as_u64().unwrap() as usize);
            assert_eq!(&bytes[offset..offset + n], tensor.data, "{name} {}", tensor.name);
        }
        assert_eq!(report["runs"], true);
        assert_eq!(report["architecture"], read_json(&fixtures().join(&name).join("expect.json"))["architecture"]);
    }
}

#[test]
fn memory_follows_the_context() {
    let path = model("qwen3");
    let at = |n: &str, ty: &str| json(&["inspect", &path, "--json", "-c", n, "-ctk", ty, "-ctv", ty])["memory"].clone();
    // 3 layers, 2 heads of keys and values of 32 numbers each.
    assert_eq!(at("100", "f16")["cache"], 100 * 3 * 2 * 32 * 2 * 2);
    assert_eq!(at("200", "f32")["cache"], 200 * 3 * 2 * 32 * 2 * 4);
    let m = at("100", "q8_0");
    let sum: u64 = ["weights", "cache", "scratch"].iter().map(|k| m[k].as_u64().unwrap()).sum();
    assert_eq!((m["total"].as_u64(), m["n_ctx"].as_u64()), (Some(sum), Some(100)));
}

#[test]
fn the_page_for_people() {
    let page = tealight(["inspect", &model("qwen3"), "--tensors", "--plan"]).quietly();
    let page = page.replace(&work_of(&page), "[work]");
    // What computes, and why, is the machine's business.
    let (page, placement) = page.split_once("\nplacement\n").expect("a section of placement");
    assert!(placement.starts_with("all steps: ") && placement.contains("\nwhy: "), "{placement}");
    insta::assert_snapshot!("inspect", page);
}

#[test]
fn a_cache_that_the_model_cannot_have_is_a_reason_not_to_run() {
    for name in fixture_names() {
        let m = model(&name);
        let report = json(&["inspect", &m, "--json", "-ctk", "q8_0"]);
        let run = tealight(["run", &m, "Hi", "--raw", "-q", "-n", "1", "-ctk", "q8_0"]);
        assert_eq!(report["runs"], run.code == Some(0), "{name}: {}", run.stderr);
        if let Some(reason) = report["reason"].as_str() {
            assert!(run.stderr.contains(reason), "{name}: {reason}: {}", run.stderr);
        }
    }
    let page = tealight(["inspect", &model("llama31"), "-ctv", "q8_0"]).quietly();
    assert!(page.contains("runs           no: values cannot be stored as Q8_0: heads of 16"), "{page}");
}

/// The line of memory: the size of work buffers is the engine's business.
fn work_of(page: &str) -> String {
    let line = page.lines().find(|l| l.starts_with("memory")).expect("a line of memory");
    assert!(line.contains("192.00 KiB cache (F16 keys, F16 values)"), "{line}");
    line.to_owned()
}

#[test]
fn a_file_of_a_vocabulary_says_so() {
    let folder = TempDir::new("cli-vocab");
    let path = vocabulary_only(&folder, "llama31");
    let report = json(&["inspect", &path, "--json"]);
    assert_eq!((&report["runs"], &report["vocabulary"]["tokens"]), (&false.into(), &384.into()));
    assert_eq!(report["reason"], "the file holds a vocabulary and no weights");
    let page = tealight(["inspect", &path]).quietly();
    assert!(page.contains("384 tokens (gpt2, llama-bpe)") && page.contains("vocabulary and no weights"), "{page}");
}

#[test]
fn shards_are_one_model_whose_tensors_name_their_file() {
    let folder = TempDir::new("cli-shards");
    let whole = Edit::read(Path::new(&model("qwen3")));
    let path = |no: usize| folder.path().join(format!("m-0000{}-of-00002.gguf", no + 1));
    for no in 0..2 {
        let mut shard = whole.clone();
        let half = shard.tensors.split_off(whole.tensors.len() / 2);
        if no == 1 {
            (shard.keys, shard.tensors) = (Vec::new(), half);
        }
        let n_tensor = whole.tensors.len() as u32;
        for (key, n) in [("split.no", no as u32), ("split.count", 2), ("split.tensors.count", n_tensor)] {
            shard.keys.push((key.to_owned(), ValueType::U32, n.to_le_bytes().to_vec()));
        }
        shard.write(&path(no));
    }
    let second = path(1).to_string_lossy().into_owned();
    let report = json(&["inspect", "--json", &second]);
    assert_eq!(report["files"].as_array().unwrap().len(), 2);
    let tensors = report["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), whole.tensors.len());
    for (i, (found, tensor)) in tensors.iter().zip(&whole.tensors).enumerate() {
        let file = path(usize::from(i >= whole.tensors.len() / 2));
        assert_eq!(found["file"], file.file_name().unwrap().to_string_lossy().as_ref());
        let offset = found["offset"].as_u64().unwrap() as usize;
        assert_eq!(std::fs::read(file).unwrap()[offset..][..tensor.data.len()], tensor.data, "{}", tensor.name);
    }
    let answer = |model: &str| tealight(["run", model, "Hello", "-q", "-n", "12", "-s", "5"]).quietly();
    assert_eq!(answer(&second), answer(&model("qwen3")));
}

#[test]
fn architectures_are_listed_with_what_runs() {
    let text = tealight(["inspect", "--architectures"]).quietly();
    let line = |name: &str| text.lines().find(|l| l.split(' ').next() == Some(name)).unwrap().to_owned();
    assert!(line("llama").ends_with("; runs") && line("llama").contains("mixtral"), "{}", line("llama"));
    assert!(line("t5").contains("does not run: an encoder and a decoder"), "{}", line("t5"));
    let json = tealight(["inspect", "--architectures", "--json"]).quietly();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let qwen = json["architectures"].as_array().unwrap().iter().find(|a| a["name"] == "qwen3").unwrap();
    assert!(qwen["runs"] == true && qwen["reason"].is_null());
    assert!(tealight(["inspect", "--architectures", "--plan"]).error(2).contains("--architectures"));
}

#[test]
fn an_unknown_architecture_is_told_its_neighbour() {
    let folder = TempDir::new("unknown");
    let mut edit = Edit::read(Path::new(&model("qwen3")));
    let path = folder.path().join("m.gguf");
    for (name, words) in
        [("qwen33", ["`qwen33`", "the nearest is `qwen3`"]), ("t5", ["`t5` (T5, Flan-T5)", "two stacks"])]
    {
        edit.set("general.architecture", name);
        edit.write(&path);
        let error = tealight([OsStr::new("run"), path.as_os_str(), OsStr::new("hi")]).error(3);
        assert!(words.iter().all(|w| error.contains(w)) && error.contains("inspect --architectures"), "{error}");
        let report = tealight([OsStr::new("inspect"), path.as_os_str()]).quietly();
        assert!(report.contains("runs           no: architecture") && report.contains(words[1]), "{report}");
    }
}
