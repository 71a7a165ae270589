//! The embedded log: the suite, and what only this adapter promises.

use crate::reading::{
    PATIENCE, TestLog, append, append_numbers, assigned_of, at, committed, describe, ends_of, glance, join, join_from_beginning,
    keyed, member_polls, member_values, numbers, read, read_from, read_values, record, records_of, topic, txn, values,
};
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions, Upkeep};
use smartrouter::io::log::{EventLog, LogError, Output, Polled, Position};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

pub(crate) struct EmbeddedUnderTest {
    pub(crate) embedded: EmbeddedLog,
    directory: TempDir,
}

pub(crate) fn open(path: &Path) -> EmbeddedLog {
    // A small write buffer, so that cases reach RocksDB's files and not only its memory.
    EmbeddedLog::open(path, EmbeddedOptions { write_buffer_bytes: 256 << 10, ..EmbeddedOptions::default() }).expect("open")
}

pub(crate) fn under_test() -> EmbeddedUnderTest {
    let directory = TempDir::new().expect("a directory");
    EmbeddedUnderTest { embedded: open(directory.path()), directory }
}

/// A copy of the files of an open log as they were at one moment.
///
/// RocksDB makes and deletes files in the background. A copy into which that fell is a state that never was on the disk, so it
/// counts only if every file is the same before and after.
fn image_of(directory: &Path) -> TempDir {
    let begun = Instant::now();
    loop {
        let image = TempDir::new().expect("a directory");
        let before = files_of(directory);
        let copied =
            before.iter().flatten().all(|(name, _, _)| std::fs::copy(directory.join(name), image.path().join(name)).is_ok());
        if copied && before.is_some() && before == files_of(directory) {
            return image;
        }
        assert!(begun.elapsed() < PATIENCE, "the files of {} never stand still", directory.display());
    }
}

/// Name, length and time of change of each file that makes up the database; none if one went while we looked.
fn files_of(directory: &Path) -> Option<Vec<(OsString, u64, SystemTime)>> {
    let mut files = Vec::new();
    for file in std::fs::read_dir(directory).ok()? {
        let file = file.ok()?;
        // Its lock belongs to the process, and its diary is not read back.
        if file.file_name() == "LOCK" || file.file_name().to_string_lossy().starts_with("LOG") {
            continue;
        }
        let about = file.metadata().ok()?;
        files.push((file.file_name(), about.len(), about.modified().ok()?));
    }
    files.sort();
    Some(files)
}

impl TestLog for EmbeddedUnderTest {
    fn log(&self) -> &dyn EventLog {
        &self.embedded
    }

    fn name(&self, stem: &str) -> String {
        stem.to_owned()
    }

    /// Goes on with the files as they are at this moment, while the log is open: what a killed process leaves.
    fn crash(&mut self) {
        let image = image_of(self.directory.path());
        self.embedded = open(image.path());
        self.directory = image;
    }

    fn compact(&self) -> bool {
        self.embedded.maintain(0).expect("maintain");
        true
    }
}

crate::suite::conformance!(Some(under_test()));

#[test]
fn the_newest_instance_has_the_partitions_and_gives_them_back() {
    let log = under_test();
    let (input, out) = (topic(&log, "input", 1), topic(&log, "out", 1));
    let from = at(&input, 0);
    append_numbers(&log, &input, 0, 0..3);
    let mut older = join_from_beginning(&log, "group", "a", std::slice::from_ref(&from));
    older.commit(txn(vec![record(&out, 0, "older")], &[(&from, 1)])).expect("commit");
    let mut newer = join(&log, "group", "b", std::slice::from_ref(&from));
    let check_void = |result: Result<_, LogError>| match result.expect_err("not the owner") {
        LogError::Rebalanced(_) => {}
        other => panic!("{other:?}"),
    };
    check_void(older.commit(txn(vec![record(&out, 0, "too late")], &[(&from, 2)])));
    assert_eq!(glance(&mut *older), [Polled::Revoked(vec![from.clone()])]);
    check_void(older.commit(txn(vec![record(&out, 0, "too late")], &[(&from, 2)])));
    check_void(older.start(&[(from.clone(), Position::Beginning)]).map(|()| BTreeMap::default()));
    newer.commit(txn(vec![record(&out, 0, "newer")], &[(&from, 2)])).expect("commit");
    newer.close().expect("close");
    check_void(newer.commit(txn(vec![], &[(&from, 3)])));
    // The older one has them again, but only from its next poll on: what it did before is void.
    check_void(older.commit(txn(vec![], &[(&from, 1)])));
    assert_eq!(glance(&mut *older), [Polled::Assigned(vec![from.clone()])]);
    assert_eq!(committed(&mut *older, &from), Some(2));
    older.commit(txn(vec![record(&out, 0, "older again")], &[(&from, 3)])).expect("commit");
    assert_eq!(read_values(&log, &out, 0), ["older", "newer", "older again"]);
}

#[test]
fn an_owner_that_lost_its_partitions_between_two_polls_is_told() {
    let log = under_test();
    let from = at(&topic(&log, "input", 1), 0);
    let mut member = join(&log, "group", "a", std::slice::from_ref(&from));
    drop(join(&log, "group", "b", std::slice::from_ref(&from)));
    let polled = glance(&mut *member);
    assert_eq!(polled, [Polled::Revoked(vec![from.clone()]), Polled::Assigned(vec![from])]);
}

#[test]
fn a_fenced_member_can_do_nothing() {
    let log = under_test();
    let from = at(&topic(&log, "input", 1), 0);
    let mut first = join(&log, "group", "a", std::slice::from_ref(&from));
    let _second = join(&log, "group", "a", std::slice::from_ref(&from));
    let results = [
        first.poll(&mut Vec::new(), 1, Duration::ZERO),
        first.commit(txn(vec![], &[(&from, 1)])).map(drop),
        first.recover(),
        first.poll(&mut Vec::new(), 1, Duration::ZERO),
    ];
    for result in results {
        assert!(matches!(&result, Err(LogError::Fenced { instance, .. }) if instance == "a"), "{result:?}");
    }
}

#[test]
fn a_topic_that_comes_later_is_assigned() {
    let log = under_test();
    let old = at(&topic(&log, "old", 1), 0);
    let mut member = log.log().member("group", "a", &["old".into(), "new".into()]).expect("join");
    let polled = member_polls(&mut *member, |polled| !polled.is_empty());
    assert_eq!(assigned_of(&polled), [old]);
    let waiting = std::thread::spawn(move || {
        let mut polled = Vec::new();
        member.poll(&mut polled, 10, PATIENCE).expect("poll");
        polled
    });
    topic(&log, "new", 2);
    assert_eq!(waiting.join().expect("the member"), [Polled::Assigned(vec![at("new", 0), at("new", 1)])]);
}

#[test]
fn partitions_take_turns() {
    let log = under_test();
    let input = topic(&log, "input", 3);
    append(&log, (0..3_000).map(|n| record(&input, n % 3, "x")).collect());
    let mut member = join_from_beginning(&log, "group", "a", &[at(&input, 0), at(&input, 1), at(&input, 2)]);
    for records_max in [30, 2, 4, 300] {
        let mut counts = [0; 3];
        for _ in 0..3 {
            let mut polled = Vec::new();
            member.poll(&mut polled, records_max, Duration::ZERO).expect("poll");
            let records = records_of(&polled);
            assert_eq!(records.len(), records_max);
            for record in &records {
                counts[record.at.partition as usize] += 1;
            }
        }
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?} of {records_max}");
    }
}

#[test]
fn an_append_wakes_all_who_wait() {
    let log = under_test();
    let input = topic(&log, "input", 4);
    let waiting: Vec<_> = (0..4)
        .map(|partition| {
            let mut reader = log.log().reader().expect("reader");
            reader.assign(&[(at(&input, partition), Position::Beginning)]).expect("assign");
            let mut polled = Vec::new();
            reader.poll(&mut polled, 10, Duration::ZERO).expect("poll");
            assert_eq!(ends_of(&polled), [0], "at the end, so that the next poll waits");
            std::thread::spawn(move || {
                // A reader that is not woken comes back empty after all of this time.
                let mut polled = Vec::new();
                while records_of(&polled).is_empty() {
                    polled.clear();
                    reader.poll(&mut polled, 10, PATIENCE).expect("poll");
                    assert!(!polled.is_empty(), "not woken");
                }
                values(&records_of(&polled))
            })
        })
        .collect();
    for partition in 0..4 {
        append(&log, vec![record(&input, partition, partition.to_string())]);
    }
    for (partition, reader) in waiting.into_iter().enumerate() {
        assert_eq!(reader.join().expect("a reader"), [partition.to_string()]);
    }
}

fn expiring() -> EmbeddedUnderTest {
    let log = under_test();
    let settings = [("cleanup.policy", "delete"), ("retention.ms", "1000")];
    log.log().create_topics(&[describe("expiring", 1, &settings), describe("lasting", 1, &[])]).expect("create");
    for n in 0..10 {
        let aged = |topic| Output { timestamp_ms: Some(n * 100), ..record(topic, 0, n.to_string()) };
        append(&log, vec![aged("expiring"), aged("lasting")]);
    }
    log
}

#[test]
fn retention_takes_what_is_old() {
    let mut log = expiring();
    let bounds = |log: &EmbeddedUnderTest| log.log().reader().unwrap().bounds(&at("expiring", 0)).unwrap();
    let mut reader = log.log().reader().expect("reader");
    reader.assign(&[(at("expiring", 0), Position::At(2))]).expect("assign");
    // Judged at 1,450 ms, what is older than 450 ms goes: offsets 0 to 4.
    assert_eq!(log.embedded.maintain(1_450).expect("maintain"), Upkeep { expired: 5, compacted: 0 });
    assert_eq!(log.embedded.maintain(1_450).expect("maintain"), Upkeep::default());
    assert_eq!(bounds(&log), (5, 10));
    assert_eq!(read_values(&log, "expiring", 0), numbers(5..10));
    assert_eq!(read_values(&log, "lasting", 0), numbers(0..10), "a topic without retention.ms keeps all");
    let mut polled = Vec::new();
    reader.poll(&mut polled, 100, Duration::ZERO).expect("poll");
    assert_eq!(values(&records_of(&polled)), numbers(5..10), "a reader goes on behind the gap");
    drop(reader);
    log.crash();
    assert_eq!(bounds(&log), (5, 10));
    assert_eq!(log.embedded.maintain(1_000_000).expect("maintain"), Upkeep { expired: 5, compacted: 0 });
    assert_eq!((bounds(&log), read_values(&log, "expiring", 0)), ((10, 10), vec![]));
    log.crash();
    append_numbers(&log, "expiring", 0, 10..11);
    assert_eq!(read_from(log.log(), &at("expiring", 0), Position::At(3))[0].offset, 10, "no offset is given twice");
}

#[test]
fn compaction_keeps_the_newest_of_each_key_at_its_offset() {
    let mut log = under_test();
    let settings = [("cleanup.policy", "compact"), ("delete.retention.ms", "1000")];
    log.log().create_topics(&[describe("table", 1, &settings)]).expect("create");
    let rows =
        [("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("b", None), ("c", Some("1")), ("d", Some("1")), ("c", None)];
    for (n, (key, value)) in rows.iter().enumerate() {
        append(&log, vec![Output { timestamp_ms: Some(n as i64 * 100), ..keyed("table", 0, key, *value) }]);
    }
    let offsets = |log: &EmbeddedUnderTest| read(log, "table", 0).iter().map(|record| record.offset).collect::<Vec<_>>();
    let mut reader = log.log().reader().expect("reader");
    reader.assign(&[(at("table", 0), Position::Beginning)]).expect("assign");
    let mut polled = Vec::new();
    reader.poll(&mut polled, 1, Duration::ZERO).expect("poll");
    assert_eq!(log.embedded.maintain(1_300).expect("maintain"), Upkeep { expired: 0, compacted: 3 });
    assert_eq!(offsets(&log), [2, 3, 5, 6], "tombstones stay for delete.retention.ms");
    // What a reader had fetched before may still come; then it reads on behind the gaps, to the same end.
    reader.poll(&mut polled, 100, Duration::ZERO).expect("poll");
    let seen: Vec<_> = records_of(&polled).iter().map(|record| record.offset).collect();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]) && [2, 3, 5, 6].iter().all(|kept| seen.contains(kept)), "{seen:?}");
    assert_eq!(ends_of(&polled), [7]);
    drop(reader);
    assert_eq!(log.embedded.maintain(1_300).expect("maintain"), Upkeep::default(), "nothing is new");
    log.crash();
    // Anew, b's tombstone (300 ms) is old at 1,400 ms and c's (600 ms) is not.
    assert_eq!(log.embedded.maintain(1_400).expect("maintain"), Upkeep { expired: 0, compacted: 1 });
    assert_eq!(offsets(&log), [2, 5, 6]);
    log.crash();
    assert_eq!(log.embedded.maintain(5_000).expect("maintain"), Upkeep { expired: 0, compacted: 1 });
    assert_eq!(offsets(&log), [2, 5]);
    assert_eq!(log.log().reader().unwrap().bounds(&at("table", 0)).expect("bounds"), (0, 7), "compaction moves no bound");
    append(&log, vec![keyed("table", 0, "e", Some("1"))]);
    assert_eq!(offsets(&log), [2, 5, 7]);
}

#[test]
fn compaction_goes_over_many_batches() {
    let log = under_test();
    log.log().create_topics(&[describe("table", 1, &[("cleanup.policy", "compact")])]).expect("create");
    let value = "x".repeat(2_000);
    let mut expected = BTreeMap::new();
    for n in 0..2_000 {
        // Every third key comes once, the others again and again: full batches stay beside emptied ones.
        let key = if n % 3 == 0 || (800..1_000).contains(&n) { format!("once {n}") } else { format!("often {}", n % 7) };
        let _ = expected.insert(key.clone(), n);
        append(&log, vec![keyed("table", 0, &key, Some(&format!("{n} {value}")))]);
    }
    let mut expected: Vec<i64> = expected.into_values().collect();
    expected.sort_unstable();
    let upkeep = log.embedded.maintain(0).expect("maintain");
    assert_eq!(upkeep.compacted, 2_000 - expected.len() as i64);
    let records = read(&log, "table", 0);
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), expected);
    assert!(records.iter().zip(&expected).all(|(record, n)| record.value.as_deref() == Some(format!("{n} {value}").as_bytes())));
    for from in [0, 1, 799, 900, 1_500, 1_999] {
        let from_there = read_from(log.log(), &at("table", 0), Position::At(from));
        assert_eq!(from_there.len(), expected.iter().filter(|&&offset| offset >= from).count(), "from {from}");
    }
}

#[test]
fn what_a_broker_refuses_is_refused() {
    let log = under_test();
    let topics = [describe("table", 1, &[("cleanup.policy", "compact")]), describe("small", 1, &[("max.message.bytes", "100")])];
    log.log().create_topics(&topics).expect("create");
    let refused = |output: Output| match log.log().appender().unwrap().append(vec![output]).expect_err("refused") {
        LogError::Unwritable { topic, detail } => format!("{topic}: {detail}"),
        other => panic!("{other:?}"),
    };
    assert!(refused(record("table", 0, "no key")).contains("table: the topic is compacted, so a record needs a key"));
    assert!(refused(record("small", 0, "x".repeat(101))).contains("max.message.bytes is 100"));
    let bad = log.log().create_topics(&[describe("fine", 1, &[]), describe("not fine", 1, &[])]).expect_err("a space");
    assert!(matches!(&bad, LogError::Refused(detail) if detail.contains("not fine")), "{bad:?}");
    assert_eq!(log.log().topics(&[]).expect("topics").len(), 2, "all or none");
}

fn open_fails(path: &Path) -> LogError {
    EmbeddedLog::open(path, EmbeddedOptions::default()).err().expect("it cannot be opened")
}

#[test]
fn a_second_owner_of_the_directory_is_refused() {
    let log = under_test();
    let error = open_fails(log.embedded.path());
    let LogError::Refused(detail) = error else { panic!("{error:?}") };
    for part in [&*log.embedded.path().display().to_string(), "another process", "--state-dir"] {
        assert!(detail.contains(part), "{detail:?} lacks {part:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").expect("write");
    let path = file.join("log");
    let error = open_fails(&path);
    assert!(matches!(&error, LogError::Refused(detail) if detail.contains(&path.display().to_string())), "{error:?}");
}

#[test]
fn damage_is_told_and_not_written_over() {
    type Spoil = (&'static str, fn(&Path));
    let spoil: [Spoil; 3] = [
        ("manifest", |path| {
            let manifest = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            let manifest = manifest.filter(|file| file.file_name().unwrap().to_string_lossy().starts_with("MANIFEST"));
            for file in manifest {
                std::fs::write(file, vec![7; 400]).unwrap();
            }
        }),
        ("pointer", |path| std::fs::write(path.join("CURRENT"), "nonsense").unwrap()),
        ("no pointer", |path| std::fs::remove_file(path.join("CURRENT")).unwrap()),
    ];
    for (what, spoil) in spoil {
        let directory = TempDir::new().expect("a directory");
        open(directory.path()).create_topics(&[describe("t", 1, &[])]).expect("create");
        spoil(directory.path());
        let error = open_fails(directory.path());
        let path = directory.path().display().to_string();
        assert!(matches!(&error, LogError::Corrupt(detail) if detail.contains(&path)), "{what}: {error:?}");
    }
}

#[test]
fn logs_have_different_ids() {
    assert_ne!(under_test().log().log_id().unwrap(), under_test().log().log_id().unwrap());
}

#[test]
fn records_without_a_key_spread() {
    let log = under_test();
    let out = topic(&log, "out", 3);
    for n in 0..9 {
        append(&log, vec![Output { partition: None, ..record(&out, 0, n.to_string()) }]);
    }
    for partition in 0..3 {
        assert_eq!(read(&log, &out, partition).len(), 3);
    }
}

#[test]
fn a_member_reads_on_while_others_write() {
    let log = under_test();
    let input = topic(&log, "input", 2);
    let mut member = join_from_beginning(&log, "group", "a", &[at(&input, 0), at(&input, 1)]);
    std::thread::scope(|scope| {
        for partition in [0, 1] {
            let (log, input) = (&log, &input);
            scope.spawn(move || (0..200).for_each(|n| append_numbers(log, input, partition, [n])));
        }
        let polled = member_polls(&mut *member, |polled| records_of(polled).len() == 400);
        for partition in [0, 1] {
            let records: Vec<_> = records_of(&polled).into_iter().filter(|record| record.at.partition == partition).collect();
            assert_eq!(values(&records), numbers(0..200));
        }
    });
    assert_eq!(member_values(&mut *member, 0), [""; 0]);
}
