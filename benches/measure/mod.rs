//! How a micro bench measures: time by criterion, allocations by counting.
//!
//! Owns the printed line of allocations. Knows nothing of what is measured (`workload` has that).

pub(crate) mod allocations;
pub(crate) mod workload;

use criterion::Criterion;
use std::hint::black_box;

/// Calls that allocations are counted over.
const EVENTS: u32 = 1_000;

/// Prints the allocations of one event, then measures its time.
#[allow(clippy::print_stdout, reason = "stdout is where a bench reports")]
pub(crate) fn bench<T>(criterion: &mut Criterion, name: &str, mut event: impl FnMut() -> T) {
    let count = allocations::per_event(EVENTS, || drop(black_box(event())));
    println!("{name}: {} allocations per event", (count * 100.0).round() / 100.0);
    criterion.bench_function(name, |bencher| bencher.iter(&mut event));
}
