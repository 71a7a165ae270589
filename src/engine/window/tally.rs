//! Arithmetic of tallies: what one result counts as, sums, exact differences, and the bound on failure codes.

use super::latency;
use crate::domain::learning::{CodeCount, LatencyBucket, Tally};
use crate::engine::codes::Verdict;
use std::sync::Arc;

/// Distinct failure codes that a tile keeps besides [`OTHER_CODE`].
pub const CODES_MAX: usize = 8;
/// Counts the failures whose code is not kept.
pub const OTHER_CODE: &str = "other";

impl Tally {
    /// Counts one result. `code` is kept only where the failure is evidence for an outage: an issuer's decline codes would crowd
    /// out the codes that explain one. A time-out has no latency of its own to add.
    pub fn count(&mut self, verdict: Verdict, latency_ms: Option<i64>, amount_minor: i64, code: Option<&str>) {
        self.attempts += 1;
        self.amount_minor = self.amount_minor.wrapping_add(amount_minor);
        let persistent = match verdict {
            Verdict::Approved => {
                self.approvals += 1;
                false
            }
            Verdict::SoftDecline => {
                self.soft_declines += 1;
                false
            }
            Verdict::HardDecline => {
                self.hard_declines += 1;
                false
            }
            Verdict::Timeout { persistent } => {
                self.timeouts += 1;
                persistent
            }
            Verdict::TechnicalError { persistent } => {
                self.errors += 1;
                persistent
            }
        };
        if let Some(latency_ms) = latency_ms {
            self.adjust_latency(latency::bucket_of(latency_ms), 1);
        }
        if persistent {
            self.persistent += 1;
            if let Some(code) = code {
                self.adjust_code(code, 1);
                self.bound_codes();
            }
        }
    }

    /// Adds all counts, latencies and codes; the codes of the sum are not bounded (see [`Tally::bound_codes`]).
    pub fn add(&mut self, other: &Self) {
        self.add_counts(other);
        other.latency.iter().for_each(|entry| self.adjust_latency(entry.bucket, entry.count));
        self.add_codes(other);
    }

    /// Undoes [`Tally::add`] to the bit: entries that reach zero disappear.
    pub fn subtract(&mut self, other: &Self) {
        self.subtract_counts(other);
        other.latency.iter().for_each(|entry| self.adjust_latency(entry.bucket, -entry.count));
        self.subtract_codes(other);
    }

    pub fn is_empty(&self) -> bool {
        self.counts() == [0; 10] && self.latency.is_empty() && self.codes.is_empty()
    }

    /// Folds all but the [`CODES_MAX`] first codes in alphabetical order into [`OTHER_CODE`].
    /// Alphabetical, because the smallest codes of a whole are among the smallest of each part: whatever the order and grouping in
    /// which tallies are added and bounded, the result is the same.
    pub fn bound_codes(&mut self) {
        let kept = self.codes.iter().filter(|entry| &*entry.code != OTHER_CODE).count();
        let mut folded = 0;
        for _ in CODES_MAX..kept {
            let Some(last) = self.codes.iter().rposition(|entry| &*entry.code != OTHER_CODE) else { break };
            folded += self.codes.remove(last).count;
        }
        if folded != 0 {
            self.adjust_code(OTHER_CODE, folded);
        }
    }

    pub(super) fn add_counts(&mut self, other: &Self) {
        // Wrapping addition stays exactly invertible where absurd amounts would overflow.
        self.counts_mut().into_iter().zip(other.counts()).for_each(|(mine, theirs)| *mine = mine.wrapping_add(theirs));
    }

    pub(super) fn subtract_counts(&mut self, other: &Self) {
        self.counts_mut().into_iter().zip(other.counts()).for_each(|(mine, theirs)| *mine = mine.wrapping_sub(theirs));
    }

    pub(super) fn add_codes(&mut self, other: &Self) {
        other.codes.iter().for_each(|entry| self.adjust_code(entry.code.clone(), entry.count));
    }

    pub(super) fn subtract_codes(&mut self, other: &Self) {
        other.codes.iter().for_each(|entry| self.adjust_code(entry.code.clone(), -entry.count));
    }

    pub(super) fn adjust_latency(&mut self, bucket: i32, by: i64) {
        match self.latency.binary_search_by_key(&bucket, |entry| entry.bucket) {
            Ok(position) => {
                self.latency[position].count += by;
                if self.latency[position].count == 0 {
                    self.latency.remove(position);
                }
            }
            Err(position) => self.latency.insert(position, LatencyBucket { bucket, count: by }),
        }
    }

    /// Back to nothing, with room for as much as before.
    pub(super) fn clear(&mut self) {
        self.counts_mut().into_iter().for_each(|count| *count = 0);
        self.latency.clear();
        self.codes.clear();
    }

    fn adjust_code(&mut self, code: impl AsRef<str> + Into<Arc<str>>, by: i64) {
        match self.codes.binary_search_by(|entry| (*entry.code).cmp(code.as_ref())) {
            Ok(position) => {
                self.codes[position].count += by;
                if self.codes[position].count == 0 {
                    self.codes.remove(position);
                }
            }
            Err(position) => self.codes.insert(position, CodeCount { code: code.into(), count: by }),
        }
    }

    fn counts(&self) -> [i64; 10] {
        let Self { attempts, approvals, soft_declines, hard_declines, timeouts, errors, persistent, .. } = *self;
        let Self { amount_minor, overdue, late, .. } = *self;
        [attempts, approvals, soft_declines, hard_declines, timeouts, errors, persistent, amount_minor, overdue, late]
    }

    fn counts_mut(&mut self) -> [&mut i64; 10] {
        let Self {
            attempts,
            approvals,
            soft_declines,
            hard_declines,
            timeouts,
            errors,
            persistent,
            amount_minor,
            overdue,
            late,
            ..
        } = self;
        [attempts, approvals, soft_declines, hard_declines, timeouts, errors, persistent, amount_minor, overdue, late]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(codes: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for code in codes {
            tally.count(Verdict::TechnicalError { persistent: true }, Some(40), 100, Some(code));
        }
        tally
    }

    #[test]
    fn each_verdict_counts_once() {
        let check = |verdict, expected: [i64; 6]| {
            let mut tally = Tally::default();
            tally.count(verdict, Some(15), 500, Some("05"));
            let Tally { approvals, soft_declines, hard_declines, timeouts, errors, persistent, .. } = tally;
            assert_eq!([approvals, soft_declines, hard_declines, timeouts, errors, persistent], expected, "{verdict:?}");
            assert_eq!((tally.attempts, tally.amount_minor, tally.codes.len() as i64), (1, 500, persistent), "{verdict:?}");
        };
        check(Verdict::Approved, [1, 0, 0, 0, 0, 0]);
        check(Verdict::SoftDecline, [0, 1, 0, 0, 0, 0]);
        check(Verdict::HardDecline, [0, 0, 1, 0, 0, 0]);
        check(Verdict::Timeout { persistent: true }, [0, 0, 0, 1, 0, 1]);
        check(Verdict::Timeout { persistent: false }, [0, 0, 0, 1, 0, 0]);
        check(Verdict::TechnicalError { persistent: true }, [0, 0, 0, 0, 1, 1]);
        check(Verdict::TechnicalError { persistent: false }, [0, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn subtract_undoes_add() {
        let (mut sum, other) = (failures(&["91", "96", "91"]), failures(&["96", "A", "B"]));
        let before = sum.clone();
        sum.add(&other);
        assert_eq!(sum.attempts, 6);
        sum.subtract(&other);
        assert_eq!(sum, before);
        sum.subtract(&before);
        assert!(sum.is_empty(), "{sum:?}");
    }

    #[test]
    fn codes_are_bounded_alike_in_every_order_and_grouping() {
        let codes = ["z", "other", "a", "m", "q", "b", "z", "c", "d", "e", "y", "f", "g", "a"];
        let forwards = failures(&codes);
        let mut reversed = codes;
        reversed.reverse();
        assert_eq!(failures(&reversed), forwards);
        for split in 0..codes.len() {
            let mut sum = failures(&codes[split..]);
            sum.add(&failures(&codes[..split]));
            sum.bound_codes();
            assert_eq!(sum, forwards, "split at {split}");
        }
        let names: Vec<&str> = forwards.codes.iter().map(|entry| &*entry.code).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g", "m", "other"]);
        assert_eq!(forwards.codes.iter().map(|entry| entry.count).sum::<i64>(), codes.len() as i64);
    }
}
