//! Features of the request: the same for every PSP. One function each, found by the name in the catalogue.

use super::customer::amount_log;
use super::facts::RequestFacts;
use super::key::{self, HOUR_MS, Property};
use super::state::{Came, Profile};
use super::value::Value;
use crate::domain::payment::{Airline, CardType, Customer, Initiator, InstallmentKind, MerchantReason};

pub(super) type RequestFeature = for<'a> fn(&RequestFacts<'a>) -> Value<'a>;

const DAY_MS: f64 = 86_400_000.0;

pub(super) const CARD: &[(&str, RequestFeature)] = &[
    ("card_brand", |it| Value::text(Some(&it.payment.card.brand))),
    ("card_type", |it| match it.payment.card.card_type {
        CardType::Unknown => Value::Missing,
        CardType::Credit => Value::Text("CREDIT"),
        CardType::Debit => Value::Text("DEBIT"),
        CardType::Prepaid => Value::Text("PREPAID"),
    }),
    ("card_bin", |it| Value::text(it.payment.card.bin.get(..6))),
    ("card_bin_range", |it| Value::text(it.payment.card.bin.get(..4))),
    ("card_bank", |it| Value::text(it.payment.card.bank.as_deref())),
    ("card_country", |it| Value::hash(Some(it.traits.get(Property::Country)))),
    ("card_has_token", |it| Value::Flag(it.payment.card.token.is_some())),
    ("bin_rate", |it| Value::rate(it.alone(Property::Bin).slow)),
    ("bin_results", |it| Value::count(it.alone(Property::Bin).slow.1)),
    ("country_rate", |it| Value::rate(it.alone(Property::Country).slow)),
    ("brand_three_ds_rate", |it| Value::rate(it.alone(Property::BrandThreeDs).slow)),
];

pub(super) const TRANSACTION: &[(&str, RequestFeature)] = &[
    ("merchant", |it| Value::hash(Some(it.traits.get(Property::Merchant)))),
    ("currency", |it| Value::text(Some(&it.payment.currency))),
    ("method", |it| Value::text(Some(&it.payment.method))),
    ("sub_method", |it| Value::text(it.payment.sub_method.as_deref())),
    ("mcc", |it| Value::text(Some(&it.payment.message.mcc))),
    ("amount", |it| Value::Number(key::major_amount(it.payment))),
    ("amount_log", |it| Value::Number(key::major_amount(it.payment))),
    ("amount_band", |it| Value::Code(key::amount_band(it.payment) + 1)),
    ("amount_is_round", |it| {
        let whole = key::major_amount(it.payment).max(0.0) as u64;
        Value::Flag(it.payment.amount_minor > 0 && whole.is_multiple_of(50))
    }),
    ("installments_count", |it| {
        Value::number(it.payment.installments.as_ref().map(|installments| f64::from(installments.count)))
    }),
    ("installments_kind", |it| match it.payment.installments.as_ref().map(|installments| installments.kind) {
        Some(InstallmentKind::Msi) => Value::Text("MSI"),
        Some(InstallmentKind::Mci) => Value::Text("MCI"),
        Some(InstallmentKind::Unknown) | None => Value::Missing,
    }),
    ("is_subscription", |it| Value::flag(it.payment.subscription)),
    ("amount_vs_merchant", |it| Value::number(it.alone(Property::Merchant).amount_log().map(|usual| against_usual(it, usual)))),
    ("merchant_rate", |it| Value::rate(it.alone(Property::Merchant).slow)),
    ("merchant_rate_recent", |it| Value::rate(it.alone(Property::Merchant).fast)),
    ("traffic_minute", |it| Value::count(it.alone(Property::Merchant).in_minute)),
];

/// How many times the usual amount, as a logarithm.
fn against_usual(it: &RequestFacts<'_>, usual_log: f64) -> f64 {
    amount_log(it.payment) - usual_log
}

pub(super) const MESSAGE: &[(&str, RequestFeature)] = &[
    ("initiator", |it| match it.payment.message.initiator {
        Initiator::Unknown => Value::Missing,
        Initiator::Customer => Value::Text("CUSTOMER"),
        Initiator::Merchant => Value::Text("MERCHANT"),
    }),
    ("merchant_reason", |it| Value::text(it.payment.message.merchant_reason.and_then(reason))),
    ("avs_sent", |it| Value::Flag(it.payment.message.avs_sent)),
    ("three_ds", |it| Value::Flag(it.payment.message.three_ds)),
    ("network_token", |it| Value::Flag(it.payment.message.network_token)),
    ("cvv_sent", |it| Value::Flag(it.payment.message.cvv_sent)),
];

fn reason(reason: MerchantReason) -> Option<&'static str> {
    Some(match reason {
        MerchantReason::Unknown => return None,
        MerchantReason::Recurring => "RECURRING",
        MerchantReason::Unscheduled => "UNSCHEDULED",
        MerchantReason::Installment => "INSTALLMENT",
        MerchantReason::Resubmission => "RESUBMISSION",
        MerchantReason::DelayedCharge => "DELAYED_CHARGE",
        MerchantReason::NoShow => "NO_SHOW",
        MerchantReason::Reauthorization => "REAUTHORIZATION",
    })
}

pub(super) const AIRLINE: &[(&str, RequestFeature)] = &[
    ("order_type", |it| Value::text(airline(it).and_then(|airline| airline.order_type.as_deref()))),
    ("passengers", |it| Value::number(airline(it).and_then(|airline| airline.passengers).map(f64::from))),
    ("origin", |it| Value::text(airline(it).and_then(|airline| airline.origin.as_deref()))),
    ("destination", |it| Value::text(airline(it).and_then(|airline| airline.destination.as_deref()))),
    ("route", |it| Value::hash(airline(it).and_then(route))),
    ("booking_window_days", |it| {
        let window = |airline: &Airline| Some((airline.departs_at? - airline.booked_at?) as f64 / DAY_MS);
        Value::number(airline(it).and_then(window))
    }),
    ("days_to_departure", |it| {
        let departs_at = airline(it).and_then(|airline| airline.departs_at);
        Value::number(departs_at.map(|departs_at| (departs_at - it.at) as f64 / DAY_MS))
    }),
    ("departure_weekday", |it| {
        let departs_at = airline(it).and_then(|airline| airline.departs_at);
        departs_at.map_or(Value::Missing, |departs_at| Value::Phase(weekday(departs_at)))
    }),
    ("amount_per_passenger", |it| {
        let passengers = airline(it).and_then(|airline| airline.passengers).filter(|passengers| *passengers > 0);
        Value::number(passengers.map(|passengers| key::major_amount(it.payment) / f64::from(passengers)))
    }),
];

fn airline<'a>(it: &RequestFacts<'a>) -> Option<&'a Airline> {
    it.payment.airline.as_ref()
}

fn route(airline: &Airline) -> Option<u64> {
    Some(key::joined(key::hash_of(airline.origin.as_deref()?), key::hash_of(airline.destination.as_deref()?)))
}

pub(super) const CUSTOMER: &[(&str, RequestFeature)] = &[
    ("rfm_recency", |it| Value::number(told(it).and_then(|customer| customer.rfm_recency))),
    ("rfm_frequency", |it| Value::number(told(it).and_then(|customer| customer.rfm_frequency))),
    ("rfm_monetary", |it| Value::number(told(it).and_then(|customer| customer.rfm_monetary))),
    ("fraud_rate_cohort", |it| Value::text(told(it).and_then(|customer| customer.fraud_rate_cohort.as_deref()))),
    ("tenure_days", |it| Value::number(told(it).and_then(|customer| customer.tenure_days).map(f64::from))),
    ("minutes_browsing", |it| Value::number(told(it).and_then(|customer| customer.minutes_browsing))),
    ("customer_attempts", |it| attempts(customer(it))),
    ("customer_rate", |it| rate(customer(it))),
    ("customer_failures_in_a_row", |it| failures_in_a_row(customer(it))),
    ("customer_seconds_since_attempt", |it| Value::number(customer(it).map(|profile| it.seconds_since(profile.last_at)))),
    ("customer_seconds_since_approval", |it| since(it, customer(it).and_then(|profile| profile.approved_at))),
    ("customer_days_known", |it| {
        Value::number(customer(it).map(|profile| it.seconds_since(profile.first_at) * 1_000.0 / DAY_MS))
    }),
    ("amount_vs_customer", |it| {
        let usual = customer(it).map(|profile| profile.amounts_log / f64::from(profile.attempts));
        Value::number(usual.map(|usual| against_usual(it, usual)))
    }),
    ("token_attempts", |it| attempts(card(it))),
    ("token_rate", |it| rate(card(it))),
    ("token_failures_in_a_row", |it| failures_in_a_row(card(it))),
    ("lookalike_results", |it| Value::count(it.lookalike().map_or(0, |sum| sum.results))),
    ("lookalike_rate", |it| {
        Value::rate(it.lookalike().map_or((0.0, 0.0), |sum| (f64::from(sum.approvals), f64::from(sum.results))))
    }),
    ("lookalike_seconds_since_result", |it| since(it, it.lookalike().and_then(|sum| sum.last).map(|(at, _)| at))),
    ("lookalike_seconds_since_approval", |it| since(it, it.lookalike().and_then(|sum| sum.approved_at))),
    ("lookalike_last_psp", |it| Value::hash(last_lookalike(it))),
];

fn told<'a>(it: &RequestFacts<'a>) -> Option<&'a Customer> {
    it.payment.customer.as_ref()
}

/// Of a customer who was seen before.
fn customer<'a>(it: &RequestFacts<'a>) -> Option<&'a Profile> {
    it.customer.map(|customer| &customer.profile).filter(|profile| profile.attempts > 0)
}

fn card<'a>(it: &RequestFacts<'a>) -> Option<&'a Profile> {
    it.card.map(|card| &card.profile)
}

/// The PSP of the last payment that looks the same.
pub(super) fn last_lookalike(it: &RequestFacts<'_>) -> Option<u64> {
    it.lookalike().and_then(|sum| sum.last).map(|(_, psp)| psp)
}

fn attempts<'a>(profile: Option<&Profile>) -> Value<'a> {
    Value::count(profile.map_or(0, |profile| profile.attempts))
}

fn rate<'a>(profile: Option<&Profile>) -> Value<'a> {
    Value::rate(profile.map_or((0.0, 0.0), |profile| (f64::from(profile.approvals), f64::from(profile.results))))
}

fn failures_in_a_row<'a>(profile: Option<&Profile>) -> Value<'a> {
    Value::count(profile.map_or(0, |profile| profile.failures_in_a_row))
}

fn since<'a>(it: &RequestFacts<'_>, then: Option<i64>) -> Value<'a> {
    Value::number(then.map(|then| it.seconds_since(then)))
}

pub(super) const RETRY: &[(&str, RequestFeature)] = &[
    ("attempt_number", |it| Value::count(it.attempt_number)),
    ("retry_failures", |it| Value::count(it.tries.failed)),
    ("retry_hard_declines", |it| Value::count(it.tries.hard)),
    ("retry_technical_failures", |it| Value::count(it.tries.technical)),
    ("retry_psps_tried", |it| Value::count(it.tries.psps)),
    ("seconds_since_previous", |it| Value::number(it.last().map(|last| it.seconds_since(last.at)))),
    ("seconds_since_first", |it| Value::number(it.chain.map(|chain| it.seconds_since(chain.first_at)))),
    ("seconds_between_attempts", |it| {
        let between = |last_at| it.chain.map(|chain| (last_at - chain.first_at) as f64 / 1_000.0 / f64::from(chain.attempts - 1));
        let last = it.last().filter(|_| it.tries.all > 1);
        Value::number(last.and_then(|last| between(last.at)))
    }),
    ("previous_psp", |it| Value::hash(it.last().map(|last| last.psp))),
    ("previous_result", |it| Value::text(it.last().and_then(|last| last.came).map(Came::as_str))),
    ("previous_code", |it| Value::hash(it.last().map(|last| last.code))),
    ("previous_category", |it| Value::hash(it.last().map(|last| last.category))),
    ("psp_before_previous", |it| {
        let tries = it.chain.map(|chain| &chain.tries);
        Value::hash(tries.and_then(|tries| tries.iter().rev().nth(1)).map(|tried| tried.psp))
    }),
    ("previous_psp_run", |it| Value::count(it.tries.last_psp_run)),
    ("order_attempts", |it| Value::count(it.customer.map_or(0, |customer| customer.order_attempts(&it.payment.order_id)))),
];

pub(super) const TIME: &[(&str, RequestFeature)] = &[
    ("hour", |it| Value::Phase(hour(it))),
    ("hour_of_day", |it| Value::Number(hour(it))),
    ("weekday", |it| Value::Phase(weekday(it.at))),
    ("day_of_week", |it| Value::Code(weekday(it.at) as u32 + 1)),
    ("day_of_month", |it| Value::number(date(it).map(|date| f64::from(chrono::Datelike::day(&date))))),
];

/// Hours since midnight UTC.
fn hour(it: &RequestFacts<'_>) -> f64 {
    it.at.rem_euclid(24 * HOUR_MS) as f64 / HOUR_MS as f64
}

/// Days since the last Monday, midnight UTC. The first day of 1970 was a Thursday.
fn weekday(at: i64) -> f64 {
    (at as f64 / DAY_MS + 3.0).rem_euclid(7.0)
}

fn date(it: &RequestFacts<'_>) -> Option<chrono::NaiveDate> {
    chrono::DateTime::from_timestamp_millis(it.at).map(|at| at.date_naive())
}

pub(super) const GEO_DEVICE: &[(&str, RequestFeature)] = &[
    ("geo_country", |it| Value::text(it.payment.geo.as_ref().and_then(|geo| geo.country.as_deref()))),
    ("ip_country", |it| Value::text(it.payment.geo.as_ref().and_then(|geo| geo.ip_country.as_deref()))),
    ("ip_is_elsewhere", |it| {
        let geo = it.payment.geo.as_ref();
        Value::flag(geo.and_then(|geo| Some(geo.country.as_ref()? != geo.ip_country.as_ref()?)))
    }),
    ("issuer_is_elsewhere", |it| {
        let country = it.payment.geo.as_ref().and_then(|geo| geo.country.as_ref());
        Value::flag(country.zip(it.payment.card.issuer_country.as_ref()).map(|(here, issuer)| here != issuer))
    }),
    ("browser", |it| Value::text(told(it).and_then(|customer| customer.browser.as_deref()))),
    ("device", |it| Value::text(told(it).and_then(|customer| customer.device.as_deref()))),
];

/// All of them, by group.
pub(super) const EVERY: [&[(&str, RequestFeature)]; 8] = [CARD, TRANSACTION, MESSAGE, AIRLINE, CUSTOMER, RETRY, TIME, GEO_DEVICE];
