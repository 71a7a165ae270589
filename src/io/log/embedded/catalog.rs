//! The topics of the embedded log in memory: their settings, and how far each partition reaches.
//!
//! Owns the checks of topic names and settings. Never touches the disk: `open` hands it what was stored.

use super::super::{LogError, TopicDescription, TopicPartition};
use super::disk::TopicRow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Kafka's default for `max.message.bytes`.
const RECORD_BYTES_MAX: usize = 1_048_588;
/// More is a mistake, or damage.
pub(super) const PARTITIONS_MAX: i32 = 100_000;
/// Kafka's default for `delete.retention.ms`.
const TOMBSTONE_RETENTION_MS: i64 = 86_400_000;

pub(super) struct Topic {
    pub(super) id: u32,
    pub(super) name: Arc<str>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) rules: Rules,
    pub(super) partitions: Vec<Partition>,
}

pub(super) struct Partition {
    /// The first offset that is there; moved by retention only, before it takes what lies below.
    pub(super) first: AtomicI64,
    /// Where the next record will be. Stored only after the records below it are in RocksDB.
    pub(super) next: AtomicI64,
    /// Offsets below this one may be missing, for compaction took them; moved before it does.
    pub(super) compacted: AtomicI64,
    pub(super) cleaned: Mutex<Cleaned>,
}

/// What the last compaction left; forgotten at a restart, which costs one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cleaned {
    /// Offsets below this one were compacted.
    pub(super) to: i64,
    /// How many records were left below `to`.
    pub(super) records: i64,
}

impl Partition {
    pub(super) fn new(first: i64, next: i64, compacted: i64) -> Self {
        Self {
            first: AtomicI64::new(first),
            next: AtomicI64::new(next),
            compacted: AtomicI64::new(compacted),
            cleaned: Mutex::new(Cleaned { to: first, records: 0 }),
        }
    }

    /// From here on every offset has its record.
    pub(super) fn dense_from(&self) -> i64 {
        self.first().max(self.compacted.load(Ordering::Acquire))
    }

    pub(super) fn first(&self) -> i64 {
        self.first.load(Ordering::Acquire)
    }

    pub(super) fn next(&self) -> i64 {
        self.next.load(Ordering::Acquire)
    }
}

/// The settings that the embedded log acts on, under Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) compact: bool,
    /// Absent: records are kept, however old.
    pub(super) retention_ms: Option<i64>,
    pub(super) tombstone_retention_ms: i64,
    pub(super) record_bytes_max: usize,
}

impl Rules {
    pub(super) fn parse(topic: &str, settings: &BTreeMap<String, String>) -> Result<Self, LogError> {
        let number = |name: &str, default: i64| match settings.get(name) {
            None => Ok(default),
            Some(text) => text
                .trim()
                .parse::<i64>()
                .map_err(|_| LogError::Refused(format!("topic {topic}: {name} = {text:?} is not a number"))),
        };
        let policies = settings.get("cleanup.policy").map_or("delete", String::as_str);
        let (mut compact, mut delete) = (false, false);
        for policy in policies.split(',').map(str::trim) {
            match policy {
                "compact" => compact = true,
                "delete" => delete = true,
                other => {
                    return Err(LogError::Refused(format!(
                        "topic {topic}: cleanup.policy {other:?} is neither compact nor delete"
                    )));
                }
            }
        }
        let retention_ms = number("retention.ms", -1)?;
        Ok(Self {
            compact,
            retention_ms: (delete && retention_ms >= 0).then_some(retention_ms),
            tombstone_retention_ms: number("delete.retention.ms", TOMBSTONE_RETENTION_MS)?,
            record_bytes_max: usize::try_from(number("max.message.bytes", RECORD_BYTES_MAX as i64)?).unwrap_or(0),
        })
    }
}

/// A name that Kafka would take too.
pub(super) fn check_new(topic: &TopicDescription) -> Result<Rules, LogError> {
    let name = &topic.name;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(LogError::Refused(format!("topic {name:?}: a name has 1 to 249 of the characters a-z A-Z 0-9 . _ -")));
    }
    if !(1..=PARTITIONS_MAX).contains(&topic.partitions) {
        return Err(LogError::Refused(format!("topic {name}: {} partitions; give 1 to {PARTITIONS_MAX}", topic.partitions)));
    }
    Rules::parse(name, &topic.settings)
}

#[derive(Default)]
pub(super) struct Catalog {
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
}

impl Catalog {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The topic of a partition that exists.
    pub(super) fn topic_of(&self, at: &TopicPartition) -> Result<Arc<Topic>, LogError> {
        let topic = self.get(&at.topic).ok_or_else(|| LogError::NoTopic(at.topic.to_string()))?;
        if topic.partition(at.partition).is_none() {
            return Err(LogError::NoTopic(at.to_string()));
        }
        Ok(topic)
    }

    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn insert(&self, topic: Topic) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(Arc::clone(&topic.name), Arc::new(topic));
    }
}

impl Topic {
    pub(super) fn new(name: &str, row: TopicRow, rules: Rules, partitions: Vec<Partition>) -> Self {
        Self { id: row.id, name: Arc::from(name), settings: row.settings, rules, partitions }
    }

    pub(super) fn partition(&self, number: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Rules, check_new};
    use crate::io::log::TopicDescription;

    fn check(name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<Rules, String> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check_new(&TopicDescription { name: name.into(), partitions, replication: None, settings })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_read_as_kafka_reads_them() {
        let plain = Rules { compact: false, retention_ms: None, tombstone_retention_ms: 86_400_000, record_bytes_max: 1_048_588 };
        let rows: [(&[(&str, &str)], Rules); 5] = [
            (&[], plain),
            (&[("retention.ms", "-1")], plain),
            (
                &[("retention.ms", "1000"), ("max.message.bytes", "10")],
                Rules { retention_ms: Some(1_000), record_bytes_max: 10, ..plain },
            ),
            (&[("cleanup.policy", "compact"), ("retention.ms", "1000")], Rules { compact: true, ..plain }),
            (
                &[("cleanup.policy", "compact, delete"), ("retention.ms", "5"), ("delete.retention.ms", "6")],
                Rules { compact: true, retention_ms: Some(5), tombstone_retention_ms: 6, ..plain },
            ),
        ];
        for (settings, expected) in rows {
            assert_eq!(check("t", 1, settings), Ok(expected), "{settings:?}");
        }
    }

    #[test]
    fn what_kafka_refuses_is_refused_by_name() {
        type Row = (&'static str, i32, &'static [(&'static str, &'static str)], &'static str);
        let rows: [Row; 5] = [
            ("a b", 1, &[], "a b"),
            ("", 1, &[], "a name has"),
            ("t", 0, &[], "give 1 to"),
            ("t", 1, &[("cleanup.policy", "shred")], "shred"),
            ("t", 1, &[("retention.ms", "7d")], "7d"),
        ];
        for (name, partitions, settings, expected) in rows {
            let error = check(name, partitions, settings).expect_err(name);
            assert!(error.contains(expected), "{error}");
        }
    }
}
