//! What a task wants to write, until the commit that writes it.
//!
//! Owns nothing durable: a task that is dropped takes its staged work with it, and the inputs that caused it are read again.

use super::shared::Shared;
use crate::io::codec::{CodecError, RecordKind, Wire};
use crate::io::log::{Arena, Headers, Output, Record, TopicPartition};
use crate::io::store::Shard;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The header that ties what came of a record to the trace that it belongs to (W3C Trace Context).
pub(super) const TRACEPARENT: &str = "traceparent";

#[derive(Default)]
pub(super) struct Staged {
    pub outputs: Vec<Output>,
    /// Changed entries of the state, each of which is a changelog record as well.
    pub changes: Vec<Change>,
    /// The next offset to read of each input.
    pub offsets: BTreeMap<TopicPartition, i64>,
    /// Something waits for this commit: do not collect more first.
    pub urgent: bool,
    /// When the requests that are answered here were written.
    pub asked_ms: Vec<i64>,
    arena: Arena,
    scratch: Vec<u8>,
}

pub(super) struct Change {
    pub shard: Shard,
    pub key: Bytes,
    /// `None` deletes the entry.
    pub value: Option<Bytes>,
}

impl Change {
    /// About what it takes in a batch of the store.
    pub(super) fn stored_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 16;
        OVERHEAD_BYTES + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl Staged {
    pub(super) fn is_empty(&self) -> bool {
        self.outputs.is_empty() && self.changes.is_empty() && self.offsets.is_empty()
    }

    /// Takes all that the other one holds; that keeps its memory for what it will hold next.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.outputs.append(&mut other.outputs);
        self.changes.append(&mut other.changes);
        self.offsets.append(&mut other.offsets);
        self.asked_ms.append(&mut other.asked_ms);
        self.urgent |= std::mem::take(&mut other.urgent);
    }

    /// The record has been dealt with.
    pub(super) fn took(&mut self, record: &Record) {
        match self.offsets.get_mut(&record.at) {
            Some(next) => *next = record.offset + 1,
            None => _ = self.offsets.insert(record.at.clone(), record.offset + 1),
        }
    }

    pub(super) fn emit<T: Wire>(
        &mut self,
        shared: &Shared,
        key: &str,
        value: &T,
        cause: Option<&Record>,
    ) -> Result<(), CodecError> {
        self.scratch.clear();
        shared.codec.encode(value, &mut self.scratch)?;
        self.outputs.push(Output {
            topic: shared.topics.output(T::KIND),
            partition: None,
            timestamp_ms: None,
            key: Some(self.arena.keep(key.as_bytes())),
            value: Some(self.arena.keep(&self.scratch)),
            headers: cause.map(trace_of).unwrap_or_default(),
        });
        Ok(())
    }

    /// Whoever reads a compacted topic is to forget this key.
    pub(super) fn erase(&mut self, shared: &Shared, kind: RecordKind, key: &str) {
        let (topic, key) = (shared.topics.output(kind), Some(self.arena.keep(key.as_bytes())));
        let nothing = Output { topic, partition: None, timestamp_ms: None, key, value: None, headers: Headers::default() };
        self.outputs.push(nothing);
    }

    pub(super) fn change(&mut self, shard: Shard, key: &[u8], value: Option<&[u8]>) {
        let (key, value) = (self.arena.keep(key), value.map(|value| self.arena.keep(value)));
        self.changes.push(Change { shard, key, value });
    }

    /// The record goes to the dead letters of its topic, as it came, with the reason.
    pub(super) fn dead_letter(&mut self, shared: &Shared, record: &Record, reason: &str, with_bytes: bool) {
        let at_ms = shared.clock.happened_at(record.timestamp_ms);
        let mut headers = if with_bytes { record.headers.clone() } else { Vec::new() };
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), Some(Bytes::from(value))));
        add("dlq-reason", reason.to_owned());
        add("dlq-source-topic", record.at.topic.to_string());
        add("dlq-source-partition", record.at.partition.to_string());
        add("dlq-source-offset", record.offset.to_string());
        add("dlq-at", at_ms.to_string());
        self.outputs.push(Output {
            topic: shared.topics.dead_letters(&record.at.topic),
            partition: None,
            timestamp_ms: None,
            key: record.key.clone(),
            value: record.value.clone().filter(|_| with_bytes),
            headers,
        });
    }
}

fn trace_of(record: &Record) -> Headers {
    record.headers.iter().filter(|(name, _)| name == TRACEPARENT).cloned().collect()
}
