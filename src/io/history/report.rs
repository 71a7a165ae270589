//! What a replay read, counted. Pure: fed with rows, it gives the figures.

use super::{HistoryEvents, HistoryRow};
use crate::domain::payment::Status;
use serde::Serialize;
use std::collections::BTreeMap;

/// The counts of history, with the names that scripts rely on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistoryReport {
    pub attempts: u64,
    pub outcomes: u64,
    pub requests: u64,
    pub rejected: u64,
    pub payments: u64,
    pub approved_attempts: u64,
    pub approved_payments: u64,
    pub by_psp: BTreeMap<String, PspCount>,
    /// Payments by their number of attempts.
    pub chains: BTreeMap<u32, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PspCount {
    pub attempts: u64,
    pub approved: u64,
}

impl HistoryReport {
    pub fn count(&mut self, row: &HistoryRow) {
        match row {
            HistoryRow::Events(events) => self.count_events(events),
            HistoryRow::Reject(_) => self.rejected += 1,
        }
    }

    fn count_events(&mut self, events: &HistoryEvents) {
        let approved = u64::from(events.outcome.as_ref().is_some_and(|outcome| outcome.status == Status::Approved));
        self.attempts += 1;
        self.outcomes += u64::from(events.outcome.is_some());
        self.requests += u64::from(events.request.is_some());
        self.approved_attempts += approved;
        self.approved_payments += u64::from(events.place.is_first_approval);
        let psp_id = events.attempt.psp_id.as_str();
        if !self.by_psp.contains_key(psp_id) {
            self.by_psp.insert(psp_id.to_owned(), PspCount::default());
        }
        if let Some(psp) = self.by_psp.get_mut(psp_id) {
            psp.attempts += 1;
            psp.approved += approved;
        }
        // The payment is one longer than before: it moves from one length to the next.
        let length = events.place.length;
        *self.chains.entry(length).or_default() += 1;
        if length == 1 {
            self.payments += 1;
        } else if let Some(shorter) = self.chains.get_mut(&(length - 1)) {
            *shorter -= 1;
            if *shorter == 0 {
                self.chains.remove(&(length - 1));
            }
        }
    }
}
