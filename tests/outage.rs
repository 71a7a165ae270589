//! An outage through a real Kafka, from the first failure to the decisions that avoid it. Alone in its binary: payments are simulated in real
//! time, and tests beside it would make them late.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failing step fails the test; a skipped one says so")]

#[path = "interop/cases.rs"]
mod cases;

cases::cases! { check:
    simulated_outage
}

fn check(name: &str) {
    cases::run(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/spine.py"), env!("CARGO_BIN_EXE_smartrouter"), name, &[]);
}
