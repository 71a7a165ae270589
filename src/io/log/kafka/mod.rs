//! The event log on Apache Kafka.
//!
//! Owns everything that knows rdkafka; nothing of it is seen outside. Blocking calls only: the asynchronous consumers of rdkafka stall.
//! Never shows a secret property, never writes to stderr.
//! Neighbours: the port above; `runtime` gives each member one thread.

mod properties;
mod context;
mod errors;
mod fetcher;
mod reader;
mod transactor;
mod member;
mod appender;
mod admin;

pub use properties::is_secret;

use crate::io::log::{Appender, EventLog, GroupMember, LogError, Reader, TopicDescription, TopicPartition};
use context::Reach;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// How to reach a cluster, and how patient to be.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port`, comma-separated.
    pub bootstrap: String,
    /// Straight to librdkafka, over what we would choose.
    pub properties: BTreeMap<String, String>,
    /// Names us in the brokers' logs and quotas; readers use it as the prefix of their group's name.
    pub client_id: String,
    /// A member that is silent for so long loses its partitions.
    pub session_timeout_ms: u32,
    /// A member that does not poll for so long loses its partitions.
    pub max_poll_interval_ms: u32,
    /// A transaction that is open for so long is aborted by the broker. Until then readers wait behind it.
    pub transaction_timeout_ms: u32,
    /// A commit that did not end by then is given up as unsettled. Less than `transaction_timeout_ms`.
    pub commit_watchdog_ms: u32,
    /// How long a question to the cluster is repeated.
    pub answer_timeout_ms: u32,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            bootstrap: "127.0.0.1:9092".to_owned(),
            properties: BTreeMap::new(),
            client_id: "smartrouter".to_owned(),
            session_timeout_ms: 10_000,
            max_poll_interval_ms: 300_000,
            transaction_timeout_ms: 20_000,
            commit_watchdog_ms: 15_000,
            answer_timeout_ms: 10_000,
        }
    }
}

impl KafkaOptions {
    fn commit_watchdog(&self) -> Duration {
        Duration::from_millis(self.commit_watchdog_ms.into())
    }

    /// A join that has no answer for so long is begun anew. That disturbs nobody: the member has a name, and the group knows it by that.
    fn join_max(&self) -> Duration {
        Duration::from_millis(self.session_timeout_ms.into()) * 3
    }

    fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms.into())
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |(key, value): (&String, &String)| (key.clone(), if is_secret(key) { "***".to_owned() } else { value.clone() });
        f.debug_struct("KafkaOptions")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &self.properties.iter().map(shown).collect::<BTreeMap<_, _>>())
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// A Kafka cluster.
pub struct KafkaLog {
    options: Arc<KafkaOptions>,
    reach: Arc<Reach>,
    tool: admin::Tool,
    cluster_id: String,
    /// Threads of transactional producers, those that hang among them.
    live_transactors: Arc<AtomicUsize>,
}

impl KafkaLog {
    /// Checks the options and that the cluster answers.
    pub fn connect(mut options: KafkaOptions) -> Result<Self, LogError> {
        properties::check(&options)?;
        if let Some(given) =
            options.properties.get("bootstrap.servers").or_else(|| options.properties.get("metadata.broker.list"))
        {
            options.bootstrap.clone_from(given);
        }
        if options.commit_watchdog_ms >= options.transaction_timeout_ms {
            return Err(LogError::Refused(format!(
                "the commit watchdog ({} ms) has to be shorter than the transaction time-out ({} ms)",
                options.commit_watchdog_ms, options.transaction_timeout_ms
            )));
        }
        let reach = Arc::new(Reach::new(&options.bootstrap));
        let tool = admin::tool(&options, &reach)?;
        let cluster_id = admin::cluster_id(&tool, options.answer_timeout())?;
        Ok(Self { options: Arc::new(options), reach, tool, cluster_id, live_transactors: Arc::default() })
    }
}

impl EventLog for KafkaLog {
    fn member(&self, group: &str, instance: &str, topics: &[String]) -> Result<Box<dyn GroupMember>, LogError> {
        Ok(Box::new(member::KafkaMember::open(self, group, instance, topics)?))
    }

    fn reader(&self) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(reader::KafkaReader::open(&self.options, &self.reach)?))
    }

    fn appender(&self) -> Result<Box<dyn Appender>, LogError> {
        Ok(Box::new(appender::KafkaAppender::open(&self.options, &self.reach)?))
    }

    fn log_id(&self) -> Result<String, LogError> {
        Ok(self.cluster_id.clone())
    }

    fn topics(&self, with_settings: &[String]) -> Result<Vec<TopicDescription>, LogError> {
        admin::topics(self, with_settings)
    }

    fn create_topics(&self, topics: &[TopicDescription]) -> Result<(), LogError> {
        admin::create_topics(self, topics)
    }

    fn group_offsets(&self, group: &str, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Option<i64>>, LogError> {
        admin::group_offsets(self, group, of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_print_without_secrets() {
        let mut options = KafkaOptions::default();
        options.properties.insert("sasl.password".into(), "hunter2".into());
        options.properties.insert("sasl.username".into(), "alice".into());
        let text = format!("{options:?}");
        assert!(text.contains("alice") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn an_absent_broker_is_named() {
        let options = KafkaOptions { bootstrap: "127.0.0.1:1".into(), answer_timeout_ms: 300, ..KafkaOptions::default() };
        let Err(LogError::Unavailable(text)) = KafkaLog::connect(options) else { panic!("expected Unavailable") };
        assert!(text.contains("127.0.0.1:1"), "{text}");
    }
}
