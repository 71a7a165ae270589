//! What the codes of librdkafka and of brokers mean to a caller: who is to act.
//!
//! Owns that table. Never decides what to do about it: `transactor` and `fetcher` do.

use crate::io::log::LogError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Another client took over our transactions.
    Fenced,
    /// The consumer group has a new generation.
    Moved,
    /// This very record will never be taken.
    Unwritable,
    Missing,
    /// Rights, credentials or settings.
    Refused,
    /// May pass by itself.
    Transient,
}

pub(super) fn meaning(code: RDKafkaErrorCode) -> Meaning {
    use RDKafkaErrorCode as Code;
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Meaning::Fenced,
        Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::RebalanceInProgress
        | Code::AssignmentLost
        // No proof of another owner: a join whose answer was lost does it too. Transactions prove it.
        | Code::FencedInstanceId => Meaning::Moved,
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::MessageBatchTooLarge
        | Code::InvalidTimestamp
        | Code::InvalidRecord
        | Code::UnsupportedForMessageFormat => Meaning::Unwritable,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => Meaning::Missing,
        Code::Authentication
        | Code::SSL
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::InvalidTransactionTimeout
        | Code::InvalidSessionTimeout
        | Code::InconsistentGroupProtocol
        | Code::InvalidGroupId
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidArgument
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedCompressionType => Meaning::Refused,
        _ => Meaning::Transient,
    }
}

/// The code of an error, where it has one.
pub(super) fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    match error {
        KafkaError::AdminOp(code) => *code,
        KafkaError::ClientConfig(..) => RDKafkaErrorCode::InvalidArgument,
        other => other.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
    }
}

/// A property that librdkafka would not take. Its own text may quote the value, so it is left out for secrets.
pub(super) fn configuration(error: &KafkaError) -> LogError {
    LogError::Refused(match error {
        KafkaError::ClientConfig(_, _, key, _) if super::properties::is_secret(key) => {
            format!("the Kafka property {key} has a value that is not accepted (not shown)")
        }
        // The value is not shown: a mistyped name of a secret would show the secret.
        KafkaError::ClientConfig(_, text, key, _) => format!("the Kafka property {key} is not accepted: {text}"),
        // librdkafka names the property here, never the value of a secret one.
        KafkaError::ClientCreation(text) => format!("no Kafka client with these properties: {text}"),
        other => format!("no Kafka client with these properties: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::config::RDKafkaLogLevel;
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::{ClientConfig, config::FromClientConfig};

    #[test]
    fn codes_tell_who_is_to_act() {
        let rows = [
            (RDKafkaErrorCode::Fenced, Meaning::Fenced),
            (RDKafkaErrorCode::ProducerFenced, Meaning::Fenced),
            (RDKafkaErrorCode::IllegalGeneration, Meaning::Moved),
            (RDKafkaErrorCode::FencedInstanceId, Meaning::Moved),
            (RDKafkaErrorCode::UnknownMemberId, Meaning::Moved),
            (RDKafkaErrorCode::MessageSizeTooLarge, Meaning::Unwritable),
            (RDKafkaErrorCode::InvalidTimestamp, Meaning::Unwritable),
            (RDKafkaErrorCode::UnknownTopicOrPartition, Meaning::Missing),
            (RDKafkaErrorCode::TopicAuthorizationFailed, Meaning::Refused),
            (RDKafkaErrorCode::OperationTimedOut, Meaning::Transient),
            (RDKafkaErrorCode::CoordinatorLoadInProgress, Meaning::Transient),
        ];
        for (code, expected) in rows {
            assert_eq!(meaning(code), expected, "{code:?}");
        }
    }

    #[test]
    fn a_refused_property_is_named_and_a_secret_value_is_not_shown() {
        for (key, value) in [("ssl.key.password", "hunter2\0"), ("sasl.passwrd", "hunter2"), ("no.such.key", "hunter2")] {
            let mut config = ClientConfig::new();
            config.set(key, value).set_log_level(RDKafkaLogLevel::Critical);
            let Err(error) = BaseConsumer::from_config(&config) else { continue };
            let text = configuration(&error).to_string();
            assert!(text.contains(key) || matches!(error, KafkaError::Nul(_)), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
