//! What one decision costs, with the shipped example and four PSPs in every segment of the payment.

mod measure;

use criterion::{Criterion, criterion_group, criterion_main};
use measure::bench;
use measure::workload::Decision;

fn decisions(criterion: &mut Criterion) {
    for (name, brand) in [("decide/ranked", "VISA"), ("decide/hard_rule", "AMEX")] {
        let decision = Decision::about(brand);
        bench(criterion, name, || decision.make());
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
