//! Conversations that are kept: `chat --name`, `chats`, `--prompt-cache`.

use super::*;

/// A command that keeps its chats in a folder of the test.
fn kept(folder: &TempDir, args: &[&str], input: &[u8]) -> Run {
    let mut command = command(args);
    command.env("TEALIGHT_DATA_DIR", folder.path());
    finish(command, Some(input))
}

/// A chat of short answers in verbose words, on the CPU.
fn talk(folder: &TempDir, args: &[&str], input: &str) -> Run {
    let common = ["chat", "-v", "-n", "6", "--temp", "0", "--device", "cpu", "-c", "250"];
    kept(folder, &[&common, args].concat(), input.as_bytes())
}

/// Tokens that turns of a verbose run did not have to read.
fn n_kept(run: &Run) -> Vec<usize> {
    let lines = run.stderr.lines().filter_map(|l| l.split(" tokens read, ").nth(1));
    lines.map(|l| l.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_named_chat_goes_on_where_it_was() {
    let folder = TempDir::new("named");
    let m = model("qwen3");
    let whole = talk(&folder, &[&m], "Hello\nAnd you?\nWhy?\n");
    let first = talk(&folder, &[&m, "--name", "work"], "Hello\nAnd you?\n");
    assert!(first.code == Some(0) && first.stderr.contains("a new chat `work`"), "{}", first.stderr);
    // The model is known by the name.
    let second = talk(&folder, &["--name", "work"], "Why?\n");
    assert!(second.stderr.contains("the chat `work` goes on: 2 turns"), "{}", second.stderr);
    assert_eq!(first.text().to_owned() + second.text(), whole.text());
    assert_eq!(n_kept(&second)[0], n_kept(&whole)[2], "nothing is read again");
    assert!(n_kept(&second)[0] > 10);
    // Nothing is said: nothing changes.
    let third = talk(&folder, &["--name", "work"], "");
    assert!(third.stderr.contains("3 turns") && third.text().is_empty(), "{}", third.stderr);
}

/// Whenever a chat is killed, what was answered before is there, and it goes on.
#[test]
fn a_killed_chat_keeps_what_was_answered() {
    let folder = TempDir::new("killed");
    let m = model("qwen3");
    talk(&folder, &[&m, "--name", "work"], "Hello\n");
    let mut seen = 1;
    for wait_ms in [30, 60, 90, 120, 180, 250] {
        let mut command = command(["chat", "--name", "work", "-n", "3", "--temp", "0", "--device", "cpu", "-c", "250"]);
        command.env("TEALIGHT_DATA_DIR", folder.path()).stdin(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let _ = child.stdin.as_mut().expect("piped").write_all(b"And you?\nAnd you?\n");
        // Wherever it is then: reading, writing an answer, keeping it, or waiting for the next line.
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        let json: serde_json::Value =
            serde_json::from_str(&kept(&folder, &["chats", "--json"], b"").quietly()).unwrap();
        let turns = json["chats"][0]["turns"].as_u64().expect("a whole conversation");
        assert!((seen..=seen + 2).contains(&turns), "{turns} turns behind {seen}");
        seen = turns;
    }
    let run = talk(&folder, &["--name", "work"], "/undo\n");
    assert!(run.code == Some(0) && run.stderr.contains(&format!("{seen} turn")), "{}", run.stderr);
    assert!(!run.stderr.contains("read again, because"), "{}", run.stderr);
}

#[test]
fn another_model_is_refused_and_may_read_it_all() {
    let folder = TempDir::new("other-model");
    talk(&folder, &[&model("qwen3"), "--name", "work"], "Hello\n");
    let refused = talk(&folder, &[&model("llama31"), "--name", "work"], "Hello\n");
    let text = refused.error(3);
    assert!(text.contains("another model") && text.contains("qwen3") && text.contains("--recompute"), "{text}");
    let read = talk(&folder, &[&model("llama31"), "--name", "work", "--recompute"], "Hello\n");
    assert_eq!(read.code, Some(0), "{}", read.stderr);
    assert!(read.stderr.contains("read again, because") && read.stderr.contains("another model"), "{}", read.stderr);
    let on = talk(&folder, &["--name", "work"], "");
    assert!(on.stderr.contains("goes on: 2 turns"), "{}", on.stderr);
}

#[test]
fn other_settings_and_damaged_files_cost_time_and_no_text() {
    let folder = TempDir::new("other-settings");
    let m = model("qwen3");
    let whole = talk(&folder, &[&m], "Hello\nAnd you?\n");
    for (args, damage, words) in [
        (&["-ctk", "f32"][..], false, "keys in F16"),
        (&["--exact", "-ctk", "f16", "-ctv", "f16"], false, "exact computes"),
        (&[], true, "its checksum is wrong"),
    ] {
        talk(&folder, &[&m, "--name", "work"], "Hello\n");
        let session = folder.path().join("chats/work.session");
        if damage {
            let mut bytes = std::fs::read(&session).unwrap();
            let n = bytes.len();
            bytes[n - 5000..].fill(0x55);
            std::fs::write(&session, bytes).unwrap();
        }
        let run = talk(&folder, &[&[m.as_str(), "--name", "work"], args].concat(), "And you?\n");
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(run.stderr.contains("read again, because") && run.stderr.contains(words), "{}", run.stderr);
        assert_eq!(n_kept(&run), [0]);
        if damage {
            assert!(whole.text().ends_with(run.text()), "{:?} {:?}", whole.text(), run.text());
        }
        kept(&folder, &["chats", "rm", "work"], b"");
    }
}

#[test]
fn chats_are_listed_shown_exported_and_removed() {
    let folder = TempDir::new("chats");
    let none = kept(&folder, &["chats"], b"");
    assert!(none.code == Some(0) && none.stderr.contains("no chats yet"), "{}", none.stderr);
    let answer = talk(&folder, &[&model("qwen3"), "--name", "work", "-sys", "Be brief."], "Hello\n");
    talk(&folder, &[&model("qwen3"), "--name", "empty"], "/help\n");
    let list = kept(&folder, &["chats"], b"").quietly();
    assert!(list.starts_with("work  model.gguf  1 turn  just now"), "{list}");
    let json: serde_json::Value = serde_json::from_str(&kept(&folder, &["chats", "--json"], b"").quietly()).unwrap();
    assert_eq!((&json["chats"][0]["name"], &json["chats"][0]["turns"]), (&"work".into(), &1.into()));
    let shown = kept(&folder, &["chats", "show", "work"], b"").quietly();
    assert_eq!(shown, format!("[system] Be brief.\n\n>>> Hello\n{}\n\n", answer.text().trim_end_matches('\n')));
    let markdown = kept(&folder, &["chats", "export", "work"], b"").quietly();
    assert!(markdown.contains("## You\n\nHello\n\n## Assistant\n"), "{markdown}");
    let file = folder.path().join("out.json");
    let args = ["chats", "export", "work", "--format", "json", "-o", file.to_str().unwrap()];
    assert_eq!(kept(&folder, &args, b"").quietly(), "");
    assert_eq!(read_json(&file)["messages"][1]["content"], "Hello");

    assert!(kept(&folder, &["chats", "rm", "work", "play"], b"").error(2).contains("no chat `play`"));
    assert!(kept(&folder, &["chats", "show", "work"], b"").code == Some(0), "none of them is gone");
    assert!(kept(&folder, &["chats", "rm", "work"], b"").stderr.contains("removed"));
    assert!(kept(&folder, &["chats", "show", "work"], b"").error(2).contains("no chat"));
    for name in ["../x", "a/b", "nul", ""] {
        let text = kept(&folder, &["chats", "show", name], b"").error(2);
        assert!(text.contains("letters, digits") || text.contains("cannot be the name"), "{text}");
        assert!(talk(&folder, &[&model("qwen3"), "--name", name], "Hello\n").code == Some(2), "{name}");
    }
    let mut homeless = command(["chats"]);
    homeless.env("TEALIGHT_DATA_DIR", "");
    assert!(finish(homeless, None).error(2).contains("no folder for named chats"));
}

#[test]
fn a_prompt_that_begins_alike_is_not_read_again() {
    let folder = TempDir::new("prompt-cache");
    let file = folder.path().join("cache");
    let file = file.to_str().unwrap();
    for (name, raw) in [("qwen3", true), ("gemma3", true), ("qwen3", false)] {
        let m = model(name);
        let run = |prompt: &str, more: &[&str]| {
            let raw: &[&str] = if raw { &["--raw"] } else { &[] };
            let all = [&["run", &m, prompt, "-v", "-n", "5", "--temp", "0", "--device", "cpu"], raw, more].concat();
            kept(&folder, &all, b"")
        };
        let long = "one two three four five six seven eight nine ten";
        let plain = run(&format!("{long} eleven"), &[]);
        let first = run(long, &["--prompt-cache", file]);
        assert!(first.stderr.contains("does not exist yet") && n_kept(&first) == [0], "{}", first.stderr);
        let again = run(long, &["--prompt-cache", file]);
        assert_eq!(again.text(), first.text());
        assert!(n_kept(&again)[0] > 10, "{name}: {}", again.stderr);
        let before = std::fs::read(file).unwrap();
        let longer = run(&format!("{long} eleven"), &["--prompt-cache", file, "--prompt-cache-ro"]);
        assert_eq!(longer.text(), plain.text());
        assert!(n_kept(&longer)[0] > 10 && std::fs::read(file).unwrap() == before, "{}", longer.stderr);
        let all = run(long, &["--prompt-cache", file, "--prompt-cache-all"]);
        assert_eq!(all.text(), first.text());
        assert!(std::fs::read(file).unwrap() != before, "the answer is in the file");
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_prompt_cache_of_another_model_or_thing_is_refused_and_stays() {
    let folder = TempDir::new("prompt-cache-refused");
    let file = folder.path().join("cache");
    let path = file.to_str().unwrap();
    let run =
        |m: &str| kept(&folder, &["run", &model(m), "hi", "-n", "2", "--device", "cpu", "--prompt-cache", path], b"");
    assert_eq!(run("qwen3").code, Some(0));
    let text = run("llama31").error(3);
    assert!(text.contains("another model") && text.contains("hint: "), "{text}");
    std::fs::write(&file, "my letters").unwrap();
    assert!(run("qwen3").error(3).contains("not a saved session"));
    assert_eq!(std::fs::read(&file).unwrap(), b"my letters");
}

#[test]
fn an_answer_is_one_json_object_with_its_parts() {
    let folder = TempDir::new("json");
    let mut file = Edit::read(Path::new(&model("qwen3")));
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]<think>\n";
    file.set("tokenizer.chat_template", template);
    let path = folder.path().join("thinking.gguf");
    file.write(&path);
    let m = path.to_str().unwrap();
    let common = ["run", m, "Hello", "-n", "8", "--temp", "0", "--ignore-eos"];
    let shown = tealight([&common[..], &["-q"]].concat()).quietly();
    let thoughts = shown.strip_prefix("<think>\n").and_then(|t| t.strip_suffix("\n</think>\n\n")).expect("thoughts");
    let json: serde_json::Value =
        serde_json::from_str(&tealight([&common[..], &["-q", "--json"]].concat()).quietly()).unwrap();
    assert_eq!((&json["content"], &json["reasoning"]), (&"".into(), &thoughts.into()));
    assert_eq!((&json["stop"], &json["tool_calls"]), (&"length".into(), &serde_json::json!([])));
    assert_eq!((&json["usage"]["completion_tokens"], &json["model"]), (&8.into(), &"thinking.gguf".into()));
    let raw: serde_json::Value =
        serde_json::from_str(&tealight([&common[..], &["-q", "--json", "--raw"]].concat()).quietly()).unwrap();
    assert!(raw["reasoning"].is_null() && raw["content"].is_string());

    let tools = folder.path().join("tools.json");
    let run = |text: &str| {
        std::fs::write(&tools, text).unwrap();
        tealight([&common[..], &["--tools", tools.to_str().unwrap()]].concat())
    };
    assert!(run("{").error(2).contains("not JSON"));
    assert!(run("{}").error(2).contains("no list of definitions"));
    assert_eq!(run(r#"[{"type": "function", "function": {"name": "f", "parameters": {}}}]"#).code, Some(0));
}

#[test]
fn a_full_context_stops_shifts_or_fails() {
    let m = model("qwen3");
    let run = |what: &str| {
        let args =
            ["run", &m, "Hello", "-c", "60", "-n", "90", "--temp", "0", "--ignore-eos", "--context-overflow", what];
        tealight(args.into_iter().chain(["--raw"]))
    };
    let stop = run("stop");
    assert!(stop.code == Some(0) && stop.stderr.contains("the answer is cut"), "{}", stop.stderr);
    let shift = run("shift");
    assert!(shift.code == Some(0) && shift.stderr.contains("left out from here on"), "{}", shift.stderr);
    assert!(shift.text().starts_with(stop.text().trim_end()) && shift.text().len() > stop.text().len());
    let error = run("error");
    assert_eq!((error.code, error.text().trim_end()), (Some(2), stop.text().trim_end()));
    assert!(error.stderr.contains("error: the context is full"), "{}", error.stderr);
    assert_eq!(run("forget").code, Some(2));
}

#[test]
fn a_named_chat_belongs_to_its_adapters() {
    let folder = TempDir::new("named-lora");
    let (m, adapter) = (model("qwen3"), run::adapter(&folder));
    let first = talk(&folder, &[&m, "--name", "work", "--lora", &adapter], "Hello\n");
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let again = talk(&folder, &["--name", "work", "--lora", &adapter], "Why?\n");
    assert!(again.stderr.contains("the chat `work` goes on: 1 turn"), "{}", again.stderr);
    for args in [vec!["--name", "work"], vec!["--name", "work", "--lora-scaled", &format!("{adapter}:0.5")]] {
        let without = talk(&folder, &args, "Why?\n");
        assert!(
            without.code == Some(3) && without.stderr.contains("was held with the adapter adapter.gguf"),
            "{}",
            without.stderr
        );
        assert!(without.stderr.contains("--lora"), "{}", without.stderr);
    }
    let anyway = talk(&folder, &["--name", "work", "--recompute"], "Why?\n");
    assert_eq!(anyway.code, Some(0), "{}", anyway.stderr);
}
