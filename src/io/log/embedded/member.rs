//! The port's member, reader and appender over one open log.
//!
//! Owns what a member was told (its term, its partitions). Never writes by itself: `ledger` does, under the groups' lock.

use super::super::{Appender, Ends, GroupMember, LogError, Output, Polled, Position, Reader, TopicPartition, Txn, Written};
use super::cursor::{Cursor, Cursors};
use super::disk::group_key;
use super::groups::{Seat, Standing};
use super::ledger::Ledger;
use crate::io::failpoint;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct EmbeddedMember {
    ledger: Arc<Ledger>,
    group: String,
    instance: String,
    topics: Vec<String>,
    seat: Arc<Seat>,
    /// The standing that the last poll told its caller.
    told: Standing,
    cursors: Cursors,
}

impl EmbeddedMember {
    pub(super) fn join(ledger: Arc<Ledger>, group: &str, instance: &str, topics: &[String]) -> Self {
        let seat = ledger.groups().join(group, instance);
        ledger.arrivals.announce();
        Self {
            ledger,
            group: group.to_owned(),
            instance: instance.to_owned(),
            topics: topics.to_vec(),
            seat,
            told: Standing::Standby,
            cursors: Cursors::default(),
        }
    }

    /// Tells what became of this member's partitions since the last poll.
    fn follow_group(&mut self, out: &mut Vec<Polled>) -> Result<(), LogError> {
        let standing = self.seat.standing();
        if standing == Standing::Fenced {
            return Err(self.fenced());
        }
        if standing != self.told {
            let revoked = self.cursors.clear();
            if !revoked.is_empty() {
                out.push(Polled::Revoked(revoked));
            }
            self.told = standing;
        }
        if matches!(standing, Standing::Active(_)) {
            let assigned = self.take_new_topics();
            if !assigned.is_empty() {
                out.push(Polled::Assigned(assigned));
            }
        }
        Ok(())
    }

    /// Subscribed topics may be created after the subscription.
    fn take_new_topics(&mut self) -> Vec<TopicPartition> {
        let mut assigned = Vec::new();
        for name in &self.topics {
            if self.cursors.contains_topic(name) {
                continue;
            }
            let Some(topic) = self.ledger.catalog.get(name) else { continue };
            for partition in 0..topic.partitions.len() as i32 {
                let at = TopicPartition { topic: Arc::clone(&topic.name), partition };
                self.cursors.push(Cursor::new(at.clone(), Arc::clone(&topic)));
                assigned.push(at);
            }
        }
        assigned
    }

    fn fenced(&self) -> LogError {
        LogError::Fenced {
            instance: self.instance.clone(),
            detail: format!("a newer member of group {} has this instance", self.group),
        }
    }

    fn cursor(&mut self, at: &TopicPartition) -> Result<&mut Cursor, LogError> {
        self.cursors.get_mut(at).ok_or_else(|| LogError::Rebalanced(format!("{at} is not assigned to this member")))
    }

    fn set_paused(&mut self, of: &[TopicPartition], paused: bool) -> Result<(), LogError> {
        of.iter().try_for_each(|at| {
            self.cursor(at)?.paused = paused;
            Ok(())
        })
    }
}

impl GroupMember for EmbeddedMember {
    fn poll(&mut self, out: &mut Vec<Polled>, records_max: usize, timeout: Duration) -> Result<(), LogError> {
        let before = out.len();
        let begun = Instant::now();
        loop {
            let seen = self.ledger.arrivals.seen();
            self.follow_group(out)?;
            self.cursors.take(&self.ledger.disk, out, records_max)?;
            if out.len() > before || !self.ledger.arrivals.wait(seen, begun, timeout) {
                return Ok(());
            }
        }
    }

    fn committed(&mut self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Option<i64>>, LogError> {
        // Under the lock: a former owner's commit that has begun is through by then, and no other can follow.
        let _held = self.ledger.groups();
        committed(&self.ledger, &self.group, of)
    }

    fn start(&mut self, from: &[(TopicPartition, Position)]) -> Result<(), LogError> {
        from.iter().try_for_each(|(at, position)| {
            self.cursor(at)?.start(*position);
            Ok(())
        })
    }

    fn pause(&mut self, of: &[TopicPartition]) -> Result<(), LogError> {
        self.set_paused(of, true)
    }

    fn resume(&mut self, of: &[TopicPartition]) -> Result<(), LogError> {
        self.set_paused(of, false)
    }

    fn commit(&mut self, txn: Txn) -> Result<Written, LogError> {
        let mut held = self.ledger.groups();
        match self.seat.standing() {
            Standing::Fenced => Err(self.fenced()),
            standing if standing != self.told || standing == Standing::Standby => Err(LogError::Rebalanced(format!(
                "another member of group {} has its partitions, or had them meanwhile",
                self.group
            ))),
            _ => {
                failpoint::pass("before-commit");
                let written = self.ledger.write(&mut held, &txn.outputs, Some((&self.group, &txn.input_offsets)));
                failpoint::pass("after-commit");
                written.map_err(|error| match error {
                    LogError::Unavailable(detail) => LogError::Unsettled(detail),
                    other => other,
                })
            }
        }
    }

    fn recover(&mut self) -> Result<(), LogError> {
        let _held = self.ledger.groups();
        if self.seat.standing() == Standing::Fenced {
            return Err(self.fenced());
        }
        // A write that failed is gone, unless its write-ahead log entry reached the disk; then RocksDB refuses every later
        // write until the log is opened again, which this finds out.
        self.ledger.disk.probe()
    }

    fn close(&mut self) -> Result<(), LogError> {
        self.cursors.clear();
        self.told = Standing::Standby;
        self.ledger.groups().leave(&self.group, &self.seat);
        self.ledger.arrivals.announce();
        Ok(())
    }
}

impl Drop for EmbeddedMember {
    fn drop(&mut self) {
        self.ledger.groups().leave(&self.group, &self.seat);
        self.ledger.arrivals.announce();
    }
}

/// A group's offsets; none for what was never committed.
pub(super) fn committed(
    ledger: &Ledger,
    group: &str,
    of: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Option<i64>>, LogError> {
    let mut offsets = BTreeMap::new();
    for at in of {
        let offset = match ledger.catalog.get(&at.topic) {
            Some(topic) => ledger.disk.offset(&group_key(group, topic.id, at.partition))?,
            None => None,
        };
        offsets.insert(at.clone(), offset);
    }
    Ok(offsets)
}

pub(super) struct EmbeddedReader {
    ledger: Arc<Ledger>,
    cursors: Cursors,
}

impl EmbeddedReader {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, cursors: Cursors::default() }
    }
}

impl Reader for EmbeddedReader {
    fn assign(&mut self, from: &[(TopicPartition, Position)]) -> Result<(), LogError> {
        let mut cursors = Cursors::default();
        for (at, position) in from {
            let mut cursor = Cursor::new(at.clone(), self.ledger.catalog.topic_of(at)?);
            cursor.start(*position);
            cursors.push(cursor);
        }
        self.cursors = cursors;
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<Polled>, records_max: usize, timeout: Duration) -> Result<(), LogError> {
        let before = out.len();
        let begun = Instant::now();
        loop {
            let seen = self.ledger.arrivals.seen();
            self.cursors.take(&self.ledger.disk, out, records_max)?;
            if out.len() > before || !self.ledger.arrivals.wait(seen, begun, timeout) {
                return Ok(());
            }
        }
    }

    fn bounds(&mut self, of: &TopicPartition) -> Result<(i64, i64), LogError> {
        let topic = self.ledger.catalog.topic_of(of)?;
        let partition = topic.partition(of.partition).ok_or_else(|| LogError::NoTopic(of.to_string()))?;
        Ok((partition.first(), partition.next()))
    }

    /// A transaction here is one write: nothing is ever unsettled.
    fn ends(&mut self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Ends>, LogError> {
        of.iter().map(|at| self.bounds(at).map(|(_, end)| (at.clone(), Ends { settled: end, written: end }))).collect()
    }
}

pub(super) struct EmbeddedAppender {
    ledger: Arc<Ledger>,
}

impl EmbeddedAppender {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }
}

impl Appender for EmbeddedAppender {
    fn append(&mut self, outputs: Vec<Output>) -> Result<(), LogError> {
        let mut held = self.ledger.groups();
        self.ledger.write(&mut held, &outputs, None).map(drop)
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.ledger.disk.sync()
    }
}
