//! What the detectors see in the results of a segment, and how bad they find it.
//!
//! The port is `read`: what a segment's windows and tests hold becomes a `Reading`. A detector keeps nothing here, so a reading can be
//! repeated from the same state; what the sequential tests remember is `watch`'s.

use super::attribution;
use super::baseline::Signal;
use super::watch::Watch;
use crate::domain::EpochMs;
use crate::domain::learning::Tally;
use crate::engine::settings::{DetectorKind, HealthSettings};
use DetectorKind::{Declines, FailureRate, Failures, Latency, Silence};

/// All that a detector may look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight<'a> {
    /// The results of the sliding window.
    pub(super) recent: &'a Tally,
    pub(super) day: &'a Tally,
    pub(super) watch: &'a Watch,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) detector: &'static str,
    pub(super) signal: Signal,
    /// Results looked at.
    pub(super) n: i64,
    pub(super) failures: i64,
    pub(super) statistic: f64,
    pub(super) degraded_threshold: f64,
    pub(super) down_threshold: f64,
    /// What the detector expects of the statistic.
    pub(super) baseline: f64,
    /// When the evidence began, where the detector knows.
    pub(super) since: Option<EpochMs>,
    pub(super) level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Good enough to call off an alarm.
    Calm,
    /// Neither good enough to call off an alarm nor bad enough to raise one.
    Uneasy,
    Degraded,
    Down,
}

/// Its statistic is a rate, and its thresholds are rates.
const SEED_RULE: &str = "failure_rate";

impl Reading {
    /// Whether the seed rule says so.
    pub(super) fn is_of_seed_rule(&self) -> bool {
        self.detector == SEED_RULE
    }

    /// What it says of another part of the traffic, which saw the same: None where the seed rule would say nothing like it there.
    pub(super) fn of_part(&self, n: i64, failures: i64, health: &HealthSettings) -> Option<Self> {
        let rate = share(failures, n);
        let (by_rule, down) = (self.is_of_seed_rule(), self.level == Level::Down && rate >= health.down_rate);
        if by_rule && rate < attribution::ABOUT * health.degraded_rate {
            return None;
        }
        let statistic = if by_rule { rate } else { self.statistic };
        Some(Self { n, failures, statistic, level: if down { Level::Down } else { Level::Degraded }, ..self.clone() })
    }

    /// How near it is to an alarm.
    pub(super) fn strength(&self) -> f64 {
        self.statistic / self.degraded_threshold.max(f64::MIN_POSITIVE)
    }
}

/// How bad the detectors in force find it: the level of what `read` tells, for less work. It is asked for with every delta.
pub(super) fn level(sight: Sight<'_>, health: &HealthSettings) -> Level {
    let level = |&kind: &DetectorKind| match tested(kind) {
        None => failure_level(sight.recent, health),
        Some((signal, _)) if sight.watch.is_calm(signal) => Level::Calm,
        Some(_) => sequential(kind, sight, health).map_or(Level::Calm, |reading| reading.level),
    };
    health.detectors.iter().map(level).max().unwrap_or(Level::Calm)
}

/// The worst of what the detectors in force read; of those as bad, the one that is nearest to its next alarm.
pub(super) fn read(sight: Sight<'_>, health: &HealthSettings) -> Reading {
    let mut worst = failure_rate(sight, health);
    if !health.detectors.contains(&FailureRate) {
        worst.level = Level::Calm;
    }
    for &kind in &health.detectors {
        let Some(reading) = sequential(kind, sight, health) else { continue };
        if (reading.level, reading.strength()) > (worst.level, worst.strength()) {
            worst = reading;
        }
    }
    worst
}

/// The seed rule: the share of results that failed technically and with a persistent code. What an issuer declines is no evidence.
fn failure_rate(sight: Sight<'_>, health: &HealthSettings) -> Reading {
    let (n, failures) = (sight.recent.attempts, sight.recent.persistent);
    Reading {
        detector: SEED_RULE,
        signal: Signal::Failures,
        n,
        failures,
        statistic: share(failures, n),
        degraded_threshold: health.degraded_rate,
        down_threshold: health.down_rate,
        baseline: share(sight.day.persistent, sight.day.attempts),
        since: None,
        level: failure_level(sight.recent, health),
    }
}

fn failure_level(recent: &Tally, health: &HealthSettings) -> Level {
    let (n, failures) = (recent.attempts, recent.persistent);
    let rate = share(failures, n);
    // Without a failure there is no alarm, whatever the thresholds say; below the minimum volume a rate says too little.
    let enough = failures > 0 && n >= health.volume_min;
    if enough && rate >= health.down_rate {
        Level::Down
    } else if enough && rate >= health.degraded_rate {
        Level::Degraded
    } else if failures == 0 || rate < health.recovered_rate {
        Level::Calm
    } else {
        Level::Uneasy
    }
}

/// What a sequential test looks at, and its name.
fn tested(kind: DetectorKind) -> Option<(Signal, &'static str)> {
    match kind {
        FailureRate => None,
        Failures => Some((Signal::Failures, "failures")),
        Declines => Some((Signal::Declines, "declines")),
        Latency => Some((Signal::Slow, "latency")),
        Silence => Some((Signal::Silence, "silence")),
    }
}

/// A sequential test says that something changed; how much since says whether that is degraded or down. It is called off when its sums have
/// fallen to half of what raised the alarm.
fn sequential(kind: DetectorKind, sight: Sight<'_>, health: &HealthSettings) -> Option<Reading> {
    let (signal, detector) = tested(kind)?;
    let may_take_down = match signal {
        Signal::Failures | Signal::Silence => true,
        Signal::Declines => health.sequential.declines_take_down,
        Signal::Slow => health.sequential.slow_takes_down,
    };
    let finding = sight.watch.finding(signal, health)?;
    let level = match finding.strength {
        _ if finding.alarm && may_take_down && finding.rate >= health.down_rate => Level::Down,
        _ if finding.alarm => Level::Degraded,
        strength if strength < 0.5 => Level::Calm,
        _ => Level::Uneasy,
    };
    Some(Reading {
        detector,
        signal,
        n: finding.n,
        failures: finding.failures,
        statistic: finding.statistic,
        degraded_threshold: finding.threshold,
        down_threshold: finding.threshold,
        // A sum that hovers around zero: what is expected is in its steps.
        baseline: 0.0,
        since: finding.alarm.then_some(finding.since),
        level,
    })
}

pub(super) fn share(part: i64, whole: i64) -> f64 {
    if whole > 0 { part as f64 / whole as f64 } else { 0.0 }
}
