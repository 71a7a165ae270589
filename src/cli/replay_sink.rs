//! Where a replay's events go: through an engine in this process, or onto the topics of a cluster.
//!
//! Owns the order: a row brings an attempt and its outcome together, but other attempts may lie between the two.

use super::context::Context;
use super::press::Press;
use super::replay::{Destination, ReplaySink, ReplayTotals};
use anyhow::Result;
use smartrouter::io::codec::Wire;
use smartrouter::io::history::HistoryEvents;
use smartrouter::io::log::embedded::EmbeddedLog;
use smartrouter::io::log::{Appender, EventLog, Output, Reader, TopicPartition};
use smartrouter::io::topics::{self, TopicNames};
use smartrouter::runtime::{Clock, Engine};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Sink {
    press: Press,
    names: TopicNames,
    appender: Box<dyn Appender>,
    /// Records that wait for their event time, by time and order of arrival.
    held: BTreeMap<(i64, u64), Output>,
    arrived: u64,
    /// Highest event time.
    last_at: i64,
    ready: Vec<Output>,
    /// Absent when the events go to Kafka.
    engine: Option<EngineSide>,
}

struct EngineSide {
    engine: Engine,
    log: Arc<EmbeddedLog>,
    /// Records that were in the output topics before: (decisions, feedback).
    before: (u64, u64),
}

/// Records that are appended at once.
const BATCH: usize = 2_000;

impl Sink {
    pub(super) fn open(context: &Context, destination: Destination) -> Result<Self> {
        let (log, engine): (Arc<dyn EventLog>, _) = match destination {
            Destination::Kafka => (Arc::new(context.kafka()?), None),
            Destination::Embedded => {
                let log = Arc::new(context.embedded()?);
                let before = counts(&*log, context.names())?;
                let engine = Engine::open(log.clone(), Arc::new(context.shared(Clock::Event)?), context.limits())?;
                (log.clone(), Some(EngineSide { engine, log, before }))
            }
        };
        Ok(Self {
            press: Press::new(context.codec()?, context.names()),
            names: context.names().clone(),
            appender: log.appender()?,
            held: BTreeMap::new(),
            arrived: 0,
            last_at: 0,
            ready: Vec::new(),
            engine,
        })
    }

    /// Holds a record until its event time has come.
    fn hold<T: Wire>(&mut self, at: i64, key: &str, value: &T) -> Result<()> {
        // Kafka keeps records by the age of this time: history that arrives today is today's.
        let output = self.press.print(key, self.engine.is_some().then_some(at), value)?;
        self.held.insert((at, self.arrived), output);
        self.arrived += 1;
        self.last_at = self.last_at.max(at);
        Ok(())
    }

    fn release(&mut self, until: i64) -> Result<()> {
        while let Some(first) = self.held.first_entry().filter(|first| first.key().0 <= until) {
            self.ready.push(first.remove());
        }
        if self.ready.len() >= BATCH || until == i64::MAX {
            self.appender.append(std::mem::take(&mut self.ready))?;
            if let Some(side) = &mut self.engine {
                side.engine.drain()?;
            }
        }
        Ok(())
    }
}

impl ReplaySink for Sink {
    fn accept(&mut self, events: HistoryEvents) -> Result<()> {
        let attempt = &events.attempt;
        let key = attempt.payment.key().to_owned();
        let at = events.request.as_ref().map_or(attempt.attempted_at, |request| request.requested_at.min(attempt.attempted_at));
        self.release(at - 1)?;
        if let Some(request) = &events.request {
            self.hold(request.requested_at, &key, request)?;
        }
        self.hold(attempt.attempted_at, &key, attempt)?;
        if let Some(outcome) = &events.outcome {
            self.hold(outcome.occurred_at, &key, outcome)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ReplayTotals> {
        self.release(i64::MAX)?;
        self.appender.flush()?;
        let Some(EngineSide { engine, log, before }) = self.engine else { return Ok(ReplayTotals::default()) };
        engine.close()?;
        // By the time of the history: a log of 2019 is not old to itself.
        log.maintain(self.last_at)?;
        let after = counts(&*log, &self.names)?;
        Ok(ReplayTotals { decisions: Some(after.0 - before.0), feedback: Some(after.1 - before.1) })
    }
}

/// Records in the topics of decisions and feedback. The embedded log's offsets are dense where nothing is compacted.
fn counts(log: &dyn EventLog, names: &TopicNames) -> Result<(u64, u64)> {
    let known = log.topics(&[])?;
    let mut reader = log.reader()?;
    let mut ends = |base: &str| -> Result<u64> {
        let name = names.full(base);
        let partitions = known.iter().find(|topic| topic.name == name).map_or(0, |topic| topic.partitions);
        (0..partitions).try_fold(0, |sum, partition| Ok(sum + end_of(&mut *reader, &TopicPartition::new(&name, partition))?))
    };
    Ok((ends(topics::ROUTING_DECISIONS)?, ends(topics::ATHIA_FEEDBACK)?))
}

fn end_of(reader: &mut dyn Reader, at: &TopicPartition) -> Result<u64> {
    let (_, end) = reader.bounds(at)?;
    Ok(end.unsigned_abs())
}
