//! A transition in plain words: what, since when, how sure, what is at risk, where the traffic went.
//!
//! Pure text of one record and of the reading that it rests on. Decides nothing, and knows no channel that it is sent on.

use super::baseline::Signal;
use super::detector::Reading;
use crate::domain::money::{grouped, written};
use crate::domain::psp::{HealthState, Manual, OutageCause, PspOutage, Segment, SegmentKind};
use crate::domain::utc_text;
use crate::engine::settings::HealthSettings;

/// `money`: the amount at risk by currency, where that is known.
pub(super) fn of(
    outage: &PspOutage,
    reading: &Reading,
    manual: Option<&Manual>,
    (money, health): (&[(String, i64)], &HealthSettings),
) -> String {
    let what = format!("{} is {}", outage.psp_id, outage.to);
    let (traffic, at) = (part(&outage.segment), utc_text(outage.at));
    if let (OutageCause::Manual, Some(manual)) = (outage.cause, manual) {
        let until =
            manual.lapses_at.map_or_else(|| "until that is taken back".to_owned(), |until| format!("until {}", utc_text(until)));
        let reason = manual.reason.trim_end_matches('.');
        return format!("{what} for {traffic} since {at}, by order of {} {until}: {reason}.{}", manual.by, diverted(outage));
    }
    let lasted = lasting(outage.at - outage.first_evidence_at);
    match (outage.from, outage.to) {
        (HealthState::Recovering, HealthState::Down) => {
            format!("{what} again for {traffic} since {at}: payments failed while it was tried.{}", diverted(outage))
        }
        (_, HealthState::Down | HealthState::Degraded) => {
            let evidence = evidence(outage, reading);
            format!("{what} for {traffic} since {at}: {evidence}. {}{}", sure(outage, reading, health), at_risk(outage, money))
        }
        (_, HealthState::Recovering) => {
            let share = health.sample_rate * 100.0;
            format!(
                "{what} for {traffic} since {at}: it is tried with {share:.0} % of its payments, {lasted} after the trouble began.{}",
                diverted(outage)
            )
        }
        (_, HealthState::Up | HealthState::Unknown) => {
            format!("{what} again for {traffic} since {at}. It lasted {lasted}.{}{}", at_risk(outage, money), diverted(outage))
        }
    }
}

/// `all traffic`, `brand VISA`.
fn part(segment: &Segment) -> String {
    let kind = match segment.kind {
        SegmentKind::All => return "all traffic".to_owned(),
        SegmentKind::Brand => "brand",
        SegmentKind::Currency => "currency",
        SegmentKind::Method => "method",
        SegmentKind::SubMethod => "sub-method",
        SegmentKind::IssuerCountry => "issuer country",
        SegmentKind::Merchant => "merchant",
        SegmentKind::Pair => "pair",
        SegmentKind::Unknown => "part",
    };
    format!("{kind} {}", segment.value)
}

/// `11 of 12 payments since 19:00:10 UTC failed (91, timeout)`.
fn evidence(outage: &PspOutage, reading: &Reading) -> String {
    let seen = &outage.evidence;
    let how = match (reading.signal, outage.cause) {
        (Signal::Slow, _) => "were slow",
        (Signal::Declines, _) => "were declined",
        (Signal::Silence, _) | (_, OutageCause::Silence) => "went without an answer",
        (Signal::Failures, OutageCause::Timeouts) => "timed out",
        (Signal::Failures, _) => "failed",
    };
    let is_code = reading.signal == Signal::Failures && !seen.top_codes.is_empty();
    let codes = if is_code { format!(" ({})", seen.top_codes.join(", ")) } else { String::new() };
    format!("{} of {} payments since {} {how}{codes}", seen.failures, seen.n, utc_text(outage.first_evidence_at))
}

fn sure(outage: &PspOutage, reading: &Reading, health: &HealthSettings) -> String {
    if reading.is_of_seed_rule() {
        let (rate, limit) = (outage.evidence.statistic * 100.0, outage.evidence.threshold * 100.0);
        let reached = if rate < limit { ", which a part of it has reached" } else { "" };
        return format!("That is {rate:.0} %, the limit is {limit:.0} %{reached}.");
    }
    let run_length = health.sequential.results_per_false_alarm.max(1.0) as u64;
    format!("Chance raises such an alarm less than once in {} payments.", grouped(run_length))
}

fn at_risk(outage: &PspOutage, money: &[(String, i64)]) -> String {
    let amounts: Vec<String> = money.iter().map(|(currency, minor)| written(*minor, currency)).collect();
    let worth = if amounts.is_empty() { String::new() } else { format!(" of {}", amounts.join(" and ")) };
    format!(" At risk: {} payments{worth}.", grouped(outage.payments_at_risk.unsigned_abs()))
}

fn diverted(outage: &PspOutage) -> String {
    if outage.diverted.is_empty() {
        return String::new();
    }
    let name = |id: &str| if id.is_empty() { "others".to_owned() } else { id.to_owned() };
    let parts: Vec<String> = outage
        .diverted
        .iter()
        .map(|it| format!("{} to {}", grouped(it.payments.unsigned_abs()), name(it.psp_id.as_str())))
        .collect();
    format!(" Payments went elsewhere: {}.", parts.join(", "))
}

/// The two largest units: `1 h 5 min`.
fn lasting(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_short() {
        let check = |seconds: i64, expected: &str| assert_eq!(lasting(seconds * 1_000), expected);
        check(-5, "0 s");
        check(59, "59 s");
        check(61, "1 min 1 s");
        check(3_900, "1 h 5 min");
        check(90_000, "1 d 1 h");
    }
}
