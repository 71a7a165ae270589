//! Configuration: raw TOML in layers becomes a checked `Config`, which is passed down as a value and never global.
//!
//! Owns the embedded, commented `default.toml`, the order of precedence (flag, environment, file, default), the refusal of unknown
//! keys and all checks; keeps for every key where its value came from. Reads the file it is told to read and nothing else:
//! environment and flags are handed in. Never connects to anything.
//! Neighbours: the command line above; `engine::settings` is the part that the engine sees.

mod keys;
mod layers;
mod problem;
mod extract;
mod checks;
mod alerts;
mod warehouse;
mod print;
#[cfg(test)]
mod tests;

pub use alerts::{AlertsConfig, SinkConfig, SinkKind};
pub use print::Format;
pub use problem::{ConfigError, Problem};
pub use warehouse::{SnowflakeConfig, WarehouseConfig, WarehouseKind};

use crate::engine::settings::Settings;
use crate::learn::Bounds;
use print::Entry;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    pub kafka: KafkaConfig,
    pub topics: TopicsConfig,
    pub schema_registry: SchemaRegistryConfig,
    pub runtime: RuntimeConfig,
    pub models: ModelsConfig,
    pub alerts: AlertsConfig,
    pub warehouse: WarehouseConfig,
    pub admin: AdminConfig,
    pub telemetry: TelemetryConfig,
    #[serde(flatten)]
    pub settings: Settings,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    pub bootstrap_servers: String,
    pub session_timeout_ms: u64,
    pub transaction_timeout_ms: u64,
    /// Straight to librdkafka.
    pub properties: BTreeMap<String, String>,
}

/// Without the values of secret properties: this goes to logs.
impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&String, &String)| {
            let hidden = keys::is_secret(&keys::join(keys::OPEN_TABLE, name));
            (name.clone(), if hidden { print::MASK.to_owned() } else { value.clone() })
        };
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("session_timeout_ms", &self.session_timeout_ms)
            .field("transaction_timeout_ms", &self.transaction_timeout_ms)
            .field("properties", &self.properties.iter().map(shown).collect::<BTreeMap<_, _>>())
            .finish()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicsConfig {
    /// Before every topic, group and transactional id.
    pub prefix: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaRegistryConfig {
    /// Absent: schema ids come from `schemas/ids.toml`.
    #[serde(deserialize_with = "non_empty")]
    pub url: Option<String>,
    #[serde(deserialize_with = "non_empty")]
    pub username: Option<String>,
    pub password: Secret,
    #[serde(deserialize_with = "non_empty")]
    pub ca_file: Option<PathBuf>,
    pub timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    pub group: String,
    pub instance: String,
    pub threads: usize,
    pub commit_interval_ms: u64,
    pub batch_records_max: usize,
    pub queue_records_max: usize,
    pub feedback: bool,
    pub state_dir: PathBuf,
    pub models_dir: PathBuf,
    pub log: EventLog,
    pub shutdown_timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsConfig {
    /// What is asked of a model before it may decide.
    pub gate: Bounds,
}

/// Which adapter of the event-log port is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventLog {
    Kafka,
    Embedded,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    pub addr: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    pub log_level: LogLevel,
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    Text,
    Json,
}

/// A text that never shows itself, in logs or elsewhere; empty when there is none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// None when empty. The caller must not print it.
    pub fn expose(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(print::MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(print::MASK)
    }
}

fn non_empty<'de, D: Deserializer<'de>, T: From<String>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| T::from(text)))
}

/// What `Config::load` reads.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// A TOML text of the program's own, between the embedded default and the file: what one command sets for itself.
    pub base: Option<String>,
    pub file: Option<PathBuf>,
    /// The process environment; variables without the prefix `SMARTROUTER__` are ignored.
    pub env: Vec<(String, String)>,
    /// Flags as (key path, text), such as `("kafka.bootstrap_servers", "localhost:9092")`, or
    /// `("kafka.properties.security.protocol", "SSL")` for `-X`. Later ones win.
    pub overrides: Vec<(String, String)>,
}

/// A checked configuration, and where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    entries: Vec<Entry>,
}

impl Config {
    /// The embedded default with the comments that document every key.
    pub const DEFAULT_TOML: &str = layers::DEFAULT_TOML;

    pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigError> {
        let mut problems = Vec::new();
        let merged = layers::merge(options, &mut problems)?;
        let config = extract::config(&merged, &mut problems);
        let entries = print::entries(&merged);
        if let Some(config) = config {
            problems.extend(checks::check(&config, &entries));
            if problems.is_empty() {
                return Ok(Loaded { config, entries });
            }
        }
        Err(ConfigError::Problems(problems))
    }
}

impl Loaded {
    /// Every key with its value and origin; secrets are masked.
    pub fn print(&self, format: Format) -> String {
        print::print(&self.entries, format)
    }

    /// Where the value of a key came from: `default`, a file, an environment variable, or a flag.
    pub fn origin(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.origin.as_str())
    }
}
