//! `tealight models`: the models on this machine, by name.

use std::path::Path;

use serde_json::{Value as Json, json};
use tealight::engine::{BUILT_IN, available_memory, built_in};
use tealight::error::escaped;
use tealight::shelf::{Facts, Found, Places, Shelf};
use tealight::{Error, Knobs};

use super::args::ModelsArgs;
use super::output::Output;
use super::{Outcome, files};

pub(crate) fn run(args: &ModelsArgs, out: &mut Output) -> Outcome {
    let places = Places::of_system(&Knobs::from_env()?);
    let shelf = Shelf::search(&places);
    shelf.notes.iter().for_each(|note| out.warning(note));
    let rows: Vec<Row<'_>> = shelf.models.iter().map(|found| Row { found, facts: found.facts() }).collect();
    let text = match args.json {
        true => format!("{:#}\n", object(&rows, &places)?),
        false => table(&rows, args.paths)?,
    };
    out.bytes(text.as_bytes())?;
    if rows.is_empty() && !args.json {
        out.notice(&nothing(&places));
    }
    Ok(())
}

/// A model and what its metadata says.
struct Row<'a> {
    found: &'a Found,
    facts: Result<Facts, Error>,
}

impl Row<'_> {
    fn ty(&self) -> Option<&'static str> {
        files::file_type(self.facts.as_ref().ok()?.file_type?)
    }

    /// Why it cannot be used, without the name of its file.
    fn fault(&self) -> Option<String> {
        let error = self.facts.as_ref().err()?;
        let text = error.to_string();
        let prefix = error.file().map(|f| format!("{}: ", escaped(&f.to_string_lossy()))).unwrap_or_default();
        Some(text.strip_prefix(&prefix).unwrap_or(&text).to_owned())
    }

    fn object(&self) -> Json {
        let facts = self.facts.as_ref().ok();
        json!({
            "name": self.found.name,
            "path": self.found.path.to_string_lossy(),
            "keeper": self.found.keeper.to_string(),
            "bytes": self.found.bytes,
            "files": self.found.n_file,
            "architecture": facts.and_then(|f| f.architecture.as_deref()),
            "file_type": self.ty(),
            "parameters": facts.map(|f| f.n_parameter),
            "chat_template": facts.map(|f| f.has_template),
            "is_model": facts.is_some_and(|f| f.is_model),
            "fault": self.fault(),
        })
    }

    fn remark(&self) -> String {
        match (&self.facts, self.fault()) {
            (_, Some(fault)) => format!("broken: {fault}"),
            (Ok(facts), None) if !facts.is_model => "part of a model, nothing to talk to".to_owned(),
            // Weights must be in memory to be fast; the cache comes on top, as `check` computes.
            (Ok(_), None) if available_memory().is_some_and(|free| self.found.bytes > free) => {
                "larger than the memory that is free".to_owned()
            }
            _ => String::new(),
        }
    }
}

fn object(rows: &[Row<'_>], places: &Places) -> Outcome<Json> {
    let places =
        places.roots().map(|(keeper, path)| json!({"keeper": keeper.to_string(), "path": path.to_string_lossy()}));
    let inside =
        built_in()?.map(|gguf| json!({"name": BUILT_IN, "bytes": gguf.file_sizes().fold(0, u64::saturating_add)}));
    Ok(json!({
        "models": rows.iter().map(Row::object).collect::<Json>(),
        "built_in": inside,
        "places": places.collect::<Json>(),
    }))
}

/// A line per model, in columns.
fn table(rows: &[Row<'_>], paths: bool) -> Outcome<String> {
    let mut lines: Vec<[String; 6]> = Vec::new();
    for row in rows {
        let n_file = if row.found.n_file > 1 { format!(" in {} files", row.found.n_file) } else { String::new() };
        let facts = row.facts.as_ref().ok();
        let unknown = || "-".to_owned();
        lines.push([
            row.found.name.clone(),
            format!("{}{n_file}", files::size(row.found.bytes)),
            row.ty().map_or_else(unknown, str::to_owned),
            facts.and_then(|f| f.architecture.as_deref()).map_or_else(unknown, tealight::error::printable),
            row.found.keeper.to_string(),
            row.remark(),
        ]);
    }
    if let Some(gguf) = built_in()? {
        let size = files::size(gguf.file_sizes().fold(0, u64::saturating_add));
        let ty = gguf.metadata().u64("general.file_type")?.and_then(files::file_type).unwrap_or("-");
        let remark = "small: knows tealight and little else".to_owned();
        lines.push([BUILT_IN.to_owned(), size, ty.to_owned(), "llama".to_owned(), "built in".to_owned(), remark]);
    }
    let widths: Vec<usize> = (0..5).map(|k| lines.iter().map(|l| l[k].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (k, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &n)| format!("{cell:<n$}")).collect();
        text += format!("{}  {}", cells.join("  "), line[5]).trim_end();
        text.push('\n');
        if let Some(row) = rows.get(k).filter(|_| paths) {
            text += &format!("    {}\n", path_text(&row.found.path));
        }
    }
    Ok(text)
}

fn path_text(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// What to say where there is nothing.
fn nothing(places: &Places) -> String {
    let mut text = "no models found; looked into\n".to_owned();
    for (keeper, path) in places.roots() {
        text += &format!("  {}  ({keeper})\n", path_text(path));
    }
    text + "`tealight help get_models` tells where models come from"
}
