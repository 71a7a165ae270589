//! Random work on the embedded log against a model that is too simple to be wrong: a `Vec` per partition, and a map of offsets.
//!
//! A failing case prints its shrunk operations; `PROPTEST_CASES` sets how many are tried.

use crate::embedded::{EmbeddedUnderTest, under_test};
use crate::reading::{TestLog, at, describe, join, read_from, record};
use bytes::Bytes;
use proptest::prelude::*;
use smartrouter::io::log::{GroupMember, LogError, Output, Polled, Position, Record, TopicPartition, Txn};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How many cases are tried where nothing else is asked for: some seconds.
const CASES: u32 = 48;

/// Two partitions that keep all, and one that is compacted.
const PLACES: [(&str, i32); 3] = [("plain", 0), ("plain", 1), ("table", 0)];

#[derive(Clone, Debug)]
struct Row {
    place: usize,
    key: u8,
    /// Absent: a tombstone. Values are long now and then, so that one write makes several batches.
    len: Option<usize>,
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<Row>),
    /// Commits rows and the offsets of the two inputs as they were read so far; a spoiled one has a record that cannot be written.
    Commit {
        rows: Vec<Row>,
        spoiled: bool,
    },
    Poll {
        records_max: usize,
    },
    /// Begins an input anew: at this offset, or at its committed one.
    Start {
        place: usize,
        offset: Option<i64>,
    },
    Pause {
        place: usize,
        paused: bool,
    },
    Read {
        place: usize,
        from: i64,
    },
    /// Compacts at this time; timestamps are small numbers, in the order of writing.
    Compact {
        now_ms: i64,
    },
    /// A newer member takes over.
    TakeOver,
    Crash,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = prop_oneof![1 => Just(None), 6 => (0..40_usize).prop_map(Some), 1 => (30_000..90_000_usize).prop_map(Some)];
    let row = (0..PLACES.len(), 0..5_u8, len).prop_map(|(place, key, len)| Row { place, key, len });
    let rows = prop::collection::vec(row, 0..12);
    let input = 0..2_usize;
    let op = prop_oneof![
        3 => rows.clone().prop_map(Op::Append),
        4 => (rows, prop::bool::weighted(0.2)).prop_map(|(rows, spoiled)| Op::Commit { rows, spoiled }),
        6 => (0..20_usize).prop_map(|records_max| Op::Poll { records_max }),
        1 => (input.clone(), prop::option::of(0..30_i64)).prop_map(|(place, offset)| Op::Start { place, offset }),
        1 => (input, any::<bool>()).prop_map(|(place, paused)| Op::Pause { place, paused }),
        2 => (0..PLACES.len(), 0..60_i64).prop_map(|(place, from)| Op::Read { place, from }),
        1 => (0..300_i64).prop_map(|now_ms| Op::Compact { now_ms }),
        1 => Just(Op::TakeOver),
        1 => Just(Op::Crash),
    ];
    prop::collection::vec(op, 1..60)
}

/// What the model knows of an input that is read.
#[derive(Clone, Copy, Default)]
struct Reading {
    next: usize,
    paused: bool,
    end_told: Option<usize>,
}

struct Model {
    records: [Vec<Output>; 3],
    committed: BTreeMap<TopicPartition, i64>,
    reading: [Reading; 2],
    counter: u64,
}

struct Bench {
    log: EmbeddedUnderTest,
    member: Option<Box<dyn GroupMember>>,
    model: Model,
}

fn place(index: usize) -> TopicPartition {
    at(PLACES[index].0, PLACES[index].1)
}

fn inputs() -> [TopicPartition; 2] {
    [place(0), place(1)]
}

impl Model {
    fn output(&mut self, row: &Row) -> Output {
        self.counter += 1;
        let fill = |len: usize| Bytes::from(format!("{} {}", self.counter, "x".repeat(len)));
        Output {
            key: Some(Bytes::from(vec![row.key; usize::from(row.key)])),
            value: row.len.map(fill),
            timestamp_ms: Some(self.counter as i64),
            headers: if row.key == 0 { vec![("h".into(), None)] } else { vec![] },
            ..record(PLACES[row.place].0, PLACES[row.place].1, "")
        }
    }

    fn keep(&mut self, rows: &[Row], outputs: Vec<Output>) {
        for (row, output) in rows.iter().zip(outputs) {
            self.records[row.place].push(output);
        }
    }
}

fn is_same(record: &Record, place_index: usize, expected: &Output) -> bool {
    let same_place = record.at == place(place_index);
    let same = (&record.key, &record.value, &record.headers) == (&expected.key, &expected.value, &expected.headers);
    same_place && same && Some(record.timestamp_ms) == expected.timestamp_ms
}

impl Bench {
    fn new() -> Self {
        let log = under_test();
        let topics =
            [describe("plain", 2, &[]), describe("table", 1, &[("cleanup.policy", "compact"), ("delete.retention.ms", "0")])];
        log.log().create_topics(&topics).expect("create");
        let model =
            Model { records: Default::default(), committed: BTreeMap::new(), reading: [Reading::default(); 2], counter: 0 };
        let mut bench = Self { log, member: None, model };
        bench.join();
        bench
    }

    /// A new member, which begins at the committed offsets.
    fn join(&mut self) {
        self.member = Some(join(&self.log, "group", "a", &inputs()));
        for index in [0, 1] {
            self.start(index, None);
        }
    }

    fn member(&mut self) -> &mut dyn GroupMember {
        &mut **self.member.as_mut().expect("joined")
    }

    fn start(&mut self, index: usize, offset: Option<i64>) {
        let of = place(index);
        let committed = self.member().committed(std::slice::from_ref(&of)).expect("committed")[&of];
        assert_eq!(committed, self.model.committed.get(&of).copied(), "committed of {of}");
        let position = offset.or(committed).map_or(Position::Beginning, Position::At);
        self.member().start(&[(of, position)]).expect("start");
        let next = offset.or(committed).unwrap_or(0) as usize;
        self.model.reading[index] = Reading { next, paused: false, end_told: None };
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(rows) => {
                let outputs: Vec<_> = rows.iter().map(|row| self.model.output(row)).collect();
                self.log.log().appender().expect("appender").append(outputs.clone()).expect("append");
                self.model.keep(rows, outputs);
            }
            Op::Commit { rows, spoiled } => self.commit(rows, *spoiled),
            Op::Poll { records_max } => self.poll(*records_max),
            Op::Start { place, offset } => self.start(*place, *offset),
            Op::Pause { place: index, paused } => {
                let of = [place(*index)];
                let done = if *paused { self.member().pause(&of) } else { self.member().resume(&of) };
                done.expect("pause or resume");
                self.model.reading[*index].paused = *paused;
            }
            Op::Read { place, from } => self.read(*place, *from),
            Op::Compact { now_ms } => {
                self.log.embedded.maintain(*now_ms).expect("maintain");
            }
            Op::TakeOver => {
                let mut old = self.member.take().expect("joined");
                self.forget_pauses();
                self.join();
                let error = old.commit(Txn { outputs: vec![record("plain", 0, "ghost")], ..Txn::default() }).expect_err("fenced");
                assert!(matches!(error, LogError::Fenced { .. }), "{error:?}");
            }
            Op::Crash => {
                self.member = None;
                self.log.crash();
                self.forget_pauses();
                self.join();
            }
        }
    }

    /// A new member's partitions are not paused.
    fn forget_pauses(&mut self) {
        self.model.reading = [Reading::default(); 2];
    }

    fn commit(&mut self, rows: &[Row], spoiled: bool) {
        let mut outputs: Vec<_> = rows.iter().map(|row| self.model.output(row)).collect();
        let offsets: BTreeMap<_, _> = inputs().into_iter().zip(self.model.reading.map(|reading| reading.next as i64)).collect();
        if spoiled {
            outputs.insert(outputs.len() / 2, Output { topic: Arc::from("missing"), ..record("plain", 0, "") });
            let error = self.member().commit(Txn { outputs, input_offsets: offsets }).expect_err("spoiled");
            assert!(matches!(error, LogError::NoTopic(_)), "{error:?}");
            self.member().recover().expect("recover");
            return;
        }
        let txn = Txn { outputs: outputs.clone(), input_offsets: offsets.clone() };
        let written = self.member().commit(txn).expect("commit");
        self.model.keep(rows, outputs);
        self.model.committed.extend(offsets);
        let expected: BTreeMap<_, _> =
            rows.iter().map(|row| (place(row.place), self.model.records[row.place].len() as i64)).collect();
        assert_eq!(written, expected);
    }

    fn poll(&mut self, records_max: usize) {
        let mut polled = Vec::new();
        self.member().poll(&mut polled, records_max, Duration::ZERO).expect("poll");
        let model = &mut self.model;
        let reaches: Vec<_> = (0..2).map(|index| model.records[index].len()).collect();
        let waiting =
            |reading: &Reading, index: usize| if reading.paused { 0 } else { reaches[index].saturating_sub(reading.next) };
        let available: usize = model.reading.iter().enumerate().map(|(index, reading)| waiting(reading, index)).sum();
        let mut count = 0;
        for polled in polled {
            match polled {
                Polled::Record(record) => {
                    let index = record.at.partition as usize;
                    let reading = &mut model.reading[index];
                    assert!(!reading.paused, "{} is paused", record.at);
                    assert_eq!(record.offset as usize, reading.next, "the next of {}", record.at);
                    assert!(is_same(&record, index, &model.records[index][reading.next]), "another record: {record:?}");
                    reading.next += 1;
                    count += 1;
                }
                Polled::End { at, offset } => {
                    let index = at.partition as usize;
                    let reading = &mut model.reading[index];
                    assert_eq!(offset as usize, reaches[index], "the end of {at}");
                    assert!(
                        !reading.paused && reading.next >= reaches[index] && reading.end_told != Some(reaches[index]),
                        "{at}"
                    );
                    reading.end_told = Some(reaches[index]);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(count, available.min(records_max), "as many as there are, and as were asked for");
        if count < records_max {
            for (index, reading) in model.reading.iter().enumerate() {
                assert!(reading.paused || reading.end_told == Some(reaches[index]), "partition {index}: its end was not told");
            }
        }
    }

    fn read(&mut self, index: usize, from: i64) {
        let records = read_from(self.log.log(), &place(index), Position::At(from));
        let all = &self.model.records[index];
        assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset), "offsets grow");
        for record in &records {
            assert!(record.offset >= from && is_same(record, index, &all[record.offset as usize]), "{record:?}");
        }
        let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
        let numbered = || all.iter().enumerate().map(|(offset, output)| (output.key.clone(), offset as i64));
        if PLACES[index].0 == "table" {
            // Tombstones may go, all others that are the newest of their key stay.
            let newest: BTreeMap<_, _> = numbered().collect();
            for offset in newest.values().filter(|&&offset| offset >= from && all[offset as usize].value.is_some()) {
                assert!(offsets.contains(offset), "offset {offset} is the newest of its key, and is gone");
            }
        } else {
            assert_eq!(offsets, numbered().map(|(_, offset)| offset).filter(|&offset| offset >= from).collect::<Vec<_>>());
        }
    }
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { CASES };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_log_does_what_the_model_does(ops in ops()) {
        let mut bench = Bench::new();
        for op in &ops {
            bench.apply(op);
        }
        for index in 0..PLACES.len() {
            bench.read(index, 0);
        }
        bench.poll(10_000);
    }
}
