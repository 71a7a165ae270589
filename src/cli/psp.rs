//! `psp list|show`: how the PSPs are doing, as `psp.states` says.

use super::Verdict;
use super::context::Context;
use super::scan::scan;
use super::screen::{Column, percent, text, time};
use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use serde_json::Value;
use smartrouter::domain::psp::{PspState, SegmentKind};
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
    /// One PSP with all its segments
    Show {
        #[arg(value_name = "PSP")]
        psp_id: String,
    },
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

pub(super) fn run(context: &Context, command: &Command) -> Result<Verdict> {
    let mut states = states(context.log()?.as_ref(), &context.codec()?, context.topic(topics::PSP_STATES))?;
    match command {
        Command::List { segments: true } => {}
        Command::List { segments: false } => states.retain(|state| state.segment.kind == SegmentKind::All),
        Command::Show { psp_id } => {
            states.retain(|state| state.psp_id.as_str() == psp_id);
            if states.is_empty() {
                bail!("nothing is known of a PSP {psp_id:?}: `smartrouter psp list` shows those with traffic");
            }
        }
    }
    context.screen().rows(COLUMNS, &states, "no PSP has had any traffic yet")?;
    Ok(Verdict::Done)
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
    }
}
