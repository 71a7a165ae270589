//! Results between two commits, added up before they leave.
//!
//! Owns the counts until the commit takes them; nothing durable. Results whose payments are of the same segments are counted as one,
//! and taken apart into their segments only when the commit comes: there are few such groups, and many results.

use crate::domain::learning::Tally;
use crate::domain::psp::Segment;
use crate::domain::{EpochMs, PspId};
use crate::engine::payment::CountedResult;
use crate::engine::segments::{SegmentRef, SegmentSet};
use crate::engine::window::TILE_MS;
use hashbrown::HashMap;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Deltas(HashMap<Group, Tally>);

/// By segment and start of the tile.
pub(super) type BySegment = BTreeMap<(Segment, EpochMs), Tally>;

#[derive(PartialEq, Eq, Hash)]
struct Group {
    segments: SegmentSet,
    tile_start: EpochMs,
    psp_id: PspId,
}

impl Deltas {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn count(&mut self, result: CountedResult) {
        let CountedResult { psp_id, at, segments, tally } = result;
        let group = Group { segments, tile_start: at.div_euclid(TILE_MS) * TILE_MS, psp_id };
        let sum = self.0.entry(group).or_default();
        sum.add(&tally);
        sum.bound_codes();
    }

    /// What was counted, in an order that depends on nothing but the results; nothing is left.
    pub(super) fn take(&mut self) -> BTreeMap<PspId, BySegment> {
        let mut deltas: BTreeMap<PspId, BySegment> = BTreeMap::new();
        // Sums do not depend on the order in which they are made, bounded codes included.
        for (group, tally) in self.0.drain() {
            let by_segment = deltas.entry(group.psp_id).or_default();
            for segment in group.segments.iter().map(SegmentRef::to_segment) {
                let sum = by_segment.entry((segment, group.tile_start)).or_default();
                sum.add(&tally);
                sum.bound_codes();
            }
        }
        deltas
    }
}
