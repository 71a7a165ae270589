//! What one request, and one PSP that could take it, can be told of: payment and history, looked up once.
//!
//! Owns the look-ups. Allocates nothing, and changes nothing: history is read as it stands.

use super::customer::{Card, CustomerHistory};
use super::history::HistoryView;
use super::key::{Key, Property, Traits, hash_of, hash_or_absent};
use super::state::{Came, Chain, MINUTE_MS, Moments, Outcomes, Standing, Try};
use crate::domain::payment::Payment;
use crate::domain::psp::Windows;
use crate::domain::{EpochMs, PspId};

/// Of a payment at the moment when it is to be attempted.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    pub(super) payment: &'a Payment,
    pub(super) at: EpochMs,
    pub(super) attempt_number: i32,
    pub(super) now: Moments,
    /// The last whole minute that counts over many payments know, by number.
    minute: i64,
    pub(super) traits: Traits,
    pub(super) chain: Option<&'a Chain>,
    pub(super) tries: Tries,
    pub(super) customer: Option<&'a CustomerHistory>,
    pub(super) card: Option<&'a Card>,
    /// Over all PSPs, in order of `Property::ALONE`.
    alone: [Sum; Property::ALONE.len()],
}

/// What came of payments with something in common, at all PSPs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    /// Approved ones and all, over a short and a long half-life.
    pub(super) fast: (f64, f64),
    pub(super) slow: (f64, f64),
    pub(super) results: u32,
    pub(super) approvals: u32,
    pub(super) approved_at: Option<EpochMs>,
    amounts_log: f64,
    /// In the last minute that is counted.
    pub(super) in_minute: u32,
    /// When the last result was, and the PSP that it was at.
    pub(super) last: Option<(EpochMs, u64)>,
}

impl Sum {
    fn of(property: Property, hash: u64, request: (Moments, i64), history: &dyn HistoryView) -> Self {
        let mut sum = Self::default();
        if hash == 0 {
            return sum;
        }
        let (now, minute) = request;
        let plus = |a: (f64, f64), b: (f64, f64)| (a.0 + b.0, a.1 + b.1);
        for &psp in history.psps() {
            let Some(standing) = history.standing(Key { property, psp, hash }) else { continue };
            sum.fast = plus(sum.fast, standing.outcomes.fast(now));
            sum.slow = plus(sum.slow, standing.outcomes.slow(now));
            sum.results = sum.results.saturating_add(standing.results);
            sum.approvals = sum.approvals.saturating_add(standing.approvals);
            sum.approved_at = sum.approved_at.max(standing.approved_at);
            sum.amounts_log += standing.amounts_log;
            sum.in_minute += if standing.minute == minute { standing.in_minute } else { 0 };
            sum.last = sum.last.max(Some((standing.last_at(), psp)));
        }
        sum
    }

    /// The mean of ln(1 + amount in major units).
    pub(super) fn amount_log(&self) -> Option<f64> {
        (self.results > 0).then(|| self.amounts_log / f64::from(self.results))
    }
}

/// The mean of the merchant's amounts on the scale of their logarithms, in major units; `psps`: those that anything was counted at.
pub fn usual_amount(payment: &Payment, psps: &[u64], standing: impl Fn(Key) -> Option<Standing>) -> Option<f64> {
    let hash = hash_or_absent(Some(&payment.merchant_id));
    let at_psp = |psp: &u64| standing(Key { property: Property::Merchant, psp: *psp, hash });
    let sums = psps.iter().filter_map(at_psp).fold((0.0, 0_u32), |(amounts, results), standing| {
        (amounts + standing.amounts_log, results.saturating_add(standing.results))
    });
    (sums.1 > 0).then(|| (sums.0 / f64::from(sums.1)).exp_m1())
}

/// The attempts on a payment so far, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    pub(super) all: u32,
    pub(super) failed: u32,
    pub(super) hard: u32,
    pub(super) technical: u32,
    pub(super) psps: u32,
    /// Attempts at the last PSP without another between.
    pub(super) last_psp_run: u32,
}

impl Tries {
    fn of(chain: Option<&Chain>) -> Self {
        let Some(chain) = chain else { return Self::default() };
        let tries = &chain.tries;
        let count = |is: fn(&Try) -> bool| tries.iter().filter(|tried| is(tried)).count() as u32;
        let is_first_there = |index: usize, tried: &Try| !tries.iter().take(index).any(|other| other.psp == tried.psp);
        let last = tries.back().map(|last| last.psp);
        Self {
            all: chain.attempts,
            failed: count(|tried| tried.came.is_some_and(|came| came != Came::Approved)),
            hard: count(|tried| tried.came == Some(Came::HardDecline)),
            technical: count(|tried| tried.came.is_some_and(Came::is_technical)),
            psps: tries.iter().enumerate().filter(|(index, tried)| is_first_there(*index, tried)).count() as u32,
            last_psp_run: tries.iter().rev().take_while(|tried| Some(tried.psp) == last).count() as u32,
        }
    }
}

impl<'a> RequestFacts<'a> {
    /// `attempt_number`: as it is told; never less than the attempts that history knows of say.
    pub fn gather(payment: &'a Payment, at: EpochMs, attempt_number: i32, history: &'a dyn HistoryView) -> Self {
        let chain = history.chain(hash_of(&payment.payment_id));
        let previous = chain.and_then(Chain::last).map_or(0, |last| last.psp);
        let tries = Tries::of(chain);
        let attempt_number = attempt_number.max(i32::try_from(tries.all).unwrap_or(i32::MAX - 1) + 1);
        let customer = hash_or_absent(payment.customer_id.as_deref());
        let customer = if customer == 0 { None } else { history.customer(customer) };
        let token = hash_or_absent(payment.card.token.as_deref());
        let now = history.settings().half_lives().at(at);
        let minute = history.settings().counted_to(at).div_euclid(MINUTE_MS) - 1;
        // The one property that another depends on: an amount is large or small for its merchant.
        let merchant = Sum::of(Property::Merchant, hash_or_absent(Some(&payment.merchant_id)), (now, minute), history);
        let traits = Traits::of(payment, at, attempt_number, previous, merchant.amount_log().map(f64::exp_m1));
        let alone = Property::ALONE.map(|property| match property {
            Property::Merchant => merchant,
            _ => Sum::of(property, traits.get(property), (now, minute), history),
        });
        Self {
            payment,
            at,
            attempt_number,
            now,
            minute,
            traits,
            chain,
            tries,
            customer,
            card: customer.filter(|_| token != 0).and_then(|customer| customer.card(token)),
            alone,
        }
    }

    pub(super) fn last(&self) -> Option<&'a Try> {
        self.chain.and_then(Chain::last)
    }

    /// Over all PSPs. Of a property that is not asked for alone, nothing.
    pub(super) fn alone(&self, property: Property) -> Sum {
        Property::ALONE.iter().position(|known| *known == property).map_or_else(Sum::default, |place| self.alone[place])
    }

    pub(super) fn lookalike(&self) -> Option<Sum> {
        Some(self.alone(Property::Lookalike)).filter(|sum| sum.results > 0)
    }

    pub(super) fn slow(&self, outcomes: Option<&Outcomes>) -> (f64, f64) {
        outcomes.map_or((0.0, 0.0), |outcomes| outcomes.slow(self.now))
    }

    pub(super) fn fast(&self, outcomes: Option<&Outcomes>) -> (f64, f64) {
        outcomes.map_or((0.0, 0.0), |outcomes| outcomes.fast(self.now))
    }

    /// Results in the last whole minute that is counted.
    pub(super) fn in_minute(&self, standing: &Standing) -> u32 {
        if standing.minute == self.minute { standing.in_minute } else { 0 }
    }

    pub(super) fn seconds_since(&self, then: EpochMs) -> f64 {
        self.at.saturating_sub(then).max(0) as f64 / 1_000.0
    }
}

/// Of a PSP that could take the payment.
#[derive(Clone, Copy)]
pub struct CandidateFacts<'a> {
    pub(super) psp: u64,
    /// By `Property as usize`.
    standings: [Option<Standing>; Property::EVERY.len()],
    pub(super) of_customer: Option<&'a Outcomes>,
    pub(super) of_card: Option<&'a Outcomes>,
    pub(super) windows: Option<&'a Windows>,
    /// The payment's own attempts at it.
    pub(super) tried: u32,
    pub(super) tried_at: Option<EpochMs>,
}

impl<'a> CandidateFacts<'a> {
    pub fn gather(request: &RequestFacts<'a>, psp_id: &PspId, history: &'a dyn HistoryView) -> Self {
        let psp = hash_of(psp_id.as_str());
        let tries = request.chain.iter().flat_map(|chain| &chain.tries).filter(|tried| tried.psp == psp);
        Self {
            psp,
            standings: Property::EVERY.map(|property| {
                let hash = request.traits.get(property);
                if hash == 0 { None } else { history.standing(Key { property, psp, hash }) }
            }),
            of_customer: request.customer.and_then(|customer| customer.at_psp(psp)),
            of_card: request.card.and_then(|card| card.at_psp(psp)),
            windows: history.windows(psp),
            tried: tries.clone().count() as u32,
            tried_at: tries.map(|tried| tried.at).max(),
        }
    }

    pub(super) fn standing(&self, property: Property) -> Option<&Standing> {
        self.standings[property as usize].as_ref()
    }

    pub(super) fn outcomes(&self, property: Property) -> Option<&Outcomes> {
        self.standing(property).map(|standing| &standing.outcomes)
    }
}
