//! What the decision may know of the PSPs: the published state of each segment, as of one moment.

use crate::domain::PspId;
use crate::domain::psp::{HealthState, PspState, Segment};
use std::collections::HashMap;
use std::sync::Arc;

/// The latest `psp.states` record of a segment, if there is one. The runtime's global table is one; `StaticView` another.
pub trait PspView {
    fn state(&self, psp: &PspId, segment: &Segment) -> Option<Arc<PspState>>;
}

/// A view that does not change: for replay, explanation and tests.
#[derive(Clone, Debug, Default)]
pub struct StaticView {
    states: HashMap<PspId, HashMap<Segment, Arc<PspState>>>,
}

impl StaticView {
    pub fn insert(&mut self, state: PspState) {
        self.states.entry(state.psp_id.clone()).or_default().insert(state.segment.clone(), Arc::new(state));
    }
}

impl FromIterator<PspState> for StaticView {
    fn from_iter<I: IntoIterator<Item = PspState>>(states: I) -> Self {
        let mut view = Self::default();
        states.into_iter().for_each(|state| view.insert(state));
        view
    }
}

impl PspView for StaticView {
    fn state(&self, psp: &PspId, segment: &Segment) -> Option<Arc<PspState>> {
        self.states.get(psp)?.get(segment).cloned()
    }
}

/// How one PSP stands for one payment: the states of the segments that the payment belongs to, read once.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// `ALL` first, then in configured order; segments that nothing is known of are left out.
    pub(super) known: Vec<Arc<PspState>>,
    /// Segments in trouble at every PSP: their state says nothing against this one.
    pub(super) excused: Vec<Segment>,
}

impl Standing {
    pub(super) fn read(view: &dyn PspView, psp: &PspId, segments: &[Segment]) -> Self {
        Self { known: segments.iter().filter_map(|segment| view.state(psp, segment)).collect(), excused: Vec::new() }
    }

    /// The segment that is worst off; of equals the first. None: nothing is known, which counts as UP.
    pub(super) fn worst(&self) -> Option<&PspState> {
        let counts = |state: &&Arc<PspState>| !self.excused.contains(&state.segment);
        self.known.iter().rev().filter(counts).max_by_key(|state| state.state.severity()).map(AsRef::as_ref)
    }

    pub(super) fn health(&self) -> HealthState {
        self.worst().map_or(HealthState::Up, |worst| worst.state)
    }

    pub(super) fn all(&self) -> Option<&PspState> {
        self.known.iter().map(AsRef::as_ref).find(|state| state.segment == Segment::all())
    }

    /// The highest share of time-outs and technical errors in the last 15 minutes over the payment's segments, each with `weight`
    /// results without failure assumed on top, so that a few failures among few results say little.
    pub(super) fn technical_share(&self, weight: f64) -> f64 {
        let share = |state: &Arc<PspState>| {
            let window = &state.windows.last_15m;
            let results = (window.attempts.max(0) as f64 + weight).max(1.0);
            (window.timeouts.saturating_add(window.errors).max(0) as f64 / results).clamp(0.0, 1.0)
        };
        self.known.iter().map(share).fold(0.0, f64::max)
    }
}

/// The segments, `ALL` aside, that are DOWN or RECOVERING at each of these PSPs: a merchant's own doing, an issuer that is down, a scheme. That
/// is no PSP's outage, and none of them is a way around it.
pub(super) fn common_trouble<'a>(mut standings: impl Iterator<Item = &'a Standing>) -> Vec<Segment> {
    let out_of = |standing: &'a Standing| {
        let out = |state: &&'a Arc<PspState>| {
            let out = matches!(state.state, HealthState::Down | HealthState::Recovering);
            out && state.segment != Segment::all()
        };
        standing.known.iter().filter(out).map(|state| &state.segment)
    };
    let (Some(first), Some(second)) = (standings.next(), standings.next()) else { return Vec::new() };
    let mut common: Vec<&Segment> = out_of(first).filter(|segment| out_of(second).any(|it| it == *segment)).collect();
    for standing in standings {
        common.retain(|segment| out_of(standing).any(|it| it == *segment));
    }
    common.into_iter().cloned().collect()
}

pub(super) fn technical_share(state: &PspState) -> f64 {
    let window = &state.windows.last_15m;
    if window.attempts <= 0 {
        return 0.0;
    }
    (window.timeouts.saturating_add(window.errors) as f64 / window.attempts as f64).clamp(0.0, 1.0)
}
