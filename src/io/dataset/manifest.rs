//! What a dataset says of itself: lineage, so that a model can be traced to the files that it learned from.

use crate::domain::{EpochMs, hex};
use crate::learn::{Column, ColumnKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// `manifest.json`. Times are milliseconds since 1970, UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Version of the feature catalogue: SHA-256 of its file.
    pub catalogue: String,
    pub rows: u64,
    pub positives: u64,
    /// What makes a row positive.
    pub label: String,
    /// From an attempt to the result that is its label: the median, the 99th percentile, the longest. A model that is to be used
    /// at some time can have learned from no attempt later than that long before.
    pub label_delay_ms: [i64; 3],
    /// Attempts in the range that are no rows, because the history ends before their result is due.
    pub immature: u64,
    /// How the propensities came about.
    pub propensity: String,
    /// The times of the first and the last row.
    pub attempted_at: Option<[EpochMs; 2]>,
    /// What was asked for: from, inclusive, and to, exclusive.
    pub range: [Option<EpochMs>; 2],
    /// Attempts that were read, and the rows of the files, or records of the log, that could not be used.
    pub history_attempts: u64,
    pub history_rejected: u64,
    pub sources: Vec<Source>,
    pub mapping: Option<Source>,
    /// Where the log of a router was read instead of files: the records, by partition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LogRange>,
    /// Records of the log that became no rows, by the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// The program that built it.
    pub built_by: String,
    pub files: Vec<StoredFile>,
    pub columns: Vec<StoredColumn>,
}

/// A file that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
}

impl Source {
    pub fn of(path: &Path) -> io::Result<Self> {
        let bytes = path.metadata()?.len();
        Ok(Self { file: path.display().to_string(), bytes, sha256: sha256_of_file(path)? })
    }
}

/// Records that were read of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRange {
    pub topic: String,
    pub partition: i32,
    /// Of the first record.
    pub from_offset: i64,
    /// Behind the last record.
    pub to_offset: i64,
}

/// A file of the dataset itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    pub file: String,
    pub rows: u64,
    pub sha256: String,
}

/// A column as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredColumn {
    pub name: String,
    pub of_candidate: bool,
    /// Present: a category with so many values, the unknown one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_size: Option<u32>,
    /// A share of results before the row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_rate: bool,
}

impl From<&Column> for StoredColumn {
    fn from(column: &Column) -> Self {
        let category_size = match column.kind {
            ColumnKind::Number | ColumnKind::Rate => None,
            ColumnKind::Category { size } => Some(size),
        };
        let is_rate = column.kind == ColumnKind::Rate;
        Self { name: column.name.clone(), of_candidate: column.of_candidate, category_size, is_rate }
    }
}

impl StoredColumn {
    pub(super) fn to_column(&self) -> Column {
        let kind = match self.category_size {
            Some(size) => ColumnKind::Category { size },
            None if self.is_rate => ColumnKind::Rate,
            None => ColumnKind::Number,
        };
        Column { name: self.name.clone(), kind, of_candidate: self.of_candidate }
    }
}

impl Manifest {
    pub(super) fn to_json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map_err(|error| error.to_string())
    }

    pub(super) fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("is not the manifest of a dataset: {error}"))
    }
}

/// In lower-case hex.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(hex(&hash.finalize()))
}
