//! Brings the local state of partitions to where their changelogs stand, before anything is processed.
//!
//! Owns the decision what local state is worth: it is rolled forward from its own position; it is wiped only when it belongs
//! to another log or another format, or lies ahead of its changelog, or when the last record that it knows is not there any more; where
//! the changelog cannot make up for it (records were deleted from it, or the number of partitions changed), or holds another record in
//! that place, nothing is started. As a prefix of a log that matches in its last record matches in all, a topic that was deleted and
//! made anew is noticed, also when it has grown beyond the local position. Nothing goes on either while a transaction is open that was
//! begun before: its producer's next one would end it as well, and make visible what was aborted. Reads changelogs, writes the store, and never processes an event.

use super::TaskError;
use super::entity_cache::FORMAT;
use crate::io::failpoint;
use crate::io::log::{EventLog, LogError, Polled, Position, Reader, Record, TopicPartition};
use crate::io::store::{LastRecord, Shard, ShardPosition, StateBatch, StateStore, StoreError, fingerprint};
use crate::io::topics::TopicNames;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The changelog of each shard, and how many partitions its topic has.
pub(super) type Changelogs = BTreeMap<TopicPartition, (Shard, i32)>;

pub(super) struct Restore {
    reader: Box<dyn Reader>,
    log_id: String,
    /// What is not yet restored.
    waiting: BTreeMap<TopicPartition, Changelog>,
    /// How far transactions have to be settled in partitions that are only written to.
    unsettled: BTreeMap<TopicPartition, i64>,
    polled: Vec<Polled>,
    applied: u64,
    /// When it came nearer to its end.
    progressed: Instant,
}

/// How far one changelog is read.
struct Changelog {
    shard: Shard,
    /// Partitions of its topic.
    partitions: i32,
    /// First offset that is still there.
    first: i64,
    /// Where it ended when this began, transactions that were not settled included: a former owner's last commit is known to the
    /// group before its records can be read, so the end of what can be read is not enough.
    end: i64,
    next: Position,
    /// The last record that is applied.
    last: Option<LastRecord>,
    /// Whether that one has yet to be met where it was: reading begins with it.
    unmet: bool,
}

/// What the first record behind a local position says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    /// It is the last one that is applied.
    Known,
    /// The last one that is applied is no more, which compaction may have done, or who deleted the topic.
    Gone,
    /// It is news.
    New,
}

/// Records of one turn: bounds how long the group waits for its poll, and the size of a batch.
const RECORDS_PER_TURN: usize = 5_000;
/// Longer than a transaction takes whose owner died (`kafka.transaction_timeout_ms`, unless it is set higher).
const HANGS_AFTER: Duration = Duration::from_secs(30);

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
    /// `outputs`: where former transactions have to be settled besides.
    pub(super) fn begin(
        store: &StateStore,
        mut reader: Box<dyn Reader>,
        log_id: &str,
        changelogs: Changelogs,
        outputs: &[TopicPartition],
    ) -> Result<Self, TaskError> {
        let asked: BTreeSet<&TopicPartition> = changelogs.keys().chain(outputs).collect();
        let asked: Vec<TopicPartition> = asked.into_iter().cloned().collect();
        let mut ends = reader.ends(&asked)?;
        let mut waiting = BTreeMap::new();
        for (at, (shard, partitions)) in changelogs {
            let first = reader.bounds(&at)?.0;
            let end = ends.remove(&at).map_or(first, |ends| ends.written);
            let expected =
                ShardPosition { log_id: log_id.to_owned(), partitions, format: FORMAT, changelog_offset: 0, last: None };
            let local = store.position(shard)?;
            let mut changelog = Changelog { shard, partitions, first, end, next: Position::Beginning, last: None, unmet: false };
            match worth(local.as_ref(), &expected, (first, end)) {
                Worth::RollForward(offset) => {
                    changelog.last = local.and_then(|local| local.last);
                    let known = changelog.last.map(|last| last.offset).filter(|&offset| offset >= first);
                    (changelog.next, changelog.unmet) = (Position::At(known.unwrap_or(offset)), known.is_some());
                }
                Worth::Lost(why) => return Err(lost(&at, first, why).into()),
                Worth::Moved(before) => return Err(moved(&at, before, partitions).into()),
                Worth::Rebuild(why) => rebuild(store, shard, why)?,
            }
            waiting.insert(at, changelog);
        }
        // A changelog that is read to its end is settled up to there: it is not waited for twice.
        ends.retain(|_, ends| ends.settled < ends.written);
        let unsettled = ends.into_iter().map(|(at, ends)| (at, ends.written)).collect();
        let (log_id, progressed) = (log_id.to_owned(), Instant::now());
        let mut restore = Self { reader, log_id, waiting, unsettled, polled: Vec::new(), applied: 0, progressed };
        restore.read()?;
        Ok(restore)
    }

    /// Reads on from where each changelog stands.
    fn read(&mut self) -> Result<(), LogError> {
        let from: Vec<_> = self.waiting.iter().map(|(at, changelog)| (at.clone(), changelog.next)).collect();
        self.reader.assign(&from)
    }

    /// One bounded turn. True when everything is restored.
    pub(super) fn turn(&mut self, store: &StateStore, timeout: Duration) -> Result<bool, TaskError> {
        self.polled.clear();
        self.reader.poll(&mut self.polled, RECORDS_PER_TURN, timeout)?;
        if !self.polled.is_empty() {
            self.progressed = Instant::now();
        }
        let mut batch = StateBatch::default();
        let (mut done, mut gone) = (Vec::new(), BTreeSet::new());
        let mut moved: BTreeMap<&TopicPartition, Option<&Record>> = BTreeMap::new();
        for polled in &self.polled {
            let (at, record, next) = match polled {
                Polled::Record(record) => (&record.at, Some(record), record.offset + 1),
                Polled::End { at, offset } => (at, None, *offset),
                Polled::Assigned(_) | Polled::Revoked(_) => continue,
            };
            let Some(changelog) = self.waiting.get_mut(at).filter(|_| !gone.contains(at)) else { continue };
            match (changelog.meet(at, record)?, record) {
                (Met::Gone, _) => {
                    gone.insert(at.clone());
                    continue;
                }
                (Met::Known, _) => continue,
                (Met::New, Some(record)) => {
                    self.applied += 1;
                    apply(&mut batch, changelog.shard, record);
                }
                (Met::New, None) if next >= changelog.end => done.push(at.clone()),
                (Met::New, None) => {}
            }
            changelog.next = Position::At(next);
            let newest = moved.entry(at).or_default();
            *newest = record.or(*newest);
        }
        for (at, newest) in moved {
            let Some(changelog) = self.waiting.get_mut(at) else { continue };
            changelog.last = newest.map(known).or(changelog.last);
            changelog.save(&mut batch, &self.log_id)?;
        }
        if !batch.is_empty() {
            store.write(batch)?;
            failpoint::pass("during-restore");
        }
        for at in done {
            self.waiting.remove(&at);
        }
        self.begin_again(store, &gone)?;
        if self.waiting.is_empty() {
            self.settle()?;
        }
        self.check_progress()?;
        Ok(self.waiting.is_empty() && self.unsettled.is_empty())
    }

    fn settle(&mut self) -> Result<(), LogError> {
        let open: Vec<TopicPartition> = self.unsettled.keys().cloned().collect();
        let ends = self.reader.ends(&open)?;
        self.unsettled.retain(|at, written| ends.get(at).is_none_or(|ends| ends.settled < *written));
        if self.unsettled.len() < open.len() {
            self.progressed = Instant::now();
        }
        Ok(())
    }

    /// Names the transactions that it waits for, when it waits longer than any should take.
    fn check_progress(&mut self) -> Result<(), LogError> {
        if self.progressed.elapsed() < HANGS_AFTER {
            return Ok(());
        }
        self.progressed = Instant::now();
        let waits: Vec<TopicPartition> = self.waiting.keys().chain(self.unsettled.keys()).cloned().collect();
        let mut ends = self.reader.ends(&waits)?;
        ends.retain(|_, ends| ends.settled < ends.written);
        if ends.is_empty() {
            return Ok(());
        }
        Err(LogError::Hanging(ends.into_iter().map(|(at, ends)| (at, ends.settled)).collect()))
    }

    /// From their beginnings: what the local state was built on is not all there.
    fn begin_again(&mut self, store: &StateStore, gone: &BTreeSet<TopicPartition>) -> Result<(), TaskError> {
        if gone.is_empty() {
            return Ok(());
        }
        let why = "the last record that it knows is not there any more";
        for at in gone {
            let Some(changelog) = self.waiting.get_mut(at) else { continue };
            if changelog.first > 0 {
                return Err(lost(at, changelog.first, why).into());
            }
            rebuild(store, changelog.shard, why)?;
            (changelog.next, changelog.last, changelog.unmet) = (Position::Beginning, None, false);
        }
        Ok(self.read()?)
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// Shards that are no longer this instance's need no restoring.
    pub(super) fn forget(&mut self, is_gone: impl Fn(Shard) -> bool) {
        self.waiting.retain(|_, changelog| !is_gone(changelog.shard));
    }
}

impl Changelog {
    /// `record`: what comes next; absent at the end of what can be read.
    fn meet(&mut self, at: &TopicPartition, record: Option<&Record>) -> Result<Met, LogError> {
        let Some(last) = self.last.filter(|_| std::mem::take(&mut self.unmet)) else { return Ok(Met::New) };
        let Some(record) = record.filter(|record| record.offset == last.offset) else { return Ok(Met::Gone) };
        if known(record) == last { Ok(Met::Known) } else { Err(another(at, last.offset)) }
    }

    fn save(&self, batch: &mut StateBatch, log_id: &str) -> Result<(), StoreError> {
        let Position::At(changelog_offset) = self.next else { return Ok(()) };
        let (log_id, partitions, last) = (log_id.to_owned(), self.partitions, self.last);
        batch.set_position(self.shard, &ShardPosition { log_id, partitions, format: FORMAT, changelog_offset, last })
    }
}

fn apply(batch: &mut StateBatch, shard: Shard, record: &Record) {
    if let (Some(key), false) = (&record.key, failpoint::is_broken("restore-skips-a-record")) {
        batch.put(shard, key, record.value.as_deref());
    }
}

pub(super) fn known(record: &Record) -> LastRecord {
    LastRecord::new(record.offset, fingerprint(record.key.as_deref().unwrap_or_default(), record.value.as_deref()))
}

fn rebuild(store: &StateStore, shard: Shard, why: &str) -> Result<(), StoreError> {
    tracing::info!(store = shard.store.as_str(), partition = shard.partition, why, "state is rebuilt from its changelog");
    store.wipe(shard)
}

fn another(at: &TopicPartition, offset: i64) -> LogError {
    LogError::Refused(format!(
        "the record of {at} at offset {offset} is another than the one that the local state was built on: the topic {topic} was deleted and \
         made anew, or has lost records and grown again. To take what it holds now for the truth, drop the local state with `smartrouter \
         reset --execute`: it is rebuilt from there at the next start",
        topic = at.topic
    ))
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
        let expected = ShardPosition { log_id: "a".into(), partitions: 4, format: FORMAT, changelog_offset: 0, last: None };
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
