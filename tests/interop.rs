//! The router on a real Kafka, driven by clients that we did not write (`tests/interop/spine.py`).

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failing step fails the test; a skipped one says so")]

#[path = "interop/cases.rs"]
mod cases;

cases::cases! { check:
    stop_and_start
    killed_while_working
    killed_and_replaced
    dead_letters_and_redrive
    wrong_use
    history_both_ways
    broker_of_another_shape
    orders_of_operators
    models_are_promoted_and_rolled_back
    models_swap_in_two_instances
}

fn check(name: &str) {
    cases::run(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/spine.py"), env!("CARGO_BIN_EXE_smartrouter"), name, &[]);
}
