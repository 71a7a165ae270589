//! `demo`: some simulated hours with outages in them, decided by the engine in this process, in about a minute.
//!
//! Owns the loop that closes the circle (world → log → engine → decisions → world) and what is shown of it. No server, no clock:
//! the same seed gives the same summary. Neighbours: `world` makes and feeds the simulation; `home` keeps the state directory;
//! `board` and `summary` have the figures.

mod home;
mod board;
mod summary;

use super::context::Context;
use super::globals::Globals;
use super::scan::partitions_of;
use super::screen::{Screen, print};
use super::world::{self, Answers, Feed, Stamp};
use super::{Verdict, WrongUse, signals, sync};
use anyhow::{Result, bail};
use board::{Board, MINUTE_MS};
use clap::Args;
use home::Card;
use smartrouter::domain::psp::{HealthState, PspOutage, SegmentKind};
use smartrouter::domain::{EpochMs, PspId};
use smartrouter::engine::settings::Ranking;
use smartrouter::io::log::EventLog;
use smartrouter::io::topics;
use smartrouter::runtime::{Clock, Engine, Stop};
use smartrouter::sim::{Scenario, World, WorldSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use summary::{Counts, Played, Summary};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The same seed makes the same payments and the same summary [default: 1]
    #[arg(long, conflicts_with = "resume")]
    seed: Option<u64>,
    /// Simulated hours
    #[arg(long, default_value_t = 4.0)]
    hours: f64,
    /// Payments per hour, in the mean over a week [default: 3000]
    #[arg(long, value_name = "PER_HOUR")]
    rate: Option<f64>,
    /// What goes wrong: demo, drift (as demo, and banks change their minds within a day), none, or a TOML file
    #[arg(long, default_value = "demo", value_name = "NAME|FILE")]
    scenario: String,
    /// Go on where the last demo in this state directory stopped
    #[arg(long)]
    resume: bool,
}

/// A Monday, noon in Mexico City: always the same, or a seed would not tell everything.
const START_AT: EpochMs = 1_767_636_000_000;
const SEED: u64 = 1;
const PAYMENTS_PER_HOUR: f64 = 3_000.0;
/// Scenarios with the built-in script of outages.
const BUILT_IN: [&str; 2] = ["demo", "drift"];
/// That script takes this long; shorter demos play it faster.
const SCRIPT_HOURS: f64 = 4.0;
const HOUR_MS: f64 = 3_600_000.0;
/// What happens within this much event time reaches the engine together: a payment service waits no longer for its answer.
const STEP_MS: i64 = 200;
/// Event time that may pass without the engine being told.
const ANNOUNCE_MS: i64 = 1_000;
/// After the last payment arrived, those that are tried again come to their end.
const LAST_RETRIES_MS: i64 = 10 * MINUTE_MS;
/// Longer than an attempt takes to its outcome: who stops now leaves none open.
const LAST_OUTCOMES_MS: i64 = 15_000;
const LINE_EVERY_MS: i64 = 10 * MINUTE_MS;
const REDRAW: Duration = Duration::from_millis(200);

pub(super) fn run(globals: &Globals, options: &Options) -> Result<Verdict> {
    if !(options.hours > 0.0 && options.hours <= 10_000.0) {
        bail!(WrongUse(format!("--hours is {}: must be above 0, at most 10000", options.hours)));
    }
    let context = home::context(globals)?;
    let card = card(&context, options)?;
    if !(card.payments_per_hour > 0.0 && card.payments_per_hour <= 1e6) {
        bail!(WrongUse(format!("--rate is {}: must be above 0, at most 1000000 payments per hour", card.payments_per_hour)));
    }
    let mut settings = world::settings(&context.config().settings, card.seed, START_AT)?;
    let scenario = world::scenario(&options.scenario, &settings)?;
    // Here all that is given has proved right: from now on state is touched.
    let stop = signals::stop_flag()?;
    if !options.resume {
        home::begin(context.state_dir(), card)?;
    }
    let log: Arc<dyn EventLog> = Arc::new(context.embedded()?);
    if let Some(last) = home::last_event_at(&context, &*log)? {
        settings.start_at = last + 1;
    }
    settings.payments_per_hour = card.payments_per_hour;
    settings.scenario = if BUILT_IN.contains(&options.scenario.as_str()) {
        scenario.paced((options.hours / SCRIPT_HOURS).min(1.0))
    } else {
        scenario
    };
    let end_at = settings.start_at + (options.hours * HOUR_MS) as i64;
    settings.arrivals_until = Some(end_at);
    let model = home::crown(&context, &*log, settings.start_at)?;
    let mut demo = Demo::open(&context, log, settings, end_at)?;
    context.screen().say(demo.opening(card))?;
    if let (Ranking::Model, Some(model)) = (context.config().settings.policy.ranking, model) {
        context.screen().say(format!("PSPs are ranked by {model}, a model that learned from other payments of this world"))?;
    }
    demo.play(&stop)?;
    demo.finish(globals, card.seed)?;
    Ok(Verdict::Done)
}

fn card(context: &Context, options: &Options) -> Result<Card> {
    let before = if options.resume {
        home::resume(context.state_dir())?
    } else {
        Card { seed: SEED, payments_per_hour: PAYMENTS_PER_HOUR }
    };
    Ok(Card { seed: options.seed.unwrap_or(before.seed), payments_per_hour: options.rate.unwrap_or(before.payments_per_hour) })
}

struct Demo<'a> {
    context: &'a Context,
    log: Arc<dyn EventLog>,
    engine: Engine,
    world: World,
    feed: Feed,
    answers: Answers,
    board: Board,
    show: Show<'a>,
    scenario: Scenario,
    start_at: EpochMs,
    end_at: EpochMs,
    /// Event time that the engine knows of.
    announced_at: EpochMs,
}

impl<'a> Demo<'a> {
    fn open(context: &'a Context, log: Arc<dyn EventLog>, settings: WorldSettings, end_at: EpochMs) -> Result<Self> {
        let engine = Engine::open(log.clone(), Arc::new(context.shared(Clock::Event)?), context.limits())?;
        let (scenario, start_at) = (settings.scenario.clone(), settings.start_at);
        let psps: Vec<PspId> = settings.psps.iter().map(|psp| psp.id.clone()).collect();
        Ok(Self {
            feed: Feed::open(context, &*log, Stamp::EventTime)?,
            answers: Answers::open(context, &*log)?,
            world: world::open(settings, &context.config().settings)?,
            board: Board::new(psps, start_at, end_at),
            show: Show::new(context.screen(), start_at),
            context,
            log,
            engine,
            scenario,
            start_at,
            end_at,
            announced_at: start_at,
        })
    }

    fn opening(&self, card: Card) -> String {
        format!(
            "{} of payments, {} an hour, from {} on (seed {}); each is routed by the engine in this process",
            board::duration(self.end_at - self.start_at),
            card.payments_per_hour,
            board::clock(self.start_at),
            card.seed
        )
    }

    fn play(&mut self, stop: &AtomicBool) -> Result<()> {
        let mut last_at = self.end_at + LAST_RETRIES_MS;
        let mut stopping = false;
        while let Some(next) = self.world.next_event_at().filter(|at| *at <= last_at) {
            if stop.load(Ordering::SeqCst) && !stopping {
                stopping = true;
                self.world.end_arrivals();
                self.end_at = self.world.now();
                last_at = last_at.min(self.end_at + LAST_OUTCOMES_MS);
            }
            self.step(next)?;
        }
        Ok(())
    }

    /// The next things that happen, and the router's answers to them.
    fn step(&mut self, next: EpochMs) -> Result<()> {
        if next - self.announced_at >= ANNOUNCE_MS {
            // Deadlines that passed in silence.
            self.announced_at = next - 1;
            self.engine.announce(self.announced_at)?;
        }
        let events = self.world.step_until(next + STEP_MS);
        self.feed.append(&events)?;
        self.engine.drain()?;
        let news = self.answers.poll(Duration::ZERO)?;
        for decision in &news.decisions {
            self.world.route(&world::route_of(decision));
            if let Some(first) = decision.ranked.first() {
                self.board.chose(decision.decided_at, &first.psp_id);
            }
        }
        let (now, truth) = (self.world.now(), self.world.truth());
        self.board.pass(now, truth);
        let global = &self.engine.shared().global;
        self.show.transitions(&news.transitions)?;
        self.show.moment(now, || self.board.view(now, &global.states(), truth))
    }

    fn finish(mut self, globals: &Globals, seed: u64) -> Result<()> {
        self.feed.flush()?;
        self.engine.close()?;
        if self.context.config().warehouse.sync {
            sync::prepare(self.context, self.log.clone(), Stop::default())?.once()?;
        }
        self.show.clear()?;
        let counts = Counts {
            requests: records(self.context, &*self.log, topics::ROUTING_REQUESTS)?,
            decisions: records(self.context, &*self.log, topics::ROUTING_DECISIONS)?,
        };
        let state_dir = self.context.state_dir();
        let played = Played { seed, scenario: &self.scenario, from: self.start_at, to: self.end_at, state_dir };
        let truth = self.world.truth();
        let program = std::env::args().next().unwrap_or_else(|| "smartrouter".to_owned());
        let summary = Summary::new(&played, truth, &self.world.failovers(), counts);
        summary.show(self.context.screen(), truth, (&program, &given(globals, self.context)))
    }
}

/// The options of this run that a later command needs too to find the same.
fn given(globals: &Globals, context: &Context) -> String {
    let mut given = String::new();
    if let Some(file) = &globals.config {
        given = format!("-c {} ", summary::quoted(&file.display().to_string()));
    }
    match context.config().topics.prefix.as_str() {
        "" => given,
        prefix => format!("{given}--topic-prefix {} ", summary::quoted(prefix)),
    }
}

/// Records in a topic. The embedded log's offsets are dense where nothing is compacted.
fn records(context: &Context, log: &dyn EventLog, base: &str) -> Result<u64> {
    let mut reader = log.reader()?;
    let partitions = partitions_of(log, &[context.topic(base)])?;
    let ends = partitions.iter().map(|at| Ok(reader.bounds(at)?.1.unsigned_abs()));
    ends.sum()
}

/// What is on the screen: a table that is drawn over on a terminal, else lines.
struct Show<'a> {
    screen: &'a Screen,
    live: bool,
    drawn: Option<Instant>,
    lines_drawn: usize,
    next_line_at: EpochMs,
    /// PSPs whose traffic as a whole is not well: what becomes of their segments says nothing more.
    ill: Vec<PspId>,
}

impl<'a> Show<'a> {
    fn new(screen: &'a Screen, start_at: EpochMs) -> Self {
        let next_line_at = start_at + LINE_EVERY_MS;
        Self { screen, live: screen.is_live(), drawn: None, lines_drawn: 0, next_line_at, ill: Vec::new() }
    }

    fn transitions(&mut self, transitions: &[PspOutage]) -> Result<()> {
        for outage in transitions.iter().filter(|outage| outage.segment.kind == SegmentKind::All) {
            self.ill.retain(|psp| *psp != outage.psp_id);
            if outage.to != HealthState::Up {
                self.ill.push(outage.psp_id.clone());
            }
        }
        let is_whole = |outage: &PspOutage| outage.segment.kind == SegmentKind::All;
        let lines = board::transitions(transitions, |outage| is_whole(outage) || !self.ill.contains(&outage.psp_id));
        if !lines.is_empty() {
            self.clear()?;
        }
        lines.iter().try_for_each(|line| self.screen.say(line))
    }

    fn moment(&mut self, now: EpochMs, view: impl FnOnce() -> board::View) -> Result<()> {
        if self.live {
            if self.lines_drawn == 0 || self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
                self.draw(&view().table())?;
            }
        } else if now >= self.next_line_at {
            self.next_line_at += LINE_EVERY_MS;
            self.screen.say(view().line())?;
        }
        Ok(())
    }

    /// In one piece, so that it does not flicker; long lines are cut, or going up would miss the first one.
    fn draw(&mut self, lines: &[String]) -> Result<()> {
        let up = if self.lines_drawn == 0 { String::new() } else { format!("\x1b[{}A", self.lines_drawn) };
        print(&format!("{up}\x1b[?7l{}\x1b[K\n\x1b[?7h\x1b[J", lines.join("\x1b[K\n")))?;
        self.lines_drawn = lines.len();
        self.drawn = Some(Instant::now());
        Ok(())
    }

    /// Takes the table away: what is said next stays.
    fn clear(&mut self) -> Result<()> {
        if self.lines_drawn > 0 {
            print(&format!("\x1b[{}A\x1b[J", self.lines_drawn))?;
            self.lines_drawn = 0;
        }
        Ok(())
    }
}
