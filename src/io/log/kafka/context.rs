//! What librdkafka tells on the side: logs, errors of connections.
//!
//! Owns what is known of the cluster's reach, shared by all clients of one `KafkaLog`: one warning when it is lost, one line when it is
//! back. Everything else of librdkafka goes to `tracing` (target `librdkafka`), nothing to stderr.

use super::errors::code_of;
use crate::io::log::LogError;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks; a panic of another holder leaves data that is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known about the way to the cluster.
#[derive(Debug)]
pub(super) struct Reach {
    bootstrap: String,
    lost: AtomicBool,
    trouble: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Reach {
    pub(super) fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned(), lost: AtomicBool::new(false), trouble: Mutex::new(None) }
    }

    /// A broker did something for us.
    pub(super) fn answered(&self) {
        if self.lost.load(Ordering::Relaxed) && self.lost.swap(false, Ordering::Relaxed) {
            *lock(&self.trouble) = None;
            tracing::info!(bootstrap = %self.bootstrap, "Kafka answers again");
        }
    }

    fn heard(&self, code: RDKafkaErrorCode, reason: &str) {
        use RDKafkaErrorCode as Code;
        let refused = turned_away(code);
        let connection = matches!(code, Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut);
        // "All brokers are down" says less than what came before it.
        if refused || connection {
            *lock(&self.trouble) = Some((code, reason.to_owned()));
        }
        if (refused || code == Code::AllBrokersDown) && !self.lost.swap(true, Ordering::Relaxed) {
            let why = lock(&self.trouble).as_ref().map_or_else(|| reason.to_owned(), |(_, why)| why.clone());
            tracing::warn!(bootstrap = %self.bootstrap, "no Kafka broker serves us at {}: {why}; trying again until one does", self.bootstrap);
        } else {
            tracing::debug!(target: "librdkafka", ?code, "{reason}");
        }
    }

    /// The brokers turned us away: waiting longer will not help.
    pub(super) fn refusal(&self) -> Option<LogError> {
        let trouble = lock(&self.trouble);
        let (code, reason) = trouble.as_ref()?;
        turned_away(*code).then(|| LogError::Refused(format!("Kafka at {} refuses us: {reason}", self.bootstrap)))
    }

    /// The error for a call that got no answer.
    pub(super) fn unavailable(&self, what: &str) -> LogError {
        self.refusal().unwrap_or_else(|| {
            let why = lock(&self.trouble).as_ref().map_or_else(String::new, |(_, reason)| format!(" ({reason})"));
            LogError::Unavailable(format!("{what}: no answer from Kafka at {}{why}", self.bootstrap))
        })
    }
}

/// A connection that came about and was refused, as opposed to a right that is missing for one topic.
fn turned_away(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Authentication
            | Code::SSL
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
    )
}

/// The context of one librdkafka client; `role` is what its callbacks need.
pub(super) struct Context<R> {
    pub(super) reach: Arc<Reach>,
    /// The text of the newest error event: rdkafka gives it to this callback only.
    reason: Mutex<String>,
    pub(super) role: R,
}

impl<R> Context<R> {
    pub(super) fn new(reach: &Arc<Reach>, role: R) -> Self {
        Self { reach: Arc::clone(reach), reason: Mutex::new(String::new()), role }
    }

    pub(super) fn reason(&self) -> String {
        lock(&self.reason).clone()
    }
}

impl<R: Send + Sync + 'static> ClientContext for Context<R> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // Connections that fail are told once, by `Reach`; the other two are advice about our own settings.
        let known = matches!(facility, "FAIL" | "ERROR" | "CONFWARN" | "MAXPOLL");
        if !known && (level as i32) <= RDKafkaLogLevel::Warning as i32 {
            tracing::warn!(target: "librdkafka", facility, "{text}");
        } else {
            tracing::debug!(target: "librdkafka", facility, "{text}");
        }
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        reason.clone_into(&mut lock(&self.reason));
        let code = code_of(&error);
        if code != RDKafkaErrorCode::PartitionEOF {
            self.reach.heard(code, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_cluster_is_named_with_its_cause_and_a_refusal_is_not_waited_for() {
        let reach = Reach::new("broker.example:9092");
        reach.heard(RDKafkaErrorCode::BrokerTransportFailure, "Connect to broker.example:9092 failed: Connection refused");
        reach.heard(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        let LogError::Unavailable(text) = reach.unavailable("topics") else { panic!("expected Unavailable") };
        assert!(text.contains("broker.example:9092") && text.contains("Connection refused"), "{text}");
        assert!(reach.refusal().is_none());
        reach.heard(RDKafkaErrorCode::Authentication, "SASL authentication failed");
        assert!(matches!(reach.unavailable("topics"), LogError::Refused(_)));
        reach.answered();
        assert!(reach.refusal().is_none());
    }
}
