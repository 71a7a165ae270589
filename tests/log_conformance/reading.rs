//! The hands of the suite: how a case makes topics, writes, joins and reads, with a deadline on every wait.

use bytes::Bytes;
use smartrouter::io::log::{
    EventLog, GroupMember, Output, Polled, Position, Reader, Record, TopicDescription, TopicPartition, Txn,
};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long something that must happen may take. A case never waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a case looks for what must not happen. A slow machine can only make it miss a fault, not see one.
const GLANCE: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(100);

/// A log under test.
pub(crate) trait TestLog {
    fn log(&self) -> &dyn EventLog;
    /// A topic, group or instance name that no other case or run uses.
    fn name(&self, stem: &str) -> String;
    /// The process dies and starts again: all that was not committed is lost. Members and readers are dropped before.
    fn crash(&mut self);
    /// Compacts the topics now, where the adapter can be told to; whether it did.
    fn compact(&self) -> bool;
}

/// A number that is another one in each run.
pub(crate) fn drawn() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub(crate) fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub(crate) fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

pub(crate) fn text(value: Option<&Bytes>) -> String {
    value.map_or_else(|| "(null)".into(), |value| String::from_utf8_lossy(value).into_owned())
}

/// A record for a partition, without key or headers.
pub(crate) fn record(topic: &str, partition: i32, value: impl AsRef<[u8]>) -> Output {
    Output {
        topic: Arc::from(topic),
        partition: Some(partition),
        timestamp_ms: None,
        key: None,
        value: Some(bytes(value)),
        headers: vec![],
    }
}

pub(crate) fn keyed(topic: &str, partition: i32, key: &str, value: Option<&str>) -> Output {
    Output { key: Some(bytes(key)), value: value.map(bytes), ..record(topic, partition, "") }
}

pub(crate) fn describe(name: &str, partitions: i32, settings: &[(&str, &str)]) -> TopicDescription {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    TopicDescription { name: name.to_owned(), partitions, replication: None, settings }
}

/// Makes a topic of this case's own; its name.
pub(crate) fn topic(log: &dyn TestLog, stem: &str, partitions: i32) -> String {
    let name = log.name(stem);
    log.log().create_topics(&[describe(&name, partitions, &[])]).expect("create the topic");
    name
}

pub(crate) fn append(log: &dyn TestLog, outputs: Vec<Output>) {
    let mut appender = log.log().appender().expect("open an appender");
    appender.append(outputs).expect("append");
    appender.flush().expect("flush");
}

/// Numbers as values of one partition.
pub(crate) fn append_numbers(log: &dyn TestLog, topic: &str, partition: i32, numbers: impl IntoIterator<Item = u32>) {
    append(log, numbers.into_iter().map(|number| record(topic, partition, number.to_string())).collect());
}

pub(crate) fn numbers(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

/// All records of a partition from `from` up to its end as it is now.
pub(crate) fn read_from(log: &dyn EventLog, at: &TopicPartition, from: Position) -> Vec<Record> {
    let mut reader = log.reader().expect("open a reader");
    reader.assign(&[(at.clone(), from)]).expect("assign");
    let (_, end) = reader.bounds(at).expect("bounds");
    let polled = poll_until(
        |out| reader.poll(out, 100, POLL),
        |polled| polled.iter().any(|polled| matches!(polled, Polled::End { offset, .. } if *offset >= end)),
    );
    polled
        .into_iter()
        .filter_map(|polled| match polled {
            Polled::Record(record) => Some(record),
            Polled::End { .. } => None,
            other => panic!("a reader brought {other:?}"),
        })
        .collect()
}

pub(crate) fn read(log: &dyn TestLog, topic: &str, partition: i32) -> Vec<Record> {
    read_from(log.log(), &at(topic, partition), Position::Beginning)
}

pub(crate) fn read_values(log: &dyn TestLog, topic: &str, partition: i32) -> Vec<String> {
    values(&read(log, topic, partition))
}

pub(crate) fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| text(record.value.as_ref())).collect()
}

fn poll_until(
    mut poll: impl FnMut(&mut Vec<Polled>) -> Result<(), smartrouter::io::log::LogError>,
    is_enough: impl Fn(&[Polled]) -> bool,
) -> Vec<Polled> {
    let begun = Instant::now();
    let mut polled = Vec::new();
    while !is_enough(&polled) {
        poll(&mut polled).expect("poll");
        assert!(begun.elapsed() < PATIENCE, "waited too long; what came: {polled:?}");
    }
    polled
}

/// Polls until `is_enough` of all that came.
pub(crate) fn member_polls(member: &mut dyn GroupMember, is_enough: impl Fn(&[Polled]) -> bool) -> Vec<Polled> {
    poll_until(|out| member.poll(out, 100, POLL), is_enough)
}

pub(crate) fn reader_polls(reader: &mut dyn Reader, is_enough: impl Fn(&[Polled]) -> bool) -> Vec<Polled> {
    poll_until(|out| reader.poll(out, 100, POLL), is_enough)
}

/// Polls until `count` records came, and a glance longer: exactly these and no more.
pub(crate) fn member_values(member: &mut dyn GroupMember, count: usize) -> Vec<String> {
    let mut polled = member_polls(member, |polled| records_of(polled).len() >= count);
    polled.extend(glance(member));
    values(&records_of(&polled))
}

/// What comes within a moment.
pub(crate) fn glance(member: &mut dyn GroupMember) -> Vec<Polled> {
    let begun = Instant::now();
    let mut polled = Vec::new();
    while begun.elapsed() < GLANCE {
        member.poll(&mut polled, 100, POLL).expect("poll");
    }
    polled
}

pub(crate) fn records_of(polled: &[Polled]) -> Vec<Record> {
    let record = |polled: &Polled| if let Polled::Record(record) = polled { Some(record.clone()) } else { None };
    polled.iter().filter_map(record).collect()
}

pub(crate) fn ends_of(polled: &[Polled]) -> Vec<i64> {
    let end = |polled: &Polled| if let Polled::End { offset, .. } = polled { Some(*offset) } else { None };
    polled.iter().filter_map(end).collect()
}

pub(crate) fn assigned_of(polled: &[Polled]) -> Vec<TopicPartition> {
    let mut assigned = Vec::new();
    for polled in polled {
        match polled {
            Polled::Assigned(more) => assigned.extend(more.iter().cloned()),
            Polled::Revoked(gone) => assigned.retain(|at| !gone.contains(at)),
            Polled::Record(_) | Polled::End { .. } => {}
        }
    }
    assigned.sort();
    assigned
}

/// Joins, and polls until all of `partitions` are assigned. Nothing is started.
pub(crate) fn join(log: &dyn TestLog, group: &str, instance: &str, partitions: &[TopicPartition]) -> Box<dyn GroupMember> {
    let mut topics: Vec<String> = partitions.iter().map(|at| at.topic.to_string()).collect();
    topics.dedup();
    let mut member = log.log().member(group, instance, &topics).expect("join");
    let polled = member_polls(&mut *member, |polled| assigned_of(polled).len() == partitions.len());
    assert_eq!(assigned_of(&polled), partitions, "what was assigned");
    assert!(records_of(&polled).is_empty(), "delivered before start: {polled:?}");
    member
}

/// Joins and reads everything from the beginning.
pub(crate) fn join_from_beginning(log: &dyn TestLog, group: &str, instance: &str, of: &[TopicPartition]) -> Box<dyn GroupMember> {
    let mut member = join(log, group, instance, of);
    let from: Vec<_> = of.iter().map(|at| (at.clone(), Position::Beginning)).collect();
    member.start(&from).expect("start");
    member
}

pub(crate) fn txn(outputs: Vec<Output>, input_offsets: &[(&TopicPartition, i64)]) -> Txn {
    Txn { outputs, input_offsets: input_offsets.iter().map(|(at, offset)| ((*at).clone(), *offset)).collect() }
}

pub(crate) fn committed(member: &mut dyn GroupMember, of: &TopicPartition) -> Option<i64> {
    let offsets = member.committed(std::slice::from_ref(of)).expect("committed");
    assert_eq!(offsets.len(), 1, "one answer per question");
    offsets[of]
}

/// Waits until the group's offsets, seen from outside, are these.
pub(crate) fn await_group_offsets(log: &dyn EventLog, group: &str, expected: &BTreeMap<TopicPartition, Option<i64>>) {
    let of: Vec<_> = expected.keys().cloned().collect();
    let begun = Instant::now();
    loop {
        let offsets = log.group_offsets(group, &of).expect("group offsets");
        if offsets == *expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the offsets of {group} stay {offsets:?}, not {expected:?}");
        std::thread::sleep(POLL);
    }
}
