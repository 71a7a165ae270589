//! Taking old records away: retention by time, and compaction to the newest record of each key.
//!
//! Owns which records go; an offset, once given, never changes or comes back. Works beside readers and writers: it deletes below
//! `first` or replaces batches that are complete, so a reader sees a batch before or after, and gaps either way.
//! Time is the caller's: a simulated day can pass in a second.

use super::super::{LogError, Record, TopicPartition};
use super::batch::{BatchReader, BatchWriter, Entry, newest_timestamp_ms};
use super::catalog::{Cleaned, Partition, Topic};
use super::disk::{Disk, compacted_key, first_offset_key, offset_of, record_key};
use super::ledger::{BATCH_BYTES, Ledger};
use bytes::Bytes;
use rocksdb::WriteBatch;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// What one round of upkeep took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Offsets that retention passed.
    pub expired: i64,
    /// Records that compaction dropped.
    pub compacted: i64,
}

/// One partition under work.
struct Site<'a> {
    disk: &'a Disk,
    topic: &'a Topic,
    partition: &'a Partition,
    at: TopicPartition,
}

pub(super) fn maintain(ledger: &Ledger, now_ms: i64) -> Result<Upkeep, LogError> {
    let mut upkeep = Upkeep::default();
    for topic in ledger.catalog.all() {
        for (number, partition) in topic.partitions.iter().enumerate() {
            let at = TopicPartition { topic: Arc::clone(&topic.name), partition: number as i32 };
            let site = Site { disk: &ledger.disk, topic: &topic, partition, at };
            // Held throughout: two callers would undo each other's work.
            let mut cleaned = partition.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(retention_ms) = topic.rules.retention_ms {
                upkeep.expired += site.expire(now_ms.saturating_sub(retention_ms))?;
            }
            if topic.rules.compact {
                upkeep.compacted += site.compact(&mut cleaned, now_ms.saturating_sub(topic.rules.tombstone_retention_ms))?;
            }
        }
    }
    Ok(upkeep)
}

impl Site<'_> {
    fn key(&self, offset: i64) -> [u8; 16] {
        record_key(self.topic.id, self.at.partition, offset)
    }

    /// Deletes the leading batches whose newest record is older than `limit_ms`.
    fn expire(&self, limit_ms: i64) -> Result<i64, LogError> {
        let old = self.partition.first();
        let mut first = old;
        let mut batches = self.disk.batches(self.topic.id, self.at.partition, old, self.partition.next())?;
        while let Some((key, batch)) = batches.item() {
            if newest_timestamp_ms(batch).map_err(|damage| self.disk.damaged_batch(&self.at, damage))? >= limit_ms {
                break;
            }
            first = offset_of(key).ok_or_else(|| self.disk.damaged("a record key is too short"))? + 1;
            batches.next();
        }
        batches.status().map_err(|error| self.disk.error(&error))?;
        if first == old {
            return Ok(0);
        }
        let mut write = WriteBatch::default();
        write.delete_range_cf(self.disk.records()?, self.key(old), self.key(first));
        write.put(first_offset_key(self.topic.id, self.at.partition), first.to_be_bytes());
        // Before it is true: a reader may find records that are no longer promised, and must not miss any that are.
        self.partition.first.store(first, Ordering::Release);
        if let Err(error) = self.disk.write(write) {
            self.partition.first.store(old, Ordering::Release);
            return Err(error);
        }
        self.disk.drop_files(self.key(old), self.key(first - 1))?;
        Ok(first - old)
    }

    /// Keeps the newest record of each key; of tombstones only those that are not older than `limit_ms`.
    ///
    /// Works when at least half of the partition is new since the last time, so that its cost stays in proportion to writing.
    fn compact(&self, cleaned: &mut Cleaned, limit_ms: i64) -> Result<i64, LogError> {
        let to = self.partition.next();
        let new = to - cleaned.to.max(self.partition.first());
        if new <= 0 || new < cleaned.records {
            return Ok(0);
        }
        let newest = self.newest_by_key(to)?;
        let is_kept = |record: &Record| match &record.key {
            None => true,
            Some(key) => {
                newest.get(&key[..]) == Some(&record.offset) && (record.value.is_some() || record.timestamp_ms >= limit_ms)
            }
        };
        let mut write = WriteBatch::default();
        write.put(compacted_key(self.topic.id, self.at.partition), to.to_be_bytes());
        self.disk.write(write)?;
        self.partition.compacted.store(to, Ordering::Release);
        let mut rewriter = Rewriter { site: self, batch: BatchWriter::new(), sources: Vec::new(), changed: false };
        let (mut kept, mut dropped) = (0, 0);
        self.each_batch(to, |key, bytes, records| {
            let seen = records.len();
            let survivors: Vec<Record> = records.into_iter().filter(|record| is_kept(record)).collect();
            kept += survivors.len() as i64;
            dropped += (seen - survivors.len()) as i64;
            rewriter.add(key, bytes, &survivors, survivors.len() < seen)
        })?;
        rewriter.finish()?;
        *cleaned = Cleaned { to, records: kept };
        Ok(dropped)
    }

    fn newest_by_key(&self, to: i64) -> Result<HashMap<Box<[u8]>, i64>, LogError> {
        let mut newest: HashMap<Box<[u8]>, i64> = HashMap::new();
        self.each_batch(to, |_, _, records| {
            for record in records {
                let Some(key) = record.key else { continue };
                match newest.get_mut(&key[..]) {
                    Some(offset) => *offset = record.offset,
                    None => {
                        newest.insert(key[..].into(), record.offset);
                    }
                }
            }
            Ok(())
        })?;
        Ok(newest)
    }

    /// Calls `visit` with the last offset, the size and the records of each batch below `to`.
    fn each_batch(
        &self,
        to: i64,
        mut visit: impl FnMut(i64, usize, Vec<Record>) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let damaged = |damage| self.disk.damaged_batch(&self.at, damage);
        let mut batches = self.disk.batches(self.topic.id, self.at.partition, self.partition.first(), to)?;
        while let Some((key, batch)) = batches.item() {
            let last = offset_of(key).ok_or_else(|| self.disk.damaged("a record key is too short"))?;
            let mut reader = BatchReader::open(Bytes::copy_from_slice(batch)).map_err(damaged)?;
            let mut records = Vec::new();
            while let Some(record) = reader.next(&self.at).map_err(damaged)? {
                records.push(record);
            }
            visit(last, batch.len(), records)?;
            batches.next();
        }
        batches.status().map_err(|error| self.disk.error(&error))
    }
}

/// Replaces runs of batches by one batch with the records that are left of them.
struct Rewriter<'a> {
    site: &'a Site<'a>,
    batch: BatchWriter,
    /// The last offsets of the batches that `batch` replaces.
    sources: Vec<i64>,
    /// Whether writing would change anything.
    changed: bool,
}

impl Rewriter<'_> {
    fn add(&mut self, last: i64, bytes: usize, survivors: &[Record], changed: bool) -> Result<(), LogError> {
        if !changed && bytes >= BATCH_BYTES / 2 {
            // Full and untouched: it stays as it is.
            return self.finish();
        }
        for record in survivors {
            self.batch.push(Entry {
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_ref(),
                value: record.value.as_ref(),
                headers: &record.headers,
            });
        }
        self.changed |= changed || !self.sources.is_empty();
        self.sources.push(last);
        if self.batch.len_bytes() >= BATCH_BYTES { self.finish() } else { Ok(()) }
    }

    /// One `WriteBatch`: a crash leaves the old batches or the new one.
    fn finish(&mut self) -> Result<(), LogError> {
        let records = self.site.disk.records()?;
        let mut write = WriteBatch::default();
        for &last in &self.sources {
            write.delete_cf(records, self.site.key(last));
        }
        if let (Some(&last), false) = (self.sources.last(), self.batch.is_empty()) {
            self.batch.seal(|batch| write.put_cf(records, self.site.key(last), batch));
        }
        self.sources.clear();
        if std::mem::take(&mut self.changed) { self.site.disk.write(write) } else { Ok(()) }
    }
}
