//! Entities of a task, decoded, in front of the state store.
//!
//! Owns the values between their read and the commit that makes them durable: an entity is read once and encoded once a commit,
//! however many events touch it. A failed commit drops the cache whole; nothing in it outlives what was committed.

use crate::domain::EpochMs;
use crate::io::store::{Shard, StateStore, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// Layout of the values below. A store of another layout is rebuilt from its changelog, and refused if that is of another layout.
pub(super) const FORMAT: u32 = 1;
/// `timer_at` and `last_event_at`, so that neither a restart nor the sweep has to decode entities.
const HEADER_BYTES: usize = 16;
const NO_TIMER: EpochMs = EpochMs::MAX;

/// What an entity's entry says without being decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub timer_at: Option<EpochMs>,
    pub last_event_at: EpochMs,
}

pub(super) trait Entity: Default + Serialize + DeserializeOwned {
    fn last_event_at(&self) -> EpochMs;
}

pub(super) struct EntityCache<T> {
    shard: Shard,
    entries: HashMap<String, Entry<T>>,
    entries_max: usize,
}

pub(super) struct Entry<T> {
    pub value: T,
    /// The timer that the task has set for this entity.
    pub timer_at: Option<EpochMs>,
    dirty: bool,
}

impl<T: Entity> EntityCache<T> {
    pub(super) fn new(shard: Shard, entries_max: usize) -> Self {
        Self { shard, entries: HashMap::new(), entries_max }
    }

    /// The entity, as read from the store or as it has become since; a new one when there is none.
    pub(super) fn get(&mut self, store: &StateStore, id: &str) -> Result<&mut Entry<T>, EntityError> {
        if !self.entries.contains_key(id) {
            let entry = match store.get(self.shard, id.as_bytes())? {
                Some(bytes) => decode(self.shard, &bytes)?,
                None => Entry { value: T::default(), timer_at: None, dirty: false },
            };
            self.entries.insert(id.to_owned(), entry);
        }
        // Just inserted, if it was not there before.
        self.entries.get_mut(id).ok_or(EntityError::Lost)
    }

    /// Gives each changed entity, encoded, to `emit`.
    pub(super) fn drain_dirty(&mut self, mut emit: impl FnMut(&str, Vec<u8>)) -> Result<(), EntityError> {
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.dirty) {
            entry.dirty = false;
            emit(id, encode(entry)?);
        }
        Ok(())
    }

    /// Forgets an entity; the caller writes its tombstone.
    pub(super) fn remove(&mut self, id: &str) {
        self.entries.remove(id);
    }

    pub(super) fn is_dirty(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.dirty)
    }

    /// After a commit: what is over the bound can be read again from the store.
    pub(super) fn shrink(&mut self) {
        if self.entries.len() > self.entries_max {
            self.entries.clear();
        }
    }
}

impl<T> Entry<T> {
    pub(super) fn mark_dirty(&mut self) {
        self.dirty = true;
    }
}

fn encode<T: Entity>(entry: &Entry<T>) -> Result<Vec<u8>, EntityError> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&entry.timer_at.unwrap_or(NO_TIMER).to_be_bytes());
    bytes.extend_from_slice(&entry.value.last_event_at().to_be_bytes());
    postcard::to_extend(&entry.value, bytes).map_err(|error| EntityError::Encode(error.to_string()))
}

fn decode<T: Entity>(shard: Shard, bytes: &[u8]) -> Result<Entry<T>, EntityError> {
    let damaged = |detail: &str| EntityError::Damaged { shard, detail: detail.to_owned() };
    let header = header_of(bytes).ok_or_else(|| damaged("an entry is shorter than its header"))?;
    let value = postcard::from_bytes(&bytes[HEADER_BYTES..]).map_err(|error| damaged(&error.to_string()))?;
    Ok(Entry { value, timer_at: header.timer_at, dirty: false })
}

pub(super) fn header_of(bytes: &[u8]) -> Option<Header> {
    let number = |from: usize| bytes.get(from..from + 8).and_then(|slice| slice.try_into().ok()).map(EpochMs::from_be_bytes);
    let timer_at = number(0)?;
    Some(Header { timer_at: (timer_at != NO_TIMER).then_some(timer_at), last_event_at: number(8)? })
}

#[derive(Debug, thiserror::Error)]
pub enum EntityError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an entry of {} in partition {} cannot be read: {detail}", shard.store.as_str(), shard.partition)]
    Damaged { shard: Shard, detail: String },
    #[error("an entity cannot be encoded: {0}")]
    Encode(String),
    #[error("an entity vanished from its cache")]
    Lost,
}
