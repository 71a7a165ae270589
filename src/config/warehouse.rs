//! The section `[warehouse]`: whether and where rows for analysts are written, and in which portions.

use super::checks::Checker;
use super::{Config, non_empty};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarehouseConfig {
    pub sync: bool,
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
    }
}
