//! Telling people: each sink reads `psp.outages` in a consumer group of its own, in a thread of its own.
//!
//! Owns the threads, and that of all instances one serves a sink (the group sees to that). What a sink has told, and what it is about to
//! tell, is in `smartrouter.alerts.changelog`, committed together with its offset: a sink goes on where any instance left it. Never keeps
//! the router from working or from being ready: a sink that fails is tried again, and says so in the log and in its metrics.
//!
//! Reading order: here (threads, the group), `desk` (one sink's work), `stored` (what of it is durable).

mod desk;
mod stored;
#[cfg(test)]
mod tests;

use super::clock::wall_ms;
use super::{Limits, Shared, Stop};
use crate::config::{Config, SinkConfig, SinkKind};
use crate::engine::alerts::AlertRules;
use crate::io::alert::{AlertSink, LogSink, PAGERDUTY_URL, PagerDuty, SinkError, Slack, Webhook};
use crate::io::log::{EventLog, GroupMember, LogError, Polled, TopicPartition};
use crate::io::topics;
use crate::telemetry;
use desk::Desk;
use metrics::counter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Everything that one sink needs.
pub struct Line {
    name: String,
    sink: Box<dyn AlertSink>,
    rules: AlertRules,
    /// Transitions of this many milliseconds are told together.
    group_ms: i64,
}

/// What all sinks share.
struct Office {
    log: Arc<dyn EventLog>,
    shared: Arc<Shared>,
    outages: TopicPartition,
    changelog: TopicPartition,
    stop: Stop,
}

/// Threads at work on the sinks.
pub struct Alerts(Vec<JoinHandle<()>>);

const POLL: Duration = Duration::from_millis(50);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const RECORDS_PER_POLL: usize = 100;

/// The sinks of the configuration.
pub fn lines(config: &Config) -> Result<Vec<Line>, SinkError> {
    config.alerts.sinks.iter().map(|sink| line(config, sink)).collect()
}

fn line(config: &Config, of: &SinkConfig) -> Result<Line, SinkError> {
    let timeout = Duration::from_millis(config.alerts.timeout_ms);
    let (url, key) = (of.url.expose().unwrap_or_default(), of.routing_key.expose().unwrap_or_default());
    let sink: Box<dyn AlertSink> = match of.kind {
        SinkKind::Slack => Box::new(Slack::new(url, timeout)?),
        SinkKind::Pagerduty => Box::new(PagerDuty::new(of.url.expose().unwrap_or(PAGERDUTY_URL), key, timeout)?),
        SinkKind::Webhook => Box::new(Webhook::new(url, of.secret.expose().unwrap_or_default(), timeout)?),
        SinkKind::Log => Box::new(LogSink),
    };
    Ok(Line { name: of.name().to_owned(), sink, rules: config.alert_rules(of), group_ms: config.alerts.group_ms })
}

impl Alerts {
    /// `limits` name the group, of which each sink's is a sister, and this instance.
    pub fn start(log: &Arc<dyn EventLog>, shared: &Arc<Shared>, limits: &Limits, lines: Vec<Line>, stop: &Stop) -> Self {
        let start = |line: Line| {
            let office = Office {
                log: log.clone(),
                shared: shared.clone(),
                outages: TopicPartition::new(&shared.topics.full(topics::PSP_OUTAGES), 0),
                changelog: TopicPartition::new(&shared.topics.full(topics::ALERTS_CHANGELOG), 0),
                stop: stop.clone(),
            };
            let (group, instance) = (format!("{}-alerts-{}", limits.group, line.name), limits.instance.clone());
            thread::spawn(move || office.serve(line, &group, &instance))
        };
        Self(lines.into_iter().map(start).collect())
    }

    /// Waits for the threads, which end when told to stop.
    pub fn join(self) {
        for handle in self.0 {
            if handle.join().is_err() {
                tracing::error!("a thread of the alerts panicked");
            }
        }
    }
}

impl Office {
    /// Serves a sink until told to stop, whatever happens.
    fn serve(&self, line: Line, group: &str, instance: &str) {
        let name = line.name.clone();
        let mut desk = Desk::new(line, group);
        let mut pause = PAUSE_MIN;
        while !self.stop.is_set() {
            let begun = Instant::now();
            let turned = catch_unwind(AssertUnwindSafe(|| self.session(&mut desk, instance)));
            match turned {
                Ok(Ok(())) => continue,
                Ok(Err(LogError::Fenced { detail, .. })) => {
                    tracing::warn!(sink = name, %detail, "another process has this instance's name: alerts are its now");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(sink = name, %error, "alerts begin again from what was told last"),
                Err(_) => {
                    counter!(telemetry::PANICS, "task" => format!("alerts-{name}")).increment(1);
                    tracing::error!(sink = name, "a panic while telling: see the crash report; alerts begin again");
                }
            }
            // One that held for long is a new failure, not the same again.
            pause = if begun.elapsed() > 2 * PAUSE_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            self.stop.pause(pause);
        }
    }

    /// From joining the group until told to stop.
    fn session(&self, desk: &mut Desk, instance: &str) -> Result<(), LogError> {
        desk.put_down();
        self.require_one_partition()?;
        let mut member = self.log.member(desk.group(), instance, &[self.outages.topic.to_string()])?;
        let outcome = self.work(desk, member.as_mut());
        let closed = member.close();
        outcome.and(closed)
    }

    fn work(&self, desk: &mut Desk, member: &mut dyn GroupMember) -> Result<(), LogError> {
        let mut polled = Vec::new();
        while !self.stop.is_set() {
            member.poll(&mut polled, RECORDS_PER_POLL, POLL)?;
            for polled in polled.drain(..) {
                match polled {
                    Polled::Assigned(partitions) if partitions.contains(&self.outages) => desk.take_up(self, member)?,
                    Polled::Revoked(partitions) if partitions.contains(&self.outages) => desk.put_down(),
                    Polled::Record(record) => desk.read(&record, self, wall_ms()),
                    Polled::End { .. } => desk.read_all(),
                    Polled::Assigned(_) | Polled::Revoked(_) => {}
                }
            }
            desk.turn(self, member)?;
        }
        Ok(())
    }

    /// Order is by partition: over several, an end could be told before its beginning.
    fn require_one_partition(&self) -> Result<(), LogError> {
        let topic = &self.outages.topic;
        let known = self.log.topics(&[])?;
        let partitions = known.iter().find(|known| *known.name == **topic).map(|known| known.partitions);
        match partitions {
            Some(1) => Ok(()),
            None => Err(LogError::NoTopic(topic.to_string())),
            Some(count) => {
                Err(LogError::Refused(format!("{topic} has {count} partitions: alerts need all transitions in one order")))
            }
        }
    }
}
