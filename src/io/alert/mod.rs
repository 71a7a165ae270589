//! Where alerts go: one port, and an adapter for each vendor.
//!
//! Owns the vendors' forms of an alert, and what their answers mean: delivered, to be tried again, or refused for good. Never retries,
//! never keeps anything, never decides what is told or when: `engine::alerts` does, and `runtime::alerts` tries again. Never shows a
//! secret: addresses and keys are in no reason. The clients block: do not build or call them on an async thread.

mod http;
mod slack;
mod pagerduty;
mod webhook;
mod log_sink;
#[cfg(test)]
mod tests;

pub use log_sink::LogSink;
pub use pagerduty::{PAGERDUTY_URL, PagerDuty};
pub use slack::Slack;
pub use webhook::Webhook;

use crate::domain::alert::Alert;
use std::time::Duration;
use thiserror::Error;

/// Takes alerts, one at a time.
pub trait AlertSink: Send {
    fn deliver(&mut self, alert: &Alert) -> Delivery;
}

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Delivered,
    /// It did not arrive, or nobody knows.
    TryAgain {
        /// As the vendor asks; absent: whenever the caller likes.
        after: Option<Duration>,
        reason: String,
        /// Whether it may have arrived all the same.
        in_doubt: bool,
    },
    /// Sent again it would be refused again: a human is to act.
    Refused {
        reason: String,
    },
}

/// A sink that cannot be made. The address is not told: it may be a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("no client for this address: {0}")]
pub struct SinkError(String);
