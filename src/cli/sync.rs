//! `sync`: rows for analysts, as a process of its own; and what `run` and `demo` need to do the same beside their work.

use super::context::Context;
use super::run::{connect, stop_on_signal};
use super::warehouse::target;
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;
use smartrouter::api::AdminServer;
use smartrouter::config::EventLog as LogKind;
use smartrouter::io::log::EventLog;
use smartrouter::io::warehouse::Catalogue;
use smartrouter::runtime::Stop;
use smartrouter::runtime::status::{Phase, Status};
use smartrouter::runtime::sync::{self, Portions, Sync, Synced};
use smartrouter::telemetry;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Up to where the topics end now; otherwise until told to stop
    #[arg(long)]
    once: bool,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Verdict> {
    if options.once {
        let synced = prepare(context, context.log()?, Stop::default())?.once()?;
        tell(context, &synced)?;
        return Ok(Verdict::Done);
    }
    let config = context.config();
    if config.runtime.log == LogKind::Embedded {
        bail!(WrongUse("runtime.log is \"embedded\": nobody else can write to it meanwhile; give --once".to_owned()));
    }
    let status = Arc::new(Status::new(Duration::MAX));
    let stop = Stop::default();
    stop_on_signal(&stop, status.clone(), Duration::from_millis(config.runtime.shutdown_timeout_ms))?;
    let metrics = telemetry::install_metrics()?;
    let admin = AdminServer::start(&config.admin.addr, status.clone(), metrics)?;
    tracing::info!(place = target::place(config), admin = %admin.addr(), "the warehouse is written");
    status.set_log_unavailable(Some(format!("connecting to {}", config.kafka.bootstrap_servers)));
    let Some(log) = connect(context, &status, &stop)? else { return Ok(Verdict::Done) };
    status.set_log_unavailable(None);
    status.set_phase(Phase::Running);
    Sync { status: Some(status.clone()), ..prepare(context, Arc::new(log), stop)? }.serve();
    status.set_phase(Phase::Stopped);
    tracing::info!("stopped: all rows that were taken are durable");
    Ok(Verdict::Done)
}

/// A sync into the warehouse of the configuration.
pub(super) fn prepare(context: &Context, log: Arc<dyn EventLog>, stop: Stop) -> Result<Sync> {
    let (config, catalogue) = (context.config(), Catalogue::shipped()?);
    let warehouse = &config.warehouse;
    let open = target::opener(context, catalogue.clone(), &stop);
    let limits = context.limits();
    Ok(Sync {
        log,
        codec: context.codec().context("schemas of the rows")?,
        names: context.names().clone(),
        catalogue,
        portions: Portions {
            rows_max: warehouse.rows_max,
            bytes_max: warehouse.bytes_max,
            memory_bytes_max: warehouse.memory_bytes_max,
            age: Duration::from_millis(warehouse.age_ms),
        },
        models_dir: config.runtime.models_dir.clone(),
        group: sync::group(&limits, target::is_shared(config)),
        instance: limits.instance,
        open,
        stop,
        status: None,
    })
}

fn tell(context: &Context, synced: &Synced) -> Result<()> {
    let screen = context.screen();
    let config = context.config();
    for (table, rows) in &synced.rows {
        screen.say(format!("{table}: {rows} rows"))?;
    }
    if synced.rows.is_empty() {
        screen.say("nothing new: the warehouse has all that is in the topics")?;
    }
    if synced.unreadable > 0 {
        screen.say(format!("{} records cannot be read, and have no rows", synced.unreadable))?;
    }
    if synced.refused > 0 {
        screen.say(format!(
            "{} rows were passed over by the warehouse since its channels were made: they are missing in its tables",
            synced.refused
        ))?;
    }
    let place = if target::is_shared(config) { "place" } else { "directory" };
    let (rows, unreadable, refused) = (&synced.rows, synced.unreadable, synced.refused);
    screen.object(&json!({ place: target::place(config), "rows": rows, "unreadable": unreadable, "refused": refused }))
}
