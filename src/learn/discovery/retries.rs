//! What attempts after the first are like in history: how many a payment has, where and when they go, and what they bring.

use super::figures::Group;
use crate::domain::EpochMs;
use crate::domain::payment::{HardSoft, PaymentAttempt, PaymentOutcome, Status};
use crate::learn::proportion::Proportion;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetryPatterns {
    /// Payments by their number of attempts.
    pub lengths: BTreeMap<u32, u64>,
    /// Approved, of the first attempts, the second ones, ...
    pub by_number: Vec<Group>,
    /// Approved, of retries: at the same PSP or another, by the wait, by the category and the kind of the decline before (where any is told).
    pub by_psp: Vec<Group>,
    pub by_wait: Vec<Group>,
    pub by_category: Vec<Group>,
    pub by_decline: Vec<Group>,
}

const UNTOLD: &str = "not told";
/// Attempts from this one on count together.
const NUMBER_MAX: u32 = 6;
/// Waits with their ends, milliseconds.
const WAITS: [(i64, &str); 6] = [
    (10_000, "under 10 s"),
    (60_000, "10 s to 1 min"),
    (600_000, "1 to 10 min"),
    (3_600_000, "10 min to 1 h"),
    (86_400_000, "1 h to 1 day"),
    (i64::MAX, "a day and more"),
];

/// The attempt before, of a payment that is not approved.
struct Before {
    psp: String,
    at: EpochMs,
    category: Option<String>,
    hard_soft: Option<HardSoft>,
}

#[derive(Default)]
pub(super) struct Retries {
    open: HashMap<String, Before>,
    lengths: BTreeMap<u32, u64>,
    by_number: BTreeMap<u32, Proportion>,
    by_psp: BTreeMap<bool, Proportion>,
    by_wait: [Proportion; WAITS.len()],
    by_category: BTreeMap<String, Proportion>,
    by_decline: BTreeMap<&'static str, Proportion>,
}

impl Retries {
    pub(super) fn count(&mut self, attempt: &PaymentAttempt, outcome: Option<&PaymentOutcome>, length: u32) {
        *self.lengths.entry(length).or_default() += 1;
        if length > 1
            && let Some(shorter) = self.lengths.get_mut(&(length - 1))
        {
            *shorter = shorter.saturating_sub(1);
        }
        let approved = outcome.is_some_and(|outcome| outcome.status == Status::Approved);
        let result = Proportion::new(u64::from(approved), u64::from(outcome.is_some()));
        self.by_number.entry(length.min(NUMBER_MAX)).or_default().add(result);
        let payment_id = attempt.payment.payment_id.as_str();
        if let Some(before) = self.open.get(payment_id).filter(|_| length > 1) {
            self.by_psp.entry(before.psp == attempt.psp_id.as_str()).or_default().add(result);
            let wait = attempt.attempted_at.saturating_sub(before.at);
            if let Some(place) = WAITS.iter().position(|(end, _)| wait < *end) {
                self.by_wait[place].add(result);
            }
            self.by_category.entry(before.category.clone().unwrap_or_default()).or_default().add(result);
            let decline = match before.hard_soft {
                Some(HardSoft::Hard) => "a hard decline",
                Some(HardSoft::Soft) => "a soft decline",
                None | Some(HardSoft::Unknown) => UNTOLD,
            };
            self.by_decline.entry(decline).or_default().add(result);
        }
        if approved {
            self.open.remove(payment_id);
            return;
        }
        let before = Before {
            psp: attempt.psp_id.as_str().to_owned(),
            at: attempt.attempted_at,
            category: outcome.and_then(|outcome| outcome.error_category.clone()),
            hard_soft: outcome.and_then(|outcome| outcome.hard_soft),
        };
        self.open.insert(payment_id.to_owned(), before);
    }

    pub(super) fn finish(self) -> RetryPatterns {
        let number = |(number, counted): (&u32, &Proportion)| {
            let more = if *number == NUMBER_MAX { " and later ones" } else { "" };
            Group::new(&format!("attempt {number}{more}"), *counted)
        };
        let psp =
            |(same, counted): (bool, Proportion)| Group::new(if same { "the same PSP again" } else { "another PSP" }, counted);
        let category = |(name, counted): (String, Proportion)| Group::new(if name.is_empty() { UNTOLD } else { &name }, counted);
        let is_told = self.by_category.keys().any(|name| !name.is_empty());
        let mut by_category: Vec<Group> = self.by_category.into_iter().filter(|_| is_told).map(category).collect();
        by_category.sort_by(|a, b| b.attempts.cmp(&a.attempts).then_with(|| a.name.cmp(&b.name)));
        let waits = WAITS.iter().zip(self.by_wait).map(|((_, name), counted)| Group::new(name, counted));
        let is_told = self.by_decline.keys().any(|name| *name != UNTOLD);
        let by_decline = self.by_decline.into_iter().filter(|_| is_told);
        RetryPatterns {
            lengths: self.lengths.into_iter().filter(|(_, payments)| *payments > 0).collect(),
            by_number: self.by_number.iter().map(number).collect(),
            by_psp: self.by_psp.into_iter().map(psp).collect(),
            by_wait: waits.filter(|group| group.attempts > 0).collect(),
            by_category,
            by_decline: by_decline.map(|(name, counted)| Group::new(name, counted)).collect(),
        }
    }
}
