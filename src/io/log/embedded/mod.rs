//! The event log in a RocksDB of the same process: for the demo, replay of history, simulation and most tests.
//!
//! Owns a directory, which one process at a time can open. A transaction is one `WriteBatch` over its records, the next offsets
//! and the group's offsets, with the write-ahead log on: a process that dies in whatever moment leaves whole transactions, and
//! all that were acknowledged. A loss of power may take the newest ones, still whole and in order, unless `sync` is set.
//! Damaged files: opening or reading fails and names the directory. What lay behind the last sync (a commit with `sync`, a flush, a
//! close) may be missing as after a loss of power, for the two cannot be told apart; nothing else may.
//! Never speaks to a network, and never interprets a record's bytes.
//!
//! In reading order: `batch` (the bytes of records), `disk` (RocksDB and its keys), `catalog` (topics), `groups` (who may
//! write), `ledger` (the one way in), `cursor` (the way out), `member` (the port), `upkeep` (retention and compaction).
//!
//! Differences from a broker: a group's newest member has all partitions, older ones wait; a topic without `retention.ms` keeps
//! its records for ever; size is judged per record; nothing happens to old records until `EmbeddedLog::maintain` is called.

mod batch;
mod disk;
mod catalog;
mod groups;
mod ledger;
mod cursor;
mod member;
mod upkeep;

pub use upkeep::Upkeep;

use super::{Appender, EventLog, GroupMember, LogError, Reader, TopicDescription, TopicPartition};
use catalog::{Catalog, Partition, Rules, Topic};
use disk::{Disk, TopicRow, compacted_key, first_offset_key, next_offset_key, topic_key};
use ledger::Ledger;
use member::{EmbeddedAppender, EmbeddedMember, EmbeddedReader};
use rocksdb::WriteBatch;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Whether each commit waits for the disk, so that a loss of power takes nothing; costs milliseconds per commit.
    pub sync: bool,
    /// How much RocksDB keeps in memory before it writes a file.
    pub write_buffer_bytes: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { sync: false, write_buffer_bytes: 64 << 20 }
    }
}

/// The open log. Its members, readers and appenders keep it open.
pub struct EmbeddedLog {
    ledger: Arc<Ledger>,
}

impl EmbeddedLog {
    /// Opens the log in directory `path`, or makes a new one there.
    pub fn open(path: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, LogError> {
        let disk = Disk::open(path.as_ref(), &options)?;
        let catalog = Catalog::default();
        for (name, row) in disk.topics()? {
            catalog.insert(load_topic(&disk, &name, row)?);
        }
        Ok(Self { ledger: Arc::new(Ledger::new(disk, catalog)) })
    }

    pub fn path(&self) -> &Path {
        self.ledger.disk.path()
    }

    /// Deletes what the topics' settings no longer keep, judged at `now_ms`. To be called now and then, by one caller; costs
    /// reads and writes in proportion to what was written since the last time.
    pub fn maintain(&self, now_ms: i64) -> Result<Upkeep, LogError> {
        upkeep::maintain(&self.ledger, now_ms)
    }
}

fn load_topic(disk: &Disk, name: &str, row: TopicRow) -> Result<Topic, LogError> {
    let rules = Rules::parse(name, &row.settings).map_err(|error| disk.damaged(&error.to_string()))?;
    if !(1..=catalog::PARTITIONS_MAX).contains(&row.partitions) {
        return Err(disk.damaged(&format!("topic {name} has {} partitions", row.partitions)));
    }
    let mut partitions = Vec::new();
    for number in 0..row.partitions {
        let first = disk.offset(&first_offset_key(row.id, number))?.unwrap_or(0);
        let next = disk.offset(&next_offset_key(row.id, number))?.unwrap_or(0);
        check_ends(disk, (name, number), (first, next), disk.last_offset(row.id, number)?, rules.compact)?;
        let compacted = disk.offset(&compacted_key(row.id, number))?.unwrap_or(0);
        partitions.push(Partition::new(first, next, compacted));
    }
    Ok(Topic::new(name, row, rules, partitions))
}

/// The records of a partition and its offsets are written together, but lie in different files: should one of these be gone, records would
/// come back under offsets that are given anew, or be missing without a word. Compaction may take the last ones. What is missing
/// in between is found by who reads (`cursor`).
fn check_ends(
    disk: &Disk,
    (topic, partition): (&str, i32),
    (first, next): (i64, i64),
    last: Option<i64>,
    compacts: bool,
) -> Result<(), LogError> {
    let end = last.map_or(0, |last| last.saturating_add(1));
    let is_whole = if compacts || first == next { end <= next } else { end == next };
    if (0..=next).contains(&first) && next < i64::MAX / 2 && is_whole {
        return Ok(());
    }
    Err(disk.damaged(&format!("{topic}-{partition} has offsets {first} to {next}, but records up to {end}")))
}

impl EventLog for EmbeddedLog {
    fn member(&self, group: &str, instance: &str, topics: &[String]) -> Result<Box<dyn GroupMember>, LogError> {
        Ok(Box::new(EmbeddedMember::join(Arc::clone(&self.ledger), group, instance, topics)))
    }

    fn reader(&self) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(EmbeddedReader::new(Arc::clone(&self.ledger))))
    }

    fn appender(&self) -> Result<Box<dyn Appender>, LogError> {
        Ok(Box::new(EmbeddedAppender::new(Arc::clone(&self.ledger))))
    }

    fn log_id(&self) -> Result<String, LogError> {
        Ok(self.ledger.disk.log_id().to_owned())
    }

    fn topics(&self, with_settings: &[String]) -> Result<Vec<TopicDescription>, LogError> {
        let describe = |topic: Arc<Topic>| {
            let name = topic.name.to_string();
            let settings = if with_settings.contains(&name) { topic.settings.clone() } else { BTreeMap::new() };
            TopicDescription { name, partitions: topic.partitions.len() as i32, replication: None, settings }
        };
        Ok(self.ledger.catalog.all().into_iter().map(describe).collect())
    }

    fn create_topics(&self, topics: &[TopicDescription]) -> Result<(), LogError> {
        let ledger = &self.ledger;
        // Under the lock, so that two callers cannot give one id twice.
        let held = ledger.groups();
        let mut id = ledger.catalog.all().iter().map(|topic| topic.id + 1).max().unwrap_or(0);
        let mut write = WriteBatch::default();
        let mut created: BTreeMap<&str, (TopicRow, Rules)> = BTreeMap::new();
        for topic in topics {
            let rules = catalog::check_new(topic)?;
            if ledger.catalog.get(&topic.name).is_some() || created.contains_key(&*topic.name) {
                continue;
            }
            let row = TopicRow { id, partitions: topic.partitions, settings: topic.settings.clone() };
            let bytes = postcard::to_stdvec(&row).map_err(|error| LogError::Refused(format!("topic {}: {error}", topic.name)))?;
            write.put(topic_key(&topic.name), bytes);
            created.insert(&topic.name, (row, rules));
            id += 1;
        }
        if created.is_empty() {
            return Ok(());
        }
        ledger.disk.write_synced(write)?;
        for (name, (row, rules)) in created {
            let partitions = (0..row.partitions).map(|_| Partition::new(0, 0, 0)).collect();
            ledger.catalog.insert(Topic::new(name, row, rules, partitions));
        }
        drop(held);
        ledger.arrivals.announce();
        Ok(())
    }

    fn group_offsets(&self, group: &str, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Option<i64>>, LogError> {
        member::committed(&self.ledger, group, of)
    }
}
