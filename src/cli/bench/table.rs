//! Lines of results as they come, in every form.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::super::args::BenchFormat;

/// A column for people: its name, and whether it stands at the right.
pub(super) type Column = (&'static str, bool);

/// Writes lines that all have the same fields.
pub(super) struct Table {
    format: BenchFormat,
    columns: &'static [Column],
    n_row: usize,
}

impl Table {
    pub fn new(format: BenchFormat, columns: &'static [Column]) -> Self {
        Self { format, columns, n_row: 0 }
    }

    fn head(&self) -> String {
        match self.format {
            BenchFormat::Md => {
                let names = self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | ");
                let rules = self.columns.iter().map(|(_, at_right)| if *at_right { "---:" } else { "---" });
                format!("| {names} |\n| {} |\n", rules.collect::<Vec<_>>().join(" | "))
            }
            BenchFormat::Json => "[\n".to_owned(),
            BenchFormat::Csv | BenchFormat::Jsonl => String::new(),
        }
    }

    /// What ends the output.
    pub fn tail(&self) -> String {
        match self.format {
            BenchFormat::Json if self.n_row == 0 => "[]\n".to_owned(),
            BenchFormat::Json => "\n]\n".to_owned(),
            _ => String::new(),
        }
    }

    /// A result, as an object and as a line of the table for people.
    pub fn row(&mut self, object: &Json, markdown: &str) -> String {
        self.n_row += 1;
        let is_first = self.n_row == 1;
        let head = if is_first { self.head() } else { String::new() };
        let line = match self.format {
            BenchFormat::Md => markdown.to_owned(),
            BenchFormat::Jsonl => format!("{object}\n"),
            BenchFormat::Json => format!("{}{object:#}", if is_first { "" } else { ",\n" }),
            BenchFormat::Csv => csv(object, is_first),
        };
        head + &line
    }
}

/// A share of a limit for people.
pub(super) fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", 100.0 * share))
}

/// The object's fields but lists, as llama-bench's table has them; null is an empty cell.
fn csv(object: &Json, with_names: bool) -> String {
    let mut text = String::new();
    let fields: Vec<_> = object.as_object().into_iter().flatten().filter(|(_, v)| !v.is_array()).collect();
    let quoted = |t: &str| format!("\"{}\"", t.replace('"', "\"\""));
    let cell = |value: &Json| match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut line = |cells: Vec<String>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", cells.join(","));
    };
    if with_names {
        line(fields.iter().map(|(name, _)| (*name).clone()).collect());
    }
    line(fields.iter().map(|(_, v)| quoted(&cell(v))).collect());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_of_a_csv_line_are_quoted() {
        let text = csv(&json!({"a": "x \"y\", z", "b": 1.5, "c": null, "samples": [1]}), true);
        assert_eq!(text, "a,b,c\n\"x \"\"y\"\", z\",\"1.5\",\"\"\n");
    }

    #[test]
    fn every_form_of_nothing_and_of_two_rows_is_whole() {
        let form = |format, n: i32| {
            let mut table = Table::new(format, &[("a", false), ("b", true)]);
            let rows: String =
                (0..n).map(|i| table.row(&json!({"a": "x", "b": i}), &format!("| x | {i} |\n"))).collect();
            rows + &table.tail()
        };
        assert_eq!(form(BenchFormat::Md, 2), "| a | b |\n| --- | ---: |\n| x | 0 |\n| x | 1 |\n");
        assert_eq!(form(BenchFormat::Csv, 2), "a,b\n\"x\",\"0\"\n\"x\",\"1\"\n");
        for n in [0, 2] {
            let rows: Vec<Json> = serde_json::from_str(&form(BenchFormat::Json, n)).unwrap();
            assert_eq!(rows.len(), n as usize);
            assert_eq!(form(BenchFormat::Jsonl, n).lines().count(), n as usize);
        }
    }
}
