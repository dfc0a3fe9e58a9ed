//! `tealight completions` and `tealight man`.

use super::*;

/// What a shell is offered for the last of these words.
fn offered(words: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let mut command = command([&["--", "tealight"], words].concat());
    let index = words.len().to_string();
    command.envs([("TEALIGHT_COMPLETE", "zsh"), ("_CLAP_COMPLETE_INDEX", &index), ("_CLAP_IFS", "\n")]);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_shell_is_offered_commands_flags_and_values() {
    let commands = offered(&[""], &[]);
    COMMANDS.iter().for_each(|name| assert!(commands.iter().any(|c| c == name), "{name}: {commands:?}"));
    assert!(!commands.iter().any(|c| c == "completions"), "what is hidden is not offered: {commands:?}");
    assert_eq!(offered(&["run", "--json-s"], &[]), ["--json-schema"]);
    let thinking = offered(&["chat", "--think", ""], &[]);
    assert!(["on", "off", "hide"].iter().all(|w| thinking.iter().any(|t| t == w)), "{thinking:?}");
    assert!(offered(&["help", "quant"], &[]).iter().any(|c| c == "quantize"));
    assert!(offered(&["help", "exit_c"], &[]).iter().any(|c| c == "exit_codes"));
}

/// Models by name, in any case, and files; kept chats.
#[test]
fn a_shell_is_offered_what_the_machine_has() {
    let folder = TempDir::new("offered");
    let models = folder.path().join("models");
    std::fs::create_dir(&models).unwrap();
    std::fs::copy(model("llama31"), models.join("Llama-Tiny.gguf")).unwrap();
    let (models, data) = (models.to_string_lossy(), folder.path().join("data"));
    let data = data.to_string_lossy();
    let variables = [("TEALIGHT_MODELS_DIR", &*models), ("TEALIGHT_DATA_DIR", &*data)];
    assert_eq!(offered(&["run", "llama-t"], &variables), ["Llama-Tiny"]);
    assert_eq!(offered(&["inspect", "Llama"], &variables), ["Llama-Tiny"]);
    assert_eq!(offered(&["bench", "-m", "Llama"], &variables), ["Llama-Tiny"]);
    let begun = format!("{models}/Ll");
    assert_eq!(offered(&["run", &begun], &variables), [format!("{models}/Llama-Tiny.gguf")]);
    assert!(offered(&["chat", "--name", ""], &variables).is_empty());
    let mut chat = command(["chat", "Llama-Tiny", "--name", "trip", "-n", "1"]);
    chat.envs(variables).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut chat = chat.spawn().unwrap();
    std::io::Write::write_all(&mut chat.stdin.take().unwrap(), b"hello\n").unwrap();
    assert!(chat.wait().unwrap().success());
    assert_eq!(offered(&["chat", "--name", "t"], &variables), ["trip"]);
    assert_eq!(offered(&["chats", "show", ""], &variables), ["trip"]);
}

#[test]
fn an_unknown_shell_is_refused() {
    let text = tealight(["completions", "tcsh"]).error(2);
    assert!(text.contains("tcsh") && text.contains("fish"), "{text}");
}

/// Shells that are here read their scripts.
#[test]
fn shells_can_read_their_completions() {
    let folder = TempDir::new("completions");
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let path = folder.path().join(shell);
        std::fs::write(&path, tealight(["completions", shell]).quietly()).unwrap();
        match Command::new(shell).arg(check).arg(&path).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => common::skipped(&format!("the completions of {shell}: it is not installed")),
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let page = tealight(["man"]).quietly();
    assert!(page.contains(".TH tealight 1") && page.contains("tealight\\-run(1)"), "{page}");
    let folder = TempDir::new("man");
    let pages = folder.path().join("man1");
    tealight(["man", &pages.to_string_lossy()]).quietly();
    assert_eq!(std::fs::read_to_string(pages.join("tealight.1")).unwrap(), page);
    for name in COMMANDS {
        let page = std::fs::read_to_string(pages.join(format!("tealight-{name}.1"))).unwrap();
        assert!(page.contains(&format!(".TH tealight-{name} 1")) && page.contains("\\-\\-quiet"), "{page}");
    }
    assert_eq!(std::fs::read_dir(&pages).unwrap().count(), COMMANDS.len() + 1, "hidden commands have none");
}
