//! History in files of any shape, read by a mapping into the engine's records.
//!
//! Owns: the mapping language (`mapping`), the sources (`source`: CSV, JSON lines, Parquet), the conversion of a cell into a
//! field (`convert`), the finding of payments (`chains`), the rejects file and the report; and static rules from files (`rules`), by
//! mappings of the same language.
//! Never sends a record anywhere, never reads a clock, and never stops at a bad row: a row that cannot be used becomes a
//! [`Reject`] with file, row number and reason, and reading goes on.
//! Neighbours: `domain` gives the records and their checks; the replay command carries what is read to an engine or a log.
//!
//! One row is one attempt: it yields the attempt, its outcome when the row tells one, and a routing request when asked for. Or, where
//! the mapping says so, a row counts attempts, which are spread over its time (`spread`).
//!
//! Memory: one row, plus the chains whose gap has not passed. With `sorted = false` the whole history is held and sorted:
//! the converted row and the original one, 1.5 to 2 KB each, so 2 GB for a million rows.

mod targets;
mod mapping;
mod decimal;
mod times;
mod convert;
mod source;
mod chains;
mod spread;
mod rules;
mod reader;
mod rejects;
mod report;

pub use chains::ChainPlace;
pub use mapping::Mapping;
pub use reader::{HistoryReader, Progress};
pub use rejects::RejectsFile;
pub use report::{HistoryReport, PspCount};
pub use rules::{ImportedRules, RuleMapping};

use crate::domain::payment::{PaymentAttempt, PaymentOutcome, RoutingRequest};
use serde_json::{Map, Value};
use std::io;
use thiserror::Error;

/// What ends the reading. The user is to act: each text names the file, the key or column, and the remedy.
#[derive(Debug, Error)]
pub enum HistoryError {
    #[error("{file}: {source}; check the path and its permissions")]
    Io { file: String, source: io::Error },
    #[error("mapping {file} is not readable: {problem}")]
    MappingSyntax { file: String, problem: String },
    #[error("mapping {file}: {key}: {problem}")]
    Mapping { file: String, key: String, problem: String },
    #[error("{file} has no column {column:?}, which the mapping reads; the columns there are: {present}")]
    MissingColumn { file: String, column: String, present: String },
    #[error("{file}: {problem}")]
    Format { file: String, problem: String },
}

/// Which routing requests are put before the attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requests {
    #[default]
    None,
    /// One before the first attempt of each payment.
    PerPayment,
    /// One before each attempt.
    PerAttempt,
}

/// What one row of history says, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEvents {
    pub request: Option<RoutingRequest>,
    pub attempt: PaymentAttempt,
    /// Absent when the mapping or the row tells no result.
    pub outcome: Option<PaymentOutcome>,
    pub place: ChainPlace,
    /// What the row's columns of JSON hold that no field reads, by column.
    pub unread: Map<String, Value>,
}

/// A row that is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub file: String,
    /// The line on which the row starts, counted from 1; in Parquet the number of the row.
    pub row: u64,
    pub reason: String,
    /// The row as it stands in the file, card numbers masked; of Parquet the mapped columns, as JSON.
    pub text: String,
}

/// One row, used or left out.
#[derive(Clone, Debug, PartialEq)]
pub enum HistoryRow {
    Events(Box<HistoryEvents>),
    Reject(Reject),
}
