//! What the system learns from: the prediction behind each decision, and the feedback that joins it with what happened.

use super::payment::{HardSoft, Status};
use super::psp::{Override, Segment};
use super::{EpochMs, PspId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One record per decision on `athia.predictions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub decision_id: String,
    pub request_id: String,
    pub payment_id: String,
    /// What scored: a model as `name@version`, or the policy that ranked without one.
    pub model: String,
    pub feature_version: String,
    /// Catalogue order; empty when no model scored.
    pub request_features: Vec<f32>,
    pub candidates: Vec<CandidatePrediction>,
    pub chosen: PspId,
    pub shadow: bool,
    pub scored_at: EpochMs,
    pub latency_us: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidatePrediction {
    pub psp_id: PspId,
    pub features: Vec<f32>,
    #[serde(default)]
    pub raw_probability: Option<f64>,
    #[serde(default)]
    pub calibrated_probability: Option<f64>,
    /// Probability of being ranked first, 0–1.
    pub propensity: f64,
}

/// A prediction joined with what happened: one record per attempt on `athia.feedback`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Absent when the attempt followed no decision of ours.
    #[serde(default)]
    pub decision_id: Option<String>,
    pub payment_id: String,
    pub attempt_id: String,
    pub psp_id: PspId,
    /// 1 to 3: the rank of the decision that the attempt took; absent without decision or when off the ranking.
    #[serde(default)]
    pub rank_taken: Option<i32>,
    pub approved: bool,
    /// Whether the payment is approved as of this result, this and earlier attempts taken together.
    pub final_approved: bool,
    pub status: Status,
    #[serde(default)]
    pub error_code: Option<String>,
    #[serde(default)]
    pub error_category: Option<String>,
    #[serde(default)]
    pub hard_soft: Option<HardSoft>,
    pub latency_ms: i64,
    /// Absent when the attempt itself never arrived.
    #[serde(default)]
    pub amount_minor: Option<i64>,
    #[serde(default)]
    pub currency: Option<String>,
    #[serde(default)]
    pub fee_minor: Option<i64>,
    /// 1 when approved, else 0: the label of the objective `approval`.
    pub reward: f64,
    /// Whether the windows had counted the attempt as a time-out before its outcome came.
    pub timed_out: bool,
    pub outcome_at: EpochMs,
    /// From the attempt to its outcome; 0 when the attempt never arrived.
    pub delay_ms: i64,
}

/// Pre-aggregated results of one PSP from one payment task: a record of the internal topic `stats.deltas`, keyed by PSP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsDelta {
    pub psp_id: PspId,
    /// Watermark of the sender, for dropping what is too late.
    pub watermark: EpochMs,
    pub tallies: Vec<SegmentTally>,
    /// Payments that went elsewhere because a segment of this PSP was out.
    #[serde(default)]
    pub diverted: Vec<DivertedFrom>,
    /// Orders of operators; they come alone, without counts.
    #[serde(default)]
    pub overrides: Vec<Override>,
    /// The same results one by one, for what features count.
    #[serde(default)]
    pub results: Vec<ToldResult>,
}

/// An attempt's result with what features count it by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldResult {
    /// The outcome's own time, or the deadline of a time-out.
    pub at: EpochMs,
    pub approved: bool,
    /// ln(1 + amount in major units).
    pub amount_log: f64,
    /// Hashes of the payment's properties; 0 where it has none. See `engine::features::Traits`.
    pub traits: Vec<i64>,
}

impl StatsDelta {
    /// Counts, and nothing else.
    pub fn of_tallies(psp_id: PspId, watermark: EpochMs, tallies: Vec<SegmentTally>) -> Self {
        Self { psp_id, watermark, tallies, diverted: Vec::new(), overrides: Vec::new(), results: Vec::new() }
    }
}

/// Payments that went to another PSP because a segment was out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DivertedFrom {
    pub segment: Segment,
    pub to: PspId,
    pub payments: i64,
    /// Minor units, across currencies.
    pub amount_minor: i64,
}

/// What happened in one 10-second tile of one segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentTally {
    pub segment: Segment,
    pub tile_start: EpochMs,
    pub tally: Tally,
}

/// Counts of results: adds up, subtracts exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub attempts: i64,
    pub approvals: i64,
    pub soft_declines: i64,
    pub hard_declines: i64,
    pub timeouts: i64,
    /// Technical errors of the PSP (status ERROR, or a code that the error-code table blames on the PSP).
    pub errors: i64,
    /// Of time-outs and errors, those with a persistent code: evidence for an outage.
    pub persistent: i64,
    /// Sum over the counted attempts; minor units, across currencies (a measure of volume, not money).
    pub amount_minor: i64,
    /// Latency sketch: (bucket, count), sorted by bucket. See `engine::window::latency`.
    pub latency: Vec<LatencyBucket>,
    /// Failure codes with counts, sorted by code, bounded; the rest under `other`.
    pub codes: Vec<CodeCount>,
    /// Attempts, not among `attempts` then, that were still without an outcome when most have one.
    #[serde(default)]
    pub overdue: i64,
    /// Of `attempts`, those that had been overdue before.
    #[serde(default)]
    pub late: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyBucket {
    pub bucket: i32,
    pub count: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeCount {
    /// Cheap to clone: the tiles and sums that count a code share it.
    pub code: Arc<str>,
    pub count: i64,
}

/// What came of payments with something in common (a BIN, an issuer's country, a brand, ...) at one PSP, as published on `stats.profiles`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsProfile {
    /// What is counted: the property, the hash of its value, and that of the PSP.
    pub subject: String,
    pub psp_id: PspId,
    /// Attempts whose result is known.
    pub attempts: i64,
    pub approvals: i64,
    /// The results before this time are counted.
    pub updated_at: EpochMs,
    #[serde(default)]
    pub property: String,
    #[serde(default)]
    pub hash: i64,
    /// Of the newest result.
    #[serde(default)]
    pub last_at: EpochMs,
    /// Counts that halve, as of the beginning of a half-life that is told by number since 1970.
    #[serde(default)]
    pub fast_period: i64,
    #[serde(default)]
    pub fast_approvals: f64,
    #[serde(default)]
    pub fast_results: f64,
    #[serde(default)]
    pub slow_period: i64,
    #[serde(default)]
    pub slow_approvals: f64,
    #[serde(default)]
    pub slow_results: f64,
    /// Results since the last approval.
    #[serde(default)]
    pub failures_in_a_row: i64,
    #[serde(default)]
    pub approved_at: Option<EpochMs>,
    /// Sum of ln(1 + amount in major units) over the results.
    #[serde(default)]
    pub amounts_log: f64,
    /// The last minute that had results, by number since 1970, and how many.
    #[serde(default)]
    pub minute: i64,
    #[serde(default)]
    pub in_minute: i64,
}
