//! What the features of one request cost: payment and history looked up, a row encoded for each of four PSPs.

mod measure;

use criterion::{Criterion, criterion_group, criterion_main};
use measure::bench;
use measure::workload::Encoding;

fn features(criterion: &mut Criterion) {
    let mut encoding = Encoding::new();
    bench(criterion, "features/four_candidates", || encoding.run());
}

criterion_group!(benches, features);
criterion_main!(benches);
