//! A PSP's segments: windows become a health score, a state, and transitions.
//!
//! Owns, for one PSP, the windows and the state machine of each segment, in memory, and the entries that they are stored as.
//! Never routes anything and never publishes: it returns transitions, says which segments have changed since they were published,
//! and answers with their state.
//! Fed by the stats task with merged `stats.deltas` and ticks; `policy` reads what is published.
//!
//! All segments of a PSP share its time: the highest tile start or tick seen (see `window`), so that their windows can be compared.
//! Given the same time at the end, windows do not depend on the order of deltas; transitions do, as they should: they are what was known
//! then. The same deltas and ticks in the same order give the same bytes.
//!
//! A segment goes `Up → Degraded → Down → Recovering → Up` (all legal steps: `machine::TRANSITIONS`), one step per merge or tick.
//! Evidence is what the `detector`s see: in the newest results (the seed rule), and since a change began (`sequential` tests against
//! what `baseline` has learnt). An alarm is about the smallest set of segments that explains it (`attribution`); others that see the
//! same failures stay UP. A segment that is DOWN is put on probation (RECOVERING) after a hold; there wins in a row take it up
//! a ramp, failures send it back, and the next hold is longer. After a recovery evidence starts afresh with the next tile.

pub mod sequential;
mod baseline;
mod watch;
mod detector;
mod attribution;
mod machine;
mod segment;
mod summary;
mod entry;
#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod days;

pub use entry::{CorruptState, psp_of_key};

use super::settings::{EngineSettings, HealthSettings, Psp};
use super::window::{Added, TILE_MS};
use crate::domain::learning::StatsDelta;
use crate::domain::psp::{HealthState, PspOutage, PspState, Segment, SegmentKind};
use crate::domain::{EpochMs, PspId};
use attribution::Part;
use baseline::{QUARTER_MS, Signal, Surroundings};
use detector::Reading;
use entry::Entry;
use machine::Step;
use segment::SegmentBook;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// All segments of one PSP, held in memory by the stats task that owns the PSP.
#[derive(Clone, Debug)]
pub struct PspBook {
    psp_id: PspId,
    now: EpochMs,
    clock_dirty: bool,
    /// In the order of segments, in which everything is done: nothing depends on hashing. Boxed: a search passes names only.
    segments: BTreeMap<Segment, Box<SegmentBook>>,
    /// Whether the windows follow `now`, and are watched as configured: all that a merge within a tile need not do again.
    is_current: bool,
}

/// The book of a PSP among those of one task; a new one is opened while there are fewer than `psps_max`, and for a PSP of the
/// configuration (`listed`) whenever it comes. A book is stored with its first results and never closed: who came first stays first.
pub fn admit<'a>(
    books: &'a mut BTreeMap<PspId, PspBook>,
    psp_id: &PspId,
    psps_max: usize,
    listed: &[Psp],
) -> Option<&'a mut PspBook> {
    if !books.contains_key(psp_id) {
        if books.len() >= psps_max && !listed.iter().any(|psp| psp.id == *psp_id) {
            return None;
        }
        books.insert(psp_id.clone(), PspBook::new(psp_id.clone()));
    }
    books.get_mut(psp_id)
}

/// What `merge` and `tick` want of the world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatsEffects {
    /// Transitions in the order in which they happened: each is one record on `psp.outages`.
    pub transitions: Vec<PspOutage>,
    /// Results that came too late for every window.
    pub late_results: i64,
}

/// A transition that is due.
#[derive(Clone, Debug)]
struct Due {
    segment: Segment,
    step: Step,
    reading: Reading,
}

impl PspBook {
    pub fn new(psp_id: PspId) -> Self {
        Self { psp_id, now: 0, clock_dirty: false, segments: BTreeMap::new(), is_current: false }
    }

    pub fn psp_id(&self) -> &PspId {
        &self.psp_id
    }

    /// The time that the windows stand at.
    pub fn now(&self) -> EpochMs {
        self.now
    }

    /// Counts what one payment task saw, and judges the segments that it concerns (all, when time moved on to another tile).
    pub fn merge(&mut self, delta: &StatsDelta, engine: &EngineSettings, health: &HealthSettings) -> StatsEffects {
        debug_assert_eq!(delta.psp_id, self.psp_id, "deltas are routed to the book of their PSP");
        let newest = delta.tallies.iter().map(|tally| tally.tile_start).max();
        // A PSP that nothing is known of has no time of its own yet: an order brings it.
        let is_first_order = self.now == 0 && !delta.overrides.is_empty();
        let newest = newest.unwrap_or(if is_first_order { delta.watermark } else { self.now });
        let moved = newest.div_euclid(TILE_MS) > self.now.div_euclid(TILE_MS);
        self.advance(newest, health);
        let mut late_results = 0;
        for tally in &delta.tallies {
            let Some(book) = self.admit(&tally.segment, engine, health) else { continue };
            // Each result is also in `ALL`: there it is counted once.
            if book.add(tally, health) == Added::Late && tally.segment.kind == SegmentKind::All {
                late_results += tally.tally.attempts;
            }
        }
        for order in &delta.overrides {
            let now = self.now;
            if let Some(book) = self.admit(&order.segment, engine, health) {
                book.order(order, now);
            }
        }
        for diverted in &delta.diverted {
            if let Some(book) = self.segments.get_mut(&diverted.segment) {
                book.divert(diverted);
            }
        }
        StatsEffects { transitions: self.evaluate((!moved).then_some(delta), health), late_results }
    }

    /// Moves time on and judges all segments.
    pub fn tick(&mut self, at: EpochMs, health: &HealthSettings) -> StatsEffects {
        self.advance(at, health);
        StatsEffects { transitions: self.evaluate(None, health), late_results: 0 }
    }

    /// Segments whose state differs from what was published of them, in order.
    pub fn changed(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|(_, book)| book.changed).map(|(segment, _)| segment)
    }

    /// The state of a segment at the time of its windows, to be published: it has not changed until something happens again.
    pub fn publish(&mut self, segment: &Segment, health: &HealthSettings) -> Option<PspState> {
        let book = self.segments.get_mut(segment)?;
        book.changed = false;
        Some(book.published((&self.psp_id, segment), self.now, health))
    }

    /// The state of a segment as it is published; `at` becomes its `updated_at`.
    pub fn state(&self, segment: &Segment, at: EpochMs, health: &HealthSettings) -> Option<PspState> {
        self.segments.get(segment).map(|book| book.published((&self.psp_id, segment), at, health))
    }

    /// All states, `ALL` first.
    pub fn states(&self, at: EpochMs, health: &HealthSettings) -> impl Iterator<Item = PspState> {
        self.segments.iter().map(move |(segment, book)| book.published((&self.psp_id, segment), at, health))
    }

    /// Emits (key, value) of all that changed since the last call: touched tiles, state machines, the clock.
    /// Later entries of a key replace earlier ones; nothing is ever deleted.
    pub fn drain_dirty(&mut self, emit: &mut dyn FnMut(Vec<u8>, Vec<u8>)) {
        let psp_id = &self.psp_id;
        let mut put = |(key, value)| emit(key, value);
        if std::mem::take(&mut self.clock_dirty) {
            put(entry::clock(psp_id, self.now));
        }
        for (segment, book) in &mut self.segments {
            if std::mem::take(&mut book.machine_dirty) {
                put(entry::machine(psp_id, segment, &book.machine));
            }
            if std::mem::take(&mut book.watch.tests_dirty) {
                put(entry::tests(psp_id, segment, book.watch.tests()));
            }
            if std::mem::take(&mut book.watch.baseline_dirty) {
                put(entry::baseline(psp_id, segment, book.watch.baseline()));
            }
            book.windows.drain_dirty(&mut |tile| put(entry::tile(psp_id, segment, &tile)));
        }
    }

    /// Emits (key, value) of all that the book holds, changed or not: what a store holds, less its stale tiles.
    pub fn entries(&self, emit: &mut dyn FnMut(Vec<u8>, Vec<u8>)) {
        let mut put = |(key, value)| emit(key, value);
        put(entry::clock(&self.psp_id, self.now));
        for (segment, book) in &self.segments {
            put(entry::machine(&self.psp_id, segment, &book.machine));
            if !book.watch.is_idle() {
                put(entry::tests(&self.psp_id, segment, book.watch.tests()));
            }
            if book.watch.is_expecting() {
                put(entry::baseline(&self.psp_id, segment, book.watch.baseline()));
            }
            book.windows.tiles(&mut |tile| put(entry::tile(&self.psp_id, segment, &tile)));
        }
    }

    /// The book that these entries, in any order, were drained from. Totals are summed up again from the tiles.
    pub fn restore(psp_id: PspId, entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, CorruptState> {
        let mut now = 0;
        let mut machines = Vec::new();
        let mut tiles = Vec::new();
        let (mut tests, mut baselines) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            match entry::decode(&psp_id, &key, &value)? {
                Entry::Clock(at) => now = now.max(at),
                Entry::Machine(segment, machine) => machines.push((segment, machine)),
                Entry::Tile { segment, ring, start, tally } => {
                    now = now.max(start);
                    tiles.push((segment, ring, start, tally));
                }
                Entry::Tests(segment, stored) => tests.push((segment, stored)),
                Entry::Baseline(segment, stored) => baselines.push((segment, stored)),
            }
        }
        let mut segments: BTreeMap<Segment, Box<SegmentBook>> = BTreeMap::new();
        let stored = || Box::new(SegmentBook::stored(now));
        for (segment, machine) in machines {
            segments.entry(segment).or_insert_with(stored).machine = machine;
        }
        for (segment, ring, start, tally) in tiles {
            segments.entry(segment).or_insert_with(stored).windows.restore_tile(ring, start, &tally);
        }
        for (segment, tests) in tests {
            segments.entry(segment).or_insert_with(stored).watch.restore_tests(*tests);
        }
        for (segment, baseline) in baselines {
            segments.entry(segment).or_insert_with(stored).watch.restore_baseline(*baseline);
        }
        for book in segments.values_mut() {
            book.windows.restored();
        }
        Ok(Self { psp_id, now, clock_dirty: false, segments, is_current: false })
    }

    fn advance(&mut self, to: EpochMs, health: &HealthSettings) {
        let quarter = |at: EpochMs| at.div_euclid(QUARTER_MS);
        let next_quarter = quarter(to) > quarter(self.now);
        if to <= self.now && self.is_current {
            return;
        }
        self.is_current = true;
        if to > self.now {
            self.now = to;
            self.clock_dirty = true;
        }
        for book in self.segments.values_mut() {
            book.advance(self.now, health);
        }
        if next_quarter && watch::is_needed(health) {
            self.learn(health);
        }
    }

    /// Lets every segment learn what to expect: `ALL`, which comes first, before those that are measured by it.
    fn learn(&mut self, health: &HealthSettings) {
        let (now, watched) = (self.now, self.segments.len());
        let mut parent = None;
        for (segment, book) in &mut self.segments {
            let around =
                Surroundings { settings: &health.sequential, parent, watched, is_busy: book.is_busy(&health.sequential) };
            book.learn(now, around);
            if segment.kind == SegmentKind::All {
                parent = Some(book.watch.baseline().rates(&health.sequential));
            }
        }
    }

    /// The book of a segment; a new one is opened while there is room. `ALL` always has room.
    fn admit(&mut self, segment: &Segment, engine: &EngineSettings, health: &HealthSettings) -> Option<&mut SegmentBook> {
        if !self.segments.contains_key(segment) {
            let is_full = self.segments.len() >= engine.segments_per_psp_max && segment.kind != SegmentKind::All;
            if is_full || segment.kind == SegmentKind::Pair && self.results_24h() < engine.pair_results_min {
                return None;
            }
            let mut book = SegmentBook::new(self.now);
            book.advance(self.now, health);
            if watch::is_needed(health) {
                let all = self.segments.get(&Segment::all());
                let parent = all.map(|all| all.watch.baseline().rates(&health.sequential));
                let watched = self.segments.len() + 1;
                let around = Surroundings { settings: &health.sequential, parent, watched, is_busy: false };
                book.watch = watch::Watch::new(self.now, around);
            }
            self.segments.insert(segment.clone(), Box::new(book));
        }
        self.segments.get_mut(segment).map(|book| &mut **book)
    }

    fn results_24h(&self) -> i64 {
        self.segments.get(&Segment::all()).map_or(0, |all| all.windows.last_24h().attempts)
    }

    /// Judges the segments that a merged delta concerns, or all of them.
    fn evaluate(&mut self, merged: Option<&StatsDelta>, health: &HealthSettings) -> Vec<PspOutage> {
        let mut due = Vec::new();
        let mut judge = |segment: &Segment, book: &mut SegmentBook, now: EpochMs| {
            if let Some((step, reading)) = book.due(merged.is_none(), now, health) {
                due.push(Due { segment: segment.clone(), step, reading });
            }
        };
        match merged {
            None => self.segments.iter_mut().for_each(|(segment, book)| judge(segment, book, self.now)),
            Some(delta) => {
                let counted = delta.tallies.iter().map(|tally| &tally.segment);
                for segment in counted.chain(delta.overrides.iter().map(|order| &order.segment)) {
                    if let Some(book) = self.segments.get_mut(segment) {
                        judge(segment, book, self.now);
                    }
                }
            }
        }
        if due.is_empty() {
            return Vec::new();
        }
        due.sort_by(|a, b| a.segment.cmp(&b.segment));
        let mut transitions = Vec::new();
        let mut restored = false;
        for Due { segment, step, reading } in self.attributed(due, health) {
            let Some(book) = self.segments.get_mut(&segment) else { continue };
            let transition = book.take((&self.psp_id, &segment), (step, &reading), self.now, health);
            let manual = book.machine.manual().cloned();
            let summary = summary::of(&transition, &reading, manual.as_ref(), (&self.money(&transition), health));
            transitions.push(PspOutage { summary, ..transition });
            restored |= step.to() == HealthState::Up && (step.from() == HealthState::Recovering || step.is_ordered());
        }
        if restored {
            // Whoever saw the failures of this outage, and stayed UP because it was not theirs, is not to raise it again.
            for book in self.segments.values_mut().filter(|book| book.machine.state() == HealthState::Up) {
                book.forget(self.now, health);
            }
        }
        transitions
    }

    /// Of the transitions that are due, those that stand: an alarm of segments that were UP is raised for those that explain it, whether
    /// they have raised it themselves or not, and for no others.
    fn attributed(&self, due: Vec<Due>, health: &HealthSettings) -> Vec<Due> {
        let is_alarm = |due: &Due| due.step.from() == HealthState::Up && !due.step.is_ordered();
        let (alarms, mut stand): (Vec<Due>, Vec<Due>) = due.into_iter().partition(is_alarm);
        let alarms: Vec<Due> = alarms.into_iter().filter(|alarm| !self.is_covered(alarm)).collect();
        let strength = |due: &&Due| (due.reading.level, due.reading.strength());
        let Some(loudest) = alarms.iter().max_by(|a, b| strength(a).partial_cmp(&strength(b)).unwrap_or(Ordering::Equal)) else {
            return stand;
        };
        let parts = self.parts(loudest, health);
        let named = match loudest.reading.signal {
            // Windows keep no counts of slow answers over the same time for all segments.
            Signal::Slow => None,
            Signal::Failures | Signal::Declines | Signal::Silence => attribution::explain(&parts),
        };
        let mut named = named.unwrap_or_else(|| vec![attribution::widest(&parts, &loudest.segment)]);
        // Few failures of a small part explain themselves by all traffic as well: where the rate there is nothing like the rule's, they stay its own.
        let part_of = |segment: &Segment| parts.iter().find(|part| part.segment == segment);
        let holds = |part: &Part<'_>| loudest.reading.of_part(part.n, part.failures, health).is_some();
        named.retain(|segment| part_of(segment).is_some_and(holds));
        if named.is_empty() {
            named.push(&loudest.segment);
        }
        let mut raised: Vec<Due> = Vec::new();
        for &segment in &named {
            let own = alarms.iter().find(|alarm| alarm.segment == *segment).cloned();
            let book = self.segments.get(segment);
            let lent = || book?.due_for(&loudest.reading, part_of(segment)?, self.now, health);
            raised.extend(own.or_else(|| lent().map(|(step, reading)| Due { segment: segment.clone(), step, reading })));
        }
        stand.retain(|due| raised.iter().all(|raised| raised.segment != due.segment));
        stand.extend(raised);
        stand.sort_by(|a, b| a.segment.cmp(&b.segment));
        stand
    }

    /// The amount at risk by currency, where the windows tell: of all traffic, of a currency, or where there is one currency only.
    fn money(&self, outage: &PspOutage) -> Vec<(String, i64)> {
        let minor = outage.amount_at_risk_minor;
        if outage.segment.kind == SegmentKind::Currency {
            return vec![(outage.segment.value.clone(), minor)];
        }
        let currencies = self.segments.iter().filter(|(segment, _)| segment.kind == SegmentKind::Currency);
        let amounts: Vec<(&str, f64)> = currencies
            .map(|(segment, book)| (segment.value.as_str(), book.windows.last_24h().amount_minor as f64))
            .filter(|(_, amount)| *amount > 0.0)
            .collect();
        let total: f64 = amounts.iter().map(|(_, amount)| amount).sum();
        if amounts.len() > 1 && outage.segment.kind != SegmentKind::All {
            return Vec::new();
        }
        amounts
            .into_iter()
            .map(|(currency, amount)| (currency.to_owned(), (minor as f64 * amount / total).round() as i64))
            .collect()
    }

    /// Whether the state of all traffic already says what the alarm of a part would.
    fn is_covered(&self, alarm: &Due) -> bool {
        let all = self.segments.get(&Segment::all()).map_or(HealthState::Up, |book| book.machine.state());
        alarm.segment.kind != SegmentKind::All
            && match all {
                HealthState::Down | HealthState::Recovering => true,
                HealthState::Degraded => alarm.step.to() == HealthState::Degraded,
                HealthState::Up | HealthState::Unknown => false,
            }
    }

    /// What every segment saw since the evidence of an alarm began.
    fn parts(&self, alarm: &Due, health: &HealthSettings) -> Vec<Part<'_>> {
        let since = self.segments.get(&alarm.segment).map_or(self.now, |book| book.evidence_since(&alarm.reading, self.now));
        self.segments.iter().map(|(segment, book)| book.part(segment, alarm.reading.signal, since, health)).collect()
    }
}
