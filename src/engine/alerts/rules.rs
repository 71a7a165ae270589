//! What a sink is told of, and when: plain values, checked by `config`.

use crate::domain::psp::{PspOutage, Segment, SegmentKind, Severity};
use crate::domain::{EpochMs, PspId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a sink takes what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For people: what happens at once is one alert, what goes back and forth is told once, what lasts is told again.
    Grouped,
    /// For machines that know an outage by its id: every transition, one by one.
    Each,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AlertRules {
    pub style: Style,
    /// An outage is told from the first transition that is as loud as this; then all of it.
    pub severity_min: Severity,
    /// Empty: all.
    pub psps: Vec<PspId>,
    /// Empty: all.
    pub segments: Vec<SegmentFilter>,
    /// After an alarm of a segment, further ones that are no worse are told together when this has passed. 0: at once.
    pub quiet_ms: i64,
    /// A segment that is DOWN is told again after this. 0: never.
    pub remind_ms: i64,
    /// Transitions that are older are not told one by one.
    pub age_max_ms: i64,
    pub maintenance: Vec<Maintenance>,
    /// What people call a PSP.
    pub names: BTreeMap<PspId, String>,
}

impl AlertRules {
    pub(super) fn wants(&self, outage: &PspOutage) -> bool {
        let psp = self.psps.is_empty() || self.psps.contains(&outage.psp_id);
        psp && (self.segments.is_empty() || self.segments.iter().any(|filter| filter.covers(&outage.segment)))
    }

    /// The maintenance in which this happened; of several the one that ends last.
    pub(super) fn maintenance_of(&self, outage: &PspOutage) -> Option<&Maintenance> {
        let during = |it: &&Maintenance| it.psp == outage.psp_id && (it.from..it.to).contains(&outage.at);
        self.maintenance.iter().filter(during).max_by_key(|it| it.to)
    }
}

/// A time in which a PSP is expected to be out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    pub psp: PspId,
    pub from: EpochMs,
    pub to: EpochMs,
}

/// `ALL`, `BRAND` (every brand), or `BRAND:VISA`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SegmentFilter {
    kind: SegmentKind,
    /// Absent: whatever it is.
    value: Option<String>,
}

impl SegmentFilter {
    fn covers(&self, segment: &Segment) -> bool {
        self.kind == segment.kind && self.value.as_ref().is_none_or(|value| *value == segment.value)
    }
}

impl TryFrom<String> for SegmentFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (kind, value) = text.split_once(':').map_or((text.as_str(), None), |(kind, value)| (kind, Some(value.to_owned())));
        let known = SegmentKind::EVERY.into_iter().find(|known| known.as_str() == kind);
        let kind = known.ok_or_else(|| {
            let known: Vec<&str> = SegmentKind::EVERY.iter().map(|known| known.as_str()).collect();
            format!("no kind of segment {kind:?}: give ALL, KIND or KIND:value; known are {}", known.join(", "))
        })?;
        Ok(Self { kind, value })
    }
}

impl From<SegmentFilter> for String {
    fn from(filter: SegmentFilter) -> Self {
        let kind = filter.kind.as_str();
        filter.value.map_or_else(|| kind.to_owned(), |value| format!("{kind}:{value}"))
    }
}
