//! `smartrouter run`: the router on Kafka, until told to stop.

use super::context::Context;
use super::{Verdict, WrongUse, signals, sync};
use anyhow::{Context as _, Result, bail};
use smartrouter::api::AdminServer;
use smartrouter::config::EventLog as LogKind;
use smartrouter::io::log::EventLog;
use smartrouter::io::log::kafka::KafkaLog;
use smartrouter::runtime::alerts::{self, Alerts};
use smartrouter::runtime::status::{Phase, Status};
use smartrouter::runtime::sync::Sync;
use smartrouter::runtime::{Clock, Live, Stop};
use smartrouter::telemetry;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A task group whose loop has not turned for this long is hung: no call of the log takes longer.
const STALL_MAX: Duration = Duration::from_secs(120);
const SIGNAL_CHECK: Duration = Duration::from_millis(20);

pub(super) fn run(context: &Context) -> Result<Verdict> {
    let config = context.config();
    if config.runtime.log == LogKind::Embedded {
        let why = "nobody else can write to it; `run` needs \"kafka\" (`demo` and `replay` use the embedded log)";
        bail!(WrongUse(format!("runtime.log is \"embedded\": {why}")));
    }
    let lines = alerts::lines(config).context("[alerts] of the configuration")?;
    let status = Arc::new(Status::new(STALL_MAX));
    let stop = Stop::default();
    // First of all: whoever tells it to stop while it opens its state is heard.
    stop_on_signal(&stop, status.clone(), Duration::from_millis(config.runtime.shutdown_timeout_ms))?;
    let metrics = telemetry::install_metrics()?;
    let admin = AdminServer::start(&config.admin.addr, status.clone(), metrics)?;
    let shared = Arc::new(context.shared(Clock::Wall)?);
    let limits = context.limits();
    tracing::info!(
        bootstrap = config.kafka.bootstrap_servers,
        group = limits.group,
        instance = limits.instance,
        admin = %admin.addr(),
        state_dir = %context.state_dir().display(),
        "starting"
    );
    status.set_log_unavailable(Some(format!("connecting to {}", config.kafka.bootstrap_servers)));
    let Some(log) = connect(context, &status, &stop)? else { return Ok(Verdict::Done) };
    let log: Arc<dyn EventLog> = Arc::new(log);
    let alerts = Alerts::start(&log, &shared, &limits, lines, &stop);
    let sync = config.warehouse.sync.then(|| sync::prepare(context, log.clone(), stop.clone())).transpose()?;
    let sync = sync.map(Sync::start).transpose().context("no thread for the warehouse")?;
    let ended = Live { log, shared, status, limits, threads: config.runtime.threads, stop }.run();
    alerts.join();
    if sync.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("the thread of the warehouse panicked");
    }
    ended.context("the router stopped")?;
    tracing::info!("stopped: everything that was taken is committed");
    Ok(Verdict::Done)
}

/// Waits for brokers that are not there yet: a router that starts before its Kafka is no error. None when told to stop meanwhile.
pub(super) fn connect(context: &Context, status: &Status, stop: &Stop) -> Result<Option<KafkaLog>> {
    while !stop.is_set() {
        match context.kafka() {
            Ok(log) => return Ok(Some(log)),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "waiting for Kafka");
                status.set_log_unavailable(Some(error.to_string()));
                thread::sleep(SIGNAL_CHECK);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The first signal asks for an orderly end, which may take `timeout`; the second ends the process at once. While it is
/// starting there is nothing to put in order.
pub(super) fn stop_on_signal(stop: &Stop, status: Arc<Status>, timeout: Duration) -> Result<()> {
    let flag: Arc<AtomicBool> = signals::stop_flag()?;
    let stop = stop.clone();
    let watch = move || {
        while !flag.load(Ordering::SeqCst) {
            thread::sleep(SIGNAL_CHECK);
        }
        if status.report().phase == Phase::Starting {
            tracing::info!("told to stop while starting: nothing was taken");
            process::exit(0);
        }
        tracing::info!("told to stop: committing and leaving the group");
        stop.set();
        let told = Instant::now();
        while told.elapsed() < timeout {
            thread::sleep(SIGNAL_CHECK);
        }
        // Nothing is lost: what is not committed is done again by whoever gets the partitions.
        tracing::error!(timeout_ms = timeout.as_millis() as u64, "not stopped in time; ending anyway");
        process::exit(1);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).context("no thread for signals")?;
    Ok(())
}
