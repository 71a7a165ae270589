//! Fetches partitions from positions that it is told: the part that a group member and a reader have in common.
//!
//! Each partition has a queue of its own in librdkafka (`split_partition_queue`), for three reasons: an end-of-partition event names no
//! topic, so only its queue tells where it belongs; pausing is not to look into a queue, so positions cannot be lost; and the topic's name
//! need not be looked up by record. Starts and stops are incremental: the other partitions go on undisturbed, and librdkafka's version
//! barrier drops what was fetched before a stop. Never commits, never joins a group (its client only carries a group's name).

use super::KafkaOptions;
use super::admin;
use super::context::{Context, Reach, lock};
use super::errors::{Meaning, code_of, configuration, meaning};
use super::properties::{self, Role};
use crate::io::log::{Arena, LogError, Polled, Position, Record, TopicPartition};
use bytes::Bytes;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Records taken from one partition before the next one has its turn.
const TURN_RECORDS: usize = 64;
/// The longest sleep of a poll: logs of librdkafka are looked after, and a wake-up that hid behind one of them is not lost.
const NAP: Duration = Duration::from_millis(50);

/// The role of the fetching client: it has no callbacks of its own.
pub(super) struct Fetching;

impl ConsumerContext for Context<Fetching> {}

/// Rings when a queue of librdkafka gets its first entry.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    signal: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *lock(&self.rung) = true;
        self.signal.notify_one();
    }

    fn wait(&self, at_most: Duration) {
        let rung = self.signal.wait_timeout_while(lock(&self.rung), at_most, |rung| !*rung);
        drop(rung.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Runs `step` until it brought something (true) or the time is over. The bell is cleared before each step, so nothing that comes while the
/// step looks around is missed.
pub(super) fn poll_until(
    bell: &Bell,
    timeout: Duration,
    mut step: impl FnMut() -> Result<bool, LogError>,
) -> Result<(), LogError> {
    let start = Instant::now();
    loop {
        *lock(&bell.rung) = false;
        if step()? {
            return Ok(());
        }
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        bell.wait(left.min(NAP));
    }
}

struct Stream {
    at: TopicPartition,
    queue: PartitionQueue<Context<Fetching>>,
    /// Where reading goes on: behind the last record that was handed out.
    next: i64,
    paused: bool,
}

pub(super) struct Fetcher {
    // Before the consumer: a queue must not outlive its client's last use.
    streams: Vec<Stream>,
    consumer: Arc<BaseConsumer<Context<Fetching>>>,
    bell: Arc<Bell>,
    cursor: usize,
    arena: Arena,
    answer_timeout: Duration,
}

impl Fetcher {
    pub(super) fn open(options: &KafkaOptions, reach: &Arc<Reach>, bell: &Arc<Bell>) -> Result<Self, LogError> {
        let group = format!("{}-reader", options.client_id);
        let config: ClientConfig = properties::of(Role::Fetch { group: &group }, options);
        let mut consumer: BaseConsumer<Context<Fetching>> =
            config.create_with_context(Context::new(reach, Fetching)).map_err(|e| configuration(&e))?;
        let ring = Arc::clone(bell);
        consumer.set_nonempty_callback(move || ring.ring());
        Ok(Self {
            streams: Vec::new(),
            consumer: Arc::new(consumer),
            bell: Arc::clone(bell),
            cursor: 0,
            arena: Arena::default(),
            answer_timeout: options.answer_timeout(),
        })
    }

    /// Begins, or begins again, from these positions.
    pub(super) fn start(&mut self, from: &[(TopicPartition, Position)]) -> Result<(), LogError> {
        let named: Vec<TopicPartition> = from.iter().map(|(at, _)| at.clone()).collect();
        self.stop(&named)?;
        let mut list = TopicPartitionList::with_capacity(from.len());
        for (at, position) in from {
            let (offset, next) = match position {
                Position::Beginning => (Offset::Beginning, 0),
                Position::At(offset) => (Offset::Offset(*offset), *offset),
            };
            list.add_partition_offset(&at.topic, at.partition, offset).map_err(|e| self.failed("start", &e))?;
            // Before the assignment, so that not one record takes the way through the common queue.
            let Some(mut queue) = self.consumer.split_partition_queue(&at.topic, at.partition) else {
                return Err(LogError::Refused(format!("{at} is no name of a partition")));
            };
            let ring = Arc::clone(&self.bell);
            queue.set_nonempty_callback(move || ring.ring());
            self.streams.push(Stream { at: at.clone(), queue, next, paused: false });
        }
        if list.count() > 0 {
            self.consumer.incremental_assign(&list).map_err(|e| self.failed("start", &e))?;
        }
        Ok(())
    }

    /// Those of `of` that are being read are read no more.
    pub(super) fn stop(&mut self, of: &[TopicPartition]) -> Result<(), LogError> {
        let named: BTreeSet<&TopicPartition> = of.iter().collect();
        let mut list = TopicPartitionList::new();
        self.streams.retain(|stream| {
            let stays = !named.contains(&stream.at);
            if !stays {
                list.add_partition(&stream.at.topic, stream.at.partition);
            }
            stays
        });
        if list.count() > 0 {
            self.consumer.incremental_unassign(&list).map_err(|e| self.failed("stop", &e))?;
        }
        Ok(())
    }

    pub(super) fn stop_all(&mut self) -> Result<(), LogError> {
        let all: Vec<TopicPartition> = self.streams.iter().map(|stream| stream.at.clone()).collect();
        self.stop(&all)
    }

    pub(super) fn set_paused(&mut self, of: &[TopicPartition], paused: bool) {
        for stream in self.streams.iter_mut().filter(|stream| of.contains(&stream.at)) {
            stream.paused = paused;
        }
    }

    /// Takes what is there, in turn by partition, without waiting. Tells whether that was anything.
    pub(super) fn sweep(&mut self, out: &mut Vec<Polled>, records_max: usize) -> Result<bool, LogError> {
        self.serve()?;
        let before = out.len();
        let mut left = records_max;
        loop {
            let left_before = left;
            for _ in 0..self.streams.len() {
                if left == 0 {
                    break;
                }
                self.cursor = (self.cursor + 1) % self.streams.len();
                left -= self.take(out, left.min(TURN_RECORDS))?;
            }
            if left == 0 || left == left_before {
                break;
            }
        }
        if out.len() > before {
            self.consumer.context().reach.answered();
        }
        Ok(out.len() > before)
    }

    /// Serves logs and errors of the client itself.
    fn serve(&self) -> Result<(), LogError> {
        match self.consumer.poll(Duration::ZERO) {
            Some(Err(error)) => self.judge(None, &error),
            _ => Ok(()),
        }
    }

    /// Takes at most `records_max` records of the partition whose turn it is.
    fn take(&mut self, out: &mut Vec<Polled>, records_max: usize) -> Result<usize, LogError> {
        let stream = &mut self.streams[self.cursor];
        if stream.paused {
            return Ok(0);
        }
        let mut records = 0;
        while records < records_max {
            match stream.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let record = to_record(&stream.at, &message, &mut self.arena);
                    stream.next = record.offset + 1;
                    out.push(Polled::Record(record));
                    records += 1;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    // Behind the last record there may be offsets of transaction markers: librdkafka tells them in its text only.
                    let offset = end_offset(&self.consumer.context().reason()).unwrap_or(stream.next);
                    out.push(Polled::End { at: stream.at.clone(), offset });
                }
                Some(Err(error)) => {
                    let (at, position) = (stream.at.clone(), stream.next);
                    if code_of(&error) == RDKafkaErrorCode::AutoOffsetReset {
                        self.reposition(&at, position)?;
                    } else {
                        self.judge(Some(&at), &error)?;
                    }
                    break;
                }
            }
        }
        Ok(records)
    }

    /// The position is not in the log: retention took it, or the topic is not the one that it was.
    fn reposition(&mut self, at: &TopicPartition, position: i64) -> Result<(), LogError> {
        let (first, end) = self.bounds(at)?;
        if position > end {
            return Err(LogError::Corrupt(format!(
                "{at}: position {position} lies behind the end {end}: the topic was made anew or lost records"
            )));
        }
        if position < first {
            tracing::warn!(partition = %at, position, first, "records were deleted before they were read: going on at the first one");
        }
        self.start(&[(at.clone(), Position::At(position.max(first)))])
    }

    pub(super) fn bounds(&self, at: &TopicPartition) -> Result<(i64, i64), LogError> {
        let ask = |timeout| self.consumer.fetch_watermarks(&at.topic, at.partition, timeout);
        admin::ask(&self.consumer, &at.to_string(), self.answer_timeout, ask)
    }

    /// The last stable offsets: this client reads committed.
    pub(super) fn settled_ends(
        &self,
        of: &[TopicPartition],
        patience: Duration,
    ) -> Result<BTreeMap<TopicPartition, i64>, LogError> {
        admin::ends(&self.consumer, of, patience)
    }

    /// The identity of a client that is in no group.
    pub(super) fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.group_metadata()
    }

    /// Whether an error event is one for the caller. What librdkafka retries by itself is not.
    fn judge(&self, at: Option<&TopicPartition>, error: &KafkaError) -> Result<(), LogError> {
        let context = self.consumer.context();
        let place = at.map_or_else(String::new, |at| format!("{at}: "));
        match meaning(code_of(error)) {
            Meaning::Missing => Err(LogError::NoTopic(at.map_or_else(|| context.reason(), ToString::to_string))),
            Meaning::Refused => Err(LogError::Refused(format!("{place}{}", context.reason()))),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                Err(LogError::Unavailable(format!("{place}{}", context.reason())))
            }
            _ => {
                tracing::debug!(target: "librdkafka", "{place}{}", context.reason());
                Ok(())
            }
        }
    }

    fn failed(&self, what: &str, error: &KafkaError) -> LogError {
        match meaning(code_of(error)) {
            Meaning::Refused => LogError::Refused(format!("{what}: {error}")),
            _ => match self.consumer.context().reach.unavailable(what) {
                LogError::Unavailable(text) => LogError::Unavailable(format!("{text}: {error}")),
                refused => refused,
            },
        }
    }
}

fn to_record(at: &TopicPartition, message: &BorrowedMessage<'_>, arena: &mut Arena) -> Record {
    Record {
        at: at.clone(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().map(|key| arena.keep(key)),
        value: message.payload().map(|payload| arena.keep(payload)),
        headers: message.headers().map_or_else(Vec::new, |headers| {
            // rdkafka panics on a header whose name is not UTF-8; one such record must not end the process.
            let one = |index| {
                catch_unwind(AssertUnwindSafe(|| {
                    let header = headers.get(index);
                    (header.key.to_owned(), header.value.map(Bytes::copy_from_slice))
                }))
            };
            (0..headers.count()).map(|index| one(index).unwrap_or_else(|_| (format!("unreadable-{index}"), None))).collect()
        }),
    }
}

/// The offset in `Fetch from broker 1 reached end of partition at offset 42 (HighwaterMark 43)`.
fn end_offset(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("end of partition at offset ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_from_librdkafkas_text() {
        let rows = [
            ("Fetch from broker 1 reached end of partition at offset 42 (HighwaterMark 43)", Some(42)),
            ("Fetch from broker 1 reached end of partition at offset 0 (HighwaterMark 0)", Some(0)),
            ("Broker: Not leader", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(end_offset(text), expected, "{text}");
        }
    }

    #[test]
    fn a_bell_that_rang_before_the_wait_is_heard() {
        let bell = Bell::default();
        let mut steps = 0;
        let long = Duration::from_secs(3600);
        let outcome = poll_until(&bell, long, || {
            steps += 1;
            bell.ring();
            Ok(steps == 3)
        });
        assert!(outcome.is_ok());
        assert_eq!(steps, 3);
    }
}
