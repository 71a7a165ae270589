//! The event log as a port: what the runtime needs of Kafka, and no more.
//!
//! Owns the words (record, output, assignment, transaction) and the promises that an adapter has to keep; the conformance
//! suite in `tests/log_conformance/` holds both adapters to them. Never interprets a record's bytes.
//! Neighbours: `runtime` above, `kafka` and `embedded` below.
//!
//! Promises of every adapter:
//! - records of a partition arrive in offset order; offsets grow but need not be dense;
//! - a transaction (`GroupMember::commit`) becomes visible to readers whole or not at all: outputs, changelog, input offsets;
//! - readers see committed records only;
//! - after `Polled::Assigned` nothing of a partition is delivered until `GroupMember::start` names its position;
//! - a second member that opens with the same group and instance fences the first one: its next commit fails with `LogError::Fenced`;
//! - after any error of `commit` nothing is known about that transaction until `GroupMember::recover` returned; after it, the
//!   transaction is either whole or gone, and `committed` tells which.

pub mod embedded;
pub mod kafka;
mod arena;
mod partitioner;

pub use arena::Arena;
pub use partitioner::partition_of;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: Arc::from(topic), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

pub type Headers = Vec<(String, Option<Bytes>)>;

/// A committed record as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub at: TopicPartition,
    pub offset: i64,
    /// When the record was produced, milliseconds since 1970.
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    /// Absent: a tombstone.
    pub value: Option<Bytes>,
    pub headers: Headers,
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub topic: Arc<str>,
    /// Absent: by the key (`partition_of`, the partitioner of the Java client).
    pub partition: Option<i32>,
    /// Absent: now.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Headers,
}

/// What a poll may bring, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Polled {
    /// These partitions are this member's now, in addition to those it has. Call `start` for each when its state is ready.
    Assigned(Vec<TopicPartition>),
    /// These partitions are no longer this member's. Uncommitted work on them is void.
    Revoked(Vec<TopicPartition>),
    Record(Record),
    /// The partition was read to its end: `offset` is where the next record will be.
    End {
        at: TopicPartition,
        offset: i64,
    },
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Beginning,
    At(i64),
}

/// Where a partition ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Behind the last record that is committed or aborted, with all before it: as far as readers come.
    pub settled: i64,
    /// Behind the last record.
    pub written: i64,
}

/// One unit of work: all of it becomes visible, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub outputs: Vec<Output>,
    /// The next offset to read of each input partition.
    pub input_offsets: BTreeMap<TopicPartition, i64>,
}

/// For each partition that the transaction wrote to by number (`Output::partition`): the offset behind its last record.
pub type Written = BTreeMap<TopicPartition, i64>;

/// One member of a consumer group together with its transactional producers. Used by one thread.
pub trait GroupMember: Send {
    /// Appends at most `records_max` records (and any number of other events) to `out`; waits at most `timeout` for the first.
    fn poll(&mut self, out: &mut Vec<Polled>, records_max: usize, timeout: Duration) -> Result<(), LogError>;

    /// The group's committed offsets; waits for transactions of former owners that are still open.
    fn committed(&mut self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Option<i64>>, LogError>;

    /// Begins (or begins again) to deliver assigned partitions from these positions, paused or not before. Drops what was fetched of them.
    fn start(&mut self, from: &[(TopicPartition, Position)]) -> Result<(), LogError>;

    /// Stops delivering without leaving; positions are kept.
    fn pause(&mut self, of: &[TopicPartition]) -> Result<(), LogError>;
    fn resume(&mut self, of: &[TopicPartition]) -> Result<(), LogError>;

    /// Writes the outputs and commits the offsets in one transaction.
    fn commit(&mut self, txn: Txn) -> Result<Written, LogError>;

    /// After a failed `commit`: makes sure that its transaction is settled, and that this member can commit again.
    fn recover(&mut self) -> Result<(), LogError>;

    /// Leaves the group. Uncommitted work is void.
    fn close(&mut self) -> Result<(), LogError>;
}

/// Reads partitions that it is told to, outside any group: for restoring state, tables, and tools.
pub trait Reader: Send {
    /// Replaces what is read.
    fn assign(&mut self, from: &[(TopicPartition, Position)]) -> Result<(), LogError>;
    /// As `GroupMember::poll`; brings `Record` and `End` only.
    fn poll(&mut self, out: &mut Vec<Polled>, records_max: usize, timeout: Duration) -> Result<(), LogError>;
    /// First offset that is there, and the offset behind the last committed record.
    fn bounds(&mut self, of: &TopicPartition) -> Result<(i64, i64), LogError>;
    /// What lies between the two ends of a partition belongs to transactions that are still open. `of` names each partition once.
    fn ends(&mut self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Ends>, LogError>;
}

/// Writes records outside any transaction of a group: for the simulator, replay to Kafka, and re-driving dead letters.
pub trait Appender: Send {
    /// Queues the records, in order per partition; waits when the queue is full.
    fn append(&mut self, outputs: Vec<Output>) -> Result<(), LogError>;
    /// Returns when all queued records are durable, or the first failure.
    fn flush(&mut self) -> Result<(), LogError>;
}

/// A topic as the cluster has it, or as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: String,
    pub partitions: i32,
    /// Absent: the cluster's default, or not told.
    pub replication: Option<i32>,
    /// Topic configuration, such as `cleanup.policy`.
    pub settings: BTreeMap<String, String>,
}

/// A cluster (or the embedded log): opens members, readers and appenders, and tells about topics.
pub trait EventLog: Send + Sync {
    /// Joins `group` as `instance` (stable over restarts; also names the transactional ids) and subscribes.
    fn member(&self, group: &str, instance: &str, topics: &[String]) -> Result<Box<dyn GroupMember>, LogError>;
    fn reader(&self) -> Result<Box<dyn Reader>, LogError>;
    fn appender(&self) -> Result<Box<dyn Appender>, LogError>;

    /// Which log this is: stays the same for its lifetime, differs from any other's. State of another log is void.
    fn log_id(&self) -> Result<String, LogError>;
    /// All topics with partition counts; `settings` only for those named in `with_settings`.
    fn topics(&self, with_settings: &[String]) -> Result<Vec<TopicDescription>, LogError>;
    /// Creates topics; one that exists already is left as it is.
    fn create_topics(&self, topics: &[TopicDescription]) -> Result<(), LogError>;
    fn group_offsets(&self, group: &str, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Option<i64>>, LogError>;
}

/// What went wrong with the log, by who is to act.
#[derive(Clone, Debug, Error)]
pub enum LogError {
    /// Another member runs under the same instance: this one has to stop. The operator gave one id twice.
    #[error("another process took over as instance {instance:?}: {detail}; give each process its own --instance")]
    Fenced { instance: String, detail: String },
    /// The partitions moved while working: drop staged work; the group will assign anew.
    #[error("the group moved on: {0}")]
    Rebalanced(String),
    /// The transaction did not, or may not have, gone through: drop staged work, `recover`, and begin again from `committed`.
    #[error("the transaction is not settled: {0}")]
    Unsettled(String),
    /// The log cannot be reached or is busy: try again later.
    #[error("the log does not answer: {0}")]
    Unavailable(String),
    /// A transaction has an end, and these partitions were not told: Kafka forgets one that has no leader at that moment. Nobody can
    /// read past it; and the producer's next transaction there would end this one as well, whatever had been decided about it.
    #[error(
        "transactions stay open, longer than their time-out. When no instance is at work on them, the brokers lost their ends: see \
         \"A transaction that hangs\" in README.md, and end them with {}", abort_commands(.0)
    )]
    Hanging(Vec<(TopicPartition, i64)>),
    /// A topic or partition that is needed does not exist.
    #[error("no topic {0}: run `smartrouter topics apply --execute`")]
    NoTopic(String),
    /// One record cannot be written, whatever the log's state: it is too large, say.
    #[error("{topic}: the record cannot be written: {detail}")]
    Unwritable { topic: String, detail: String },
    /// Configuration or rights: the operator is to act.
    #[error("{0}")]
    Refused(String),
    /// The log's files are damaged.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
}

/// `hanging`: each partition with the offset at which the transaction begins there.
fn abort_commands(hanging: &[(TopicPartition, i64)]) -> String {
    let command = |(at, offset): &(TopicPartition, i64)| {
        let TopicPartition { topic, partition } = at;
        format!(
            "`kafka-transactions.sh --bootstrap-server HOST:PORT abort --topic {topic} --partition {partition} --start-offset {offset}`"
        )
    };
    hanging.iter().map(command).collect::<Vec<_>>().join(", ")
}

impl LogError {
    /// Whether trying again later, without a human, may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Rebalanced(_) | Self::Unsettled(_) | Self::Unavailable(_) | Self::Hanging(_))
    }
}
