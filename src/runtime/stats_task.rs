//! One partition of `stats.deltas`: what the payment tasks counted becomes windows, states and transitions of whole PSPs.
//!
//! Owns the books of the PSPs that fall into its partition. Stages `psp.states` and `psp.outages`. Never commits, never reads the log.

use super::TaskError;
use super::clock::Clock;
use super::inbox::decoded;
use super::profiles::Profiles;
use super::shared::Shared;
use super::staged::Staged;
use crate::domain::learning::StatsDelta;
use crate::domain::psp::{PspState, Segment, SegmentKind, state_key};
use crate::domain::{EpochMs, PspId};
use crate::engine::psp::{PspBook, StatsEffects, admit, psp_of_key};
use crate::io::log::Record;
use crate::io::store::{Shard, StoreName};
use crate::telemetry;
use metrics::{counter, gauge};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

pub(super) struct StatsTask {
    shard: Shard,
    profiles: Profiles,
    books: BTreeMap<PspId, PspBook>,
    /// When a segment was published last for having changed, in the runtime's time.
    published_ms: HashMap<PspId, HashMap<Segment, i64>>,
    /// Highest event time of the deltas, and the wall's time when it was reached.
    reached: Option<(EpochMs, i64)>,
    at_end: bool,
    ticked_ms: i64,
    /// That no further PSP gets windows was said.
    told_full: bool,
    pub staged: Staged,
}

/// Keys and values of one book.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Windows move on by silence at this pace; a tile lasts ten seconds.
const TICK_MS: i64 = 500;

impl StatsTask {
    /// Takes up a partition whose state is restored. Everything is published once: the last change may not have been.
    pub(super) fn open(shared: &Shared, partition: i32, now_ms: i64) -> Result<Self, TaskError> {
        let shard = Shard::new(StoreName::Psps, partition);
        let mut entries: BTreeMap<PspId, Entries> = BTreeMap::new();
        shared.store.scan(shard, b"", |key, value| {
            if let Some(psp_id) = psp_of_key(key) {
                entries.entry(psp_id).or_default().push((key.to_vec(), value.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
        let mut books = BTreeMap::new();
        for (psp_id, entries) in entries {
            let restored = PspBook::restore(psp_id.clone(), entries);
            books.insert(psp_id, restored.map_err(|corrupt| TaskError::Damaged { shard, detail: corrupt.to_string() })?);
        }
        let reached = books.values().map(PspBook::now).max().map(|at| (at, now_ms));
        let staged = Staged::default();
        let published_ms = HashMap::new();
        let profiles = Profiles::open(shared, partition)?;
        Ok(Self { shard, profiles, books, published_ms, reached, at_end: false, ticked_ms: now_ms, told_full: false, staged })
    }

    pub(super) fn process(&mut self, shared: &Shared, record: &Record, now_ms: i64) -> Result<(), TaskError> {
        self.at_end = false;
        match record.value.as_deref().map(|bytes| decoded::<StatsDelta>(&shared.codec, bytes)).transpose()? {
            Some(Ok(delta)) => self.merge(shared, &delta, now_ms)?,
            // Written by ourselves under a transaction: this is a version that we do not know, or somebody else's hand.
            Some(Err(reason)) => {
                tracing::error!(partition = record.at.partition, offset = record.offset, reason, "a delta is left out");
            }
            None => {}
        }
        self.staged.took(record);
        Ok(())
    }

    fn merge(&mut self, shared: &Shared, delta: &StatsDelta, now_ms: i64) -> Result<(), TaskError> {
        let newest = delta.tallies.iter().map(|tally| tally.tile_start).max();
        let at = newest.max(self.reached.map(|(at, _)| at));
        self.reached = at.map(|at| (at, now_ms));
        let settings = &shared.settings;
        let Some(book) = admit(&mut self.books, &delta.psp_id, settings.engine.psps_max, &settings.psps) else {
            self.leave_out(shared, delta);
            return Ok(());
        };
        // An order on a PSP without events of its own comes at the time of its neighbours, if any of them has one.
        if let Some(at) = at.filter(|_| book.now() == 0 && !delta.overrides.is_empty()) {
            book.tick(at, &settings.health);
        }
        let effects = book.merge(delta, &settings.engine, &settings.health);
        self.reached = self.reached.or(Some((book.now(), now_ms)));
        self.profiles.tell(&delta.psp_id, &delta.results, &mut self.staged)?;
        self.take(shared, &delta.psp_id, effects)
    }

    /// One PSP too many: said once, for whoever invents ids invents many.
    fn leave_out(&mut self, shared: &Shared, delta: &StatsDelta) {
        let all = delta.tallies.iter().filter(|tally| tally.segment.kind == SegmentKind::All);
        let results: i64 = all.map(|tally| tally.tally.attempts).sum();
        counter!(telemetry::WINDOWLESS).increment(results.unsigned_abs());
        if !std::mem::replace(&mut self.told_full, true) {
            tracing::warn!(
                psp = %delta.psp_id,
                partition = self.shard.partition,
                psps_max = shared.settings.engine.psps_max,
                "results of this PSP count in no window, nor do those of other new ones: as many PSPs have windows as engine.psps_max \
                 allows; list a PSP under [[psps]], or raise engine.psps_max"
            );
        }
    }

    pub(super) fn ended(&mut self) {
        self.at_end = true;
    }

    /// Event time has come to `at`, though no delta says so.
    pub(super) fn announce(&mut self, shared: &Shared, at: EpochMs) -> Result<(), TaskError> {
        let at = at.max(self.reached.map_or(EpochMs::MIN, |(reached, _)| reached));
        self.reached = Some((at, self.ticked_ms));
        self.tick(shared, at)
    }

    /// Lets silence pass: after the last delta, event time goes on by the wall.
    pub(super) fn pass_time(&mut self, shared: &Shared, now_ms: i64) -> Result<(), TaskError> {
        if shared.clock == Clock::Event || !self.at_end || now_ms - self.ticked_ms < TICK_MS {
            return Ok(());
        }
        self.ticked_ms = now_ms;
        let Some((at, since_ms)) = self.reached else { return Ok(()) };
        self.tick(shared, at + (now_ms - since_ms).max(0))
    }

    fn tick(&mut self, shared: &Shared, at: EpochMs) -> Result<(), TaskError> {
        self.profiles.reach(at);
        let ids: Vec<PspId> = self.books.keys().cloned().collect();
        for psp_id in ids {
            let Some(book) = self.books.get_mut(&psp_id) else { continue };
            let effects = book.tick(at, &shared.settings.health);
            self.take(shared, &psp_id, effects)?;
        }
        Ok(())
    }

    fn take(&mut self, shared: &Shared, psp_id: &PspId, effects: StatsEffects) -> Result<(), TaskError> {
        if effects.late_results > 0 {
            counter!(telemetry::LATE_DROPPED, "psp_id" => psp_id.to_string()).increment(effects.late_results.unsigned_abs());
        }
        for transition in effects.transitions {
            tracing::info!(psp = %psp_id, segment = %transition.segment, from = %transition.from, to = %transition.to, "PSP state");
            counter!(telemetry::TRANSITIONS, "psp_id" => psp_id.to_string(), "to" => transition.to.to_string()).increment(1);
            let key = format!("{psp_id}/{}", transition.segment);
            self.staged.emit(shared, &key, &transition, None)?;
            self.publish(shared, psp_id, &transition.segment)?;
            self.staged.urgent = true;
        }
        Ok(())
    }

    fn publish(&mut self, shared: &Shared, psp_id: &PspId, segment: &Segment) -> Result<(), TaskError> {
        let book = self.books.get_mut(psp_id);
        if let Some(state) = book.and_then(|book| book.publish(segment, &shared.settings.health)) {
            if *segment == Segment::all() {
                show(&state);
            }
            self.staged.emit(shared, &state_key(psp_id, segment), &state, None)?;
        }
        Ok(())
    }

    /// Publishes what changed and was not published within the interval; `all`: whatever the interval.
    pub(super) fn publish_due(&mut self, shared: &Shared, now_ms: i64, all: bool) -> Result<(), TaskError> {
        if all && let Some((at, _)) = self.reached {
            // A PSP without events of its own is as far in time as its neighbours.
            self.tick(shared, at)?;
        }
        self.profiles.count(shared, &mut self.staged)?;
        let interval_ms = shared.settings.health.publish_interval_ms;
        let now_ms = match shared.clock {
            Clock::Wall => now_ms,
            Clock::Event => self.reached.map_or(0, |(at, _)| at),
        };
        let mut due = Vec::new();
        for (psp_id, book) in &self.books {
            let published = self.published_ms.get(psp_id);
            let last = |segment: &Segment| published.and_then(|published| published.get(segment));
            let is_due = |segment: &&Segment| all || last(segment).is_none_or(|&last| (now_ms - last).abs() >= interval_ms);
            due.extend(book.changed().filter(is_due).map(|segment| (psp_id.clone(), segment.clone())));
        }
        for (psp_id, segment) in due {
            self.publish(shared, &psp_id, &segment)?;
            self.published_ms.entry(psp_id).or_default().insert(segment, now_ms);
        }
        Ok(())
    }

    /// Adds what a commit is to write: changed tiles and states join what is staged.
    pub(super) fn flush(&mut self, into: &mut Staged) {
        let (staged, shard) = (&mut self.staged, self.shard);
        for book in self.books.values_mut() {
            book.drain_dirty(&mut |key, value| staged.change(shard, &key, Some(&value)));
        }
        into.append(staged);
    }

    pub(super) fn has_work(&self) -> bool {
        !self.staged.is_empty() || self.profiles.has_work()
    }
}

/// For dashboards: how a PSP is doing over all its traffic.
fn show(state: &PspState) {
    gauge!(telemetry::PSP_STATE, "psp_id" => state.psp_id.to_string()).set(f64::from(state.state.severity()));
    let windows = [("15m", &state.windows.last_15m), ("1h", &state.windows.last_1h), ("24h", &state.windows.last_24h)];
    for (window, stats) in windows.into_iter().filter(|(_, stats)| stats.attempts > 0) {
        gauge!(telemetry::PSP_APPROVAL_RATE, "psp_id" => state.psp_id.to_string(), "window" => window).set(stats.approval_rate);
    }
}
