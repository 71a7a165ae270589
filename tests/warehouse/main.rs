//! The local warehouse from outside: killed at every step, and what analysts find in it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "test code: a panic is the failure report")]

mod analysts;
mod kill;
mod world;
