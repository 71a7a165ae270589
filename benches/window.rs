//! What the stats task does for each delta: count it, judge the segments, drain what changed.

use criterion::{Criterion, criterion_group, criterion_main};
use smartrouter::domain::learning::Tally;
use smartrouter::engine::codes::Verdict;
use smartrouter::engine::window::{SegmentWindows, TILE_MS};
use std::hint::black_box;

const START: i64 = 1_546_300_800_000;

/// A full day of windows: every tile holds results.
fn full_day() -> SegmentWindows {
    let mut windows = SegmentWindows::new(START);
    for tile in 0..8_640 {
        windows.add(START + tile * TILE_MS, &tally(tile));
    }
    windows
}

/// Ten results, as 100 ms of a busy segment.
fn tally(seed: i64) -> Tally {
    let mut tally = Tally::default();
    (0..10).for_each(|result| tally.count(Verdict::Approved, Some(100 + (seed * 37 + result * 91) % 3_000), 1_000, None));
    tally
}

fn windows(criterion: &mut Criterion) {
    let tallies: Vec<Tally> = (0..64).map(tally).collect();
    let mut group = criterion.benchmark_group("window");
    let (mut windows, mut count) = (full_day(), 0_i64);
    group.bench_function("add_to_open_tile", |bencher| {
        bencher.iter(|| {
            count += 1;
            windows.add(windows.now(), &tallies[count as usize % tallies.len()])
        });
    });
    let mut windows = full_day();
    group.bench_function("add_to_next_tile", |bencher| {
        bencher.iter(|| {
            count += 1;
            windows.add(windows.now() + TILE_MS, &tallies[count as usize % tallies.len()])
        });
    });
    let windows = full_day();
    group.bench_function("publish", |bencher| bencher.iter(|| black_box(&windows).published()));
    group.finish();
}

criterion_group!(benches, windows);
criterion_main!(benches);
