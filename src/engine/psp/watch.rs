//! The sequential tests of one segment: one for each signal, against what `baseline` expects.
//!
//! Owns their state and what of it has changed since it was stored. Never decides which results are evidence: `segment` hands them in.

use super::baseline::{Baseline, SIGNALS, Signal, Surroundings};
use super::sequential::{Finding, Plan, SequentialTest};
use crate::domain::EpochMs;
use crate::domain::learning::Tally;
use crate::engine::settings::{DetectorKind, HealthSettings};

#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// Which tests have gathered anything, and the baseline's bound of what is slow: all that a result that went well asks for, side by side.
    gathers: [bool; SIGNALS.len()],
    slow_above: Option<i32>,
    tests: Tests,
    baseline: Baseline,
    /// None where too little is known to judge by.
    plans: [Option<Plan>; SIGNALS.len()],
    /// Whether tests and baseline differ from what was drained last.
    pub(super) tests_dirty: bool,
    pub(super) baseline_dirty: bool,
}

pub(super) type Tests = [SequentialTest; SIGNALS.len()];

impl Watch {
    pub(super) fn new(now: EpochMs, around: Surroundings<'_>) -> Self {
        let mut watch = Self { baseline: Baseline::new(now), baseline_dirty: true, ..Self::default() };
        watch.expect(now, around);
        watch
    }

    pub(super) fn tests(&self) -> &Tests {
        &self.tests
    }

    pub(super) fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// Whether no test has gathered anything.
    pub(super) fn is_idle(&self) -> bool {
        self.gathers.iter().all(|gathers| !gathers)
    }

    /// Whether there ever was an expectation.
    pub(super) fn is_expecting(&self) -> bool {
        self.baseline != Baseline::default()
    }

    pub(super) fn restore_tests(&mut self, tests: Tests) {
        self.gathers = std::array::from_fn(|at| tests[at] != SequentialTest::default());
        self.tests = tests;
    }

    pub(super) fn restore_baseline(&mut self, baseline: Baseline) {
        self.slow_above = baseline.slow_above();
        self.baseline = baseline;
        self.plan();
    }

    /// Takes a block of results. What went well changes nothing where nothing has gathered: most results end with looking at that.
    pub(super) fn count(&mut self, tally: &Tally, tile_start: EpochMs) {
        for (at, signal) in SIGNALS.into_iter().enumerate() {
            let (n, failures) = signal.counts(tally, self.slow_above);
            if failures <= 0 && !self.gathers[at] {
                continue;
            }
            if let Some(plan) = &self.plans[at] {
                let test = &mut self.tests[at];
                self.tests_dirty |= test.count(plan, (n, failures), tile_start);
                self.gathers[at] = *test != SequentialTest::default();
            }
        }
    }

    pub(super) fn finding(&self, signal: Signal, health: &HealthSettings) -> Option<Finding> {
        let at = signal as usize;
        self.plans[at].as_ref().map(|plan| self.tests[at].finding(plan, health.sequential.failures_min))
    }

    /// What `finding` would tell is neither an alarm nor near to one.
    pub(super) fn is_calm(&self, signal: Signal) -> bool {
        let at = signal as usize;
        !self.gathers[at] || self.plans[at].as_ref().is_none_or(|plan| self.tests[at].is_calm(plan))
    }

    /// Forgets all evidence, not what is expected.
    pub(super) fn forget(&mut self) {
        if !self.is_idle() {
            self.tests = Tests::default();
            self.gathers = Default::default();
            self.tests_dirty = true;
        }
    }

    /// Looks at the quarters that are due: `tile` says what one teaches.
    pub(super) fn learn<'a>(&mut self, now: EpochMs, tile: impl Fn(i64) -> Option<&'a Tally>) {
        for quarter in self.baseline.due(now) {
            self.baseline.look(quarter, tile(quarter));
            self.baseline_dirty = true;
        }
    }

    /// Sets the latency bucket above which an answer is slow.
    pub(super) fn set_slow(&mut self, bucket: i32) {
        self.baseline.set_slow(bucket);
        self.slow_above = self.baseline.slow_above();
    }

    /// The failure rate that is expected; 0 when too little is known.
    pub(super) fn expected(&self, signal: Signal) -> f64 {
        self.baseline.expected[signal as usize].rate
    }

    pub(super) fn expect(&mut self, now: EpochMs, around: Surroundings<'_>) {
        if self.baseline.expect(now, around) {
            self.baseline_dirty = true;
            self.plan();
        }
    }

    fn plan(&mut self) {
        self.plans = self.baseline.expected.map(|it| (it.rate > 0.0).then(|| Plan::new(it.rate, it.run_length)));
    }
}

/// Whether any detector in force needs the tests.
pub(super) fn is_needed(health: &HealthSettings) -> bool {
    health.detectors.iter().any(|kind| *kind != DetectorKind::FailureRate)
}
