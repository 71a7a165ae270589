//! Both warehouses from outside: the sync killed at every step, and what analysts find in the local one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "test code: a panic is the failure report"
)]

mod analysts;
#[path = "../interop/cases.rs"]
mod cases;
mod double;
mod kill;
mod snowflake;
mod world;

cases::cases! { on_kafka:
    rows_of_a_router_that_is_killed
    one_directory_has_one_writer
    a_full_disk_stops_rows_and_nothing_else
    january_becomes_stages_and_sessions
}

fn on_kafka(name: &str) {
    cases::run(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/rows.py"), env!("CARGO_BIN_EXE_smartrouter"), name, &[]);
}
