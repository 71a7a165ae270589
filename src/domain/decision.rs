//! The answer to a routing request: which PSPs, in which order, phrased how, and why.

use super::payment::MessageConfig;
use super::psp::Segment;
use super::{EpochMs, PspId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutingDecision {
    /// Deterministic: UUID v5 of the request id, so that a repeat can be dropped by any reader.
    pub decision_id: String,
    pub request_id: String,
    pub payment_id: String,
    pub decided_at: EpochMs,
    /// Best first, 1 to 3 distinct PSPs; empty only when no PSP can take the payment at all (`fallback_reason` says why).
    pub ranked: Vec<RankedPsp>,
    /// The best message configurations, best first, at most 3.
    pub message_options: Vec<MessageOption>,
    pub retry: RetryPlan,
    pub decided_by: DecidedBy,
    /// The rule that decided, when one did.
    #[serde(default)]
    pub rule_id: Option<String>,
    /// Why a lower authority than the configured one decided.
    #[serde(default)]
    pub fallback_reason: Option<String>,
    pub skipped: Vec<SkippedPsp>,
    #[serde(default)]
    pub experiment: Option<ExperimentAssignment>,
    pub versions: Versions,
    /// Offset of `psp.states` that was applied when deciding, by partition (as text).
    pub psp_view: BTreeMap<String, i64>,
    pub latency_us: StepLatency,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankedPsp {
    pub psp_id: PspId,
    #[serde(default)]
    pub approval_probability: Option<f64>,
    #[serde(default)]
    pub expected_value_minor: Option<i64>,
    /// Probability with which this policy puts this PSP at this rank, in (0, 1].
    pub propensity: f64,
    pub message: MessageConfig,
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageOption {
    pub message: MessageConfig,
    #[serde(default)]
    pub approval_probability: Option<f64>,
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetryPlan {
    pub should_retry: bool,
    /// Earliest useful time of the next attempt.
    #[serde(default)]
    pub not_before: Option<EpochMs>,
    pub psp_order: Vec<PspId>,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DecidedBy {
    #[default]
    Unknown,
    HardRule,
    Model,
    WindowedRate,
    StaticRule,
    Exploration,
    RecoverySample,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkippedPsp {
    pub psp_id: PspId,
    pub reason: SkipReason,
    /// The segment that is down or degraded, when that is the reason.
    #[serde(default)]
    pub segment: Option<Segment>,
    #[serde(default)]
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SkipReason {
    #[default]
    Unknown,
    Down,
    Degraded,
    Recovering,
    /// The PSP does not take this brand, currency, method or merchant.
    NotEligible,
    /// The request's `allowed_psps` leaves it out.
    NotAllowed,
    /// A rule leaves it out.
    Rule,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExperimentAssignment {
    pub id: String,
    pub variant: String,
    pub shadow: bool,
}

/// Versions of what decided: a model and feature catalogue (empty without a model), policy settings, rule set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    pub model: String,
    pub features: String,
    pub policy: String,
    pub rules: String,
}

/// Microseconds spent in each step of the decision, measured by the task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepLatency {
    pub gather: i64,
    pub score: i64,
    pub decide: i64,
}
