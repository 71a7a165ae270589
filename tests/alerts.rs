//! Alerts through a real Kafka to doubles of their vendors, with the router killed on the way (`tests/interop/telling.py`). Alone in its
//! binary: what tells people is timed by the wall.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failing step fails the test; a skipped one says so")]

#[path = "interop/cases.rs"]
mod cases;

cases::cases! { check:
    each_psp_in_turn
    answers_that_are_lost
    another_instance_takes_over
}

fn check(name: &str) {
    cases::run(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/telling.py"), env!("CARGO_BIN_EXE_smartrouter"), name, &[]);
}
