//! What a segment is expected to do: how often it fails at this hour, learnt from the results of its good times.
//!
//! Owns, per segment and signal, the failure rate of the last 24 hours and of each hour of the day. Never judges: `detector` compares.
//!
//! # What is learnt
//! Quarters of an hour, from the tiles of the 24-hour ring, each a quarter after it has ended: an outage is seen before it can teach.
//! A quarter teaches only when the segment was UP all through it; after 24 hours in another state it teaches again, because what
//! lasts a day is how things are. Old quarters fade by 1/96 a quarter, so that the rate is that of about a day; an hour of the day fades
//! by half each time that it comes around.
//!
//! # What is expected
//! The rate of the hour, drawn towards that of the day, that towards the PSP's (`ALL`), and that towards a stated prior, each as if by
//! `prior_results` results: a small segment borrows from its parent, a new PSP from the prior. On top come `margin` standard errors of
//! what is known of this hour, so that neither little history nor the first night is a reason for an alarm.
//!
//! Counts are whole 1/1024 results, so that fading is the same on every platform.

use crate::domain::EpochMs;
use crate::domain::learning::Tally;
use crate::engine::settings::SequentialSettings;
use serde::{Deserialize, Serialize};

pub(super) const QUARTER_MS: i64 = 900_000;
const QUARTERS_PER_DAY: i64 = 96;
const UNIT: i64 = 1_024;
/// Quarters without news after which nothing is left of what was learnt: 1/96 of the rest fades each time.
const QUARTERS_KEPT: i64 = 14 * QUARTERS_PER_DAY;

/// A kind of result that may come more often than expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signal {
    /// Persistent technical failures among all results: evidence against the PSP.
    Failures,
    /// Declines among the answers that were no technical failure: mostly the issuers' doing.
    Declines,
    /// Answers that took longer than nearly all used to.
    Slow,
    /// Attempts that are without an outcome when most have one, among all whose fate at that moment is known.
    Silence,
}

/// In the order of the enum: a signal's number is its place in what is kept for each.
pub(super) const SIGNALS: [Signal; 4] = [Signal::Failures, Signal::Declines, Signal::Slow, Signal::Silence];

impl Signal {
    /// (results, failures) of a tally. `slow_above`: the latency bucket above which an answer is slow.
    pub(super) fn counts(self, tally: &Tally, slow_above: Option<i32>) -> (i64, i64) {
        match self {
            Self::Failures => (tally.attempts, tally.persistent),
            Self::Declines => {
                let declines = tally.soft_declines.saturating_add(tally.hard_declines);
                (tally.approvals.saturating_add(declines), declines)
            }
            Self::Slow => slow_above.map_or((0, 0), |bound| {
                tally
                    .latency
                    .iter()
                    .fold((0, 0), |(n, slow), it| (n + it.count, slow + if it.bucket > bound { it.count } else { 0 }))
            }),
            // One that was overdue has been looked at before its result came.
            Self::Silence => (tally.attempts.saturating_sub(tally.late).saturating_add(tally.overdue), tally.overdue),
        }
    }
}

/// What was learnt of one signal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Learnt {
    day: Counts,
    hours: [Counts; 24],
}

/// In units of 1/1024 result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    n: i64,
    failures: i64,
}

/// All that is stored of a segment's expectations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// The newest quarter that has been looked at, whether it taught or not.
    looked_at: i64,
    learnt: [Learnt; SIGNALS.len()],
    /// An answer in a higher latency bucket is slow; none until a day's latencies are known.
    slow_above: Option<i32>,
    /// In force until the next quarter. Stored, so that a restart changes nothing.
    pub(super) expected: [Expected; SIGNALS.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Expected {
    /// Failure rate; 0 when too little is known to judge by.
    pub(super) rate: f64,
    /// Results until a false alarm, on average.
    pub(super) run_length: f64,
}

/// What the expectations of a segment depend on besides its own past.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) settings: &'a SequentialSettings,
    /// The PSP's rates over all its traffic; None for `ALL` itself, and before it is known.
    pub(super) parent: Option<[f64; SIGNALS.len()]>,
    /// Segments of the PSP that are watched.
    pub(super) watched: usize,
    /// Whether it has clearly more traffic than usual.
    pub(super) is_busy: bool,
}

impl Counts {
    fn add(&mut self, (n, failures): (i64, i64)) {
        self.n = self.n.saturating_add(n.saturating_mul(UNIT));
        self.failures = self.failures.saturating_add(failures.saturating_mul(UNIT));
    }

    fn fade(&mut self, part: i64) {
        // Rounded up, or the last units would stay for ever.
        let faded = |count: i64| count - (count + part - 1).div_euclid(part);
        (self.n, self.failures) = (faded(self.n), faded(self.failures));
    }

    fn results(self) -> f64 {
        self.n as f64 / UNIT as f64
    }

    /// The rate, drawn towards `prior` as if by `weight` results.
    fn rate(self, prior: f64, weight: f64) -> f64 {
        let rate = (self.failures as f64 / UNIT as f64 + prior * weight) / (self.results() + weight).max(1.0);
        rate.clamp(0.0, 1.0)
    }
}

impl Learnt {
    fn learn(&mut self, quarter: i64, counts: (i64, i64)) {
        self.day.add(counts);
        self.hours[hour_of(quarter)].add(counts);
    }

    /// The rates of the day and of the hour.
    fn rates(&self, hour: usize, prior: f64, settings: &SequentialSettings) -> (f64, f64) {
        let day = self.day.rate(prior, settings.prior_results);
        (day, self.hours[hour].rate(day, settings.prior_results))
    }
}

impl Baseline {
    pub(super) fn new(now: EpochMs) -> Self {
        // What ended before it began belongs to nobody.
        Self { looked_at: now.div_euclid(QUARTER_MS) - 1, ..Self::default() }
    }

    /// Quarters that are due to be looked at when it is `now`, oldest first. What is longer ago than the ring has faded anyway.
    pub(super) fn due(&self, now: EpochMs) -> std::ops::RangeInclusive<i64> {
        let newest = now.div_euclid(QUARTER_MS) - 2;
        self.looked_at.saturating_add(1).max(newest - QUARTERS_KEPT)..=newest
    }

    /// Looks at one quarter: `tile` is what it teaches, None when it is to teach nothing.
    pub(super) fn look(&mut self, quarter: i64, tile: Option<&Tally>) {
        self.looked_at = quarter;
        let starts_hour = quarter.rem_euclid(4) == 0;
        for (learnt, signal) in self.learnt.iter_mut().zip(SIGNALS) {
            learnt.day.fade(QUARTERS_PER_DAY);
            if starts_hour {
                learnt.hours[hour_of(quarter)].fade(2);
            }
            if let Some(tile) = tile {
                learnt.learn(quarter, signal.counts(tile, self.slow_above));
            }
        }
    }

    /// Sets what is slow. A bucket more or less is no news; more than that makes what was learnt void.
    pub(super) fn set_slow(&mut self, bucket: i32) {
        if self.slow_above.is_none_or(|old| (old - bucket).abs() > 1) {
            self.slow_above = Some(bucket);
            self.learnt[Signal::Slow as usize] = Learnt::default();
        }
    }

    /// The rates over the day, without margin: what parts of this traffic are drawn towards.
    pub(super) fn rates(&self, settings: &SequentialSettings) -> [f64; SIGNALS.len()] {
        let priors = priors(settings);
        std::array::from_fn(|signal| self.learnt[signal].day.rate(priors[signal], settings.prior_results))
    }

    /// Computes what is expected from now on; true when that changed.
    pub(super) fn expect(&mut self, now: EpochMs, around: Surroundings<'_>) -> bool {
        let before = self.expected;
        let settings = around.settings;
        let priors = around.parent.unwrap_or_else(|| priors(settings));
        let hour = hour_of(now.div_euclid(QUARTER_MS));
        self.expected = std::array::from_fn(|signal| {
            let learnt = &self.learnt[signal];
            let results = learnt.day.results();
            let (_, rate) = learnt.rates(hour, priors[signal], settings);
            let known = learnt.hours[hour].results() + settings.prior_results;
            let error = (rate * (1.0 - rate) / known.max(1.0)).sqrt();
            let rate = (rate + settings.margin * error).max(floor(SIGNALS[signal], settings));
            // A technical failure is one whatever is known; what an issuer declines, and how long it takes, is judged against what it used to.
            let known = SIGNALS[signal] == Signal::Failures || results >= settings.results_min;
            let tests = SIGNALS.len() as f64;
            let per_day = tests * around.watched as f64 * results / settings.false_alarms_per_day;
            let closer = if around.is_busy && SIGNALS[signal] == Signal::Slow { settings.busy_run_length } else { 1.0 };
            let run_length = (tests * settings.results_per_false_alarm).max(per_day) * closer;
            Expected { rate: if known { rate.min(1.0) } else { 0.0 }, run_length }
        });
        self.expected != before
    }

    pub(super) fn slow_above(&self) -> Option<i32> {
        self.slow_above
    }
}

fn priors(settings: &SequentialSettings) -> [f64; SIGNALS.len()] {
    [settings.failure_prior, settings.decline_prior, settings.slow_floor, settings.failure_prior]
}

fn floor(signal: Signal, settings: &SequentialSettings) -> f64 {
    match signal {
        Signal::Failures | Signal::Silence => settings.failure_floor,
        Signal::Declines => settings.decline_floor,
        Signal::Slow => settings.slow_floor,
    }
}

fn hour_of(quarter: i64) -> usize {
    quarter.div_euclid(4).rem_euclid(24) as usize
}
