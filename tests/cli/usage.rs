//! Help, misuse, exit codes.

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
    check(&["inspect"], &["no model"]);
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
    check(&["run", m, "hi", "--device", ""], &["--device", "auto, cpu, gpu"]);
    check(&["run", m, "hi", "-ngl", "many"], &["`many`", "--gpu-layers", "auto or all"]);
    check(&["run", m, "hi", "-ngl", "-3"], &["`-3`"]);
    check(&["chat", m, "--gpu-check", "maybe"], &["`maybe`", "off, on or force"]);
    check(&["devices", m], &["unexpected argument"]);
    check(&["run", m, "hi", "--regex", "a(b"], &["regular expression: line 1, column 2"]);
    check(&["run", m, "hi", "--grammar", "root ::= \"a\" )"], &["line 1, column 14"]);
    check(&["chat", m, "-j", "{\"uniqueItems\":true}"], &["`uniqueItems`"]);
    check(&["run", m, "hi", "-j", "{\n\"type\":}"], &["line 2, column"]);
    check(&["run", m, "hi", "--regex", "a", "--grammar", "root ::= \"a\""], &["--regex", "--grammar"]);
    check(&["run", m, "hi", "-j", "{}", "--grammar-file", "g"], &["--json-schema", "--grammar-file"]);
    let llama = &model("llama31");
    check(&["run", llama, "hi", "-l", "3+1", "-l", "999999+5"], &["--logit-bias", "999999", "384 tokens"]);
    check(&["chat", llama, "-l", "384-inf"], &["--logit-bias", "384 tokens"]);
}

#[test]
fn a_variable_that_is_out_of_range_is_named() {
    for value in ["many", "0", "65537", "\u{1b}[2J"] {
        for args in [&["run", &model("qwen3"), "hi"][..], &["logits", &model("qwen3"), "--tokens", "1", "-o", "-"]] {
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
