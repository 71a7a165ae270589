//! The hot path in instructions, counted by callgrind: unlike time they are the same on a busy machine and on an idle one.
//!
//! The figures of `benches/instructions.toml` are of the dev profile on x86-64, which is what tests are built with. A count outside the band
//! around its figure fails, on either side: what has become cheaper is written down, so that it stays so.
//! To count, this program runs itself under valgrind, as the one test that does the work, and twice with different numbers of events, so
//! that all that is not an event cancels out.

// Outside test functions too, a test may give up at once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step fails the test")]

#[path = "../benches/measure/workload.rs"]
mod workload;

use mimalloc::MiMalloc;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;
use workload::{BusyPsp, Decision, PaymentPath, as_usual};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How many events `payment`, `delta` and `decision` are to work through; one, unless they are counted.
const EVENTS: &str = "SMARTROUTER_TEST_EVENTS";
const COUNTED_EVENTS: [u64; 2] = [100, 500];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// How far a count may be from its figure, as a share of it.
    band: f64,
    instructions_per_event: BTreeMap<String, u64>,
}

fn events() -> i64 {
    std::env::var(EVENTS).map_or(1, |events| events.parse().unwrap())
}

#[test]
fn payment() {
    let mut path = PaymentPath::new();
    (0..events()).for_each(|_| path.run());
    assert!(path.counted() > events(), "{} results in all segments", path.counted());
}

/// What a commit of a payment task sends of one PSP: ten results in each of the segments of a payment, counted, tested and judged.
#[test]
fn delta() {
    let mut psp = BusyPsp::of(as_usual);
    let transitions: usize = (0..events()).map(|_| black_box(psp.merge_into_open_tile()).transitions.len()).sum();
    assert_eq!(transitions, 0, "a PSP that is well");
}

#[test]
fn decision() {
    let decision = Decision::about("VISA");
    for _ in 0..events() {
        assert!(!black_box(decision.make()).decision.ranked.is_empty());
    }
}

#[test]
fn instructions_per_event_stay_within_the_band() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: no valgrind; `apt-get install valgrind`, or your system's package of that name");
        return;
    }
    if !cfg!(all(target_arch = "x86_64", debug_assertions)) {
        println!("skipped: the figures are of the dev profile on x86-64");
        return;
    }
    let stored: Stored = toml::from_str(include_str!("../benches/instructions.toml")).unwrap();
    let mut outside = Vec::new();
    for (name, figure) in stored.instructions_per_event {
        let [few, many] = COUNTED_EVENTS.map(|events| instructions(&name, events));
        let count = (many - few) / (COUNTED_EVENTS[1] - COUNTED_EVENTS[0]);
        let ratio = count as f64 / figure as f64;
        println!("{name} = {count} ({:+.1} %)", (ratio - 1.0) * 100.0);
        if (ratio - 1.0).abs() > stored.band {
            outside.push(format!("{name}: {count} instructions per event, {ratio:.2} times the stored {figure}"));
        }
    }
    assert!(outside.is_empty(), "{}\nOn purpose? Then put the new figure into benches/instructions.toml", outside.join("\n"));
}

/// What the whole process takes to do the work of this test.
fn instructions(test: &str, events: u64) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe().unwrap());
    let done = valgrind.args(["--exact", test, "--test-threads=1"]).env(EVENTS, events.to_string()).output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{test} under valgrind: {told}{}", String::from_utf8_lossy(&done.stdout));
    let collected = told.lines().find_map(|line| line.split_once("Collected :")).unwrap_or_else(|| panic!("no count in {told}"));
    collected.1.trim().parse().unwrap()
}
