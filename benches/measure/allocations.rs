//! Counts allocations, under the allocator of the binary (`src/main.rs`).
//!
//! Owns the allocator of the process that it is part of. It counts what Rust code asks for, on all threads; what RocksDB takes inside
//! its C++ it does not see.

use mimalloc::MiMalloc;
use stats_alloc::{Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: StatsAlloc<MiMalloc> = StatsAlloc::new(MiMalloc);

/// Allocations per call of `event` once it has been called as often before; growing something counts as one.
/// Least of three rounds: other threads of a test's process allocate now and then, which can only add.
pub(crate) fn per_event(events: u32, mut event: impl FnMut()) -> f64 {
    let mut round = || {
        let region = Region::new(&ALLOCATOR);
        (0..events).for_each(|_| event());
        let change = region.change();
        (change.allocations + change.reallocations) as f64 / f64::from(events)
    };
    round();
    [round(), round(), round()].into_iter().fold(f64::INFINITY, f64::min)
}
