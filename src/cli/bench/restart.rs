//! `bench restart`: an engine that is killed, and how long until it commits again: with its local state, and without any.
//!
//! A commit shows as a decision on a request that was sent after the kill. Without state, all of it comes from the changelog
//! topics first, after as many payments as are asked for.

use super::bed::Bed;
use super::child::Engine;
use super::figures::{Figures, Goal};
use super::load::{self, Answers, Begin, PROMPT};
use super::traffic::{Shape, Traffic};
use super::{Bench, Size};
use anyhow::{Result, anyhow, bail};
use clap::Args;
use smartrouter::io::topics;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct Options {
    /// Payments in the state before [default: 1000000, 50000 with --quick]
    #[arg(long, value_name = "N")]
    payments: Option<u64>,
}

const NAME: &str = "restart";
const REQUESTS_PER_SECOND: u64 = 200;
const BACKGROUND_PER_SECOND: u64 = 2_000;
/// How long the load runs before the engine is killed.
const BEFORE_KILL: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(300);
const LOAD_SECONDS_MAX: u64 = 900;

pub(super) fn run(bench: &Bench<'_>, options: &Options, figures: &mut Figures) -> Result<()> {
    let payments = options.payments.unwrap_or(match bench.size {
        Size::Full => 1_000_000,
        Size::Quick => 50_000,
    });
    for _ in 0..bench.runs {
        let bed = Bed::make(bench.context, bench.globals, 4)?;
        let shape = Shape::of(bench.settings())?;
        fill(&bed, &shape, payments)?;
        let prompt = bench.context.kafka_with(&PROMPT)?;
        let mut engine = Engine::start(&bed)?;
        let mut answers = Answers::open(&bed, &prompt)?;
        answers.warm_up(&bed, &prompt, &shape, &mut engine)?;
        let (begin, stop) = (Begin::after(Duration::from_millis(200)), AtomicBool::new(false));
        let count = REQUESTS_PER_SECOND * LOAD_SECONDS_MAX;
        thread::scope(|scope| {
            let asking = scope.spawn(|| load::ask(&bed, &prompt, &shape, (begin, REQUESTS_PER_SECOND, count), &stop));
            let events = scope.spawn(|| load::events(&bed, &shape, (begin, BACKGROUND_PER_SECOND), &stop));
            let measured = kill_and_restart(&bed, engine, &mut answers, begin, figures);
            stop.store(true, Ordering::SeqCst);
            asking.join().map_err(|_| anyhow!("the sender of requests panicked"))??;
            events.join().map_err(|_| anyhow!("the sender of events panicked"))??;
            measured
        })?;
        bed.remove_state()?;
    }
    Ok(())
}

/// Has an engine work through so many payments, and stops it.
fn fill(bed: &Bed, shape: &Shape, payments: u64) -> Result<()> {
    let mut traffic = Traffic::new(bed.codec.clone(), &bed.names, shape.clone().ending_now(payments), payments);
    let (records, _) = bed.preload(&mut traffic)?;
    let inputs = bed.partitions(&[topics::PAYMENT_ATTEMPTS, topics::PAYMENT_OUTCOMES])?;
    let mut engine = Engine::start(bed)?;
    while bed.committed(&inputs)? < records {
        engine.check()?;
        thread::sleep(Duration::from_millis(500));
    }
    engine.stop()
}

fn kill_and_restart(bed: &Bed, engine: Engine, answers: &mut Answers, begin: Begin, figures: &mut Figures) -> Result<()> {
    read_for(answers, BEFORE_KILL)?;
    let (engine, seconds) = back_after_kill(bed, engine, answers, begin, || Ok(()))?;
    figures.add(NAME, "kill -9 to next commit, local state", ("s", Some(Goal::AtMost(2.0))), seconds);
    read_for(answers, BEFORE_KILL)?;
    let (engine, seconds) = back_after_kill(bed, engine, answers, begin, || bed.remove_state())?;
    let mut records = 0;
    let of_tasks = [topics::PAYMENTS_CHANGELOG, topics::CUSTOMERS_CHANGELOG, topics::PSPS_CHANGELOG, topics::PROFILES_CHANGELOG];
    for changelog in of_tasks {
        records += bed.records(changelog)?;
    }
    figures.add(NAME, "kill -9 to next commit, state from the changelog", ("s", None), seconds);
    figures.add(NAME, "changelog records", ("1", None), records as f64);
    let per_million = seconds / (records as f64 / 1e6);
    figures.add(NAME, "restore per million changelog records", ("s", Some(Goal::AtMost(2.0))), per_million);
    engine.stop()
}

/// Kills and starts it again; seconds from the kill until a request that was sent after it is answered.
fn back_after_kill(
    bed: &Bed,
    engine: Engine,
    answers: &mut Answers,
    begin: Begin,
    between: impl FnOnce() -> Result<()>,
) -> Result<(Engine, f64)> {
    let killed = Instant::now();
    engine.kill()?;
    between()?;
    let mut engine = Engine::start(bed)?;
    let mut answered: Option<Instant> = None;
    loop {
        if let Some(at) = answered {
            return Ok((engine, (at - killed).as_secs_f64()));
        }
        engine.check()?;
        if killed.elapsed() > PATIENCE {
            bail!("no commit within {} s of the kill", PATIENCE.as_secs());
        }
        answers.poll(Duration::from_millis(20), |decision, at| {
            let sent = decision.request_id.parse().ok().map(|number| begin.due(number, REQUESTS_PER_SECOND));
            if sent.is_some_and(|sent| sent > killed) {
                answered.get_or_insert(at);
            }
        })?;
    }
}

fn read_for(answers: &mut Answers, duration: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < duration {
        answers.poll(Duration::from_millis(50), |_, _| {})?;
    }
    Ok(())
}
