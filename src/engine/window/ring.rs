//! One window as a ring of tiles with a running total: adding and evicting cost the same however long the window is.

use super::latency::{self, BUCKETS};
use crate::domain::EpochMs;
use crate::domain::learning::Tally;
use crate::domain::psp::WindowStats;

/// The window's length is `tile_ms × tiles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSpec {
    pub tile_ms: i64,
    /// At most 128: a bit each in `Ring::dirty`.
    pub tiles: usize,
    /// Only the tiles that a detector reads keep failure codes.
    pub codes: bool,
}

impl RingSpec {
    /// The number of the tile that holds this moment.
    pub fn index_of(&self, at: EpochMs) -> i64 {
        at.div_euclid(self.tile_ms)
    }

    /// When the tile that holds this moment begins.
    pub fn start_of(&self, at: EpochMs) -> EpochMs {
        self.index_of(at).saturating_mul(self.tile_ms)
    }

    pub fn slot_of(&self, index: i64) -> usize {
        index.rem_euclid(self.tiles as i64) as usize
    }
}

/// Holds the tiles `head − tiles + 1 ..= head`; the tile of index i is in slot i mod `tiles`.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) spec: RingSpec,
    head: i64,
    /// A tile without results has no box: an idle segment costs a pointer per tile.
    tiles: Vec<Option<Box<Tally>>>,
    /// A tile that left, emptied for the next one: time that moves on allocates nothing.
    spare: Option<Box<Tally>>,
    total: Total,
    /// Slots touched since the last drain, also when their tile has left since.
    dirty: u128,
}

/// The sum of a ring's tiles, its latencies dense.
#[derive(Clone, Debug)]
struct Total {
    counts: Tally,
    latency: [i64; BUCKETS],
    latencies: i64,
}

impl Ring {
    pub(super) fn new(spec: RingSpec, at: EpochMs) -> Self {
        let total = Total { counts: Tally::default(), latency: [0; BUCKETS], latencies: 0 };
        Self { spec, head: spec.index_of(at), tiles: vec![None; spec.tiles], spare: None, total, dirty: 0 }
    }

    pub(super) fn head(&self) -> i64 {
        self.head
    }

    /// Whether the tile of this moment is still open. What is ahead of the head is not: advance first.
    pub(super) fn is_open(&self, at: EpochMs) -> bool {
        let index = self.spec.index_of(at);
        index <= self.head && index > self.head - self.spec.tiles as i64
    }

    /// Adds to the tile of this moment if it is open.
    pub(super) fn add(&mut self, at: EpochMs, tally: &Tally) -> bool {
        if !self.is_open(at) {
            return false;
        }
        let slot = self.spec.slot_of(self.spec.index_of(at));
        let tile = self.tiles[slot].get_or_insert_with(|| self.spare.take().unwrap_or_default());
        tile.add_counts(tally);
        for entry in &tally.latency {
            let bucket = latency::slot_of(entry.bucket) as i32;
            tile.adjust_latency(bucket, entry.count);
        }
        if self.spec.codes {
            tile.add_codes(tally);
            tile.bound_codes();
        }
        self.total.add(tally);
        self.dirty |= 1 << slot;
        true
    }

    /// Moves the head forward and evicts what falls out; true when that was anything.
    pub(super) fn advance(&mut self, to: EpochMs) -> bool {
        let head = self.spec.index_of(to);
        let oldest_before = self.head - self.spec.tiles as i64 + 1;
        let oldest_after = head - self.spec.tiles as i64 + 1;
        let mut evicted = false;
        for index in oldest_before..oldest_after.min(self.head + 1) {
            let slot = self.spec.slot_of(index);
            if let Some(mut tile) = self.tiles[slot].take() {
                self.total.subtract(&tile);
                tile.clear();
                self.spare = Some(tile);
                evicted = true;
            }
        }
        self.head = self.head.max(head);
        evicted
    }

    /// The tile of this index, if it is open and holds results.
    pub(super) fn tile(&self, index: i64) -> Option<&Tally> {
        let open = index <= self.head && index > self.head - self.spec.tiles as i64;
        if open { self.tiles[self.spec.slot_of(index)].as_deref() } else { None }
    }

    /// Tiles that hold results, oldest first: (slot, start, tally).
    pub(super) fn tiles(&self) -> impl Iterator<Item = (usize, EpochMs, &Tally)> {
        let oldest = self.head - self.spec.tiles as i64 + 1;
        (oldest..=self.head)
            .filter_map(|index| self.tile(index).map(|tile| (self.spec.slot_of(index), index * self.spec.tile_ms, tile)))
    }

    /// When the oldest open tile begins.
    pub(super) fn oldest_start(&self) -> EpochMs {
        (self.head - self.spec.tiles as i64 + 1).saturating_mul(self.spec.tile_ms)
    }

    /// Emits (slot, start, tally) of the tiles that were touched since the last call, and forgets them; but not those that start at or
    /// after `before`. Costs nothing where nothing was touched: it is asked of every segment with each commit.
    pub(super) fn drain_dirty(&mut self, before: EpochMs, mut emit: impl FnMut(usize, EpochMs, &Tally)) {
        let mut left = self.dirty;
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            left &= left - 1;
            let start = self.index_in(slot).saturating_mul(self.spec.tile_ms);
            let tile = self.tiles[slot].as_deref();
            if start >= before && tile.is_some() {
                continue;
            }
            self.dirty &= !(1 << slot);
            if let Some(tally) = tile {
                emit(slot, start, tally);
            }
        }
    }

    /// The index of the open tile in a slot.
    fn index_in(&self, slot: usize) -> i64 {
        let behind = (self.spec.slot_of(self.head) + self.spec.tiles - slot) % self.spec.tiles;
        self.head - behind as i64
    }

    pub(super) fn counts(&self) -> &Tally {
        &self.total.counts
    }

    pub(super) fn stats(&self) -> WindowStats {
        let Total { counts, latency, latencies } = &self.total;
        let quantile = |percent| latency::quantile(latency, *latencies, percent);
        WindowStats {
            attempts: counts.attempts,
            approvals: counts.approvals,
            approval_rate: if counts.attempts == 0 { 0.0 } else { counts.approvals as f64 / counts.attempts as f64 },
            soft_declines: counts.soft_declines,
            hard_declines: counts.hard_declines,
            timeouts: counts.timeouts,
            errors: counts.errors,
            latency_p50_ms: quantile(50),
            latency_p95_ms: quantile(95),
            latency_p99_ms: quantile(99),
        }
    }
}

impl Total {
    fn add(&mut self, tally: &Tally) {
        self.counts.add_counts(tally);
        for entry in &tally.latency {
            self.latency[latency::slot_of(entry.bucket)] += entry.count;
            self.latencies += entry.count;
        }
    }

    fn subtract(&mut self, tally: &Tally) {
        self.counts.subtract_counts(tally);
        for entry in &tally.latency {
            self.latency[latency::slot_of(entry.bucket)] -= entry.count;
            self.latencies -= entry.count;
        }
    }
}
