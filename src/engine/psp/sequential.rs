//! A sequential test: do results fail more often than they are expected to? It answers after each result, at a stated rate of
//! false alarms, as soon as the evidence allows.
//!
//! Owns the arithmetic of one test: a bank of cumulative sums (CUSUM, Page 1954), each for one size of the rise. An arm adds
//! ln(p₁/p₀) for a failure and ln((1 − p₁)/(1 − p₀)) for a success, never falls below zero, and alarms at its threshold. Never knows
//! what a failure is, what is expected, or what an alarm leads to: `baseline` and `machine` do.
//!
//! # Threshold
//! It is computed from the run length that is asked for: the mean number of results until a false alarm. The run length of an arm with
//! threshold h is at least eʰ (Lorden 1971), and for large h it is eʰ / (I v²) with I = KL(p₁‖p₀) and v < 1 (Siegmund 1985), so more than
//! eʰ / I. An arm's h is therefore ln(run length × arms × min(1, I)): the rates of false alarms of the arms add up to at most the one asked
//! for. A test solves the exact run lengths and holds this.
//!
//! # Blocks
//! Results come as counts whose order is unknown: those of one commit of one partition are one block, and blocks are taken as they
//! stand in the log. A block counts with all that it weighs, as if its failures had come first and nobody had looked meanwhile. Of all
//! orders that leaves the lowest sum, so a block alarms only when every order of it would have: false alarms are no more frequent than
//! result by result. What is lost against any order is no more than the successes of one block weigh, those before a rise that began
//! in it: the next block makes up for that. A test holds both.
//!
//! # The way back
//! An alarm that is raised by most results failing is not over only when the smallest rise that is watched for is out of the question: that
//! takes hundreds of results. So a mirrored sum begins with the alarm: is the rate what is expected again, rather than what the alarm told?
//! At ln(run length) it is, and the test begins anew: an alarm is called off by mistake no more often than one is raised by mistake.
//!
//! Sums are whole millionths of a nat: they add up the same in every grouping, and on every platform.

use crate::domain::EpochMs;
use serde::{Deserialize, Serialize};

/// What the arms look for: the share of the results that used to go well and fail now. In a segment where 90 % succeed, falls to
/// 86, 80, 50 and 5 %: a slow decay, a clear loss, a half outage, a whole one.
pub const RISES: [f64; 4] = [0.04, 1.0 / 9.0, 4.0 / 9.0, 17.0 / 18.0];

const MICRO: f64 = 1e6;
/// No expectation is closer to 0 or 1: beyond, a single result would outweigh all others.
const EXPECTED: (f64, f64) = (0.001, 0.9);

/// What a test goes by: computed from what is expected, and never stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    expected: f64,
    arms: [ArmPlan; RISES.len()],
    /// Where an alarm is called off, in millionths of a nat.
    back: i64,
}

/// In millionths of a nat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ArmPlan {
    up: i64,
    down: i64,
    threshold: i64,
}

/// The state of a test: stored, so that a restart forgets no evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequentialTest {
    arms: [Arm; RISES.len()],
    way_back: WayBack,
}

/// The mirrored sum, while there is an alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct WayBack {
    /// The failure rate of the alarm, in millionths; 0 while there is none. What the first results told is soon known better: it follows
    /// them while nothing speaks for a way back.
    rate: i64,
    n: i64,
    failures: i64,
    statistic: i64,
}

/// What an alarm tells of the rate is taken to be at least this much above what is expected, and at most so high.
const TOLD: (f64, f64) = (0.01, 0.995);

/// One sum, and the results since it last was zero: those that speak for a rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Arm {
    statistic: i64,
    n: i64,
    failures: i64,
    since: EpochMs,
}

/// What a test says: what its telling arm holds. That is one that alarms, if any does, else the one that is nearest to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub alarm: bool,
    /// Its sum as a share of its threshold: below one half there is nothing to worry about.
    pub strength: f64,
    /// In nats.
    pub statistic: f64,
    pub threshold: f64,
    /// Its results since they began to speak for a rise, when that was, and how many of them failed.
    pub n: i64,
    pub failures: i64,
    pub since: EpochMs,
    pub rate: f64,
}

impl Plan {
    /// For results of which a share of `expected` fails, and one false alarm in `run_length` results on average.
    pub fn new(expected: f64, run_length: f64) -> Self {
        let expected = expected.clamp(EXPECTED.0, EXPECTED.1);
        let arms = RISES.map(|rise| {
            let risen = expected + rise * (1.0 - expected);
            let (up, down) = ((risen / expected).ln(), ((1.0 - expected) / (1.0 - risen)).ln());
            let information = risen * up - (1.0 - risen) * down;
            let threshold = (run_length.max(1.0) * RISES.len() as f64 * information.min(1.0)).ln();
            // Rounded against an alarm. One failure alone is never enough.
            let up = (up * MICRO).floor() as i64;
            ArmPlan { up, down: (down * MICRO).ceil() as i64, threshold: ((threshold * MICRO).ceil() as i64).max(up + 1) }
        });
        Self { expected, arms, back: (run_length.max(1.0).ln() * MICRO) as i64 }
    }

    pub fn expected(&self) -> f64 {
        self.expected
    }
}

impl SequentialTest {
    /// Takes a block of results that came in the tile of `at`; true when that changed anything.
    pub fn count(&mut self, plan: &Plan, (n, failures): (i64, i64), at: EpochMs) -> bool {
        if n <= 0 {
            return false;
        }
        let failures = failures.clamp(0, n);
        let mut changed = false;
        for (arm, plan) in self.arms.iter_mut().zip(&plan.arms) {
            changed |= arm.count(plan, (n, failures), at);
        }
        if self.way_back.rate == 0 {
            // Of the arms that alarm the last looks for the largest rise.
            let told = self.arms.iter().zip(&plan.arms).rev().find(|(arm, plan)| arm.statistic >= plan.threshold);
            if let Some((arm, _)) = told {
                self.way_back = WayBack { n: arm.n, failures: arm.failures, rate: (arm.rate() * MICRO) as i64, statistic: 0 };
                changed = true;
            }
        } else if self.way_back.count(plan, (n, failures)) || self.is_calm(plan) {
            *self = Self::default();
            changed = true;
        }
        changed
    }

    /// Whether no sum has come to half of its threshold.
    pub fn is_calm(&self, plan: &Plan) -> bool {
        self.arms.iter().zip(&plan.arms).all(|(arm, plan)| arm.statistic < plan.threshold - arm.statistic)
    }

    pub fn finding(&self, plan: &Plan, failures_min: i64) -> Finding {
        let share = |arm: &Arm, plan: &ArmPlan| arm.statistic as f64 / plan.threshold as f64;
        let alarms = |arm: &Arm, plan: &ArmPlan| arm.statistic >= plan.threshold && arm.failures >= failures_min;
        // Of those that alarm the one with the highest rate: it has the shortest memory, and what it holds is what came with the rise.
        let rank = |(arm, plan): &(&Arm, &ArmPlan)| if alarms(arm, plan) { 1.0 + arm.rate() } else { share(arm, plan).min(1.0) };
        let each = self.arms.iter().zip(&plan.arms);
        let (arm, plan) = each.max_by(|a, b| rank(a).total_cmp(&rank(b))).unwrap_or((&self.arms[0], &plan.arms[0]));
        Finding {
            alarm: alarms(arm, plan),
            strength: share(arm, plan),
            statistic: arm.statistic as f64 / MICRO,
            threshold: plan.threshold as f64 / MICRO,
            n: arm.n,
            failures: arm.failures,
            since: arm.since,
            rate: arm.rate(),
        }
    }
}

impl WayBack {
    /// True when it is over.
    fn count(&mut self, plan: &Plan, (n, failures): (i64, i64)) -> bool {
        let expected = plan.expected;
        let told = (self.rate as f64 / MICRO).clamp(expected + TOLD.0, TOLD.1.max(expected + TOLD.0));
        let gain = ((1.0 - expected) / (1.0 - told).max(1.0 / MICRO)).ln() * (n - failures) as f64
            - (told / expected).ln() * failures as f64;
        self.statistic = self.statistic.saturating_add((gain * MICRO) as i64).max(0);
        (self.n, self.failures) = (self.n.saturating_add(n), self.failures.saturating_add(failures));
        if self.statistic == 0 {
            self.rate = (self.failures as f64 / self.n.max(1) as f64 * MICRO) as i64;
        }
        self.statistic >= plan.back
    }
}

impl Arm {
    /// True when that changed it.
    fn count(&mut self, plan: &ArmPlan, (n, failures): (i64, i64), at: EpochMs) -> bool {
        let gain = plan.up.saturating_mul(failures).saturating_sub(plan.down.saturating_mul(n - failures));
        // No higher than its threshold: what comes back after a long outage is seen as fast as after a short one.
        let statistic = self.statistic.saturating_add(gain).min(plan.threshold);
        if statistic <= 0 {
            let fell = self.statistic != 0;
            *self = Self::default();
            return fell;
        }
        let since = if self.statistic == 0 { at } else { self.since };
        *self = Self { statistic, n: self.n.saturating_add(n), failures: self.failures.saturating_add(failures), since };
        true
    }

    fn rate(&self) -> f64 {
        if self.n > 0 { self.failures as f64 / self.n as f64 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The run length of one arm: its sum as a Markov chain on a grid (Brook and Evans 1972). A step down is whole cells; a step up
    /// is split between two cells, so that its mean is exact. One banded system of linear equations, solved by elimination.
    fn exact_run_length(failure_rate: f64, plan: &ArmPlan) -> f64 {
        let [up, down_step, threshold] = [plan.up, plan.down, plan.threshold].map(|step| step as f64);
        let down = (down_step / (threshold / 1_000.0).min(up / 4.0)).ceil() as usize;
        let cell = down_step / down as f64;
        let (whole, part) = ((up / cell).floor() as usize, (up / cell).fract());
        let cells = (threshold / cell).ceil() as usize;
        let width = whole + 1 + down + 1;
        let mut rows = vec![vec![0.0_f64; width]; cells];
        let mut right = vec![1.0_f64; cells];
        for (at, row) in rows.iter_mut().enumerate() {
            row[down] += 1.0;
            row[at.saturating_sub(down) + down - at] -= 1.0 - failure_rate;
            for (step, share) in [(whole, 1.0 - part), (whole + 1, part)] {
                if at + step < cells {
                    row[step + down] -= failure_rate * share;
                }
            }
        }
        for pivot in 0..cells {
            for below in pivot + 1..(pivot + down + 1).min(cells) {
                let shift = below - pivot;
                let factor = rows[below][down - shift] / rows[pivot][down];
                if factor != 0.0 {
                    for column in down..width {
                        let change = factor * rows[pivot][column];
                        if change != 0.0 {
                            rows[below][column - shift] -= change;
                        }
                    }
                    right[below] -= factor * right[pivot];
                }
            }
        }
        for at in (0..cells).rev() {
            let known: f64 =
                (down + 1..width).filter(|c| at + c - down < cells).map(|c| rows[at][c] * right[at + c - down]).sum();
            right[at] = (right[at] - known) / rows[at][down];
        }
        right[0]
    }

    #[test]
    fn no_arm_alarms_more_often_than_stated() {
        for run_length in [10_000.0, 100_000.0] {
            for expected in [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7] {
                let plan = Plan::new(expected, run_length);
                let rates: Vec<f64> = plan.arms.iter().map(|arm| 1.0 / exact_run_length(expected, arm)).collect();
                let together = 1.0 / rates.iter().sum::<f64>();
                assert!(together >= run_length, "{expected}: {together} of {run_length}, arms {rates:?}");
                assert!(
                    together <= run_length * 20.0,
                    "{expected}: {together} is far above {run_length}: slower than it need be"
                );
            }
        }
    }

    /// splitmix64: a number that its seed tells.
    fn draw(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = *seed;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Which of a block's results fail: some in a well time, half later on.
    fn block(number: i64, seed: &mut u64) -> Vec<bool> {
        let percent = if number < 12 { 10 } else { 50 };
        (0..draw(seed) % 40).map(|_| draw(seed) % 100 < percent).collect()
    }

    /// One arm, block by block and result by result.
    #[derive(Default)]
    struct Compared {
        blocks: Arm,
        singles: Arm,
        /// Whether a single result has raised the alarm so far.
        alarmed: bool,
        /// What the successes of a block weighed at most.
        heaviest: i64,
    }

    impl Compared {
        fn count(&mut self, plan: &ArmPlan, results: &[bool], at: i64) {
            let failures = results.iter().filter(|failed| **failed).count() as i64;
            let n = results.len() as i64;
            self.blocks.count(plan, (n, failures), at);
            for failed in results {
                self.singles.count(plan, (1, i64::from(*failed)), at);
                self.alarmed |= self.singles.statistic >= plan.threshold;
            }
            self.heaviest = self.heaviest.max(plan.down * (n - failures));
        }

        fn hold(&self, plan: &ArmPlan, what: &str) {
            let (blocks, singles) = (self.blocks.statistic, self.singles.statistic);
            assert!(self.alarmed || blocks <= singles, "{what}: {blocks} is above {singles}");
            assert!(self.alarmed || blocks < plan.threshold, "{what}: an alarm that this order does not raise");
            assert!(blocks >= singles - self.heaviest, "{what}: {blocks} is more than a block behind {singles}");
        }
    }

    type Order = fn(&mut Vec<bool>);

    /// A rise that begins within a block, in each of three orders.
    #[test]
    fn a_block_is_not_ahead_of_any_order_of_it_nor_more_than_a_block_behind() {
        let plan = Plan::new(0.1, 10_000.0);
        let orders: [(&str, Order); 3] = [
            ("as drawn", |_| ()),
            ("failures first", |results| results.sort_by_key(|failed| !failed)),
            ("failures last", |results| results.sort_unstable()),
        ];
        let mut alarms = 0;
        for (seed, arm, (name, order)) in
            (0..200).flat_map(|seed| plan.arms.iter().flat_map(move |arm| orders.map(|order| (seed, arm, order))))
        {
            let (mut drawn, mut compared) = (seed, Compared::default());
            for number in 0..24 {
                let mut results = block(number, &mut drawn);
                order(&mut results);
                compared.count(arm, &results, number);
                compared.hold(arm, &format!("seed {seed}, {arm:?}, {name}, block {number}"));
            }
            alarms += i64::from(compared.blocks.statistic >= arm.threshold);
        }
        assert!(alarms > 1_000, "{alarms} alarms of 2,400 rises: most are to be seen");
    }

    /// Results from the end of a rise, of which a share of `told` failed, until the test is calm again; of these `after` fail.
    fn until_calm(told: f64, after: f64, seed: u64) -> i64 {
        let plan = Plan::new(0.15, 100_000.0);
        let (mut test, mut drawn) = (SequentialTest::default(), seed);
        let mut fails = |rate: f64| i64::from((draw(&mut drawn) >> 11) as f64 / (1_u64 << 53) as f64 <= rate);
        for at in 0..2_000 {
            test.count(&plan, (1, fails(told)), at);
        }
        assert!(!test.is_calm(&plan), "{told}: a rise that lasts is not called off");
        (1..100_000).find(|&n| test.count(&plan, (1, fails(after)), n) && test.is_calm(&plan)).unwrap_or(i64::MAX)
    }

    #[test]
    fn what_is_over_is_called_off_as_soon_as_it_shows() {
        let median = |told: f64| {
            let mut results: Vec<i64> = (0..41).map(|seed| until_calm(told, 0.15, seed)).collect();
            results.sort_unstable();
            results[20]
        };
        let (most, half, few) = (median(0.95), median(0.55), median(0.3));
        assert!(most <= 8 && half <= 40 && few <= 250, "{most}, {half}, {few}");
        // What goes on is called off once in a while only, to be seen again.
        let lasting: Vec<i64> = (0..41).map(|seed| until_calm(0.55, 0.55, seed)).collect();
        assert!(lasting.iter().filter(|results| **results > 10_000).count() > 35, "{lasting:?}");
    }

    #[test]
    fn blocks_of_nothing_and_of_everything() {
        let plan = Plan::new(0.1, 10_000.0);
        let mut test = SequentialTest::default();
        assert!(!test.count(&plan, (0, 0), 7) && test == SequentialTest::default(), "nothing is no evidence");
        assert!(!test.count(&plan, (-3, 5), 7), "nor is what cannot be");
        // A whole backlog at once, larger than any sum.
        test.count(&plan, (i64::MAX, i64::MAX), 7);
        assert!(test.finding(&plan, 5).alarm);
        test.count(&plan, (i64::MAX, 0), 8);
        assert_eq!(test, SequentialTest::default());
    }
}
