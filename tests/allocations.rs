//! What allocates, and how often: counting a result in a busy segment not at all, the rest within a bound.
//!
//! An allocation is cheap until there are millions: each one that creeps into the path of an event is paid for by all of them. The
//! bounds are half as much again as measured, so that only a new habit trips them; where a figure goes down, lower its bound.

#[path = "../benches/measure/allocations.rs"]
mod allocations;
#[path = "../benches/measure/workload.rs"]
mod workload;

use smartrouter::domain::payment::{PaymentAttempt, PaymentOutcome};
use smartrouter::io::codec::Codec;
use std::hint::black_box;
use workload::{BusyPsp, BusySegment, Decision, Encoding, PaymentPath, approvals, framed, with_a_failure};

/// A day has this many tiles: each of them gets its turn.
const EVENTS: u32 = 8_640;

#[derive(Default)]
struct Table {
    rows: Vec<String>,
    broken: Vec<String>,
}

impl Table {
    fn row<T>(&mut self, name: &str, most: f64, mut event: impl FnMut() -> T) {
        let count = allocations::per_event(EVENTS, || drop(black_box(event())));
        self.rows.push(format!("{name}: {count:.2}, at most {most}"));
        if count > most {
            self.broken.extend(self.rows.last().cloned());
        }
    }
}

/// One test: the counter counts for the whole process.
#[test]
fn allocations_per_event() {
    let mut table = Table::default();
    for (kind, tally) in [("approvals", approvals as fn(i64) -> _), ("failures", with_a_failure)] {
        let mut busy = BusySegment::of(tally);
        table.row(&format!("{kind}: add to an open tile"), 0.0, || busy.add_to_open_tile());
        table.row(&format!("{kind}: add to the next tile"), 0.0, || busy.add_to_next_tile());
        let mut busy = BusyPsp::of(tally);
        table.row(&format!("{kind}: merge a delta into open tiles"), 0.0, || busy.merge_into_open_tile());
        table.row(&format!("{kind}: merge a delta into the next tiles"), 0.0, || busy.merge_into_next_tile());
    }
    let codec = Codec::from_ids().unwrap();
    let attempt = framed(&codec, &workload::attempt());
    table.row("decode an attempt", 28.0, || codec.decode::<PaymentAttempt>(&attempt).unwrap());
    let outcome = framed(&codec, &workload::outcome());
    table.row("decode an outcome", 10.0, || codec.decode::<PaymentOutcome>(&outcome).unwrap());
    let mut path = PaymentPath::new();
    table.row("a payment, from its records to its feedback", 70.0, || path.run());
    for (name, brand, most) in [("decide by ranking", "VISA", 150.0), ("decide by a hard rule", "AMEX", 90.0)] {
        let decision = Decision::about(brand);
        table.row(name, most, || decision.make());
    }
    let mut encoding = Encoding::new();
    table.row("encode the features of four candidates", 0.0, || encoding.run());
    println!("{}", table.rows.join("\n"));
    assert!(table.broken.is_empty(), "too many allocations per event:\n{}", table.broken.join("\n"));
}
