//! What a command works with: the checked configuration, and from it the log and the codec when the command needs them.

use super::crash_report;
use super::globals::Globals;
use super::screen::Screen;
use anyhow::Result;
use smartrouter::config::{Config, EventLog as LogKind, LoadOptions, Loaded, LogFormat};
use smartrouter::io::codec::{Codec, RegistrySettings};
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::kafka::{KafkaLog, KafkaOptions};
use smartrouter::io::log::{EventLog, LogError};
use smartrouter::io::store::StateStore;
use smartrouter::io::topics::{self, PlanOptions, TopicNames};
use smartrouter::runtime::{Clock, Limits, Shared};
use smartrouter::telemetry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
        Self::with(load(globals)?, globals, talk)
    }

    /// A context over a configuration that is loaded already.
    pub(super) fn with(loaded: Loaded, globals: &Globals, talk: Talk) -> Result<Self> {
        let telemetry = &loaded.config.telemetry;
        let level = if talk == Talk::Little && globals.verbose == 0 { "error" } else { telemetry.log_level.as_str() };
        let format = match telemetry.log_format {
            LogFormat::Auto => telemetry::LogFormat::for_stderr(),
            LogFormat::Text => telemetry::LogFormat::Text,
            LogFormat::Json => telemetry::LogFormat::Json,
        };
        telemetry::init_logs(level, format)?;
        crash_report::install(&loaded.config.runtime.state_dir);
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
        topics::INPUTS.map(|input| self.topic(&topics::dead_letters_of(input))).to_vec()
    }

    pub(super) fn state_dir(&self) -> &Path {
        &self.config().runtime.state_dir
    }

    /// Where the embedded log keeps its records.
    pub(super) fn embedded_dir(&self) -> PathBuf {
        self.state_dir().join("log")
    }

    /// Opens the log that the configuration names; a Kafka that does not answer is an error.
    pub(super) fn log(&self) -> Result<Arc<dyn EventLog>> {
        Ok(match self.config().runtime.log {
            LogKind::Kafka => Arc::new(self.kafka()?),
            LogKind::Embedded => Arc::new(self.embedded()?),
        })
    }

    pub(super) fn kafka(&self) -> Result<KafkaLog, LogError> {
        KafkaLog::connect(self.kafka_options())
    }

    /// As `kafka`, with librdkafka properties that give way to configured ones.
    pub(super) fn kafka_with(&self, properties: &[(&str, &str)]) -> Result<KafkaLog, LogError> {
        let mut options = self.kafka_options();
        for (name, value) in properties {
            options.properties.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        KafkaLog::connect(options)
    }

    /// The log in the state directory, with its topics.
    pub(super) fn embedded(&self) -> Result<EmbeddedLog> {
        let log = EmbeddedLog::open(self.embedded_dir(), EmbeddedOptions::default())?;
        let options = PlanOptions { names: self.names.clone(), ..PlanOptions::default() };
        log.create_topics(&topics::plan(&topics::declared()?, &log.topics(&[])?, &options).create)?;
        Ok(log)
    }

    fn kafka_options(&self) -> KafkaOptions {
        let kafka = &self.config().kafka;
        let milliseconds = |configured: u64| u32::try_from(configured).unwrap_or(u32::MAX);
        let transaction_timeout_ms = milliseconds(kafka.transaction_timeout_ms);
        KafkaOptions {
            bootstrap: kafka.bootstrap_servers.clone(),
            properties: kafka.properties.clone(),
            session_timeout_ms: milliseconds(kafka.session_timeout_ms),
            transaction_timeout_ms,
            // A commit is given up before the broker gives it up.
            commit_watchdog_ms: transaction_timeout_ms / 2,
            ..KafkaOptions::default()
        }
    }

    /// What the engine's tasks share. Opens the state store.
    pub(super) fn shared(&self, clock: Clock) -> Result<Shared> {
        let store = StateStore::open(self.state_dir())?;
        let config = self.config();
        let shared = Shared::new(clock, config.settings.clone(), self.codec()?, self.names.clone(), store)?;
        Ok(Shared { feedback: config.runtime.feedback, ..shared }.with_models(config.runtime.models_dir.clone())?)
    }

    pub(super) fn limits(&self) -> Limits {
        let runtime = &self.config().runtime;
        Limits {
            group: self.group(),
            instance: runtime.instance.clone(),
            commit_interval: Duration::from_millis(runtime.commit_interval_ms),
            batch_records_max: runtime.batch_records_max,
            queue_records_max: runtime.queue_records_max,
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
    load_over(globals, None)
}

/// `base`: what the command sets for itself, below file, environment and flags.
pub(super) fn load_over(globals: &Globals, base: Option<String>) -> Result<Loaded> {
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Config::load(&LoadOptions { base, file: globals.config.clone(), env: env.collect(), overrides: globals.overrides() })?)
}
