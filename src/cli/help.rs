//! `tealight help`: the page of a command, or the answer to a topic.

use clap::CommandFactory;
use tealight::error::printable;

use super::args::{Cli, HelpArgs};
use super::facts::{self, Fact};
use super::output::Output;
use super::{Outcome, usage};

pub(crate) fn run(args: &HelpArgs, out: &mut Output) -> Outcome {
    if args.faq {
        return out.bytes(facts::faq().as_bytes());
    }
    let mut cli = Cli::command();
    let facts = facts::all();
    let Some(word) = args.words.first() else {
        let text = format!("{}\n{}", cli.render_help(), topics(&facts));
        return out.bytes(text.as_bytes());
    };
    // Builds the pages as `--help` shows them, with the options of all commands.
    cli.build();
    if let Some(command) = cli.find_subcommand_mut(word) {
        return out.bytes(command.render_help().to_string().as_bytes());
    }
    let wanted = args.words.join("_").to_lowercase().replace('-', "_");
    let means = |f: &&Fact| {
        f.is_topic()
            && (f.id == wanted || f.intents.contains(&wanted) || f.label.to_lowercase() == wanted.replace('_', " "))
    };
    match facts.iter().find(means) {
        Some(fact) => out.bytes(page(fact).as_bytes()),
        None => Err(unknown(&wanted, &facts)),
    }
}

/// A fact as a page.
fn page(fact: &Fact) -> String {
    let mut text = format!("{}\n\n{}\n", fact.question, wrapped(&facts::capitalised(&fact.answer.replace('`', ""))));
    if !fact.commands.is_empty() {
        text += "\n";
        fact.commands.iter().for_each(|c| text += &format!("  {c}\n"));
    }
    if !fact.see.is_empty() {
        let topic = |see: &String| if see.ends_with(".md") { see.clone() } else { format!("tealight help {see}") };
        text += &format!("\nSee {}\n", fact.see.iter().map(topic).collect::<Vec<_>>().join(", "));
    }
    text
}

/// Lines of at most 90 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.chars().count() + word.chars().count() > 90 {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

fn topics(facts: &[Fact]) -> String {
    let ids: Vec<&str> = facts.iter().filter(|f| f.is_topic()).map(|f| f.id.as_str()).collect();
    format!("Topics (`tealight help TOPIC`):\n{}\n", wrapped(&ids.join(" ")))
}

fn unknown(wanted: &str, facts: &[Fact]) -> super::Failure {
    let names = || facts.iter().filter(|f| f.is_topic()).flat_map(|f| f.intents.iter().chain([&f.id]));
    let part = |name: &&String| name.split('_').any(|p| wanted.split('_').any(|w| w.len() > 2 && p.starts_with(w)));
    let mut near: Vec<&str> = names().filter(part).map(String::as_str).collect();
    near.sort_unstable();
    near.dedup();
    let hint = match near[..] {
        [] => "`tealight help` lists the commands and topics".to_owned(),
        _ => format!("did you mean {}?", near.join(" or ")),
    };
    usage(format!("no command and no topic is called `{}`", printable(wanted)), &hint)
}
