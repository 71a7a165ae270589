//! A webhook of anybody's: the alert as JSON, signed.
//!
//! A POST of `{"version": 1, …}` with the fields of `domain::alert::Alert`. Three headers come with it:
//! - `Idempotency-Key`: the alert's key; who has taken it before answers 2xx and does nothing;
//! - `Smartrouter-Timestamp`: seconds since 1970, when it was sent; refuse what is old;
//! - `Smartrouter-Signature`: `v1=` and, in hex, HMAC-SHA256 under the shared secret over the timestamp, a dot, and the body's bytes.
//!
//! Any 2xx means taken; 408, 425, 429 and 5xx mean again (after Retry-After seconds); all else is for good.

use super::http::Endpoint;
use super::{AlertSink, Delivery, SinkError};
use crate::domain::alert::Alert;
use crate::domain::hex;
use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    #[serde(flatten)]
    alert: &'a Alert,
}

pub struct Webhook {
    endpoint: Endpoint,
    secret: String,
}

impl Webhook {
    pub fn new(url: &str, secret: &str, timeout: Duration) -> Result<Self, SinkError> {
        Ok(Self { endpoint: Endpoint::new(url, &[secret], timeout)?, secret: secret.to_owned() })
    }
}

impl AlertSink for Webhook {
    fn deliver(&mut self, alert: &Alert) -> Delivery {
        let body = match serde_json::to_vec(&Body { version: 1, alert }) {
            Ok(body) => body,
            Err(error) => return Delivery::Refused { reason: error.to_string() },
        };
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).to_string();
        let headers = [
            ("Idempotency-Key", alert.key.clone()),
            ("Smartrouter-Signature", format!("v1={}", signature(&self.secret, &timestamp, &body))),
            ("Smartrouter-Timestamp", timestamp),
        ];
        match self.endpoint.post(body, &headers) {
            Ok(answer) if answer.status.is_success() => Delivery::Delivered,
            Ok(answer) => self.endpoint.failure(&answer, ""),
            Err(without) => without,
        }
    }
}

pub(super) fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    // A key of HMAC may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    hex(&mac.finalize().into_bytes())
}
