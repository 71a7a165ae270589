//! The files: each kind yields its rows as the cells that the mapping reads, one row at a time.
//!
//! Owns what a row is in each format, and where it stands. Never knows what a cell means.

mod lines;
mod csv;
mod json_lines;
mod parquet;

use self::csv::CsvRows;
use self::json_lines::JsonRows;
use self::parquet::ParquetRows;
use super::HistoryError;
use super::mapping::Sheet;
use crate::domain::EpochMs;
use serde::Deserialize;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    Csv,
    JsonLines,
    Parquet,
}

/// One value of a row. Numbers are texts, written as the file writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Empty,
    Text(String),
    Instant(EpochMs),
    /// Milliseconds of a clock in the mapping's time zone, counted as if it were UTC.
    WallClock(i64),
}

/// One row: its cells in the order of the mapping's columns, or why it has none.
pub(super) struct RawRow {
    pub(super) number: u64,
    /// As it stands in the file; `None` when the file holds no text.
    pub(super) text: Option<String>,
    pub(super) cells: Result<Vec<Cell>, String>,
}

/// An open file.
pub(super) enum RowSource {
    Csv(CsvRows<BufReader<File>>),
    JsonLines(JsonRows<BufReader<File>>),
    Parquet(Box<ParquetRows>),
}

impl RowSource {
    /// Opens a file and checks that it has the columns that the mapping reads, as far as its format tells.
    pub(super) fn open<D>(path: &Path, sheet: &Sheet<D>) -> Result<Self, HistoryError> {
        let file = path.display().to_string();
        let opened = File::open(path).map_err(|source| HistoryError::Io { file: file.clone(), source })?;
        match sheet.shape.format.map_or_else(|| format_of(path), Ok)? {
            Format::Csv => CsvRows::open(BufReader::with_capacity(1 << 16, opened), sheet.shape.delimiter, &sheet.columns, file)
                .map(Self::Csv),
            Format::JsonLines => {
                Ok(Self::JsonLines(JsonRows::open(BufReader::with_capacity(1 << 16, opened), sheet.columns.clone(), file)))
            }
            Format::Parquet => ParquetRows::open(opened, &sheet.columns, file).map(|rows| Self::Parquet(Box::new(rows))),
        }
    }

    /// The next row, or `None` at the end of the file.
    pub(super) fn next_row(&mut self) -> Result<Option<RawRow>, HistoryError> {
        match self {
            Self::Csv(rows) => rows.next_row(),
            Self::JsonLines(rows) => rows.next_row(),
            Self::Parquet(rows) => rows.next_row(),
        }
    }

    /// Columns that are there, or were in the rows so far, and are not read.
    pub(super) fn unread(&self) -> &[String] {
        match self {
            Self::Csv(rows) => rows.unread(),
            Self::JsonLines(rows) => rows.unread(),
            Self::Parquet(rows) => rows.unread(),
        }
    }

    /// How much of the file has been read.
    pub(super) fn bytes_read(&self) -> u64 {
        match self {
            Self::Csv(rows) => rows.bytes_read(),
            Self::JsonLines(rows) => rows.bytes_read(),
            Self::Parquet(rows) => rows.bytes_read(),
        }
    }
}

fn format_of(path: &Path) -> Result<Format, HistoryError> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    match ending.as_str() {
        "csv" | "tsv" | "txt" => Ok(Format::Csv),
        "jsonl" | "ndjson" | "json" => Ok(Format::JsonLines),
        "parquet" => Ok(Format::Parquet),
        _ => Err(HistoryError::Format {
            file: path.display().to_string(),
            problem: "its ending does not tell its format; set `format` in the mapping to csv, json_lines or parquet".to_owned(),
        }),
    }
}

/// A list of names for an error, bounded.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.take(101).collect();
    if names.len() > 100 {
        names[100] = "...";
    }
    names.join(", ")
}
