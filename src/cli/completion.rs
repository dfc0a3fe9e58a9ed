//! What the Tab key of a shell offers, made from the declaration of arguments.
//!
//! The script of `tealight completions` asks the program itself at each Tab, by the variable [`VARIABLE`]: so models
//! and chats are those that the machine has at that moment.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, Shells};
use tealight::engine::BUILT_IN;
use tealight::shelf::{Places, Shelf};
use tealight::{Error, ErrorKind, Knobs};

use super::args::{Cli, CompletionsArgs};
use super::output::Output;
use super::{Outcome, chat, facts};

/// Names the shell, when it asks for completions.
const VARIABLE: &str = "TEALIGHT_COMPLETE";

/// Answers a shell that asks for completions; false when none does.
pub(super) fn answer(argv: &[OsString], here: Option<&Path>) -> clap::error::Result<bool> {
    CompleteEnv::with_factory(command).var(VARIABLE).try_complete(argv, here)
}

/// Writes the completions of a shell.
pub(super) fn script(args: &CompletionsArgs, out: &mut Output) -> Outcome {
    let shell = args.shell.to_string();
    let mut script = Vec::new();
    let cannot = |e| Error::new(ErrorKind::Internal, format!("cannot write completions: {e}"));
    let shells = Shells::builtins();
    let writer = shells.completer(&shell).ok_or_else(|| Error::new(ErrorKind::Internal, "no such shell"))?;
    writer.write_registration(VARIABLE, "tealight", "tealight", "tealight", &mut script).map_err(cannot)?;
    out.bytes(&script)
}

/// The command, whose arguments know what may stand in their place.
fn command() -> Command {
    with_values(Cli::command())
}

fn with_values(command: Command) -> Command {
    command.mut_args(with_value).mut_subcommands(with_values)
}

/// An argument by the name of its value: there is one name for each kind of thing.
fn with_value(arg: Arg) -> Arg {
    if arg.get_id() == "model" {
        return arg.add(ArgValueCompleter::new(models));
    }
    let kind = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str()).to_owned();
    match &kind[..] {
        "MODEL" => arg.add(ArgValueCompleter::new(models)),
        "NAME" => arg.add(ArgValueCompleter::new(chats)),
        "COMMAND | TOPIC" => arg.add(ArgValueCompleter::new(topics)),
        "FILE" | "PATH" | "IN" => arg.add(ArgValueCompleter::new(PathCompleter::any())),
        "DIR" | "FOLDER" => arg.add(ArgValueCompleter::new(PathCompleter::dir())),
        _ => arg,
    }
}

/// Names of models, then files.
fn models(begun: &OsStr) -> Vec<CompletionCandidate> {
    let names = Knobs::from_env().map(|knobs| Shelf::search(&Places::of_system(&knobs)).models).unwrap_or_default();
    let names = names.into_iter().map(|found| found.name).chain(cfg!(feature = "spark").then(|| BUILT_IN.to_owned()));
    let mut all = beginning_with(begun, names);
    all.extend(PathCompleter::any().complete(begun));
    all
}

/// Names of kept chats.
fn chats(begun: &OsStr) -> Vec<CompletionCandidate> {
    let entries = chat::store().and_then(|store| store.list()).unwrap_or_default();
    beginning_with(begun, entries.into_iter().map(|entry| entry.name.to_string()))
}

/// Topics and commands of `tealight help`.
fn topics(begun: &OsStr) -> Vec<CompletionCandidate> {
    let commands = Cli::command();
    let commands = commands.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name().to_owned());
    beginning_with(begun, commands.chain(facts::all().into_iter().filter(|f| f.is_topic()).map(|f| f.id)))
}

/// Those that begin so, in any case: names of models are long, and who types them does not know their capitals.
fn beginning_with(begun: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let Some(begun) = begun.to_str().map(str::to_lowercase) else { return Vec::new() };
    names.filter(|name| name.to_lowercase().starts_with(&begun)).map(CompletionCandidate::new).collect()
}
