//! The figures of history that are counted in one pass: days and their trend, declines, latencies, skips, and which fields are told.

use super::DAY_MS;
use crate::domain::EpochMs;
use crate::domain::payment::{CardType, HardSoft, Initiator, PaymentAttempt, PaymentOutcome, Status};
use crate::learn::interval::Estimate;
use crate::learn::proportion::Proportion;
use serde::Serialize;
use std::collections::HashMap;

/// Attempts that have something in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    pub name: String,
    /// With a result.
    pub attempts: u64,
    pub approvals: u64,
    pub approval_rate: Option<Estimate>,
}

impl Group {
    pub(super) fn new(name: &str, counted: Proportion) -> Self {
        let (attempts, approvals) = (counted.trials, counted.successes);
        Self { name: name.to_owned(), attempts, approvals, approval_rate: counted.interval() }
    }
}

/// A day (UTC): approved of its attempts with a result; payments that began on it, and approvals of payments on it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Day {
    pub at: EpochMs,
    pub attempts: Proportion,
    pub payments: Proportion,
}

/// How payments grow or shrink: a straight line through whole days.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trend {
    pub whole_days: u64,
    pub payments_per_day: f64,
    /// Change in a week, as a share of the mean.
    pub change_per_week: Estimate,
}

/// What PSPs answered when they did not approve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decline {
    pub psp_id: String,
    pub status: Status,
    pub error_code: Option<String>,
    pub error_category: Option<String>,
    pub hard_soft: Option<HardSoft>,
    pub attempts: u64,
    /// Of the PSP's attempts with a result.
    pub share: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    pub psp_id: String,
    /// Attempts that tell one.
    pub attempts: u64,
    pub p50_ms: u32,
    pub p95_ms: u32,
    pub p99_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skip {
    pub reason: String,
    pub attempts: u64,
}

/// In how many of the attempts that could tell it a field has a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    pub field: &'static str,
    pub share: f64,
}

/// Days with fewer of them in it say nothing of a trend.
const TREND_DAYS_MIN: usize = 4;
const Z: f64 = 1.96;
/// Codes and reasons that are shown, most frequent first.
const ROWS_MAX: usize = 200;

pub(super) fn days_between(from: EpochMs, to: EpochMs) -> f64 {
    (to - from).max(1) as f64 / DAY_MS as f64
}

/// The first and the last day are not whole.
pub(super) fn trend(days: &[Day], from: EpochMs, to: EpochMs) -> Option<Trend> {
    let is_whole = |day: &&Day| day.at > from - DAY_MS / 24 && day.at + DAY_MS < to + DAY_MS / 24;
    let first = days.first()?.at;
    let points: Vec<(f64, f64)> =
        days.iter().filter(is_whole).map(|day| ((day.at - first) as f64 / DAY_MS as f64, day.payments.trials as f64)).collect();
    if points.len() < TREND_DAYS_MIN {
        return None;
    }
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let rest: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    let half = Z * (rest / (n - 2.0) / spread).sqrt();
    let weekly = |slope: f64| slope * 7.0 / y;
    let change_per_week = Estimate { value: weekly(slope), low: weekly(slope - half), high: weekly(slope + half) };
    Some(Trend { whole_days: points.len() as u64, payments_per_day: y, change_per_week })
}

#[derive(PartialEq, Eq, Hash)]
pub(super) struct DeclineKey {
    psp: usize,
    status: Status,
    error_code: Option<String>,
    error_category: Option<String>,
    hard_soft: Option<HardSoft>,
}

impl DeclineKey {
    pub(super) fn of(psp: usize, outcome: &PaymentOutcome) -> Self {
        Self {
            psp,
            status: outcome.status,
            error_code: outcome.error_code.clone(),
            error_category: outcome.error_category.clone(),
            hard_soft: outcome.hard_soft,
        }
    }
}

pub(super) fn declines(counted: HashMap<DeclineKey, u64>, psps: &[String], by_psp: &[Proportion]) -> Vec<Decline> {
    let decline = |(key, attempts): (DeclineKey, u64)| Decline {
        psp_id: psps[key.psp].clone(),
        status: key.status,
        error_code: key.error_code,
        error_category: key.error_category,
        hard_soft: key.hard_soft,
        attempts,
        share: attempts as f64 / by_psp[key.psp].trials.max(1) as f64,
    };
    let mut declines: Vec<Decline> = counted.into_iter().map(decline).collect();
    let order = |a: &Decline, b: &Decline| {
        let names = |it: &Decline| (it.psp_id.clone(), it.error_code.clone(), it.error_category.clone(), it.status);
        b.attempts.cmp(&a.attempts).then_with(|| names(a).cmp(&names(b)))
    };
    declines.sort_by(order);
    declines.truncate(ROWS_MAX);
    declines
}

/// Of PSPs that tell any.
pub(super) fn latency(latencies: Vec<Vec<u32>>, psps: &[String]) -> Vec<Latency> {
    let told = psps.iter().zip(latencies).filter(|(_, latencies)| !latencies.is_empty());
    let mut told: Vec<Latency> = told
        .map(|(psp, mut latencies)| {
            latencies.sort_unstable();
            let at = |share: f64| {
                latencies[((latencies.len() as f64 * share).ceil() as usize).saturating_sub(1).min(latencies.len() - 1)]
            };
            let (p50_ms, p95_ms, p99_ms) = (at(0.5), at(0.95), at(0.99));
            Latency { psp_id: psp.clone(), attempts: latencies.len() as u64, p50_ms, p95_ms, p99_ms }
        })
        .collect();
    told.sort_by(|a, b| b.attempts.cmp(&a.attempts).then_with(|| a.psp_id.cmp(&b.psp_id)));
    told
}

pub(super) fn skips(counted: HashMap<String, u64>) -> Vec<Skip> {
    let mut skips: Vec<Skip> = counted.into_iter().map(|(reason, attempts)| Skip { reason, attempts }).collect();
    skips.sort_by(|a, b| b.attempts.cmp(&a.attempts).then_with(|| a.reason.cmp(&b.reason)));
    skips.truncate(ROWS_MAX);
    skips
}

/// A field with whether an attempt, or its outcome, tells it; none: it has nothing to tell.
type Field = (&'static str, fn(&PaymentAttempt, Option<&PaymentOutcome>) -> Option<bool>);

const FIELDS: [Field; 21] = [
    ("result", |_, outcome| Some(outcome.is_some())),
    ("error code of declines", |_, outcome| of_decline(outcome, |it| it.error_code.is_some())),
    ("error category of declines", |_, outcome| of_decline(outcome, |it| it.error_category.is_some())),
    ("hard or soft of declines", |_, outcome| of_decline(outcome, |it| it.hard_soft.is_some())),
    ("latency", |_, outcome| Some(outcome.is_some_and(|it| it.latency_ms > 0))),
    ("fee", |_, outcome| Some(outcome.is_some_and(|it| it.fee_minor.is_some()))),
    ("customer", |it, _| Some(it.payment.customer_id.is_some())),
    ("BIN", |it, _| Some(!it.payment.card.bin.is_empty())),
    ("card brand", |it, _| Some(!it.payment.card.brand.is_empty())),
    ("card type", |it, _| Some(it.payment.card.card_type != CardType::Unknown)),
    ("bank", |it, _| Some(it.payment.card.bank.is_some())),
    ("issuer country", |it, _| Some(it.payment.card.issuer_country.is_some())),
    ("country of the order", |it, _| Some(it.payment.geo.as_ref().is_some_and(|geo| geo.country.is_some()))),
    ("MCC", |it, _| Some(!it.payment.message.mcc.is_empty())),
    ("CIT or MIT", |it, _| Some(it.payment.message.initiator != Initiator::Unknown)),
    ("instalments", |it, _| Some(it.payment.installments.is_some())),
    ("airline", |it, _| Some(it.payment.airline.is_some())),
    ("recency, frequency, monetary value", |it, _| Some(it.payment.customer.as_ref().is_some_and(|it| it.rfm_recency.is_some()))),
    ("fraud cohort", |it, _| Some(it.payment.customer.as_ref().is_some_and(|it| it.fraud_rate_cohort.is_some()))),
    ("browser and device", |it, _| {
        Some(it.payment.customer.as_ref().is_some_and(|it| it.browser.is_some() || it.device.is_some()))
    }),
    ("who routed", |it, _| Some(it.algorithm.is_some())),
];

fn of_decline(outcome: Option<&PaymentOutcome>, told: fn(&PaymentOutcome) -> bool) -> Option<bool> {
    outcome.filter(|it| it.status != Status::Approved).map(told)
}

#[derive(Default)]
pub(super) struct Fields([Proportion; FIELDS.len()]);

impl Fields {
    pub(super) fn count(&mut self, attempt: &PaymentAttempt, outcome: Option<&PaymentOutcome>) {
        for ((_, told), counted) in FIELDS.iter().zip(&mut self.0) {
            if let Some(told) = told(attempt, outcome) {
                counted.count(told);
            }
        }
    }

    pub(super) fn finish(&self) -> Vec<Told> {
        FIELDS.iter().zip(self.0).filter_map(|((field, _), counted)| Some(Told { field, share: counted.share()? })).collect()
    }
}
