//! The cases, each over any adapter. `conformance!` makes a `#[test]` of each.

use crate::reading::{
    TestLog, append, append_numbers, at, await_group_offsets, bytes, committed, describe, ends_of, glance, join,
    join_from_beginning, keyed, member_polls, member_values, numbers, read, read_from, read_values, reader_polls, record,
    records_of, text, topic, txn, values,
};
use bytes::Bytes;
use smartrouter::io::log::{Ends, LogError, Output, Position, Record, TopicPartition};
use std::collections::BTreeMap;

/// Instantiates every case for a maker of `Option<impl TestLog>`; none means: not here, and the maker has said why.
macro_rules! conformance {
    ($make:expr) => {
        $crate::suite::conformance! { $make =>
            a_partition_keeps_its_order
            a_transaction_is_visible_whole
            many_transactions_are_seen_in_order_and_whole
            a_record_that_is_too_large_spoils_its_transaction
            a_missing_topic_spoils_its_transaction
            offsets_are_kept_per_group
            a_second_owner_fences_the_first
            a_crash_takes_only_what_was_not_committed
            nothing_is_delivered_before_start
            start_again_goes_where_it_is_told
            a_paused_partition_waits
            a_table_reads_as_its_newest_values
            large_records_pass
            empty_is_not_null
            headers_and_timestamps_pass
            bounds_and_ends_are_told
            creating_a_topic_again_changes_nothing
            keys_choose_partitions_as_in_the_java_client
            a_missing_topic_is_named
            written_tells_the_offset_behind_the_last_record
            the_log_keeps_its_id
        }
    };
    ($make:expr => $($case:ident)*) => {
        $(#[test]
        fn $case() {
            if let Some(mut log) = $make {
                $crate::suite::$case(&mut log);
            }
        })*
    };
}
pub(crate) use conformance;

pub(crate) fn a_partition_keeps_its_order(log: &mut dyn TestLog) {
    let topic = topic(log, "order", 2);
    for begin in [0, 100, 200] {
        append(log, (begin..begin + 100).map(|n| record(&topic, n % 2, n.to_string())).collect());
    }
    for partition in [0, 1] {
        let records = read(log, &topic, partition);
        assert_eq!(values(&records), numbers((0..300).filter(|n| n % 2 == partition.cast_unsigned())));
        assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset), "offsets grow");
        assert!(records.iter().all(|record| record.at == at(&topic, partition)));
    }
}

pub(crate) fn a_transaction_is_visible_whole(log: &mut dyn TestLog) {
    let (input, out) = (topic(log, "input", 1), topic(log, "out", 2));
    let group = log.name("group");
    append_numbers(log, &input, 0, 0..3);
    let from = at(&input, 0);
    let mut member = join_from_beginning(log, &group, "a", std::slice::from_ref(&from));
    assert_eq!(committed(&mut *member, &from), None, "nothing was committed yet");
    assert_eq!(member_values(&mut *member, 3), numbers(0..3));
    member.commit(txn(vec![record(&out, 0, "left"), record(&out, 1, "right")], &[(&from, 2)])).expect("commit");
    assert_eq!(read_values(log, &out, 0), ["left"]);
    assert_eq!(read_values(log, &out, 1), ["right"]);
    assert_eq!(committed(&mut *member, &from), Some(2));
    await_group_offsets(log.log(), &group, &BTreeMap::from([(from.clone(), Some(2))]));
    member.commit(txn(vec![], &[(&from, 3)])).expect("commit offsets alone");
    assert_eq!(committed(&mut *member, &from), Some(3));
    member.close().expect("close");
}

pub(crate) fn many_transactions_are_seen_in_order_and_whole(log: &mut dyn TestLog) {
    const TXNS: u32 = 40;
    let (input, out) = (topic(log, "input", 1), topic(log, "out", 1));
    let from = at(&input, 0);
    let mut member = join(log, &log.name("group"), "a", std::slice::from_ref(&from));
    let mut reader = log.log().reader().expect("open a reader");
    reader.assign(&[(at(&out, 0), Position::Beginning)]).expect("assign");
    let reading = std::thread::spawn(move || {
        let polled = reader_polls(&mut *reader, |polled| records_of(polled).len() >= 3 * TXNS as usize);
        values(&records_of(&polled))
    });
    for n in 0..TXNS {
        member.commit(txn((0..3).map(|part| record(&out, 0, format!("{n}.{part}"))).collect(), &[])).expect("commit");
    }
    let expected: Vec<_> = (0..TXNS).flat_map(|n| (0..3).map(move |part| format!("{n}.{part}"))).collect();
    assert_eq!(reading.join().expect("the reader"), expected);
}

pub(crate) fn a_record_that_is_too_large_spoils_its_transaction(log: &mut dyn TestLog) {
    let unwritable = |out: &str| record(out, 0, noise(3 << 20));
    check_spoiled_transaction(log, unwritable, |error| matches!(error, LogError::Unwritable { .. }));
}

pub(crate) fn a_missing_topic_spoils_its_transaction(log: &mut dyn TestLog) {
    let missing = log.name("missing");
    check_spoiled_transaction(log, |_| record(&missing, 0, "lost"), |error| matches!(error, LogError::NoTopic(_)));
}

fn check_spoiled_transaction(log: &mut dyn TestLog, bad: impl Fn(&str) -> Output, is_expected: impl Fn(&LogError) -> bool) {
    let (input, out) = (topic(log, "input", 1), topic(log, "out", 1));
    let from = at(&input, 0);
    append_numbers(log, &input, 0, 0..3);
    let mut member = join(log, &log.name("group"), "a", std::slice::from_ref(&from));
    member.commit(txn(vec![record(&out, 0, "before")], &[(&from, 1)])).expect("commit");
    let error = member
        .commit(txn(vec![record(&out, 0, "spoiled"), bad(&out), record(&out, 0, "spoiled too")], &[(&from, 2)]))
        .expect_err("one record cannot be written");
    assert!(is_expected(&error), "{error:?}");
    member.recover().expect("recover");
    assert_eq!(committed(&mut *member, &from), Some(1), "the offset went with its transaction");
    member.commit(txn(vec![record(&out, 0, "after")], &[(&from, 3)])).expect("commit after recovery");
    assert_eq!(read_values(log, &out, 0), ["before", "after"]);
    assert_eq!(committed(&mut *member, &from), Some(3));
}

/// Bytes that no compression makes small.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

pub(crate) fn offsets_are_kept_per_group(log: &mut dyn TestLog) {
    let input = topic(log, "input", 2);
    let (left, right) = (at(&input, 0), at(&input, 1));
    let groups = [log.name("first"), log.name("second")];
    append(log, (0..20).map(|n| record(&input, n % 2, n.to_string())).collect());
    for (group, offset) in groups.iter().zip([4, 7]) {
        let mut member = join(log, group, "a", &[left.clone(), right.clone()]);
        member.commit(txn(vec![], &[(&left, offset)])).expect("commit");
        member.commit(txn(vec![], &[(&left, offset + 1)])).expect("commit");
        member.close().expect("close");
    }
    for (group, offset) in groups.iter().zip([5, 8]) {
        await_group_offsets(log.log(), group, &BTreeMap::from([(left.clone(), Some(offset)), (right.clone(), None)]));
    }
    let stranger =
        log.log().group_offsets(&log.name("stranger"), std::slice::from_ref(&left)).expect("ask for a group that never was");
    assert_eq!(stranger, BTreeMap::from([(left, None)]));
}

pub(crate) fn a_second_owner_fences_the_first(log: &mut dyn TestLog) {
    let (input, out) = (topic(log, "input", 1), topic(log, "out", 1));
    let (from, group) = (at(&input, 0), log.name("group"));
    append_numbers(log, &input, 0, 0..3);
    let mut first = join(log, &group, "a", std::slice::from_ref(&from));
    first.commit(txn(vec![record(&out, 0, "first")], &[(&from, 1)])).expect("commit");
    let mut second = join(log, &group, "a", std::slice::from_ref(&from));
    assert_eq!(committed(&mut *second, &from), Some(1), "the second begins where the first was");
    let error = first.commit(txn(vec![record(&out, 0, "too late")], &[(&from, 2)])).expect_err("the first is fenced");
    assert!(matches!(error, LogError::Fenced { .. }), "{error:?}");
    drop(first);
    second.commit(txn(vec![record(&out, 0, "second")], &[(&from, 3)])).expect("the second commits");
    assert_eq!(read_values(log, &out, 0), ["first", "second"]);
    assert_eq!(committed(&mut *second, &from), Some(3));
}

pub(crate) fn a_crash_takes_only_what_was_not_committed(log: &mut dyn TestLog) {
    let (input, out) = (topic(log, "input", 1), topic(log, "out", 1));
    let (from, group) = (at(&input, 0), log.name("group"));
    append_numbers(log, &input, 0, 0..10);
    let mut member = join_from_beginning(log, &group, "a", std::slice::from_ref(&from));
    assert_eq!(member_values(&mut *member, 10), numbers(0..10));
    let outputs = |range: std::ops::Range<u32>| range.map(|n| record(&out, 0, n.to_string())).collect();
    member.commit(txn(outputs(0..4), &[(&from, 4)])).expect("commit");
    drop(member);
    log.crash();
    assert_eq!(read_values(log, &out, 0), numbers(0..4));
    let mut member = join(log, &group, "a", std::slice::from_ref(&from));
    let resumed = committed(&mut *member, &from).expect("the offset survived");
    assert_eq!(resumed, 4);
    member.start(&[(from.clone(), Position::At(resumed))]).expect("start");
    assert_eq!(member_values(&mut *member, 6), numbers(4..10), "what was read but not committed comes again");
    member.commit(txn(outputs(4..10), &[(&from, 10)])).expect("commit");
    assert_eq!(read_values(log, &out, 0), numbers(0..10));
}

pub(crate) fn nothing_is_delivered_before_start(log: &mut dyn TestLog) {
    let input = topic(log, "input", 2);
    append(log, (0..10).map(|n| record(&input, n % 2, n.to_string())).collect());
    let (left, right) = (at(&input, 0), at(&input, 1));
    let mut member = join(log, &log.name("group"), "a", &[left.clone(), right.clone()]);
    let early = glance(&mut *member);
    assert_eq!((records_of(&early), ends_of(&early)), (vec![], vec![]), "neither is started");
    member.start(&[(right, Position::Beginning)]).expect("start one");
    assert_eq!(member_values(&mut *member, 5), numbers([1, 3, 5, 7, 9]), "only the one that is started");
    member.start(&[(left, Position::At(2))]).expect("start the other");
    assert_eq!(member_values(&mut *member, 3), numbers([4, 6, 8]));
}

pub(crate) fn start_again_goes_where_it_is_told(log: &mut dyn TestLog) {
    let input = topic(log, "input", 1);
    let from = at(&input, 0);
    append_numbers(log, &input, 0, 0..200);
    let mut member = join_from_beginning(log, &log.name("group"), "a", std::slice::from_ref(&from));
    let polled = member_polls(&mut *member, |polled| !records_of(polled).is_empty());
    assert_eq!(text(records_of(&polled)[0].value.as_ref()), "0");
    // What was fetched but not handed out must not come after the jump.
    member.start(&[(from.clone(), Position::At(190))]).expect("jump ahead");
    assert_eq!(member_values(&mut *member, 10), numbers(190..200));
    member.start(&[(from, Position::Beginning)]).expect("jump back");
    assert_eq!(member_values(&mut *member, 200), numbers(0..200));
}

pub(crate) fn a_paused_partition_waits(log: &mut dyn TestLog) {
    let input = topic(log, "input", 2);
    let (left, right) = (at(&input, 0), at(&input, 1));
    append(log, vec![record(&input, 0, "0"), record(&input, 1, "1")]);
    let mut member = join_from_beginning(log, &log.name("group"), "a", &[left.clone(), right]);
    member_polls(&mut *member, |polled| records_of(polled).len() == 2);
    member.pause(std::slice::from_ref(&left)).expect("pause");
    append(log, (2..20).map(|n| record(&input, n % 2, n.to_string())).collect());
    assert_eq!(member_values(&mut *member, 9), numbers((2..20).filter(|n| n % 2 == 1)), "the other partition goes on");
    member.resume(&[left]).expect("resume");
    assert_eq!(member_values(&mut *member, 9), numbers((2..20).filter(|n| n % 2 == 0)), "from where it was");
}

pub(crate) fn a_table_reads_as_its_newest_values(log: &mut dyn TestLog) {
    let table = log.name("table");
    log.log().create_topics(&[describe(&table, 1, &[("cleanup.policy", "compact")])]).expect("create the table");
    let mut expected = BTreeMap::new();
    for round in 0..20 {
        let rows: Vec<_> = (0..10).map(|key| (format!("key {key}"), (key != round % 10).then(|| format!("{round}")))).collect();
        append(log, rows.iter().map(|(key, value)| keyed(&table, 0, key, value.as_deref())).collect());
        expected.extend(rows);
    }
    let before = read(log, &table, 0);
    let compacted = log.compact();
    let after = read(log, &table, 0);
    let newest = |records: &[Record]| -> BTreeMap<_, _> {
        records.iter().map(|record| (text(record.key.as_ref()), record.value.as_ref().map(|value| text(Some(value))))).collect()
    };
    assert_eq!(newest(&before), expected);
    assert_eq!(newest(&after), expected, "compaction changes no table");
    if compacted {
        assert_eq!(after.len(), 10, "one record per key is left");
    }
    assert!(after.iter().all(|record| before.contains(record)), "a record that stays keeps its offset and all else");
}

pub(crate) fn large_records_pass(log: &mut dyn TestLog) {
    let (input, out) = (topic(log, "input", 1), topic(log, "out", 1));
    let large = Bytes::from(noise(900_000));
    let mut member = join(log, &log.name("group"), "a", &[at(&input, 0)]);
    append(log, vec![record(&out, 0, &large)]);
    member.commit(txn(vec![record(&out, 0, "small"), record(&out, 0, &large), record(&out, 0, &large)], &[])).expect("commit");
    let records = read(log, &out, 0);
    let expected = [&large[..], b"small", &large, &large];
    assert_eq!(records.len(), expected.len());
    for (record, expected) in records.iter().zip(expected) {
        assert!(record.value.as_deref() == Some(expected), "offset {}: other bytes", record.offset);
    }
}

pub(crate) fn empty_is_not_null(log: &mut dyn TestLog) {
    let topic = topic(log, "nothing", 1);
    let rows = [
        (None, None),
        (None, Some(bytes(""))),
        (Some(bytes("")), None),
        (Some(bytes("")), Some(bytes(""))),
        (Some(bytes("key")), None),
    ];
    append(log, rows.iter().cloned().map(|(key, value)| Output { key, value, ..record(&topic, 0, "") }).collect());
    let read: Vec<_> = read(log, &topic, 0).into_iter().map(|record| (record.key, record.value)).collect();
    assert_eq!(read, rows);
}

pub(crate) fn headers_and_timestamps_pass(log: &mut dyn TestLog) {
    let (input, out) = (topic(log, "input", 1), topic(log, "out", 1));
    let headers = vec![
        ("traceparent".to_owned(), Some(bytes("00-abc"))),
        ("null".to_owned(), None),
        ("empty".to_owned(), Some(bytes(""))),
        ("twice".to_owned(), Some(bytes([0, 255]))),
        ("twice".to_owned(), Some(bytes("second"))),
    ];
    let outputs = vec![
        Output { headers: headers.clone(), timestamp_ms: Some(1_546_300_800_123), ..record(&out, 0, "with") },
        Output { timestamp_ms: Some(5), ..record(&out, 0, "without") },
        record(&out, 0, "now"),
    ];
    append(log, outputs.clone());
    let mut member = join(log, &log.name("group"), "a", &[at(&input, 0)]);
    member.commit(txn(outputs, &[])).expect("commit");
    let records = read(log, &out, 0);
    assert_eq!(values(&records), ["with", "without", "now", "with", "without", "now"]);
    for three in records.chunks(3) {
        assert_eq!((&three[0].headers, three[0].timestamp_ms), (&headers, 1_546_300_800_123));
        assert_eq!((&three[1].headers, three[1].timestamp_ms), (&vec![], 5));
        assert!(three[2].timestamp_ms > 1_700_000_000_000, "absent means now, not {}", three[2].timestamp_ms);
    }
}

pub(crate) fn bounds_and_ends_are_told(log: &mut dyn TestLog) {
    let topic = topic(log, "ends", 1);
    let of = at(&topic, 0);
    let mut reader = log.log().reader().expect("open a reader");
    assert_eq!(reader.bounds(&of).expect("bounds"), (0, 0));
    reader.assign(&[(of.clone(), Position::Beginning)]).expect("assign");
    let polled = reader_polls(&mut *reader, |polled| !polled.is_empty());
    assert_eq!((records_of(&polled), ends_of(&polled)), (vec![], vec![0]), "an empty partition is at its end");
    for (from, to) in [(0, 10), (10, 11)] {
        append_numbers(log, &topic, 0, from..to);
        let end = i64::from(to);
        let polled = reader_polls(&mut *reader, |polled| ends_of(polled).contains(&end));
        assert_eq!(values(&records_of(&polled)), numbers(from..to));
        assert_eq!(
            polled.iter().rev().take_while(|polled| records_of(std::slice::from_ref(*polled)).is_empty()).count(),
            1,
            "one end, last"
        );
        assert_eq!(reader.bounds(&of).expect("bounds"), (0, end));
        let ends = reader.ends(std::slice::from_ref(&of)).expect("ends");
        assert_eq!(ends, [(of.clone(), Ends { settled: end, written: end })].into());
    }
    assert!(reader.ends(&[]).expect("ends of nothing").is_empty());
    assert_eq!(values(&read_from(log.log(), &of, Position::At(9))), numbers([9, 10]));
    assert_eq!(read_from(log.log(), &of, Position::At(11)), [], "from the end on there is nothing");
}

pub(crate) fn creating_a_topic_again_changes_nothing(log: &mut dyn TestLog) {
    let (first, second) = (log.name("first"), log.name("second"));
    let settings = [("cleanup.policy", "compact")];
    log.log().create_topics(&[describe(&first, 3, &settings)]).expect("create");
    append(log, vec![keyed(&first, 2, "key", Some("kept"))]);
    log.log().create_topics(&[describe(&first, 5, &[]), describe(&second, 1, &[])]).expect("create again, and another");
    let topics = log.log().topics(std::slice::from_ref(&first)).expect("topics");
    let described = |name: &str| topics.iter().find(|topic| topic.name == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(described(&first).partitions, 3);
    assert_eq!(described(&first).settings.get("cleanup.policy").map(String::as_str), Some("compact"));
    assert_eq!(described(&second).partitions, 1);
    assert!(described(&second).settings.is_empty(), "not asked for");
    assert_eq!(read_values(log, &first, 2), ["kept"]);
}

/// Expected partitions are `(murmur2(key) & 0x7fffffff) % 4` with the hashes of Kafka's own `UtilsTest.testMurmur2`.
pub(crate) fn keys_choose_partitions_as_in_the_java_client(log: &mut dyn TestLog) {
    let (input, out) = (topic(log, "input", 1), topic(log, "out", 4));
    let rows = [("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536), ("abc", 479_470_107)];
    let outputs: Vec<_> = rows.iter().map(|(key, _)| Output { partition: None, ..keyed(&out, 0, key, Some(key)) }).collect();
    append(log, outputs.clone());
    let mut member = join(log, &log.name("group"), "a", &[at(&input, 0)]);
    member.commit(txn(outputs, &[])).expect("commit");
    for partition in 0..4 {
        let mut expected: Vec<_> =
            rows.iter().filter(|(_, hash): &&(&str, i32)| (hash & 0x7fff_ffff) % 4 == partition).map(|(key, _)| *key).collect();
        expected.extend(expected.clone());
        assert_eq!(read_values(log, &out, partition), expected, "partition {partition}");
    }
}

pub(crate) fn a_missing_topic_is_named(log: &mut dyn TestLog) {
    let (missing, short) = (log.name("missing"), topic(log, "short", 1));
    let check = |error: LogError, name: &str| match error {
        LogError::NoTopic(named) => assert!(named.contains(name), "{named}"),
        other => panic!("{other:?}"),
    };
    let mut reader = log.log().reader().expect("open a reader");
    check(reader.bounds(&at(&missing, 0)).expect_err("no such topic"), &missing);
    check(reader.bounds(&at(&short, 1)).expect_err("no such partition"), &short);
    check(reader.ends(&[at(&short, 0), at(&missing, 0)]).expect_err("no such topic"), &missing);
    check(reader.ends(&[at(&short, 0), at(&short, 1)]).expect_err("no such partition"), &short);
    let mut appender = log.log().appender().expect("open an appender");
    let flushed = appender.append(vec![record(&missing, 0, "lost")]).and_then(|()| appender.flush());
    check(flushed.expect_err("no such topic"), &missing);
}

pub(crate) fn written_tells_the_offset_behind_the_last_record(log: &mut dyn TestLog) {
    let (input, out) = (topic(log, "input", 1), topic(log, "out", 2));
    let mut member = join(log, &log.name("group"), "a", &[at(&input, 0)]);
    for round in 0..3 {
        let outputs = vec![record(&out, 1, "one"), record(&out, 0, "other"), record(&out, 1, "two")];
        let written = member.commit(txn(outputs, &[])).expect("commit");
        let expected: BTreeMap<TopicPartition, i64> = [0, 1]
            .into_iter()
            .map(|partition| (at(&out, partition), read(log, &out, partition).last().expect("written").offset + 1))
            .collect();
        assert_eq!(written, expected, "round {round}");
    }
    assert_eq!(member.commit(txn(vec![], &[])).expect("commit nothing"), BTreeMap::new());
}

pub(crate) fn the_log_keeps_its_id(log: &mut dyn TestLog) {
    let id = log.log().log_id().expect("log id");
    assert!(!id.is_empty());
    log.crash();
    assert_eq!(log.log().log_id().expect("log id"), id);
}
