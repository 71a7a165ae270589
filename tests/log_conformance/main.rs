//! The promises of the event-log port (`smartrouter::io::log`), held by both adapters.
//!
//! `suite` has the cases, written once over the port; `embedded` and `kafka` instantiate them. Beside it, for the embedded log:
//! what only it promises (`embedded`), a process killed in the middle of its work (`kill`), and random work against a model
//! that is too simple to be wrong (`model`).
//!
//! The Kafka cases run where `SMARTROUTER_TEST_KAFKA=host:port` names a broker (`make test` starts one). Without it they say so
//! and pass, unless `SMARTROUTER_REQUIRE_KAFKA=1`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "test code: a panic is the failure report, and a skipped or seeded run has to say so"
)]

mod suite;
mod reading;
mod embedded;
mod kafka;
mod kill;
mod model;
