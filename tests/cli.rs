//! The binary as users and scripts meet it: standard output, standard error, exit code of every subcommand.

mod common;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::edit::{Edit, TempDir};
use common::{read_f32, read_json, tokens};
use tealight::gguf::ValueType;

/// What a command left behind.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Run {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("standard output is UTF-8")
    }

    /// Standard output of a command that succeeded without a word on standard error.
    fn quietly(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        String::from_utf8(self.stdout).expect("standard output is UTF-8")
    }

    /// A command that printed nothing but an error with this exit code; its text.
    fn error(self, code: i32) -> String {
        assert_eq!((self.code, self.text()), (Some(code), ""), "{}", self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        self.stderr
    }
}

fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tealight"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("LLAMA_ARG_") || name.starts_with("TEALIGHT_") || name == "NO_COLOR" || name == "COLUMNS" {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(mut command: Command, input: Option<&[u8]>) -> Run {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().expect("the binary starts");
    if let Some(input) = input {
        // A command that refuses its arguments does not read.
        let _ = child.stdin.take().expect("piped").write_all(input);
    }
    let output = child.wait_with_output().expect("the binary ends");
    let stderr = String::from_utf8(output.stderr).expect("standard error is UTF-8");
    Run { code: output.status.code(), stdout: output.stdout, stderr }
}

fn tealight<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    finish(command(args), None)
}

fn piped<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &[u8]) -> Run {
    finish(command(args), Some(input))
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn model(name: &str) -> String {
    fixtures().join(name).join("model.gguf").to_string_lossy().into_owned()
}

fn fixture_names() -> Vec<String> {
    let entries = std::fs::read_dir(fixtures()).unwrap().map(|e| e.unwrap());
    let folders = entries.filter(|e| e.file_type().unwrap().is_dir());
    let mut names: Vec<_> = folders.map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 9);
    names
}

fn ids(tokens: &[u32]) -> String {
    tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// A copy of a fixture without tensors, as files of vocabularies are.
fn vocabulary_only(folder: &TempDir, name: &str) -> String {
    let mut edit = Edit::read(Path::new(&model(name)));
    edit.tensors.clear();
    let path = folder.path().join("vocab.gguf");
    edit.write(&path);
    path.to_string_lossy().into_owned()
}

const COMMANDS: [&str; 5] = ["run", "chat", "inspect", "tokenize", "logits"];

mod usage {
    use super::*;

    #[test]
    fn help_pages() {
        insta::assert_snapshot!("help", tealight(["--help"]).quietly());
        for name in COMMANDS {
            insta::assert_snapshot!(format!("help-{name}"), tealight([name, "--help"]).quietly());
        }
    }

    #[test]
    fn without_arguments_the_first_steps_are_shown() {
        let text = tealight::<&str>([]).error(2);
        for name in ["run", "chat", "inspect"] {
            assert!(text.contains(&format!("tealight {name} MODEL.gguf")), "{text}");
        }
    }

    #[test]
    fn the_version_is_that_of_the_package() {
        assert_eq!(tealight(["--version"]).quietly(), format!("tealight {}\n", env!("CARGO_PKG_VERSION")));
    }

    fn check(args: &[&str], words: &[&str]) {
        let text = tealight(args).error(2);
        for word in words {
            assert!(text.contains(word), "{args:?}: {text}");
        }
    }

    #[test]
    fn wrong_usage_says_what_is_right() {
        let m = &model("qwen3");
        check(&["inspct"], &["inspct", "inspect"]);
        check(&["run", m, "hi", "--tempp", "1"], &["--tempp", "'--temp'"]);
        check(&["run", m, "--temp", "warm", "hi"], &["warm", "--temp", "number"]);
        check(&["run", m, "--temp", "nan", "hi"], &["--temp"]);
        check(&["run", m, "--samplers", "top_k;magic", "hi"], &["magic", "top_p"]);
        check(&["run", m, "-ctk", "q9_0", "hi"], &["q9_0", "q8_0"]);
        check(&["run", m, "why", "not"], &["`not`", "quotes"]);
        check(&["run", m], &["no prompt", "tealight chat"]);
        check(&["run"], &["no model"]);
        check(&["chat"], &["no model"]);
        check(&["run", m, "--raw", "-sys", "Be brief", "hi"], &["system message", "--raw"]);
        check(&["run", &model("phi2"), "-sys", "Be brief", "hi"], &["system message", "template"]);
        check(&["run", m, "-c", "8", "a text of more than eight tokens"], &["8", "-c"]);
        check(&["run", m, "hi", "-t", "5000"], &["5000"]);
        check(&["logits", m, "--tokens", "1,2"], &["--output"]);
        check(&["logits", m, "-o", "-"], &["no tokens"]);
        check(&["logits", m, "--tokens", "1,9999", "-o", "-"], &["9999"]);
        check(&["logits", m, "--tokens", "1", "--label", "blk.9.q", "-o", "-"], &["blk.9.q", "blk.0.q", "head.logits"]);
        check(&["logits", m, "--tokens", "1", "-o", m], &["is the input"]);
        check(&["run", m, "hi", "--repeat-penalty", "0"], &["repeat_penalty", "a number above 0"]);
        check(&["run", m, "hi", "--repeat-last-n", "-2"], &["repeat_last_n", "-1"]);
        let llama = &model("llama31");
        check(&["run", llama, "hi", "-l", "3+1", "-l", "999999+5"], &["--logit-bias", "999999", "384 tokens"]);
        check(&["chat", llama, "-l", "384-inf"], &["--logit-bias", "384 tokens"]);
    }

    #[test]
    fn a_variable_that_is_out_of_range_is_named() {
        for value in ["many", "0", "65537", "\u{1b}[2J"] {
            for args in [&["run", &model("qwen3"), "hi"][..], &["logits", &model("qwen3"), "--tokens", "1", "-o", "-"]]
            {
                let mut command = command(args);
                command.env("TEALIGHT_UBATCH", value);
                let text = finish(command, None).error(2);
                assert!(text.contains("TEALIGHT_UBATCH=`") && !text.contains('\u{1b}'), "{text}");
            }
        }
    }

    #[test]
    fn the_manual_names_every_flag_subcommand_and_exit_code() {
        let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")).unwrap();
        for name in COMMANDS {
            assert!(manual.contains(&format!("tealight {name}")), "{name}");
            let help = tealight([name, "--help"]).quietly();
            for flag in help.split_whitespace().filter(|w| w.starts_with("--") && w.len() > 2) {
                let flag = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                assert!(manual.contains(&format!("`{flag}`")), "{name} {flag}");
            }
        }
        for code in [0, 1, 2, 3, 4, 5, 6, 7, 130] {
            assert!(manual.contains(&format!("| {code} |")), "exit code {code}");
        }
        for (name, _, _) in tealight::Knobs::LIST {
            assert!(manual.contains(&format!("`{name}`")), "{name}");
        }
    }
}

mod files {
    use super::*;

    fn check(name: &str, path: &Path, code: i32, words: &[&str]) {
        let path = path.to_string_lossy();
        let rest: &[&str] = match name {
            "run" | "tokenize" => &["hi"],
            "logits" => &["--tokens", "1", "-o", "-"],
            _ => &[],
        };
        let text = tealight([&[name, &path], rest].concat()).error(code);
        for word in words {
            assert!(text.contains(word), "{name} {path}: {text}");
        }
        assert!(text.contains("\nhint: "), "{name} {path}: {text}");
    }

    #[test]
    fn what_is_no_model_is_refused_by_every_command() {
        let folder = TempDir::new("cli-files");
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 98362432\n";
        let whole = std::fs::read(model("qwen3")).unwrap();
        let cases = [
            (folder.path().join("absent.gguf"), 5, "absent.gguf"),
            (folder.path().to_owned(), 3, "a folder"),
            (file("empty.gguf", b""), 3, "empty"),
            (file("text.gguf", b"This is a text and not a model, whatever its name says.\n"), 3, "not a GGUF file"),
            (file("pointer.gguf", pointer), 3, "Git LFS"),
            (file("cut.gguf", &whole[..whole.len() / 2]), 3, "byte"),
        ];
        for (path, code, word) in &cases {
            for name in COMMANDS {
                check(name, path, *code, &[word]);
            }
        }
    }

    #[test]
    fn an_architecture_that_does_not_run_is_inspected_and_refused() {
        let folder = TempDir::new("cli-arch");
        let path = folder.path().join("m.gguf");
        let mut edit = Edit::read(Path::new(&model("qwen3")));
        edit.set("general.architecture", "dream\u{1b}[2J");
        edit.write(&path);
        let path = path.to_string_lossy().into_owned();
        let text = tealight(["inspect", &path]).quietly();
        assert!(text.contains("runs           no: architecture `dream\\u{1b}[2J` is not supported"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&tealight(["inspect", &path, "--json"]).quietly()).unwrap();
        assert_eq!((&json["runs"], &json["memory"]), (&false.into(), &serde_json::Value::Null));
        for name in ["run", "chat", "logits"] {
            check(name, Path::new(&path), 3, &["dream\\u{1b}[2J"]);
        }
    }
}

mod inspect {
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
                let (offset, n) =
                    (found["offset"].as_u64().unwrap() as usize, found["bytes"].as_u64().unwrap() as usize);
                assert_eq!(&bytes[offset..offset + n], tensor.data, "{name} {}", tensor.name);
            }
            assert_eq!(report["runs"], true);
            assert_eq!(report["architecture"], read_json(&fixtures().join(&name).join("expect.json"))["architecture"]);
        }
    }

    #[test]
    fn memory_follows_the_context() {
        let path = model("qwen3");
        let at =
            |n: &str, ty: &str| json(&["inspect", &path, "--json", "-c", n, "-ctk", ty, "-ctv", ty])["memory"].clone();
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
}

mod tokenize {
    use super::*;

    #[test]
    fn ids_are_those_of_the_reference() {
        let folder = TempDir::new("cli-tokenize");
        let mut n_case = 0;
        for name in fixture_names() {
            let vocab = vocabulary_only(&folder, &name);
            let expect = read_json(&fixtures().join(&name).join("expect.json"));
            for case in expect["tokenization"].as_array().expect("cases") {
                let text = case["text"].as_str().expect("a text");
                let mut flags = Vec::new();
                if case["add_special"] == false {
                    flags.push("--no-bos");
                }
                if case["parse_special"] == true {
                    flags.push("--special");
                }
                let want: Vec<_> = tokens(&case["ids"]).iter().map(u32::to_string).collect();
                let run = piped([&["tokenize", &vocab], &flags[..]].concat(), text.as_bytes());
                assert_eq!(
                    (run.code, run.text().trim_end_matches('\n')),
                    (Some(0), want.join(" ").as_str()),
                    "{name} {text:?}"
                );
                n_case += 1;
            }
        }
        assert!(n_case >= 20, "{n_case} cases");
    }

    #[test]
    fn text_comes_from_the_argument_or_standard_input() {
        let m = model("llama31");
        let args = ["tokenize", &m, "-q"];
        let by_argument = tealight([&args[..], &["Hello, world!\n"]].concat()).quietly();
        assert_eq!(piped(args, b"Hello, world!\n").quietly(), by_argument);
        assert_eq!(piped([&args[..], &["-"]].concat(), b"Hello, world!\n").quietly(), by_argument);
        assert_ne!(piped(args, b"Hello, world!").quietly(), by_argument, "each byte counts");
        assert_eq!(by_argument.split(' ').next(), Some("379"), "the token that begins a text");
        assert_eq!(
            format!("379 {}", tealight([&args[..], &["--no-bos", "Hello, world!\n"]].concat()).quietly()),
            by_argument
        );
    }

    #[test]
    fn control_tokens_are_text_unless_asked_for() {
        let m = model("qwen3");
        let args = ["tokenize", &m, "-q", "<|im_start|>"];
        assert!(tealight(args).quietly().split(' ').count() > 1);
        let pieces = tealight([&args[..], &["--special", "--pieces"]].concat()).quietly();
        assert_eq!(pieces.split_once('\t').map(|p| p.1), Some("\"<|im_start|>\"\n"));
    }

    /// A copy of a fixture whose vocabulary names a token that it does not have.
    fn odd_vocabulary(folder: &TempDir) -> String {
        let mut edit = Edit::read(Path::new(&model("qwen3")));
        edit.set("tokenizer.ggml.padding_token_id", 9999u32);
        let path = folder.path().join("odd.gguf");
        edit.write(&path);
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn what_is_odd_about_a_vocabulary_is_said_where_it_is_used() {
        let folder = TempDir::new("cli-odd");
        let m = odd_vocabulary(&folder);
        let odd = |args: &[&str]| {
            let run = tealight(args);
            assert_eq!(run.code, Some(0), "{}", run.stderr);
            run.stderr.lines().any(|l| l.starts_with("warning: ") && l.contains("padding_token_id"))
        };
        assert!(odd(&["tokenize", &m, "Hello"]));
        assert!(odd(&["logits", &m, "--prompt", "Hello", "-o", "-", "--label", "blk.0.q"]));
        assert!(odd(&["run", &m, "Hello", "-n", "1"]));
        assert!(!odd(&["logits", &m, "--tokens", "1,2", "-o", "-", "--label", "blk.0.q"]));
        assert!(!odd(&["logits", &m, "-q", "--prompt", "Hello", "-o", "-", "--label", "blk.0.q"]));
    }

    #[test]
    fn pieces_are_quoted() {
        let pieces = piped(["tokenize", "-q", &model("llama31"), "--pieces", "--no-bos"], b"a\x1b\"\n").quietly();
        let text: String = pieces
            .lines()
            .map(|l| l.split_once("\t\"").expect("id and text").1.strip_suffix('"').expect("a quote"))
            .collect();
        assert_eq!(text, "a\\u{1b}\\\"\\n");
    }
}

mod run {
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
        let mut child = command(["run", &m, "Hello", "-c", "500000", "--ignore-eos", "-s", "1"])
            .spawn()
            .expect("the binary starts");
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
}

mod chat {
    use super::*;

    fn talk(input: &str) -> Run {
        piped(["chat", &model("qwen3"), "-q", "-n", "6", "-s", "2"], input.as_bytes())
    }

    #[test]
    fn each_line_is_a_turn() {
        let one = talk("Hello\n").quietly();
        assert_eq!(
            one,
            tealight(["run", &model("qwen3"), "Hello", "-q", "-n", "6", "-s", "2"])
                .quietly()
                .trim_end_matches('\n')
                .to_owned()
                + "\n"
        );
        let two = talk("Hello\n\nAnd you?").quietly();
        assert!(two.starts_with(&one) && two.len() > one.len() && two.ends_with('\n'), "{two:?}");
        assert_eq!(talk("").quietly(), "");
    }

    #[test]
    fn commands_change_the_conversation() {
        let one = talk("Hello\n").quietly();
        assert_eq!(talk("/clear\nHello\n/bye\nAnd you?\n").quietly(), one);
        let twice = one.clone() + &one;
        assert_eq!(talk("Hello\n/clear\nHello\n").quietly(), twice);
        assert_eq!(talk("Hello\n/undo\nHello\n").quietly(), twice);
        let other = talk("/system Be brief.\nHello\n").quietly();
        assert_ne!(other, one);
        assert_eq!(talk("/system Be brief.\n/system\nHello\n").quietly(), one);
        let again = talk("Hello\n/regen\n").quietly();
        assert!(again.starts_with(&one) && again != twice, "the answer differs: {again:?}");
        let help = talk("/help\n");
        assert_eq!((help.code, help.text()), (Some(0), ""));
        assert!(help.stderr.contains("/regen"), "{}", help.stderr);
    }

    #[test]
    fn a_script_stops_at_what_is_wrong() {
        assert!(talk("/sing\nHello\n").error(2).contains("`/sing`"));
        let text = piped(["chat", &model("phi2")], b"Hello\n").error(3);
        assert!(text.contains("no chat template") && text.contains("run --raw"), "{text}");
    }
}

mod logits {
    use super::*;

    fn written(args: &[&str], model: &str, tokens: &[u32]) -> Vec<f32> {
        let folder = TempDir::new("cli-logits");
        let path = folder.path().join("l.f32");
        let tokens = ids(tokens);
        let path_text = path.to_string_lossy().into_owned();
        let run = tealight([&["logits", model, "--tokens", &tokens, "-o", &path_text], args].concat());
        assert_eq!(run.quietly(), "");
        read_f32(&path)
    }

    fn check(found: &[f32], want: &[f32], bound: f32, what: &str) {
        assert_eq!(found.len(), want.len(), "{what}");
        let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let error = found.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
        assert!(error <= bound, "{what}: {error:e}");
    }

    #[test]
    fn logits_equal_the_reference_however_they_are_fed() {
        for name in fixture_names() {
            let folder = fixtures().join(&name);
            let want = read_f32(&folder.join("logits.f32"));
            let tokens = tokens(&read_json(&folder.join("expect.json"))["tokens"]);
            let model = model(&name);
            check(&written(&["--exact"], &model, &tokens), &want, 1e-4, &name);
            check(&written(&["--exact", "--chunk", "7"], &model, &tokens), &want, 1e-4, &name);
            check(&written(&["-ctk", "f32", "-ctv", "f32", "-t", "3"], &model, &tokens), &want, 1e-3, &name);
            let n_vocab = want.len() / tokens.len();
            let last = written(&["--exact", "--last", "--chunk", "5"], &model, &tokens);
            check(&last, &want[want.len() - n_vocab..], 1e-4, &name);
        }
    }

    #[test]
    fn standard_output_takes_them_too() {
        let m = model("qwen3");
        let bytes = tealight(["logits", &m, "--tokens", "1,2,3", "-o", "-"]).stdout;
        let floats: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(floats, written(&[], &m, &[1, 2, 3]));
    }

    #[test]
    fn a_label_writes_what_is_inside() {
        let m = model("qwen3");
        // 4 heads of 32.
        let all = written(&["--label", "blk.1.q", "--exact"], &m, &[5, 6, 7]);
        assert_eq!(all.len(), 3 * 128);
        assert_eq!(written(&["--label", "blk.1.q", "--exact", "--last"], &m, &[5, 6, 7]), all[2 * 128..]);
        let logits = written(&["--exact"], &m, &[5, 6, 7]);
        assert_eq!(written(&["--label", "head.logits", "--exact"], &m, &[5, 6, 7]), logits);
        assert_eq!(written(&["--label", "head.logits", "--exact", "--last"], &m, &[5, 6, 7]), logits[2 * 376..]);
    }

    #[test]
    fn a_prompt_is_its_tokens() {
        let m = model("llama31");
        let ids = tealight(["tokenize", "-q", &m, "Hello"]).quietly();
        let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let run = tealight(["logits", &m, "--prompt", "Hello", "-o", "-"]);
        assert_eq!(run.stdout.len(), ids.len() * 384 * 4);
        let floats: Vec<f32> = run.stdout.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(floats, written(&[], &m, &ids));
    }

    /// By the definition: the second half of each chunk, from the logits of whole chunks.
    #[test]
    fn perplexity_is_that_of_the_logits() {
        const N_CTX: usize = 32;
        let (m, folder) = (model("llama31"), TempDir::new("cli-nll"));
        let file = folder.path().join("t.txt");
        let text = "It was a bright cold day in April, and the clocks were striking thirteen. ".repeat(8);
        std::fs::write(&file, &text).unwrap();
        let all = piped(["tokenize", "-q", &m], text.as_bytes()).quietly();
        let all: Vec<u32> = all.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let bos = all[0];
        let (mut sum, mut n) = (0.0, 0);
        for chunk in all.chunks_exact(N_CTX).take(3) {
            let mut chunk = chunk.to_vec();
            chunk[0] = bos;
            let logits = written(&["--exact"], &m, &chunk);
            let rows: Vec<_> = logits.chunks_exact(384).collect();
            for i in N_CTX / 2..N_CTX - 1 {
                let sum_exp: f64 = rows[i].iter().map(|x| f64::from(*x).exp()).sum();
                sum += sum_exp.ln() - f64::from(rows[i][chunk[i + 1] as usize]);
                n += 1;
            }
        }
        assert_eq!(n, 3 * 15);
        let want = (sum / f64::from(n)).exp();
        let file = file.to_string_lossy();
        let args = ["logits", "-q", &m, "--nll", "-f", &file];
        let run = |rest: &[&str]| tealight([&args[..], rest].concat());
        let line = run(&["--ctx", "32", "--chunks", "3", "--exact"]).quietly();
        let found =
            line.strip_prefix("Final estimate: PPL = ").and_then(|l| l.split_once(" +/- ")).expect("the last line");
        let found: f64 = found.0.parse().expect("a number");
        assert!((found / want - 1.0).abs() < 1e-4, "{found} {want}");
        // One scored token has a perplexity and no error of it.
        let one = run(&["--ctx", "4", "--chunks", "1"]).quietly();
        let one = one.strip_prefix("Final estimate: PPL = ").and_then(|l| l.strip_suffix('\n'));
        assert!(one.and_then(|x| x.parse::<f64>().ok()).is_some_and(|x| x >= 1.0), "{one:?}");
        assert!(run(&["--chunks", "0"]).error(2).contains("--chunks"));
        let text = run(&["--ctx", "5000"]).error(2);
        assert!(text.contains("two chunks of 5000") && text.contains("hint: "), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn an_interrupt_leaves_no_file() {
        let folder = TempDir::new("cli-stop");
        let path = folder.path().join("l.f32");
        let tokens = ids(&[3; 20_000]);
        let mut child = command(["logits", &model("qwen3"), "--exact", "-t", "1", "--tokens", &tokens, "-o"])
            .arg(&path)
            .spawn()
            .expect("the binary starts");
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        while files() == 0 {
            assert!(child.try_wait().expect("a child").is_none(), "it ended early");
            std::thread::yield_now();
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
        assert_eq!((child.wait().expect("an end").code(), files()), (Some(130), 0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_size_limit_is_an_error_and_leaves_no_file() {
        let folder = TempDir::new("cli-fsize");
        let path = folder.path().join("l.f32");
        let script = "ulimit -f 16; exec \"$0\" logits \"$1\" --tokens \"$2\" -o \"$3\"";
        let tokens = ids(&[3; 200]);
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_tealight"), &model("qwen3"), &tokens]).arg(&path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        assert!(finish(command, None).error(5).contains("cannot write"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
