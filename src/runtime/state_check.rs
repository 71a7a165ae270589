//! Whether local state is what its changelog says: the check behind `smartrouter state check`.
//!
//! Owns the comparison of one shard with its changelog up to the shard's own position. Changes nothing, restores nothing, and never
//! shows a value. Memory: per entry of one shard its key and 16 bytes.

use super::TaskError;
use super::entity_cache::FORMAT;
use super::restore::{Worth, known, log_id_of, worth};
use super::shared::changelog_of;
use crate::io::log::{EventLog, LogError, Polled, Position, TopicPartition};
use crate::io::store::{Shard, ShardPosition, StateStore, StoreName};
use crate::io::topics::TopicNames;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// What was found of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardReport {
    pub store: &'static str,
    pub partition: i32,
    pub entries: u64,
    /// Over all entries in the order of their keys: two shards of the same content have the same one.
    pub sha256: String,
    /// All changelog records below this offset are in. Absent: the shard does not know what it stands for, and is rebuilt.
    pub changelog_offset: Option<i64>,
    /// Offset behind the changelog's last record: what lies between is rolled forward at the next start.
    pub changelog_end: i64,
    pub equal: bool,
    /// What is wrong. Absent when nothing is.
    pub difference: Option<String>,
}

const RECORDS_PER_POLL: usize = 5_000;
const POLL: Duration = Duration::from_millis(500);
/// A changelog that says nothing for this long does not answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const KEY_CHARS_MAX: usize = 80;

type ValueHash = [u8; 16];

/// What a changelog says about its keys.
#[derive(Default)]
struct Told {
    /// By key: the newest value below the shard's position.
    values: BTreeMap<Vec<u8>, ValueHash>,
    /// Keys with records at or behind the position: compaction may have taken the older ones away.
    newer: BTreeSet<Vec<u8>>,
    /// Another record lies where the last one was that the shard knows.
    is_another: bool,
}

/// Checks every shard that the store holds anything of. No process may be working on them.
pub fn check_state(store: &StateStore, log: &dyn EventLog, names: &TopicNames) -> Result<Vec<ShardReport>, TaskError> {
    let known = log.topics(&[])?;
    let log_id = log_id_of(log, names)?;
    let mut reports = Vec::new();
    for name in StoreName::ALL {
        let topic = names.full(changelog_of(name));
        let partitions = known.iter().find(|it| it.name == topic).map_or(0, |it| it.partitions);
        for partition in store.partitions(name)? {
            let shard = Shard::new(name, partition);
            let (entries, sha256) = fingerprint(store, shard)?;
            let position = store.position(shard)?;
            let at = TopicPartition::new(&topic, partition);
            let bounds = if partition < partitions { log.reader()?.bounds(&at)? } else { (0, 0) };
            let difference = match stands_for(position.as_ref(), &log_id, (&topic, partitions), bounds) {
                Err(why) => Some(why),
                Ok(position) => compare(store, log, (shard, &at), position, bounds.1)?,
            };
            let report = ShardReport {
                store: name.as_str(),
                partition,
                entries,
                sha256,
                changelog_offset: position.as_ref().map(|position| position.changelog_offset),
                changelog_end: bounds.1,
                equal: difference.is_none(),
                difference,
            };
            reports.push(report);
        }
    }
    Ok(reports)
}

/// Up to where the shard claims to hold this changelog; or what a start would make of it, by the rules of `restore`.
fn stands_for<'a>(
    position: Option<&'a ShardPosition>,
    log_id: &str,
    (topic, partitions): (&str, i32),
    bounds: (i64, i64),
) -> Result<&'a ShardPosition, String> {
    let Some(position) = position else { return Err("entries without a position: it is rebuilt".to_owned()) };
    let expected = ShardPosition { log_id: log_id.to_owned(), partitions, format: FORMAT, changelog_offset: 0, last: None };
    match worth(Some(position), &expected, bounds) {
        Worth::RollForward(_) => Ok(position),
        Worth::Rebuild(why) => Err(format!("{why}: it is rebuilt")),
        Worth::Lost(why) => {
            Err(format!("{why}, and the changelog's records below {} were deleted: nothing starts on it", bounds.0))
        }
        Worth::Moved(before) => Err(format!("written when {topic} had {before} partitions, now it has {partitions}")),
    }
}

fn fingerprint(store: &StateStore, shard: Shard) -> Result<(u64, String), TaskError> {
    let (mut entries, mut hash) = (0, Sha256::new());
    store.scan(shard, b"", |key, value| {
        entries += 1;
        for part in [key, value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        ControlFlow::Continue(())
    })?;
    Ok((entries, format!("{:x}", hash.finalize())))
}

fn compare(
    store: &StateStore,
    log: &dyn EventLog,
    (shard, at): (Shard, &TopicPartition),
    position: &ShardPosition,
    end: i64,
) -> Result<Option<String>, TaskError> {
    let mut told = read(log, at, position, end)?;
    if told.is_another {
        return Ok(Some("the changelog is another than the one that it was built from: nothing starts on it".to_owned()));
    }
    let mut difference: Option<(Vec<u8>, &str)> = None;
    store.scan(shard, b"", |key, value| {
        let expected = told.values.remove(key);
        if expected == Some(hash_of(value)) || told.newer.contains(key) {
            return ControlFlow::Continue(());
        }
        let what = if expected.is_some() { "has another value" } else { "is in the store only" };
        difference = Some((key.to_vec(), what));
        ControlFlow::Break(())
    })?;
    // In the order of keys, what is left before the first difference was not in the store.
    let missing = told.values.keys().find(|key| !told.newer.contains(*key));
    let missing = missing.filter(|key| difference.as_ref().is_none_or(|(found, _)| *key < found));
    let first = missing.map(|key| (key.clone(), "is in the changelog only")).or(difference);
    Ok(first.map(|(key, what)| format!("key {} {what}", shortened(&key))))
}

fn read(log: &dyn EventLog, at: &TopicPartition, position: &ShardPosition, end: i64) -> Result<Told, TaskError> {
    let mut told = Told::default();
    let mut reader = log.reader()?;
    reader.assign(&[(at.clone(), Position::Beginning)])?;
    let (mut polled, mut heard) = (Vec::new(), Instant::now());
    loop {
        reader.poll(&mut polled, RECORDS_PER_POLL, POLL)?;
        if !polled.is_empty() {
            heard = Instant::now();
        } else if heard.elapsed() > SILENCE_MAX {
            return Err(LogError::Unavailable(format!("{at} was not read to its end")).into());
        }
        for event in polled.drain(..) {
            match event {
                Polled::Record(record) => {
                    let last = position.last.filter(|last| last.offset == record.offset);
                    told.is_another |= last.is_some_and(|last| last != known(&record));
                    let Some(key) = record.key.map(|key| key.to_vec()) else { continue };
                    match record.value {
                        _ if record.offset >= position.changelog_offset => drop(told.newer.insert(key)),
                        Some(value) => drop(told.values.insert(key, hash_of(&value))),
                        None => drop(told.values.remove(&key)),
                    }
                }
                Polled::End { offset, .. } if offset >= end => return Ok(told),
                Polled::End { .. } | Polled::Assigned(_) | Polled::Revoked(_) => {}
            }
        }
    }
}

fn hash_of(value: &[u8]) -> ValueHash {
    let mut hash = ValueHash::default();
    hash.copy_from_slice(&Sha256::digest(value)[..16]);
    hash
}

/// Keys are ids, some with binary parts.
fn shortened(key: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(key).chars().map(|c| if c.is_control() { '.' } else { c }).collect();
    if text.chars().count() <= KEY_CHARS_MAX { text } else { text.chars().take(KEY_CHARS_MAX).chain("...".chars()).collect() }
}
