//! `simulate`: payments of a simulated merchant onto Kafka at a stated rate, routed as the router there decides.
//!
//! Owns the pace (event time is the wall's time), the count of what went out and came back, and the end in order. The router is
//! another process (`smartrouter run`): a request that it does not answer in time takes the static rules, and is counted.

use super::context::Context;
use super::scan::partitions_of;
use super::screen::{Screen, remark};
use super::world::{self, Answers, Feed, Stamp};
use super::{Verdict, WrongUse, signals};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use smartrouter::config::EventLog as LogKind;
use smartrouter::domain::EpochMs;
use smartrouter::io::log::{EventLog, LogError};
use smartrouter::io::topics;
use smartrouter::sim::{Routing, SimEvent, Truth, World, WorldSettings, relative_rate};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Payments per second now; from here it follows the rhythm of day and week
    #[arg(long, default_value_t = 2.0, value_name = "PER_SECOND")]
    rate: f64,
    /// Seconds for which payments arrive; absent: until told to stop
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// What goes wrong: demo, drift, none, or a TOML file with outages, in time from the start
    #[arg(long, default_value = "none", value_name = "NAME|FILE")]
    scenario: String,
    /// The customers and what they buy
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Route by the static rules at once, without waiting for decisions
    #[arg(long)]
    open_loop: bool,
}

const TURN: Duration = Duration::from_millis(20);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Longer than an attempt takes to its outcome: who stops leaves none open.
const LAST_OUTCOMES_MS: i64 = 15_000;

/// What went out and came back; the last line with `--output json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Report {
    requests: u64,
    attempts: u64,
    outcomes: u64,
    /// Answers to our requests.
    decisions: u64,
    /// Requests that waited too long: the static rules took them.
    unanswered: u64,
    /// Answers that named no PSP.
    unrouted: u64,
    payments: u64,
    approval_rate: f64,
    approval_rate_static: f64,
    approval_rate_oracle: f64,
    seconds: f64,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Verdict> {
    if !(options.rate > 0.0 && options.rate <= 10_000.0) {
        bail!(WrongUse(format!("--rate is {}: must be above 0, at most 10000 payments per second", options.rate)));
    }
    if options.duration.is_some_and(|seconds| !(seconds > 0.0 && seconds <= 1e9)) {
        bail!(WrongUse("--duration must be above 0 seconds".to_owned()));
    }
    if context.config().runtime.log == LogKind::Embedded {
        let why = "nobody else reads it; `simulate` needs \"kafka\" (`demo` simulates on the embedded log)";
        bail!(WrongUse(format!("runtime.log is \"embedded\": {why}")));
    }
    let settings = settings(context, options, now_ms())?;
    let log = context.kafka()?;
    let needed: Vec<String> =
        topics::INPUTS.into_iter().chain([topics::ROUTING_DECISIONS]).map(|base| context.topic(base)).collect();
    partitions_of(&log, &needed)?;
    let stop = signals::stop_flag()?;
    let mut simulation = Simulation::open(context, &log, settings, options)?;
    simulation.play(&stop, options.duration.map(Duration::from_secs_f64))?;
    simulation.finish()?;
    Ok(Verdict::Done)
}

fn settings(context: &Context, options: &Options, start_at: EpochMs) -> Result<WorldSettings> {
    let mut settings = world::settings(&context.config().settings, options.seed, start_at)?;
    settings.scenario = world::scenario(&options.scenario, &settings)?;
    settings.payments_per_hour = options.rate * 3_600.0 / relative_rate(start_at);
    settings.routing = if options.open_loop { Routing::Open } else { Routing::Closed };
    Ok(settings)
}

struct Simulation<'a> {
    screen: &'a Screen,
    world: World,
    feed: Feed,
    /// Absent in open loop.
    answers: Option<Answers>,
    report: Report,
    begun: Instant,
    /// When the last line was said, and what had been then.
    said: (Instant, Report),
}

impl<'a> Simulation<'a> {
    fn open(context: &'a Context, log: &dyn EventLog, settings: WorldSettings, options: &Options) -> Result<Self> {
        let feed = Feed::open(context, log, Stamp::ByTheLog)?;
        let answers = if options.open_loop { None } else { Some(Answers::open(context, log)?) };
        let world = world::open(settings, &context.config().settings)?;
        let (report, begun) = (Report::default(), Instant::now());
        Ok(Self { screen: context.screen(), world, feed, answers, said: (begun, report.clone()), report, begun })
    }

    fn play(&mut self, stop: &AtomicBool, duration: Option<Duration>) -> Result<()> {
        let mut leave_at = None;
        while leave_at.is_none_or(|at| now_ms() < at) && !self.world.is_over() {
            let time_is_up = duration.is_some_and(|duration| self.begun.elapsed() >= duration);
            if leave_at.is_none() && (stop.load(Ordering::SeqCst) || time_is_up) {
                self.world.end_arrivals();
                leave_at = Some(now_ms() + LAST_OUTCOMES_MS);
                if !self.screen.is_json() {
                    remark("no more payments; waiting for the last outcomes");
                }
            }
            self.turn()?;
            if leave_at.is_some() && self.report.is_settled() {
                break;
            }
            if self.said.0.elapsed() >= LINE_EVERY {
                // Also the moment to learn of records that could not be written.
                self.feed.flush().context("the events cannot be written")?;
                self.say()?;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<()> {
        let events = self.world.step_until(now_ms());
        for event in &events {
            match event {
                SimEvent::Request(_) => self.report.requests += 1,
                SimEvent::Attempt(_) => self.report.attempts += 1,
                SimEvent::Outcome(_) => self.report.outcomes += 1,
            }
        }
        self.feed.append(&events)?;
        let Some(answers) = &mut self.answers else {
            thread::sleep(TURN);
            return Ok(());
        };
        let news = match answers.poll(TURN) {
            Ok(news) => news,
            Err(error) if error.downcast_ref::<LogError>().is_some_and(LogError::is_transient) => {
                // Payments go on arriving while the broker is away; their requests go unanswered.
                thread::sleep(TURN);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for decision in &news.decisions {
            self.report.decisions += u64::from(self.world.route(&world::route_of(decision)));
        }
        Ok(())
    }

    fn say(&mut self) -> Result<()> {
        let (at, before) = &self.said;
        let line = self.report.line(before, at.elapsed(), self.world.truth());
        self.said = (Instant::now(), self.report.clone());
        self.screen.say(line)
    }

    fn finish(mut self) -> Result<()> {
        self.feed.flush().context("the last events cannot be written")?;
        let report = self.report.closed(self.world.truth(), self.begun.elapsed());
        report.lines().into_iter().try_for_each(|line| self.screen.say(line))?;
        self.screen.object(&report)
    }
}

impl Report {
    fn closed(mut self, truth: &Truth, lasted: Duration) -> Self {
        self.unanswered = truth.unanswered;
        self.unrouted = truth.unrouted;
        self.payments = truth.payments.n;
        self.approval_rate = truth.payments.rate();
        self.approval_rate_static = truth.payments.rate_static();
        self.approval_rate_oracle = truth.payments.rate_oracle();
        self.seconds = lasted.as_secs_f64();
        self
    }

    /// Whether no request waits for its attempt, and no attempt for its outcome.
    fn is_settled(&self) -> bool {
        self.requests == self.attempts && self.attempts == self.outcomes
    }

    /// What the last seconds brought.
    fn line(&self, before: &Self, lasted: Duration, truth: &Truth) -> String {
        let per_second = |now: u64, then: u64| (now - then) as f64 / lasted.as_secs_f64();
        let events = |report: &Self| report.requests + report.attempts + report.outcomes;
        format!(
            "{:.1} events/s | {} requests, {} decisions, {} unanswered | {} payments, approved {}",
            per_second(events(self), events(before)),
            self.requests,
            self.decisions,
            truth.unanswered,
            truth.payments.n,
            rate(truth.payments.n, truth.payments.rate())
        )
    }

    fn lines(&self) -> Vec<String> {
        let shown = |share| rate(self.payments, share);
        vec![
            format!(
                "\n{} requests, {} attempts, {} outcomes in {:.0} s",
                self.requests, self.attempts, self.outcomes, self.seconds
            ),
            format!("{} decisions, {} requests unanswered, {} without a PSP", self.decisions, self.unanswered, self.unrouted),
            format!(
                "{} payments, approved {} (static rules {}, oracle {})",
                self.payments,
                shown(self.approval_rate),
                shown(self.approval_rate_static),
                shown(self.approval_rate_oracle)
            ),
        ]
    }
}

fn rate(of: u64, share: f64) -> String {
    if of == 0 { "-".to_owned() } else { format!("{:.1} %", share * 100.0) }
}

pub(super) fn now_ms() -> EpochMs {
    chrono::Utc::now().timestamp_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartrouter::sim::Comparison;

    #[test]
    fn lines_tell_the_last_seconds_and_the_whole() {
        let before = Report { requests: 10, attempts: 9, outcomes: 8, ..Report::default() };
        let now = Report { requests: 20, attempts: 18, outcomes: 16, decisions: 19, ..Report::default() };
        let payments = Comparison { n: 8, approved: 6, approved_static: 4, approved_oracle: 7 };
        let truth = Truth { payments, unanswered: 1, ..Truth::default() };
        let line = now.line(&before, Duration::from_secs(5), &truth);
        assert_eq!(line, "5.4 events/s | 20 requests, 19 decisions, 1 unanswered | 8 payments, approved 75.0 %");
        assert!(!now.is_settled() && Report { attempts: 20, outcomes: 20, ..now.clone() }.is_settled());
        let closed = now.closed(&truth, Duration::from_secs(60));
        let lines = closed.lines();
        assert_eq!(lines[1], "19 decisions, 1 requests unanswered, 0 without a PSP");
        assert_eq!(lines[2], "8 payments, approved 75.0 % (static rules 50.0 %, oracle 87.5 %)");
        let json = serde_json::to_value(closed).unwrap();
        for key in ["requests", "attempts", "outcomes", "decisions", "unanswered", "approval_rate"] {
            assert!(json[key].is_number(), "{key}: {json}");
        }
        assert_eq!(rate(0, 0.0), "-");
    }
}
