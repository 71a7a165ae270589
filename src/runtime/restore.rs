//! Brings the local state of partitions to where their changelogs stand, before anything is processed.
//!
//! Owns the decision what local state is worth: it is rolled forward from its own position; it is wiped only when it belongs
//! to another log or another format, or lies ahead of its changelog; where the changelog cannot make up for it (records were deleted
//! from it, or the number of partitions changed), nothing is started. Reads changelogs, writes the store, and never processes an event.

use super::TaskError;
use super::entity_cache::FORMAT;
use crate::io::failpoint;
use crate::io::log::{EventLog, LogError, Polled, Position, Reader, Record, TopicPartition};
use crate::io::store::{Shard, ShardPosition, StateBatch, StateStore, StoreError};
use crate::io::topics::TopicNames;
use std::collections::BTreeMap;
use std::time::Duration;

/// The changelog of each shard.
pub(super) type Changelogs = BTreeMap<TopicPartition, Shard>;

pub(super) struct Restore {
    reader: Box<dyn Reader>,
    log_id: String,
    partitions: BTreeMap<Shard, i32>,
    /// What is not yet restored.
    waiting: Changelogs,
    /// Where each changelog ended when this began, transactions that were not settled included: a former owner's last commit is
    /// known to the group before its records can be read, so the end of what can be read is not enough.
    ends: BTreeMap<TopicPartition, i64>,
    polled: Vec<Polled>,
    applied: u64,
}

/// Records of one turn: bounds how long the group waits for its poll, and the size of a batch.
const RECORDS_PER_TURN: usize = 5_000;

/// What a shard's local content is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    RollForward(i64),
    Rebuild(&'static str),
    /// What is missing here is missing in the changelog too: records were deleted from it, which compaction never does to the
    /// last word on a key. Going on would be going on with a state that never was.
    Lost(&'static str),
    /// Written under another number of partitions: keys are in other partitions now, what is known of them is not, and no changelog
    /// tells where it belongs.
    Moved(i32),
}

/// Whose state it is: of this cluster, and of the system of this prefix on it.
pub(super) fn log_id_of(log: &dyn EventLog, names: &TopicNames) -> Result<String, LogError> {
    Ok(format!("{}/{}", log.log_id()?, names.full("")))
}

impl Restore {
    /// `partitions`: how many the changelog topic of each shard has.
    pub(super) fn begin(
        store: &StateStore,
        mut reader: Box<dyn Reader>,
        log_id: &str,
        changelogs: Changelogs,
        partitions: BTreeMap<Shard, i32>,
    ) -> Result<Self, TaskError> {
        let mut from = Vec::new();
        let mut ends = BTreeMap::new();
        for (at, &shard) in &changelogs {
            let bounds = (reader.bounds(at)?.0, reader.written_end(at)?);
            ends.insert(at.clone(), bounds.1);
            let expected = ShardPosition {
                log_id: log_id.to_owned(),
                partitions: partitions_of(&partitions, shard),
                format: FORMAT,
                changelog_offset: 0,
            };
            let local = store.position(shard)?;
            let start = match worth(local.as_ref(), &expected, bounds) {
                Worth::RollForward(offset) => Position::At(offset),
                Worth::Lost(why) => return Err(lost(at, bounds.0, why).into()),
                Worth::Moved(before) => return Err(moved(at, before, expected.partitions).into()),
                Worth::Rebuild(why) => {
                    tracing::info!(
                        store = shard.store.as_str(),
                        partition = shard.partition,
                        why,
                        "state is rebuilt from its changelog"
                    );
                    store.wipe(shard)?;
                    Position::Beginning
                }
            };
            from.push((at.clone(), start));
        }
        reader.assign(&from)?;
        Ok(Self { reader, log_id: log_id.to_owned(), partitions, waiting: changelogs, ends, polled: Vec::new(), applied: 0 })
    }

    /// One bounded turn. True when everything is restored.
    pub(super) fn turn(&mut self, store: &StateStore, timeout: Duration) -> Result<bool, TaskError> {
        self.polled.clear();
        self.reader.poll(&mut self.polled, RECORDS_PER_TURN, timeout)?;
        let mut batch = StateBatch::default();
        let mut reached: BTreeMap<Shard, i64> = BTreeMap::new();
        let mut done = Vec::new();
        for polled in &self.polled {
            match polled {
                Polled::Record(record) => {
                    let Some(&shard) = self.waiting.get(&record.at) else { continue };
                    if !failpoint::is_broken("restore-skips-a-record") {
                        apply(&mut batch, shard, record);
                    }
                    reached.insert(shard, record.offset + 1);
                    self.applied += 1;
                }
                Polled::End { at, offset } => {
                    if let Some(&shard) = self.waiting.get(at) {
                        reached.insert(shard, *offset);
                        if self.ends.get(at).is_none_or(|end| offset >= end) {
                            done.push(at.clone());
                        }
                    }
                }
                Polled::Assigned(_) | Polled::Revoked(_) => {}
            }
        }
        for (shard, changelog_offset) in reached {
            let partitions = partitions_of(&self.partitions, shard);
            let position = ShardPosition { log_id: self.log_id.clone(), partitions, format: FORMAT, changelog_offset };
            batch.set_position(shard, &position)?;
        }
        if !batch.is_empty() {
            store.write(batch)?;
            failpoint::pass("during-restore");
        }
        for at in done {
            self.waiting.remove(&at);
        }
        Ok(self.waiting.is_empty())
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// Shards that are no longer this instance's need no restoring.
    pub(super) fn forget(&mut self, is_gone: impl Fn(Shard) -> bool) {
        self.waiting.retain(|_, shard| !is_gone(*shard));
    }
}

fn apply(batch: &mut StateBatch, shard: Shard, record: &Record) {
    if let Some(key) = &record.key {
        batch.put(shard, key, record.value.as_deref());
    }
}

fn partitions_of(partitions: &BTreeMap<Shard, i32>, shard: Shard) -> i32 {
    partitions.get(&shard).copied().unwrap_or_default()
}

fn lost(at: &TopicPartition, first: i64, why: &str) -> LogError {
    LogError::Refused(format!(
        "the records of {at} below offset {first} were deleted, and the local state cannot stand in for them ({why}): start the \
         instance whose state directory still has them; to go on without them, delete and create the topic {}",
        at.topic
    ))
}

fn moved(at: &TopicPartition, before: i32, now: i32) -> LogError {
    LogError::Refused(format!(
        "{} had {before} partitions when its state was written, and has {now} now: its keys moved to other partitions without what is \
         known of them; use topics of their own (--topic-prefix) for another number of partitions",
        at.topic
    ))
}

/// `bounds`: first offset of the changelog that is still there, and the offset behind its last record, settled or not.
pub(super) fn worth(local: Option<&ShardPosition>, expected: &ShardPosition, bounds: (i64, i64)) -> Worth {
    let (first, end) = bounds;
    let rebuild = if first > 0 { Worth::Lost } else { Worth::Rebuild };
    let Some(local) = local else { return rebuild("none is here") };
    if local.log_id != expected.log_id {
        rebuild("it belongs to another log")
    } else if local.partitions != expected.partitions {
        Worth::Moved(local.partitions)
    } else if local.format != expected.format {
        rebuild("its format is another version's")
    } else if local.changelog_offset > end {
        rebuild("it is ahead of its changelog")
    } else if local.changelog_offset < first {
        rebuild("it is older than its changelog's start")
    } else {
        Worth::RollForward(local.changelog_offset)
    }
}

impl From<LogError> for TaskError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<StoreError> for TaskError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_state_is_kept_only_when_it_fits() {
        let expected = ShardPosition { log_id: "a".into(), partitions: 4, format: FORMAT, changelog_offset: 0 };
        let local = |change: &dyn Fn(&mut ShardPosition)| {
            let mut position = ShardPosition { changelog_offset: 50, ..expected.clone() };
            change(&mut position);
            Some(position)
        };
        let rows: [(&str, Option<ShardPosition>, bool); 9] = [
            ("as it was left", local(&|_| {}), true),
            ("exactly at the end", local(&|p| p.changelog_offset = 100), true),
            ("exactly at the start", local(&|p| p.changelog_offset = 10), true),
            ("nothing", None, false),
            ("another log", local(&|p| p.log_id = "b".into()), false),
            ("another partition count", local(&|p| p.partitions = 8), false),
            ("another format", local(&|p| p.format = FORMAT + 1), false),
            ("ahead", local(&|p| p.changelog_offset = 101), false),
            ("older than the start", local(&|p| p.changelog_offset = 9), false),
        ];
        assert_eq!(worth(None, &expected, (0, 100)), Worth::Rebuild("none is here"), "from a changelog that is whole");
        assert_eq!(
            worth(local(&|p| p.partitions = 8).as_ref(), &expected, (0, 100)),
            Worth::Moved(8),
            "no changelog knows where to"
        );
        for (name, local, kept) in rows {
            let worth = worth(local.as_ref(), &expected, (10, 100));
            assert_eq!(matches!(worth, Worth::RollForward(_)), kept, "{name}: {worth:?}");
            let refused = matches!(worth, Worth::Lost(_) | Worth::Moved(_));
            assert_eq!(refused, !kept, "{name}: nobody has the deleted records: {worth:?}");
        }
    }
}
