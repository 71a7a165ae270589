//! `bench`: how fast the router is, against stated goals.
//!
//! The driver is this process, the engine another one of the same binary (in `replay` and `growth` a log and an engine in one
//! process). Latency counts from the moment when a record was to be sent, so a driver that is late makes figures worse, not better;
//! what happens before all is warm is dropped; CPU is what the operating system says of the engine's process.
//!
//! Owns the options, the runs and the table. Never judges: a goal that is missed is told, and ends no build.

mod figures;
mod traffic;
mod bed;
mod child;
mod load;
mod drain;
mod decide;
mod failover;
mod detection;
mod restart;
mod embedded;
mod sync;

use super::Verdict;
use super::context::Context;
use super::globals::Globals;
use super::screen::remark;
use super::simulate::now_ms;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use figures::{COLUMNS, Figures};
use smartrouter::engine::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Runs of each bench; the median is told, with the least and the most [default: 3, 1 with --quick]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Small sizes, to see that it works; the figures mean little
    #[arg(long, global = true)]
    quick: bool,
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// Attempts and outcomes that wait on the topics: events per second and per CPU-second
    Drain(drain::Options),
    /// Requests beside a stream of events: how long until a reader has the decision
    Decide(decide::Options),
    /// A PSP that fails every payment: how many, and how long, until decisions avoid it
    Failover(failover::Options),
    /// Payments until the sequential test sees a fall, and between its false alarms, beside theory
    Detection(detection::Options),
    /// `kill -9`, and how long until the next commit, with local state and without
    Restart(restart::Options),
    /// History through an embedded log and an engine in this process
    Replay(embedded::Options),
    /// What more PSPs, customers and partitions cost per event
    Growth(embedded::GrowthOptions),
    /// Records of a log as rows of a local warehouse
    Sync(sync::Options),
    /// All of them, one after the other
    All,
}

impl Which {
    fn name(&self) -> &'static str {
        match self {
            Self::Drain(_) => "drain",
            Self::Decide(_) => "decide",
            Self::Failover(_) => "failover",
            Self::Detection(_) => "detection",
            Self::Restart(_) => "restart",
            Self::Replay(_) => "replay",
            Self::Growth(_) => "growth",
            Self::Sync(_) => "sync",
            Self::All => "all",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Full,
    Quick,
}

/// What every bench works with.
struct Bench<'a> {
    context: &'a Context,
    globals: &'a Globals,
    size: Size,
    runs: u32,
}

impl Bench<'_> {
    fn settings(&self) -> &Settings {
        &self.context.config().settings
    }
}

pub(super) fn run(context: &Context, globals: &Globals, options: &Options) -> Result<Verdict> {
    if cfg!(debug_assertions) {
        remark("this binary is not optimised: the figures are too low; see scripts/bench.sh");
    }
    let size = if options.quick { Size::Quick } else { Size::Full };
    let bench = Bench { context, globals, size, runs: options.runs.unwrap_or(if options.quick { 1 } else { 3 }) };
    let mut figures = Figures::default();
    measure(&bench, &options.which, &mut figures)?;
    let rows = figures.rows();
    if rows.is_empty() {
        bail!("nothing was measured");
    }
    context.screen().rows(COLUMNS, &rows, "nothing was measured")?;
    Ok(Verdict::Done)
}

fn measure(bench: &Bench<'_>, which: &Which, figures: &mut Figures) -> Result<()> {
    match which {
        Which::Drain(options) => drain::run(bench, options, figures),
        Which::Decide(options) => decide::run(bench, options, figures),
        Which::Failover(options) => failover::run(bench, options, figures),
        Which::Detection(options) => {
            detection::run(bench, options, figures);
            Ok(())
        }
        Which::Restart(options) => restart::run(bench, options, figures),
        Which::Replay(options) => embedded::replay(bench, options, figures),
        Which::Growth(options) => embedded::growth(bench, options, figures),
        Which::Sync(options) => sync::run(bench, options, figures),
        Which::All => {
            for which in [
                Which::Drain(drain::Options::default()),
                Which::Decide(decide::Options::default()),
                Which::Failover(failover::Options::default()),
                Which::Detection(detection::Options::default()),
                Which::Restart(restart::Options::default()),
                Which::Replay(embedded::Options::default()),
                Which::Growth(embedded::GrowthOptions::default()),
                Which::Sync(sync::Options::default()),
            ] {
                // One that fails takes none of the others with it: its row is missing, and why is said.
                if let Err(error) = measure(bench, &which, figures) {
                    remark(format!("{}: {error:#}", which.name()));
                }
            }
            Ok(())
        }
    }
}
