//! Rows that stand for many attempts: so many of a PSP in an hour, so many of them successful.
//!
//! Owns the rule by which they are spread, so that attempts of many rows come in order of time. Attempt i of n is sent in the middle of
//! the i-th of n equal parts of the row's time. Which of them succeed is decided by a hash of the row, so that runs of failures are
//! as long as chance makes them; how many do is what the row says. Never decides what a row is about: that is the mapping's.
//! Memory: the rows whose time has begun.

use super::chains::stable_id;
use super::mapping::CountsRule;
use super::reader::Candidate;
use super::source::Cell;
use crate::domain::EpochMs;
use crate::domain::payment::Status;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A row with more attempts than this is a mistake.
const ATTEMPTS_MAX: u32 = 10_000_000;

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) attempts: u32,
    pub(super) successes: u32,
}

impl Counts {
    /// Reads them from the cells of a row, or tells what is wrong.
    pub(super) fn read(rule: &CountsRule, columns: &[String], cells: &[Cell]) -> Result<Self, String> {
        let count = |index: usize| {
            let text = match cells.get(index) {
                Some(Cell::Text(text)) => text.trim(),
                _ => "",
            };
            let whole = text.parse::<u32>().ok().filter(|count| *count <= ATTEMPTS_MAX);
            whole.ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                format!("counts from column {:?} is {shown:?}: must be a whole number of at most {ATTEMPTS_MAX}", columns[index])
            })
        };
        let (attempts, successes) = (count(rule.attempts)?, count(rule.successes)?);
        if successes > attempts {
            return Err(format!("counts more successes ({successes}) than attempts ({attempts})"));
        }
        Ok(Self { attempts, successes })
    }
}

/// Rows whose attempts are being handed out.
pub(super) struct Spread {
    rule: CountsRule,
    rows: Vec<Option<Row>>,
    /// (time of its next attempt, place in `rows`): the earliest first, of equals the row that came first.
    next: BinaryHeap<Reverse<(EpochMs, usize)>>,
}

struct Row {
    candidate: Candidate,
    begins_at: EpochMs,
    counts: Counts,
    /// Which attempts succeed.
    successful: Vec<bool>,
    given: u32,
}

impl Spread {
    pub(super) fn new(rule: CountsRule) -> Self {
        Self { rule, rows: Vec::new(), next: BinaryHeap::new() }
    }

    /// Takes a row; rows come in the order of their times.
    pub(super) fn take(&mut self, candidate: Candidate, counts: Counts) {
        if self.next.is_empty() {
            self.rows.clear();
        }
        let begins_at = candidate.draft.attempt.attempted_at;
        let row = Row { successful: successful(&candidate, counts), candidate, begins_at, counts, given: 0 };
        if counts.attempts > 0 {
            self.next.push(Reverse((row.next_at(self.rule.over_ms), self.rows.len())));
            self.rows.push(Some(row));
        }
    }

    /// The next attempt before `limit`, as a row of its own.
    pub(super) fn next_before(&mut self, limit: Option<EpochMs>) -> Option<Candidate> {
        let &Reverse((at, place)) = self.next.peek()?;
        if limit.is_some_and(|limit| at >= limit) {
            return None;
        }
        self.next.pop();
        let slot = self.rows.get_mut(place)?;
        let row = slot.as_mut()?;
        let attempt = row.attempt(at, &self.rule);
        row.given += 1;
        if row.given < row.counts.attempts {
            self.next.push(Reverse((row.next_at(self.rule.over_ms), place)));
        } else {
            *slot = None;
        }
        Some(attempt)
    }
}

impl Row {
    fn next_at(&self, over_ms: i64) -> EpochMs {
        let parts = 2 * i128::from(self.counts.attempts);
        let passed = i128::from(over_ms) * (2 * i128::from(self.given) + 1) / parts.max(1);
        self.begins_at.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    fn attempt(&self, at: EpochMs, rule: &CountsRule) -> Candidate {
        let mut candidate = self.candidate.clone();
        let draft = &mut candidate.draft;
        draft.attempt.attempted_at = at;
        draft.has_outcome = true;
        let is_successful = self.successful.get(self.given as usize).copied().unwrap_or_default();
        draft.outcome.status = if is_successful { Status::Approved } else { rule.otherwise };
        candidate.key =
            stable_id("history.counted", &[&candidate.origin.text, &candidate.origin.row.to_string(), &self.given.to_string()]);
        candidate
    }
}

/// As many as the row says, those with the lowest hashes.
fn successful(candidate: &Candidate, counts: Counts) -> Vec<bool> {
    let row = &candidate.origin.text;
    let mut order: Vec<(String, usize)> =
        (0..counts.attempts as usize).map(|place| (stable_id("history.success", &[row, &place.to_string()]), place)).collect();
    order.sort_unstable();
    let mut successful = vec![false; order.len()];
    order.iter().take(counts.successes as usize).for_each(|(_, place)| successful[*place] = true);
    successful
}
