//! Pages of commands and topics.

use super::*;

#[test]
fn help_of_a_command_is_its_page() {
    for name in COMMANDS.iter().filter(|n| **n != "help") {
        let page = tealight(["help", name]).quietly();
        assert_eq!(page, tealight([name, "-h"]).quietly(), "{name}");
    }
}

#[test]
fn topics_are_answered_from_the_table() {
    let text = tealight(["help", "convert"]).quietly();
    assert!(text.contains("tealight quantize HF_FOLDER out.gguf Q4_K_M\n"), "{text}");
    // Names of one answer, words in place of underscores, and the name of the model's label.
    for words in [&["help", "privacy"][..], &["help", "offline"], &["help", "Offline", "and", "private"]] {
        let text = tealight(words).quietly().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("nothing you type leaves the machine"), "{words:?}: {text}");
    }
    let all = tealight(["help"]).quietly();
    assert!(all.contains("Commands:") && all.contains("Topics") && all.contains(" convert "), "{all}");
    assert!(!all.contains("joke"), "{all}");
    let text = tealight(["help", "quant"]).error(2);
    assert!(text.contains("`quant`") && text.contains("which_quant"), "{text}");
    assert!(tealight(["help", "\u{1b}[2J"]).error(2).contains("tealight help"));
}
