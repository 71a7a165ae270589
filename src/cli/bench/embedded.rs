//! `bench replay` and `bench growth`: events through an embedded log and an engine in one process, in event time.
//!
//! Measures the process, less what the making of the events takes. `growth` runs `replay` in a process for each size, so that
//! each has its own memory.

use super::child;
use super::figures::{Figures, Goal};
use super::traffic::{Shape, Traffic};
use super::{Bench, Size};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;
use smartrouter::domain::psp::SegmentKind;
use smartrouter::engine::settings::{Psp, Settings};
use smartrouter::io::log::EventLog;
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::store::StateStore;
use smartrouter::io::topics::{self, PlanOptions, TopicNames};
use smartrouter::runtime::{Clock, Engine, Shared};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct Options {
    /// Attempts and outcomes together [default: 1000000, 50000 with --quick]
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// PSPs that share them, instead of those configured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    psps: Option<u32>,
    /// Customers that they come from [default: 200000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    customers: Option<u64>,
    /// Partitions of each input [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1_000))]
    partitions: Option<i32>,
}

const REPLAY: &str = "replay";
const GROWTH: &str = "growth";
const EVENTS_PER_S: &str = "events/s";
const EVENTS_PER_CPU_S: &str = "events per CPU-second";
const RSS: &str = "peak resident memory";
/// Records that are appended at once, as `smartrouter replay` does.
const BATCH: usize = 2_000;

pub(super) fn replay(bench: &Bench<'_>, options: &Options, figures: &mut Figures) -> Result<()> {
    let attempts = options.events.unwrap_or(match bench.size {
        Size::Full => 1_000_000,
        Size::Quick => 50_000,
    }) / 2;
    for run in 0..bench.runs {
        let dir = bench.context.state_dir().join(format!("bench-{}-{run}", super::now_ms()));
        let mut settings = bench.settings().clone();
        let mut shape = Shape::of(&settings)?;
        if let Some(count) = options.psps {
            shape.psps = many(&shape.psps, count);
            let ids: Vec<_> = shape.psps.iter().map(|psp| psp.id.clone()).collect();
            settings.merchants.iter_mut().for_each(|merchant| merchant.psps.clone_from(&ids));
            settings.psps.clone_from(&shape.psps);
        }
        shape.customers = options.customers.unwrap_or(shape.customers);
        let mut replay = Replay::open(bench, &dir, settings, options.partitions.unwrap_or(4))?;
        let mut traffic = Traffic::new(bench.context.codec()?, &TopicNames::default(), shape.ending_now(attempts), attempts);
        while replay.batch(&mut traffic)? {}
        replay.finish(attempts, figures)?;
        fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

/// As many PSPs as wanted, after the models of those there are.
fn many(models: &[Psp], count: u32) -> Vec<Psp> {
    let numbered = models.iter().cycle().zip(0..count);
    numbered.map(|(model, number)| Psp { id: format!("psp-{number:04}").as_str().into(), ..model.clone() }).collect()
}

struct Replay {
    log: Arc<EmbeddedLog>,
    shared: Arc<Shared>,
    engine: Engine,
    events: u64,
    /// In the engine and the log, the making of events left out.
    busy: Duration,
    begun_cpu_s: f64,
    /// CPU-seconds that the making of events took.
    making_s: f64,
}

impl Replay {
    fn open(bench: &Bench<'_>, dir: &Path, settings: Settings, partitions: i32) -> Result<Self> {
        let log = Arc::new(EmbeddedLog::open(dir.join("log"), EmbeddedOptions::default())?);
        let options = PlanOptions { partitions: Some(partitions), ..PlanOptions::default() };
        log.create_topics(&topics::plan(&topics::declared()?, &[], &options).create)?;
        let store = StateStore::open(dir)?;
        let shared = Shared::new(Clock::Event, settings, bench.context.codec()?, TopicNames::default(), store)?;
        let shared = Arc::new(Shared { feedback: bench.context.config().runtime.feedback, ..shared });
        let engine = Engine::open(log.clone(), shared.clone(), bench.context.limits())?;
        Ok(Self { log, shared, engine, events: 0, busy: Duration::ZERO, begun_cpu_s: child::cpu_s("self")?, making_s: 0.0 })
    }

    /// False when there are no more events.
    fn batch(&mut self, traffic: &mut Traffic) -> Result<bool> {
        let making_s = child::thread_cpu_s()?;
        let mut outputs = Vec::with_capacity(BATCH);
        while outputs.len() < BATCH {
            let Some(event) = traffic.next()? else { break };
            outputs.push(event.output);
        }
        self.making_s += child::thread_cpu_s()? - making_s;
        if outputs.is_empty() {
            return Ok(false);
        }
        self.events += outputs.len() as u64;
        let begun = Instant::now();
        self.log.appender()?.append(outputs)?;
        self.engine.drain()?;
        self.busy += begun.elapsed();
        Ok(true)
    }

    fn finish(self, attempts: u64, figures: &mut Figures) -> Result<()> {
        let cpu_s = child::cpu_s("self")? - self.begun_cpu_s - self.making_s;
        self.engine.close()?;
        let states = self.shared.global.states();
        let whole = states.iter().filter(|state| state.segment.kind == SegmentKind::All);
        let counted: i64 = whole.map(|state| state.windows.last_24h.attempts).sum();
        if counted.unsigned_abs() != attempts {
            bail!("not exactly once: the windows count {counted} attempts, {attempts} were sent");
        }
        let events = self.events as f64;
        figures.add(REPLAY, EVENTS_PER_S, ("1/s", Some(Goal::AtLeast(500_000.0))), events / self.busy.as_secs_f64());
        figures.add(REPLAY, EVENTS_PER_CPU_S, ("1/s", None), events / cpu_s);
        figures.add(REPLAY, RSS, ("MiB", None), child::rss_peak_mib("self")?);
        Ok(())
    }
}

/// What grows, from and to, with the flags that say so.
struct Growth {
    what: &'static str,
    from: &'static [&'static str],
    to: &'static [&'static str],
}

const GROWTHS: [Growth; 3] = [
    Growth { what: "4 to 400 PSPs", from: &["--psps", "4"], to: &["--psps", "400"] },
    Growth { what: "10,000 to 10,000,000 customers", from: &["--customers", "10000"], to: &["--customers", "10000000"] },
    Growth { what: "1 to 64 partitions", from: &["--partitions", "1"], to: &["--partitions", "64"] },
];

pub(super) fn growth(bench: &Bench<'_>, options: &GrowthOptions, figures: &mut Figures) -> Result<()> {
    let events = options.events.unwrap_or(match bench.size {
        Size::Full => 1_000_000,
        Size::Quick => 50_000,
    });
    for _ in 0..bench.runs {
        for Growth { what, from, to } in GROWTHS {
            let (small, large) = (replay_of(bench, events, from)?, replay_of(bench, events, to)?);
            let slower = (small.events_per_cpu_s / large.events_per_cpu_s - 1.0) * 100.0;
            figures.add(GROWTH, &format!("{what}: CPU per event"), ("% more", Some(Goal::AtMost(10.0))), slower);
            for (end, size) in [("before", &small), ("after", &large)] {
                figures.add(GROWTH, &format!("{what}: {EVENTS_PER_CPU_S}, {end}"), ("1/s", None), size.events_per_cpu_s);
                figures.add(GROWTH, &format!("{what}: {RSS}, {end}"), ("MiB", None), size.rss_mib);
            }
        }
    }
    Ok(())
}

struct Of {
    events_per_cpu_s: f64,
    rss_mib: f64,
}

/// Runs `replay` of one size in a process of its own.
fn replay_of(bench: &Bench<'_>, events: u64, flags: &[&str]) -> Result<Of> {
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(file) = &bench.globals.config {
        command.arg("-c").arg(file);
    }
    command.arg("--state-dir").arg(bench.context.state_dir()).args(["--output", "json", "bench", "replay", "--runs", "1"]);
    let output = command.args(["--events", &events.to_string()]).args(flags).output()?;
    if !output.status.success() {
        bail!("replay with {}: {}", flags.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout)?;
    let rows: Vec<Value> = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let value = |figure: &str| {
        let row = rows.iter().find(|row| row["figure"] == figure);
        row.and_then(|row| row["value"].as_f64()).with_context(|| format!("replay told no {figure}"))
    };
    Ok(Of { events_per_cpu_s: value(EVENTS_PER_CPU_S)?, rss_mib: value(RSS)? })
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct GrowthOptions {
    /// Attempts and outcomes of each size [default: 1000000, 50000 with --quick]
    #[arg(long, value_name = "N")]
    events: Option<u64>,
}
