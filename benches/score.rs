//! What the net of the design costs, 140-256-128-64-1: scoring of 4 and of 32 candidates, and rows trained in a second.

mod measure;

use criterion::{Criterion, criterion_group, criterion_main};
use measure::bench;
use measure::workload::net_table;
use smartrouter::learn::{self, Scorer};
use std::time::Instant;

const ROWS: usize = 20_480;
const EPOCHS: usize = 2;
const TRAININGS: usize = 5;

#[allow(clippy::print_stdout, reason = "stdout is where a bench reports")]
#[allow(clippy::expect_used, reason = "what cannot be set up is to stop")]
fn net(criterion: &mut Criterion) {
    let table = net_table(ROWS);
    let mut rates = [0.0; TRAININGS];
    for rate in &mut rates {
        let start = Instant::now();
        learn::bare_net(&table, EPOCHS).expect("the net is trained");
        *rate = (EPOCHS * ROWS) as f64 / start.elapsed().as_secs_f64();
    }
    rates.sort_by(f64::total_cmp);
    println!("net/train: {:.0} rows a second ({:.0} to {:.0})", rates[TRAININGS / 2], rates[0], rates[TRAININGS - 1]);
    let model = learn::bare_net(&table, EPOCHS).expect("the net is trained");
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
