//! Made-up payments for measuring: attempts at a steady rate of event time, their outcomes later, and requests; encoded.
//!
//! Owns the shape of the load and its seed: the same shape gives the same payments. Never waits: who sends decides when.

use super::super::press::Press;
use super::super::world::first_merchant;
use anyhow::Result;
use smartrouter::domain::payment::{
    Card, CardType, HardSoft, Initiator, MessageConfig, Payment, PaymentAttempt, PaymentOutcome, RoutingRequest, Status,
};
use smartrouter::domain::{EpochMs, PspId};
use smartrouter::engine::settings::{Psp, Settings};
use smartrouter::io::codec::Codec;
use smartrouter::io::log::Output;
use smartrouter::io::topics::TopicNames;
use smartrouter::sim::{Draw, Purpose};
use std::collections::BTreeMap;

/// What the payments are like.
#[derive(Clone)]
pub(super) struct Shape {
    pub(super) merchant_id: String,
    pub(super) currency: String,
    pub(super) psps: Vec<Psp>,
    pub(super) customers: u64,
    pub(super) start_at: EpochMs,
    pub(super) attempts_per_second: f64,
}

impl Shape {
    /// The first merchant's payments, spread evenly over its PSPs.
    pub(super) fn of(settings: &Settings) -> Result<Self> {
        let (merchant, psps) = first_merchant(settings)?;
        Ok(Self {
            merchant_id: merchant.id.clone(),
            currency: merchant.currencies.first().cloned().unwrap_or_else(|| "EUR".to_owned()),
            psps,
            customers: CUSTOMERS,
            start_at: 0,
            attempts_per_second: ATTEMPTS_PER_SECOND,
        })
    }

    /// Event time begins so long ago that it ends a minute before now.
    pub(super) fn ending_now(mut self, attempts: u64) -> Self {
        let lasts_ms = attempts as f64 / self.attempts_per_second * 1_000.0;
        self.start_at = super::now_ms() - lasts_ms as i64 - 60_000;
        self
    }
}

const CUSTOMERS: u64 = 200_000;
const ATTEMPTS_PER_SECOND: f64 = 500.0;
const LATENCY_MS_MAX: i64 = 10_000;
const BRANDS: [&str; 3] = ["VISA", "MASTERCARD", "CARNET"];
const COUNTRIES: [&str; 6] = ["MX", "MX", "MX", "US", "CO", "ES"];

/// A record with its event time.
pub(super) struct Event {
    pub(super) at: EpochMs,
    pub(super) output: Output,
}

/// Attempts and their outcomes in order of event time.
pub(super) struct Traffic {
    press: Press,
    shape: Shape,
    dice: Draw,
    made: u64,
    attempts: u64,
    /// Outcomes that are not due yet, by time and number.
    pending: BTreeMap<(EpochMs, u64), Output>,
}

impl Traffic {
    pub(super) fn new(codec: Codec, names: &TopicNames, shape: Shape, attempts: u64) -> Self {
        Self {
            press: Press::new(codec, names),
            shape,
            dice: Draw::keyed(42, Purpose::Load, 0, 0),
            made: 0,
            attempts,
            pending: BTreeMap::new(),
        }
    }

    /// The next record; `None` when the last outcome is out.
    pub(super) fn next(&mut self) -> Result<Option<Event>> {
        let at = self.shape.start_at + (self.made as f64 / self.shape.attempts_per_second * 1_000.0) as i64;
        let is_over = self.made == self.attempts;
        if let Some(first) = self.pending.first_entry().filter(|first| is_over || first.key().0 <= at) {
            let ((at, _), output) = first.remove_entry();
            return Ok(Some(Event { at, output }));
        }
        if is_over { Ok(None) } else { self.attempt(at).map(Some) }
    }

    fn attempt(&mut self, at: EpochMs) -> Result<Event> {
        let number = self.made;
        self.made += 1;
        let psp = &self.shape.psps[self.dice.below(self.shape.psps.len() as u64) as usize];
        let payment = payment(&self.shape, psp.brands.as_slice(), &mut self.dice);
        let status = status(&mut self.dice);
        let attempt = attempt_at(payment, number, psp.id.clone(), at);
        let latency_ms = latency_ms(&mut self.dice, status);
        let outcome = outcome_of(&attempt, status, latency_ms);
        let key = attempt.payment.key();
        self.pending.insert((at + latency_ms, number), self.press.print(key, Some(at + latency_ms), &outcome)?);
        Ok(Event { at, output: self.press.print(key, Some(at), &attempt)? })
    }
}

fn attempt_at(payment: Payment, number: u64, psp_id: PspId, at: EpochMs) -> PaymentAttempt {
    PaymentAttempt {
        attempt_id: format!("{:x}-{}", number, &payment.payment_id[..23]),
        payment,
        attempt_number: 1,
        psp_id,
        attempted_at: at,
        deadline_ms: None,
        decision_id: None,
        algorithm: None,
        skip_reasons: Vec::new(),
    }
}

/// What comes of an attempt after `latency_ms`.
pub(super) fn outcome_of(attempt: &PaymentAttempt, status: Status, latency_ms: i64) -> PaymentOutcome {
    let (error_code, hard_soft) = match status {
        Status::Declined => (Some("05"), Some(HardSoft::Soft)),
        Status::Error => (Some("500"), None),
        Status::Timeout => (Some("timeout"), None),
        Status::Approved | Status::Unknown => (None, None),
    };
    PaymentOutcome {
        attempt_id: attempt.attempt_id.clone(),
        payment_id: attempt.payment.payment_id.clone(),
        customer_id: attempt.payment.customer_id.clone(),
        psp_id: attempt.psp_id.clone(),
        status,
        error_code: error_code.map(str::to_owned),
        error_category: None,
        hard_soft,
        network_response_code: None,
        merchant_advice_code: None,
        latency_ms,
        occurred_at: attempt.attempted_at + latency_ms,
        fee_minor: None,
    }
}

fn status(dice: &mut Draw) -> Status {
    match dice.below(100) {
        0..85 => Status::Approved,
        85..98 => Status::Declined,
        98 => Status::Error,
        _ => Status::Timeout,
    }
}

fn latency_ms(dice: &mut Draw, status: Status) -> i64 {
    if status == Status::Timeout { LATENCY_MS_MAX } else { ((50.0 + 350.0 * dice.exponential()) as i64).min(LATENCY_MS_MAX) }
}

/// A payment that a PSP with these brands takes (none: all).
fn payment(shape: &Shape, brands: &[String], dice: &mut Draw) -> Payment {
    let brand = match brands.len().min(BRANDS.len()) {
        0 => BRANDS[dice.below(BRANDS.len() as u64) as usize],
        known => brands[dice.below(known as u64) as usize].as_str(),
    };
    let (high, low) = (dice.word(), dice.word());
    Payment {
        payment_id: format!("{:08x}-{:04x}-{:04x}-{:016x}", high >> 32, (high >> 16) & 0xffff, high & 0xffff, low),
        order_id: format!("o{:08}", dice.below(100_000_000)),
        merchant_id: shape.merchant_id.clone(),
        customer_id: Some(format!("cust-{:08}", dice.below(shape.customers))),
        amount_minor: 5_000 + dice.below(1_000_000) as i64,
        currency: shape.currency.clone(),
        card: Card {
            bin: (400_000 + dice.below(2_000)).to_string(),
            brand: brand.to_owned(),
            card_type: CardType::Credit,
            bank: None,
            issuer_country: Some(COUNTRIES[dice.below(COUNTRIES.len() as u64) as usize].to_owned()),
            token: None,
        },
        method: "card".to_owned(),
        sub_method: None,
        message: MessageConfig {
            initiator: Initiator::Customer,
            merchant_reason: None,
            avs_sent: false,
            mcc: "4511".to_owned(),
            three_ds: false,
            network_token: false,
            cvv_sent: true,
        },
        installments: None,
        airline: None,
        customer: None,
        geo: None,
        subscription: None,
    }
}

/// Requests for new payments, which any PSP that takes common brands may get.
pub(super) struct Asking {
    shape: Shape,
    dice: Draw,
}

impl Asking {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, dice: Draw::keyed(7, Purpose::Load, 0, 0) }
    }

    pub(super) fn request(&mut self, request_id: String, requested_at: EpochMs) -> RoutingRequest {
        RoutingRequest {
            payment: payment(&self.shape, &[], &mut self.dice),
            request_id,
            requested_at,
            deadline_ms: None,
            allowed_psps: None,
            previous_attempts: None,
            dry_run: false,
        }
    }

    /// The attempt that follows a decision.
    pub(super) fn attempt(payment: Payment, number: u64, psp_id: PspId, at: EpochMs) -> PaymentAttempt {
        attempt_at(payment, number, psp_id, at)
    }
}
