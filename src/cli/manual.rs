//! `tealight man`: manual pages, made from the declaration of arguments.

use std::io::Write;

use clap::CommandFactory;
use clap_mangen::Man;
use tealight::gguf::AtomicFile;
use tealight::{Error, ErrorKind};

use super::Outcome;
use super::args::{Cli, ManArgs};
use super::output::Output;

/// Writes one page, or all of them to a folder, which is made if need be.
pub(crate) fn pages(args: &ManArgs, out: &mut Output) -> Outcome {
    // The command that only repeats help pages has no page; by building, subcommands get their full names.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.folder else { return out.bytes(&page(&command)?) };
    std::fs::create_dir_all(folder).map_err(|e| Error::io("cannot create the folder", folder, e))?;
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
    for command in std::iter::once(&command).chain(shown) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = folder.join(format!("{name}.1"));
        let mut file = AtomicFile::create(&path, &[])?;
        file.write_all(&page(command)?).map_err(|e| Error::io("cannot write", &path, e))?;
        file.commit()?;
    }
    Ok(())
}

fn page(command: &clap::Command) -> Outcome<Vec<u8>> {
    let mut page = Vec::new();
    let cannot = |e| Error::new(ErrorKind::Internal, format!("cannot write a manual page: {e}"));
    Man::new(command.clone()).render(&mut page).map_err(cannot)?;
    Ok(page)
}
