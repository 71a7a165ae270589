//! The warehouse as a port: tables that analysts query, into which the sync task puts every prediction and every result once.
//!
//! Owns the words (table, channel, token, row) and what an adapter promises; the tables themselves are `schemas/warehouse/*.toml`
//! (`catalogue`), their rows are made in one place (`rows`), whatever adapter takes them. Never reads a log and never decides when to
//! write: `runtime::sync` does. Neighbours: `local` (Parquet files) and `snowflake` (Snowpipe Streaming) below.
//!
//! A channel is one table and one partition of its topic. Its token is the offset of the last row that is durable there. Promises of every adapter:
//! - `open` gives the token, whatever happened to who wrote before; what had been appended and not committed is void, and a former writer
//!   can commit nothing more;
//! - rows of a channel become visible in order, and none without all before it: after any death the token tells what is there;
//! - after an error nothing is known about the channel until it is opened again.

mod catalogue;
mod ddl;
pub mod local;
mod rows;
pub mod snowflake;
#[cfg(test)]
mod conformance;

pub use catalogue::{Catalogue, CatalogueError, Column, ColumnType, Table};
pub use ddl::{Dialect, View, check_query, documentation, views};
pub use rows::{Place, card_row, row};

use super::log::TopicPartition;
use std::fmt;
use std::io;
use std::path::Path;
use thiserror::Error;

/// One table and one partition of the topic that it is filled from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    pub table: String,
    pub at: TopicPartition,
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.table, self.at)
    }
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Text(String),
    Flag(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    /// Milliseconds since 1970, UTC.
    Time(i64),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Doubles(Vec<Option<f64>>),
    FloatLists(Vec<Vec<f32>>),
}

impl Cell {
    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Flag(_) | Self::Int(_) | Self::Long(_) | Self::Double(_) | Self::Time(_) => 8,
            Self::Text(text) => 24 + text.len(),
            Self::Texts(texts) => texts.iter().map(|text| 24 + text.len()).sum(),
            Self::Floats(values) => 8 * values.len(),
            Self::Doubles(values) => 16 * values.len(),
            Self::FloatLists(lists) => lists.iter().map(|list| 24 + 8 * list.len()).sum(),
        }
    }
}

/// A row: one cell for each column of its table, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Vec<Cell>);

impl Row {
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Cell::bytes).sum()
    }
}

/// What an adapter did to keep in order what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Small files that became part of larger ones.
    pub files_merged: usize,
    /// Days that are older than what is kept.
    pub days_removed: usize,
}

/// What a warehouse says of an open channel besides its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelReport {
    pub channel: Channel,
    /// Its name there.
    pub name: String,
    /// Rows that the warehouse passed over since the channel was made: its token says that they were taken, and no table has them.
    pub rows_refused: u64,
    pub last_refusal: Option<String>,
    /// From taking a row to committing it, on average.
    pub processing_ms: Option<u64>,
}

/// Takes rows, and says what of them is durable. Used by one thread.
pub trait Warehouse: Send {
    /// The offset of the last durable row; none in a new channel.
    fn open(&mut self, channel: &Channel) -> Result<Option<i64>, WarehouseError>;

    /// Rows behind those that were appended before, in order; `offsets` are those of the first and the last one.
    fn append(&mut self, channel: &Channel, rows: Vec<Row>, offsets: (i64, i64)) -> Result<(), WarehouseError>;

    /// Makes what was appended durable and visible, all or a beginning of it; gives the token then.
    fn commit(&mut self, channel: &Channel) -> Result<Option<i64>, WarehouseError>;

    /// The same for several channels; tokens in their order.
    fn commit_all(&mut self, channels: &[Channel]) -> Result<Vec<Option<i64>>, WarehouseError> {
        channels.iter().map(|channel| self.commit(channel)).collect()
    }

    /// Whether committing many channels takes hardly longer than committing one.
    fn commits_together(&self) -> bool {
        false
    }

    /// The channel is somebody else's now, or nobody's: what was not committed is void.
    fn close(&mut self, channel: &Channel);

    /// Replaces all rows of a small table that no topic fills, or, where the table has a key, those of the same key.
    fn replace(&mut self, table: &str, rows: Vec<Row>) -> Result<(), WarehouseError>;

    /// To be called now and then, while nothing waits.
    fn maintain(&mut self) -> Result<Upkeep, WarehouseError>;

    /// What was said last of each open channel, where more is said than its token.
    fn reports(&self) -> Vec<ChannelReport> {
        Vec::new()
    }
}

/// Why the warehouse cannot take rows. The texts say where and what to do; what is durable stays so.
#[derive(Debug, Error)]
pub enum WarehouseError {
    #[error(
        "{place}: no space left; free some or shorten warehouse.retention_days: rows wait in the log meanwhile, and none is lost"
    )]
    Full { place: String },
    #[error("{place}: {source}; check the path, its permissions and the disk")]
    Io { place: String, source: io::Error },
    #[error("{directory} is written by another process; give this one its own with warehouse.dir, or let only one of them sync")]
    Locked { directory: String },
    #[error(
        "{directory} holds the rows of another log ({found}, this one is {wanted}); name another directory with warehouse.dir, or move it away"
    )]
    OtherLog { directory: String, found: String, wanted: String },
    #[error(
        "{channel}: the warehouse is at offset {token}, and the topic ends before {end}: it was made anew. Move the warehouse away to begin anew too"
    )]
    Ahead { channel: Channel, token: i64, end: i64 },
    #[error("{place}: {problem}; move the file away and look at `smartrouter warehouse check`")]
    Damaged { place: String, problem: String },
    #[error("{table}: {problem}")]
    Row { table: String, problem: String },
    #[error(transparent)]
    Snowflake(#[from] snowflake::SnowflakeError),
}

impl WarehouseError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| {
            let place = path.display().to_string();
            if source.kind() == io::ErrorKind::StorageFull { Self::Full { place } } else { Self::Io { place, source } }
        }
    }

    /// In a metric.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Io { .. } => "io",
            Self::Locked { .. } => "locked",
            Self::OtherLog { .. } | Self::Ahead { .. } => "other_log",
            Self::Damaged { .. } => "damaged",
            Self::Row { .. } => "row",
            Self::Snowflake(error) => error.kind(),
        }
    }
}
