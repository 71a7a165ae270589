//! A PSP's segments: windows become a health score, a state, and transitions.

use super::settings::{EngineSettings, HealthSettings};
use super::window::SegmentWindows;
use crate::domain::learning::StatsDelta;
use crate::domain::psp::{PspOutage, PspState, Segment};
use crate::domain::{EpochMs, PspId};

/// All segments of one PSP, held in memory by the stats task that owns the PSP.
#[derive(Clone, Debug)]
pub struct PspBook {
    psp_id: PspId,
}

/// What `merge` and `tick` want of the world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatsEffects {
    /// Transitions in the order in which they happened: each is one record on `psp.outages`.
    pub transitions: Vec<PspOutage>,
    /// Segments whose published state differs from before.
    pub changed: Vec<Segment>,
    /// Results that came too late for every window.
    pub late_results: i64,
}
