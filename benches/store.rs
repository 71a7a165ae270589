//! The state store: what a look-up, a commit's batch and a sweep cost. Allocations are those of our code; RocksDB's own are in C++.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up is to stop")]

mod measure;

use criterion::{Criterion, criterion_group, criterion_main};
use measure::bench;
use smartrouter::io::store::{Shard, StateBatch, StateStore, StoreName};
use std::ops::ControlFlow;

/// Entries on disk, and as many again in memory.
const ENTRIES: usize = 100_000;
const BATCH: usize = 1_000;
const SCAN: usize = 500;
/// As long as a payment's entry after its outcome.
const VALUE: [u8; 120] = [7; 120];

const PAYMENTS: Shard = Shard { store: StoreName::Payments, partition: 3 };

/// Ids come in no order of time, like those of payments.
fn id(number: usize) -> String {
    format!("{:016x}-{number}", (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn write(store: &StateStore, ids: &[String]) {
    let mut batch = StateBatch::default();
    for id in ids {
        batch.put(PAYMENTS, id.as_bytes(), Some(&VALUE));
    }
    store.write(batch).unwrap();
}

fn operations(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..3 * ENTRIES).map(id).collect();
    let (on_disk, others) = ids.split_at(ENTRIES);
    let (in_memory, unknown) = others.split_at(ENTRIES);
    let mut store = StateStore::open(dir.path()).unwrap();
    on_disk.chunks(BATCH).for_each(|ids| write(&store, ids));
    // What is found in the write-ahead log on opening goes to a table on disk.
    drop(store);
    store = StateStore::open(dir.path()).unwrap();
    in_memory.chunks(BATCH).for_each(|ids| write(&store, ids));

    let mut turn = 0;
    let mut next = || {
        turn += 1;
        turn % ENTRIES
    };
    let get = |ids: &[String], at: usize| store.get(PAYMENTS, ids[at].as_bytes(), <[u8]>::len).unwrap();
    bench(criterion, "store/get_in_memory", || get(in_memory, next()).unwrap());
    bench(criterion, "store/get_on_disk", || get(on_disk, next()).unwrap());
    bench(criterion, "store/get_unknown", || assert_eq!(get(unknown, next()), None));
    bench(criterion, "store/scan_500", || {
        let mut seen = 0;
        let visit = |_: &[u8], value: &[u8]| {
            seen += usize::from(!value.is_empty());
            if seen < SCAN { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        store.scan(PAYMENTS, &ids[next()].as_bytes()[..2], visit).unwrap();
        seen
    });
    bench(criterion, "store/write_1000", || {
        let from = next() / BATCH * BATCH;
        write(&store, &in_memory[from..from + BATCH]);
    });
}

criterion_group!(benches, operations);
criterion_main!(benches);
