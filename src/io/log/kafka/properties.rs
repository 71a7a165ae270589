//! The librdkafka properties of each client that the adapter makes.
//!
//! Three layers: what we think best, over it what the user gave (`-X`), over that what the promises of the port rest on. A user who
//! sets one of the last kind is told so when connecting. Values of secrets never leave this module but for librdkafka.

use super::KafkaOptions;
use crate::io::log::LogError;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// What the adapter's promises rest on, so a user may not set it.
const FIXED: [&str; 14] = [
    "allow.auto.create.topics",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "partition.assignment.strategy",
    "partitioner",
    "enable.gapless.guarantee",
    "transactional.id",
];

/// Whether a property's value must not be shown: passwords, private keys, tokens.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "jaas", "ssl.key", "private", "token", "oauthbearer.config"].iter().any(|word| key.contains(word))
}

pub(super) fn check(options: &KafkaOptions) -> Result<(), LogError> {
    match options.properties.keys().find(|key| FIXED.contains(&key.as_str())) {
        Some(key) => Err(LogError::Refused(format!("the Kafka property {key} is not yours to set: the guarantees rest on it"))),
        None => Ok(()),
    }
}

/// Which client is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role<'a> {
    /// Asks about the cluster.
    Tool,
    /// Asks about a group without joining it.
    GroupTool {
        group: &'a str,
    },
    /// Is a member of a group; fetches nothing.
    Membership {
        group: &'a str,
        instance: &'a str,
    },
    /// Fetches what it is told to; commits nothing.
    Fetch {
        group: &'a str,
    },
    Transactions {
        id: &'a str,
    },
    Append,
}

pub(super) fn of(role: Role<'_>, options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(if options.properties.contains_key("debug") {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Warning
    });
    for (key, value) in [
        ("bootstrap.servers", options.bootstrap.as_str()),
        ("client.id", options.client_id.as_str()),
        ("socket.keepalive.enable", "true"),
        // A broker that comes back is found within a second.
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "1000"),
        ("socket.connection.setup.timeout.ms", SILENCE_MS_MAX),
    ] {
        config.set(key, value);
    }
    advised(role, options, &mut config);
    for (key, value) in &options.properties {
        config.set(key, value);
    }
    fixed(role, &mut config);
    config
}

/// A connection that does not answer for so long is given up. What lies between us and a broker may forget a connection without telling
/// anybody; with librdkafka's own minute, an instance would fetch nothing for as long.
const SILENCE_MS_MAX: &str = "10000";

/// What we think best where the user says nothing.
fn advised(role: Role<'_>, options: &KafkaOptions, config: &mut ClientConfig) {
    match role {
        // librdkafka goes by the transaction's time-out here.
        Role::Transactions { .. } => {}
        _ => _ = config.set("socket.timeout.ms", SILENCE_MS_MAX),
    }
    match role {
        Role::Tool | Role::GroupTool { .. } => {}
        Role::Membership { .. } => {
            config.set("session.timeout.ms", options.session_timeout_ms.to_string());
            config.set("heartbeat.interval.ms", (options.session_timeout_ms / 4).max(1).to_string());
            config.set("max.poll.interval.ms", options.max_poll_interval_ms.max(options.session_timeout_ms).to_string());
        }
        Role::Fetch { .. } => {
            for (key, value) in [
                // A waiting fetch is not woken when a transaction ends, so it must not wait long.
                ("fetch.wait.max.ms", "10"),
                ("fetch.queue.backoff.ms", "5"),
                ("fetch.error.backoff.ms", "50"),
                // By partition: bounds the memory of fetched records.
                ("queued.max.messages.kbytes", "4096"),
                ("queued.min.messages", "50000"),
            ] {
                config.set(key, value);
            }
        }
        Role::Transactions { .. } => {
            config.set("transaction.timeout.ms", options.transaction_timeout_ms.to_string());
            for (key, value) in [
                ("linger.ms", "0"),
                // Right after a commit the broker answers CONCURRENT_TRANSACTIONS for some milliseconds.
                ("retry.backoff.ms", "1"),
                ("retry.backoff.max.ms", "100"),
            ] {
                config.set(key, value);
            }
            written(config);
        }
        Role::Append => {
            config.set("linger.ms", "5");
            config.set("message.timeout.ms", "60000");
            written(config);
        }
    }
}

fn written(config: &mut ClientConfig) {
    for (key, value) in [
        ("compression.type", "lz4"),
        // The topic's own limit decides, not the client's.
        ("message.max.bytes", "100000000"),
        ("queue.buffering.max.kbytes", "262144"),
        // A topic that is not there fails in seconds, one that was made just now is found.
        ("topic.metadata.propagation.max.ms", "3000"),
    ] {
        config.set(key, value);
    }
}

/// What the port promises.
fn fixed(role: Role<'_>, config: &mut ClientConfig) {
    match role {
        // Asked for ends, it tells those of what is not committed as well.
        Role::Tool => {
            config.set("isolation.level", "read_uncommitted");
        }
        Role::GroupTool { group } | Role::Membership { group, .. } | Role::Fetch { group } => {
            for (key, value) in [
                ("group.id", group),
                ("group.protocol", "classic"),
                ("isolation.level", "read_committed"),
                ("partition.assignment.strategy", "range"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "true"),
                // Positions are always given; where one is no longer there, the fetcher decides.
                ("auto.offset.reset", "error"),
                ("allow.auto.create.topics", "false"),
            ] {
                config.set(key, value);
            }
        }
        Role::Transactions { .. } | Role::Append => {
            config.set("enable.idempotence", "true");
            config.set("partitioner", "murmur2_random");
        }
    }
    match role {
        Role::Membership { instance, .. } => config.set("group.instance.id", instance),
        Role::Transactions { id } => config.set("transactional.id", id),
        _ => config,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        let rows = [
            ("sasl.password", true),
            ("ssl.key.password", true),
            ("ssl.key.pem", true),
            ("sasl.oauthbearer.client.secret", true),
            ("SASL.JAAS.CONFIG", true),
            ("sasl.username", false),
            ("bootstrap.servers", false),
            ("ssl.ca.location", false),
        ];
        for (key, expected) in rows {
            assert_eq!(is_secret(key), expected, "{key}");
        }
    }

    #[test]
    fn a_silent_connection_is_given_up_long_before_librdkafkas_minute() {
        let options = KafkaOptions::default();
        let roles = [
            Role::Tool,
            Role::GroupTool { group: "g" },
            Role::Membership { group: "g", instance: "i" },
            Role::Fetch { group: "g" },
        ];
        for role in roles {
            let config = of(role, &options);
            assert_eq!(config.get("socket.timeout.ms"), Some(SILENCE_MS_MAX), "{role:?}");
            assert_eq!(config.get("socket.connection.setup.timeout.ms"), Some(SILENCE_MS_MAX), "{role:?}");
        }
        // A transaction's time-out may be shorter, and librdkafka refuses what is longer.
        assert_eq!(of(Role::Transactions { id: "t" }, &options).get("socket.timeout.ms"), None);
    }

    #[test]
    fn users_override_advice_and_not_guarantees() {
        let mut options = KafkaOptions::default();
        options.properties.insert("fetch.wait.max.ms".into(), "7".into());
        assert!(check(&options).is_ok());
        let config = of(Role::Fetch { group: "g" }, &options);
        assert_eq!((config.get("fetch.wait.max.ms"), config.get("isolation.level")), (Some("7"), Some("read_committed")));
        options.properties.insert("isolation.level".into(), "read_uncommitted".into());
        let text = check(&options).unwrap_err().to_string();
        assert!(text.contains("isolation.level") && !text.contains("read_uncommitted"), "{text}");
    }
}
