//! Which warehouse the configuration names, and how it is opened.

use super::super::context::Context;
use anyhow::Result;
use smartrouter::config::{Config, WarehouseKind};
use smartrouter::io::warehouse::local::{LocalRules, LocalWarehouse};
use smartrouter::io::warehouse::snowflake::{Patience, SnowflakeSettings, SnowflakeWarehouse};
use smartrouter::io::warehouse::{Catalogue, Warehouse};
use smartrouter::runtime::Stop;
use smartrouter::runtime::sync::Open;
use std::sync::Arc;
use std::time::Duration;

/// Opens it, as often as the sync begins anew.
pub(in crate::cli) fn opener(context: &Context, catalogue: Catalogue, stop: &Stop) -> Open {
    let config = context.config();
    let warehouse = &config.warehouse;
    match warehouse.kind {
        WarehouseKind::Local => {
            let rules = LocalRules {
                retention_days: warehouse.retention_days,
                files_max: warehouse.files_max,
                small_bytes: warehouse.small_bytes,
            };
            let directory = config.warehouse_dir();
            Box::new(move |log_id| {
                Ok(Box::new(LocalWarehouse::open(&directory, &catalogue, log_id, rules)?) as Box<dyn Warehouse>)
            })
        }
        WarehouseKind::Snowflake => {
            let (settings, patience) = (snowflake(config), patience(stop));
            Box::new(move |log_id| {
                let opened = SnowflakeWarehouse::new(settings.clone(), &catalogue, log_id, patience.clone())?;
                Ok(Box::new(opened) as Box<dyn Warehouse>)
            })
        }
    }
}

/// For people.
pub(in crate::cli) fn place(config: &Config) -> String {
    match config.warehouse.kind {
        WarehouseKind::Local => config.warehouse_dir().display().to_string(),
        WarehouseKind::Snowflake => snowflake(config).place(),
    }
}

/// Whether all instances write the same tables.
pub(in crate::cli) fn is_shared(config: &Config) -> bool {
    config.warehouse.kind == WarehouseKind::Snowflake
}

/// Waits until it is over, or until told to stop.
pub(in crate::cli) fn patience(stop: &Stop) -> Patience {
    let stop = stop.clone();
    Arc::new(move |duration: Duration| {
        stop.pause(duration);
        !stop.is_set()
    })
}

pub(in crate::cli) fn snowflake(config: &Config) -> SnowflakeSettings {
    let given = &config.warehouse.snowflake;
    SnowflakeSettings {
        account: given.account.clone(),
        url: given.url.clone(),
        user: given.user.clone(),
        private_key_file: given.private_key_file.clone(),
        private_key_passphrase: given.private_key_passphrase.expose().map(ToOwned::to_owned),
        role: given.role.clone(),
        database: given.database.clone(),
        schema: given.schema.clone(),
        warehouse: given.warehouse.clone(),
        pipe_suffix: given.pipe_suffix.clone(),
        ca_file: given.ca_file.clone(),
        timeout: Duration::from_millis(given.timeout_ms),
        retry: Duration::from_millis(given.retry_ms),
        commit_timeout: Duration::from_millis(given.commit_timeout_ms),
    }
}

/// What only files on this machine can be asked.
pub(in crate::cli) fn require_local(context: &Context, what: &str) -> Result<()> {
    if is_shared(context.config()) {
        let place = place(context.config());
        anyhow::bail!(super::super::WrongUse(format!(
            "warehouse.kind is \"snowflake\": {what} in {place}, with any client of it"
        )));
    }
    Ok(())
}
