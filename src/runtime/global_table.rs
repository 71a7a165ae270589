//! What every instance reads whole: the states of all PSPs (`psp.states`) and counts over many payments (`stats.profiles`) as tables in
//! memory, and the stages of models (`control.models`), which are handed on.
//!
//! Owns the only place where threads of the runtime meet: the table's reader writes it, every task reads it. It never decides;
//! a decision records which offsets it has seen (`RoutingDecision::psp_view`).

use super::shared::Shared;
use crate::domain::learning::StatsProfile;
use crate::domain::psp::{PspState, Segment};
use crate::domain::{EpochMs, PspId};
use crate::engine::features::{Key, KeyHashing, Standing, Standings, key_of_subject};
use crate::engine::policy::PspView;
use crate::io::codec::{Codec, CodecError};
use crate::io::log::{EventLog, LogError, Polled, Position, Reader, Record, TopicPartition};
use crate::io::topics;
use dashmap::DashMap;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

#[derive(Default)]
pub struct GlobalTable {
    by_psp: DashMap<PspId, HashMap<Segment, Arc<PspState>>>,
    /// Offset of the last record applied, by partition as text: the form in which decisions carry it.
    offsets: RwLock<Arc<BTreeMap<String, i64>>>,
    standings: DashMap<Key, Versions, KeyHashing>,
    /// Hashes of the PSPs that anything was counted at, in order.
    counted_at: RwLock<Arc<[u64]>>,
}

/// A count as of its last step, and as of the one before: a decision reads one that every instance knew by then.
#[derive(Clone, Copy)]
struct Versions {
    newest: (EpochMs, Standing),
    before: Option<(EpochMs, Standing)>,
}

impl Standings for GlobalTable {
    fn standing(&self, key: Key, counted_to: EpochMs) -> Option<Standing> {
        let versions = self.standings.get(&key)?;
        let known = std::iter::once(versions.newest).chain(versions.before);
        known.into_iter().find(|(as_of, _)| *as_of <= counted_to).map(|(_, standing)| standing)
    }

    fn psps(&self) -> Arc<[u64]> {
        self.counted_at.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
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

impl GlobalTable {
    /// `is_old`: it was there when this instance began to read. What stood there before is not known then: it is taken to be the same.
    fn apply_profile(&self, profile: &StatsProfile, is_old: bool) {
        let Some((key, standing)) = Standing::of_record(profile) else { return };
        let newest = (profile.updated_at, standing);
        let old = is_old.then_some((EpochMs::MIN, standing));
        let before = self.standings.get(&key).map(|known| known.newest).or(old);
        self.standings.insert(key, Versions { newest, before });
        let mut counted_at = self.counted_at.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(place) = counted_at.binary_search(&key.psp) {
            let mut psps = counted_at.to_vec();
            psps.insert(place, key.psp);
            *counted_at = psps.into();
        }
    }
}

/// Follows `psp.states`, `stats.profiles` and `control.models` from their beginnings.
pub struct TableReader {
    reader: Box<dyn Reader>,
    shared: Arc<Shared>,
    states: String,
    profiles: String,
    /// The ends of all topics were seen once.
    caught_up: bool,
    /// Partitions whose end has not been seen since the last record.
    behind: BTreeSet<TopicPartition>,
    polled: Vec<Polled>,
}

const RECORDS_PER_POLL: usize = 1_000;

impl TableReader {
    pub fn open(log: &dyn EventLog, shared: &Arc<Shared>) -> Result<Self, LogError> {
        let names = [topics::PSP_STATES, topics::STATS_PROFILES, topics::CONTROL_MODELS].map(|base| shared.topics.full(base));
        let known = log.topics(&[])?;
        let mut behind = BTreeSet::new();
        for name in &names {
            let found = known.iter().find(|topic| topic.name == *name).ok_or_else(|| LogError::NoTopic(name.clone()))?;
            behind.extend((0..found.partitions).map(|partition| TopicPartition::new(name, partition)));
        }
        let mut reader = log.reader()?;
        let from: Vec<_> = behind.iter().map(|at| (at.clone(), Position::Beginning)).collect();
        reader.assign(&from)?;
        let [states, profiles, _] = names;
        Ok(Self { reader, shared: shared.clone(), states, profiles, caught_up: false, behind, polled: Vec::new() })
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
                    // What cannot be read leaves the last good one standing.
                    if let Err(error) = self.apply(record) {
                        tracing::error!(topic = %record.at.topic, offset = record.offset, partition = record.at.partition, %error, "a record cannot be read and is left out");
                    }
                }
                Polled::End { at, .. } => {
                    self.behind.remove(at);
                }
                Polled::Assigned(_) | Polled::Revoked(_) => {}
            }
        }
        self.caught_up |= self.behind.is_empty();
        outcome.map(|()| self.behind.is_empty())
    }

    fn apply(&self, record: &Record) -> Result<(), CodecError> {
        let Shared { codec, global, models, .. } = &*self.shared;
        if *record.at.topic == *self.states {
            return global.apply(codec, record);
        }
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        if *record.at.topic == *self.profiles {
            match (&record.value, key_of_subject(key)) {
                (Some(bytes), _) => global.apply_profile(&codec.decode(bytes)?, !self.caught_up),
                (None, Some(key)) => _ = global.standings.remove(&key),
                (None, None) => {}
            }
            return Ok(());
        }
        match &record.value {
            Some(bytes) => models.apply(&codec.decode(bytes)?),
            None => models.retract(key),
        }
        Ok(())
    }
}
