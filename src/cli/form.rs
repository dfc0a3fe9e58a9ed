//! Flags of the form that an answer keeps to.

use std::path::{Path, PathBuf};

use clap::Args;
use tealight::sample::grammar::Grammar;

use super::{Outcome, input};

/// One of them at most.
#[derive(Debug, Default, Args)]
#[group(id = "form", multiple = false)]
pub(crate) struct FormArgs {
    /// JSON schema that the answer is valid by: the schema itself, or a file
    #[arg(short, long, value_name = "FILE|TEXT", help_heading = "Form of the answer")]
    pub json_schema: Option<String>,
    /// Grammar that the answer matches, in GBNF or in Lark
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Form of the answer")]
    pub grammar: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE", help_heading = "Form of the answer")]
    pub grammar_file: Option<PathBuf>,
    /// Regular expression that the whole answer matches
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Form of the answer")]
    pub regex: Option<String>,
}

impl FormArgs {
    /// The form, checked; no model is needed for that.
    pub(crate) fn resolve(&self) -> Outcome<Option<Grammar>> {
        if let Some(word) = &self.json_schema {
            // No schema is another value of JSON, and nobody names a file like one.
            let is_text = word.trim_start().starts_with('{') || matches!(word.trim(), "true" | "false");
            return Ok(Some(match is_text {
                true => Grammar::json_schema(word)?,
                false => of_file(Path::new(word), "the JSON schema", Grammar::json_schema)?,
            }));
        }
        if let Some(path) = &self.grammar_file {
            return Ok(Some(of_file(path, "the grammar", Grammar::parse)?));
        }
        let grammar = self.grammar.as_deref().map(Grammar::parse);
        Ok(grammar.or_else(|| self.regex.as_deref().map(Grammar::regex)).transpose()?)
    }
}

fn of_file(path: &Path, what: &str, read: fn(&str) -> tealight::Result<Grammar>) -> Outcome<Grammar> {
    let text = input::utf8(input::file(path)?, what)?;
    Ok(read(&text).map_err(|e| e.in_file(path))?)
}
