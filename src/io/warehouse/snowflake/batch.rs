//! Rows on their way: NDJSON in portions that one request takes.

use super::super::{Cell, Row, Table};
use chrono::DateTime;
use serde::Serialize;
use std::collections::VecDeque;
use std::io;

/// A request takes 4 MB after compression, and zstd makes nothing longer by more than half a percent.
const PORTION_BYTES_MAX: usize = 3_900_000;
/// Quick, and about as small as the slower ones on rows like these.
const LEVEL: i32 = 1;

/// What one request carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// zstd.
    pub(super) body: Vec<u8>,
    /// Offsets of its first and its last row.
    pub(super) offsets: (i64, i64),
}

/// Rows of one channel, in order.
pub(super) struct Batch {
    /// `"NAME":` of each column.
    keys: Vec<String>,
    offset_column: usize,
    line: Vec<u8>,
    lines: Vec<u8>,
    offsets: Option<(i64, i64)>,
    full: VecDeque<Portion>,
}

impl Batch {
    /// None: the table has no column that says where a row comes from.
    pub(super) fn new(table: &Table) -> Option<Self> {
        let offset_column = table.columns.iter().position(|column| column.name == "offset")?;
        // Unquoted names are upper case there.
        let keys = table.columns.iter().map(|column| format!("\"{}\":", column.name.to_uppercase())).collect();
        Some(Self { keys, offset_column, line: Vec::new(), lines: Vec::new(), offsets: None, full: VecDeque::new() })
    }

    pub(super) fn push(&mut self, row: &Row) -> Result<(), String> {
        let Some(Cell::Long(offset)) = row.0.get(self.offset_column) else { return Err("a row has no offset".to_owned()) };
        if row.0.len() != self.keys.len() {
            return Err(format!("a row has {} cells, the table {} columns", row.0.len(), self.keys.len()));
        }
        self.line.clear();
        write_row(&self.keys, row, &mut self.line).map_err(|error| error.to_string())?;
        if self.line.len() > PORTION_BYTES_MAX {
            return Err(format!("the row at offset {offset} is larger than a request may be"));
        }
        if self.lines.len() + self.line.len() > PORTION_BYTES_MAX {
            self.close_portion()?;
        }
        self.lines.extend_from_slice(&self.line);
        self.offsets = Some((self.offsets.map_or(*offset, |(first, _)| first), *offset));
        Ok(())
    }

    /// The next request, until all rows are handed out.
    pub(super) fn next(&mut self) -> Result<Option<Portion>, String> {
        if self.full.is_empty() {
            self.close_portion()?;
        }
        Ok(self.full.pop_front())
    }

    fn close_portion(&mut self) -> Result<(), String> {
        if let Some(offsets) = self.offsets.take() {
            let body = zstd::bulk::compress(&self.lines, LEVEL).map_err(|error| error.to_string())?;
            self.lines.clear();
            self.full.push_back(Portion { body, offsets });
        }
        Ok(())
    }
}

/// One line. A column without value is left out.
fn write_row(keys: &[String], row: &Row, into: &mut Vec<u8>) -> io::Result<()> {
    let mut before = b'{';
    for (key, cell) in keys.iter().zip(&row.0).filter(|(_, cell)| **cell != Cell::Null) {
        into.push(before);
        into.extend_from_slice(key.as_bytes());
        write_cell(cell, into)?;
        before = b',';
    }
    if before == b'{' {
        into.push(before);
    }
    into.extend_from_slice(b"}\n");
    Ok(())
}

fn write_cell(cell: &Cell, into: &mut Vec<u8>) -> io::Result<()> {
    match cell {
        Cell::Null => json(&(), into),
        Cell::Text(text) => json(text, into),
        Cell::Flag(flag) => json(flag, into),
        Cell::Int(value) => json(value, into),
        Cell::Long(value) => json(value, into),
        // JSON has no such number; the vendor reads these words in a column of doubles.
        Cell::Double(value) if value.is_nan() => json("NaN", into),
        Cell::Double(value) if value.is_infinite() => json(if *value > 0.0 { "inf" } else { "-inf" }, into),
        Cell::Double(value) => json(value, into),
        Cell::Time(at) => json(&time(*at), into),
        Cell::Texts(texts) => json(texts, into),
        Cell::Floats(values) => json(values, into),
        Cell::Doubles(values) => json(values, into),
        Cell::FloatLists(lists) => json(lists, into),
    }
}

fn json<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) -> io::Result<()> {
    Ok(serde_json::to_writer(into, value)?)
}

/// UTC, as a column without zone reads it.
fn time(at: i64) -> String {
    DateTime::from_timestamp_millis(at).unwrap_or_default().format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::super::super::Catalogue;
    use super::super::super::conformance::{NOON, row};
    use super::*;

    fn table() -> Table {
        Catalogue::shipped().unwrap().table("ML_MODEL_STAGES").unwrap().clone()
    }

    fn lines(portion: &Portion) -> Vec<serde_json::Value> {
        let text = zstd::stream::decode_all(&portion.body[..]).unwrap();
        text.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[test]
    fn a_row_is_one_line_with_the_names_of_its_columns() {
        let mut batch = Batch::new(&table()).unwrap();
        batch.push(&row(3, 0, NOON)).unwrap();
        batch.push(&row(3, 1, NOON)).unwrap();
        let portion = batch.next().unwrap().unwrap();
        assert_eq!((portion.offsets, batch.next().unwrap()), ((0, 1), None));
        let expected = serde_json::json!({
            "TOPIC": "control.models", "PARTITION": 3, "OFFSET": 1, "PREVIOUS_OFFSET": 0, "INGESTED_AT": "2026-01-05T12:00:00.000",
            "MODEL": "selector", "VERSION": "1", "STAGE": "ACTIVE", "STAGE_AT": "2026-01-05T12:00:00.000", "SETTINGS_JSON": "{}",
        });
        let lines = lines(&portion);
        assert_eq!(lines[1], expected);
        assert!(lines[0].get("PREVIOUS_OFFSET").is_none(), "the first row follows none");
    }

    #[test]
    fn values_are_written_so_that_they_are_read_as_they_were() {
        let mut text = Vec::new();
        for cell in [
            Cell::Text("a\"b\n\u{e9}".to_owned()),
            Cell::Flag(true),
            Cell::Long(i64::MIN),
            Cell::Double(0.1),
            Cell::Double(f64::NAN),
            Cell::Double(f64::NEG_INFINITY),
            Cell::Time(-1),
            Cell::Floats(vec![0.1, f32::NAN]),
            Cell::Doubles(vec![None, Some(2.5)]),
            Cell::FloatLists(vec![vec![], vec![1.0]]),
        ] {
            write_cell(&cell, &mut text).unwrap();
            text.push(b' ');
        }
        let expected = "\"a\\\"b\\n\u{e9}\" true -9223372036854775808 0.1 \"NaN\" \"-inf\" \"1969-12-31T23:59:59.999\" [0.1,null] [null,2.5] [[],[1.0]] ";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_portion_never_is_more_than_a_request_takes() {
        let mut batch = Batch::new(&table()).unwrap();
        // Letters that look drawn: hardly anything to compress.
        let mut dice = 7_u64;
        let mut noise = |length: usize| {
            (0..length)
                .map(|_| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    char::from(33 + (dice >> 40) as u8 % 90)
                })
                .collect::<String>()
        };
        for offset in 0..30 {
            let mut row = row(0, offset, NOON);
            row.0[10] = Cell::Text(noise(400_000));
            batch.push(&row).unwrap();
        }
        let (mut next, mut portions) = (0, 0);
        while let Some(portion) = batch.next().unwrap() {
            assert!(portion.body.len() <= 4_000_000, "{}", portion.body.len());
            assert_eq!(portion.offsets.0, next);
            assert_eq!(lines(&portion).len() as i64, portion.offsets.1 + 1 - portion.offsets.0);
            (next, portions) = (portion.offsets.1 + 1, portions + 1);
        }
        assert_eq!((next, portions > 2), (30, true));
        let mut huge = row(0, 30, NOON);
        huge.0[10] = Cell::Text(noise(4_000_000));
        assert!(batch.push(&huge).unwrap_err().contains("offset 30"));
    }
}
