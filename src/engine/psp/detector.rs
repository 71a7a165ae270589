//! What a detector sees in the recent results of a segment, and how bad it finds it.
//!
//! The port is `Detector`; `FailureRate` is the seed rule. A detector reads counts and settings and keeps nothing, so a reading can be
//! repeated from the same tiles.

use crate::domain::learning::Tally;
use crate::engine::settings::HealthSettings;

pub(super) trait Detector {
    fn read(&self, evidence: &Tally, health: &HealthSettings) -> Reading;
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) detector: &'static str,
    /// Results looked at.
    pub(super) n: i64,
    pub(super) failures: i64,
    pub(super) statistic: f64,
    pub(super) degraded_threshold: f64,
    pub(super) down_threshold: f64,
    pub(super) level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Good enough to call off an alarm.
    Calm,
    /// Neither good enough to call off an alarm nor bad enough to raise one.
    Uneasy,
    Degraded,
    Down,
}

/// The seed rule: the share of results that failed technically and with a persistent code. What an issuer declines is no evidence.
pub(super) struct FailureRate;

impl Detector for FailureRate {
    fn read(&self, evidence: &Tally, health: &HealthSettings) -> Reading {
        let (n, failures) = (evidence.attempts, evidence.persistent);
        let rate = if n > 0 { failures as f64 / n as f64 } else { 0.0 };
        // Without a failure there is no alarm, whatever the thresholds say; below the minimum volume a rate says too little.
        let enough = failures > 0 && n >= health.volume_min;
        let level = if enough && rate >= health.down_rate {
            Level::Down
        } else if enough && rate >= health.degraded_rate {
            Level::Degraded
        } else if failures == 0 || rate < health.recovered_rate {
            Level::Calm
        } else {
            Level::Uneasy
        };
        Reading {
            detector: "failure_rate",
            n,
            failures,
            statistic: rate,
            degraded_threshold: health.degraded_rate,
            down_threshold: health.down_rate,
            level,
        }
    }
}
