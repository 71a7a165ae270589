//! Each sink against a local server that answers as its vendor documents.

use super::*;
use crate::domain::PspId;
use crate::domain::alert::{Change, ChangeKind};
use crate::domain::psp::{Evidence, HealthState, OutageCause, PspOutage, Segment, Severity};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

const TIMEOUT: Duration = Duration::from_millis(400);

fn alert(to: HealthState) -> Alert {
    let outage = PspOutage {
        outage_id: "0b2c".into(),
        psp_id: PspId::new("mit"),
        segment: Segment::all(),
        from: HealthState::Up,
        to,
        at: 1_790_000_000_000,
        first_evidence_at: 1_789_999_990_000,
        severity: if to == HealthState::Down { Severity::Critical } else { Severity::Info },
        cause: OutageCause::Timeouts,
        evidence: Evidence { n: 29, failures: 11, top_codes: vec!["91".into()], statistic: 1.0, threshold: 1.0 },
        payments_at_risk: 40,
        amount_at_risk_minor: 99,
        diverted: Vec::new(),
        summary: String::new(),
    };
    Alert {
        key: "the-key".into(),
        severity: outage.severity,
        title: "MIT <!channel> & co are DOWN".into(),
        common_cause: None,
        perhaps_repeated: false,
        changes: vec![Change { kind: ChangeKind::Transition, transitions: 1, text: "MIT: <http://x|11> & more".into(), outage }],
    }
}

/// What a server does with one request, once it has read it.
#[derive(Clone, Copy)]
enum Does {
    /// Status line and headers, then the body.
    Answer(&'static str, &'static str),
    /// Says nothing for longer than anybody waits.
    Sleep,
    /// Cuts the connection.
    Reset,
}

/// A server for one request: its address, and what it was sent (head, body).
fn serve(does: Does) -> (String, JoinHandle<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/services/T0/B0/hush-hush", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let sent = read_request(&mut stream);
        match does {
            Does::Answer(head, body) => {
                let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            Does::Sleep => thread::sleep(2 * TIMEOUT),
            Does::Reset => {}
        }
        sent
    });
    (url, thread)
}

fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        if bytes.len() >= end + 4 + length {
            return (head, bytes[end + 4..].to_vec());
        }
    }
}

/// In words: delivered, again (with what is asked, and whether in doubt), or refused; and the reason.
fn in_words(delivery: Delivery) -> (String, String) {
    match delivery {
        Delivery::Delivered => ("delivered".into(), String::new()),
        Delivery::TryAgain { after, reason, in_doubt } => {
            let after = after.map_or_else(String::new, |after| format!(" after {} s", after.as_secs()));
            (format!("again{after}{}", if in_doubt { ", in doubt" } else { "" }), reason)
        }
        Delivery::Refused { reason } => ("refused".into(), reason),
    }
}

#[track_caller]
fn check(make: impl Fn(&str) -> Box<dyn AlertSink>, rows: &[(Does, &str, &str)]) {
    for (does, expected, because) in rows {
        let (url, server) = serve(*does);
        let (outcome, reason) = in_words(make(&url).deliver(&alert(HealthState::Down)));
        server.join().unwrap();
        assert_eq!(outcome, *expected, "{reason}");
        assert!(reason.contains(because), "{because:?} is not in {reason:?}");
        assert!(!reason.contains("hush"), "{reason}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (outcome, reason) = in_words(make(&format!("http://{gone}/hush-hush")).deliver(&alert(HealthState::Down)));
    assert_eq!(outcome, "again", "nobody listens: {reason}");
    assert!(!reason.contains("hush"), "{reason}");
}

#[test]
fn slack_as_documented() {
    check(
        |url| Box::new(Slack::new(url, TIMEOUT).unwrap()),
        &[
            (Does::Answer("200 OK", "ok"), "delivered", ""),
            (Does::Answer("200 OK", "<html>"), "refused", "no incoming webhook"),
            (Does::Answer("400 Bad Request", "invalid_payload"), "refused", "HTTP 400: invalid_payload"),
            (Does::Answer("403 Forbidden", "action_prohibited"), "refused", "HTTP 403: action_prohibited"),
            (Does::Answer("404 Not Found", "no_service"), "refused", "HTTP 404: no_service"),
            (Does::Answer("410 Gone", "channel_is_archived"), "refused", "HTTP 410: channel_is_archived"),
            (Does::Answer("404 Not Found", "<html>hush</html>"), "refused", "HTTP 404"),
            (Does::Answer("302 Found\r\nLocation: http://127.0.0.1:1/", ""), "refused", "HTTP 302"),
            (
                Does::Answer("429 Too Many Requests\r\nRetry-After: 30", "rate_limited"),
                "again after 30 s",
                "HTTP 429: rate_limited",
            ),
            (Does::Answer("429 Too Many Requests\r\nRetry-After: 999999", ""), "again after 3600 s", "HTTP 429"),
            (Does::Answer("429 Too Many Requests", ""), "again", "HTTP 429"),
            (Does::Answer("500 Server Error", "rollup_error"), "again, in doubt", "HTTP 500: rollup_error"),
            (Does::Answer("503 Service Unavailable", ""), "again", "HTTP 503"),
            (Does::Sleep, "again, in doubt", "timed out"),
            (Does::Reset, "again, in doubt", ""),
        ],
    );
}

#[test]
fn pagerduty_as_documented() {
    let invalid =
        r#"{"status":"invalid event","message":"Event object is invalid","errors":["'routing_key' hush-key is wrong"]}"#;
    check(
        |url| Box::new(PagerDuty::new(url, "hush-key", TIMEOUT).unwrap()),
        &[
            (
                Does::Answer("202 Accepted", r#"{"status":"success","message":"Event processed","dedup_key":"0b2c"}"#),
                "delivered",
                "",
            ),
            (
                Does::Answer("400 Bad Request", invalid),
                "refused",
                "HTTP 400: Event object is invalid; 'routing_key' *** is wrong",
            ),
            (Does::Answer("403 Forbidden", "no"), "refused", "HTTP 403"),
            (Does::Answer("429 Too Many Requests", ""), "again", "HTTP 429"),
            (Does::Answer("502 Bad Gateway", "<html>"), "again, in doubt", "HTTP 502"),
            (Does::Sleep, "again, in doubt", "timed out"),
            (Does::Reset, "again, in doubt", ""),
        ],
    );
}

#[test]
fn webhooks_as_documented_here() {
    check(
        |url| Box::new(Webhook::new(url, "hush-secret", TIMEOUT).unwrap()),
        &[
            (Does::Answer("200 OK", ""), "delivered", ""),
            (Does::Answer("204 No Content", ""), "delivered", ""),
            (Does::Answer("401 Unauthorized", "hush"), "refused", "HTTP 401"),
            (Does::Answer("425 Too Early\r\nRetry-After: 2", ""), "again after 2 s", "HTTP 425"),
            (Does::Answer("504 Gateway Timeout", ""), "again, in doubt", "HTTP 504"),
            (Does::Reset, "again, in doubt", ""),
        ],
    );
}

fn sent(make: impl Fn(&str) -> Box<dyn AlertSink>, answer: Does, alert: &Alert) -> (String, Vec<u8>) {
    let (url, server) = serve(answer);
    assert_eq!(make(&url).deliver(alert), Delivery::Delivered);
    server.join().unwrap()
}

#[test]
fn what_slack_is_sent() {
    let message = slack::message(&alert(HealthState::Down));
    assert_eq!(message["text"], ":red_circle: MIT &lt;!channel&gt; &amp; co are DOWN");
    assert_eq!(message["blocks"][0]["text"]["type"], "plain_text");
    assert_eq!(message["blocks"][1]["text"]["text"], "MIT: &lt;http://x|11&gt; &amp; more");
    let fields = message["blocks"][1]["fields"].as_array().unwrap().iter().map(|field| field["text"].as_str().unwrap());
    let expected = ["*PSP*\nmit", "*Segment*\nALL", "*Change*\nUP → DOWN", "*At*\n2026-09-21 14:13:20 UTC"];
    assert_eq!(fields.collect::<Vec<_>>(), expected);
    let mut long = Alert { perhaps_repeated: true, common_cause: Some("all <at> once".into()), ..alert(HealthState::Up) };
    long.title = "x".repeat(4_000);
    long.changes = vec![long.changes[0].clone(); 60];
    long.changes[0].text = "y".repeat(9_000);
    let message = slack::message(&long);
    let blocks = message["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 24);
    assert!(
        blocks.iter().all(|block| block.pointer("/text/text").is_none_or(|text| text.as_str().unwrap().chars().count() <= 3_000))
    );
    assert!(blocks[0]["text"]["text"].as_str().unwrap().chars().count() <= 150);
    assert_eq!(blocks[1]["text"]["text"], "*Common cause.* all &lt;at&gt; once");
    assert!(blocks[22]["text"]["text"].as_str().unwrap().contains("40 more"));
    assert!(blocks[23]["elements"][0]["text"].as_str().unwrap().starts_with("_Perhaps told before"));
    let slack = |url: &str| -> Box<dyn AlertSink> { Box::new(Slack::new(url, TIMEOUT).unwrap()) };
    let (head, body) = sent(slack, Does::Answer("200 OK", "ok"), &alert(HealthState::Down));
    assert!(head.starts_with("post /services/t0/b0/hush-hush ") && head.contains("content-type: application/json"), "{head}");
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), slack::message(&alert(HealthState::Down)));
}

#[test]
fn what_pagerduty_is_sent() {
    let event = |to, kind| {
        let change = Change { kind, ..alert(to).changes.remove(0) };
        pagerduty::event(&change, Some("all at once"), "key")
    };
    for (to, kind, action) in [
        (HealthState::Down, ChangeKind::Transition, "trigger"),
        (HealthState::Degraded, ChangeKind::Transition, "trigger"),
        (HealthState::Recovering, ChangeKind::Transition, "acknowledge"),
        (HealthState::Recovering, ChangeKind::StillOut, "trigger"),
        (HealthState::Up, ChangeKind::Transition, "resolve"),
    ] {
        let event = event(to, kind);
        assert_eq!(event["event_action"], action, "{to}");
        assert_eq!((&event["routing_key"], &event["dedup_key"]), (&json!("key"), &json!("0b2c")));
        assert_eq!(event.get("payload").is_some(), action == "trigger");
    }
    let payload = &event(HealthState::Down, ChangeKind::Transition)["payload"];
    let fields = (&payload["severity"], &payload["source"], &payload["component"], &payload["timestamp"], &payload["class"]);
    let expected = (&json!("critical"), &json!("mit"), &json!("ALL"), &json!("2026-09-21T14:13:20.000Z"), &json!("TIMEOUTS"));
    assert_eq!(fields, expected);
    assert_eq!(payload["custom_details"]["common_cause"], "all at once");
    let severity = |severity| {
        let mut change = alert(HealthState::Down).changes.remove(0);
        change.outage.severity = severity;
        pagerduty::event(&change, None, "key")["payload"]["severity"].clone()
    };
    let all = [Severity::Critical, Severity::Warning, Severity::Info, Severity::Unknown].map(severity);
    assert_eq!(all, ["critical", "warning", "info", "error"]);
}

#[test]
fn what_a_webhook_is_sent() {
    let webhook = |url: &str| -> Box<dyn AlertSink> { Box::new(Webhook::new(url, "key", TIMEOUT).unwrap()) };
    let (head, body) = sent(webhook, Does::Answer("200 OK", ""), &alert(HealthState::Down));
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap().to_owned();
    assert_eq!(header("idempotency-key"), "the-key");
    let timestamp = header("smartrouter-timestamp");
    assert_eq!(header("smartrouter-signature"), format!("v1={}", webhook::signature("key", &timestamp, &body)));
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&told["version"], &told["key"], &told["severity"]), (&json!(1), &json!("the-key"), &json!("CRITICAL")));
    assert_eq!(told["changes"][0]["outage"]["to"], "DOWN");
    assert_eq!(serde_json::from_slice::<Alert>(&body).unwrap(), alert(HealthState::Down));
}

/// By `openssl dgst -sha256 -hmac`, and RFC 4231's second case in spirit: what others compute is what we send.
#[test]
fn the_signature_is_that_of_others() {
    assert_eq!(
        webhook::signature("key", "1790000000", b"{}"),
        "099d33989336226b12c85da813adf6100e1bbab1e91bede9a41ddeb7882d66b8"
    );
}

#[test]
fn sinks_that_cannot_be_made_say_no_secret() {
    let error = Slack::new("http://[hush", TIMEOUT).err().unwrap().to_string();
    assert!(!error.contains("hush"), "{error}");
    assert_eq!(LogSink.deliver(&alert(HealthState::Down)), Delivery::Delivered);
}
