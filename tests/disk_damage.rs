//! What damaged files do: to the embedded log and to the state store, each kind of file with each kind of damage.
//!
//! Claimed of the log: opening or reading it fails and names the directory, or it holds whole transactions from the first on: all that
//! were synced, when damage hits what was synced. Claimed of the store: it fails and says what to do, or holds whole batches from the
//! first on, so that its position says how far to roll forward. Never anything else, and never a panic. The tables say what happened.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    reason = "test code: a panic is the failure report, and a table is printed"
)]

#[path = "fuzz/src/draw.rs"]
mod draw;
#[path = "fuzz/src/recovery.rs"]
mod recovery;

use recovery::{Content, Files, check_error, check_prefix, files_of, read, value_of, write};
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::{EventLog, Output, Position, TopicDescription, TopicPartition, Txn};
use smartrouter::io::store::{Shard, ShardPosition, StateBatch, StateStore, StoreError, StoreName};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// Flips, spread over a file; more of them take longer and find the same.
const FLIPS: usize = 10;

/// Each way to damage one file, by name.
fn damages(bytes: &[u8]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let mut damages = vec![("removed", None), ("emptied", Some(Vec::new()))];
    for part in 1..4 {
        damages.push(("cut", Some(bytes[..bytes.len() * part / 4].to_vec())));
    }
    damages.push(("cut", Some(bytes[..bytes.len().saturating_sub(1)].to_vec())));
    damages.push(("grown", Some([bytes, &[0xa5; 40]].concat())));
    damages.push(("zeros at the end", Some([bytes, &[0; 4096]].concat())));
    for flip in 0..FLIPS.min(bytes.len()) {
        let mut flipped = bytes.to_vec();
        flipped[bytes.len() * flip / FLIPS.min(bytes.len())] ^= 0x10;
        damages.push(("a bit flipped", Some(flipped)));
    }
    let mut zeroed = bytes.to_vec();
    let (from, to) = (bytes.len() / 3, bytes.len() / 3 * 2);
    zeroed[from..to].fill(0);
    damages.push(("a third zeroed", Some(zeroed)));
    damages
}

fn kind_of(name: &str) -> String {
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match name.rsplit_once('.') {
        Some((_, ending @ ("sst" | "log"))) => format!("*.{ending}"),
        _ => kind.trim_end_matches('-').to_owned(),
    }
}

/// (file, damage) → what happened, with how often.
type Table = BTreeMap<(String, &'static str), BTreeMap<String, usize>>;

fn show(title: &str, table: &Table) {
    eprintln!("{title}");
    for ((file, damage), happened) in table {
        let happened: Vec<String> = happened.iter().map(|(what, times)| format!("{what} ×{times}")).collect();
        eprintln!("  {file:<10} {damage:<17} {}", happened.join(", "));
    }
}

/// Damages each file in each way and asks `judge` about each; `judge` panics when a promise is broken.
fn try_all(title: &str, files: &Files, judge: impl Fn(&Path, &str) -> String) {
    let mut table = Table::new();
    for (at, (name, bytes)) in files.iter().enumerate() {
        for (damage, left) in damages(bytes) {
            let mut damaged = files.clone();
            match left {
                Some(left) => damaged[at].1 = left,
                None => drop(damaged.remove(at)),
            }
            let directory = tempfile::tempdir().unwrap();
            write(directory.path(), &damaged);
            let happened = judge(directory.path(), &format!("{title}: {name} {damage}"));
            *table.entry((kind_of(name), damage)).or_default().entry(happened).or_default() += 1;
        }
    }
    show(title, &table);
}

// The embedded log.

fn log_with(path: &Path, sync: bool) -> EmbeddedLog {
    // A small write buffer, so that records lie in several files of both kinds.
    EmbeddedLog::open(path, EmbeddedOptions { sync, write_buffer_bytes: 64 << 10 }).unwrap()
}

/// One transaction each: a record, and the group's offset behind it.
fn commit(log: &EmbeddedLog, offsets: std::ops::Range<i64>, value: impl Fn(i64) -> String) {
    let at = TopicPartition::new("t", 0);
    let mut member = log.member("g", "i", &["t".to_owned()]).unwrap();
    member.poll(&mut Vec::new(), 1, Duration::ZERO).unwrap();
    for offset in offsets {
        let output = Output {
            topic: "t".into(),
            partition: Some(0),
            timestamp_ms: Some(offset),
            key: None,
            value: Some(value(offset).into()),
            headers: Vec::new(),
        };
        member.commit(Txn { outputs: vec![output], input_offsets: BTreeMap::from([(at.clone(), offset + 1)]) }).unwrap();
    }
}

fn new_log(path: &Path, sync: bool) -> EmbeddedLog {
    let log = log_with(path, sync);
    let topic = TopicDescription { name: "t".into(), partitions: 1, replication: None, settings: BTreeMap::new() };
    log.create_topics(&[topic]).unwrap();
    log
}

/// `synced`: transactions that must be there when it opens.
fn judge_log(path: &Path, case: &str, written: usize, synced: usize) -> String {
    match read(path) {
        Err(error) => {
            check_error(path, &error);
            let text = error.to_string();
            assert!(
                text.contains("restore") || text.contains("choose another") || text.contains("run the version"),
                "{case}: {text}"
            );
            "fails closed".to_owned()
        }
        Ok(content) => {
            check_prefix(&content);
            let found = content.records.len();
            assert!(found >= synced, "{case}: {found} transactions, and {synced} were on the disk");
            let whole = if found == written { "all there" } else { "the unsynced end is missing" };
            whole.to_owned()
        }
    }
}

#[test]
fn a_log_that_was_closed_loses_nothing_unseen() {
    let directory = tempfile::tempdir().unwrap();
    drop(new_log(directory.path(), false));
    for part in 0..3 {
        let log = log_with(directory.path(), false);
        commit(&log, part * 300..(part + 1) * 300, value_of);
    }
    let files = files_of(directory.path());
    assert!(files.iter().filter(|(name, _)| kind_of(name) == "*.sst").count() >= 3, "one file proves little");
    try_all("closed log", &files, |path, case| judge_log(path, case, 900, 900));
}

#[test]
fn a_log_that_syncs_each_commit_loses_nothing_unseen() {
    let directory = tempfile::tempdir().unwrap();
    let log = new_log(directory.path(), true);
    commit(&log, 0..120, value_of);
    // While it is open: what a crash leaves, the last commits in the write-ahead log only.
    let files = files_of(directory.path());
    try_all("synced log, killed", &files, |path, case| judge_log(path, case, 120, 120));
}

#[test]
fn a_log_that_was_killed_keeps_whole_transactions_from_the_first_on() {
    let directory = tempfile::tempdir().unwrap();
    drop(new_log(directory.path(), false));
    commit(&log_with(directory.path(), false), 0..100, value_of);
    let log = log_with(directory.path(), false);
    commit(&log, 100..700, value_of);
    let files = files_of(directory.path());
    try_all("log, killed", &files, |path, case| judge_log(path, case, 700, 100));
}

#[test]
fn a_flush_of_an_appender_is_kept_or_missed() {
    let directory = tempfile::tempdir().unwrap();
    let log = new_log(directory.path(), false);
    commit(&log, 0..50, value_of);
    log.appender().unwrap().flush().unwrap();
    commit(&log, 50..60, value_of);
    let files = files_of(directory.path());
    try_all("log, flushed once, killed", &files, |path, case| judge_log(path, case, 60, 50));
}

#[test]
fn a_compacted_topic_with_gaps_is_read_as_before() {
    let directory = tempfile::tempdir().unwrap();
    let settings = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    let log = log_with(directory.path(), false);
    log.create_topics(&[TopicDescription { name: "t".into(), partitions: 1, replication: None, settings }]).unwrap();
    let keyed = |n: i64| Output {
        topic: "t".into(),
        partition: Some(0),
        timestamp_ms: Some(n),
        key: Some(format!("k{}", n % 7).into()),
        value: Some("v".into()),
        headers: Vec::new(),
    };
    for n in 0..100 {
        log.appender().unwrap().append(vec![keyed(n)]).unwrap();
    }
    log.maintain(0).unwrap();
    let offsets = |log: &EmbeddedLog| -> Vec<i64> {
        let mut reader = log.reader().unwrap();
        reader.assign(&[(TopicPartition::new("t", 0), Position::Beginning)]).unwrap();
        let mut polled = Vec::new();
        reader.poll(&mut polled, 1_000, Duration::ZERO).unwrap();
        let offset = |event| if let smartrouter::io::log::Polled::Record(record) = event { Some(record.offset) } else { None };
        polled.into_iter().filter_map(offset).collect()
    };
    let before = offsets(&log);
    assert_eq!(before, (93..100).collect::<Vec<i64>>());
    drop(log);
    assert_eq!(offsets(&log_with(directory.path(), false)), before);
}

// The state store.

const SHARD: Shard = Shard { store: StoreName::Payments, partition: 3 };

fn position(offset: i64) -> ShardPosition {
    ShardPosition { log_id: "log".into(), partitions: 4, format: 1, changelog_offset: offset, last: None }
}

/// One batch each: an entry of its own, one that all write, and the position behind both.
fn put(store: &StateStore, batches: std::ops::Range<i64>) {
    for n in batches {
        let mut batch = StateBatch::default();
        batch.put(SHARD, format!("own {n:05}").as_bytes(), Some(value_of(n).as_bytes()));
        batch.put(SHARD, b"shared", Some(value_of(n).as_bytes()));
        batch.set_position(SHARD, &position(n + 1)).unwrap();
        store.write(batch).unwrap();
    }
}

/// Everything that a restart would see, or what it would be told.
fn look(state_dir: &Path) -> Result<Content, StoreError> {
    let store = StateStore::open(state_dir)?;
    let mut content = Content::default();
    let mut shared = None;
    store.scan(SHARD, b"", |key, value| {
        let (key, value) = (String::from_utf8_lossy(key).into_owned(), String::from_utf8_lossy(value).into_owned());
        match key.strip_prefix("own ") {
            Some(n) => drop(content.records.insert(n.parse().unwrap(), value)),
            None => shared = Some(value),
        }
        ControlFlow::Continue(())
    })?;
    content.committed = store.position(SHARD)?.map_or(0, |position| position.changelog_offset);
    let last = content.committed.checked_sub(1).filter(|&last| last >= 0);
    assert_eq!(shared, last.map(value_of), "the shared entry is not that of the position");
    Ok(content)
}

fn judge_store(state_dir: &Path, case: &str, written: usize) -> String {
    let directory = state_dir.join("store");
    match look(state_dir) {
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(&*directory.to_string_lossy()), "{case}: {text}");
            assert!(matches!(error, StoreError::Damaged { .. }), "{case}: the wrong remedy: {text}");
            "fails closed".to_owned()
        }
        Ok(content) => {
            check_prefix(&content);
            let whole = match content.records.len() {
                0 => "empty: rebuilt",
                found if found == written => "all there",
                _ => "older: rolled forward",
            };
            whole.to_owned()
        }
    }
}

#[test]
fn a_store_is_whole_older_or_refused() {
    for killed in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        for part in 0..3 {
            put(&StateStore::open(directory.path()).unwrap(), part * 100..(part + 1) * 100);
        }
        let store = StateStore::open(directory.path()).unwrap();
        put(&store, 300..400);
        let open = killed.then_some(store);
        let files = files_of(&directory.path().join("store"));
        let title = if killed { "store, killed" } else { "store, closed" };
        try_all(title, &files, |path, case| {
            // The damaged files lie in the directory itself: the store wants them one below.
            let state_dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(state_dir.path().join("store")).unwrap();
            write(&state_dir.path().join("store"), &files_of(path));
            judge_store(state_dir.path(), case, 400)
        });
        drop(open);
    }
}
