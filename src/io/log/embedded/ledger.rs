//! The one way in: records get their offsets here and go to RocksDB, one `WriteBatch` per call.
//!
//! Owns the order of writes. Everything that writes, or that changes who may write, holds the `Groups` lock: so a member that
//! was fenced or replaced cannot slip a commit in behind its successor's back, and offsets are dense as they are given.
//! Neighbours: `groups` says who may write, `cursor` reads what was written, `upkeep` takes old records away.

use super::super::{LogError, Output, TopicPartition, Written, partition_of};
use super::batch::{BatchWriter, Entry, record_bytes};
use super::catalog::{Catalog, Topic};
use super::disk::{Disk, group_key, next_offset_key, record_key};
use super::groups::Groups;
use rocksdb::WriteBatch;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A batch is closed at this size, so that a reader who wants a few records does not fetch megabytes.
pub(super) const BATCH_BYTES: usize = 128 << 10;

/// What all members, readers and appenders of one open log share.
pub(super) struct Ledger {
    pub(super) disk: Disk,
    pub(super) catalog: Catalog,
    groups: Mutex<Groups>,
    pub(super) arrivals: Arrivals,
}

/// Wakes pollers: counts what happened, so that nothing is missed between a look and a wait.
#[derive(Default)]
pub(super) struct Arrivals {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Arrivals {
    pub(super) fn seen(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn announce(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Waits until something happened since `seen`; false when `timeout` after `begun` came first.
    pub(super) fn wait(&self, seen: u64, begun: Instant, timeout: Duration) -> bool {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count == seen {
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return false;
            }
            count = self.changed.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// The records that one write brings to one partition.
struct Slot {
    topic: Arc<Topic>,
    partition: i32,
    /// Where the next record will be.
    next: i64,
    batch: BatchWriter,
    /// Whether a record named this partition by number.
    named: bool,
}

impl Slot {
    fn seal(&mut self, write: &mut WriteBatch, disk: &Disk) -> Result<(), LogError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let records = disk.records()?;
        let key = record_key(self.topic.id, self.partition, self.next - 1);
        self.batch.seal(|batch| write.put_cf(records, key, batch));
        Ok(())
    }
}

/// One write while it is put together.
#[derive(Default)]
struct Staging {
    slots: Vec<Slot>,
    slot_of: HashMap<(u32, i32), usize>,
    write: WriteBatch,
}

impl Ledger {
    pub(super) fn new(disk: Disk, catalog: Catalog) -> Self {
        Self { disk, catalog, groups: Mutex::default(), arrivals: Arrivals::default() }
    }

    pub(super) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes records and a group's offsets, all or nothing. Of an error before the write nothing is left behind.
    pub(super) fn write(
        &self,
        _held: &mut MutexGuard<'_, Groups>,
        outputs: &[Output],
        offsets: Option<(&str, &BTreeMap<TopicPartition, i64>)>,
    ) -> Result<Written, LogError> {
        let mut staging = Staging::default();
        self.stage_records(&mut staging, outputs)?;
        if let Some((group, offsets)) = offsets {
            for (at, offset) in offsets {
                let topic = self.catalog.topic_of(at)?;
                staging.write.put(group_key(group, topic.id, at.partition), offset.to_be_bytes());
            }
        }
        let mut written = Written::new();
        for slot in &mut staging.slots {
            slot.seal(&mut staging.write, &self.disk)?;
            staging.write.put(next_offset_key(slot.topic.id, slot.partition), slot.next.to_be_bytes());
            if slot.named {
                written.insert(TopicPartition { topic: Arc::clone(&slot.topic.name), partition: slot.partition }, slot.next);
            }
        }
        if staging.write.is_empty() {
            return Ok(written);
        }
        self.disk.write(staging.write)?;
        for slot in &staging.slots {
            if let Some(partition) = slot.topic.partition(slot.partition) {
                partition.next.store(slot.next, Ordering::Release);
            }
        }
        if !staging.slots.is_empty() {
            self.arrivals.announce();
        }
        Ok(written)
    }

    fn stage_records(&self, staging: &mut Staging, outputs: &[Output]) -> Result<(), LogError> {
        let now_ms = now_ms();
        // Outputs come in runs of one topic: look each run up once.
        let mut last: Option<Arc<Topic>> = None;
        for output in outputs {
            let topic = match &last {
                Some(topic) if topic.name == output.topic => topic,
                _ => {
                    let found = self.catalog.get(&output.topic).ok_or_else(|| LogError::NoTopic(output.topic.to_string()))?;
                    &*last.insert(found)
                }
            };
            check_record(topic, output)?;
            let partition = match (output.partition, &output.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => partition_of(key, topic.partitions.len() as i32),
                // Without a key any partition will do; the shortest one keeps them even.
                (None, None) => shortest(topic),
            };
            let slot = staging.slot(topic, partition)?;
            slot.named |= output.partition.is_some();
            slot.batch.push(Entry {
                offset: slot.next,
                timestamp_ms: output.timestamp_ms.unwrap_or(now_ms),
                key: output.key.as_ref(),
                value: output.value.as_ref(),
                headers: &output.headers,
            });
            slot.next += 1;
            if slot.batch.len_bytes() >= BATCH_BYTES {
                let index = staging.slot_of[&(topic.id, partition)];
                staging.slots[index].seal(&mut staging.write, &self.disk)?;
            }
        }
        Ok(())
    }
}

impl Staging {
    fn slot(&mut self, topic: &Arc<Topic>, partition: i32) -> Result<&mut Slot, LogError> {
        let next_index = self.slots.len();
        let index = *self.slot_of.entry((topic.id, partition)).or_insert(next_index);
        if index == next_index {
            let reach = topic.partition(partition).ok_or_else(|| LogError::NoTopic(format!("{}-{partition}", topic.name)))?;
            let (topic, next) = (Arc::clone(topic), reach.next());
            self.slots.push(Slot { topic, partition, next, batch: BatchWriter::new(), named: false });
        }
        Ok(&mut self.slots[index])
    }
}

/// What a broker would refuse, we refuse too: a topic that works here works there.
fn check_record(topic: &Topic, output: &Output) -> Result<(), LogError> {
    let bytes = record_bytes(output.key.as_ref(), output.value.as_ref(), &output.headers);
    let limit = topic.rules.record_bytes_max;
    let detail = if bytes > limit {
        format!("it has {bytes} bytes, and the topic's max.message.bytes is {limit}")
    } else if topic.rules.compact && output.key.is_none() {
        "the topic is compacted, so a record needs a key".to_owned()
    } else {
        return Ok(());
    };
    Err(LogError::Unwritable { topic: topic.name.to_string(), detail })
}

fn shortest(topic: &Topic) -> i32 {
    let lengths = topic.partitions.iter().enumerate().map(|(number, partition)| (partition.next(), number as i32));
    lengths.min().map_or(0, |(_, number)| number)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
