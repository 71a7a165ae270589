//! What every adapter of the port is held to, written once: an adapter's tests give a bed, and call `check`.

use super::{Cell, Channel, Row, Warehouse, WarehouseError};
use crate::io::log::TopicPartition;
use proptest::prelude::*;

/// A warehouse that outlives its writers.
pub(super) trait Bed {
    /// Opened by a further writer; a former one may be there still.
    fn open(&self) -> Result<Box<dyn Warehouse>, WarehouseError>;
    /// Offsets of a channel's rows as a reader finds them, in any order.
    fn offsets(&self, channel: &Channel) -> Vec<i64>;
}

pub(super) const NOON: i64 = 1_767_614_400_000;

pub(super) fn channel(partition: i32) -> Channel {
    Channel { table: "ML_MODEL_STAGES".to_owned(), at: TopicPartition::new("control.models", partition) }
}

/// A row of `ML_MODEL_STAGES`.
pub(super) fn row(partition: i32, offset: i64, at: i64) -> Row {
    let text = |text: &str| Cell::Text(text.to_owned());
    Row(vec![
        text("control.models"),
        Cell::Int(partition),
        Cell::Long(offset),
        if offset == 0 { Cell::Null } else { Cell::Long(offset - 1) },
        Cell::Time(at),
        text("selector"),
        Cell::Text(offset.to_string()),
        text("ACTIVE"),
        Cell::Time(at),
        Cell::Null,
        text("{}"),
    ])
}

/// What may happen to a writer.
#[derive(Clone, Debug)]
enum Step {
    /// So many rows, the first so far behind the last one: offsets are not dense.
    Append {
        partition: i32,
        rows: i64,
        skipped: i64,
    },
    Commit(i32),
    Open(i32),
    Close(i32),
    Maintain,
    /// It dies, and another one begins.
    Dies,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2, 1..5_i64, 0..3_i64).prop_map(|(partition, rows, skipped)| Step::Append { partition, rows, skipped }),
        4 => (0..2).prop_map(Step::Commit),
        1 => (0..2).prop_map(Step::Open),
        1 => (0..2).prop_map(Step::Close),
        1 => Just(Step::Maintain),
        1 => Just(Step::Dies),
    ]
}

/// A channel as it has to be.
#[derive(Default)]
struct Expected {
    durable: Vec<i64>,
    pending: Vec<i64>,
    is_open: bool,
}

/// Holds an adapter to the promises of the port; `bed` makes a new one.
pub(super) fn check<B: Bed>(bed: impl Fn() -> B) {
    a_former_writer_can_commit_nothing_more(&bed());
    rows_have_to_follow(&bed());
    proptest!(ProptestConfig { cases: 16, ..ProptestConfig::default() }, |(steps in prop::collection::vec(step(), 1..40))| {
        whatever_happens_rows_and_token_are_one(&bed(), steps);
    });
}

fn whatever_happens_rows_and_token_are_one(bed: &impl Bed, steps: Vec<Step>) {
    let mut warehouse = bed.open().unwrap();
    let mut expected = [Expected::default(), Expected::default()];
    let open = |warehouse: &mut dyn Warehouse, expected: &mut Expected, partition| {
        assert_eq!(warehouse.open(&channel(partition)).unwrap(), expected.durable.last().copied());
        expected.pending.clear();
        expected.is_open = true;
    };
    for step in steps {
        match step {
            Step::Append { partition, rows, skipped } => {
                let it = &mut expected[partition as usize];
                if !it.is_open {
                    open(warehouse.as_mut(), it, partition);
                }
                let behind = it.pending.last().or(it.durable.last()).map_or(0, |last| last + 1);
                let offsets: Vec<i64> = (behind + skipped..).take(rows as usize).collect();
                let made = offsets.iter().map(|offset| row(partition, *offset, NOON)).collect();
                warehouse.append(&channel(partition), made, (offsets[0], offsets[offsets.len() - 1])).unwrap();
                it.pending.extend(offsets);
            }
            Step::Commit(partition) if expected[partition as usize].is_open => {
                let it = &mut expected[partition as usize];
                let token = warehouse.commit(&channel(partition)).unwrap();
                let all: Vec<i64> = it.durable.iter().chain(&it.pending).copied().collect();
                // An adapter may take a part, and says so.
                it.durable = all.into_iter().filter(|offset| Some(*offset) <= token).collect();
                it.pending.retain(|offset| Some(*offset) > token);
                assert_eq!(token, it.durable.last().copied());
            }
            Step::Commit(_) => {}
            Step::Open(partition) => open(warehouse.as_mut(), &mut expected[partition as usize], partition),
            Step::Close(partition) => {
                warehouse.close(&channel(partition));
                expected[partition as usize].pending.clear();
                expected[partition as usize].is_open = false;
            }
            Step::Maintain => {
                warehouse.maintain().unwrap();
            }
            Step::Dies => {
                drop(warehouse);
                warehouse = bed.open().unwrap();
                for it in &mut expected {
                    (it.pending, it.is_open) = (Vec::new(), false);
                }
            }
        }
        for (partition, it) in expected.iter().enumerate() {
            let mut found = bed.offsets(&channel(partition as i32));
            found.sort_unstable();
            assert_eq!(found, it.durable, "partition {partition}");
        }
    }
}

fn a_former_writer_can_commit_nothing_more(bed: &impl Bed) {
    let mut first = bed.open().unwrap();
    first.open(&channel(0)).unwrap();
    first.append(&channel(0), vec![row(0, 0, NOON)], (0, 0)).unwrap();
    // Either the second one waits until the first is gone, or the first one is fenced.
    if let Ok(mut second) = bed.open() {
        assert_eq!(second.open(&channel(0)).unwrap(), None);
        assert!(first.commit(&channel(0)).is_err());
        assert_eq!(bed.offsets(&channel(0)), [0; 0]);
    }
}

fn rows_have_to_follow(bed: &impl Bed) {
    let mut warehouse = bed.open().unwrap();
    let put = |warehouse: &mut dyn Warehouse, offset| warehouse.append(&channel(0), vec![row(0, offset, NOON)], (offset, offset));
    assert!(put(warehouse.as_mut(), 0).is_err(), "the channel is not open");
    warehouse.open(&channel(0)).unwrap();
    put(warehouse.as_mut(), 5).unwrap();
    assert!(put(warehouse.as_mut(), 5).is_err(), "twice");
    assert_eq!(warehouse.open(&channel(0)).unwrap(), None);
    put(warehouse.as_mut(), 5).unwrap();
    assert_eq!(warehouse.commit(&channel(0)).unwrap(), Some(5));
    assert!(put(warehouse.as_mut(), 4).is_err(), "behind the token");
}
