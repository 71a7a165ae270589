//! Exactly once under fire: the short form of `tests/torture/torture.py` (`make torture` is the long one), and kills of the embedded log.
//!
//! A test here is one case with a seed of the moment; a failure prints both, and `SMARTROUTER_TORTURE_SEED` repeats it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failing step fails the test; a skipped one says so")]

#[path = "interop/cases.rs"]
mod cases;
#[path = "torture/embedded.rs"]
mod embedded;

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

cases::cases! { run:
    kill_at_every_failpoint
    kill_at_random_moments
    mutant_offsets_before_outputs
    mutant_outputs_not_in_transaction
    mutant_restore_skips_a_record
    mutant_timeout_counted_twice
    mutant_delta_lost
    mutant_changelog_record_left_out
    resting_task
    disk_sst_torn
    disk_sst_flipped
    disk_wal_truncated
    disk_manifest_truncated
    disk_changelog_cut
    disk_changelog_made_anew
    disk_state_of_another_system
    disk_full
    network_in_short
    zombies_asleep_in_a_commit_in_short
    hanging_transaction
    zombies_coming_and_going_in_short
}

fn seed() -> String {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 1_000_000;
    std::env::var("SMARTROUTER_TORTURE_SEED").unwrap_or_else(|_| now().to_string())
}

/// The broker tells the clients of its second listener one address: one proxy at a time can stand there.
static PROXY: Mutex<()> = Mutex::new(());

fn run(name: &str) {
    let stands_behind_proxy = name.starts_with("network") || name.starts_with("zombies");
    let _alone = stands_behind_proxy.then(|| PROXY.lock().unwrap_or_else(PoisonError::into_inner));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture/torture.py");
    cases::run(script, env!("CARGO_BIN_EXE_smartrouter"), name, &["--seed", &seed()]);
}
