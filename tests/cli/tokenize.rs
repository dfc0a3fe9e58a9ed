//! `tealight tokenize`.

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
