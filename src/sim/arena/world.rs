//! The arena's merchant: five PSPs, three kinds of payment, and what would come of each payment at each PSP.
//!
//! Owns payments and their fates, all drawn before anyone routes them. The laws are those of `sim::reality`.
//!
//! The merchant sends domestic payments to alpha first, instalments to bravo, foreign cards to charlie; delta and echo stand by. That is
//! right while all is well: the first in a payment's order has the highest chance, the next about two points less, the last about five.

use super::scenarios::Script;
use crate::domain::payment::{Card, CardType, Initiator, InstallmentKind, Installments, MessageConfig, Payment, RoutingRequest};
use crate::domain::psp::SegmentKind;
use crate::domain::{EpochMs, PspId};
use crate::engine::settings::{Conditions, Merchant, Psp, Settings, StaticRule};
use crate::sim::draw::{Draw, Purpose};
use crate::sim::psp::{Approval, Latency, SimPsp};
use crate::sim::reality::{Answer, Reality, Retries};
use crate::sim::scenario::{Outage, Scenario};

pub(super) const PSPS: usize = 5;
pub(super) const PSP_NAMES: [&str; PSPS] = ["alpha", "bravo", "charlie", "delta", "echo"];

/// Where a PSP stands in every list of PSPs.
pub(super) struct Seats {
    pub(super) alpha: usize,
    pub(super) bravo: usize,
}

pub(super) const SEAT: Seats = Seats { alpha: 0, bravo: 1 };

/// Log-odds of an approval for domestic payments, and what instalments and foreign cards add; median latency.
const STRENGTHS: [(f64, f64, f64, f64); PSPS] = [
    (2.50, -0.45, -0.75, 520.0),
    (2.25, 0.05, -0.70, 640.0),
    (2.05, -0.30, -0.05, 430.0),
    (2.15, -0.20, -0.70, 560.0),
    (1.95, -0.10, -0.30, 480.0),
];
const DOMESTIC: [usize; PSPS] = [0, 1, 3, 2, 4];
const INSTALMENTS: [usize; PSPS] = [1, 0, 3, 4, 2];
const FOREIGN: [usize; PSPS] = [2, 0, 4, 1, 3];

const MERCHANT: &str = "arena";
const HOUR_MS: f64 = 3_600_000.0;
pub(super) const DAY_MS: i64 = 86_400_000;
/// Where the history begins: a Monday.
pub(super) const HISTORY_AT: EpochMs = 1_767_592_800_000;
/// Where the scenarios begin.
pub(super) const START_AT: EpochMs = HISTORY_AT + DAY_MS;
/// Payments of the history have lower numbers.
const FIRST_NUMBER: u64 = 10_000_000;
/// Share of the history that went elsewhere than the merchant's rules say: retries, past failovers.
const ELSEWHERE: f64 = 0.15;

/// One payment that asks where to go.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) number: u64,
    pub(super) at: EpochMs,
    /// The merchant's order of PSPs.
    pub(super) order: [usize; PSPS],
    pub(super) request: RoutingRequest,
}

/// Payments as they come; `rate` is how many an hour, so long after the start.
struct Stream<Rate> {
    seed: u64,
    number: u64,
    start_at: EpochMs,
    since_ms: f64,
    end_ms: i64,
    rate: Rate,
}

impl<Rate: Fn(i64) -> f64> Iterator for Stream<Rate> {
    type Item = Offer;

    fn next(&mut self) -> Option<Offer> {
        let mut draw = Draw::keyed(self.seed, Purpose::Arena, self.number, 0);
        self.since_ms += draw.exponential() * HOUR_MS / (self.rate)(self.since_ms as i64).max(f64::MIN_POSITIVE);
        if self.since_ms >= self.end_ms as f64 {
            return None;
        }
        let offer = offer(self.number, self.start_at + self.since_ms as i64, &mut draw);
        self.number += 1;
        Some(offer)
    }
}

fn offer(number: u64, at: EpochMs, draw: &mut Draw) -> Offer {
    let country = draw.pick(&[("MX", 0.80), ("US", 0.10), ("CO", 0.06), ("ES", 0.04)]);
    let brand = draw.pick(&[("VISA", 0.58), ("MASTERCARD", 0.34), ("CARNET", 0.08)]);
    let instalments = draw.chance(0.25) && country == "MX";
    let order = match country {
        "MX" if instalments => INSTALMENTS,
        "MX" => DOMESTIC,
        _ => FOREIGN,
    };
    let payment = Payment {
        payment_id: format!("arena-{number}"),
        order_id: String::new(),
        merchant_id: MERCHANT.to_owned(),
        customer_id: None,
        amount_minor: draw.log_normal(150_000.0, 0.8) as i64,
        currency: "MXN".to_owned(),
        card: Card {
            bin: "400000".to_owned(),
            brand: brand.to_owned(),
            card_type: CardType::Credit,
            bank: None,
            issuer_country: Some(country.to_owned()),
            token: None,
        },
        method: "card".to_owned(),
        sub_method: Some(if instalments { "msi" } else { "single" }.to_owned()),
        message: MessageConfig {
            initiator: Initiator::Customer,
            merchant_reason: None,
            avs_sent: false,
            mcc: "4511".to_owned(),
            three_ds: false,
            network_token: false,
            cvv_sent: true,
        },
        installments: instalments.then_some(Installments { count: 3, kind: InstallmentKind::Msi }),
        airline: None,
        customer: None,
        geo: None,
        subscription: None,
    };
    let request = RoutingRequest {
        request_id: payment.payment_id.clone(),
        payment,
        requested_at: at,
        deadline_ms: None,
        allowed_psps: None,
        previous_attempts: None,
        dry_run: false,
    };
    Offer { number, at, order, request }
}

/// The history: payments, where each went, and what came of it. All results are known when the scenarios begin.
pub(super) fn history(seed: u64, payments_per_hour: u64) -> impl Iterator<Item = (Offer, usize, Option<Answer>)> {
    let reality = reality(seed, HISTORY_AT, &Scenario::none());
    let ids = psp_ids();
    let (start_at, end_ms) = (HISTORY_AT, DAY_MS - 60_000);
    let stream = Stream { seed, number: 0, start_at, since_ms: 0.0, end_ms, rate: move |_| payments_per_hour as f64 };
    stream.map(move |offer| {
        let mut draw = Draw::keyed(seed, Purpose::Arena, offer.number, 1);
        let seat = if draw.chance(ELSEWHERE) { offer.order[1 + draw.below(PSPS as u64 - 1) as usize] } else { offer.order[0] };
        let answer = reality.answer(&offer.request.payment, 1, &ids[seat], offer.at);
        (offer, seat, answer)
    })
}

/// One scenario with one seed: all payments, and what would come of each at each PSP.
pub(super) struct Round {
    pub(super) script: &'static Script,
    pub(super) seed: u64,
    /// Of single PSPs: what happens everywhere is none of theirs.
    pub(super) outages: Vec<Outage>,
    pub(super) offers: Vec<Offer>,
    pub(super) fates: Vec<[Option<Answer>; PSPS]>,
    /// Chance of an approval, by payment and PSP.
    pub(super) chances: Vec<[f64; PSPS]>,
    /// After this long silence is a time-out.
    pub(super) deadline_ms: i64,
}

impl Round {
    pub(super) fn new(seed: u64, script: &'static Script, deadline_ms: i64) -> Self {
        let scenario = script.played();
        let reality = reality(seed, START_AT, &scenario);
        let ids = psp_ids();
        let rate = |since_ms| script.rate(since_ms);
        let end_ms = script.length_ms();
        let stream = Stream { seed, number: FIRST_NUMBER, start_at: START_AT, since_ms: 0.0, end_ms, rate };
        let offers: Vec<Offer> = stream.collect();
        let fate = |offer: &Offer| std::array::from_fn(|seat| reality.answer(&offer.request.payment, 1, &ids[seat], offer.at));
        let chance = |offer: &Offer| {
            std::array::from_fn(|seat| {
                reality.odds(&offer.request.payment, &ids[seat], offer.at).map_or(0.0, |odds| odds.approve)
            })
        };
        let (fates, chances) = (offers.iter().map(fate).collect(), offers.iter().map(chance).collect());
        let outages = if script.common { Vec::new() } else { scenario.outages };
        Self { script, seed, outages, offers, fates, chances, deadline_ms }
    }

    /// The PSP with the highest chance; the first of the merchant's order among equals.
    pub(super) fn best(&self, index: usize) -> usize {
        let (order, chances) = (&self.offers[index].order, &self.chances[index]);
        order.iter().copied().fold(order[0], |best, seat| if chances[seat] > chances[best] { seat } else { best })
    }

    pub(super) fn approved(&self, index: usize, seat: usize) -> bool {
        self.fates[index][seat].as_ref().is_some_and(Answer::approved)
    }

    /// Whether an outage of this PSP is on for the payment.
    pub(super) fn is_hit(&self, index: usize, seat: usize) -> bool {
        let offer = &self.offers[index];
        let at = offer.at - START_AT;
        self.outages.iter().any(|it| it.psp.as_str() == PSP_NAMES[seat] && it.hits(&offer.request.payment, at))
    }
}

pub(super) fn psp_ids() -> [PspId; PSPS] {
    PSP_NAMES.map(PspId::new)
}

fn reality(seed: u64, start_at: EpochMs, scenario: &Scenario) -> Reality {
    let psps: Vec<SimPsp> = PSP_NAMES.iter().zip(STRENGTHS).map(|(name, strength)| simulated(name, strength)).collect();
    Reality::new(seed, start_at, &psps, scenario, &Retries::typical())
}

fn simulated(name: &str, (domestic, instalments, foreign, median_ms): (f64, f64, f64, f64)) -> SimPsp {
    SimPsp {
        id: PspId::new(name),
        brands: Vec::new(),
        currencies: Vec::new(),
        fees: Vec::new(),
        approval: Approval {
            intercept: domestic,
            domestic: 0.0,
            foreign,
            usd: 0.0,
            mastercard: 0.0,
            debit: 0.0,
            amount_slope: 0.0,
            installments: instalments,
            merchant_initiated: 0.0,
            bank_spread: 0.0,
        },
        latency: Latency { median_ms, sigma: 0.5 },
        client_timeout_ms: 10_000,
        error_rate: 0.004,
        timeout_rate: 0.003,
    }
}

/// The configuration of the arena's merchant; thresholds and policies are those given.
pub(super) fn settings(given: &Settings) -> Settings {
    let ordered = |order: [usize; PSPS]| order.map(|seat| PspId::new(PSP_NAMES[seat])).to_vec();
    let rule = |id: &str, priority, when, order| StaticRule {
        id: id.to_owned(),
        priority,
        shadow: false,
        when,
        psps: ordered(order),
        split: Vec::new(),
    };
    let instalments = Conditions { sub_methods: Some(vec!["msi".to_owned()]), ..Conditions::default() };
    let domestic = Conditions { issuer_countries: Some(vec!["MX".to_owned()]), ..Conditions::default() };
    let plain = |name: &&str| Psp {
        id: PspId::new(name),
        external_id: None,
        name: String::new(),
        brands: Vec::new(),
        currencies: Vec::new(),
        methods: Vec::new(),
        fees: Vec::new(),
    };
    Settings {
        merchants: vec![Merchant {
            id: MERCHANT.to_owned(),
            name: String::new(),
            currencies: vec!["MXN".to_owned()],
            psps: ordered(DOMESTIC),
            margin: None,
        }],
        psps: PSP_NAMES.iter().map(plain).collect(),
        hard_rules: Vec::new(),
        rules: vec![
            rule("instalments", 2, instalments, INSTALMENTS),
            rule("domestic", 1, domestic, DOMESTIC),
            rule("foreign", 0, Conditions::default(), FOREIGN),
        ],
        ..given.clone()
    }
}

/// Whether a segment and the part of the traffic that an outage is about can have a payment in common.
pub(super) fn overlaps(segment: (SegmentKind, &str), outage: &Outage) -> bool {
    outage.segment.as_ref().is_none_or(|part| part.kind != segment.0 || part.value == segment.1)
}
