//! `PagerDuty`, Events API v2: an event for each change, under the outage's id as `dedup_key`.
//!
//! `PagerDuty` answers 202; 400 with what is wrong, for good; 429, 5xx and the network are to be tried again. An event that is repeated
//! goes to the alert that is open under its key, or is dropped: repeats do no harm as long as they do not cross the end of an outage.

use super::http::{Answer, Endpoint};
use super::{AlertSink, Delivery, SinkError};
use crate::domain::alert::{Alert, Change, ChangeKind};
use crate::domain::psp::{HealthState, Severity};
use chrono::{DateTime, SecondsFormat};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

/// Of accounts in the EU: `https://events.eu.pagerduty.com/v2/enqueue`.
pub const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";
const SUMMARY_CHARS_MAX: usize = 1_024;

pub struct PagerDuty {
    endpoint: Endpoint,
    routing_key: String,
}

impl PagerDuty {
    pub fn new(url: &str, routing_key: &str, timeout: Duration) -> Result<Self, SinkError> {
        Ok(Self { endpoint: Endpoint::new(url, &[routing_key], timeout)?, routing_key: routing_key.to_owned() })
    }

    fn send(&self, event: &Value) -> Delivery {
        match self.endpoint.post(event.to_string().into_bytes(), &[]) {
            Ok(answer) if answer.status == StatusCode::ACCEPTED => Delivery::Delivered,
            Ok(answer) => self.endpoint.failure(&answer, &complaint(&answer)),
            Err(without) => without,
        }
    }
}

impl AlertSink for PagerDuty {
    fn deliver(&mut self, alert: &Alert) -> Delivery {
        let events = alert.changes.iter().map(|change| event(change, alert.common_cause.as_deref(), &self.routing_key));
        let mut refused = None;
        for event in events {
            match self.send(&event) {
                Delivery::Delivered => {}
                again @ Delivery::TryAgain { .. } => return again,
                reason @ Delivery::Refused { .. } => refused = Some(reason),
            }
        }
        refused.unwrap_or(Delivery::Delivered)
    }
}

/// `{"status":"invalid event","message":"Event object is invalid","errors":[…]}`
fn complaint(answer: &Answer) -> String {
    let Ok(answer) = serde_json::from_str::<Value>(&answer.body) else { return String::new() };
    let message = answer.get("message").and_then(Value::as_str);
    let errors = answer.get("errors").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    message.into_iter().chain(errors).collect::<Vec<_>>().join("; ")
}

pub(super) fn event(change: &Change, common_cause: Option<&str>, routing_key: &str) -> Value {
    let outage = &change.outage;
    let action = match (change.kind, outage.to) {
        (_, HealthState::Up | HealthState::Unknown) => "resolve",
        (ChangeKind::Transition, HealthState::Recovering) => "acknowledge",
        (_, HealthState::Degraded | HealthState::Down | HealthState::Recovering) => "trigger",
    };
    let mut event = json!({"routing_key": routing_key, "event_action": action, "dedup_key": outage.outage_id});
    if action == "trigger" {
        event["client"] = json!("smartrouter");
        event["payload"] = payload(change, common_cause);
    }
    event
}

fn payload(change: &Change, common_cause: Option<&str>) -> Value {
    let outage = &change.outage;
    let severity = match outage.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
        // Nobody is to sleep through what is not understood.
        Severity::Unknown => "error",
    };
    let time = |ms: i64| DateTime::from_timestamp_millis(ms).map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true));
    let summary: String = change.text.chars().take(SUMMARY_CHARS_MAX).collect();
    json!({
        "summary": summary,
        "source": outage.psp_id,
        "severity": severity,
        "timestamp": time(outage.at),
        "component": outage.segment.to_string(),
        "group": outage.psp_id,
        "class": outage.cause,
        "custom_details": {
            "from": outage.from,
            "to": outage.to,
            "first_evidence_at": time(outage.first_evidence_at),
            "results": outage.evidence.n,
            "failures": outage.evidence.failures,
            "top_codes": outage.evidence.top_codes,
            "payments_at_risk": outage.payments_at_risk,
            "amount_at_risk_minor": outage.amount_at_risk_minor,
            "common_cause": common_cause,
        },
    })
}
