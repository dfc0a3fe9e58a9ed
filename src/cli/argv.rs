//! Spellings that clap does not know: `_` for `-` in long flags, and llama.cpp's short flags of several letters.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::Command;

/// llama.cpp's short flags of several letters, and the long flags that they stand for.
const SHORT: &[(&str, &str)] = &[
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-dev", "--device"),
    ("-ngl", "--gpu-layers"),
    ("-ub", "--ubatch-size"),
    ("-pg", "--prompt-and-gen"),
    ("-sys", "--system-prompt"),
    ("-sysf", "--system-prompt-file"),
    ("-no-cnv", "--no-conversation"),
    ("-cnv", "--conversation"),
    ("-st", "--single-turn"),
    ("-sp", "--special"),
];

/// Rewrites flags to the spelling that `command` declares; values of flags, and everything behind `--`, stay.
pub(crate) fn normalise(argv: Vec<OsString>, command: &Command) -> Vec<OsString> {
    let takes_value = flags_with_value(command);
    let mut is_value = true; // the name of the program
    let mut behind_dashes = false;
    argv.into_iter()
        .map(|word| {
            if behind_dashes || std::mem::take(&mut is_value) {
                return word;
            }
            let Some(text) = word.to_str() else { return word };
            behind_dashes = text == "--";
            let text = spelled(text);
            is_value = takes_value.contains(text.as_str());
            text.into()
        })
        .collect()
}

fn spelled(word: &str) -> String {
    if let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == word) {
        return (*long).to_owned();
    }
    match word.split_once('=') {
        _ if !word.starts_with("--") => word.to_owned(),
        Some((flag, value)) => format!("{}={value}", flag.replace('_', "-")),
        None => word.replace('_', "-"),
    }
}

/// Every spelling of every flag that takes a value, in any subcommand.
fn flags_with_value(command: &Command) -> BTreeSet<String> {
    let all = std::iter::once(command).chain(command.get_subcommands());
    let arguments = all.flat_map(Command::get_arguments).filter(|a| a.get_action().takes_values());
    let mut flags = BTreeSet::new();
    for argument in arguments {
        flags.extend(argument.get_short_and_visible_aliases().into_iter().flatten().map(|c| format!("-{c}")));
        flags.extend(argument.get_long().map(|long| format!("--{long}")));
        flags.extend(argument.get_all_aliases().into_iter().flatten().map(|long| format!("--{long}")));
    }
    flags
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Cli;
    use super::normalise;

    fn check(words: &str, expected: &str) {
        let argv = words.split(' ').map(Into::into).collect();
        let found: Vec<_> =
            normalise(argv, &Cli::command()).into_iter().map(|w| w.into_string().expect("text")).collect();
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn spellings_of_llama_cpp_are_understood() {
        check(
            "tealight run m -ctk q8_0 --top_k=3 --min_p 0.1",
            "tealight run m --cache-type-k q8_0 --top-k=3 --min-p 0.1",
        );
        check("tealight run m -ngl 99 -dev a_b -dev -ngl", "tealight run m --gpu-layers 99 --device a_b --device -ngl");
        check("tealight run m --n_gpu_layers -1", "tealight run m --n-gpu-layers -1");
    }

    #[test]
    fn values_and_plain_words_stay() {
        check("a_b run -p --top_k --prompt -ctk x_y", "a_b run -p --top_k --prompt -ctk x_y");
        check("t run m -- --top_k -ctk", "t run m -- --top_k -ctk");
        check("t run m --prompt=--a_b", "t run m --prompt=--a_b");
    }
}
