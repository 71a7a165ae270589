//! `bench drain`: attempts and outcomes that wait on the topics, and an engine that starts from nothing.
//!
//! Measures from the start of the process to the commit of the last record, and steady from a fifth of the records on. CPU is
//! all threads of the engine. Ends with a check that the windows count every attempt once.

use super::bed::Bed;
use super::child::Engine;
use super::figures::{Figures, Goal};
use super::traffic::{Shape, Traffic};
use super::{Bench, Size};
use anyhow::{Result, bail};
use clap::Args;
use smartrouter::io::topics::{PAYMENT_ATTEMPTS, PAYMENT_OUTCOMES};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct Options {
    /// Attempts and outcomes together [default: 5000000, 200000 with --quick]
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Partitions of each input [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1_000))]
    partitions: Option<i32>,
    /// Event time: attempts in each second of it [default: 500]
    #[arg(long, value_name = "N")]
    attempts_per_second: Option<f64>,
}

const NAME: &str = "drain";
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(1_200);

/// What is seen at one moment.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    committed: u64,
    cpu_s: f64,
}

pub(super) fn run(bench: &Bench<'_>, options: &Options, figures: &mut Figures) -> Result<()> {
    let attempts = options.events.unwrap_or(match bench.size {
        Size::Full => 5_000_000,
        Size::Quick => 200_000,
    }) / 2;
    for _ in 0..bench.runs {
        let mut shape = Shape::of(bench.settings())?;
        shape.attempts_per_second = options.attempts_per_second.unwrap_or(shape.attempts_per_second);
        let bed = Bed::make(bench.context, bench.globals, options.partitions.unwrap_or(4))?;
        let mut traffic = Traffic::new(bed.codec.clone(), &bed.names, shape.ending_now(attempts), attempts);
        let (records, bytes) = bed.preload(&mut traffic)?;
        figures.add(NAME, "record with key", ("bytes", None), bytes as f64 / records as f64);
        drain(&bed, records, figures)?;
        bed.remove_state()?;
    }
    Ok(())
}

fn drain(bed: &Bed, records: u64, figures: &mut Figures) -> Result<()> {
    let inputs = bed.partitions(&[PAYMENT_ATTEMPTS, PAYMENT_OUTCOMES])?;
    let mut engine = Engine::start(bed)?;
    let mut samples = vec![Sample { at: engine.started, committed: 0, cpu_s: 0.0 }];
    let last = loop {
        thread::sleep(SAMPLE_EVERY);
        engine.check()?;
        let committed = bed.committed(&inputs)?;
        let sample = Sample { at: Instant::now(), committed, cpu_s: engine.cpu_s()? };
        samples.push(sample);
        if committed >= records {
            break sample;
        }
        if engine.started.elapsed() > PATIENCE {
            bail!("{committed} of {records} records after {} s", PATIENCE.as_secs());
        }
    };
    let fifth = samples.iter().find(|sample| sample.committed >= records / 5).copied().unwrap_or(samples[0]);
    let begin = samples.iter().find(|sample| sample.committed > 0).copied().unwrap_or(last);
    let rss_mib = engine.rss_peak_mib()?;
    bed.verify(records / 2)?;
    engine.stop()?;
    let seconds = |from: &Sample, to: &Sample| (to.at - from.at).as_secs_f64();
    let events = (last.committed - fifth.committed) as f64;
    for (figure, unit, goal, value) in [
        ("events/s", "1/s", Some(Goal::AtLeast(600_000.0)), records as f64 / seconds(&samples[0], &last)),
        ("events/s, steady", "1/s", None, events / seconds(&fifth, &last)),
        ("events per engine CPU-second", "1/s", Some(Goal::AtLeast(850_000.0)), records as f64 / last.cpu_s),
        ("events per engine CPU-second, steady", "1/s", None, events / (last.cpu_s - fifth.cpu_s)),
        ("first commit", "s", None, seconds(&samples[0], &begin)),
        ("peak resident memory", "MiB", None, rss_mib),
    ] {
        figures.add(NAME, figure, (unit, goal), value);
    }
    Ok(())
}
