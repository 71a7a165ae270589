//! What a command works with: the checked configuration, and from it the log and the codec when the command needs them.

use super::globals::Globals;
use super::screen::Screen;
use anyhow::Result;
use smartrouter::config::{Config, EventLog as LogKind, LoadOptions, Loaded, LogFormat};
use smartrouter::io::codec::{Codec, RegistrySettings};
use smartrouter::io::log::EventLog;
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::kafka::{KafkaLog, KafkaOptions};
use smartrouter::io::topics::{self, TopicNames};
use smartrouter::telemetry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) struct Context {
    loaded: Loaded,
    names: TopicNames,
    screen: Screen,
}

/// How much a command tells on stderr without `-v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Talk {
    /// As configured: it runs for long, and its log is what an operator reads.
    AsConfigured,
    /// Errors only: its result is what is read.
    Little,
}

impl Context {
    pub(super) fn load(globals: &Globals, talk: Talk) -> Result<Self> {
        let loaded = load(globals)?;
        let telemetry = &loaded.config.telemetry;
        let level = if talk == Talk::Little && globals.verbose == 0 { "error" } else { telemetry.log_level.as_str() };
        let format = match telemetry.log_format {
            LogFormat::Auto => telemetry::LogFormat::for_stderr(),
            LogFormat::Text => telemetry::LogFormat::Text,
            LogFormat::Json => telemetry::LogFormat::Json,
        };
        telemetry::init_logs(level, format)?;
        let names = TopicNames::new(&loaded.config.topics.prefix);
        Ok(Self { loaded, names, screen: Screen::new(globals.output) })
    }

    pub(super) fn config(&self) -> &Config {
        &self.loaded.config
    }

    pub(super) fn screen(&self) -> &Screen {
        &self.screen
    }

    pub(super) fn names(&self) -> &TopicNames {
        &self.names
    }

    /// The full name of a topic.
    pub(super) fn topic(&self, base: &str) -> String {
        self.names.full(base)
    }

    /// The consumer group of the payment and stats tasks.
    pub(super) fn group(&self) -> String {
        format!("{}{}", self.config().topics.prefix, self.config().runtime.group)
    }

    /// The dead-letter topics of the inputs.
    pub(super) fn dead_letter_topics(&self) -> Vec<String> {
        [topics::PAYMENT_ATTEMPTS, topics::PAYMENT_OUTCOMES, topics::ROUTING_REQUESTS]
            .map(|input| self.topic(&format!("{input}.dlq")))
            .to_vec()
    }

    pub(super) fn state_dir(&self) -> &Path {
        &self.config().runtime.state_dir
    }

    /// Where the embedded log keeps its records.
    pub(super) fn embedded_dir(&self) -> PathBuf {
        self.state_dir().join("log")
    }

    /// Opens the log that the configuration names. A Kafka that is not there shows at the first call, not here.
    pub(super) fn log(&self) -> Result<Arc<dyn EventLog>> {
        Ok(match self.config().runtime.log {
            LogKind::Kafka => Arc::new(KafkaLog::connect(self.kafka_options())?),
            LogKind::Embedded => Arc::new(EmbeddedLog::open(self.embedded_dir(), EmbeddedOptions::default())?),
        })
    }

    fn kafka_options(&self) -> KafkaOptions {
        let kafka = &self.config().kafka;
        KafkaOptions {
            bootstrap: kafka.bootstrap_servers.clone(),
            properties: kafka.properties.clone(),
            session_timeout_ms: kafka.session_timeout_ms,
            transaction_timeout_ms: kafka.transaction_timeout_ms,
            ..KafkaOptions::default()
        }
    }

    /// The codec, with ids from the registry when one is configured.
    pub(super) fn codec(&self) -> Result<Codec> {
        let registry = &self.config().schema_registry;
        let Some(url) = &registry.url else { return Ok(Codec::from_ids()?) };
        let settings = RegistrySettings {
            url: url.clone(),
            username: registry.username.clone(),
            password: registry.password.expose().map(str::to_owned),
            ca_file: registry.ca_file.clone(),
            timeout_ms: registry.timeout_ms,
        };
        Ok(Codec::with_registry(&settings, &self.config().topics.prefix)?)
    }
}

pub(super) fn load(globals: &Globals) -> Result<Loaded> {
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Config::load(&LoadOptions { file: globals.config.clone(), env: env.collect(), overrides: globals.overrides() })?)
}
