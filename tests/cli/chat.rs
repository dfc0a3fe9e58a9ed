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
fn a_script_stops_at_what_is_wrong() {
    assert!(talk("/sing\nHello\n").error(2).contains("`/sing`"));
    let text = piped(["chat", &model("phi2")], b"Hello\n").error(3);
    assert!(text.contains("no chat template") && text.contains("run --raw"), "{text}");
}
