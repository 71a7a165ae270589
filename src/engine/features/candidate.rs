//! Features of a candidate: how a PSP would do with this payment. One function each, found by the name in the catalogue.

use super::facts::{CandidateFacts, RequestFacts};
use super::key::{self, Property};
use super::request::last_lookalike;
use super::value::Value;
use crate::domain::psp::WindowStats;

pub(super) type CandidateFeature = for<'a> fn(&RequestFacts<'a>, &CandidateFacts<'a>) -> Value<'a>;

pub(super) const CANDIDATE: &[(&str, CandidateFeature)] = &[
    ("psp", |_, psp| Value::Hash(psp.psp)),
    ("psp_brand_three_ds", |it, psp| Value::Hash(key::joined(it.traits.get(Property::BrandThreeDs), psp.psp))),
    ("psp_country", |it, psp| Value::Hash(key::joined(it.traits.get(Property::Country), psp.psp))),
    ("psp_attempt_number", |it, psp| Value::Hash(key::joined(it.traits.get(Property::AttemptNumber), psp.psp))),
    ("psp_after_previous", |it, psp| Value::Hash(key::joined(it.traits.get(Property::PreviousPsp), psp.psp))),
    ("tried_before", |_, psp| Value::count(psp.tried)),
    ("seconds_since_tried", |it, psp| Value::number(psp.tried_at.map(|then| it.seconds_since(then)))),
    ("is_previous_psp", |it, psp| Value::flag(it.last().map(|last| last.psp == psp.psp))),
    ("approved_customer_last", |it, psp| {
        let approved_by = it.customer.map(|customer| customer.profile.approved_by).filter(|by| *by != 0);
        Value::flag(approved_by.map(|by| by == psp.psp))
    }),
    ("lookalike_was_here", |it, psp| Value::flag(last_lookalike(it).map(|last| last == psp.psp))),
    ("traffic_share", |it, psp| {
        let (_, here) = it.fast(psp.outcomes(Property::Merchant));
        let (_, all) = it.alone(Property::Merchant).fast;
        Value::rate((here, all))
    }),
];

pub(super) const PSP_STATE: &[(&str, CandidateFeature)] = &[
    ("psp_approval_rate_15m", |_, psp| approved(window(psp, 0))),
    ("psp_decline_rate_15m", |_, psp| declined(window(psp, 0))),
    ("psp_timeout_rate_15m", |_, psp| timed_out(window(psp, 0))),
    ("psp_error_rate_15m", |_, psp| failed(window(psp, 0))),
    ("psp_results_15m", |_, psp| results(window(psp, 0))),
    ("psp_latency_p95_15m", |_, psp| {
        let with_results = window(psp, 0).filter(|window| window.latency_p95_ms > 0);
        Value::number(with_results.map(|window| window.latency_p95_ms as f64))
    }),
    ("psp_approval_rate_1h", |_, psp| approved(window(psp, 1))),
    ("psp_decline_rate_1h", |_, psp| declined(window(psp, 1))),
    ("psp_timeout_rate_1h", |_, psp| timed_out(window(psp, 1))),
    ("psp_error_rate_1h", |_, psp| failed(window(psp, 1))),
    ("psp_results_1h", |_, psp| results(window(psp, 1))),
    ("psp_approval_rate_24h", |_, psp| approved(window(psp, 2))),
    ("psp_decline_rate_24h", |_, psp| declined(window(psp, 2))),
    ("psp_timeout_rate_24h", |_, psp| timed_out(window(psp, 2))),
    ("psp_error_rate_24h", |_, psp| failed(window(psp, 2))),
    ("psp_results_24h", |_, psp| results(window(psp, 2))),
    ("psp_results_minute", |it, psp| Value::count(psp.standing(Property::Any).map_or(0, |any| it.in_minute(any)))),
    ("psp_failures_in_a_row", |_, psp| Value::count(psp.standing(Property::Any).map_or(0, |any| any.failures_in_a_row))),
    ("psp_seconds_since_approval", |it, psp| {
        let approved_at = psp.standing(Property::Any).and_then(|any| any.approved_at);
        Value::number(approved_at.map(|then| it.seconds_since(then)))
    }),
];

/// 15 minutes, an hour, a day.
fn window<'a>(psp: &CandidateFacts<'a>, number: usize) -> Option<&'a WindowStats> {
    let windows = psp.windows?;
    Some(match number {
        0 => &windows.last_15m,
        1 => &windows.last_1h,
        _ => &windows.last_24h,
    })
}

fn share<'a>(window: Option<&WindowStats>, hits: fn(&WindowStats) -> i64) -> Value<'a> {
    Value::rate(window.map_or((0.0, 0.0), |window| (hits(window) as f64, window.attempts as f64)))
}

fn approved<'a>(window: Option<&WindowStats>) -> Value<'a> {
    share(window, |window| window.approvals)
}

fn declined<'a>(window: Option<&WindowStats>) -> Value<'a> {
    share(window, |window| window.soft_declines + window.hard_declines)
}

fn timed_out<'a>(window: Option<&WindowStats>) -> Value<'a> {
    share(window, |window| window.timeouts)
}

fn failed<'a>(window: Option<&WindowStats>) -> Value<'a> {
    share(window, |window| window.errors)
}

fn results<'a>(window: Option<&WindowStats>) -> Value<'a> {
    Value::count(window.map_or(0.0, |window| window.attempts as f64))
}

pub(super) const HISTORY: &[(&str, CandidateFeature)] = &[
    ("psp_rate", |it, psp| slow(it, psp, Property::Any)),
    ("psp_rate_recent", |it, psp| Value::rate(it.fast(psp.outcomes(Property::Any)))),
    ("merchant_psp_rate", |it, psp| slow(it, psp, Property::Merchant)),
    ("bin_psp_rate", |it, psp| slow(it, psp, Property::Bin)),
    ("bin_psp_rate_recent", |it, psp| Value::rate(it.fast(psp.outcomes(Property::Bin)))),
    ("bin_psp_results", |it, psp| Value::count(it.slow(psp.outcomes(Property::Bin)).1)),
    ("country_psp_rate", |it, psp| slow(it, psp, Property::Country)),
    ("brand_psp_rate", |it, psp| slow(it, psp, Property::Brand)),
    ("brand_three_ds_psp_rate", |it, psp| slow(it, psp, Property::BrandThreeDs)),
    ("brand_three_ds_psp_rate_recent", |it, psp| Value::rate(it.fast(psp.outcomes(Property::BrandThreeDs)))),
    ("brand_three_ds_country_psp_rate", |it, psp| slow(it, psp, Property::BrandThreeDsCountry)),
    ("brand_three_ds_first_psp_rate", |it, psp| slow(it, psp, Property::BrandThreeDsFirst)),
    ("brand_three_ds_first_size_psp_rate", |it, psp| slow(it, psp, Property::BrandThreeDsFirstSize)),
    ("size_day_part_psp_rate", |it, psp| slow(it, psp, Property::SizeDayPart)),
    ("amount_psp_rate", |it, psp| slow(it, psp, Property::AmountBand)),
    ("hour_psp_rate", |it, psp| slow(it, psp, Property::Hour)),
    ("attempt_number_psp_rate", |it, psp| slow(it, psp, Property::AttemptNumber)),
    ("previous_psp_rate", |it, psp| slow(it, psp, Property::PreviousPsp)),
    ("message_psp_rate", |it, psp| slow(it, psp, Property::Message)),
    ("customer_psp_rate", |it, psp| Value::rate(it.slow(psp.of_customer))),
    ("token_psp_rate", |it, psp| Value::rate(it.slow(psp.of_card))),
];

fn slow<'a>(it: &RequestFacts<'a>, psp: &CandidateFacts<'a>, property: Property) -> Value<'a> {
    Value::rate(it.slow(psp.outcomes(property)))
}

/// All of them, by group.
pub(super) const EVERY: [&[(&str, CandidateFeature)]; 3] = [CANDIDATE, PSP_STATE, HISTORY];
