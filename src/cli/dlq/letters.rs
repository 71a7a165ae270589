//! Dead letters as they lie in their topics: what the headers say, and which were sent again already.

use crate::cli::scan;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use smartrouter::io::log::{EventLog, Record, TopicPartition};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

pub(super) const REASON: &str = "dlq-reason";
pub(super) const SOURCE_TOPIC: &str = "dlq-source-topic";
pub(super) const SOURCE_PARTITION: &str = "dlq-source-partition";
pub(super) const SOURCE_OFFSET: &str = "dlq-source-offset";
pub(super) const AT: &str = "dlq-at";
/// On the mark that says a letter was sent again.
pub(super) const REDRIVEN: &str = "dlq-redriven";

/// Where a letter lies: `payment.attempts.dlq:0:12`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct LetterId {
    pub(super) at: TopicPartition,
    pub(super) offset: i64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.at.topic, self.at.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not TOPIC:PARTITION:OFFSET, such as payment.attempts.dlq:0:12");
        let mut parts = text.rsplitn(3, ':');
        let offset = parts.next().and_then(|part| part.parse().ok()).ok_or_else(refused)?;
        let partition = parts.next().and_then(|part| part.parse().ok()).ok_or_else(refused)?;
        let topic = parts.next().filter(|topic| !topic.is_empty()).ok_or_else(refused)?;
        if offset < 0 || partition < 0 {
            return Err(refused());
        }
        Ok(Self { at: TopicPartition::new(topic, partition), offset })
    }
}

/// What `dlq list` shows of a letter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct DeadLetter {
    /// As `show` and `redrive` take it.
    pub(super) letter: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) source: String,
    pub(super) source_topic: String,
    pub(super) source_partition: i32,
    pub(super) source_offset: i64,
    pub(super) reason: String,
    pub(super) at: Option<i64>,
    pub(super) bytes: usize,
    pub(super) redriven: bool,
}

impl DeadLetter {
    /// Reads the headers; a record without them is not a dead letter.
    pub(super) fn of(record: &Record) -> Result<Self> {
        let id = LetterId { at: record.at.clone(), offset: record.offset };
        let text =
            |name: &str| header(record, name).with_context(|| format!("{id} is not a dead letter: it has no header {name}"));
        let number = |name: &str| text(name)?.parse::<i64>().with_context(|| format!("{id}: header {name} is not a number"));
        let (source_topic, source_partition, source_offset) =
            (text(SOURCE_TOPIC)?, number(SOURCE_PARTITION)?, number(SOURCE_OFFSET)?);
        // The source is written to when a letter is sent again, so its name is not believed without the topic's own.
        anyhow::ensure!(*record.at.topic == format!("{source_topic}.dlq"), "{id} is not a dead letter of {source_topic:?}");
        Ok(Self {
            letter: id.to_string(),
            topic: record.at.topic.to_string(),
            partition: record.at.partition,
            offset: record.offset,
            source: format!("{source_topic}:{source_partition}:{source_offset}"),
            source_topic,
            source_partition: i32::try_from(source_partition)
                .with_context(|| format!("{id}: header {SOURCE_PARTITION} is out of range"))?,
            source_offset,
            reason: text(REASON)?,
            at: header(record, AT).and_then(|at| at.parse().ok()),
            bytes: record.value.as_ref().map_or(0, bytes::Bytes::len),
            redriven: false,
        })
    }

    pub(super) fn matches(&self, source_topic: Option<&str>, reason: Option<&str>) -> bool {
        source_topic.is_none_or(|topic| self.source_topic == topic) && reason.is_none_or(|part| self.reason.contains(part))
    }
}

/// The last header of this name, as text.
pub(super) fn header(record: &Record, name: &str) -> Option<String> {
    let found = record.headers.iter().rev().find(|(header, _)| header == name)?;
    found.1.as_deref().map(|content| String::from_utf8_lossy(content).into_owned())
}

/// All letters of these topics, oldest first within a partition.
pub(super) fn all(log: &dyn EventLog, topics: &[String]) -> Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    let mut redriven = BTreeSet::new();
    scan::scan(log, topics, |record| {
        if let Some(letter) = header(&record, REDRIVEN).filter(|_| header(&record, SOURCE_TOPIC).is_none()) {
            redriven.insert(letter);
        } else if let Ok(letter) = DeadLetter::of(&record) {
            // What somebody else put into the topic is none of our business.
            letters.push(letter);
        }
    })?;
    for letter in &mut letters {
        letter.redriven = redriven.contains(&letter.letter);
    }
    letters.sort_by(|a, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
    Ok(letters)
}

/// The record of one letter.
pub(super) fn record(log: &dyn EventLog, id: &LetterId) -> Result<Record> {
    let partitions = scan::partitions_of(log, &[id.at.topic.to_string()])?;
    if !partitions.contains(&id.at) {
        bail!("{} has no partition {}", id.at.topic, id.at.partition);
    }
    let (begin, end) = log.reader()?.bounds(&id.at)?;
    let found = if (begin..end).contains(&id.offset) { scan::first_from(log, &id.at, id.offset)? } else { None };
    match found {
        Some(record) if record.offset == id.offset => Ok(record),
        _ => bail!("there is no letter {id}: `smartrouter dlq list` shows those there are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn ids_read_as_they_are_shown() {
        let id: LetterId = "acc-x.payment.attempts.dlq:3:12".parse().unwrap();
        assert_eq!((id.at.partition, id.offset, id.to_string().as_str()), (3, 12, "acc-x.payment.attempts.dlq:3:12"));
        for wrong in ["", "a:b:c", "topic:1", ":1:2", "topic:-1:2", "topic:1:-2", "topic:1:x"] {
            let error = wrong.parse::<LetterId>().unwrap_err();
            assert!(error.contains("TOPIC:PARTITION:OFFSET"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_record_without_the_headers_is_no_letter() {
        let headers = [(REASON, "r"), (SOURCE_TOPIC, "t"), (SOURCE_PARTITION, "2"), (SOURCE_OFFSET, "7")];
        let record = |without: usize| Record {
            at: TopicPartition::new("t.dlq", 0),
            offset: 5,
            timestamp_ms: 0,
            key: None,
            value: Some(Bytes::from_static(b"abc")),
            headers: headers
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != without)
                .map(|(_, (name, text))| ((*name).to_owned(), Some(Bytes::from_static(text.as_bytes()))))
                .collect(),
        };
        let letter = DeadLetter::of(&record(usize::MAX)).unwrap();
        assert_eq!((letter.letter.as_str(), letter.source.as_str(), letter.bytes), ("t.dlq:0:5", "t:2:7", 3));
        assert!(letter.matches(Some("t"), Some("r")) && !letter.matches(Some("u"), None) && !letter.matches(None, Some("x")));
        let mut elsewhere = record(usize::MAX);
        elsewhere.at = TopicPartition::new("u.dlq", 0);
        assert!(DeadLetter::of(&elsewhere).is_err(), "a letter of one topic in the dead letters of another");
        for (without, (name, _)) in headers.iter().enumerate() {
            let error = DeadLetter::of(&record(without)).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
