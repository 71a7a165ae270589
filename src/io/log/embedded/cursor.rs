//! Reading partitions, fairly: where each reader stands, and the batches that it has fetched but not yet handed out.
//!
//! Owns positions; never waits, and never writes. `reader` and `member` drive it.

use super::super::{LogError, Polled, Position, TopicPartition};
use super::batch::{BatchReader, Damage};
use super::catalog::{Partition, Topic};
use super::disk::{Disk, offset_of};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// How much one fetch takes of one partition: enough that its seek does not count.
const FETCH_BYTES: usize = 256 << 10;
/// How many records a partition gives before it is another's turn.
const TURN_RECORDS_MAX: usize = 256;

/// A batch with the last offset that it can hold: its last record may be an earlier one, if compaction took those behind.
struct Fetched {
    batch: BatchReader,
    last: i64,
}

/// One partition that is read.
pub(super) struct Cursor {
    pub(super) at: TopicPartition,
    topic: Arc<Topic>,
    /// Absent: not started, nothing is delivered.
    next: Option<i64>,
    pub(super) paused: bool,
    current: Option<Fetched>,
    fetched: VecDeque<Fetched>,
    /// The end that was last told, so that each is told once.
    end_told: Option<i64>,
}

impl Cursor {
    pub(super) fn new(at: TopicPartition, topic: Arc<Topic>) -> Self {
        Self { at, topic, next: None, paused: false, current: None, fetched: VecDeque::new(), end_told: None }
    }

    pub(super) fn start(&mut self, from: Position) {
        self.current = None;
        self.fetched.clear();
        self.end_told = None;
        self.paused = false;
        self.next = Some(match from {
            Position::Beginning => 0,
            Position::At(offset) => offset.max(0),
        });
    }

    /// Hands out at most `records_max` records, then the end if it is reached. Returns how many records.
    fn take(&mut self, disk: &Disk, out: &mut Vec<Polled>, records_max: usize) -> Result<usize, LogError> {
        let topic = Arc::clone(&self.topic);
        let (Some(mut next), false, Some(partition)) = (self.next, self.paused, topic.partition(self.at.partition)) else {
            return Ok(0);
        };
        let mut taken = 0;
        loop {
            if let Some(fetched) = &mut self.current {
                if taken == records_max {
                    break;
                }
                match fetched.batch.next(&self.at).map_err(|damage| disk.damaged_batch(&self.at, damage))? {
                    None => {
                        next = next.max(fetched.last + 1);
                        self.current = self.fetched.pop_front();
                    }
                    Some(record) if record.offset > fetched.last => {
                        return Err(self.refetch(disk.damaged_batch(&self.at, Damage::Malformed)));
                    }
                    Some(record) if record.offset < next => {}
                    Some(record) if record.offset > next.max(partition.dense_from()) => {
                        return Err(self.refetch(gap(disk, &self.at, next)));
                    }
                    Some(record) => {
                        next = record.offset + 1;
                        out.push(Polled::Record(record));
                        taken += 1;
                    }
                }
                self.next = Some(next);
            } else {
                let end = partition.next();
                if next >= end {
                    if self.end_told != Some(end) {
                        self.end_told = Some(end);
                        out.push(Polled::End { at: self.at.clone(), offset: end });
                    }
                    break;
                }
                if taken == records_max {
                    break;
                }
                if !self.fetch(disk, partition, next, end)? {
                    // Nothing is left up to the end: retention or compaction took it.
                    if end > next.max(partition.dense_from()) {
                        return Err(gap(disk, &self.at, next));
                    }
                    next = end;
                    self.next = Some(end);
                }
            }
        }
        Ok(taken)
    }

    /// Nothing of what was fetched is used: the error will be met again, from the same offset.
    fn refetch(&mut self, error: LogError) -> LogError {
        self.current = None;
        self.fetched.clear();
        error
    }

    /// Fetches batches from `next` on; false if there is none below `end`.
    fn fetch(&mut self, disk: &Disk, partition: &Partition, next: i64, end: i64) -> Result<bool, LogError> {
        let mut batches = disk.batches(self.topic.id, self.at.partition, next.max(partition.first()), end)?;
        self.fetched.clear();
        let mut bytes = 0;
        while bytes < FETCH_BYTES
            && let Some((key, batch)) = batches.item()
        {
            let last = offset_of(key).ok_or_else(|| disk.damaged("a record key is too short"))?;
            bytes += batch.len();
            let batch =
                BatchReader::open(Bytes::copy_from_slice(batch)).map_err(|damage| disk.damaged_batch(&self.at, damage))?;
            self.fetched.push_back(Fetched { batch, last });
            batches.next();
        }
        batches.status().map_err(|error| disk.error(&error))?;
        self.current = self.fetched.pop_front();
        Ok(self.current.is_some())
    }
}

fn gap(disk: &Disk, at: &TopicPartition, offset: i64) -> LogError {
    disk.damaged(&format!("{at} lacks the record of offset {offset}"))
}

/// The partitions of one reader or member.
#[derive(Default)]
pub(super) struct Cursors {
    list: Vec<Cursor>,
    /// Whose turn it is; goes on over polls, so that a small `records_max` starves nobody.
    turn: usize,
}

impl Cursors {
    pub(super) fn push(&mut self, cursor: Cursor) {
        self.list.push(cursor);
    }

    pub(super) fn get_mut(&mut self, at: &TopicPartition) -> Option<&mut Cursor> {
        self.list.iter_mut().find(|cursor| cursor.at == *at)
    }

    pub(super) fn contains_topic(&self, topic: &str) -> bool {
        self.list.iter().any(|cursor| &*cursor.at.topic == topic)
    }

    /// Forgets all partitions and tells which they were.
    pub(super) fn clear(&mut self) -> Vec<TopicPartition> {
        self.turn = 0;
        self.list.drain(..).map(|cursor| cursor.at).collect()
    }

    /// Takes at most `records_max` records from all partitions in turn, with the ends that were reached.
    ///
    /// An error is told only when nothing was taken before it; it will meet the next call too, and no record is lost.
    pub(super) fn take(&mut self, disk: &Disk, out: &mut Vec<Polled>, records_max: usize) -> Result<(), LogError> {
        let count = self.list.len();
        let before = out.len();
        let mut left = records_max;
        let mut idle = 0;
        while idle < count {
            let share = (records_max / count).clamp(1, TURN_RECORDS_MAX).min(left);
            let cursor = &mut self.list[self.turn];
            self.turn = (self.turn + 1) % count;
            match cursor.take(disk, out, share) {
                Err(_) if out.len() > before => break,
                Err(error) => return Err(error),
                Ok(0) => idle += 1,
                Ok(taken) => {
                    idle = 0;
                    left -= taken;
                    if left == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}
