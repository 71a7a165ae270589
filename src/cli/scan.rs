//! Reads topics whole, or single records of them, outside any group.

use anyhow::{Result, bail};
use smartrouter::io::log::{EventLog, LogError, Polled, Position, Record, TopicPartition};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const BATCH_RECORDS: usize = 1_000;
const TURN: Duration = Duration::from_millis(500);
/// A log that says nothing for this long does not answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// All partitions of these topics; a topic that does not exist is an error that says what to do.
pub(super) fn partitions_of(log: &dyn EventLog, topics: &[String]) -> Result<Vec<TopicPartition>, LogError> {
    let known: BTreeMap<String, i32> = log.topics(&[])?.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    let mut found = Vec::new();
    for topic in topics {
        let partitions = known.get(topic).ok_or_else(|| LogError::NoTopic(topic.clone()))?;
        found.extend((0..*partitions).map(|partition| TopicPartition::new(topic, partition)));
    }
    Ok(found)
}

/// The first offset of a partition, and that behind its last record, as reading began.
pub(super) type Bounds = BTreeMap<TopicPartition, (i64, i64)>;

/// Hands over every committed record up to the ends that the partitions had when reading began.
pub(super) fn scan(log: &dyn EventLog, topics: &[String], mut visit: impl FnMut(Record)) -> Result<Bounds> {
    let mut reader = log.reader()?;
    let (mut bounds, mut open) = (Bounds::new(), BTreeMap::new());
    for partition in partitions_of(log, topics)? {
        let (begin, end) = reader.bounds(&partition)?;
        bounds.insert(partition.clone(), (begin, end));
        if begin < end {
            open.insert(partition, end);
        }
    }
    let from: Vec<_> = open.keys().map(|partition| (partition.clone(), Position::Beginning)).collect();
    reader.assign(&from)?;
    let mut heard = Instant::now();
    let mut polled = Vec::new();
    while !open.is_empty() {
        reader.poll(&mut polled, BATCH_RECORDS, TURN)?;
        if !polled.is_empty() {
            heard = Instant::now();
        } else if heard.elapsed() > SILENCE_MAX {
            bail!("{} does not answer any more; {} partitions were not read to their end", topics.join(", "), open.len());
        }
        for event in polled.drain(..) {
            match event {
                Polled::Record(record) => {
                    let Some(end) = open.get(&record.at).copied() else { continue };
                    if record.offset + 1 >= end {
                        open.remove(&record.at);
                    }
                    if record.offset < end {
                        visit(record);
                    }
                }
                Polled::End { at, .. } => {
                    open.remove(&at);
                }
                Polled::Assigned(_) | Polled::Revoked(_) => {}
            }
        }
    }
    Ok(bounds)
}

/// The first committed record at or behind `offset`, if there is one now.
pub(super) fn first_from(log: &dyn EventLog, at: &TopicPartition, offset: i64) -> Result<Option<Record>> {
    let mut reader = log.reader()?;
    reader.assign(&[(at.clone(), Position::At(offset))])?;
    let begun = Instant::now();
    let mut polled = Vec::new();
    loop {
        reader.poll(&mut polled, 1, TURN)?;
        for event in polled.drain(..) {
            match event {
                Polled::Record(record) if record.at == *at => return Ok(Some(record)),
                Polled::End { at: ended, .. } if ended == *at => return Ok(None),
                _ => {}
            }
        }
        if begun.elapsed() > SILENCE_MAX {
            bail!("{at} does not answer");
        }
    }
}
