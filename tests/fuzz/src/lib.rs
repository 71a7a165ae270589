//! What is fuzzed: one function per door through which bytes of others come in. Each takes any bytes and panics when a promise breaks.
//!
//! Run by libFuzzer (`fuzz_targets/`, `scripts/fuzz.sh`), and without it by `cargo test --test fuzz_inputs`, which includes this file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is what a fuzzer finds")]

pub mod draw;
pub mod datum;
pub mod codec;
pub mod mapping;
pub mod configuration;
pub mod rules;
pub mod recovery;

/// A line of its own between the parts of an input that has several.
pub const PART: &[u8] = b"\n---\n";

/// What lies before and behind the first `PART`; the second is empty without one.
pub fn parts(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.windows(PART.len()).position(|window| window == PART);
    at.map_or((data, &[][..]), |at| (&data[..at], &data[at + PART.len()..]))
}
