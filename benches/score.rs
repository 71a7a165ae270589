//! What the net of the design costs, 140-256-128-64-1: scoring of 4 and of 32 candidates, and rows trained in a second.

mod measure;

use criterion::{Criterion, criterion_group, criterion_main};
use measure::bench;
use measure::workload::net_table;
use smartrouter::learn::{self, Scorer};
use std::time::Instant;

const ROWS: usize = 20_480;

#[allow(clippy::print_stdout, reason = "stdout is where a bench reports")]
#[allow(clippy::expect_used, reason = "what cannot be set up is to stop")]
fn net(criterion: &mut Criterion) {
    let table = net_table(ROWS);
    let start = Instant::now();
    let model = learn::bare_net(&table, 2).expect("the net is trained");
    println!("net/train: {:.0} rows a second", 2.0 * ROWS as f64 / start.elapsed().as_secs_f64());
    let mut said = Vec::new();
    for rows in [4, 32] {
        let values = &table.values[..rows * table.columns.len()];
        bench(criterion, &format!("net/score_{rows}"), || {
            said.clear();
            model.score(values, &mut said);
            said[0]
        });
    }
}

criterion_group!(benches, net);
criterion_main!(benches);
