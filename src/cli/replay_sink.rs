//! Where a replay's events go: through an engine in this process, or onto the topics of a cluster.
//!
//! Owns the order: a row brings an attempt and its outcome together, but other attempts may lie between the two.

use super::context::Context;
use super::press::Press;
use super::replay::{Destination, ReplaySink, ReplayTotals};
use super::scan::{partitions_of, scan};
use super::screen::remark;
use anyhow::Result;
use smartrouter::domain::decision::RoutingDecision;
use smartrouter::io::codec::{Codec, Wire};
use smartrouter::io::history::HistoryEvents;
use smartrouter::io::log::embedded::EmbeddedLog;
use smartrouter::io::log::{Appender, EventLog, Output, TopicPartition};
use smartrouter::io::topics::{self, TopicNames};
use smartrouter::runtime::{Clock, Engine};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Sink {
    press: Press,
    codec: Codec,
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
    /// Where the topics of decisions and feedback ended before.
    before: (Ends, Ends),
}

/// The offset behind the last record of each partition of a topic.
type Ends = BTreeMap<TopicPartition, i64>;

/// Records that are appended at once.
const BATCH: usize = 2_000;

impl Sink {
    pub(super) fn open(context: &Context, destination: Destination) -> Result<Self> {
        let (log, engine): (Arc<dyn EventLog>, _) = match destination {
            Destination::Kafka => (Arc::new(context.kafka()?), None),
            Destination::Embedded => {
                let log = Arc::new(context.embedded()?);
                let before = ends(&*log, context.names())?;
                let engine = Engine::open(log.clone(), Arc::new(context.shared(Clock::Event)?), context.limits())?;
                (log.clone(), Some(EngineSide { engine, log, before }))
            }
        };
        let codec = context.codec()?;
        Ok(Self {
            press: Press::new(codec.clone(), context.names()),
            codec,
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
        let after = ends(&*log, &self.names)?;
        let totals = ReplayTotals { decisions: Some(grown(&before.0, &after.0)), feedback: Some(grown(&before.1, &after.1)) };
        if totals.decisions > Some(0) {
            remark_unranked(&*log, &self.codec, &self.names, &before.0)?;
        }
        // By the time of the history: a log of 2019 is not old to itself.
        log.maintain(self.last_at)?;
        Ok(totals)
    }
}

/// Of the topics of decisions and of feedback. The embedded log's offsets are dense where nothing is compacted.
fn ends(log: &dyn EventLog, names: &TopicNames) -> Result<(Ends, Ends)> {
    let mut reader = log.reader()?;
    let mut of = |base: &str| -> Result<Ends> {
        let partitions = partitions_of(log, &[names.full(base)])?;
        partitions.into_iter().map(|at| Ok((at.clone(), reader.bounds(&at)?.1))).collect()
    };
    Ok((of(topics::ROUTING_DECISIONS)?, of(topics::ATHIA_FEEDBACK)?))
}

fn grown(before: &Ends, after: &Ends) -> u64 {
    after.iter().map(|(at, end)| (end - before.get(at).copied().unwrap_or_default()).unsigned_abs()).sum()
}

/// Decisions without a PSP are what a configuration for another merchant makes of a history.
fn remark_unranked(log: &dyn EventLog, codec: &Codec, names: &TopicNames, before: &Ends) -> Result<()> {
    let (mut decisions, mut unranked) = (0_u64, 0_u64);
    scan(log, &[names.full(topics::ROUTING_DECISIONS)], |record| {
        let is_new = before.get(&record.at).is_none_or(|&end| record.offset >= end);
        let decision = record.value.filter(|_| is_new).map(|value| codec.decode::<RoutingDecision>(&value));
        if let Some(Ok(decision)) = decision {
            decisions += 1;
            unranked += u64::from(decision.ranked.is_empty());
        }
    })?;
    if unranked > 0 {
        remark(format!(
            "{unranked} of {decisions} decisions rank no PSP: none of the configuration takes these payments; give one with -c that lists \
             the merchants and PSPs of this history"
        ));
    }
    Ok(())
}
