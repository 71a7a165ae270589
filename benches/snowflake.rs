//! What rows cost the sync on their way into Snowflake: `sync --once` as a process of its own, on an embedded log, into the double that the
//! tests use. The double computes in this process, so that only the program's CPU counts.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what cannot be set up is to stop, and stdout is where a bench reports"
)]

#[path = "../tests/warehouse/double/mod.rs"]
mod double;
#[allow(dead_code, reason = "shared with the tests of the warehouse")]
#[path = "../tests/warehouse/world.rs"]
mod world;

use double::Double;
use std::time::Instant;

/// Each of them some five rows.
const PAYMENTS: u64 = 40_000;
const PAYMENTS_AT_ONCE: u64 = 1_000;
const RUNS: usize = 3;
/// Rows per CPU-second that are wanted.
const GOAL: f64 = 5_000.0;
/// Ticks of a second in `/proc/self/stat`.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    let mut rates: Vec<[f64; 2]> = (0..RUNS).map(|run| synced(run as u64)).collect();
    rates.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let ([least, _], [median, by_the_clock], [most, _]) = (rates[0], rates[RUNS / 2], rates[RUNS - 1]);
    println!(
        "snowflake/sync: {median:.0} rows per CPU-second ({least:.0} to {most:.0}), goal {GOAL:.0}: {}; {by_the_clock:.0} rows/s",
        if median >= GOAL { "met" } else { "missed" }
    );
}

/// Rows per CPU-second of the program and per second.
fn synced(seed: u64) -> [f64; 2] {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(seed);
    let program = world::Program { env: double.env(), ..world::Program::new(dir.path()) };
    let log = world::open(dir.path());
    (0..PAYMENTS).step_by(PAYMENTS_AT_ONCE as usize).for_each(|from| world::traffic(&log, from..from + PAYMENTS_AT_ONCE));
    drop(log);
    let (begun, cpu_s) = (Instant::now(), ended_children_cpu_s());
    program.ok(&["sync", "--once"]);
    let (took_s, cpu_s) = (begun.elapsed().as_secs_f64(), ended_children_cpu_s() - cpu_s);
    let rows = double.with(|double| double.channels.count()) as f64;
    assert!(rows >= 4.0 * PAYMENTS as f64, "{rows} rows of {PAYMENTS} payments");
    [rows / cpu_s, rows / took_s]
}

/// User and system time of the children that were waited for.
fn ended_children_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, in brackets, may hold spaces; the two are the 14th and 15th field behind it.
    let behind = stat.rsplit_once(") ").unwrap().1;
    behind.split(' ').skip(13).take(2).map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / TICKS_PER_SECOND
}
