//! `tealight chat` through a pipe.

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
fn settings_are_those_of_the_flags() {
    let one = talk("Hello\n").quietly();
    let with = |flags: &[&str], input: &str| {
        let m = model("qwen3");
        let args = [&["chat", &m, "-n", "6", "-s", "2"], flags].concat();
        let run = piped(args, input.as_bytes());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        (run.text().to_owned(), run.stderr)
    };
    for (flags, line) in [
        (&["--temp", "0"][..], "/set temp 0"),
        (&["--top-k", "2"], "/set top_k 2"),
        (&["--seed", "9"], "/set --seed 9"),
        (&["-n", "3"], "/set parameter num_predict 3"),
        (&["--regex", "a|b"], "/set regex a|b"),
        (&["--json-schema", "{\"const\": 1}"], "/set json-schema {\"const\": 1}"),
        (&["--samplers", "top_k;temperature"], "/set samplers top_k;temperature"),
        (&["-r", "e"], "/set reverse-prompt e"),
        (&["-l", "5+100"], "/set logit-bias 5+100"),
        (&["--ignore-eos"], "/set ignore-eos on"),
        (&["-sys", "Be brief."], "/set system Be brief."),
    ] {
        let by_flag = with(flags, "Hello\n").0;
        assert_eq!(with(&[], &format!("{line}\nHello\n")).0, by_flag, "{line}");
        let reset = with(&[], &format!("{line}\n/set reset\n/system\nHello\n")).0;
        assert_eq!(reset, one, "{line}");
    }
    let (_, shown) = with(&["--min-p", "0.25"], "/set temp 0.5\n/set stop xyz\n/set stop none\n/set\n");
    let value = |name: &str| shown.lines().rev().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).map(str::trim);
    assert_eq!([value("temp"), value("min-p"), value("reverse-prompt")], [Some("0.5"), Some("0.25"), Some("none")]);
    for (line, word) in [
        ("/set tempp 1", "no setting `tempp`"),
        ("/set temp warm", "expected a number"),
        ("/set temp", "needs a value"),
        ("/set regex a(b", "line 1, column 2"),
        ("/set ctx-size 5", "for good"),
        ("/set special maybe", "on or off"),
        ("/set repeat-penalty 0", "repeat_penalty"),
        ("/set system-prompt-file x", "cannot change in a conversation"),
        ("/think maybe", "on, off and hide"),
        ("/show nothing", "`nothing`"),
        ("/save", "needs a path"),
    ] {
        let text = talk(&format!("{line}\nHello\n")).error(2);
        assert!(text.contains(word), "{line}: {text}");
    }
}

#[test]
fn a_variable_has_its_say_once() {
    let m = model("qwen3");
    let mut by_variable = command(["chat", &m, "-q", "-n", "6", "-s", "2"]);
    by_variable.env("LLAMA_ARG_TEMPERATURE", "0");
    let run = finish(by_variable, Some(b"/set temp 0.8\n/set top-k 40\nHello\n"));
    assert_eq!(run.quietly(), talk("Hello\n").quietly());
}

#[test]
fn questions_are_edited_without_an_editor() {
    let asked = talk("Hi\n/edit Hello\n").quietly();
    let (first, second) = (talk("Hi\n").quietly(), talk("Hello\n").quietly());
    assert_eq!(asked, first + &second);
    assert!(talk("Hi\n/edit\n").stderr.contains("`/edit TEXT`"));
}

#[test]
fn a_script_stops_at_what_is_wrong() {
    assert!(talk("/sing\nHello\n").error(2).contains("`/sing`"));
    let text = piped(["chat", &model("phi2")], b"Hello\n").error(3);
    assert!(text.contains("no chat template") && text.contains("run --raw"), "{text}");
}
