//! The laws of the simulated world: what a PSP would answer to an attempt, whoever asks, and whether it was asked or not.
//!
//! Pure: everything follows from the payment's record, the attempt's number and time, and the keys of the run. The issuer's mood
//! towards an attempt is one uniform number for all PSPs, so that a PSP with a higher approval probability approves whatever one
//! with a lower probability does: policies are compared on the same luck, and none beats the oracle on first attempts.

use super::draw::{Draw, Purpose, normal_cdf};
use super::issuers::{ISSUERS, issuer_index};
use super::orders::per_us_cent;
use super::psp::SimPsp;
use super::scenario::{Effect, Scenario};
use crate::domain::payment::{CardType, HardSoft, Initiator, Payment, Status};
use crate::domain::{EpochMs, PspId};
use crate::engine::hashing::fingerprint;
use std::f64::consts::FRAC_PI_2;

/// How customers and the payment service go on after a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// Attempts on one payment, the first included.
    pub attempts_max: i32,
    /// Share of soft declines after which the customer tries again.
    pub after_soft: f64,
    /// Share of technical failures after which the payment service, or the customer, tries again.
    pub after_technical: f64,
}

impl Retries {
    pub fn typical() -> Self {
        Self { attempts_max: 4, after_soft: 0.40, after_technical: 0.85 }
    }
}

/// The exact chances of an attempt; they add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Odds {
    pub approve: f64,
    pub decline: f64,
    /// Technical errors, time-outs and silence.
    pub fail: f64,
}

/// What comes of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: Status,
    pub error_code: Option<String>,
    pub error_category: Option<&'static str>,
    pub hard_soft: Option<HardSoft>,
    /// From the attempt to the outcome; for a silent PSP to when the payment service gives up.
    pub latency_ms: i64,
    pub fee_minor: Option<i64>,
    /// Whether an outcome is ever published.
    pub heard: bool,
    /// Whether a scripted outage made it what it is.
    pub by_outage: bool,
}

impl Answer {
    pub fn approved(&self) -> bool {
        self.status == Status::Approved
    }

    /// Whether the attempt failed for technical reasons, as opposed to a decline.
    pub fn failed(&self) -> bool {
        matches!(self.status, Status::Error | Status::Timeout) || self.error_code.as_deref() == Some("91")
    }
}

/// The whole course of a payment under some policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    pub first_approved: bool,
    /// After retries.
    pub approved: bool,
    pub attempts: i32,
}

#[derive(Clone, Debug)]
pub struct Reality {
    run: u64,
    start_at: EpochMs,
    psps: Vec<SimPsp>,
    scenario: Scenario,
    retries: Retries,
    /// By PSP, then issuer: what the connection between both adds at the start.
    affinity: Vec<Vec<f64>>,
    /// By PSP: a number that stays the same when others come and go.
    psp_keys: Vec<u64>,
}

/// Spread of the part of a payment's log-odds that no record shows: the balance of the account, the mood of its owner.
const HIDDEN_SPREAD: f64 = 0.6;
const DAY_MS: f64 = 86_400_000.0;
/// US dollars of a typical order.
const TYPICAL_USD: f64 = 120.0;

impl Reality {
    pub(super) fn new(run: u64, start_at: EpochMs, psps: &[SimPsp], scenario: &Scenario, retries: &Retries) -> Self {
        let psp_keys: Vec<u64> = psps.iter().map(|psp| number_of(psp.id.as_str())).collect();
        let drawn = |(psp, key): (&SimPsp, &u64)| (0..ISSUERS.len()).map(|bank| draw_affinity(psp, *key, bank, 0)).collect();
        let affinity = psps.iter().zip(&psp_keys).map(drawn).collect();
        Self { run, start_at, affinity, psps: psps.to_vec(), scenario: scenario.clone(), retries: retries.clone(), psp_keys }
    }

    /// `None` for a PSP that the world does not have.
    pub fn odds(&self, payment: &Payment, psp: &PspId, at: EpochMs) -> Option<Odds> {
        Some(self.chances(self.index(psp)?, payment, at).odds)
    }

    /// The PSP with the highest approval probability now; the first in the list when several have it.
    pub fn oracle(&self, payment: &Payment, at: EpochMs) -> Option<&PspId> {
        let mut best: Option<(usize, f64)> = None;
        for index in (0..self.psps.len()).filter(|&index| self.psps[index].takes(payment)) {
            let approve = self.chances(index, payment, at).odds.approve;
            if best.is_none_or(|(_, highest)| approve > highest) {
                best = Some((index, approve));
            }
        }
        best.map(|(index, _)| &self.psps[index].id)
    }

    /// What comes, or would come, of this attempt. `None` for a PSP that the world does not have.
    pub fn answer(&self, payment: &Payment, attempt_number: i32, psp: &PspId, at: EpochMs) -> Option<Answer> {
        let index = self.index(psp)?;
        let chances = self.chances(index, payment, at);
        let number = number_of(&payment.payment_id);
        let mood = self.draw(Purpose::Attempt, number, attempt_number, 0).unit();
        let mut draw = self.draw(Purpose::Answer, number, attempt_number, self.psp_keys[index]);
        let mut answer = if mood < chances.odds.approve {
            coded(Status::Approved, None)
        } else if mood < 1.0 - chances.odds.fail {
            declined(&chances, mood, &mut self.draw(Purpose::Hidden, number, 1, 0))
        } else {
            failed(&chances, &mut draw)
        };
        answer.latency_ms = self.latency_ms(index, &answer, &chances, &mut draw);
        answer.fee_minor = self.fee_minor(index, payment, &answer);
        Some(answer)
    }

    /// How long after the outcome the payment is tried again; `None` when it is given up.
    pub fn retry_after_ms(&self, payment: &Payment, attempt_number: i32, answer: &Answer) -> Option<i64> {
        if answer.approved() || answer.hard_soft == Some(HardSoft::Hard) || attempt_number >= self.retries.attempts_max {
            return None;
        }
        let mut draw = self.draw(Purpose::Retry, number_of(&payment.payment_id), attempt_number, 0);
        let (share, median_ms) =
            if answer.failed() { (self.retries.after_technical, 2_500.0) } else { (self.retries.after_soft, 45_000.0) };
        // A merchant that charges by itself has time.
        let patience = if payment.message.initiator == Initiator::Merchant { 20.0 } else { 1.0 };
        draw.chance(share).then(|| (draw.log_normal(median_ms * patience, 0.7) as i64).clamp(500, 6 * 3_600_000))
    }

    /// From a request to the attempt that follows the answer: the payment service's own time.
    pub fn dispatch_ms(&self, payment: &Payment, attempt_number: i32) -> i64 {
        self.draw(Purpose::Retry, number_of(&payment.payment_id), attempt_number, 1).between(20, 80)
    }

    /// Plays a payment to its end. `choose` gets the attempt's number and time.
    pub fn fate<'a>(&self, payment: &Payment, requested_at: EpochMs, choose: impl Fn(i32, EpochMs) -> Option<&'a PspId>) -> Fate {
        let mut fate = Fate { first_approved: false, approved: false, attempts: 0 };
        let mut requested_at = requested_at;
        for attempt_number in 1..=self.retries.attempts_max {
            let at = requested_at + self.dispatch_ms(payment, attempt_number);
            let Some(answer) = choose(attempt_number, at).and_then(|psp| self.answer(payment, attempt_number, psp, at)) else {
                break;
            };
            fate.attempts = attempt_number;
            fate.approved = answer.approved();
            fate.first_approved |= fate.approved && attempt_number == 1;
            let Some(wait_ms) = self.retry_after_ms(payment, attempt_number, &answer) else { break };
            requested_at = at + answer.latency_ms + wait_ms;
        }
        fate
    }

    pub fn psps(&self) -> &[SimPsp] {
        &self.psps
    }

    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    pub(super) fn find(&self, psp: &PspId) -> Option<&SimPsp> {
        self.index(psp).map(|index| &self.psps[index])
    }

    fn index(&self, psp: &PspId) -> Option<usize> {
        self.psps.iter().position(|known| known.id == *psp)
    }

    fn draw(&self, purpose: Purpose, payment: u64, attempt_number: i32, psp: u64) -> Draw {
        // PSP keys are 48 bits, attempt numbers are few.
        Draw::keyed(self.run, purpose, payment, (u64::from(attempt_number.unsigned_abs()) << 48) | psp)
    }

    fn chances(&self, index: usize, payment: &Payment, at: EpochMs) -> Chances<'_> {
        let psp = &self.psps[index];
        let effect = Effect::of(&self.scenario.outages, &psp.id, payment, at - self.start_at);
        if !psp.takes(payment) {
            let odds = Odds { approve: 0.0, decline: 1.0, fail: 0.0 };
            return Chances { odds, unspoilt: 0.0, erring: 0.0, stalling: 0.0, effect, refused: true };
        }
        let headroom = (psp.client_timeout_ms as f64 / (psp.latency.median_ms * effect.latency_factor)).ln();
        let too_slow = 1.0 - normal_cdf(headroom / psp.latency.sigma);
        let stalling = 1.0 - (1.0 - psp.timeout_rate) * (1.0 - too_slow);
        let fail = if effect.silent { 1.0 } else { 1.0 - (1.0 - psp.error_rate) * (1.0 - stalling) * (1.0 - effect.failing) };
        let unspoilt = (1.0 - fail) * logistic(self.log_odds(index, payment, at));
        let approve = unspoilt * effect.approval_factor;
        let odds = Odds { approve, decline: 1.0 - fail - approve, fail };
        Chances { odds, unspoilt, erring: psp.error_rate, stalling, effect, refused: false }
    }

    /// What the connection between a PSP and an issuer adds. Where it drifts it goes from each draw to the next one along a quarter of
    /// a circle, which keeps its spread.
    fn affinity(&self, index: usize, bank: usize, at: EpochMs) -> f64 {
        let Some(days) = self.scenario.drift_days else { return self.affinity[index][bank] };
        let drawn = |turn: u64| draw_affinity(&self.psps[index], self.psp_keys[index], bank, turn);
        let turns = ((at - self.start_at) as f64 / (days * DAY_MS)).max(0.0);
        let (sine, cosine) = (turns.fract() * FRAC_PI_2).sin_cos();
        cosine * drawn(turns as u64) + sine * drawn(turns as u64 + 1)
    }

    fn log_odds(&self, index: usize, payment: &Payment, at: EpochMs) -> f64 {
        let model = &self.psps[index].approval;
        let when = |holds: bool, term: f64| if holds { term } else { 0.0 };
        let domestic = payment.card.issuer_country.as_deref() == Some("MX");
        let usd = payment.amount_minor as f64 / 100.0 / per_us_cent(&payment.currency);
        let bank = payment.card.bank.as_deref().and_then(issuer_index);
        let cohort = match payment.customer.as_ref().and_then(|customer| customer.fraud_rate_cohort.as_deref()) {
            Some("HIGH") => -0.9,
            Some("MEDIUM") => -0.25,
            _ => 0.0,
        };
        let hidden = self.draw(Purpose::Hidden, number_of(&payment.payment_id), 0, 0).normal();
        model.intercept
            + if domestic { model.domestic } else { model.foreign }
            + bank.map_or(0.0, |bank| ISSUERS[bank].mood + self.affinity(index, bank, at))
            + when(payment.currency == "USD", model.usd)
            + when(payment.card.brand == "MASTERCARD", model.mastercard)
            + when(payment.card.card_type != CardType::Credit, model.debit)
            + model.amount_slope * (usd.max(1.0) / TYPICAL_USD).ln().clamp(-2.5, 2.5)
            + when(payment.installments.is_some(), model.installments)
            + when(payment.message.initiator == Initiator::Merchant, model.merchant_initiated)
            + when(payment.message.three_ds, 0.25)
            + cohort
            + HIDDEN_SPREAD * hidden
    }

    fn latency_ms(&self, index: usize, answer: &Answer, chances: &Chances<'_>, draw: &mut Draw) -> i64 {
        let psp = &self.psps[index];
        if answer.status == Status::Timeout {
            return psp.client_timeout_ms;
        }
        let factor = if answer.error_code.as_deref() == Some("connection_error") { 0.25 } else { chances.effect.latency_factor };
        // An answer that came is one that came in time: the share that does not is already among the failures.
        for _ in 0..16 {
            let latency_ms = draw.log_normal(psp.latency.median_ms * factor, psp.latency.sigma) as i64;
            if latency_ms < psp.client_timeout_ms {
                return latency_ms.max(1);
            }
        }
        psp.client_timeout_ms - 1
    }

    fn fee_minor(&self, index: usize, payment: &Payment, answer: &Answer) -> Option<i64> {
        let fee = self.psps[index].fees.iter().find(|fee| fee.currency == payment.currency)?;
        match answer.status {
            Status::Approved => Some(fee.success_minor),
            Status::Declined => Some(fee.failure_minor),
            Status::Error | Status::Timeout | Status::Unknown => None,
        }
    }
}

/// The odds and what they are made of.
struct Chances<'a> {
    odds: Odds,
    /// Approval probability without the loss that an outage turns into declines.
    unspoilt: f64,
    erring: f64,
    stalling: f64,
    effect: Effect<'a>,
    /// The PSP does not take the payment.
    refused: bool,
}

fn declined(chances: &Chances<'_>, mood: f64, hidden: &mut Draw) -> Answer {
    if chances.refused {
        return coded(Status::Declined, Some("57"));
    }
    if mood < chances.unspoilt {
        return Answer { by_outage: true, ..coded(Status::Declined, Some("05")) };
    }
    // The reason lies with the card, so it stays the same over the attempts of a payment.
    let code = hidden.pick(&[("51", 0.48), ("05", 0.38), ("54", 0.08), ("14", 0.06)]);
    coded(Status::Declined, Some(code))
}

fn failed(chances: &Chances<'_>, draw: &mut Draw) -> Answer {
    let effect = &chances.effect;
    if effect.silent {
        return Answer { heard: false, by_outage: true, ..coded(Status::Timeout, Some("timeout")) };
    }
    let forced = draw.chance(effect.failing / chances.odds.fail);
    let code = if forced {
        effect.code.unwrap_or(draw.pick(&[("timeout", 0.6), ("connection_error", 0.3), ("96", 0.1)]))
    } else if draw.chance(chances.stalling / (chances.stalling + chances.erring)) {
        "timeout"
    } else {
        draw.pick(&[("91", 0.5), ("96", 0.3), ("connection_error", 0.2)])
    };
    let status = CODES.iter().find(|entry| entry.0 == code).map_or(Status::Error, |entry| entry.1);
    let slowed = effect.latency_factor > 1.0 && status == Status::Timeout;
    Answer { by_outage: forced || slowed, ..coded(status, Some(code)) }
}

/// The codes of this world, in the words of the shipped error-code table: status, category, hard or soft. An outage may use others: these are technical errors.
const CODES: [(&str, Status, &str, Option<HardSoft>); 9] = [
    ("51", Status::Declined, "insufficient_funds", Some(HardSoft::Soft)),
    ("05", Status::Declined, "do_not_honor", Some(HardSoft::Soft)),
    ("14", Status::Declined, "invalid_card_number", Some(HardSoft::Hard)),
    ("54", Status::Declined, "expired_card", Some(HardSoft::Hard)),
    ("57", Status::Declined, "not_permitted_to_cardholder", Some(HardSoft::Hard)),
    ("91", Status::Declined, "issuer_unavailable", Some(HardSoft::Soft)),
    ("96", Status::Error, "system_malfunction", Some(HardSoft::Soft)),
    ("timeout", Status::Timeout, "timeout", Some(HardSoft::Soft)),
    ("connection_error", Status::Error, "connection_error", Some(HardSoft::Soft)),
];

fn coded(status: Status, code: Option<&str>) -> Answer {
    let known = code.and_then(|code| CODES.iter().find(|entry| entry.0 == code));
    Answer {
        status,
        error_code: code.map(str::to_owned),
        error_category: code.map(|_| known.map_or("other", |entry| entry.2)),
        hard_soft: known.and_then(|entry| entry.3),
        latency_ms: 0,
        fee_minor: None,
        heard: true,
        by_outage: false,
    }
}

/// What the connection between a PSP and an issuer adds after so many whole drifts.
fn draw_affinity(psp: &SimPsp, psp_key: u64, bank: usize, turn: u64) -> f64 {
    psp.approval.bank_spread * Draw::keyed(0, Purpose::Affinity, psp_key, turn << 32 | bank as u64).normal()
}

fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

/// The number at the end of an id of this world, or a 48-bit hash of any other text.
fn number_of(id: &str) -> u64 {
    let own = id.strip_prefix("pay-").and_then(|rest| rest.rsplit_once('-'));
    let parsed = own.and_then(|(_, number)| u64::from_str_radix(number, 16).ok());
    parsed.or_else(|| u64::from_str_radix(&fingerprint(id), 16).ok()).unwrap_or(0)
}
