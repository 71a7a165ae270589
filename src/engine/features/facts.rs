//! What one request, and one PSP that could take it, can be told of: payment and history, looked up once.
//!
//! Owns the look-ups. Allocates nothing, and changes nothing: history is read as it stands.

use super::history::HistoryView;
use super::key::{self, Key, Property, Subject, Traits, hash_of, hash_or_absent};
use super::state::{Came, Chain, Moments, Outcomes, Profile, Try};
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
    pub(super) traits: Traits,
    pub(super) chain: Option<&'a Chain>,
    pub(super) tries: Tries,
    pub(super) customer: Option<&'a Profile>,
    pub(super) token: Option<&'a Profile>,
    pub(super) lookalike: Option<&'a Profile>,
    pub(super) order: Option<&'a Profile>,
    pub(super) merchant: Option<&'a Profile>,
    /// Over all PSPs, in order of `Property::ALONE`.
    pub(super) alone: [Option<&'a Outcomes>; Property::ALONE.len()],
    /// The merchant's attempts in this second and this minute.
    pub(super) pace: (u32, u32),
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
        let chain = history.chain(Key::new(Subject::Payment, hash_of(&payment.payment_id)));
        let previous = chain.and_then(Chain::last).map_or(0, |last| last.psp);
        let tries = Tries::of(chain);
        let attempt_number = attempt_number.max(i32::try_from(tries.all).unwrap_or(i32::MAX - 1) + 1);
        let profile = |subject: Subject, hash: u64| if hash == 0 { None } else { history.profile(Key::new(subject, hash)) };
        let merchant = hash_or_absent(Some(&payment.merchant_id));
        let of_merchant = profile(Subject::Merchant, merchant);
        let traits = Traits::of(payment, at, attempt_number, previous, of_merchant.and_then(Profile::usual_amount));
        let pace = history.pace(Key::new(Subject::Merchant, merchant)).map_or((0, 0), |pace| pace.read(at));
        Self {
            payment,
            at,
            attempt_number,
            now: history.settings().half_lives().at(at),
            traits,
            chain,
            tries,
            customer: profile(Subject::Customer, traits.get(Property::Customer)),
            token: profile(Subject::Token, traits.get(Property::Token)),
            lookalike: profile(Subject::Lookalike, key::lookalike_of(payment)),
            order: profile(Subject::Order, hash_or_absent(Some(&payment.order_id))),
            merchant: of_merchant,
            alone: Property::ALONE.map(|property| {
                let hash = traits.get(property);
                if hash == 0 { None } else { history.outcomes(Key::new(Subject::Property(property), hash)) }
            }),
            pace,
        }
    }

    pub(super) fn last(&self) -> Option<&'a Try> {
        self.chain.and_then(Chain::last)
    }

    /// Approved ones and all, over all PSPs.
    pub(super) fn alone(&self, property: Property) -> Option<&'a Outcomes> {
        Property::ALONE.iter().position(|known| *known == property).and_then(|place| self.alone[place])
    }

    pub(super) fn slow(&self, outcomes: Option<&Outcomes>) -> (f64, f64) {
        outcomes.map_or((0.0, 0.0), |outcomes| outcomes.slow(self.now))
    }

    pub(super) fn fast(&self, outcomes: Option<&Outcomes>) -> (f64, f64) {
        outcomes.map_or((0.0, 0.0), |outcomes| outcomes.fast(self.now))
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
    pub(super) outcomes: [Option<&'a Outcomes>; Property::EVERY.len()],
    pub(super) windows: Option<&'a Windows>,
    pub(super) profile: Option<&'a Profile>,
    /// All attempts at the PSP in this second and this minute.
    pub(super) pace: (u32, u32),
    /// The payment's own attempts at it.
    pub(super) tried: u32,
    pub(super) tried_at: Option<EpochMs>,
}

impl<'a> CandidateFacts<'a> {
    pub fn gather(request: &RequestFacts<'a>, psp_id: &PspId, history: &'a dyn HistoryView) -> Self {
        let psp = hash_of(psp_id.as_str());
        let own = Key::new(Subject::Psp, psp);
        let tries = request.chain.iter().flat_map(|chain| &chain.tries).filter(|tried| tried.psp == psp);
        Self {
            psp,
            outcomes: Property::EVERY.map(|property| {
                let hash = request.traits.get(property);
                if hash == 0 { None } else { history.outcomes(Key::at_psp(property, hash, psp)) }
            }),
            windows: history.windows(psp),
            profile: history.profile(own),
            pace: history.pace(own).map_or((0, 0), |pace| pace.read(request.at)),
            tried: tries.clone().count() as u32,
            tried_at: tries.map(|tried| tried.at).max(),
        }
    }

    pub(super) fn outcomes(&self, property: Property) -> Option<&'a Outcomes> {
        self.outcomes[property as usize]
    }
}
