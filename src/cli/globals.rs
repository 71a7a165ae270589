//! Options that every command takes, and the configuration keys that they stand for.

use clap::{ArgAction, Args, ValueEnum};
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    #[default]
    Table,
    /// The last line on stdout is one JSON object or array
    Json,
    /// Of `query`: with a header
    Csv,
}

// What is documented here is printed by `--help`, where backticks would stay.
#[allow(clippy::doc_markdown)]
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Globals {
    /// Configuration file (TOML); over it go environment variables SMARTROUTER__SECTION__KEY, over those flags
    #[arg(short = 'c', long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Brokers to begin with
    #[arg(short = 'b', long, visible_alias = "brokers", global = true, value_name = "HOST:PORT,...")]
    bootstrap_server: Option<String>,
    /// A property for librdkafka, such as -X security.protocol=SASL_SSL; may be given several times
    #[arg(short = 'X', global = true, value_name = "PROP=VALUE", value_parser = property, action = ArgAction::Append)]
    properties: Vec<(String, String)>,
    /// Put before every topic, consumer group and transactional id
    #[arg(long, global = true, value_name = "PREFIX")]
    topic_prefix: Option<String>,
    /// Directory of the local state
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<String>,
    /// Directory of the model registry
    #[arg(long, global = true, value_name = "DIR")]
    models_dir: Option<String>,
    /// Name of this instance: another one for each process, the same one after a restart
    #[arg(long, global = true, value_name = "ID")]
    instance: Option<String>,
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, global = true, value_name = "HOST:PORT")]
    admin_addr: Option<String>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) output: OutputFormat,
    /// Say more on stderr; twice: everything
    #[arg(short = 'v', long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
}

impl Globals {
    /// The configuration keys that flags set, with their values.
    pub(super) fn overrides(&self) -> Vec<(String, String)> {
        let level = match self.verbose {
            0 => None,
            1 => Some("debug".to_owned()),
            _ => Some("trace".to_owned()),
        };
        let flags = [
            ("kafka.bootstrap_servers", &self.bootstrap_server),
            ("topics.prefix", &self.topic_prefix),
            ("runtime.state_dir", &self.state_dir),
            ("runtime.models_dir", &self.models_dir),
            ("runtime.instance", &self.instance),
            ("admin.addr", &self.admin_addr),
            ("telemetry.log_level", &level),
        ];
        let given = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        let properties = self.properties.iter().map(|(name, value)| (format!("kafka.properties.{name}"), value.clone()));
        given.chain(properties).collect()
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("give it as PROP=VALUE, such as security.protocol=SASL_SSL".to_owned()),
    }
}
