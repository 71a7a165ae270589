//! The states of all PSPs, in every instance: the topic `psp.states` as a table in memory.
//!
//! Owns the only place where threads of the runtime meet: the table's reader writes it, every task reads it. It never decides;
//! a decision records which offsets it has seen (`RoutingDecision::psp_view`).

use crate::domain::PspId;
use crate::domain::psp::{PspState, Segment};
use crate::engine::policy::PspView;
use crate::io::codec::{Codec, CodecError};
use crate::io::log::{LogError, Polled, Position, Reader, Record, TopicPartition};
use dashmap::DashMap;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

#[derive(Default)]
pub struct GlobalTable {
    by_psp: DashMap<PspId, HashMap<Segment, Arc<PspState>>>,
    /// Offset of the last record applied, by partition as text: the form in which decisions carry it.
    offsets: RwLock<Arc<BTreeMap<String, i64>>>,
}

impl PspView for GlobalTable {
    fn state(&self, psp: &PspId, segment: &Segment) -> Option<Arc<PspState>> {
        self.by_psp.get(psp)?.get(segment).cloned()
    }
}

impl GlobalTable {
    pub fn offsets(&self) -> Arc<BTreeMap<String, i64>> {
        self.offsets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All states, in order of PSP and segment.
    pub fn states(&self) -> Vec<Arc<PspState>> {
        let mut states: Vec<_> = self.by_psp.iter().flat_map(|psp| psp.values().cloned().collect::<Vec<_>>()).collect();
        states.sort_by(|a, b| (&a.psp_id, &a.segment).cmp(&(&b.psp_id, &b.segment)));
        states
    }

    fn apply(&self, codec: &Codec, record: &Record) -> Result<(), CodecError> {
        // A tombstone names its subject in the key alone; states are never deleted by us, so there is nothing to take away.
        if let Some(bytes) = &record.value {
            let state: PspState = codec.decode(bytes)?;
            self.by_psp.entry(state.psp_id.clone()).or_default().insert(state.segment.clone(), Arc::new(state));
        }
        let mut offsets = self.offsets.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut offsets).insert(record.at.partition.to_string(), record.offset);
        Ok(())
    }
}

/// Follows `psp.states` from its beginning.
pub struct TableReader {
    reader: Box<dyn Reader>,
    table: Arc<GlobalTable>,
    codec: Codec,
    /// Partitions whose end has not been seen since the last record.
    behind: BTreeSet<TopicPartition>,
    polled: Vec<Polled>,
}

const RECORDS_PER_POLL: usize = 1_000;

impl TableReader {
    pub fn new(
        mut reader: Box<dyn Reader>,
        table: Arc<GlobalTable>,
        codec: Codec,
        of: &[TopicPartition],
    ) -> Result<Self, LogError> {
        let from: Vec<_> = of.iter().map(|at| (at.clone(), Position::Beginning)).collect();
        reader.assign(&from)?;
        Ok(Self { reader, table, codec, behind: of.iter().cloned().collect(), polled: Vec::new() })
    }

    /// Applies what is there, waiting at most `timeout` for the first record. Tells whether the table is up to date.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, LogError> {
        self.polled.clear();
        // What came before a failure is applied: the reader will not bring it again.
        let outcome = self.reader.poll(&mut self.polled, RECORDS_PER_POLL, timeout);
        for polled in &self.polled {
            match polled {
                Polled::Record(record) => {
                    self.behind.insert(record.at.clone());
                    // A state that cannot be read leaves the last good one standing.
                    if let Err(error) = self.table.apply(&self.codec, record) {
                        tracing::error!(offset = record.offset, partition = record.at.partition, %error, "a PSP state cannot be read and is left out");
                    }
                }
                Polled::End { at, .. } => {
                    self.behind.remove(at);
                }
                Polled::Assigned(_) | Polled::Revoked(_) => {}
            }
        }
        outcome.map(|()| self.behind.is_empty())
    }
}
