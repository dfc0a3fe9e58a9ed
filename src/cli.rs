//! The command line: arguments, subcommands, what a terminal sees.
//!
//! Standard output carries results and nothing else; notices, progress, timings and errors go to standard error.
//! Everything is written at once and checked: a full disk is an error, a closed pipe a quiet end. Start in
//! `args.rs`; one file per subcommand.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod argv;
mod bench;
mod chat;
mod chats;
mod check;
mod completion;
mod devices;
mod embed;
mod facts;
mod files;
mod form;
mod help;
mod imatrix;
mod input;
mod inspect;
mod interrupt;
mod logits;
mod manual;
mod model;
mod models;
mod output;
mod perplexity;
mod progress;
mod prompt_cache;
mod quantize;
mod reply;
mod run;
mod sampling;
mod screen;
mod terminal;
mod tokenize;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};
use tealight::{Error, ErrorKind};

use args::{Cli, Command};
use interrupt::Interrupt;
use output::Output;

/// How a subcommand ends when it does not succeed.
pub(crate) enum Failure {
    /// Something is wrong; the user is told.
    Error(Error),
    /// Nobody reads standard output any more: a quiet success, as `head` ends its writers.
    ClosedPipe,
    /// The user stopped it; what was written stays.
    Interrupted,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::Error(error),
        }
    }
}

/// What a subcommand returns.
pub(crate) type Outcome<T = ()> = std::result::Result<T, Failure>;

/// A wrong argument.
pub(crate) fn usage(message: impl Into<String>, hint: &str) -> Failure {
    Failure::Error(Error::new(ErrorKind::Usage, message).with_hint(hint))
}

/// Runs the command and returns its exit code.
pub(crate) fn main(argv: Vec<OsString>) -> u8 {
    match completion::answer(&argv, std::env::current_dir().ok().as_deref()) {
        Ok(false) => {}
        Ok(true) => return 0,
        Err(e) => return explain(&e),
    }
    let argv = argv::normalise(argv, &Cli::command());
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(e) => return explain(&e),
    };
    let mut out = Output::new(&cli.shared);
    let outcome = Interrupt::install().and_then(|interrupt| dispatch(cli.command, &mut out, &interrupt));
    match outcome {
        Ok(()) | Err(Failure::ClosedPipe) => 0,
        Err(Failure::Interrupted) => ErrorKind::Interrupted.exit_code(),
        Err(Failure::Error(error)) => {
            out.error(&error);
            error.kind().exit_code()
        }
    }
}

fn dispatch(command: Option<Command>, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    match command {
        Some(Command::Run(args)) => run::run(*args, out, interrupt),
        Some(Command::Chat(args)) => chat::run(*args, out, interrupt),
        Some(Command::Chats(args)) => chats::run(&args, out),
        Some(Command::Tokenize(args)) => tokenize::run(&args, out),
        Some(Command::Inspect(args)) => inspect::run(&args, out),
        Some(Command::Logits(args)) => logits::run(&args, out, interrupt),
        Some(Command::Perplexity(args)) => perplexity::run(&args, out, interrupt),
        Some(Command::Quantize(args)) => quantize::run(*args, out, interrupt),
        Some(Command::Imatrix(args)) => imatrix::run(&args, out, interrupt),
        Some(Command::Bench(args)) => bench::run(&args, out, interrupt),
        Some(Command::Embed(args)) => embed::run(&args, out, interrupt),
        Some(Command::Devices(args)) => devices::run(&args, out),
        Some(Command::Completions(args)) => completion::script(&args, out),
        Some(Command::Man(args)) => manual::pages(&args, out),
        Some(Command::Models(args)) => models::run(&args, out),
        Some(Command::Check(args)) => check::run(&args, out, interrupt),
        Some(Command::Help(args)) => help::run(&args, out),
        None if !input::is_piped() => without_a_command(out, interrupt),
        None => Err(usage("no command given", args::FIRST_STEPS)),
    }
}

/// A person at a terminal gets a conversation.
fn without_a_command(out: &mut Output, interrupt: &Interrupt) -> Outcome {
    match Cli::try_parse_from(["tealight", "chat"]).map(|cli| cli.command) {
        Ok(Some(Command::Chat(args))) => chat::run(*args, out, interrupt),
        _ => Err(usage("no command given", args::FIRST_STEPS)),
    }
}

/// Help and version go to standard output, misuse to standard error.
fn explain(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if error.use_stderr() {
        output::to_stderr(&text);
        return ErrorKind::Usage.exit_code();
    }
    match output::to_stdout(text.as_bytes()) {
        Ok(()) | Err(Failure::ClosedPipe | Failure::Interrupted) => 0,
        Err(Failure::Error(error)) => {
            output::to_stderr(&format!("error: {error}\n"));
            error.kind().exit_code()
        }
    }
}
