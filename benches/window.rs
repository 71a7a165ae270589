//! What the stats task does for each delta: count it, judge the segments, publish what changed.

mod measure;

use criterion::{Criterion, criterion_group, criterion_main};
use measure::bench;
use measure::workload::{BusyPsp, BusySegment, ManyPsps, approvals, with_a_failure};

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

/// Design: 400 PSPs with 50 segments cost no more than a tenth more an event than 4 with 5.
#[allow(clippy::print_stdout, reason = "stdout is where a bench reports")]
fn many(criterion: &mut Criterion) {
    for (psps, segments) in [(4, 5), (400, 50)] {
        let before = resident_mib();
        let mut many = ManyPsps::of(psps, segments);
        println!(
            "psp/payment_at_{psps}_psps_of_{segments}_segments: {:.0} MiB resident more than before",
            resident_mib() - before
        );
        bench(criterion, &format!("psp/payment_at_{psps}_psps_of_{segments}_segments"), || many.next_payment());
    }
}

/// 0 where the operating system does not tell.
fn resident_mib() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or_default() * 4096.0 / 1_048_576.0
}

criterion_group!(benches, windows, psps, many);
criterion_main!(benches);
