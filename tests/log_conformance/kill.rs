//! A process that is killed in the middle of its work (`kill -9`), again and again: every transaction is whole, and all that
//! were acknowledged are there.

use crate::embedded::open;
use crate::reading::{at, describe, drawn, read_from, record, text, txn, values};
use rand::{Rng, SeedableRng};
use smartrouter::io::log::{EventLog, Position};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Tells this test binary that it is the process to be killed, and where its log is.
const CHILD: &str = "SMARTROUTER_TEST_KILL_LOG";
/// Fixes the moments of the kills.
const SEED: &str = "SMARTROUTER_TEST_SEED";
const ACKNOWLEDGED: &str = "acknowledged ";
const ROUNDS: usize = 12;

/// Not a test by itself: the process that is killed. Number n goes to both outputs and to the table in the transaction that
/// commits offset n + 1 of the input.
#[test]
fn process_to_be_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let log = open(Path::new(&path));
    let compacted = [("cleanup.policy", "compact")];
    let topics =
        [describe("input", 1, &[]), describe("left", 1, &[]), describe("right", 1, &[]), describe("table", 1, &compacted)];
    log.create_topics(&topics).expect("create");
    let input = at("input", 0);
    let mut member = log.member("group", "a", &["input".into()]).expect("join");
    member.poll(&mut Vec::new(), 1, Duration::ZERO).expect("poll");
    let begin = member.committed(std::slice::from_ref(&input)).expect("committed")[&input].unwrap_or(0);
    let filler = "x".repeat(300);
    let mut stdout = std::io::stdout();
    for n in begin.. {
        let value = format!("{n} {filler}");
        let mut row = record("table", 0, &value);
        row.key = Some(format!("key {}", n % 50).into());
        let outputs = vec![record("left", 0, &value), row, record("right", 0, &value)];
        member.commit(txn(outputs, &[(&input, n + 1)])).expect("commit");
        if n % 500 == 499 {
            log.maintain(0).expect("maintain");
        }
        // To the pipe itself: what the parent reads was committed before it was said.
        writeln!(stdout, "{ACKNOWLEDGED}{n}").expect("the parent listens");
    }
}

/// Starts the process, kills it after `lines` acknowledgements and `spins` more moments; the last number it acknowledged.
fn run_and_kill(path: &Path, lines: usize, spins: u64) -> i64 {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["kill::process_to_be_killed", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the process");
    let said = BufReader::new(child.stdout.take().expect("its output"));
    let mut acknowledged = said.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix(ACKNOWLEDGED)?.parse().ok());
    let mut last = acknowledged.by_ref().take(lines).last().expect("the process works");
    (0..spins).for_each(|_| std::thread::yield_now());
    child.kill().expect("kill");
    // What it had said by the time it died counts too.
    last = acknowledged.last().unwrap_or(last);
    child.wait().expect("it is dead");
    last
}

#[test]
fn a_killed_process_leaves_whole_transactions() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(drawn);
    println!("{SEED}={seed}");
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let directory = TempDir::new().expect("a directory");
    for round in 0..ROUNDS {
        let acknowledged = run_and_kill(directory.path(), random.random_range(1..1_500), random.random_range(0..2_000));
        let log = open(directory.path());
        let of = at("input", 0);
        let committed = log.group_offsets("group", std::slice::from_ref(&of)).expect("offsets")[&of].expect("committed");
        assert!(committed > acknowledged, "round {round}: {acknowledged} was acknowledged, and the offset is {committed}");
        for topic in ["left", "right"] {
            let records = read_from(&log, &at(topic, 0), Position::Beginning);
            let first_words: Vec<_> = values(&records).iter().map(|value| value.split(' ').next().unwrap().to_owned()).collect();
            let expected: Vec<_> = (0..committed).map(|n| n.to_string()).collect();
            assert!(first_words == expected, "round {round}: {topic} has {} records for offset {committed}", records.len());
        }
        check_table(&log, committed);
    }
}

/// Whatever compaction was doing, each key's newest record is there.
fn check_table(log: &dyn EventLog, committed: i64) {
    let mut newest = std::collections::BTreeMap::new();
    for record in read_from(log, &at("table", 0), Position::Beginning) {
        newest.insert(text(record.key.as_ref()), record.offset);
    }
    let expected = (0..committed).map(|n| (format!("key {}", n % 50), n)).collect();
    assert_eq!(newest, expected);
}
