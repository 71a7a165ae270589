//! Slack's incoming webhooks: one message for an alert.
//!
//! Slack answers 200 with the body `ok`; 400 (`invalid_payload`, `no_text`, …), 403 (`action_prohibited`, `invalid_token`), 404
//! (`no_service`, `channel_not_found`) and 410 (`channel_is_archived`) are for good; 429 comes with Retry-After. It knows no key by
//! which a repeat could be told.

use super::http::Endpoint;
use super::{AlertSink, Delivery, SinkError};
use crate::domain::alert::{Alert, Change};
use crate::domain::psp::Severity;
use crate::domain::utc_text;
use crate::io::failpoint;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

/// Slack takes 50 blocks; what is more is counted.
const CHANGES_MAX: usize = 20;
/// Slack's limits are 150 characters of a header, 3000 of a section and 2000 of a field in one.
const HEADER_CHARS_MAX: usize = 149;
const SECTION_CHARS_MAX: usize = 2_900;
const FIELD_CHARS_MAX: usize = 1_900;

pub struct Slack {
    endpoint: Endpoint,
}

impl Slack {
    pub fn new(url: &str, timeout: Duration) -> Result<Self, SinkError> {
        Ok(Self { endpoint: Endpoint::new(url, &[], timeout)? })
    }
}

impl AlertSink for Slack {
    fn deliver(&mut self, alert: &Alert) -> Delivery {
        let answer = match self.endpoint.post(message(alert).to_string().into_bytes(), &[]) {
            Ok(answer) => answer,
            Err(without) => return without,
        };
        let says = answer.body.trim();
        match answer.status {
            StatusCode::OK if says == "ok" => {
                failpoint::pass("slack-took-it");
                Delivery::Delivered
            }
            status if status.is_success() => {
                Delivery::Refused { reason: format!("HTTP {} without \"ok\": this is no incoming webhook", status.as_u16()) }
            }
            // Slack's own reasons are single words; a page from something in between is not shown.
            _ if says.len() <= 64 && says.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
                self.endpoint.failure(&answer, says)
            }
            _ => self.endpoint.failure(&answer, ""),
        }
    }
}

/// `text` is what notifications and readers without blocks show.
pub(super) fn message(alert: &Alert) -> Value {
    let sign = match alert.severity {
        Severity::Critical => ":red_circle:",
        Severity::Warning => ":large_orange_circle:",
        Severity::Info | Severity::Unknown => ":large_green_circle:",
    };
    let mut blocks = vec![json!({
        "type": "header",
        // Plain text is shown as it is: nothing in it is markup.
        "text": {"type": "plain_text", "text": cut(&format!("{sign} {}", alert.title), HEADER_CHARS_MAX), "emoji": true},
    })];
    if let Some(cause) = &alert.common_cause {
        blocks.push(section(&format!("*Common cause.* {}", escaped(cause))));
    }
    blocks.extend(alert.changes.iter().take(CHANGES_MAX).map(section_of));
    if let Some(more) = alert.changes.len().checked_sub(CHANGES_MAX).filter(|more| *more > 0) {
        blocks.push(section(&format!("… and {more} more: `smartrouter psp history`")));
    }
    let repeated = if alert.perhaps_repeated { "_Perhaps told before: no answer was kept._ " } else { "" };
    blocks.push(json!({
        "type": "context",
        "elements": [{"type": "mrkdwn", "text": format!("{repeated}smartrouter, alert {}", escaped(&alert.key))}],
    }));
    json!({"text": escaped(&format!("{sign} {}", alert.title)), "blocks": blocks})
}

/// What is said of a change, and beside it what to look for first.
fn section_of(change: &Change) -> Value {
    let outage = &change.outage;
    let at = utc_text(outage.at);
    let mut section = section(&escaped(&change.text));
    let fields = [
        ("PSP", outage.psp_id.as_str().to_owned()),
        ("Segment", outage.segment.to_string()),
        ("Change", format!("{} → {}", outage.from, outage.to)),
        ("At", at),
    ];
    let field = |(name, value): (&str, String)| json!({"type": "mrkdwn", "text": cut(&format!("*{name}*\n{}", escaped(&value)), FIELD_CHARS_MAX)});
    section["fields"] = fields.map(field).to_vec().into();
    section
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": cut(text, SECTION_CHARS_MAX)}})
}

/// Slack asks for these three, and no others; then `<!channel>` and links in a record are but text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}
