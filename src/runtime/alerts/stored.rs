//! What of a sink's work is durable: records of `smartrouter.alerts.changelog`, which are committed together with the sink's offset.
//!
//! Under the sink's group: the announcement of an alert that is about to be sent. Under the group and a segment: what was told of it.

use super::Office;
use crate::domain::EpochMs;
use crate::engine::alerts::{Book, Watched};
use crate::io::log::{LogError, Output, Polled, Position, Record};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An alert is about to be sent. If nothing follows, nobody knows whether it was; these two make the same alert again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announced {
    /// It tells the transitions below this offset.
    pub(super) until: i64,
    /// When it was made.
    pub(super) at: EpochMs,
}

#[derive(Default)]
pub(super) struct Stored {
    pub(super) book: Book,
    pub(super) announced: Option<Announced>,
}

/// A former owner's transaction that its death left open is ended by the broker before that.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);
const RECORDS_PER_POLL: usize = 1_000;

impl Office {
    /// What the group has stored. To be asked once its offsets are settled.
    pub(super) fn restore(&self, group: &str) -> Result<Stored, LogError> {
        let mut reader = self.log.reader()?;
        let at = &self.changelog;
        // What is written by now may be settled a moment later: the group's offset is, so this will be.
        let end = reader.ends(std::slice::from_ref(at))?.get(at).map_or(0, |ends| ends.written);
        reader.assign(&[(at.clone(), Position::Beginning)])?;
        let (mut newest, mut polled, begun) = (BTreeMap::new(), Vec::new(), Instant::now());
        let mut next = if end == 0 { None } else { Some(0) };
        while next.is_some_and(|next| next < end) {
            if begun.elapsed() > PATIENCE || self.stop.is_set() {
                return Err(LogError::Unavailable(format!("{at} cannot be read to its end, {end}")));
            }
            reader.poll(&mut polled, RECORDS_PER_POLL, POLL)?;
            for polled in polled.drain(..) {
                match polled {
                    Polled::Record(record) => {
                        next = Some(record.offset + 1);
                        note(&mut newest, group, record);
                    }
                    Polled::End { offset, .. } => next = Some(offset),
                    Polled::Assigned(_) | Polled::Revoked(_) => {}
                }
            }
        }
        let announced = newest.remove("").and_then(|value| parsed(&value));
        let book = Book::restore(newest.values().filter_map(|value| parsed::<Watched>(value)));
        Ok(Stored { book, announced })
    }

    fn record(&self, group: &str, segment: &str, value: Option<Vec<u8>>) -> Output {
        let key = if segment.is_empty() { group.to_owned() } else { format!("{group}/{segment}") };
        Output {
            topic: self.changelog.topic.clone(),
            partition: Some(self.changelog.partition),
            timestamp_ms: None,
            key: Some(Bytes::from(key)),
            value: value.map(Bytes::from),
            headers: Vec::new(),
        }
    }

    pub(super) fn announcement(&self, group: &str, announced: Option<Announced>) -> Output {
        self.record(group, "", announced.map(|announced| json(&announced)))
    }

    /// What makes the stored book this one.
    pub(super) fn entries(&self, group: &str, book: &Book, before: &Book) -> Vec<Output> {
        book.changes_since(before).map(|(segment, watched)| self.record(group, segment, watched.map(json))).collect()
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// What cannot be read is told as if nothing had been told before: at worst a reminder is missing.
fn parsed<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).inspect_err(|error| tracing::error!(%error, "a record of what was told cannot be read")).ok()
}

/// Keeps the newest value of the group's keys: by segment, and under "" the announcement.
fn note(newest: &mut BTreeMap<String, Bytes>, group: &str, record: Record) {
    let Some(key) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else { return };
    let Some(rest) = key.strip_prefix(group) else { return };
    let segment = match rest.strip_prefix('/') {
        Some(segment) => segment,
        None if rest.is_empty() => "",
        // Another group, whose name begins alike.
        None => return,
    };
    match record.value {
        Some(value) => newest.insert(segment.to_owned(), value),
        None => newest.remove(segment),
    };
}
