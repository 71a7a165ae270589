//! A member of a consumer group with its transactional producers.
//!
//! Three clients, each with one duty: the membership (joins, heartbeats, rebalances, the group's offsets; fetches nothing), the fetcher,
//! and two transactors that take turns, because the coordinator needs some milliseconds after a commit before it takes the next
//! transaction of the same id. With the membership apart from fetching, nothing can be delivered before `start`, and starting one
//! partition does not disturb the others.

use super::KafkaOptions;
use super::admin;
use super::context::{Context, Reach, lock};
use super::errors::{Meaning, code_of, configuration, meaning};
use super::fetcher::{Bell, Fetcher, poll_until};
use super::properties::{self, Role};
use super::transactor::{self, Transactor};
use crate::io::failpoint;
use crate::io::log::{GroupMember, LogError, Polled, Position, TopicPartition, Txn, Written};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Role of the membership's client: it collects what rebalances bring.
#[derive(Default)]
pub(super) struct Membership {
    changes: Mutex<Vec<Polled>>,
}

impl ConsumerContext for Context<Membership> {
    /// Runs within `poll`, on the member's own thread. The client is always given an empty assignment: it is not the one that fetches.
    fn rebalance(&self, membership: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = named(list);
        let (outcome, change) = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            failpoint::pass("rebalance-assigned");
            (membership.assign(&TopicPartitionList::new()), Polled::Assigned(partitions))
        } else {
            failpoint::pass("rebalance-revoked");
            (membership.unassign(), Polled::Revoked(partitions))
        };
        if let Err(error) = outcome {
            tracing::warn!("a rebalance was not confirmed: {error}");
        }
        // An empty assignment is news as well: the member is in the group and stands by.
        if !matches!(&change, Polled::Revoked(none) if none.is_empty()) {
            lock(&self.role.changes).push(change);
        }
    }
}

fn named(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let mut all: Vec<TopicPartition> =
        list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect();
    all.sort();
    all
}

pub(super) struct KafkaMember {
    /// Absent once closed.
    open: Option<Open>,
    instance: String,
}

struct Open {
    fetcher: Fetcher,
    membership: BaseConsumer<Context<Membership>>,
    seat: Seat,
    bell: Arc<Bell>,
    assigned: BTreeSet<TopicPartition>,
    /// When it began to wait for the group's answer to a join; none while it has one.
    joining_since: Option<Instant>,
    /// By turn; absent after a failure, until `recover` makes a new one.
    transactors: [Option<Transactor>; 2],
    turn: usize,
    /// Another process has this instance's name: `recover` must not take it back.
    fenced: bool,
    producers: Producers,
    options: Arc<KafkaOptions>,
}

/// Where the member sits: enough to join again.
struct Seat {
    group: String,
    instance: String,
    topics: Vec<String>,
}

impl Seat {
    fn join(
        &self,
        options: &KafkaOptions,
        reach: &Arc<Reach>,
        bell: &Arc<Bell>,
    ) -> Result<BaseConsumer<Context<Membership>>, LogError> {
        let config = properties::of(Role::Membership { group: &self.group, instance: &self.instance }, options);
        let mut membership: BaseConsumer<Context<Membership>> =
            config.create_with_context(Context::new(reach, Membership::default())).map_err(|e| configuration(&e))?;
        let ring = Arc::clone(bell);
        membership.set_nonempty_callback(move || ring.ring());
        let names: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        membership.subscribe(&names).map_err(|error| LogError::Refused(format!("subscribing as {}: {error}", self.group)))?;
        Ok(membership)
    }
}

/// How to make the member's transactors.
struct Producers {
    ids: [String; 2],
    options: Arc<KafkaOptions>,
    reach: Arc<Reach>,
    live: Arc<AtomicUsize>,
}

impl Producers {
    /// Makes those that are missing.
    fn complete(&self, transactors: &mut [Option<Transactor>; 2]) -> Result<(), LogError> {
        let mut openings = Vec::new();
        for (slot, id) in self.ids.iter().enumerate().filter(|(slot, _)| transactors[*slot].is_none()) {
            openings.push((slot, transactor::open(id, &self.options, &self.reach, &self.live)?));
        }
        for (slot, opening) in openings {
            transactors[slot] = Some(opening.wait(&self.reach)?);
        }
        Ok(())
    }
}

impl KafkaMember {
    pub(super) fn open(log: &super::KafkaLog, group: &str, instance: &str, topics: &[String]) -> Result<Self, LogError> {
        admin::require_topics(log, topics)?;
        let producers = Producers {
            ids: [format!("{group}-{instance}-a"), format!("{group}-{instance}-b")],
            options: Arc::clone(&log.options),
            reach: Arc::clone(&log.reach),
            live: Arc::clone(&log.live_transactors),
        };
        // First of all: from here on a former owner cannot commit.
        let mut transactors = [None, None];
        producers.complete(&mut transactors)?;
        let bell = Arc::new(Bell::default());
        let seat = Seat { group: group.to_owned(), instance: instance.to_owned(), topics: topics.to_vec() };
        let open = Open {
            fetcher: Fetcher::open(&log.options, &log.reach, &bell)?,
            membership: seat.join(&log.options, &log.reach, &bell)?,
            seat,
            bell,
            assigned: BTreeSet::new(),
            joining_since: Some(Instant::now()),
            transactors,
            turn: 0,
            fenced: false,
            producers,
            options: Arc::clone(&log.options),
        };
        Ok(Self { open: Some(open), instance: instance.to_owned() })
    }

    fn open_mut(&mut self) -> Result<&mut Open, LogError> {
        self.open.as_mut().ok_or_else(|| LogError::Refused("the member has left its group".into()))
    }

    /// Errors of below name the transactional id; the operator knows the instance.
    fn by_instance<T>(&self, outcome: Result<T, LogError>) -> Result<T, LogError> {
        outcome.map_err(|error| match error {
            LogError::Fenced { detail, .. } => LogError::Fenced { instance: self.instance.clone(), detail },
            other => other,
        })
    }
}

impl Open {
    /// Looks after the membership, then takes records.
    fn step(&mut self, out: &mut Vec<Polled>, records_max: usize) -> Result<bool, LogError> {
        self.check_fenced()?;
        if let Some(Err(error)) = self.membership.poll(Duration::ZERO) {
            self.judge(&error)?;
        }
        // librdkafka waits for the answer to a join as long as the slowest member may take, minutes, also on a connection that is dead.
        if self.joining_since.is_some_and(|since| since.elapsed() >= self.options.join_max()) {
            self.join_again("it did not answer a join")?;
        }
        let changes = std::mem::take(&mut *lock(&self.membership.context().role.changes));
        let any = !changes.is_empty();
        // The caller gets to know all changes, whatever fails after them.
        out.extend(changes.iter().cloned());
        for change in &changes {
            match change {
                Polled::Assigned(partitions) => {
                    self.joining_since = None;
                    self.assigned.extend(partitions.iter().cloned());
                }
                Polled::Revoked(partitions) => {
                    self.joining_since = self.joining_since.or_else(|| Some(Instant::now()));
                    self.assigned.retain(|at| !partitions.contains(at));
                    self.fetcher.stop(partitions)?;
                }
                Polled::Record(_) | Polled::End { .. } => {}
            }
        }
        Ok(self.fetcher.sweep(out, records_max)? || any)
    }

    fn judge(&mut self, error: &KafkaError) -> Result<(), LogError> {
        let reason = self.membership.context().reason();
        if self.membership.client().fatal_error().is_some() {
            return self.join_again(&reason);
        }
        match meaning(code_of(error)) {
            Meaning::Refused => Err(LogError::Refused(reason)),
            Meaning::Missing => Err(LogError::NoTopic(reason)),
            // The rest (brokers away, a rebalance) librdkafka deals with.
            _ => {
                tracing::debug!(target: "librdkafka", "{reason}");
                Ok(())
            }
        }
    }

    /// The membership's client is of no more use: the group knows another member of this name. That is another process, or we ourselves,
    /// by a join whose answer was lost (a broker's restart does that). Whose the name is, the transactions tell: a new owner opens them
    /// before it joins.
    fn join_again(&mut self, reason: &str) -> Result<(), LogError> {
        if let Some(transactor) = &self.transactors[self.turn]
            && let (Some(topic), Some(outsider)) = (self.seat.topics.first(), self.fetcher.group_metadata())
            && let Err(error) = transactor.probe(TopicPartition::new(topic, 0), outsider, self.options.commit_watchdog())
        {
            self.transactors[self.turn] = None;
            if matches!(error, LogError::Fenced { .. }) {
                self.fenced = true;
                return Err(error);
            }
        }
        tracing::warn!(group = %self.seat.group, instance = %self.seat.instance, "joining the group again: {reason}");
        self.membership = self.seat.join(&self.options, &self.producers.reach, &self.bell)?;
        self.joining_since = Some(Instant::now());
        // Told with the next changes, before what the new membership brings.
        let lost: Vec<TopicPartition> = self.assigned.iter().cloned().collect();
        if !lost.is_empty() {
            lock(&self.membership.context().role.changes).push(Polled::Revoked(lost));
        }
        Ok(())
    }

    /// The transaction that the group's offsets wait for, when it is one.
    fn hanging_offsets(&self) -> Result<Option<LogError>, LogError> {
        let patience = self.options.answer_timeout();
        let tool = admin::tool(&self.options, &self.producers.reach)?;
        let at = admin::offsets_partition(&tool, &self.seat.group, patience)?;
        let of = std::slice::from_ref(&at);
        let settled = self.fetcher.settled_ends(of, patience)?;
        let written = admin::ends(&tool, of, patience)?;
        let offset = settled.get(&at).copied().filter(|settled| written.get(&at).is_some_and(|written| settled < written));
        Ok(offset.map(|offset| LogError::Hanging(vec![(at, offset)])))
    }

    fn check_fenced(&self) -> Result<(), LogError> {
        if self.fenced {
            return Err(LogError::Fenced { instance: String::new(), detail: "this member was fenced before".into() });
        }
        Ok(())
    }

    fn commit(&mut self, txn: Txn) -> Result<Written, LogError> {
        if txn.outputs.is_empty() && txn.input_offsets.is_empty() {
            return Ok(Written::new());
        }
        self.check_fenced()?;
        let Some(transactor) = &self.transactors[self.turn] else {
            return Err(LogError::Unsettled("the last one was not settled: recover comes first".into()));
        };
        // The broker compares generations only; that a partition was taken from us in between is known here alone.
        if let Some(gone) = txn.input_offsets.keys().find(|at| !self.assigned.contains(at)) {
            return Err(LogError::Rebalanced(format!("{gone} is not this member's")));
        }
        if self.membership.assignment_lost() {
            return Err(LogError::Rebalanced("the group dropped this member: it was silent for too long".into()));
        }
        let metadata = if txn.input_offsets.is_empty() {
            None
        } else {
            let metadata = self.membership.group_metadata();
            Some(metadata.ok_or_else(|| LogError::Rebalanced("this member is not in its group".into()))?)
        };
        match transactor.commit(txn, metadata, self.options.commit_watchdog()) {
            Ok(written) => {
                self.turn = 1 - self.turn;
                Ok(written)
            }
            Err(error) => {
                self.transactors[self.turn] = None;
                self.fenced |= matches!(error, LogError::Fenced { .. });
                Err(error)
            }
        }
    }
}

impl GroupMember for KafkaMember {
    fn poll(&mut self, out: &mut Vec<Polled>, records_max: usize, timeout: Duration) -> Result<(), LogError> {
        let open = self.open_mut()?;
        let bell = Arc::clone(&open.bell);
        let outcome = poll_until(&bell, timeout, || open.step(out, records_max));
        self.by_instance(outcome)
    }

    fn committed(&mut self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Option<i64>>, LogError> {
        let open = self.open_mut()?;
        // A former owner that died leaves a transaction that the coordinator ends only at its time-out.
        let patience = open.options.answer_timeout() + Duration::from_millis(open.options.transaction_timeout_ms.into());
        admin::committed(&open.membership, of, patience).map_err(|error| match open.hanging_offsets() {
            Ok(hanging) => hanging.unwrap_or(error),
            Err(unknown) => {
                tracing::info!("what the group's offsets wait for is not known: {unknown}");
                error
            }
        })
    }

    fn start(&mut self, from: &[(TopicPartition, Position)]) -> Result<(), LogError> {
        let open = self.open_mut()?;
        if let Some((gone, _)) = from.iter().find(|(at, _)| !open.assigned.contains(at)) {
            return Err(LogError::Rebalanced(format!("{gone} is not this member's")));
        }
        open.fetcher.start(from)
    }

    fn pause(&mut self, of: &[TopicPartition]) -> Result<(), LogError> {
        self.open_mut()?.fetcher.set_paused(of, true);
        Ok(())
    }

    fn resume(&mut self, of: &[TopicPartition]) -> Result<(), LogError> {
        self.open_mut()?.fetcher.set_paused(of, false);
        Ok(())
    }

    fn commit(&mut self, txn: Txn) -> Result<Written, LogError> {
        let outcome = self.open_mut()?.commit(txn);
        self.by_instance(outcome)
    }

    fn recover(&mut self) -> Result<(), LogError> {
        let open = self.open_mut()?;
        let outcome = open.check_fenced().and_then(|()| open.producers.complete(&mut open.transactors));
        self.by_instance(outcome)
    }

    fn close(&mut self) -> Result<(), LogError> {
        self.open = None;
        Ok(())
    }
}
