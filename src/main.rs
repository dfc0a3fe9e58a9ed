//! The `tealight` command: a client of the library. Reads arguments, runs a subcommand, ends with its exit code.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::main(std::env::args_os().collect()))
}
