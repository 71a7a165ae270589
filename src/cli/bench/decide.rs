//! `bench decide`: from the moment a request was to be sent to its decision at a `read_committed` reader, with events beside it.

use super::bed::Bed;
use super::child::Engine;
use super::figures::{Figures, Goal, quantile};
use super::load::{self, Answers, Begin, PROMPT};
use super::traffic::Shape;
use super::{Bench, Size};
use anyhow::{Result, anyhow, bail};
use clap::Args;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct Options {
    /// Requests per second; may be given several times [default: 200 and 1000]
    #[arg(long = "rate", value_name = "PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=50_000))]
    rates: Vec<u64>,
    /// Seconds that count [default: 30, 10 with --quick]; those before are dropped
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: Option<u64>,
    /// Attempts and outcomes per second beside the requests [default: 2000]
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    background: Option<u64>,
}

const NAME: &str = "decide";
const RATES: [u64; 2] = [200, 1_000];
const BACKGROUND: u64 = 2_000;
const LEAD: Duration = Duration::from_millis(500);
/// How long the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
struct Plan {
    rate: u64,
    background: u64,
    dropped_s: u64,
    counted_s: u64,
}

pub(super) fn run(bench: &Bench<'_>, options: &Options, figures: &mut Figures) -> Result<()> {
    let rates = if options.rates.is_empty() { RATES.to_vec() } else { options.rates.clone() };
    let (dropped_s, counted_s) = match bench.size {
        Size::Full => (10, options.seconds.unwrap_or(30)),
        Size::Quick => (3, options.seconds.unwrap_or(10)),
    };
    for _ in 0..bench.runs {
        for &rate in &rates {
            let bed = Bed::make(bench.context, bench.globals, 4)?;
            let plan = Plan { rate, background: options.background.unwrap_or(BACKGROUND), dropped_s, counted_s };
            let measured = measure(bench, &bed, plan)?;
            measured.tell(plan, figures);
            bed.remove_state()?;
        }
    }
    Ok(())
}

struct Measured {
    /// Sorted.
    latencies_ms: Vec<f64>,
    driver_late_ms: f64,
    engine_cores: f64,
}

impl Measured {
    fn tell(&self, plan: Plan, figures: &mut Figures) {
        for (q, word, goal) in [(0.5, "p50", None), (0.95, "p95", Some(6.0)), (0.99, "p99", Some(12.0)), (1.0, "max", None)] {
            let figure = format!("{word} at {}/s", plan.rate);
            figures.add(NAME, &figure, ("ms", goal.map(Goal::AtMost)), quantile(&self.latencies_ms, q));
        }
        figures.add(NAME, &format!("driver late p99 at {}/s", plan.rate), ("ms", None), self.driver_late_ms);
        figures.add(NAME, &format!("engine CPU at {}/s", plan.rate), ("cores", None), self.engine_cores);
    }
}

fn measure(bench: &Bench<'_>, bed: &Bed, plan: Plan) -> Result<Measured> {
    let shape = Shape::of(bench.settings())?;
    let prompt = bench.context.kafka_with(&PROMPT)?;
    let mut engine = Engine::start(bed)?;
    let mut answers = Answers::open(bed, &prompt)?;
    answers.warm_up(bed, &prompt, &shape, &mut engine)?;
    let begin = Begin::after(LEAD);
    let stop = AtomicBool::new(false);
    let count = plan.rate * (plan.dropped_s + plan.counted_s);
    let measured = thread::scope(|scope| {
        let asking = scope.spawn(|| load::ask(bed, &prompt, &shape, (begin, plan.rate, count), &stop));
        let events = scope.spawn(|| load::events(bed, &shape, (begin, plan.background), &stop));
        let read = read_all(&mut answers, &mut engine, (begin, plan, count));
        stop.store(true, Ordering::SeqCst);
        let driver_late_ms = asking.join().map_err(|_| anyhow!("the sender of requests panicked"))??;
        events.join().map_err(|_| anyhow!("the sender of events panicked"))??;
        read.map(|(latencies_ms, engine_cores)| Measured { latencies_ms, driver_late_ms, engine_cores })
    })?;
    engine.stop()?;
    Ok(measured)
}

/// Sorted latencies of what counts, and the engine's CPU in cores while it counted.
fn read_all(answers: &mut Answers, engine: &mut Engine, (begin, plan, count): (Begin, Plan, u64)) -> Result<(Vec<f64>, f64)> {
    let dropped = plan.rate * plan.dropped_s;
    let mut read: Vec<Option<Instant>> = vec![None; count as usize];
    let (mut left, mut repeated) = (count, 0);
    let patience = begin.due(count, plan.rate) + LAST_ANSWERS;
    let mut counted_from = None;
    while left > 0 {
        engine.check()?;
        if Instant::now() > patience {
            bail!("{left} of {count} requests were not answered");
        }
        if counted_from.is_none() && Instant::now() >= begin.due(dropped, plan.rate) {
            counted_from = Some((Instant::now(), engine.cpu_s()?));
        }
        answers.poll(Duration::from_millis(100), |decision, at| {
            let place = decision.request_id.parse::<usize>().ok().and_then(|number| read.get_mut(number));
            match place {
                Some(place @ None) => {
                    *place = Some(at);
                    left -= 1;
                }
                Some(Some(_)) => repeated += 1,
                None => {}
            }
        })?;
    }
    if repeated > 0 {
        bail!("{repeated} decisions were repeated");
    }
    let (from, cpu_s) = counted_from.unwrap_or((Instant::now(), 0.0));
    let cores = (engine.cpu_s()? - cpu_s) / from.elapsed().as_secs_f64();
    let latency = |(number, at): (u64, Option<Instant>)| {
        at.map(|at| at.saturating_duration_since(begin.due(number, plan.rate)).as_secs_f64() * 1_000.0)
    };
    let mut latencies_ms: Vec<f64> = (0..count).zip(read).skip(dropped as usize).filter_map(latency).collect();
    latencies_ms.sort_by(f64::total_cmp);
    Ok((latencies_ms, cores))
}
