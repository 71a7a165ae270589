//! JSON lines: an object on each line. A column is a key, or keys with dots between them that lead into nested objects.

use super::lines::Lines;
use super::{Cell, RawRow};
use crate::io::history::HistoryError;
use crate::io::history::convert::json_text;
use serde_json::Value;
use std::io::BufRead;

pub(in super::super) struct JsonRows<R> {
    lines: Lines<R>,
    file: String,
    columns: Vec<String>,
    /// Keys of objects so far that lead to no column; a bounded number.
    unread: Vec<String>,
}

const UNREAD_MAX: usize = 1_000;

impl<R: BufRead> JsonRows<R> {
    pub(super) fn open(reader: R, columns: Vec<String>, file: String) -> Self {
        Self { lines: Lines::new(reader), file, columns, unread: Vec::new() }
    }

    pub(super) fn unread(&self) -> &[String] {
        &self.unread
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }

    pub(super) fn next_row(&mut self) -> Result<Option<RawRow>, HistoryError> {
        let line = loop {
            let line = self.lines.next_line().map_err(|source| HistoryError::Io { file: self.file.clone(), source })?;
            match line {
                Some(line) if line.bytes.iter().all(u8::is_ascii_whitespace) => {}
                Some(line) => break line,
                None => return Ok(None),
            }
        };
        let cells = if line.is_cut { Err("is too long a line".to_owned()) } else { self.cells(&line.bytes) };
        Ok(Some(RawRow { number: line.number, text: Some(String::from_utf8_lossy(&line.bytes).into_owned()), cells }))
    }

    fn cells(&mut self, bytes: &[u8]) -> Result<Vec<Cell>, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"))?;
        let Some(object) = value.as_object() else { return Err("is not a JSON object".to_owned()) };
        for key in object.keys() {
            let is_read =
                |column: &String| column.strip_prefix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            if self.unread.len() < UNREAD_MAX && !self.columns.iter().any(is_read) && !self.unread.contains(key) {
                self.unread.push(key.clone());
            }
        }
        let cell = |column: &String| find(&value, column).and_then(json_text).map_or(Cell::Empty, Cell::Text);
        Ok(self.columns.iter().map(cell).collect())
    }
}

/// The longest key that fits wins, so that a key with dots in it is found too.
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    if let Some(found) = object.get(path) {
        return Some(found);
    }
    let mut ends = path.rmatch_indices('.');
    ends.find_map(|(at, _)| find(object.get(&path[..at])?, &path[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, column: &str, expect: Result<Cell, &str>) {
        let mut rows = JsonRows::open(line.as_bytes(), vec![column.to_owned()], "f.jsonl".to_owned());
        let row = rows.next_row().expect("memory").expect("a row");
        match (row.cells, expect) {
            (Ok(cells), Ok(want)) => assert_eq!(cells, [want], "{line} at {column}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (got, want) => panic!("{line} at {column}: {got:?}, expected {want:?}"),
        }
    }

    #[test]
    fn columns_are_keys_and_paths() {
        let text = |value: &str| Ok(Cell::Text(value.to_owned()));
        check(r#"{"a": 12.10}"#, "a", text("12.1"));
        check(r#"{"a": true}"#, "a", text("true"));
        check(r#"{"a": {"b": {"c": "x"}}}"#, "a.b.c", text("x"));
        check(r#"{"a.b": {"c": "x"}}"#, "a.b.c", text("x"));
        check(r#"{"a": [1, "y"]}"#, "a", text(r#"[1,"y"]"#));
        check(r#"{"a": null}"#, "a", Ok(Cell::Empty));
        check(r#"{"a": 1}"#, "a.b", Ok(Cell::Empty));
        check("\n  \n{}", "a", Ok(Cell::Empty));
        check("[1]", "a", Err("not a JSON object"));
        check("{oops", "a", Err("not JSON"));
        check(&"[".repeat(1000), "a", Err("not JSON"));
    }
}
