//! The door through which everything is printed: results to stdout (as a table, or as JSON), remarks to stderr.
//!
//! With `--output json` the last line on stdout is one JSON object or array, and nothing for people goes there.

use super::globals::OutputFormat;
use anyhow::Result;
use chrono::{DateTime, SecondsFormat};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// One column of a table: its title, where its value lies in a row (a JSON pointer), and how it is shown.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) pointer: &'static str,
    pub(super) show: fn(&Value) -> String,
}

impl Column {
    pub(super) const fn new(title: &'static str, pointer: &'static str) -> Self {
        Self { title, pointer, show: text }
    }

    pub(super) const fn shown(title: &'static str, pointer: &'static str, show: fn(&Value) -> String) -> Self {
        Self { title, pointer, show }
    }
}

/// Text as it is, an absent value as `-`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => one_line(text),
        other => other.to_string(),
    }
}

/// As `text`, but of a fraction no more digits than say something to people.
fn short(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() && number.abs() < 1e6 => {
            let digits = format!("{number:.6}");
            digits.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text(value),
    }
}

/// Milliseconds since 1970 as a UTC time.
pub(super) fn time(value: &Value) -> String {
    let time = value.as_i64().and_then(DateTime::from_timestamp_millis);
    time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// 0–1 as per cent.
pub(super) fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// What was read from a topic is shown without control characters: it may come from anyone.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(super) struct Screen {
    format: OutputFormat,
}

impl Screen {
    pub(super) fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Whether people watch: what is printed can be drawn over.
    pub(super) fn is_live(&self) -> bool {
        !self.is_json() && std::io::stdout().is_terminal()
    }

    /// A line of the result for people; with `--output json` it is left out.
    pub(super) fn say(&self, line: impl Display) -> Result<()> {
        if self.is_json() { Ok(()) } else { print(&format!("{line}\n")) }
    }

    /// Rows as a table, or as one JSON array. `none` says in words that there are none.
    pub(super) fn rows<T: Serialize>(&self, columns: &[Column], rows: &[T], none: &str) -> Result<()> {
        if self.is_json() {
            return print(&format!("{}\n", serde_json::to_string(rows)?));
        }
        if rows.is_empty() {
            return self.say(none);
        }
        let rows: Vec<Value> = rows.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        print(&format!("{}\n", table(columns, &rows)))
    }

    /// Rows whose columns are not known beforehand.
    pub(super) fn records(&self, rows: &[Map<String, Value>]) -> Result<()> {
        if self.is_json() {
            return print(&format!("{}\n", serde_json::to_string(rows)?));
        }
        let Some(first) = rows.first() else { return self.say("no rows") };
        let titles = first.keys().cloned().collect();
        let cells = rows.iter().map(|row| row.values().map(short).collect()).collect();
        let is_number =
            |index: usize| rows.iter().all(|row| row.values().nth(index).is_none_or(|it| it.is_number() || it.is_null()));
        let numeric: Vec<bool> = (0..first.len()).map(is_number).collect();
        print(&format!("{}\n", draw(titles, cells, &numeric)))
    }

    /// The result as one JSON object; for people the command has said it in words.
    pub(super) fn object<T: Serialize>(&self, result: &T) -> Result<()> {
        if self.is_json() { print(&format!("{}\n", serde_json::to_string(result)?)) } else { Ok(()) }
    }
}

/// A text of the result, as it is.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// A remark: not part of the result.
pub(super) fn remark(line: impl Display) {
    // Nobody is left to be told when stderr is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn table(columns: &[Column], rows: &[Value]) -> String {
    let value = |row: &'_ Value, column: &Column| row.pointer(column.pointer).cloned().unwrap_or(Value::Null);
    let titles = columns.iter().map(|column| column.title.to_owned()).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|column| (column.show)(&value(row, column))).collect()).collect();
    let is_number = |value: Value| value.is_number() || value.is_null();
    let numeric: Vec<bool> = columns.iter().map(|column| rows.iter().all(|row| is_number(value(row, column)))).collect();
    draw(titles, cells, &numeric)
}

/// On a terminal as wide as that. `numeric`: the columns that stand to the right.
fn draw(titles: Vec<String>, cells: Vec<Vec<String>>, numeric: &[bool]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(titles);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    }
    table.add_rows(cells);
    for (column, numeric) in table.column_iter_mut().zip(numeric) {
        column.set_padding((0, 2));
        if *numeric {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_shown_for_people() {
        let rows = [json!({"a": "x\u{1b}[2J\ny", "b": {"c": 0.125}, "t": 0}), json!({"a": null, "b": {}})];
        let columns = [Column::new("A", "/a"), Column::shown("C", "/b/c", percent), Column::shown("T", "/t", time)];
        let shown = table(&columns, &rows);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["A", "C", "T"]);
        assert_eq!(lines[1], ["x", "[2J", "y", "12.5", "%", "1970-01-01T00:00:00Z"]);
        assert_eq!(lines[2], ["-", "-", "-"]);
        let short =
            [json!(0.877_966_101), json!(2.0), json!(3), json!("x"), json!(null), json!(1.5e9)].map(|it| super::short(&it));
        assert_eq!(short, ["0.877966", "2", "3", "x", "-", "1500000000.0"]);
    }
}
