//! What the router made of the payments, beside what the static route and an all-knowing oracle would have made of the same
//! ones, with the same luck.

use super::reality::{Fate, Reality};
use super::route::StaticRoute;
use crate::domain::EpochMs;
use crate::domain::payment::Payment;

/// Approvals of the same attempts or payments under three policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub n: u64,
    pub approved: u64,
    pub approved_static: u64,
    pub approved_oracle: u64,
}

impl Comparison {
    pub fn rate(&self) -> f64 {
        self.share(self.approved)
    }

    pub fn rate_static(&self) -> f64 {
        self.share(self.approved_static)
    }

    pub fn rate_oracle(&self) -> f64 {
        self.share(self.approved_oracle)
    }

    /// What has been added since `earlier`: for figures of the last minutes.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            n: self.n - earlier.n,
            approved: self.approved - earlier.approved,
            approved_static: self.approved_static - earlier.approved_static,
            approved_oracle: self.approved_oracle - earlier.approved_oracle,
        }
    }

    /// 0 when there is nothing yet.
    fn share(&self, count: u64) -> f64 {
        if self.n == 0 { 0.0 } else { count as f64 / self.n as f64 }
    }

    fn add(&mut self, approved: bool, by_static: bool, by_oracle: bool) {
        self.n += 1;
        self.approved += u64::from(approved);
        self.approved_static += u64::from(by_static);
        self.approved_oracle += u64::from(by_oracle);
    }
}

/// The ground truth so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Counted when the first attempt's fate is known: as many as have been attempted.
    pub first_attempts: Comparison,
    /// Counted when a payment is over: approved, or given up.
    pub payments: Comparison,
    /// Requests that nobody answered in time: the static route took them.
    pub unanswered: u64,
    /// Requests whose answer named no PSP of this world: not attempted.
    pub unrouted: u64,
}

/// What other policies would have made of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counterfactual {
    by_static: Fate,
    by_oracle: Fate,
}

impl Counterfactual {
    pub(super) fn of(reality: &Reality, route: &dyn StaticRoute, payment: &Payment, at: EpochMs) -> Self {
        let order = route.order(payment);
        let nth = |attempt_number: i32| (attempt_number.unsigned_abs() as usize - 1) % order.len().max(1);
        Self {
            by_static: reality.fate(payment, at, |attempt_number, _| order.get(nth(attempt_number))),
            by_oracle: reality.fate(payment, at, |_, at| reality.oracle(payment, at)),
        }
    }
}

impl Truth {
    pub(super) fn first_attempt(&mut self, approved: bool, other: &Counterfactual) {
        self.first_attempts.add(approved, other.by_static.first_approved, other.by_oracle.first_approved);
    }

    pub(super) fn payment(&mut self, approved: bool, other: &Counterfactual) {
        self.payments.add(approved, other.by_static.approved, other.by_oracle.approved);
    }
}
