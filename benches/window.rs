//! What the stats task does for each delta: count it, judge the segments, publish what changed.

mod measure;

use criterion::{Criterion, criterion_group, criterion_main};
use measure::bench;
use measure::workload::{BusyPsp, BusySegment, approvals, with_a_failure};

fn windows(criterion: &mut Criterion) {
    let mut busy = BusySegment::of(approvals);
    bench(criterion, "window/add_to_open_tile", || busy.add_to_open_tile());
    let mut busy = BusySegment::of(approvals);
    bench(criterion, "window/add_to_next_tile", || busy.add_to_next_tile());
    let mut busy = BusySegment::of(with_a_failure);
    bench(criterion, "window/add_with_a_failure", || busy.add_to_next_tile());
    bench(criterion, "window/publish", || busy.windows.published());
}

fn psps(criterion: &mut Criterion) {
    let mut busy = BusyPsp::of(with_a_failure);
    bench(criterion, "psp/merge_into_open_tile", || busy.merge_into_open_tile());
    let mut busy = BusyPsp::of(with_a_failure);
    bench(criterion, "psp/merge_into_next_tile", || busy.merge_into_next_tile());
}

criterion_group!(benches, windows, psps);
criterion_main!(benches);
