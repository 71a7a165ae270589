//! `psp down|up|auto`: an operator's word, sent to the task that keeps the PSP, as a record like any other.
//!
//! Shows what is meant and sends it with `--execute`; then waits a little for the state to say so. Decides nothing: while no router
//! runs, the order waits in its topic.

use super::{COLUMNS, states};
use crate::cli::context::Context;
use crate::cli::screen::remark;
use crate::cli::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use smartrouter::domain::PspId;
use smartrouter::domain::Validate;
use smartrouter::domain::learning::StatsDelta;
use smartrouter::domain::psp::{HealthState, Override, OverrideTo, PspState, Segment};
use smartrouter::io::codec::Codec;
use smartrouter::io::log::{EventLog, Output};
use smartrouter::io::topics;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub(in crate::cli) struct Order {
    #[command(flatten)]
    target: Target,
    /// Why: shown with the state and told with the alert
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// How long it holds, such as 30m, 2h or 1d; without it until `psp auto`
    #[arg(long = "for", value_name = "TIME", value_parser = milliseconds)]
    for_ms: Option<i64>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Target {
    #[arg(value_name = "PSP")]
    psp_id: String,
    /// Only this part of its traffic, such as BRAND:VISA
    #[arg(long, value_name = "KIND:VALUE", default_value = "ALL")]
    segment: Segment,
    /// Who says so, instead of the name in $USER
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Do it
    #[arg(long)]
    execute: bool,
}

const SEEN_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// `30s`, `45m`, `2h`, `1d`.
fn milliseconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no length of time: give a whole number and s, m, h or d, such as 30m");
    let unit_at = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let number = number.parse::<i64>().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    number.checked_mul(unit_ms).ok_or_else(wrong)
}

/// Where orders go, and how they are written.
type Way<'a> = (&'a dyn EventLog, &'a Codec);

pub(super) fn force(context: &Context, way: Way<'_>, order: &Order, to: OverrideTo) -> Result<Verdict> {
    if order.reason.trim().is_empty() {
        bail!(WrongUse("--reason is empty: say why, for those who see the alert".to_owned()));
    }
    send(context, way, &order.target, (to, &order.reason, order.for_ms))
}

pub(super) fn release(context: &Context, way: Way<'_>, target: &Target) -> Result<Verdict> {
    send(context, way, target, (OverrideTo::Auto, "", None))
}

fn send(
    context: &Context,
    (log, codec): Way<'_>,
    target: &Target,
    (to, reason, for_ms): (OverrideTo, &str, Option<i64>),
) -> Result<Verdict> {
    let screen = context.screen();
    let psp_id = PspId::new(&target.psp_id);
    let mut known = states(log, codec, context.topic(topics::PSP_STATES))?;
    known.retain(|state| state.psp_id == psp_id);
    if known.is_empty() && context.config().settings.psps.iter().all(|psp| psp.id != psp_id) {
        return Err(super::unknown(&target.psp_id));
    }
    let by = target.by.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "operator".to_owned());
    let order = Override { segment: target.segment.clone(), to, reason: reason.to_owned(), by, for_ms };
    let now: Vec<&PspState> = known.iter().filter(|state| state.segment == target.segment).collect();
    if !screen.is_json() {
        screen.rows(COLUMNS, &now, "nothing is known of that part of its traffic yet")?;
    }
    screen.say(plan(&target.psp_id, &order))?;
    let seen = if target.execute {
        let watermark = chrono::Utc::now().timestamp_millis();
        let delta =
            StatsDelta { overrides: vec![order.clone()], ..StatsDelta::of_tallies(psp_id.clone(), watermark, Vec::new()) };
        delta.validate().map_err(|wrong| WrongUse(wrong.to_string()))?;
        let mut value = Vec::new();
        codec.encode(&delta, &mut value).context("the order cannot be written")?;
        append(context, log, (&psp_id, Bytes::from(value)))?;
        is_seen(context, (log, codec), (&psp_id, &order))?
    } else {
        remark("nothing was sent: this is the plan; --execute carries it out");
        false
    };
    match (target.execute, seen) {
        (true, true) => screen.say("in force")?,
        (true, false) => {
            remark("sent; no router has taken it up yet: it is taken up when one runs (`smartrouter psp show` tells)");
        }
        (false, _) => {}
    }
    screen.object(&json!({
        "psp_id": psp_id, "segment": order.segment, "to": order.to, "for_ms": order.for_ms, "executed": target.execute, "in_force": seen,
    }))?;
    Ok(Verdict::Done)
}

fn plan(psp_id: &str, order: &Override) -> String {
    let (segment, by) = (&order.segment, &order.by);
    let lasting = match order.for_ms {
        Some(ms) => format!("for {} s", ms / 1_000),
        None => "until `smartrouter psp auto`".to_owned(),
    };
    match order.to {
        OverrideTo::Down => format!("{psp_id} ({segment}) is to be DOWN {lasting}, whatever is seen there; by order of {by}"),
        OverrideTo::Up => format!("{psp_id} ({segment}) is to be UP {lasting}, whatever is seen there; by order of {by}"),
        OverrideTo::Auto | OverrideTo::Unknown => {
            format!("{psp_id} ({segment}) is to be judged by what is seen there again; by order of {by}")
        }
    }
}

fn append(context: &Context, log: &dyn EventLog, (psp_id, value): (&PspId, Bytes)) -> Result<()> {
    let mut appender = log.appender()?;
    appender.append(vec![Output {
        topic: Arc::from(context.topic(topics::STATS_DELTAS)),
        partition: None,
        timestamp_ms: None,
        key: Some(Bytes::copy_from_slice(psp_id.as_str().as_bytes())),
        value: Some(value),
        headers: Vec::new(),
    }])?;
    Ok(appender.flush()?)
}

/// Whether the published state says so, soon.
fn is_seen(context: &Context, (log, codec): Way<'_>, (psp_id, order): (&PspId, &Override)) -> Result<bool> {
    let begun = Instant::now();
    let says_so = |state: &PspState| match (order.to, &state.manual) {
        (OverrideTo::Up, Some(manual)) => manual.to == HealthState::Up && manual.reason == order.reason,
        (OverrideTo::Down, Some(manual)) => manual.to == HealthState::Down && manual.reason == order.reason,
        (OverrideTo::Auto, manual) => manual.is_none(),
        _ => false,
    };
    loop {
        let states = states(log, codec, context.topic(topics::PSP_STATES))?;
        let state = states.iter().find(|state| state.psp_id == *psp_id && state.segment == order.segment);
        if state.is_some_and(says_so) {
            return Ok(true);
        }
        if begun.elapsed() > SEEN_WITHIN {
            return Ok(false);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_a_unit() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(milliseconds(text).ok(), expected, "{text:?}");
        check("30s", Some(30_000));
        check("45m", Some(2_700_000));
        check("2h", Some(7_200_000));
        check("1d", Some(86_400_000));
        for wrong in ["", "h", "5", "-1h", "0m", "1.5h", "9223372036854775807d", "5 ü", "ü"] {
            check(wrong, None);
        }
    }
}
