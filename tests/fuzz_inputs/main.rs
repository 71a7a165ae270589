//! The fuzz targets of `tests/fuzz` without libFuzzer: over their corpus, and over seeded mutations of good inputs.
//!
//! `FUZZ_SEED=n` repeats a run, `FUZZ_RECORDS=n` sets how many records are tried (`make fuzz` tries a million).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "test code: a panic is the failure report, and a seeded run says its seed"
)]

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use fuzz::draw::Draw;
use fuzz::{codec, configuration, datum, mapping, recovery, rules};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smartrouter::io::codec::RecordKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

type Target = fn(&[u8]);

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn seed() -> u64 {
    let seed = number("FUZZ_SEED", 20_261_124);
    eprintln!("FUZZ_SEED={seed}");
    seed
}

/// A few changes as a hostile or broken sender would make them: flipped, cut, repeated, spliced with another input.
fn mutated(rng: &mut ChaCha8Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.random()),
            2 => {
                let end = (at + rng.random_range(1..9)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 if !other.is_empty() => {
                let from = rng.random_range(0..other.len());
                let part = &other[from..(from + rng.random_range(1..40)).min(other.len())];
                bytes.splice(at..at, part.iter().copied());
            }
            4 if at < bytes.len() => bytes[at] = *[0, 0xff, 0x7f, 0x80, b'"', b'\n'].get(rng.random_range(0..6)).unwrap(),
            _ if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            _ => {}
        }
    }
    bytes
}

/// The corpus as it is, then `count` mutations of it. A failure says the input.
fn run(name: &str, target: Target, count: u64) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no corpus of {name}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    for input in &corpus {
        tried(target, input);
    }
    for _ in 0..count {
        let (input, other) = (&corpus[rng.random_range(0..corpus.len())], &corpus[rng.random_range(0..corpus.len())]);
        tried(target, &mutated(&mut rng, input, other));
    }
}

fn tried(target: Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("input of {} bytes: {:?}\n{:02x?}", input.len(), String::from_utf8_lossy(input), input);
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn records_of_every_schema() {
    let count = number("FUZZ_RECORDS", 200_000);
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let kinds: Vec<RecordKind> = RecordKind::all().collect();
    let (mut decoded, mut valid, mut other) = (0, 0, Vec::new());
    let mut choices = vec![0; 600];
    for n in 0..count {
        rng.fill_bytes(&mut choices);
        let mut record = datum::framed(kinds[n as usize % kinds.len()], &mut Draw::new(&choices));
        let is_damaged = rng.random_ratio(1, 2);
        if is_damaged {
            record = mutated(&mut rng, &record, &other);
        }
        let read = catch_unwind(AssertUnwindSafe(|| codec::read(&record)));
        let read = read.unwrap_or_else(|panic| {
            eprintln!("record {n}: {record:02x?}");
            std::panic::resume_unwind(panic)
        });
        assert!(read.decoded || is_damaged, "record {n} was not read: {record:02x?}");
        (decoded, valid) = (decoded + u64::from(read.decoded), valid + u64::from(read.valid));
        other = record;
    }
    eprintln!("{count} records: {decoded} read, {valid} valid inputs, the rest refused");
    // Else it would be noise that is tested.
    assert!(decoded > count / 2 && valid > count / 100, "{decoded} read, {valid} valid of {count}");
}

#[test]
fn records_from_the_corpus() {
    run("codec", codec::run, 2_000);
}

#[test]
fn mappings_with_files() {
    run("mapping", mapping::run, 5_000);
}

#[test]
fn configurations() {
    run("configuration", configuration::run, 400);
}

#[test]
fn rules_with_requests() {
    run("rules", rules::run, 1_000);
}

#[test]
fn logs_with_damaged_files() {
    run("recovery", recovery::run, 60);
}
