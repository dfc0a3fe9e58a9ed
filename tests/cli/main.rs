//! The binary as users and scripts meet it: standard output, standard error, exit code of every subcommand.

mod bench;
mod chat;
mod chats;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod devices;
#[cfg(target_os = "linux")]
mod dialogues;
mod embed;
mod files;
mod help;
mod inspect;
mod logits;
mod manual;
mod models;
mod quantize;
mod run;
#[cfg(target_os = "linux")]
mod terminal;
mod tokenize;
mod usage;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::edit::{Edit, EditTensor, TempDir};
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
        let of_places = ["HF_", "HUGGINGFACE_", "XDG_", "OLLAMA_", "LLAMA_CACHE"];
        let of_us = ["LLAMA_ARG_", "TEALIGHT_", "NO_COLOR", "COLUMNS"];
        if of_us.iter().chain(&of_places).any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // The models of who runs the tests must not matter.
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty-home");
    command.env("HOME", &home).env("USERPROFILE", &home).env("LOCALAPPDATA", &home);
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

const COMMANDS: [&str; 15] = [
    "embed",
    "bench",
    "chats",
    "check",
    "imatrix",
    "perplexity",
    "quantize",
    "run",
    "chat",
    "help",
    "inspect",
    "models",
    "tokenize",
    "logits",
    "devices",
];
/// Those that read a model.
const MODEL_COMMANDS: [&str; 6] = ["bench", "run", "chat", "inspect", "tokenize", "logits"];
