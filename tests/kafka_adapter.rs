//! What only the Kafka adapter can get wrong: zombies, transactions that a dead process left open, rebalances, a broker that restarts.
//!
//! The cases run where `SMARTROUTER_TEST_KAFKA=host:port` names a broker, as those of `log_conformance`. They use rdkafka beside
//! the adapter where a client has to misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code: a panic is the failure report, and a skipped run has to say so"
)]

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use smartrouter::io::log::kafka::{KafkaLog, KafkaOptions};
use smartrouter::io::log::{
    Ends, EventLog, GroupMember, LogError, Output, Polled, Position, TopicDescription, TopicPartition, Txn, Written,
};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// The shortest that a broker allows.
const SESSION_MS: u32 = 6_000;

fn bootstrap() -> Option<String> {
    let bootstrap = std::env::var("SMARTROUTER_TEST_KAFKA").ok();
    if bootstrap.is_none() {
        assert!(std::env::var("SMARTROUTER_REQUIRE_KAFKA").is_err(), "SMARTROUTER_TEST_KAFKA=host:port names no broker");
        eprintln!("skipped: SMARTROUTER_TEST_KAFKA=host:port names no broker (`make test` starts one)");
    }
    bootstrap
}

struct Case {
    log: KafkaLog,
    bootstrap: String,
    run: u64,
}

impl Case {
    fn new(bootstrap: String) -> Self {
        let options = KafkaOptions { bootstrap: bootstrap.clone(), session_timeout_ms: SESSION_MS, ..KafkaOptions::default() };
        let log = KafkaLog::connect(options).expect("connect");
        Self { log, bootstrap, run: RandomState::new().build_hasher().finish() }
    }

    fn name(&self, stem: &str) -> String {
        format!("adapter-{:016x}-{stem}", self.run)
    }

    fn topic(&self, stem: &str, partitions: i32) -> String {
        let name = self.name(stem);
        let topic =
            TopicDescription { name: name.clone(), partitions, replication: None, settings: std::collections::BTreeMap::new() };
        self.log.create_topics(&[topic]).expect("create the topic");
        name
    }

    fn append(&self, outputs: Vec<Output>) {
        let mut appender = self.log.appender().expect("appender");
        appender.append(outputs).expect("append");
        appender.flush().expect("flush");
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// Joins and waits for `count` partitions.
    fn join(&self, group: &str, instance: &str, topics: &[String], count: usize) -> Box<dyn GroupMember> {
        let mut member = self.log.member(group, instance, topics).expect("join");
        let mut held = Held::default();
        await_that("the partitions are assigned", || held.poll(&mut *member).len() == count);
        member
    }

    /// All committed records from the beginning.
    fn values(&self, at: &TopicPartition) -> Vec<String> {
        let mut reader = self.log.reader().expect("reader");
        let (_, end) = reader.bounds(at).expect("bounds");
        reader.assign(&[(at.clone(), Position::Beginning)]).expect("assign");
        let mut out = Vec::new();
        await_that("the end is read", || {
            reader.poll(&mut out, 1000, POLL).expect("poll");
            out.iter().any(|polled| matches!(polled, Polled::End { offset, .. } if *offset >= end))
        });
        values(&out)
    }
}

/// What a member holds, by the events it polled.
#[derive(Default)]
struct Held(BTreeSet<TopicPartition>);

impl Held {
    fn poll(&mut self, member: &mut dyn GroupMember) -> &BTreeSet<TopicPartition> {
        let mut out = Vec::new();
        member.poll(&mut out, 100, POLL).expect("poll");
        for polled in out {
            match polled {
                Polled::Assigned(more) => self.0.extend(more),
                Polled::Revoked(gone) => self.0.retain(|at| !gone.contains(at)),
                Polled::Record(_) | Polled::End { .. } => {}
            }
        }
        &self.0
    }
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
    }
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn record(topic: &str, partition: i32, value: &str) -> Output {
    Output {
        topic: Arc::from(topic),
        partition: Some(partition),
        timestamp_ms: None,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![],
    }
}

fn values(polled: &[Polled]) -> Vec<String> {
    let value = |polled: &Polled| match polled {
        Polled::Record(record) => Some(String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()),
        _ => None,
    };
    polled.iter().filter_map(value).collect()
}

fn txn(outputs: Vec<Output>, offsets: &[(&TopicPartition, i64)]) -> Txn {
    Txn { outputs, input_offsets: offsets.iter().map(|(at, offset)| ((*at).clone(), *offset)).collect() }
}

fn is_fenced<T>(outcome: &Result<T, LogError>) -> bool {
    matches!(outcome, Err(LogError::Fenced { instance, .. }) if instance == "a")
}

/// A process that died in the middle of a transaction, as its broker sees it: records and offsets are there, the end is not.
fn leave_open(case: &Case, group: &str, out: &str, input: &TopicPartition, offset: i64) -> BaseProducer {
    let producer: BaseProducer = case
        .client()
        .set("transactional.id", format!("{group}-a-a"))
        .set("transaction.timeout.ms", "300000")
        .create()
        .expect("producer");
    producer.init_transactions(PATIENCE).expect("init");
    producer.begin_transaction().expect("begin");
    producer.send(BaseRecord::<(), str>::to(out).partition(0).payload("open")).map_err(|(error, _)| error).expect("send");
    producer.flush(PATIENCE).expect("flush");
    let consumer: BaseConsumer = case.client().set("group.id", group).create().expect("consumer");
    let mut offsets = rdkafka::TopicPartitionList::new();
    offsets.add_partition_offset(&input.topic, input.partition, rdkafka::Offset::Offset(offset)).expect("offset");
    producer
        .send_offsets_to_transaction(&offsets, &consumer.group_metadata().expect("metadata"), PATIENCE)
        .expect("send offsets");
    producer
}

#[test]
fn an_open_transaction_hides_what_lies_behind_it_until_its_owner_comes_back() {
    let Some(bootstrap) = bootstrap() else { return };
    let case = Case::new(bootstrap);
    let (input, out, group) = (case.topic("input", 1), case.topic("out", 1), case.name("group"));
    let (from, to) = (at(&input, 0), at(&out, 0));
    case.append(vec![record(&out, 0, "before")]);
    let zombie = leave_open(&case, &group, &out, &from, 7);
    case.append(vec![record(&out, 0, "behind")]);

    let mut reader = case.log.reader().expect("reader");
    assert_eq!(reader.bounds(&to).expect("bounds"), (0, 1), "the end is the last stable offset");
    let ends = reader.ends(std::slice::from_ref(&to)).expect("ends");
    assert_eq!(ends, [(to.clone(), Ends { settled: 1, written: 3 })].into());
    assert_eq!(case.values(&to), ["before"]);
    let unanswered = KafkaOptions {
        bootstrap: case.bootstrap.clone(),
        answer_timeout_ms: 3_000,
        transaction_timeout_ms: 2_000,
        commit_watchdog_ms: 1_000,
        ..KafkaOptions::default()
    };
    let unanswered = KafkaLog::connect(unanswered).expect("connect");
    let offsets = unanswered.group_offsets(&group, std::slice::from_ref(&from));
    assert!(matches!(offsets, Err(LogError::Unavailable(_))), "offsets of an open transaction are no answer: {offsets:?}");

    let mut another = unanswered.member(&group, "b", std::slice::from_ref(&input)).expect("join");
    // On a busy machine that may be too little for the broker to say so; the transaction stays open meanwhile.
    let mut hanging = Vec::new();
    await_that("the group knows whose offsets hang", || match another.committed(std::slice::from_ref(&from)) {
        Err(LogError::Hanging(found)) => {
            hanging = found;
            true
        }
        Err(LogError::Unavailable(_)) => false,
        offsets => panic!("whose offsets hang? {offsets:?}"),
    });
    assert!(hanging.len() == 1 && &*hanging[0].0.topic == "__consumer_offsets", "{hanging:?}");
    another.close().expect("close");

    let mut member = case.join(&group, "a", std::slice::from_ref(&input), 1);
    assert_eq!(member.committed(std::slice::from_ref(&from)).expect("committed")[&from], None, "the offset went with it");
    assert_eq!(case.values(&to), ["before", "behind"]);
    assert!(zombie.commit_transaction(PATIENCE).is_err(), "it woke too late");
    member.commit(txn(vec![record(&out, 0, "after")], &[(&from, 1)])).expect("commit");
    assert_eq!(case.values(&to), ["before", "behind", "after"]);
}

#[test]
fn a_member_whose_instance_was_given_twice_stays_fenced() {
    let Some(bootstrap) = bootstrap() else { return };
    let case = Case::new(bootstrap);
    let (input, out, group) = (case.topic("input", 1), case.topic("out", 1), case.name("group"));
    let from = at(&input, 0);
    let mut first = case.join(&group, "a", std::slice::from_ref(&input), 1);
    let mut second = case.join(&group, "a", std::slice::from_ref(&input), 1);
    // Both of its producers, in turn; offsets alone are refused too.
    assert!(is_fenced(&first.commit(txn(vec![], &[(&from, 1)]))));
    assert!(is_fenced(&first.recover()), "recovering would take the identity back");
    second.commit(txn(vec![record(&out, 0, "second")], &[(&from, 2)])).expect("the second commits");
    assert!(is_fenced(&first.commit(txn(vec![record(&out, 0, "first")], &[(&from, 3)]))));
    second.commit(txn(vec![record(&out, 0, "second")], &[(&from, 3)])).expect("the second commits again");
    assert!(is_fenced(&first.poll(&mut Vec::new(), 1, POLL)));
    assert_eq!(case.values(&at(&out, 0)), ["second", "second"]);
}

#[test]
fn a_member_that_commits_nothing_learns_of_its_successor_too() {
    let Some(bootstrap) = bootstrap() else { return };
    let case = Case::new(bootstrap);
    let (input, group) = (case.topic("input", 1), case.name("group"));
    let mut first = case.join(&group, "a", std::slice::from_ref(&input), 1);
    let mut second = case.join(&group, "a", std::slice::from_ref(&input), 1);
    await_that("the first one knows", || is_fenced(&first.poll(&mut Vec::new(), 1, POLL)));
    second.commit(txn(vec![], &[(&at(&input, 0), 1)])).expect("the second one is not disturbed");
}

#[test]
fn two_members_share_co_partitioned_topics() {
    let Some(bootstrap) = bootstrap() else { return };
    let case = Case::new(bootstrap);
    let topics = ["left", "middle", "right"].map(|stem| case.topic(stem, 4));
    let group = case.name("group");
    let mut first = case.join(&group, "a", &topics, 12);
    let mut second = case.log.member(&group, "b", &topics).expect("join");
    let (mut held_first, mut held_second) = (Held::default(), Held::default());
    // The first one's own twelve are told again after the rebalance, or taken away by it.
    await_that("each has its half", || {
        held_first.poll(&mut *first);
        held_second.poll(&mut *second);
        held_first.0.len() == 6 && held_second.0.len() == 6
    });
    let numbers = |held: &Held, topic: &str| -> BTreeSet<i32> {
        held.0.iter().filter(|at| &*at.topic == topic).map(|at| at.partition).collect()
    };
    for held in [&held_first, &held_second] {
        let one = numbers(held, &topics[0]);
        assert_eq!(one.len(), 2);
        assert!(topics.iter().all(|topic| numbers(held, topic) == one), "co-partitioned: {:?}", held.0);
    }
    assert!(held_first.0.is_disjoint(&held_second.0));

    let theirs = held_second.0.iter().next().expect("six").clone();
    let outcome = first.commit(txn(vec![], &[(&theirs, 1)]));
    assert!(matches!(outcome, Err(LogError::Rebalanced(_))), "{outcome:?}");
    first.recover().expect("recover");
    assert!(matches!(first.start(&[(theirs, Position::Beginning)]), Err(LogError::Rebalanced(_))));
    let mine = held_first.0.iter().next().expect("six").clone();
    first.commit(txn(vec![], &[(&mine, 1)])).expect("its own goes on");

    second.close().expect("close");
    await_that("the other one's half comes over", || held_first.poll(&mut *first).len() == 12);
}

#[test]
fn a_position_that_is_not_in_the_log() {
    let Some(bootstrap) = bootstrap() else { return };
    let case = Case::new(bootstrap);
    let input = case.topic("input", 1);
    let of = at(&input, 0);
    case.append((0..10).map(|n| record(&input, 0, &n.to_string())).collect());
    delete_before(&case, &of, 6);
    let mut reader = case.log.reader().expect("reader");
    assert_eq!(reader.bounds(&of).expect("bounds"), (6, 10));
    reader.assign(&[(of.clone(), Position::At(2))]).expect("assign");
    let mut out = Vec::new();
    await_that("the rest is read", || {
        reader.poll(&mut out, 100, POLL).expect("poll");
        values(&out).len() >= 4
    });
    assert_eq!(values(&out), ["6", "7", "8", "9"], "deleted before it was read: on from the first that is there");
    reader.assign(&[(of, Position::At(11))]).expect("assign");
    let begun = Instant::now();
    let error = loop {
        if let Err(error) = reader.poll(&mut out, 100, POLL) {
            break error;
        }
        assert!(begun.elapsed() < PATIENCE, "no error came");
    };
    assert!(matches!(&error, LogError::Corrupt(text) if text.contains("11")), "{error:?}");
}

/// What retention does, at once.
fn delete_before(case: &Case, of: &TopicPartition, offset: i64) {
    use rdkafka::admin::{AdminClient, AdminOptions};
    let admin: AdminClient<_> = case.client().create().expect("admin");
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&of.topic, of.partition, rdkafka::Offset::Offset(offset)).expect("offset");
    let deleted = admin.delete_records(&list, &AdminOptions::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    runtime.block_on(deleted).expect("delete records");
}

/// A broker of this test's own, from the project's script; its jars are shared.
struct OwnBroker {
    port: String,
}

impl OwnBroker {
    fn script(&self, words: &[&str]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka/kafka.sh");
        let output = Command::new(script).args(words).arg(&self.port).env_remove("KAFKA_BOOTSTRAP").output().expect("kafka.sh");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.script(&["stop", "--clean"]);
    }
}

#[test]
fn a_broker_that_restarts_loses_and_doubles_nothing() {
    if bootstrap().is_none() {
        return;
    }
    let port = std::env::var("SMARTROUTER_TEST_KAFKA_RESTART_PORT").unwrap_or_else(|_| "19396".to_owned());
    let broker = OwnBroker { port };
    let case = Case::new(broker.script(&["start"]));
    let (input, out, group) = (case.topic("input", 1), case.topic("out", 1), case.name("group"));
    let from = at(&input, 0);
    let mut member = case.join(&group, "a", std::slice::from_ref(&input), 1);
    let mut committed = 0;
    for n in 0..5 {
        commit_next(&mut *member, &from, &out, &mut committed).unwrap_or_else(|error| panic!("commit {n}: {error}"));
    }
    broker.script(&["stop"]);
    let mut polled = Vec::new();
    member.poll(&mut polled, 10, POLL).expect("polling an absent broker is no error");
    let error = commit_next(&mut *member, &from, &out, &mut committed).expect_err("no broker, no commit");
    assert!(error.is_transient(), "{error:?}");
    broker.script(&["start"]);
    await_that("all is committed", || {
        // What the runtime does: recover, ask where the group is, go on from there.
        let outcome = member.recover().and_then(|()| {
            let told = member.committed(std::slice::from_ref(&from))?;
            committed = told[&from].unwrap_or_default();
            member.poll(&mut polled, 10, POLL)?;
            commit_next(&mut *member, &from, &out, &mut committed)
        });
        assert!(outcome.as_ref().err().is_none_or(LogError::is_transient), "{outcome:?}");
        committed >= 10
    });
    let expected: Vec<String> = (0..committed).map(|n| n.to_string()).collect();
    assert_eq!(case.values(&at(&out, 0)), expected);
}

/// One more input, one more output of the same number.
fn commit_next(member: &mut dyn GroupMember, from: &TopicPartition, out: &str, committed: &mut i64) -> Result<Written, LogError> {
    let written = member.commit(txn(vec![record(out, 0, &committed.to_string())], &[(from, *committed + 1)]))?;
    *committed += 1;
    Ok(written)
}
