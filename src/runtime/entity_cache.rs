//! Entities of a task, decoded, in front of the state store.
//!
//! Owns the values between their read and the commit that makes them durable: an entity is read once and encoded once a commit,
//! however many events touch it. A failed commit drops the cache whole; nothing in it outlives what was committed.
//! Two generations bound it: what was not asked for while a whole generation filled up is forgotten.

use crate::domain::EpochMs;
use crate::io::store::{Shard, StateStore, StoreError};
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

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

    /// Whether these bytes are of the present layout, fields at its end apart. Those of another one are forgotten.
    fn is_present(_: &[u8]) -> bool {
        true
    }
}

pub(super) struct EntityCache<T> {
    shard: Shard,
    /// Asked for since the last change of generation; everything that is dirty is in here.
    recent: HashMap<Arc<str>, Entry<T>>,
    older: HashMap<Arc<str>, Entry<T>>,
    /// Asked for since the last commit: among these are the dirty ones.
    touched: Vec<Arc<str>>,
    entries_max: usize,
    scratch: Vec<u8>,
}

pub(super) struct Entry<T> {
    pub id: Arc<str>,
    pub value: T,
    /// When this entity has to be looked at again.
    pub timer_at: Option<EpochMs>,
    /// The timer that the task has set for it: follows `timer_at` before any timer fires.
    pub set_at: Option<EpochMs>,
    changed: Option<Cause>,
    /// Nothing is left of it: its entry is to be deleted.
    expired: bool,
    touched: bool,
}

/// What changed an entity since the last commit. What requests alone changed can be committed without what else is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Requests,
    /// Events, timers or retention; or several, requests among them.
    Events,
}

impl<T: Entity> EntityCache<T> {
    pub(super) fn new(shard: Shard, entries_max: usize) -> Self {
        let (recent, older) = (HashMap::new(), HashMap::new());
        Self { shard, recent, older, touched: Vec::new(), entries_max, scratch: Vec::new() }
    }

    /// The entity, as read from the store or as it has become since; a new one when there is none.
    pub(super) fn get(&mut self, store: &StateStore, id: &str) -> Result<&mut Entry<T>, EntityError> {
        let entry = match self.recent.entry_ref(id) {
            EntryRef::Occupied(known) => known.into_mut(),
            EntryRef::Vacant(place) => {
                let known = match self.older.remove(id) {
                    Some(known) => known,
                    None => load(store, self.shard, id)?,
                };
                place.insert_with_key(known.id.clone(), known)
            }
        };
        if !entry.touched {
            entry.touched = true;
            self.touched.push(entry.id.clone());
        }
        Ok(entry)
    }

    /// Gives each changed entity, encoded, to `emit`; nothing for one that is to be deleted. `by`: those only that this alone changed.
    pub(super) fn drain_dirty(
        &mut self,
        by: Option<Cause>,
        mut emit: impl FnMut(&str, Option<&[u8]>),
    ) -> Result<(), EntityError> {
        let mut left = Vec::new();
        for id in self.touched.drain(..) {
            let Some(entry) = self.recent.get_mut(&id) else { continue };
            if by.is_some() && entry.changed != by {
                left.push(id);
                continue;
            }
            entry.touched = false;
            if entry.changed.take().is_none() {
                continue;
            }
            if entry.expired {
                self.recent.remove(&id);
                emit(&id, None);
            } else {
                self.scratch.clear();
                encode(entry, &mut self.scratch)?;
                emit(&id, Some(&self.scratch));
            }
        }
        self.touched = left;
        Ok(())
    }

    /// Nothing is left of an entity; one that changes again before the commit begins anew.
    pub(super) fn expire(&mut self, id: &str) {
        self.older.remove(id);
        let id: Arc<str> = Arc::from(id);
        let fresh = Entry::of(id.clone(), T::default(), None);
        let entry = Entry { changed: Some(Cause::Events), expired: true, touched: true, ..fresh };
        let touched = self.recent.insert(id.clone(), entry).is_some_and(|known| known.touched);
        if !touched {
            self.touched.push(id);
        }
    }

    /// An entity that was asked for since the last commit.
    pub(super) fn touched(&mut self, id: &str) -> Option<&mut Entry<T>> {
        self.recent.get_mut(id)
    }

    pub(super) fn is_dirty(&self, id: &str) -> bool {
        self.recent.get(id).is_some_and(|entry| entry.changed.is_some())
    }

    /// After a commit: what is over the bound can be read again from the store.
    pub(super) fn shrink(&mut self) {
        if self.recent.len() > self.entries_max / 2 {
            self.older.clear();
            std::mem::swap(&mut self.recent, &mut self.older);
        }
    }
}

impl<T> Entry<T> {
    fn of(id: Arc<str>, value: T, timer_at: Option<EpochMs>) -> Self {
        Self { id, value, timer_at, set_at: timer_at, changed: None, expired: false, touched: false }
    }

    /// It is to be written. True when its changes now have more than one cause, and requests are among them.
    pub(super) fn mark_dirty(&mut self, by: Cause) -> bool {
        let before = self.changed;
        self.expired = false;
        self.changed = if before == Some(Cause::Events) { before } else { Some(by) };
        before.is_some_and(|before| before != by)
    }
}

fn load<T: Entity>(store: &StateStore, shard: Shard, id: &str) -> Result<Entry<T>, EntityError> {
    match store.get(shard, id.as_bytes(), |bytes| decode(shard, id, bytes))? {
        Some(known) => known,
        None => Ok(Entry::of(Arc::from(id), T::default(), None)),
    }
}

fn encode<T: Entity>(entry: &Entry<T>, bytes: &mut Vec<u8>) -> Result<(), EntityError> {
    bytes.extend_from_slice(&entry.timer_at.unwrap_or(NO_TIMER).to_be_bytes());
    bytes.extend_from_slice(&entry.value.last_event_at().to_be_bytes());
    *bytes = postcard::to_extend(&entry.value, std::mem::take(bytes)).map_err(|error| EntityError::Encode(error.to_string()))?;
    Ok(())
}

fn decode<T: Entity>(shard: Shard, id: &str, bytes: &[u8]) -> Result<Entry<T>, EntityError> {
    let damaged = |detail: &str| EntityError::Damaged { shard, detail: detail.to_owned() };
    let header = header_of(bytes).ok_or_else(|| damaged("an entry is shorter than its header"))?;
    let bytes = &bytes[HEADER_BYTES..];
    if !T::is_present(bytes) {
        return Ok(Entry::of(Arc::from(id), T::default(), header.timer_at));
    }
    // Earlier versions wrote nothing for the lists that a payment ends with now: they were empty.
    let shorter = || postcard::from_bytes(&[bytes, &[0, 0]].concat());
    let value = postcard::from_bytes(bytes).or_else(|_| shorter()).map_err(|error| damaged(&error.to_string()))?;
    Ok(Entry::of(Arc::from(id), value, header.timer_at))
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
}
