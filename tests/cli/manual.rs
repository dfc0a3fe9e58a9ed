//! `tealight completions` and `tealight man`.

use super::*;

#[test]
fn completions_know_every_command_and_flag() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = tealight(["completions", shell]).quietly();
        for name in COMMANDS {
            assert!(script.contains(name), "{shell} {name}");
        }
        for flag in ["think", "json-schema", "top-k", "gpu-layers"] {
            assert!(script.contains(flag), "{shell} {flag}");
        }
    }
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
