//! The sync, killed at every step of a flush and of a merge, seeded: for each table and partition no gap and no double, whenever one looks.

use crate::world::{Program, open, python, stages, traffic};
use parquet::file::reader::SerializedFileReader;
use parquet::record::RowAccessor;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const STEPS: [&str; 6] = [
    "warehouse-written",
    "warehouse-synced",
    "warehouse-renamed",
    "warehouse-committed",
    "warehouse-merged",
    "warehouse-exchanged",
];
pub(crate) const SEED: &str = "SMARTROUTER_TORTURE_SEED";
const ROUNDS: u64 = 24;
pub(crate) const SIGKILL: i32 = 9;
const SMALL: [(&str, &str); 3] = [
    ("SMARTROUTER__WAREHOUSE__ROWS_MAX", "40"),
    ("SMARTROUTER__WAREHOUSE__FILES_MAX", "4"),
    // So that some are small and some are not.
    ("SMARTROUTER__WAREHOUSE__SMALL_BYTES", "16000"),
];

/// (offset, offset of the row before) of all rows, by table, topic and partition; as anyone reads the files.
pub(crate) type Rows = BTreeMap<(String, String, i32), Vec<(i64, Option<i64>)>>;

fn rows(warehouse: &Path) -> Rows {
    let mut rows = Rows::new();
    let entries =
        |path: &Path| std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    for table in entries(warehouse).into_iter().filter(|path| path.is_dir() && !path.ends_with(".work")) {
        let name = table.file_name().unwrap().to_string_lossy().into_owned();
        for day in entries(&table).into_iter().filter(|day| day.to_string_lossy().contains("day=")) {
            for file in entries(&day) {
                for row in SerializedFileReader::new(File::open(&file).unwrap()).unwrap() {
                    let row = row.unwrap();
                    let key = (name.clone(), row.get_string(0).unwrap().clone(), row.get_int(1).unwrap());
                    rows.entry(key).or_default().push((row.get_long(2).unwrap(), row.get_long(3).ok()));
                }
            }
        }
    }
    for rows in rows.values_mut() {
        rows.sort_unstable();
    }
    rows
}

/// Every row follows the one before it.
pub(crate) fn chained(rows: &Rows, when: &str) {
    for (at, rows) in rows {
        for (index, (offset, before)) in rows.iter().enumerate() {
            let expected = index.checked_sub(1).map(|before| rows[before].0);
            assert_eq!(*before, expected, "{when}: {at:?}: the row at {offset} follows another one");
        }
    }
}

/// The log is dense, and its topics were begun at their beginning.
pub(crate) fn dense(rows: &Rows, when: &str) {
    for (at, rows) in rows {
        assert!(rows.iter().enumerate().all(|(index, (offset, _))| *offset == index as i64), "{when}: {at:?}: a gap or a double");
    }
}

fn check(rows: &Rows, when: &str) {
    chained(rows, when);
    dense(rows, when);
}

/// From the environment, or of this moment; and numbers that follow from it, each below what is given.
pub(crate) fn seed() -> (u64, impl FnMut(u64) -> u64) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 1_000_000;
    let seed: u64 = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(now);
    println!("{SEED}={seed}");
    let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let draw = move |below: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % below
    };
    (seed, draw)
}

fn count(rows: &Rows) -> usize {
    rows.values().map(Vec::len).sum()
}

#[test]
fn killed_at_every_step_no_row_is_missing_or_twice() {
    let (seed, mut draw) = seed();
    let dir = tempfile::tempdir().unwrap();
    let (program, warehouse) = (Program::new(dir.path()), dir.path().join("warehouse"));
    stages(&open(dir.path()));
    let (mut written, mut before, mut killed) = (0, 0, BTreeMap::<&str, usize>::new());
    for round in 0..ROUNDS {
        let more = 20 + draw(60);
        traffic(&open(dir.path()), written..written + more);
        written += more;
        let step = STEPS[round as usize % STEPS.len()];
        let delay = if draw(3) == 0 { format!(":{}", draw(3_000)) } else { String::new() };
        // A session merges a few times at most.
        let passings = if ["warehouse-merged", "warehouse-exchanged"].contains(&step) { 1 } else { 6 };
        let failpoint = format!("{step}={}{delay}", 1 + draw(passings));
        let mut env = SMALL.to_vec();
        env.push(("SMARTROUTER_FAILPOINT", &failpoint));
        let done = program.run(&["sync", "--once"], &env);
        let when = format!("seed {seed}, round {round}, {failpoint}");
        let was_killed = done.status.signal() == Some(SIGKILL);
        assert!(was_killed || done.status.success(), "{when}: {}", String::from_utf8_lossy(&done.stderr));
        *killed.entry(step).or_default() += usize::from(was_killed);
        let found = rows(&warehouse);
        check(&found, &when);
        assert!(count(&found) >= before, "{when}: rows went");
        before = count(&found);
    }
    println!("killed: {killed:?}");
    assert!(STEPS.iter().all(|step| killed.get(step).is_some_and(|times| *times > 0)), "{killed:?}");
    let done = program.run(&["sync", "--once"], &SMALL);
    assert!(done.status.success());
    let found = rows(&warehouse);
    check(&found, "at the end");
    let of = |table: &str| found.iter().filter(|((name, _, _), _)| name == table).map(|(_, rows)| rows.len() as u64).sum::<u64>();
    assert_eq!((of("ATHIA_DECISIONS"), of("ATHIA_PREDICTIONS"), of("ML_MODEL_STAGES")), (written, 2 * written, 3));
    assert!(of("ATHIA_FEEDBACK") > written);
    let Some(python) = python() else { return };
    // Three more files of each partition at least, that nobody merges.
    for _ in 0..3 {
        traffic(&open(dir.path()), written..written + 80);
        written += 80;
        program.ok(&["sync", "--once"]);
    }
    let program = Program {
        env: [program.env.clone(), vec![("SMARTROUTER__WAREHOUSE__QUERY_PROGRAMS", format!("[{python:?}]"))]].concat(),
        ..program
    };
    let told: serde_json::Value = serde_json::from_str(&program.ok(&["--output", "json", "warehouse", "check"])).unwrap();
    for row in told.as_array().unwrap() {
        assert!(row["gaps"] == 0 && row["doubles"] == 0 && row["lag"] == 0, "{row}");
    }
    // A file that is missing, and one that is there twice, are found.
    let middle = middle_file(&warehouse);
    let copy = middle.with_file_name("copy.parquet");
    std::fs::copy(&middle, &copy).unwrap();
    let found = |code: i32| {
        let done = program.run(&["warehouse", "check"], &[]);
        assert_eq!(done.status.code(), Some(code), "{}", String::from_utf8_lossy(&done.stdout));
    };
    found(3);
    std::fs::remove_file(copy).unwrap();
    found(0);
    std::fs::remove_file(middle).unwrap();
    found(3);
}

/// A file with others of its partition before and behind it.
fn middle_file(warehouse: &Path) -> PathBuf {
    for table in ["ATHIA_FEEDBACK", "ATHIA_PREDICTIONS", "ATHIA_DECISIONS"] {
        let days = std::fs::read_dir(warehouse.join(table)).unwrap().map(|day| day.unwrap().path());
        let mut files: Vec<PathBuf> =
            days.flat_map(|day| std::fs::read_dir(day).unwrap()).map(|file| file.unwrap().path()).collect();
        files.sort_by_key(|file| file.file_name().map(ToOwned::to_owned));
        let partition = |file: &Path| file.file_name().unwrap().to_string_lossy().split('-').take(2).collect::<String>();
        let found = files.windows(3).find(|files| files.iter().all(|file| partition(file) == partition(&files[0])));
        if let Some([_, middle, _]) = found {
            return middle.clone();
        }
    }
    panic!("no partition has three files");
}
