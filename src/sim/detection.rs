//! How soon the sequential test sees a fall, and how often it cries wolf: measured on drawn results, beside what theory allows.
//!
//! Each run begins with nothing gathered, the worst case for a delay (the one that Lorden's bound is about). Results are drawn one by
//! one in effect: the successes before each failure as one number, which no test can tell from single results. Or they come as an engine
//! hears of them: counts of one commit, of unknown order, the first of which the fall happens in.

use super::draw::{Draw, Purpose};
use crate::engine::psp::sequential::{Plan, SequentialTest};

/// A share of successes before a fall, and after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fall {
    pub before: f64,
    pub after: f64,
}

/// Numbers of results, over many runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub mean: f64,
    pub median: f64,
    pub p95: f64,
}

impl Fall {
    /// Lorden's bound: no test with this run length has, in its worst case, a lower mean delay when the run length is long.
    pub fn bound(&self, run_length: f64) -> f64 {
        let (was, is) = (1.0 - self.before, 1.0 - self.after);
        run_length.ln() / (is * (is / was).ln() + self.after * (self.after / self.before).ln())
    }

    /// Results from the fall to the alarm.
    pub fn delays(&self, run_length: f64, runs: u64, seed: u64) -> Spread {
        let failing = 1.0 - self.after;
        spread(1.0 - self.before, run_length, (runs, seed), |plan, draw| until_alarm(plan, failing, draw))
    }

    /// The same when results come as counts of `size`: up to the end of the one that raises the alarm.
    pub fn delays_in_deltas(&self, size: u64, run_length: f64, runs: u64, seed: u64) -> Spread {
        spread(1.0 - self.before, run_length, (runs, seed), |plan, draw| self.until_alarm_in_deltas(size, plan, draw))
    }

    fn until_alarm_in_deltas(&self, size: u64, plan: &Plan, draw: &mut Draw) -> i64 {
        let mut test = SequentialTest::default();
        let mut from = -(draw.below(size) as i64);
        loop {
            let to = from + size.max(1) as i64;
            let failures = (from..to).filter(|&at| draw.chance(1.0 - if at < 0 { self.before } else { self.after })).count();
            test.count(plan, (to - from, failures as i64), from);
            if test.finding(plan, 1).alarm {
                return to;
            }
            from = to;
        }
    }
}

/// Results until a false alarm, where `before` is the share of successes and stays it.
pub fn run_lengths(before: f64, run_length: f64, runs: u64, seed: u64) -> Spread {
    let failing = 1.0 - before;
    spread(failing, run_length, (runs, seed), |plan, draw| until_alarm(plan, failing, draw))
}

fn spread(expected: f64, run_length: f64, (runs, seed): (u64, u64), length: impl Fn(&Plan, &mut Draw) -> i64) -> Spread {
    let plan = Plan::new(expected, run_length);
    let drawn = |run| length(&plan, &mut Draw::keyed(seed, Purpose::Detection, expected.to_bits(), run));
    let mut lengths: Vec<i64> = (0..runs.max(1)).map(drawn).collect();
    lengths.sort_unstable();
    let at = |share: f64| lengths[((lengths.len() - 1) as f64 * share) as usize] as f64;
    let mean = lengths.iter().map(|&length| length as f64).sum::<f64>() / lengths.len() as f64;
    Spread { mean, median: at(0.5), p95: at(0.95) }
}

fn until_alarm(plan: &Plan, failing: f64, draw: &mut Draw) -> i64 {
    let mut test = SequentialTest::default();
    let mut results = 0_i64;
    loop {
        let successes = ((1.0 - draw.unit()).ln() / (1.0 - failing).ln()).floor() as i64;
        test.count(plan, (successes, 0), results);
        test.count(plan, (1, 1), results);
        results += successes + 1;
        if test.finding(plan, 1).alarm {
            return results;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN_LENGTH: f64 = 100_000.0;

    #[test]
    fn falls_are_seen_within_the_goals() {
        let check = |before: f64, after: f64, goal: f64| {
            let fall = Fall { before, after };
            let delays = fall.delays(RUN_LENGTH, 400, 7);
            assert!(delays.median <= goal, "{fall:?}: {delays:?}, bound {}", fall.bound(RUN_LENGTH));
            assert!(delays.mean >= fall.bound(RUN_LENGTH) * 0.5, "{fall:?}: {delays:?} is too good to be true");
        };
        check(0.9, 0.8, 320.0);
        check(0.9, 0.5, 30.0);
        check(0.9, 0.05, 8.0);
        check(0.99, 0.95, 400.0);
    }

    #[test]
    fn counts_of_unknown_order_cost_little_more_than_themselves() {
        for (before, after, size) in [(0.9, 0.8, 20), (0.9, 0.5, 20), (0.9, 0.05, 20), (0.9, 0.05, 200), (0.99, 0.95, 200)] {
            let fall = Fall { before, after };
            let (one_by_one, in_deltas) = (fall.delays(RUN_LENGTH, 400, 7), fall.delays_in_deltas(size, RUN_LENGTH, 400, 7));
            // The delta that the fall happens in may be lost, and the alarm comes at the end of one.
            assert!(
                in_deltas.median <= one_by_one.median * 1.1 + size as f64,
                "{fall:?} by {size}: {in_deltas:?}, one by one {one_by_one:?}"
            );
            assert!(
                in_deltas.p95 <= one_by_one.p95 * 1.1 + 2.0 * size as f64,
                "{fall:?} by {size}: {in_deltas:?}, {one_by_one:?}"
            );
        }
    }

    #[test]
    fn false_alarms_are_as_rare_as_stated() {
        // Run lengths are spread like an exponential: the mean of 200 is off by 7 %.
        for before in [0.9, 0.99] {
            let lengths = run_lengths(before, 10_000.0, 200, 7);
            assert!(lengths.mean >= 10_000.0 * 0.85, "{before}: {lengths:?}");
        }
    }
}
