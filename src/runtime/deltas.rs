//! Results between two commits, added up before they leave.
//!
//! Owns the counts until the commit takes them; nothing durable. Results whose payments are of the same segments are counted as one,
//! and taken apart into their segments only when the commit comes: there are few such groups, and many results.

use crate::domain::learning::{DivertedFrom, Tally, ToldResult};
use crate::domain::psp::Segment;
use crate::domain::{EpochMs, PspId};
use crate::engine::payment::CountedResult;
use crate::engine::segments::{SegmentRef, SegmentSet};
use crate::engine::window::TILE_MS;
use hashbrown::HashMap;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Deltas {
    results: HashMap<Group, Tally>,
    /// By the PSP and segment that was out, and the PSP that took them.
    diverted: BTreeMap<PspId, BTreeMap<(Segment, PspId), Volume>>,
    /// One by one, in the order in which they came.
    told: BTreeMap<PspId, Vec<ToldResult>>,
}

/// Payments, and their amount in minor units across currencies.
type Volume = (i64, i64);

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
        self.results.is_empty() && self.diverted.is_empty() && self.told.is_empty()
    }

    pub(super) fn divert(&mut self, from: PspId, diverted: DivertedFrom) {
        let by_segment = self.diverted.entry(from).or_default();
        let sum = by_segment.entry((diverted.segment, diverted.to)).or_default();
        *sum = (sum.0 + diverted.payments, sum.1.saturating_add(diverted.amount_minor));
    }

    /// What went elsewhere, by the PSP that was out; nothing is left.
    pub(super) fn take_diverted(&mut self) -> BTreeMap<PspId, Vec<DivertedFrom>> {
        let listed = |((segment, to), (payments, amount_minor))| DivertedFrom { segment, to, payments, amount_minor };
        let diverted = std::mem::take(&mut self.diverted).into_iter();
        diverted.map(|(from, sums)| (from, sums.into_iter().map(listed).collect())).collect()
    }

    pub(super) fn tell(&mut self, psp_id: PspId, told: ToldResult) {
        self.told.entry(psp_id).or_default().push(told);
    }

    /// Results one by one; nothing is left.
    pub(super) fn take_told(&mut self) -> BTreeMap<PspId, Vec<ToldResult>> {
        std::mem::take(&mut self.told)
    }

    pub(super) fn count(&mut self, result: CountedResult) {
        let CountedResult { psp_id, at, segments, tally } = result;
        let group = Group { segments, tile_start: at.div_euclid(TILE_MS) * TILE_MS, psp_id };
        let sum = self.results.entry(group).or_default();
        sum.add(&tally);
        sum.bound_codes();
    }

    /// What was counted, in an order that depends on nothing but the results; nothing is left.
    pub(super) fn take(&mut self) -> BTreeMap<PspId, BySegment> {
        let mut deltas: BTreeMap<PspId, BySegment> = BTreeMap::new();
        // Sums do not depend on the order in which they are made, bounded codes included.
        for (group, tally) in self.results.drain() {
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
