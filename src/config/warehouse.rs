//! The section `[warehouse]`: whether and where rows for analysts are written, and in which portions.

use super::checks::Checker;
use super::{Config, Secret, non_empty};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which adapter of the warehouse port is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarehouseKind {
    Local,
    Snowflake,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarehouseConfig {
    pub sync: bool,
    pub kind: WarehouseKind,
    #[serde(deserialize_with = "non_empty")]
    pub dir: Option<PathBuf>,
    pub rows_max: usize,
    pub bytes_max: usize,
    pub memory_bytes_max: usize,
    pub age_ms: u64,
    pub retention_days: u32,
    pub files_max: usize,
    pub small_bytes: u64,
    pub query_programs: Vec<PathBuf>,
    pub snowflake: SnowflakeConfig,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnowflakeConfig {
    pub account: String,
    #[serde(deserialize_with = "non_empty")]
    pub url: Option<String>,
    pub user: String,
    pub private_key_file: PathBuf,
    pub private_key_passphrase: Secret,
    #[serde(deserialize_with = "non_empty")]
    pub role: Option<String>,
    pub database: String,
    pub schema: String,
    #[serde(deserialize_with = "non_empty")]
    pub warehouse: Option<String>,
    pub pipe_suffix: String,
    #[serde(deserialize_with = "non_empty")]
    pub ca_file: Option<PathBuf>,
    pub timeout_ms: u64,
    pub retry_ms: u64,
    pub commit_timeout_ms: u64,
}

impl Config {
    /// Where the local warehouse is.
    pub fn warehouse_dir(&self) -> PathBuf {
        self.warehouse.dir.clone().unwrap_or_else(|| self.runtime.state_dir.join("warehouse"))
    }
}

impl Checker<'_> {
    pub(super) fn warehouse(&mut self, config: &Config) {
        let warehouse = &config.warehouse;
        self.within("warehouse.rows_max", warehouse.rows_max, 1, 10_000_000);
        self.within("warehouse.bytes_max", warehouse.bytes_max, 1_024, 1 << 32);
        let says = ("is less than what one channel may hold", "give at least warehouse.bytes_max");
        let (all, one) = (warehouse.memory_bytes_max, warehouse.bytes_max);
        self.require(all >= one, "warehouse.memory_bytes_max", all, says);
        self.within("warehouse.age_ms", warehouse.age_ms, 10, 86_400_000);
        self.within("warehouse.retention_days", warehouse.retention_days, 0, 36_600);
        self.within("warehouse.files_max", warehouse.files_max, 2, 100_000);
        self.within("warehouse.small_bytes", warehouse.small_bytes, 0, 1 << 40);
        let named = !warehouse.query_programs.is_empty() && warehouse.query_programs.iter().all(|it| !it.as_os_str().is_empty());
        let says = ("names no program", "give \"duckdb\", a Python with the module duckdb, or both");
        self.require(named, "warehouse.query_programs", &warehouse.query_programs, says);
        if warehouse.kind == WarehouseKind::Snowflake {
            self.snowflake(&warehouse.snowflake);
        }
    }

    fn snowflake(&mut self, snowflake: &SnowflakeConfig) {
        let key = |name: &str| format!("warehouse.snowflake.{name}");
        for (name, value, remedy) in [
            ("account", snowflake.account.as_str(), "give the account's identifier, such as \"myorg-myaccount\""),
            ("user", &snowflake.user, "give the LOGIN_NAME of a user of type SERVICE"),
        ] {
            let usable = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte));
            self.require(usable, &key(name), value, ("is needed where warehouse.kind is \"snowflake\"", remedy));
        }
        let (file, says) = (
            &snowflake.private_key_file,
            ("is needed where warehouse.kind is \"snowflake\"", "name the PEM file of the user's key"),
        );
        self.require(!file.as_os_str().is_empty(), &key("private_key_file"), file, says);
        let named = [("role", &snowflake.role), ("warehouse", &snowflake.warehouse)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (name, value) in named.chain([("database", &snowflake.database), ("schema", &snowflake.schema)]) {
            let says = ("is no name that needs no quotes", "use letters, digits, '_' and '$', no digit first");
            self.require(is_identifier(value), &key(name), value, says);
        }
        let suffix = &snowflake.pipe_suffix;
        let holds = !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$-".contains(&byte));
        let says = ("cannot end the name of a pipe", "give \"-STREAMING\" for the pipe that each table has by itself");
        self.require(holds, &key("pipe_suffix"), suffix, says);
        if let Some(url) = &snowflake.url {
            let holds = url.starts_with("https://") && !url.contains('@');
            self.require(
                holds,
                &key("url"),
                "***",
                ("is not an address that credentials may go to", "begin it with https://, without credentials in it"),
            );
        }
        self.within(&key("timeout_ms"), snowflake.timeout_ms, 100, 600_000);
        self.within(&key("retry_ms"), snowflake.retry_ms, 0, 3_600_000);
        self.within(&key("commit_timeout_ms"), snowflake.commit_timeout_ms, 100, 3_600_000);
    }
}

fn is_identifier(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_$".contains(&byte);
    text.bytes().all(is_part) && text.bytes().next().is_some_and(|first| !first.is_ascii_digit() && first != b'$')
}
