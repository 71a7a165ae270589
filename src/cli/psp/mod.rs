//! `psp list|show|history`: how the PSPs are doing, as `psp.states` and `psp.outages` say; `psp down|up|auto`: what an operator wants.

mod order;
mod spark;

use super::Verdict;
use super::context::Context;
use super::scan::scan;
use super::screen::{Column, one_line, percent, text, time};
use anyhow::{Context as _, Result, anyhow};
use clap::Subcommand;
use serde_json::Value;
use smartrouter::domain::psp::{HealthState, OutageCause, OverrideTo, PspOutage, PspState, Segment, SegmentKind};
use smartrouter::engine::settings::HealthSettings;
use smartrouter::io::codec::Codec;
use smartrouter::io::log::EventLog;
use smartrouter::io::topics;
use std::collections::BTreeMap;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Every PSP with its state and windows
    List {
        /// Every segment, not only all traffic
        #[arg(long)]
        segments: bool,
    },
    /// One PSP with all its segments; for those that are not UP, why, and what brings them back
    Show {
        #[arg(value_name = "PSP")]
        psp_id: String,
    },
    /// Changes of state, oldest first
    History {
        /// Of this PSP only
        #[arg(value_name = "PSP")]
        psp_id: Option<String>,
        /// So many at most, the newest ones
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
        last: u16,
    },
    /// Take a PSP, or a part of its traffic, out by hand; without --execute only the plan is shown
    Down(order::Order),
    /// Put it back by hand, whatever is seen there; without --execute only the plan is shown
    Up(order::Order),
    /// End an order: what is seen there decides again; without --execute only the plan is shown
    Auto(order::Target),
}

const COLUMNS: &[Column] = &[
    Column::new("PSP", "/psp_id"),
    Column::shown("SEGMENT", "/segment", segment),
    Column::new("STATE", "/state"),
    Column::shown("SINCE", "/since", time),
    Column::shown("15 MIN", "/windows/last_15m", window),
    Column::shown("1 H", "/windows/last_1h", window),
    Column::shown("24 H", "/windows/last_24h", window),
    Column::new("P95 MS", "/windows/last_1h/latency_p95_ms"),
];

const HISTORY: &[Column] = &[
    Column::shown("AT", "/at", time),
    Column::new("PSP", "/psp_id"),
    Column::shown("SEGMENT", "/segment", segment),
    Column::new("FROM", "/from"),
    Column::new("TO", "/to"),
    Column::new("CAUSE", "/cause"),
    Column::shown("FAILED", "/evidence", evidence),
    Column::shown("CODES", "/evidence/top_codes", codes),
    Column::new("PAYMENTS AT RISK", "/payments_at_risk"),
];

fn unknown(psp_id: &str) -> anyhow::Error {
    anyhow!("nothing is known of a PSP {psp_id:?}: `smartrouter psp list` shows those with traffic")
}

pub(super) fn run(context: &Context, command: &Command) -> Result<Verdict> {
    let (log, codec) = (context.log()?, context.codec()?);
    let states = || states(log.as_ref(), &codec, context.topic(topics::PSP_STATES));
    match command {
        Command::List { segments } => {
            let mut states = states()?;
            states.retain(|state| *segments || state.segment.kind == SegmentKind::All);
            context.screen().rows(COLUMNS, &states, "no PSP has had any traffic yet")?;
        }
        Command::Show { psp_id } => {
            let mut states = states()?;
            states.retain(|state| state.psp_id.as_str() == psp_id);
            if states.is_empty() {
                return Err(unknown(psp_id));
            }
            let outages = outages(log.as_ref(), &codec, context.topic(topics::PSP_OUTAGES))?;
            context.screen().rows(COLUMNS, &states, "")?;
            states.retain(|state| state.state != HealthState::Up || state.manual.is_some());
            // What has nothing to explain needs no second reading of the topic.
            let courses = if states.is_empty() {
                BTreeMap::new()
            } else {
                courses(log.as_ref(), &codec, context.topic(topics::PSP_STATES), psp_id)?
            };
            for state in &states {
                context.screen().say(explanation(state, &outages, &context.config().settings.health))?;
                let course = courses.get(&state.segment).and_then(|records| spark::course(records));
                course.map_or(Ok(()), |course| context.screen().say(course))?;
            }
        }
        Command::History { psp_id, last } => {
            if let Some(psp_id) = psp_id
                && states()?.iter().all(|state| state.psp_id.as_str() != psp_id)
            {
                return Err(unknown(psp_id));
            }
            let mut outages = outages(log.as_ref(), &codec, context.topic(topics::PSP_OUTAGES))?;
            outages.retain(|outage| psp_id.as_deref().is_none_or(|psp_id| outage.psp_id.as_str() == psp_id));
            let newest = &outages[outages.len().saturating_sub(usize::from(*last))..];
            context.screen().rows(HISTORY, newest, "no PSP has changed its state yet")?;
        }
        Command::Down(order) => return order::force(context, (log.as_ref(), &codec), order, OverrideTo::Down),
        Command::Up(order) => return order::force(context, (log.as_ref(), &codec), order, OverrideTo::Up),
        Command::Auto(target) => return order::release(context, (log.as_ref(), &codec), target),
    }
    Ok(Verdict::Done)
}

/// Every record of that topic, oldest first.
fn outages(log: &dyn EventLog, codec: &Codec, topic: String) -> Result<Vec<PspOutage>> {
    let mut values = Vec::new();
    scan(log, &[topic], |record| values.extend(record.value))?;
    let decode = |value: bytes::Bytes| codec.decode::<PspOutage>(&value).context("a record of psp.outages cannot be read");
    let mut outages: Vec<PspOutage> = values.into_iter().map(decode).collect::<Result<_>>()?;
    outages.sort_by_key(|outage| outage.at);
    Ok(outages)
}

/// What the topic still has of a PSP's states, by segment, oldest first: compaction leaves the newest stretch whole.
fn courses(log: &dyn EventLog, codec: &Codec, topic: String, psp_id: &str) -> Result<BTreeMap<Segment, Vec<PspState>>> {
    let mut values = Vec::new();
    scan(log, &[topic], |record| {
        let key = record.key.unwrap_or_default();
        let rest = key.strip_prefix(psp_id.as_bytes());
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")) {
            values.extend(record.value);
        }
    })?;
    let mut courses: BTreeMap<Segment, Vec<PspState>> = BTreeMap::new();
    // A record of a version that is not known has no place in a picture.
    for state in values.iter().filter_map(|value| codec.decode::<PspState>(value).ok()) {
        courses.entry(state.segment.clone()).or_default().push(state);
    }
    Ok(courses)
}

/// Why a segment is in its state, and what ends it.
fn explanation(state: &PspState, outages: &[PspOutage], health: &HealthSettings) -> String {
    let entered =
        outages.iter().rev().find(|it| it.psp_id == state.psp_id && it.segment == state.segment && it.to == state.state);
    let told = entered.map(|outage| one_line(&outage.summary)).filter(|summary| !summary.is_empty());
    let why = told.unwrap_or_else(|| format!("{} is {} since {}.", state.segment, state.state, time(&state.since.into())));
    if let Some(manual) = &state.manual {
        if entered.is_some_and(|outage| outage.cause == OutageCause::Manual && !outage.summary.is_empty()) {
            return why;
        }
        let until = manual.lapses_at.map_or_else(|| "`smartrouter psp auto`".to_owned(), |until| time(&until.into()));
        let (by, reason) = (one_line(&manual.by), one_line(&manual.reason));
        return format!("{why} {} by order of {by}, until {until}: {reason}", manual.to);
    }
    let seconds = |ms: i64| ms as f64 / 1_000.0;
    let way_back = match (state.state, &state.recovery) {
        (HealthState::Down, _) => format!(
            " It is tried again when it has been down, and without failures, for {} s; each relapse doubles that, up to {} s.",
            seconds(health.hold_ms),
            seconds(health.hold_ms_max)
        ),
        (HealthState::Recovering, Some(recovery)) => format!(
            " It gets {:.0} % of its traffic, and {:.0} % of the rest as samples; {} results in a row went well, and each step takes {}.",
            100.0 * recovery.ramp_share,
            100.0 * recovery.sample_rate,
            recovery.consecutive_wins,
            health.wins_to_restore
        ),
        (HealthState::Degraded, _) => {
            format!(
                " It is UP again when no detector sees more than is usual, after {} s at the earliest.",
                seconds(health.dwell_ms)
            )
        }
        _ => String::new(),
    };
    format!("{why}{way_back}")
}

/// The newest record of every key of that topic.
pub(super) fn states(log: &dyn EventLog, codec: &Codec, topic: String) -> Result<Vec<PspState>> {
    let mut newest = BTreeMap::new();
    scan(log, &[topic], |record| {
        match record.value {
            Some(value) => newest.insert(record.key, value),
            None => newest.remove(&record.key),
        };
    })?;
    let decode = |value: bytes::Bytes| codec.decode::<PspState>(&value).context("a record of psp.states cannot be read");
    let mut states: Vec<PspState> = newest.into_values().map(decode).collect::<Result<_>>()?;
    states.sort_by(|a, b| (&a.psp_id, &a.segment).cmp(&(&b.psp_id, &b.segment)));
    Ok(states)
}

fn segment(value: &Value) -> String {
    let part = |name: &str| value.get(name).map(text).unwrap_or_default();
    match part("value") {
        value if value.is_empty() => part("kind"),
        value => format!("{}:{value}", part("kind")),
    }
}

fn evidence(value: &Value) -> String {
    let count = |name: &str| value.get(name).and_then(Value::as_i64).unwrap_or_default();
    format!("{} of {}", count("failures"), count("n"))
}

fn codes(value: &Value) -> String {
    let codes: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
    if codes.is_empty() { "-".to_owned() } else { codes.join(", ") }
}

/// Approval rate and the results it rests on.
fn window(value: &Value) -> String {
    match value.get("attempts").and_then(Value::as_i64) {
        None | Some(0) => "-".to_owned(),
        Some(attempts) => format!("{} of {attempts}", percent(value.get("approval_rate").unwrap_or(&Value::Null))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn windows_and_segments_are_short() {
        assert_eq!(window(&json!({"attempts": 200, "approval_rate": 0.815})), "81.5 % of 200");
        assert_eq!(window(&json!({"attempts": 0, "approval_rate": 0.0})), "-");
        assert_eq!(segment(&json!({"kind": "ALL", "value": ""})), "ALL");
        assert_eq!(segment(&json!({"kind": "BRAND", "value": "VISA"})), "BRAND:VISA");
        assert_eq!(evidence(&json!({"failures": 11, "n": 29})), "11 of 29");
        assert_eq!(codes(&json!(["91", "x\u{1b}[2J"])), "91, x [2J");
        assert_eq!(codes(&json!([])), "-");
    }
}
