//! A PSP's segments, its windows as they are published, its state, and the transitions between states.

use super::{EpochMs, PspId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A part of a PSP's traffic with a health of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Segment {
    pub kind: SegmentKind,
    /// Empty for `ALL`, else the brand, currency, ... in question.
    pub value: String,
}

impl Segment {
    pub fn all() -> Self {
        Self { kind: SegmentKind::All, value: String::new() }
    }
}

/// `ALL`, or `BRAND:VISA`: how a segment is written in record keys and on the command line.
impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            SegmentKind::All => f.write_str("ALL"),
            kind => write!(f, "{}:{}", kind.as_str(), self.value),
        }
    }
}

/// What `Display` writes.
impl FromStr for Segment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        let known = SegmentKind::EVERY.into_iter().find(|it| it.as_str() == kind);
        match known.filter(|kind| (*kind == SegmentKind::All) == value.is_empty()) {
            Some(kind) => Ok(Self { kind, value: value.to_owned() }),
            None => Err(format!("{text:?} is no segment: give ALL, or a kind and a value such as BRAND:VISA")),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SegmentKind {
    #[default]
    Unknown,
    All,
    Brand,
    Currency,
    Method,
    SubMethod,
    IssuerCountry,
    Merchant,
    Pair,
}

impl SegmentKind {
    pub const EVERY: [Self; 8] =
        [Self::All, Self::Brand, Self::Currency, Self::Method, Self::SubMethod, Self::IssuerCountry, Self::Merchant, Self::Pair];

    /// Whether it is a property that a payment has.
    pub fn is_property(self) -> bool {
        !matches!(self, Self::Unknown | Self::All | Self::Pair)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::All => "ALL",
            Self::Brand => "BRAND",
            Self::Currency => "CURRENCY",
            Self::Method => "METHOD",
            Self::SubMethod => "SUB_METHOD",
            Self::IssuerCountry => "ISSUER_COUNTRY",
            Self::Merchant => "MERCHANT",
            Self::Pair => "PAIR",
        }
    }
}

/// The key of a `psp.states` record: `psp_id`, or `psp_id/segment`.
pub fn state_key(psp_id: &PspId, segment: &Segment) -> String {
    match segment.kind {
        SegmentKind::All => psp_id.as_str().to_owned(),
        _ => format!("{psp_id}/{segment}"),
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HealthState {
    Unknown,
    #[default]
    Up,
    Degraded,
    Down,
    Recovering,
}

impl HealthState {
    /// How bad it is: 0 for UP, up to 3 for DOWN.
    pub fn severity(self) -> u8 {
        match self {
            Self::Unknown | Self::Up => 0,
            Self::Degraded => 1,
            Self::Recovering => 2,
            Self::Down => 3,
        }
    }
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "UNKNOWN",
            Self::Up => "UP",
            Self::Degraded => "DEGRADED",
            Self::Down => "DOWN",
            Self::Recovering => "RECOVERING",
        })
    }
}

/// Current state and health of a PSP segment, as published on `psp.states`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PspState {
    pub psp_id: PspId,
    pub segment: Segment,
    pub state: HealthState,
    /// When the segment entered `state`.
    pub since: EpochMs,
    /// Grows by one with each transition of the segment.
    pub version: i64,
    pub windows: Windows,
    /// 0 (dead) to 1 (as good as it gets).
    pub health_score: f64,
    pub detector: Detector,
    #[serde(default)]
    pub recovery: Option<Recovery>,
    /// The operator's order in force; None when the detectors decide.
    #[serde(default)]
    pub manual: Option<Manual>,
    pub updated_at: EpochMs,
}

/// An operator's order that holds, whatever the detectors see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manual {
    /// UP or DOWN.
    pub to: HealthState,
    pub reason: String,
    pub by: String,
    /// When it lapses, in event time; None: when it is taken back.
    #[serde(default)]
    pub lapses_at: Option<EpochMs>,
}

/// An operator's order on its way to the segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub segment: Segment,
    pub to: OverrideTo,
    pub reason: String,
    pub by: String,
    /// How long it holds; None: until it is taken back. A length, so that no clock but the segment's own has to be right.
    #[serde(default)]
    pub for_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OverrideTo {
    #[default]
    Unknown,
    Up,
    Down,
    /// The detectors decide again.
    Auto,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Windows {
    pub last_15m: WindowStats,
    pub last_1h: WindowStats,
    pub last_24h: WindowStats,
}

/// Results (outcomes and time-outs) in one window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowStats {
    /// Attempts whose result is known.
    pub attempts: i64,
    pub approvals: i64,
    /// approvals / attempts; 0 when there are no attempts.
    pub approval_rate: f64,
    pub soft_declines: i64,
    pub hard_declines: i64,
    pub timeouts: i64,
    pub errors: i64,
    pub latency_p50_ms: i64,
    pub latency_p95_ms: i64,
    pub latency_p99_ms: i64,
}

/// What the detector of a segment sees: `statistic` against `threshold`, and the `baseline` that it expects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    pub name: String,
    pub statistic: f64,
    pub threshold: f64,
    pub baseline: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Share of the eligible traffic that is sent to the PSP to try it, 0–1.
    pub sample_rate: f64,
    pub consecutive_wins: i64,
    /// Share of its normal traffic that a recovering PSP gets, 0–1.
    pub ramp_share: f64,
}

/// A transition of a PSP segment, as published on `psp.outages`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PspOutage {
    /// The same from the first degradation to the recovery.
    pub outage_id: String,
    pub psp_id: PspId,
    pub segment: Segment,
    pub from: HealthState,
    pub to: HealthState,
    pub at: EpochMs,
    pub first_evidence_at: EpochMs,
    pub severity: Severity,
    pub cause: OutageCause,
    pub evidence: Evidence,
    /// Payments that the segment would have taken in the time since the first evidence, by its usual pace.
    pub payments_at_risk: i64,
    /// Minor units, across currencies.
    pub amount_at_risk_minor: i64,
    /// Where payments went that were kept from this segment since the outage began, most first.
    #[serde(default)]
    pub diverted: Vec<Diverted>,
    /// The transition in plain words, for people.
    #[serde(default)]
    pub summary: String,
}

/// Payments that another PSP took instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverted {
    /// Empty for all those beyond the first few.
    pub psp_id: PspId,
    pub payments: i64,
    /// Minor units, across currencies.
    pub amount_minor: i64,
}

/// In order: the last is the loudest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Severity {
    #[default]
    Unknown,
    Info,
    Warning,
    Critical,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutageCause {
    #[default]
    Unknown,
    Timeouts,
    Errors,
    Silence,
    ApprovalDrop,
    Manual,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Results in the detector's window.
    pub n: i64,
    pub failures: i64,
    /// The most frequent error codes among the failures, most frequent first, at most 5.
    pub top_codes: Vec<String>,
    pub statistic: f64,
    pub threshold: f64,
}
