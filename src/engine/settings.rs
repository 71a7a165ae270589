//! What configuration says to the engine: thresholds, merchants, PSPs, rules. Plain values, passed as arguments, never global.
//!
//! The defaults and what moving each value does are documented in `src/config/default.toml`. `config` refuses what no single type
//! can: values out of range, references to PSPs that do not exist.

use super::segments::Cut;
use crate::domain::PspId;
use crate::domain::payment::{CardType, HardSoft, Initiator, InstallmentKind};
use serde::{Deserialize, Serialize};

/// All that `observe`, `merge` and `decide` read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub engine: EngineSettings,
    pub health: HealthSettings,
    pub policy: PolicySettings,
    pub retry: RetrySettings,
    #[serde(default)]
    pub merchants: Vec<Merchant>,
    #[serde(default)]
    pub psps: Vec<Psp>,
    #[serde(default)]
    pub hard_rules: Vec<HardRule>,
    #[serde(default)]
    pub rules: Vec<StaticRule>,
    #[serde(default)]
    pub error_codes: Vec<ErrorCode>,
}

/// Time and joins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// An attempt without outcome counts as a time-out this long after it was sent, unless it names a deadline itself.
    pub attempt_deadline_ms: i64,
    /// An attempt that is without outcome this long after it was sent is overdue: evidence of silence. 0: never.
    pub attempt_overdue_ms: i64,
    /// The watermark trails the highest event time by this much.
    pub lateness_ms: i64,
    /// Event times further than this ahead of the record's own timestamp are clamped to it and counted.
    pub future_tolerance_ms: i64,
    /// An outcome waits this long for its attempt, then counts without it.
    pub orphan_wait_ms: i64,
    /// An attempt waits this long for its real outcome (counted as a time-out meanwhile), then feedback says TIMEOUT.
    pub outcome_wait_ms: i64,
    /// A payment without news is forgotten after this long; duplicates are recognised until then.
    pub payment_retention_ms: i64,
    /// A customer without news is forgotten after this long.
    pub customer_retention_ms: i64,
    /// Attempts, requests and waiting outcomes that are remembered per payment; the oldest go first.
    pub payment_entries_max: usize,
    /// Which segments have windows of their own besides `ALL`.
    pub segments: Vec<Cut>,
    /// Results of a PSP in 24 hours from which its pairs are segments of their own.
    pub pair_results_min: i64,
    /// Segments per PSP that are kept; further ones are counted in `ALL` only.
    pub segments_per_psp_max: usize,
    /// PSPs with windows in one partition of `stats.deltas`; those of the configuration have them whatever this says.
    pub psps_max: usize,
}

/// What may call a segment degraded or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DetectorKind {
    /// The seed rule: technical failure rate over a sliding window, with a minimum volume.
    FailureRate,
    /// Sequential test of technical failures against the segment's own past.
    Failures,
    /// The same of declines: may degrade, and take down only when configured.
    Declines,
    /// The same of slow answers: likewise.
    Latency,
    /// The same of attempts that are without an outcome when most have one: seen before their deadline.
    Silence,
}

impl DetectorKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailureRate => "FAILURE_RATE",
            Self::Failures => "FAILURES",
            Self::Declines => "DECLINES",
            Self::Latency => "LATENCY",
            Self::Silence => "SILENCE",
        }
    }
}

/// When a segment of a PSP is degraded, down, and up again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthSettings {
    /// Which detectors are in force; any of them may raise an alarm, all have to be calm to call one off.
    pub detectors: Vec<DetectorKind>,
    /// Length of the sliding window, a multiple of 10 s, 5 to 15 minutes.
    pub window_ms: i64,
    /// Results in the window below which the rule is silent.
    pub volume_min: i64,
    /// Technical failure rate (time-outs and persistent errors / results) from which a segment is DEGRADED.
    pub degraded_rate: f64,
    /// ... from which it is DOWN.
    pub down_rate: f64,
    /// A DEGRADED segment is UP again below this rate: lower than `degraded_rate`, so that it does not flap.
    pub recovered_rate: f64,
    /// A segment stays DEGRADED at least this long before it may be UP again.
    pub dwell_ms: i64,
    /// A DOWN segment is tried again (RECOVERING) after this long, and this long after its last failure.
    pub hold_ms: i64,
    /// The hold doubles with each relapse, up to this.
    pub hold_ms_max: i64,
    /// An alarm this soon after a recovery counts as a relapse.
    pub relapse_ms: i64,
    /// Share of eligible payments that a RECOVERING segment gets as samples.
    pub sample_rate: f64,
    /// Results without technical failure in a row that end the sampling, and each step of the ramp.
    pub wins_to_restore: i64,
    /// Shares of its normal traffic that a segment gets step by step between sampling and UP.
    pub ramp: Vec<f64>,
    /// `psp.states` of a segment whose windows changed is published at most this often; transitions at once.
    pub publish_interval_ms: i64,
    pub sequential: SequentialSettings,
}

/// The sequential tests: how rare false alarms are to be, and what is expected of a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequentialSettings {
    /// Results of a segment between two false alarms, on average, at least.
    pub results_per_false_alarm: f64,
    /// False alarms a day, on average, at most: of one PSP, all its segments taken together.
    pub false_alarms_per_day: f64,
    /// Failures below which no test alarms.
    pub failures_min: i64,
    /// Failure rates that are assumed of a PSP before anything is known of it.
    pub failure_prior: f64,
    pub decline_prior: f64,
    /// Results that an assumption counts as, and that the PSP's own rate counts as for its segments.
    pub prior_results: f64,
    /// Results of a day below which declines and slow answers are not judged.
    pub results_min: f64,
    /// Standard errors that are put on top of what is expected.
    pub margin: f64,
    /// No less is ever expected.
    pub failure_floor: f64,
    pub decline_floor: f64,
    pub slow_floor: f64,
    /// An answer is slow when it takes longer than this many times what 95 % of the day's answers took at most.
    pub slow_factor: f64,
    /// A PSP with this many times the traffic of its day has inherited some: slow answers there are watched closer.
    pub busy_factor: f64,
    /// By what the run length of that test is multiplied then.
    pub busy_run_length: f64,
    pub declines_take_down: bool,
    pub slow_takes_down: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySettings {
    pub ranking: Ranking,
    /// Approval rate that is assumed before anything is known.
    pub prior_rate: f64,
    /// Results that the prior (and each wider window, for the narrower one) counts as: shrinkage for small counts.
    pub prior_weight: f64,
    /// Standard errors by which a rate has to be higher than that of the static order's first PSP to go before it.
    pub better_by_errors: f64,
    /// Results in 24 h, over all candidates, below which windowed rates say nothing and the static rules rank.
    pub results_min: i64,
    /// Mixed into the hash that splits traffic: change it to redraw all splits.
    pub salt: String,
    /// While another PSP is out, no PSP is put first for more than this share of the payments, or than its own share of the day.
    pub inherited_share_max: f64,
    pub samples: SampleSettings,
    /// What fees count for when a model ranks: 0 the likeliest goes first, 1 the order is by expected value.
    pub value_weight: f64,
    /// Share of the first attempts for which a PSP that is not the best goes first, so that it stays known.
    pub explore_share: f64,
    /// A model that has not answered by then is not waited for.
    pub score_deadline_ms: i64,
}

/// Which payments try a PSP that may be well again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleSettings {
    /// Samples a minute of one PSP at most, on average.
    pub per_minute_max: f64,
    /// Samples are at most these amounts while `low_value_ms` lasts; a currency that is not listed is sampled whatever the amount.
    pub amounts_max: Vec<AmountMax>,
    /// From the beginning of the probation.
    pub low_value_ms: i64,
    /// Whether a payment that was declined before may be a sample.
    pub declined_before: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmountMax {
    pub currency: String,
    pub amount_minor: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// The model in use; without one, or when it is late, windowed rates.
    Model,
    WindowedRate,
    StaticRule,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrySettings {
    /// Attempts on one payment, the first included, after which no retry is advised.
    pub attempts_max: i32,
    /// Earliest retry after a soft decline, unless the error code says otherwise.
    pub soft_wait_ms: i64,
    /// Earliest retry after a time-out or technical error; on another PSP.
    pub technical_wait_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merchant {
    pub id: String,
    #[serde(default)]
    pub name: String,
    pub currencies: Vec<String>,
    /// PSPs the merchant has a contract with, in order of preference: the last resort of ranking.
    pub psps: Vec<PspId>,
    /// What an approved payment earns, as a share of its amount: expected values need it.
    #[serde(default)]
    pub margin: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Psp {
    pub id: PspId,
    /// The id that other systems use.
    #[serde(default)]
    pub external_id: Option<i64>,
    #[serde(default)]
    pub name: String,
    /// Upper-case brands; empty: all.
    #[serde(default)]
    pub brands: Vec<String>,
    /// Empty: all.
    #[serde(default)]
    pub currencies: Vec<String>,
    /// Empty: all.
    #[serde(default)]
    pub methods: Vec<String>,
    #[serde(default)]
    pub fees: Vec<Fee>,
}

/// What an attempt costs at a PSP, by currency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fee {
    pub currency: String,
    pub success_minor: i64,
    pub failure_minor: i64,
}

/// Sends what it matches to one PSP, before and above everything else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardRule {
    pub id: String,
    pub when: Conditions,
    pub psp: PspId,
}

/// A merchant's routing rule. The matching rule with the highest priority decides; ties by id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticRule {
    pub id: String,
    #[serde(default)]
    pub priority: i32,
    /// Evaluated and reported, without effect.
    #[serde(default)]
    pub shadow: bool,
    #[serde(default)]
    pub when: Conditions,
    /// Ordered PSPs; exactly one of `psps` and `split` is given.
    #[serde(default)]
    pub psps: Vec<PspId>,
    /// Weighted choice of the first PSP, by a hash of the payment; the others follow by weight.
    #[serde(default)]
    pub split: Vec<Split>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    pub psp: PspId,
    pub weight: u32,
}

/// All that are given must hold; a list holds when it contains the payment's value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    pub merchants: Option<Vec<String>>,
    pub brands: Option<Vec<String>>,
    pub card_types: Option<Vec<CardType>>,
    /// Inclusive ranges of BINs, compared digit by digit on the shorter of both lengths.
    pub bin_ranges: Option<Vec<BinRange>>,
    pub currencies: Option<Vec<String>>,
    pub issuer_countries: Option<Vec<String>>,
    pub methods: Option<Vec<String>>,
    pub sub_methods: Option<Vec<String>>,
    pub initiators: Option<Vec<Initiator>>,
    pub installment_kinds: Option<Vec<InstallmentKind>>,
    /// Inclusive; compare only within a currency: give `currencies` too.
    pub amount_minor_min: Option<i64>,
    pub amount_minor_max: Option<i64>,
    pub three_ds: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinRange {
    pub from: String,
    pub to: String,
}

/// What an error code of a PSP (or, without `psp`, of any) means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorCode {
    pub code: String,
    #[serde(default)]
    pub psp: Option<PspId>,
    pub category: String,
    pub blame: Blame,
    /// Evidence for an outage when repeated: the next payment is likely to meet it too.
    #[serde(default)]
    pub persistent: bool,
    #[serde(default)]
    pub hard_soft: Option<HardSoft>,
    /// Earliest retry after this code.
    #[serde(default)]
    pub retry_after_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    Issuer,
    Psp,
    Network,
    Merchant,
    Cardholder,
}
