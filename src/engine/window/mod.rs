//! Results become tiles, tiles become windows.
//!
//! Owns event time and counts of one segment: which tile a tally belongs to, whether that tile is still open, what each window holds.
//! Never judges what it counts (`psp` does), never does IO: what changed is handed out tile by tile, to be stored by its slot.
//! Fed by `psp` with the tallies of `stats.deltas`.
//!
//! # Time
//! The time of a segment is the highest tile start or tick that it has seen; it never goes back. The window of a ring at time t is its
//! tiles up to and including the one that holds t: 90 × 10 s, 60 × 1 min, 96 × 15 min. A tally counts in each ring whose tile for
//! it is still open; when it is open in none, the tally is late. A tally ahead of time advances time.
//!
//! A tile outside a window at some time is outside it ever after, so **the windows at time t are the sum of all tallies whose tile is inside
//! them, in whatever order these came**. Only the count of late tallies depends on the order.
//!
//! # Memory
//! A segment without results takes 6 KiB: 246 pointers and three dense latency totals of 114 buckets. A tile with results adds
//! 112 bytes, 16 for each distinct latency bucket (114 at most), and in the 10 s ring 24 and the text for each failure code (9 at most);
//! growing vectors may hold twice that. The last tile that left a ring is kept and becomes the next one, so that counting a result
//! allocates nothing once a segment has been busy for as long as its windows last (`tests/allocations.rs`). A busy segment with 40
//! latency buckets in every tile comes to 200 to 300 KiB, the most possible is 1 MiB.

pub mod latency;
pub mod tally;
mod ring;
mod recent;

pub use ring::RingSpec;

use crate::domain::EpochMs;
use crate::domain::learning::Tally;
use crate::domain::psp::Windows;
use recent::{Recent, Span};
use ring::Ring;

/// Length of the finest tiles, in which `stats.deltas` count.
pub const TILE_MS: i64 = 10_000;

/// Finest first. Their numbers and lengths are part of the keys of stored tiles.
pub const RINGS: [RingSpec; 3] = [
    RingSpec { tile_ms: TILE_MS, tiles: 90, codes: true },
    RingSpec { tile_ms: 60_000, tiles: 60, codes: false },
    RingSpec { tile_ms: 900_000, tiles: 96, codes: false },
];

/// All windows of one segment.
#[derive(Clone, Debug)]
pub struct SegmentWindows {
    now: EpochMs,
    rings: [Ring; 3],
    recent: Recent,
}

/// What became of a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in at least one window.
    Counted,
    /// Its tile is closed in every ring.
    Late,
}

/// A tile with results and where it is stored: `slot` is its index modulo the ring's length, so a new tile overwrites the one that left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredTile<'a> {
    pub ring: usize,
    pub slot: usize,
    pub start: EpochMs,
    pub tally: &'a Tally,
}

impl SegmentWindows {
    pub fn new(now: EpochMs) -> Self {
        let rings = RINGS.map(|spec| Ring::new(spec, now));
        let span = Span::new(&rings[0], RINGS[0].tile_ms * RINGS[0].tiles as i64, EpochMs::MIN);
        let recent = Recent::new(&rings[0], span);
        Self { now, rings, recent }
    }

    pub fn now(&self) -> EpochMs {
        self.now
    }

    /// Counts a tally of the tile that holds `at`.
    pub fn add(&mut self, at: EpochMs, tally: &Tally) -> Added {
        self.advance(at);
        if tally.is_empty() {
            return Added::Counted;
        }
        let [fine, coarser @ ..] = &mut self.rings;
        let mut counted = self.recent.add_through(fine, at, tally);
        for ring in coarser {
            counted |= ring.add(at, tally);
        }
        if counted { Added::Counted } else { Added::Late }
    }

    /// Moves time forward; true when results left a window or the detector's.
    pub fn advance(&mut self, to: EpochMs) -> bool {
        if to <= self.now {
            return false;
        }
        self.now = to;
        let mut changed = self.recent.advance(&self.rings[0], to);
        for ring in &mut self.rings {
            changed |= ring.advance(to);
        }
        changed
    }

    pub fn published(&self) -> Windows {
        let [quarter, hour, day] = &self.rings;
        Windows { last_15m: quarter.stats(), last_1h: hour.stats(), last_24h: day.stats() }
    }

    /// Counts of the last 15 minutes, without latencies and codes.
    pub fn last_15m(&self) -> &Tally {
        self.rings[0].counts()
    }

    /// Counts of the last 24 hours, without latencies and codes.
    pub fn last_24h(&self) -> &Tally {
        self.rings[2].counts()
    }

    /// The tile of a quarter of an hour, counted from the epoch, if it is in the 24-hour window and holds results.
    pub fn quarter(&self, index: i64) -> Option<&Tally> {
        self.rings[2].tile(index)
    }

    /// Keeps a running total of the newest 10 s tiles: as many as `window_ms` needs, none that starts before `from`.
    /// Repeating the same wish costs nothing.
    pub fn watch(&mut self, window_ms: i64, from: EpochMs) {
        let span = Span::new(&self.rings[0], window_ms, from);
        if span != self.recent.span() {
            self.recent = Recent::new(&self.rings[0], span);
        }
    }

    /// The running total that `watch` asked for: counts and codes, no latencies.
    pub fn watched(&self) -> &Tally {
        self.recent.sum()
    }

    /// Start of the first watched tile with evidence for an outage.
    pub fn first_failure_at(&self) -> Option<EpochMs> {
        self.recent.span().first_failure_at(&self.rings[0])
    }

    /// As `watched`, for any window: summed tile by tile unless it is the watched one.
    pub fn recent(&self, window_ms: i64, from: EpochMs) -> Tally {
        let span = Span::new(&self.rings[0], window_ms, from);
        if span == self.recent.span() { self.recent.sum().clone() } else { span.sum(&self.rings[0]) }
    }

    /// Emits the open tiles that were touched since the last call, coarser ones once the finest no longer hold all that is in them: until
    /// then they are summed up again from these. Closed tiles need no deletion: their slot is overwritten in time, and until then
    /// their start tells that they are stale.
    pub fn drain_dirty(&mut self, emit: &mut dyn FnMut(StoredTile<'_>)) {
        let stored_before = self.stored_before();
        for (number, ring) in self.rings.iter_mut().enumerate() {
            ring.drain_dirty(stored_before[number], |slot, start, tally| emit(StoredTile { ring: number, slot, start, tally }));
        }
    }

    /// Emits every open tile with results that a store is to hold.
    pub fn tiles(&self, emit: &mut dyn FnMut(StoredTile<'_>)) {
        let stored_before = self.stored_before();
        for (number, ring) in self.rings.iter().enumerate() {
            let stored = ring.tiles().filter(|&(_, start, _)| start < stored_before[number]);
            stored.for_each(|(slot, start, tally)| emit(StoredTile { ring: number, slot, start, tally }));
        }
    }

    /// Of each ring, the tiles that start before this are stored. A coarser tile that starts later is the sum of finest ones: as time
    /// never goes back, all of these were open whenever it was added to.
    fn stored_before(&self) -> [EpochMs; RINGS.len()] {
        let covered_from = self.rings[0].oldest_start();
        [EpochMs::MAX, covered_from, covered_from]
    }

    /// Puts a stored tile back into its ring, a finest one into the coarser rings too where these are not stored; a stale one is
    /// ignored. Time has to be restored first (`new`): what is ahead of it is ignored as well. The watched total follows with the
    /// next `watch`.
    pub fn restore_tile(&mut self, ring: usize, start: EpochMs, tally: &Tally) {
        let stored_before = self.stored_before();
        let [fine, coarser @ ..] = &mut self.rings;
        if ring > 0 {
            if let Some(coarse) = coarser.get_mut(ring - 1).filter(|_| start < stored_before[ring]) {
                coarse.add(start, tally);
            }
        } else if fine.add(start, tally) {
            for (coarse, stored_before) in coarser.iter_mut().zip(&stored_before[1..]) {
                if coarse.spec.start_of(start) >= *stored_before {
                    coarse.add(start, tally);
                }
            }
        }
    }

    /// Ends a restore: builds the watched total from the tiles and marks nothing as touched.
    pub fn restored(&mut self) {
        self.recent = Recent::new(&self.rings[0], self.recent.span());
        let stored_before = self.stored_before();
        for (ring, stored_before) in self.rings.iter_mut().zip(stored_before) {
            ring.drain_dirty(stored_before, |_, _, _| ());
        }
    }
}
