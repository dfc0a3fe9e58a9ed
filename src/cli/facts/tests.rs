use std::collections::HashSet;
use std::path::Path;

use clap::{CommandFactory, Parser};
use tealight::ErrorKind;
use tealight::engine::built_in;

use super::*;
use crate::cli::args::Cli;
use crate::cli::{argv, chat};

/// The words of a shell command: blanks apart, quotes together.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    words
}

fn parses(command: &str) -> bool {
    let argv = argv::normalise(words(command).into_iter().map(Into::into).collect(), &Cli::command());
    match Cli::try_parse_from(argv) {
        Ok(_) => true,
        Err(e) => matches!(e.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion),
    }
}

#[test]
fn the_table_is_whole() {
    let facts = parse(TABLE).unwrap();
    let mut ids = HashSet::new();
    for fact in &facts {
        assert!(ids.insert(&fact.id), "{} stands twice", fact.id);
        assert!(!fact.answer.is_empty() && !fact.group.is_empty(), "{}", fact.id);
        assert_eq!(fact.is_topic(), !fact.question.is_empty() && !fact.label.is_empty(), "{}", fact.id);
    }
    for fact in &facts {
        for see in &fact.see {
            let is_page = Path::new(env!("CARGO_MANIFEST_DIR")).join(see).is_file();
            assert!(is_page || facts.iter().any(|f| f.id == *see), "{} names `{see}`", fact.id);
        }
    }
    assert!(parse("id = \"x\"").is_err() && parse("[[fact]]\nid = 3").is_err() && parse("[[fact]]\nx = \"\"").is_err());
}

#[test]
fn every_command_of_the_table_is_one_of_the_program() {
    for fact in all() {
        for command in &fact.commands {
            assert!(parses(command), "{}: `{command}`", fact.id);
        }
    }
    assert!(!parses("tealight fly") && !parses("tealight run --wings"));
}

/// Flags in answers: those that a subcommand has, or that stand in a command of the same fact.
#[test]
fn every_flag_in_an_answer_is_one_of_the_program() {
    let cli = Cli::command();
    let mut known: HashSet<String> = HashSet::new();
    for command in cli.get_subcommands().chain([&cli]) {
        for arg in command.get_arguments() {
            known.extend(arg.get_long().map(|l| format!("--{l}")));
            known.extend(arg.get_short().map(|s| format!("-{s}")));
        }
    }
    // clap adds these itself; `-ngl` and its like are two-letter flags of llama.cpp (`argv.rs`).
    known.extend(["--help", "--version", "-ngl"].map(String::from));
    for fact in all() {
        for code in fact.answer.split('`').skip(1).step_by(2).filter(|c| !c.starts_with("cargo ")) {
            for word in code.split(' ').filter(|w| w.starts_with('-') && w.len() > 1) {
                assert!(known.contains(word), "{}: `{word}`", fact.id);
            }
        }
    }
}

#[test]
fn slash_commands_are_those_of_the_chat() {
    let known: HashSet<&str> = chat::command_names().collect();
    for fact in all() {
        for code in fact.answer.split('`').skip(1).step_by(2).filter(|c| c.starts_with('/')) {
            let word = code.split(' ').next().unwrap_or_default();
            assert!(known.contains(&word[1..]), "{}: `{word}`", fact.id);
        }
    }
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let fact = all().into_iter().find(|f| f.id == "exit_codes").unwrap();
    let kinds = [
        (ErrorKind::Internal, "another fault"),
        (ErrorKind::Usage, "wrong usage"),
        (ErrorKind::Model, "a bad model"),
        (ErrorKind::Memory, "memory or disk"),
        (ErrorKind::Io, "reading or writing"),
        (ErrorKind::Gpu, "the GPU"),
        (ErrorKind::Network, "the network"),
        (ErrorKind::Interrupted, "interrupted"),
    ];
    let codes: Vec<String> = kinds.iter().map(|(kind, text)| format!("{} {text}", kind.exit_code())).collect();
    assert_eq!(fact.answer, format!("0 is success, {}.", codes.join(", ")));
    for (id, kind) in
        [("out_of_memory", ErrorKind::Memory), ("bad_file", ErrorKind::Model), ("architectures", ErrorKind::Model)]
    {
        let text = all().into_iter().find(|f| f.id == id).unwrap().answer.to_lowercase();
        assert!(text.contains(&format!("exit code {}", kind.exit_code())), "{id}");
    }
}

#[test]
fn the_page_of_questions_is_made_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faq.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page == faq(), "write it anew: tealight help --faq > docs/faq.md");
    assert!(!page.contains(TALK));
}

#[test]
fn the_built_in_model_learned_this_table() {
    let Some(gguf) = built_in().unwrap() else {
        println!("skipped: the build has no built-in model");
        return;
    };
    assert!(are_learned().unwrap(), "an answer changed: train the model again (models/spark/make.sh)");
    let size: u64 = gguf.file_sizes().sum();
    assert!(size <= 10_000_000, "{size}");
}
