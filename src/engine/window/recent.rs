//! The detector's window: a running total over the newest tiles of the finest ring, with failure codes and without latencies.

use super::ring::Ring;
use crate::domain::EpochMs;
use crate::domain::learning::Tally;

/// Follows one ring. The length is configuration and the floor moves at recoveries; both are told by `watch`.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    span: Span,
    /// The oldest tile in `sum`.
    first: i64,
    sum: Tally,
}

/// The newest `tiles` tiles, but none before `floor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    tiles: i64,
    floor: i64,
}

impl Span {
    /// `window_ms` is rounded up to whole tiles and clamped to the ring; tiles that start before `from` stay outside.
    pub(super) fn new(ring: &Ring, window_ms: i64, from: EpochMs) -> Self {
        let tile_ms = ring.spec.tile_ms;
        let tiles = ring.spec.index_of(window_ms.saturating_add(tile_ms - 1)).clamp(1, ring.spec.tiles as i64);
        Self { tiles, floor: ring.spec.index_of(from.saturating_add(tile_ms - 1)) }
    }

    fn first(self, head: i64) -> i64 {
        self.floor.max(head - self.tiles + 1)
    }

    /// Sums tile by tile.
    pub(super) fn sum(self, ring: &Ring) -> Tally {
        let mut sum = Tally::default();
        (self.first(ring.head())..=ring.head()).filter_map(|index| ring.tile(index)).for_each(|tile| {
            sum.add_counts(tile);
            sum.add_codes(tile);
        });
        sum
    }

    /// Start of the first tile with evidence for an outage.
    pub(super) fn first_failure_at(self, ring: &Ring) -> Option<EpochMs> {
        let failed = |index: &i64| ring.tile(*index).is_some_and(|tile| tile.persistent > 0);
        (self.first(ring.head())..=ring.head()).find(failed).map(|index| index * ring.spec.tile_ms)
    }
}

impl Recent {
    pub(super) fn new(ring: &Ring, span: Span) -> Self {
        Self { span, first: span.first(ring.head()), sum: span.sum(ring) }
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    pub(super) fn sum(&self) -> &Tally {
        &self.sum
    }

    /// Adds a tally to the ring and here. A tile folds rare codes together when it is full, so its codes are exchanged, not added.
    pub(super) fn add_through(&mut self, ring: &mut Ring, at: EpochMs, tally: &Tally) -> bool {
        let index = ring.spec.index_of(at);
        let inside = index >= self.first && ring.is_open(at);
        if inside {
            self.sum.add_counts(tally);
            if !tally.codes.is_empty()
                && let Some(tile) = ring.tile(index)
            {
                self.sum.subtract_codes(tile);
            }
        }
        let counted = ring.add(at, tally);
        if inside
            && !tally.codes.is_empty()
            && let Some(tile) = ring.tile(index)
        {
            self.sum.add_codes(tile);
        }
        counted
    }

    /// Call before the ring advances, while the tiles that fall out are still there; true when any did.
    pub(super) fn advance(&mut self, ring: &Ring, to: EpochMs) -> bool {
        let first = self.span.first(ring.spec.index_of(to).max(ring.head()));
        let mut fell_out = false;
        for index in self.first..first.min(ring.head() + 1) {
            if let Some(tile) = ring.tile(index) {
                self.sum.subtract_counts(tile);
                self.sum.subtract_codes(tile);
                fell_out = true;
            }
        }
        self.first = first;
        fell_out
    }
}
