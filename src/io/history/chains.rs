//! Which attempts are one payment.
//!
//! Either a column holds the payment's id, or attempts with the same values in some columns, each at most a gap after the one
//! before, up to and including the first approved one, are one payment. Placing only looks; taking remembers: a row that turns
//! out to be unusable in between leaves no trace.
//! Memory: one entry per payment, and one per attempt, of the last gap.

use super::mapping::ChainRule;
use super::source::Cell;
use super::targets::Draft;
use crate::domain::EpochMs;
use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;
use uuid::Uuid;

/// Where in its payment an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPlace {
    /// Attempts of the payment so far, this one included.
    pub length: u32,
    /// Whether this attempt is the payment's first approved one.
    pub is_first_approval: bool,
}

/// A place that is not taken yet.
pub(super) struct Placed {
    key: Arc<str>,
    pub(super) payment_id: Arc<str>,
    pub(super) place: ChainPlace,
    started_at: EpochMs,
    ordinal: u32,
    has_approval: bool,
}

struct Chain {
    payment_id: Arc<str>,
    length: u32,
    started_at: EpochMs,
    last_at: EpochMs,
    /// Tells apart the chains of a key that start at the same time.
    ordinal: u32,
    has_approval: bool,
}

pub(super) struct Chains {
    rule: ChainRule,
    known: HashMap<Arc<str>, Chain>,
    /// Attempts in order of time, for forgetting.
    taken: VecDeque<(EpochMs, Arc<str>)>,
}

impl Chains {
    pub(super) fn new(rule: ChainRule) -> Self {
        Self { rule, known: HashMap::new(), taken: VecDeque::new() }
    }

    /// `key` is what [`key`] made of the row.
    pub(super) fn place(&self, key: &str, draft: &Draft) -> Placed {
        let at = draft.attempt.attempted_at;
        let approved = draft.approved();
        let known = self.known.get_key_value(key);
        let open = known.filter(|(_, chain)| {
            let is_over = self.rule.until_approved && chain.has_approval;
            at.saturating_sub(chain.last_at) <= self.rule.gap_ms && !is_over
        });
        if let Some((key, chain)) = open {
            return Placed {
                key: key.clone(),
                payment_id: chain.payment_id.clone(),
                place: ChainPlace { length: chain.length.saturating_add(1), is_first_approval: approved && !chain.has_approval },
                started_at: chain.started_at,
                ordinal: chain.ordinal,
                has_approval: approved || chain.has_approval,
            };
        }
        let ordinal = known.map_or(0, |(_, before)| if before.started_at == at { before.ordinal.saturating_add(1) } else { 0 });
        let payment_id = if self.rule.same.is_empty() {
            key.to_owned()
        } else {
            stable_id("history.payment", &[key, &draft.attempt.attempt_id, &at.to_string(), &ordinal.to_string()])
        };
        Placed {
            key: known.map_or_else(|| Arc::from(key), |(key, _)| key.clone()),
            payment_id: Arc::from(payment_id),
            place: ChainPlace { length: 1, is_first_approval: approved },
            started_at: at,
            ordinal,
            has_approval: approved,
        }
    }

    /// The attempt is used; `at` is its time. Forgets what no later attempt can belong to.
    pub(super) fn take(&mut self, placed: Placed, at: EpochMs) {
        let Placed { key, payment_id, place, started_at, ordinal, has_approval } = placed;
        self.taken.push_back((at, key.clone()));
        self.known.insert(key, Chain { payment_id, length: place.length, started_at, last_at: at, ordinal, has_approval });
        while let Some((taken_at, key)) = self.taken.front() {
            if at.saturating_sub(*taken_at) <= self.rule.gap_ms {
                break;
            }
            if self.known.get(key).is_some_and(|chain| chain.last_at == *taken_at) {
                self.known.remove(key);
            }
            self.taken.pop_front();
        }
    }
}

/// What the attempts of a payment have in common: its id, or the values of its columns, so written that no two lists collide.
pub(super) fn key(rule: &ChainRule, cells: &[Cell], draft: &Draft) -> String {
    if rule.same.is_empty() {
        return draft.attempt.payment.payment_id.clone();
    }
    let mut key = String::new();
    for cell in rule.same.iter().filter_map(|&column| cells.get(column)) {
        let written = match cell {
            Cell::Empty => write!(key, "-;"),
            Cell::Text(text) => write!(key, "{}:{text};", text.len()),
            Cell::Instant(ms) | Cell::WallClock(ms) => write!(key, "@{ms};"),
        };
        // Writing into a string does not fail.
        let _ = written;
    }
    key
}

/// The same parts give the same id, in every run: UUID version 5 over the parts, with their lengths.
pub(super) fn stable_id(kind: &str, parts: &[&str]) -> String {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, kind.as_bytes());
    let mut name = String::new();
    for part in parts {
        name.push_str(&part.len().to_string());
        name.push(':');
        name.push_str(part);
    }
    Uuid::new_v5(&namespace, name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::payment::Status;
    use crate::io::history::targets::Fill;
    use std::collections::BTreeSet;

    /// Rows `key second status`; expects the place of each as `payment-number/length`, `*` at a first approval.
    fn check(rule: &ChainRule, rows: &str, expect: &str) -> Chains {
        let mut chains = Chains::new(rule.clone());
        let mut payments: Vec<String> = Vec::new();
        let mut got = Vec::new();
        for row in rows.split(',') {
            let parts: Vec<&str> = row.split_whitespace().collect();
            let mut draft = Draft::empty();
            draft.attempt.attempted_at = parts[1].parse::<i64>().expect("seconds") * 1_000;
            draft.has_outcome = true;
            draft.outcome.status = if parts[2] == "ok" { Status::Approved } else { Status::Declined };
            let placed = chains.place(parts[0], &draft);
            let id = placed.payment_id.to_string();
            let number = payments.iter().position(|known| *known == id).unwrap_or_else(|| {
                payments.push(id);
                payments.len() - 1
            });
            got.push(format!("{number}/{}{}", placed.place.length, if placed.place.is_first_approval { "*" } else { "" }));
            chains.take(placed, draft.attempt.attempted_at);
        }
        assert_eq!(got.join(" "), expect, "{rows}");
        chains
    }

    fn by_keys() -> ChainRule {
        ChainRule { same: vec![0], gap_ms: 60_000, until_approved: true }
    }

    #[test]
    fn same_keys_within_the_gap_up_to_an_approval() {
        let rule = by_keys();
        check(&rule, "a 0 no, a 60 no, a 121 no", "0/1 0/2 1/1");
        check(&rule, "a 0 no, a 5 ok, a 6 ok", "0/1 0/2* 1/1*");
        check(&rule, "a 0 no, b 1 no, a 2 no, b 3 ok", "0/1 1/1 0/2 1/2*");
        // Payments of one key that start in the same second differ.
        check(&rule, "a 0 ok, a 0 ok, a 0 no, a 0 no", "0/1* 1/1* 2/1 2/2");
        check(&ChainRule { until_approved: false, ..rule }, "a 0 ok, a 6 ok, a 7 no", "0/1* 0/2 0/3");
    }

    #[test]
    fn a_payment_id_is_the_payment() {
        let rule = ChainRule { same: Vec::new(), gap_ms: 3_600_000, until_approved: false };
        check(&rule, "x 0 no, x 3600 ok, y 3601 ok", "0/1 0/2* 1/1*");
    }

    #[test]
    fn what_is_past_the_gap_is_forgotten() {
        let rows: Vec<String> = (0..1_000).map(|i| format!("k{i} {i} no")).collect();
        let expect: Vec<String> = (0..1_000).map(|i| format!("{i}/1")).collect();
        let chains = check(&by_keys(), &rows.join(","), &expect.join(" "));
        assert_eq!((chains.known.len(), chains.taken.len()), (61, 61));
    }

    #[test]
    fn ids_are_stable_and_depend_on_every_part() {
        assert_eq!(stable_id("k", &["a", "b"]), stable_id("k", &["a", "b"]));
        let ids: BTreeSet<String> =
            [["a", "b"], ["ab", ""], ["", "ab"], ["b", "a"]].iter().map(|parts| stable_id("k", parts)).collect();
        assert_eq!(ids.len(), 4);
    }
}
