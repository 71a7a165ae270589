//! Counts over many payments, as a task of `stats.deltas` keeps them: what features are told of a BIN, a country, an hour at a PSP.
//!
//! Owns the store `profiles` of its partition: results that are not counted yet, each under the time when it is due, and the counts
//! with the time up to which they count. Results are counted once a minute (`engine::features::Counts`), a few of them at each turn,
//! so that nobody waits for it; then the changed counts are stored and published on `stats.profiles`, some with each commit. A
//! result is forgotten when all that it changed is stored: whoever ends in between counts it again, but for what was stored.

use super::TaskError;
use super::clock::Clock;
use super::shared::Shared;
use super::staged::Staged;
use crate::domain::learning::ToldResult;
use crate::domain::{EpochMs, PspId};
use crate::engine::features::{Counts, HistorySettings, Key, Standing, Told, subject_of};
use crate::io::codec::RecordKind;
use crate::io::store::{Shard, StoreName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

/// Results counted in a turn: some milliseconds.
const RESULTS_PER_TURN: usize = 1_000;
/// Counts stored and published with a commit: more would keep those waiting who share it.
const COUNTS_PER_COMMIT: usize = 500;
/// What keys of the store begin with.
const COUNT: u8 = b'c';
const RESULTS: u8 = b'r';
/// What values of the store begin with.
const LAYOUT: u8 = 1;

pub(super) struct Profiles {
    shard: Shard,
    counts: Counts,
    every_ms: i64,
    /// How long after a step's end its results are counted: by then they have come, and those who read have time left to hear of it.
    wait_ms: i64,
    /// Event time.
    reached: EpochMs,
    /// Names of PSPs that results were told of.
    names: HashMap<u64, PspId>,
    /// Stored results: when they are due, and how many entries there are.
    stored: BTreeMap<EpochMs, u32>,
}

impl Profiles {
    pub(super) fn open(shared: &Shared, partition: i32) -> Result<Self, TaskError> {
        let settings = &shared.models.encoder().catalogue().history;
        let shard = Shard::new(StoreName::Profiles, partition);
        let mut profiles = Self::new(settings, shard);
        let mut damaged = None;
        shared.store.scan(shard, b"", |key, value| {
            if profiles.restore(key, value).is_some() {
                return ControlFlow::Continue(());
            }
            damaged = Some(format!("the entry {key:02x?} cannot be read"));
            ControlFlow::Break(())
        })?;
        damaged.map_or(Ok(profiles), |detail| Err(TaskError::Damaged { shard, detail }))
    }

    fn new(settings: &HistorySettings, shard: Shard) -> Self {
        Self {
            shard,
            counts: Counts::new(settings),
            every_ms: settings.count_every_seconds * 1_000,
            wait_ms: settings.count_delay_seconds * 1_000 * 3 / 4,
            reached: 0,
            names: HashMap::new(),
            stored: BTreeMap::new(),
        }
    }

    /// Absent where what is kept under a key of ours cannot be read.
    fn restore(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key.split_first() {
            Some((&COUNT, key)) => {
                let (as_of, standing) = read::<(EpochMs, Standing)>(value)?;
                self.counts.restore(postcard::from_bytes::<Key>(key).ok()?, standing, as_of);
            }
            Some((&RESULTS, key)) => {
                let (psp_id, results) = read::<(PspId, Vec<Told>)>(value)?;
                let (due_at, number) = key.split_first_chunk().zip(key.last_chunk())?;
                let due_at = EpochMs::from_be_bytes(*due_at.0);
                for told in results {
                    self.names.entry(told.psp).or_insert_with(|| psp_id.clone());
                    self.reached = self.reached.max(told.at);
                    self.counts.tell_again(told, due_at);
                }
                let entries = self.stored.entry(due_at).or_default();
                *entries = (*entries).max(u32::from_be_bytes(*number).saturating_add(1));
            }
            // Not of our making: nothing is built on it.
            _ => {}
        }
        Some(())
    }

    /// Takes results of a PSP in, and stages that they are kept.
    pub(super) fn tell(&mut self, psp_id: &PspId, results: &[ToldResult], staged: &mut Staged) -> Result<(), TaskError> {
        let mut by_due: BTreeMap<EpochMs, Vec<Told>> = BTreeMap::new();
        for told in results.iter().filter_map(|result| Told::of_record(psp_id, result)) {
            self.reach(told.at);
            self.names.entry(told.psp).or_insert_with(|| psp_id.clone());
            by_due.entry(self.counts.tell(told)).or_default().push(told);
        }
        for (due_at, results) in by_due {
            let number = self.stored.entry(due_at).or_default();
            staged.change(self.shard, &results_key(due_at, *number), Some(&written(&(psp_id, results))?));
            *number += 1;
        }
        Ok(())
    }

    /// Event time has come this far.
    pub(super) fn reach(&mut self, at: EpochMs) {
        self.reached = self.reached.max(at);
    }

    /// Counts some of what is due, or stages some of the counts.
    pub(super) fn count(&mut self, shared: &Shared, staged: &mut Staged) -> Result<(), TaskError> {
        let to = (self.reached - self.wait_ms).div_euclid(self.every_ms) * self.every_ms;
        if self.counts.is_done() && !self.counts.begin(to) {
            return Ok(());
        }
        // In event time nobody waits by the wall.
        let is_stepped = shared.clock == Clock::Event;
        if !self.counts.count(if is_stepped { usize::MAX } else { RESULTS_PER_TURN }) {
            return Ok(());
        }
        let most = if is_stepped { usize::MAX } else { COUNTS_PER_COMMIT };
        while staged.changes.len() < most
            && let Some((key, standing, as_of)) = self.counts.take_changed()
        {
            staged.change(self.shard, &count_key(key)?, Some(&written(&(as_of, standing))?));
            if let Some(psp_id) = self.names.get(&key.psp) {
                let record = standing.to_record(key, psp_id, as_of);
                staged.emit(shared, &record.subject, &record, None)?;
            }
        }
        if self.counts.is_done() {
            self.forget(shared, staged)?;
        }
        Ok(())
    }

    /// Results that are counted, and counts that are old.
    fn forget(&mut self, shared: &Shared, staged: &mut Staged) -> Result<(), TaskError> {
        let left = self.stored.split_off(&(self.counts.counted_to() + 1));
        for (due_at, entries) in std::mem::replace(&mut self.stored, left) {
            (0..entries).for_each(|number| staged.change(self.shard, &results_key(due_at, number), None));
        }
        for key in self.counts.sweep(self.reached) {
            staged.change(self.shard, &count_key(key)?, None);
            staged.erase(shared, RecordKind::StatsProfile, &subject_of(key));
        }
        Ok(())
    }

    /// Counts are to be stored, whether or not anything else happens.
    pub(super) fn has_work(&self) -> bool {
        !self.counts.is_done()
    }
}

fn results_key(due_at: EpochMs, number: u32) -> Vec<u8> {
    [&[RESULTS][..], &due_at.to_be_bytes(), &number.to_be_bytes()].concat()
}

fn count_key(key: Key) -> Result<Vec<u8>, TaskError> {
    postcard::to_extend(&key, vec![COUNT]).map_err(|error| unwritable(&error))
}

fn written(value: &impl Serialize) -> Result<Vec<u8>, TaskError> {
    postcard::to_extend(value, vec![LAYOUT]).map_err(|error| unwritable(&error))
}

fn unwritable(error: &postcard::Error) -> TaskError {
    TaskError::Entity(super::entity_cache::EntityError::Encode(error.to_string()))
}

/// The whole of the bytes, or nothing.
fn read<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    let (_, value) = value.split_first().filter(|(layout, _)| **layout == LAYOUT)?;
    postcard::take_from_bytes(value).ok().and_then(|(value, rest)| rest.is_empty().then_some(value))
}
