//! CSV (RFC 4180): a header line, quotes around fields with delimiters, quotes or line ends in them.
//!
//! Splits by itself rather than with a CSV crate because a broken row must cost no more than itself: its text and line number
//! are wanted for the rejects file, and a stray quote must not swallow the rest of the file.
//! A row that does not add up costs its first line; reading goes on with the second.

use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::{Cell, RawRow, listed};
use crate::io::history::HistoryError;
use std::io::BufRead;

/// A quoted field that runs over more lines than this has lost its closing quote.
const LINES_PER_ROW_MAX: usize = 256;

pub(in super::super) struct CsvRows<R> {
    lines: Lines<R>,
    file: String,
    delimiter: u8,
    header_len: usize,
    /// For each column of the mapping its place in the row.
    places: Vec<usize>,
    unread: Vec<String>,
}

/// One row, split.
struct Record {
    lines: Vec<Line>,
    fields: Result<Vec<Vec<u8>>, String>,
}

impl<R: BufRead> CsvRows<R> {
    pub(super) fn open(reader: R, delimiter: u8, columns: &[String], file: String) -> Result<Self, HistoryError> {
        let mut rows = Self { lines: Lines::new(reader), file, delimiter, header_len: 0, places: Vec::new(), unread: Vec::new() };
        let problem = |file: &str, problem: &str| HistoryError::Format { file: file.to_owned(), problem: problem.to_owned() };
        let Some(record) = rows.next_record()? else {
            return Err(problem(&rows.file, "is empty; a CSV file starts with a line that names its columns"));
        };
        let fields = record.fields.map_err(|why| problem(&rows.file, &format!("its first line names no columns: {why}")))?;
        let header: Vec<String> = fields.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        for column in columns {
            let mut places = header.iter().enumerate().filter(|(_, name)| *name == column).map(|(place, _)| place);
            let Some(place) = places.next() else {
                let present = listed(header.iter().map(String::as_str));
                return Err(HistoryError::MissingColumn { file: rows.file, column: column.clone(), present });
            };
            if places.next().is_some() {
                return Err(problem(&rows.file, &format!("has two columns named {column:?}; rename one of them")));
            }
            rows.places.push(place);
        }
        rows.header_len = header.len();
        rows.unread = header.into_iter().filter(|name| !columns.contains(name)).collect();
        Ok(rows)
    }

    pub(super) fn unread(&self) -> &[String] {
        &self.unread
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }

    pub(super) fn next_row(&mut self) -> Result<Option<RawRow>, HistoryError> {
        let Some(Record { mut lines, fields }) = self.next_record()? else {
            return Ok(None);
        };
        let cells = fields.and_then(|fields| {
            if fields.len() == self.header_len {
                return self.places.iter().map(|&place| cell(&fields[place])).collect();
            }
            Err(format!("has {} columns where the header has {}", fields.len(), self.header_len))
        });
        if cells.is_err() {
            self.lines.give_back(lines.split_off(1));
        }
        let number = lines.first().map_or(0, |line| line.number);
        let text: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(&line.bytes)).collect();
        Ok(Some(RawRow { number, text: Some(text.join("\n")), cells }))
    }

    fn next_line(&mut self) -> Result<Option<Line>, HistoryError> {
        self.lines.next_line().map_err(|source| HistoryError::Io { file: self.file.clone(), source })
    }

    /// Blank lines are no rows.
    fn next_record(&mut self) -> Result<Option<Record>, HistoryError> {
        let first = loop {
            match self.next_line()? {
                Some(line) if line.bytes.iter().all(u8::is_ascii_whitespace) => {}
                Some(line) => break line,
                None => return Ok(None),
            }
        };
        let mut split = Split::new(self.delimiter);
        let mut bytes = first.bytes.len();
        let mut is_open = split.line(&first.bytes);
        let mut lines = vec![first];
        while is_open && bytes <= LINE_BYTES_MAX && lines.len() < LINES_PER_ROW_MAX {
            let Some(line) = self.next_line()? else { break };
            bytes += line.bytes.len();
            split.line_end();
            is_open = split.line(&line.bytes);
            lines.push(line);
        }
        let fields = if lines.iter().any(|line| line.is_cut) || bytes > LINE_BYTES_MAX {
            Err(format!("is longer than {LINE_BYTES_MAX} bytes"))
        } else if is_open {
            Err("has a quote that is not closed".to_owned())
        } else {
            Ok(split.fields)
        };
        Ok(Some(Record { lines, fields }))
    }
}

fn cell(field: &[u8]) -> Result<Cell, String> {
    match std::str::from_utf8(field) {
        Ok("") => Ok(Cell::Empty),
        Ok(text) => Ok(Cell::Text(text.to_owned())),
        Err(_) => Err("is not UTF-8; convert the file, for example with iconv".to_owned()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    FieldStart,
    Bare,
    Quoted,
    /// After a quote inside quotes: the end of the field, or the first half of a doubled quote.
    QuoteInQuotes,
}

struct Split {
    delimiter: u8,
    at: At,
    field: Vec<u8>,
    fields: Vec<Vec<u8>>,
}

impl Split {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, at: At::FieldStart, field: Vec::new(), fields: Vec::new() }
    }

    /// Takes one line; true when the row goes on in the next one.
    fn line(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            self.at = match (self.at, byte) {
                (At::FieldStart, b'"') => At::Quoted,
                (At::Quoted, b'"') => At::QuoteInQuotes,
                (At::QuoteInQuotes, b'"') => self.keep(b'"', At::Quoted),
                (At::Quoted, _) => self.keep(byte, At::Quoted),
                (_, _) if byte == self.delimiter => self.end_field(),
                (_, _) => self.keep(byte, At::Bare),
            };
        }
        if self.at == At::Quoted {
            return true;
        }
        self.at = self.end_field();
        false
    }

    /// The line end inside quotes.
    fn line_end(&mut self) {
        self.field.push(b'\n');
    }

    fn keep(&mut self, byte: u8, at: At) -> At {
        self.field.push(byte);
        at
    }

    fn end_field(&mut self) -> At {
        self.fields.push(std::mem::take(&mut self.field));
        At::FieldStart
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open<'a>(text: &'a [u8], columns: &[&str]) -> Result<CsvRows<&'a [u8]>, HistoryError> {
        let columns: Vec<String> = columns.iter().map(|&c| c.to_owned()).collect();
        CsvRows::open(text, b',', &columns, "f.csv".to_owned())
    }

    fn rows(text: &[u8], columns: &[&str]) -> Vec<(u64, Result<Vec<String>, String>)> {
        let mut rows = open(text, columns).expect("a header");
        let mut got = Vec::new();
        while let Some(row) = rows.next_row().expect("memory") {
            let cells = row.cells.map(|cells| {
                let text = |cell| match cell {
                    Cell::Text(text) => text,
                    _ => String::new(),
                };
                cells.into_iter().map(text).collect()
            });
            got.push((row.number, cells));
        }
        got
    }

    /// `expect` has a line per row: its line number, then its cells with `|` between them, or `!` and a part of the reason.
    fn check(text: &str, columns: &[&str], expect: &[&str]) {
        let got: Vec<String> = rows(text.as_bytes(), columns)
            .into_iter()
            .map(|(number, cells)| {
                cells.map_or_else(|why| format!("{number} !{why}"), |cells| format!("{number} {}", cells.join("|")))
            })
            .collect();
        assert_eq!(got.len(), expect.len(), "{got:?}");
        for (got, want) in got.iter().zip(expect) {
            assert!(if want.contains('!') { got.starts_with(want) } else { got == want }, "{got:?}, expected {want:?}");
        }
    }

    #[test]
    fn rows_are_split_as_the_standard_says() {
        check("a,b\n1,2\n", &["b", "a"], &["2 2|1"]);
        check("\u{feff}a,b\r\n1,2\r\n\r\n3,4", &["a", "b"], &["2 1|2", "4 3|4"]);
        check("a,b\n\"x, \"\"y\"\"\n z\",2\n3,\n", &["a", "b"], &["2 x, \"y\"\n z|2", "4 3|"]);
        check("a,b\nx\"y,5\" pipe\n", &["a", "b"], &["2 x\"y|5\" pipe"]);
    }

    #[test]
    fn a_broken_row_costs_its_first_line() {
        check("a,b\n1\n2,3\n4,5,6\n", &["a"], &["2 !has 1 columns where the header has 2", "3 2", "4 !has 3 columns"]);
        check("a,b\n\"1,2\n3,4\n5,6\n", &["a"], &["2 !has a quote that is not closed", "3 3", "4 5"]);
        check("a,b\n\"1,2\n3,\"4\n5,6\n", &["a"], &["2 !has 1 columns", "3 !has a quote", "4 5"]);
        let long = format!("a,b\n{},2\n3,4\n", "x".repeat(LINE_BYTES_MAX + 1));
        check(&long, &["a"], &["2 !is longer than", "3 3"]);
        let got = rows(b"a,b\n\xff,2\n3,4\n", &["a"]);
        assert!(got[0].1.as_ref().is_err_and(|why| why.contains("UTF-8")) && got[1].1.is_ok());
    }

    #[test]
    fn a_header_without_the_column_says_what_is_there() {
        for (text, columns, part) in [
            ("a,b\n1,2\n", vec!["c"], "no column \"c\", which the mapping reads; the columns there are: a, b"),
            ("a,a\n1,2\n", vec!["a"], "two columns named \"a\""),
            ("", vec!["a"], "is empty"),
            ("\"a,b\n1,2\n", vec!["a"], "quote that is not closed"),
        ] {
            let error = open(text.as_bytes(), &columns).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(part) && error.contains("f.csv"), "{error:?}");
        }
    }

    proptest! {
        /// What the csv crate writes is read back, cell by cell.
        #[test]
        fn agrees_with_another_implementation(table in prop::collection::vec(prop::collection::vec("[a,\" \n;x]{0,6}", 2), 1..20)) {
            let mut writer = ::csv::WriterBuilder::new().quote_style(::csv::QuoteStyle::Always).from_writer(Vec::new());
            writer.write_record(["a", "b"]).expect("memory");
            for row in &table {
                writer.write_record(row).expect("memory");
            }
            let text = writer.into_inner().expect("memory");
            let got: Vec<_> = rows(&text, &["a", "b"]).into_iter().map(|(_, cells)| cells.expect("a good row")).collect();
            prop_assert_eq!(got, table);
        }
    }
}
