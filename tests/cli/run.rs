//! `tealight run`.

use super::*;

/// A short answer that depends on nothing but the arguments.
fn args<'a>(model: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["run", model, "-q", "-n", "12", "-s", "5"], rest].concat()
}

#[test]
fn a_prompt_comes_from_everywhere() {
    let folder = TempDir::new("cli-prompt");
    let file = folder.path().join("p.txt");
    std::fs::write(&file, "one\n").unwrap();
    let (m, file) = (model("qwen3"), file.to_string_lossy().into_owned());
    let want = tealight(args(&m, &["one"])).quietly();
    assert!(!want.is_empty());
    assert_eq!(tealight(args(&m, &["-p", "one"])).quietly(), want);
    assert_eq!(tealight(args(&m, &["--file", &file])).quietly(), want);
    assert_eq!(piped(args(&m, &[]), b"one\n").quietly(), want);
    assert_eq!(piped(args(&m, &["-"]), b"one").quietly(), want);
    assert_eq!(tealight(["run", "-m", &m, "-q", "-n", "12", "-s", "5", "one"]).quietly(), want);
    let mut by_env = command(["run", "-q", "--n_predict", "12", "-s", "5", "one"]);
    by_env.env("LLAMA_ARG_MODEL", &m);
    assert_eq!(finish(by_env, None).quietly(), want);
    let both = tealight(args(&m, &["one\n\ntwo"])).quietly();
    assert_ne!(both, want);
    assert_eq!(piped(args(&m, &["one"]), b"two\n").quietly(), both);
    assert_eq!(piped(args(&m, &["--file", &file]), b"two\n").quietly(), both);
    assert_eq!(tealight(args(&m, &["-e", r"one\n\ntwo"])).quietly(), both);
}

#[test]
fn an_answer_keeps_to_its_form() {
    let folder = TempDir::new("cli-form");
    let (schema, grammar) = (folder.path().join("s.json"), folder.path().join("g.gbnf"));
    std::fs::write(&schema, r#"{"enum":["cat","dog"]}"#).unwrap();
    std::fs::write(&grammar, "root ::= \"(\" root \")\" | [ab]\n").unwrap();
    let m = model("llama31");
    let write = |form: [&str; 2]| tealight(["run", &m, "-q", "-s", "5", "hi", form[0], form[1]]).quietly();
    let (schema, grammar) = (schema.to_string_lossy(), grammar.to_string_lossy());
    for form in [["-j", &schema], ["--json-schema", r#"{"enum":["cat","dog"]}"#]] {
        assert!(["\"cat\"", "\"dog\""].contains(&write(form).trim_end()));
    }
    let nested = write(["--grammar-file", &grammar]);
    assert!(["a", "b"].contains(&nested.trim_end().trim_start_matches('(').trim_end_matches(')')), "{nested}");
    assert!(["one", "two"].contains(&write(["--regex", "one|two"]).trim_end()));
    assert_eq!(write(["--grammar", "start: \"x\"~3\n"]).trim_end(), "xxx");
    // What breaks off before it is whole is no text of the form, and people are told.
    let cut = tealight(["run", &m, "hi", "--grammar", "start: \"x\"~99\n", "-n", "1"]);
    assert!(cut.stderr.contains("no whole text of the form"), "{}", cut.stderr);
    let optional = tealight(["run", &m, "hi", "--grammar", "start: \"x\"~0..99\n", "-n", "1"]);
    assert!(!optional.stderr.contains("no whole text"), "{}", optional.stderr);
    // Greedily too.
    assert_eq!(tealight(["run", &m, "-q", "hi", "--temp", "0", "--regex", "fixed"]).quietly().trim_end(), "fixed");
}

#[test]
fn weights_that_are_read_first_are_the_same_weights() {
    let m = model("qwen3");
    let want = tealight(args(&m, &["one"])).quietly();
    assert_eq!(tealight(args(&m, &["one", "--warm"])).quietly(), want);
    assert_eq!(tealight(args(&m, &["one", "--warm", "--device", "cpu"])).quietly(), want);
}

#[test]
fn a_seed_gives_the_same_text_on_any_number_of_threads() {
    for name in ["qwen3", "gemma3", "phi2"] {
        let m = model(name);
        let text = |t: &str, seed: &str| {
            tealight(["run", &m, "Hello", "-q", "-n", "40", "--ignore-eos", "-t", t, "--seed", seed]).quietly()
        };
        let want = text("1", "7");
        assert!(!want.is_empty());
        assert_eq!([text("2", "7"), text("3", "7")], [want.clone(), want.clone()], "{name}");
        assert_ne!(text("2", "8"), want, "{name}");
    }
}

#[test]
fn a_template_is_used_where_there_is_one() {
    let m = model("llama31");
    let chat = tealight(args(&m, &["Hello"])).quietly();
    let raw = tealight(args(&m, &["Hello", "--raw"])).quietly();
    assert_ne!(chat, raw);
    assert_ne!(tealight(args(&m, &["Hello", "-sys", "Be brief."])).quietly(), chat);
    // The template written out, with its tokens, is the same prompt.
    let expect = read_json(&fixtures().join("llama31/expect.json"));
    let case = &expect["chat"][0];
    let text = case["rendered"].as_str().expect("a rendering").strip_prefix("<|begin_of_text|>").expect("its BOS");
    let question = case["messages"][0]["content"].as_str().expect("a question");
    assert_eq!(
        tealight(args(&m, &[text, "--raw", "--parse-special"])).quietly(),
        tealight(args(&m, &[question])).quietly()
    );
    let plain = model("phi2");
    assert_eq!(tealight(args(&plain, &["Hello"])).quietly(), tealight(args(&plain, &["Hello", "--raw"])).quietly());
}

#[test]
fn a_system_message_of_a_file_has_no_last_line_end() {
    let folder = TempDir::new("cli-system");
    let file = folder.path().join("s.txt");
    std::fs::write(&file, "Be brief.\n").unwrap();
    // Its template takes the message as it is.
    let (m, file) = (model("qwen3"), file.to_string_lossy().into_owned());
    let of_file = tealight(args(&m, &["Hello", "-sysf", &file])).quietly();
    assert_eq!(of_file, tealight(args(&m, &["Hello", "-sys", "Be brief."])).quietly());
    assert_ne!(of_file, tealight(args(&m, &["Hello", "-sys", "Be brief.\n"])).quietly());
}

#[test]
fn a_file_whose_sampling_is_out_of_range_is_refused() {
    let folder = TempDir::new("cli-sampling");
    let path = folder.path().join("m.gguf");
    let mut edit = Edit::read(Path::new(&model("qwen3")));
    edit.set("general.sampling.penalty_repeat", 0f32);
    edit.write(&path);
    let text = tealight(["run", "-q", &path.to_string_lossy(), "Hello"]).error(3);
    assert!(text.contains("`general.sampling.penalty_repeat`") && text.contains("above 0"), "{text}");
}

#[test]
fn a_tiny_temperature_is_the_likeliest_token() {
    let m = model("qwen3");
    let greedy = tealight(args(&m, &["Hello", "--temp", "0"])).quietly();
    assert_eq!(tealight(args(&m, &["Hello", "--temp", "1e-40", "--samplers", "temperature"])).quietly(), greedy);
}

#[test]
fn limits_and_stops_end_the_answer() {
    let m = model("qwen3");
    assert_eq!(tealight(["run", &m, "Hello", "-q", "-n", "0"]).quietly(), "");
    let whole = tealight(args(&m, &["Hello", "--ignore-eos"])).quietly();
    let (before, stop) = whole.split_at(whole.char_indices().nth(4).expect("text").0);
    let stop: String = stop.chars().take(2).collect();
    let cut = tealight(args(&m, &["Hello", "--ignore-eos", "-r", &stop])).quietly();
    assert!(before.starts_with(&cut) || cut == before, "{cut:?} of {whole:?} by {stop:?}");
    assert!(!cut.contains(&stop));
    let full = tealight(["run", &m, "Hello", "-c", "40", "-s", "1", "--ignore-eos"]);
    assert_eq!(full.code, Some(0));
    assert!(
        full.stderr.contains("warning: ") && full.stderr.contains("context of 40 tokens is full"),
        "{}",
        full.stderr
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_by_a_template_and_taken_raw() {
    let m = model("qwen3");
    let text = piped(args(&m, &[]), b"a\xff").error(2);
    assert!(text.contains("byte 1") && text.contains("--raw"), "{text}");
    assert_eq!(piped(args(&m, &["--raw"]), b"a\xff").code, Some(0));
}

#[test]
fn notices_go_to_standard_error() {
    let run = tealight(["run", &model("qwen3"), "Hello", "-n", "5", "-s", "3", "-v"]);
    assert_eq!(run.code, Some(0));
    assert!(run.stderr.contains("answer: 5 tokens") && run.stderr.contains("seed: 3"), "{}", run.stderr);
    assert_eq!(run.text(), tealight(["run", &model("qwen3"), "Hello", "-n", "5", "-s", "3", "-q"]).quietly());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let m = model("qwen3");
    for args in [&args(&m, &["Hello"])[..], &["inspect", &m], &["tokenize", &m, "-q", "Hello"], &["--help"]] {
        let mut command = command(args);
        command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let text = finish(command, None).error(5);
        assert!(text.contains("cannot write to standard output"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let m = model("qwen3");
    for args in [&args(&m, &["Hello", "-n", "100"])[..], &["inspect", &m, "--json"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = command(args);
        command.stdout(writer);
        drop(reader);
        assert_eq!(finish(command, None).quietly(), "");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_the_text_so_far() {
    use std::io::Read;

    // Far more tokens than could be written before the signal comes.
    let m = model("qwen3");
    let mut child =
        command(["run", &m, "Hello", "-c", "500000", "--ignore-eos", "-s", "1"]).spawn().expect("the binary starts");
    let mut stdout = child.stdout.take().expect("piped");
    let mut text = vec![0; 16];
    stdout.read_exact(&mut text).expect("the first text");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    stdout.read_to_end(&mut text).expect("the rest");
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("notices");
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{stderr}");
    assert!(
        stderr.starts_with("warning: the context of 500000 tokens is longer") && stderr.lines().count() == 1,
        "{stderr}"
    );
    String::from_utf8(text).expect("whole characters");
}

/// A LoRA adapter for the fixture `qwen3`, of rank 2, that changes the feed-forward part of a layer a lot.
pub(crate) fn adapter(folder: &TempDir) -> String {
    let base = Edit::read(Path::new(&model("qwen3")));
    let name = "blk.0.ffn_down.weight";
    let shape = base.tensors.iter().find(|t| t.name == name).unwrap().shape.clone();
    let tensor = |part: &str, shape: [u64; 2], x: f32| EditTensor {
        name: format!("{name}.lora_{part}"),
        ty: tealight::quant::BlockType::F32,
        shape: shape.to_vec(),
        data: (0..shape[0] * shape[1]).flat_map(|i| (x * ((i % 7) as f32 - 3.0)).to_le_bytes()).collect(),
    };
    let tensors = vec![tensor("a", [2, shape[1]], 0.5), tensor("b", [shape[0], 2], 0.5)];
    let mut edit = Edit { keys: Vec::new(), tensors };
    edit.set("general.architecture", "qwen3");
    edit.set("general.type", "adapter");
    edit.set("adapter.type", "lora");
    edit.set("adapter.lora.alpha", tealight::gguf::KeyValue::F32(4.0));
    let path = folder.path().join("adapter.gguf");
    edit.write(&path);
    path.to_string_lossy().into_owned()
}

#[test]
fn an_adapter_changes_what_a_model_computes() {
    let folder = TempDir::new("lora");
    let (adapter, m) = (adapter(&folder), model("qwen3"));
    let logits = |more: &[&str]| {
        let args = [&["logits", &m, "--tokens", "5,9,2,7", "-o", "-"], more].concat();
        let run = tealight(&args);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{more:?}");
        run.stdout
    };
    let half = format!("{adapter}:0.5");
    let plain = logits(&[]);
    assert_ne!(logits(&["--lora", &adapter]), plain);
    assert_ne!(logits(&["--lora-scaled", &half]), logits(&["--lora", &adapter]));
    assert_eq!(logits(&["--lora-scaled", &format!("{adapter}:0")]), plain);
    let text = |more: &[&str]| {
        let args = [&["run", &m, "hello", "-n", "12", "--temp", "0", "--no-show-timings", "-q"], more].concat();
        tealight(&args).quietly()
    };
    assert_ne!(text(&["--lora", &adapter]), text(&[]));
    for (args, words) in [
        (vec!["run", &m, "hi", "--lora-scaled", &adapter], ["FILE:SCALE", "adapter.gguf:0.5"]),
        (vec!["run", &m, "hi", "--lora-scaled", "x.gguf:much"], ["FILE:SCALE", "x.gguf:much"]),
    ] {
        let error = tealight(&args).error(2);
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    }
    let error = tealight(["run", &m, "hi", "--lora", &m]).error(3);
    assert!(error.contains("not a LoRA adapter"), "{error}");
    let error = tealight(["run", &model("llama31"), "hi", "--lora", &adapter]).error(3);
    assert!(error.contains("`qwen3` models") && error.contains("adapter.gguf"), "{error}");
    let error = tealight(["run", &adapter, "hi"]).error(3);
    assert!(error.contains("adapter for `qwen3`") && error.contains("--lora"), "{error}");
    let report = tealight(["inspect", &adapter]).quietly();
    assert!(report.contains("lora, rank 2, alpha 4, changes 1 matrix: use it as --lora"), "{report}");
    let report = tealight(["inspect", &adapter, "--json"]).quietly();
    assert!(report.contains("\"ranks\"") && report.contains("\"runs\": false"), "{report}");
}
