//! What is remembered of a customer: attempts and results, at each PSP, with each card, on each order.
//!
//! Counted at once, unlike counts over many payments: all payments of a customer are in one partition. Of a payment that names no
//! customer nothing is remembered here. Bounded: the oldest PSP, card and order make room.

use super::key::{hash_of, hash_or_absent, major_amount};
use super::state::{Moments, Outcomes, Profile};
use crate::domain::EpochMs;
use crate::domain::payment::Payment;
use serde::{Deserialize, Serialize};

const PSPS_MAX: usize = 16;
const CARDS_MAX: usize = 4;
const ORDERS_MAX: usize = 4;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CustomerHistory {
    /// Which layout this is: stored values open with it.
    layout: u8,
    pub(super) profile: Profile,
    at_psps: Vec<AtPsp>,
    cards: Vec<Card>,
    orders: Vec<Order>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct AtPsp {
    psp: u64,
    outcomes: Outcomes,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Card {
    token: u64,
    pub(super) profile: Profile,
    at_psps: Vec<AtPsp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    attempts: u32,
    last_at: EpochMs,
}

/// Which of a customer's cards and orders an attempt is on: hashes, 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belongs {
    pub token: u64,
    pub order: u64,
}

impl Belongs {
    pub fn of(payment: &Payment) -> Self {
        Self { token: hash_or_absent(payment.card.token.as_deref()), order: hash_or_absent(Some(&payment.order_id)) }
    }
}

/// ln(1 + amount in major units).
pub fn amount_log(payment: &Payment) -> f64 {
    major_amount(payment).max(0.0).ln_1p()
}

impl CustomerHistory {
    /// What stored values open with: the layout before began with a time, which never was this.
    pub const LAYOUT: u8 = 1;

    pub fn last_at(&self) -> EpochMs {
        self.profile.last_at
    }

    pub fn attempted(&mut self, at: EpochMs, belongs: Belongs, amount_log: f64) {
        self.layout = Self::LAYOUT;
        self.profile.saw_attempt(at, amount_log);
        if belongs.token != 0 {
            let card = Card { token: belongs.token, ..Card::default() };
            let kept = kept(&mut self.cards, CARDS_MAX, card, |card| card.token, |card| card.profile.last_at);
            kept.profile.saw_attempt(at, amount_log);
        }
        if belongs.order != 0 {
            let order = Order { id: belongs.order, attempts: 0, last_at: at };
            let kept = kept(&mut self.orders, ORDERS_MAX, order, |order| order.id, |order| order.last_at);
            kept.attempts = kept.attempts.saturating_add(1);
            kept.last_at = kept.last_at.max(at);
        }
    }

    /// `moments`: those of `at`.
    pub fn came(&mut self, (at, moments): (EpochMs, Moments), psp: u64, belongs: Belongs, approved: bool) {
        self.layout = Self::LAYOUT;
        self.profile.saw_result(at, psp, approved);
        add(&mut self.at_psps, psp, (at, moments), approved);
        if let Some(card) = self.cards.iter_mut().find(|card| card.token == belongs.token) {
            card.profile.saw_result(at, psp, approved);
            add(&mut card.at_psps, psp, (at, moments), approved);
        }
    }

    pub(super) fn at_psp(&self, psp: u64) -> Option<&Outcomes> {
        self.at_psps.iter().find(|at| at.psp == psp).map(|at| &at.outcomes)
    }

    pub(super) fn card(&self, token: u64) -> Option<&Card> {
        self.cards.iter().find(|card| card.token == token)
    }

    pub(super) fn order_attempts(&self, order_id: &str) -> u32 {
        let order = hash_of(order_id);
        self.orders.iter().find(|known| known.id == order).map_or(0, |known| known.attempts)
    }
}

impl Card {
    pub(super) fn at_psp(&self, psp: u64) -> Option<&Outcomes> {
        self.at_psps.iter().find(|at| at.psp == psp).map(|at| &at.outcomes)
    }
}

fn add(at_psps: &mut Vec<AtPsp>, psp: u64, (at, moments): (EpochMs, Moments), approved: bool) {
    let fresh = AtPsp { psp, outcomes: Outcomes::default() };
    let kept = kept(at_psps, PSPS_MAX, fresh, |at| at.psp, |at| at.outcomes.last_at());
    kept.outcomes.add(at, moments, approved);
}

/// The entry of the same identity as `fresh`, else `fresh`, in the place of the oldest where there are `most`.
fn kept<T>(entries: &mut Vec<T>, most: usize, fresh: T, identity: fn(&T) -> u64, last_at: fn(&T) -> EpochMs) -> &mut T {
    let place = match entries.iter().position(|entry| identity(entry) == identity(&fresh)) {
        Some(place) => place,
        None if entries.len() >= most => {
            let oldest = (0..entries.len()).min_by_key(|place| last_at(&entries[*place])).unwrap_or_default();
            entries[oldest] = fresh;
            oldest
        }
        None => {
            entries.push(fresh);
            entries.len() - 1
        }
    };
    &mut entries[place]
}
