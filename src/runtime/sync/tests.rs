//! A warehouse that is scripted, on an embedded log: failures, restarts, bounds, records that cannot be read.

use super::*;
use crate::domain::PspId;
use crate::domain::learning::Feedback;
use crate::domain::payment::Status;
use crate::io::log::Output;
use crate::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use crate::io::topics::{self, PlanOptions, declared, plan};
use crate::io::warehouse::{Cell, Channel, Upkeep};
use bytes::Bytes;
use std::sync::{Mutex, PoisonError};

/// What is durable of a channel: offset, and offset of the row before.
type Kept = BTreeMap<Channel, Vec<(i64, Option<i64>)>>;

#[derive(Default)]
struct Double {
    kept: Kept,
    pending: Kept,
    /// Commits that fail before one goes through.
    full: usize,
    commits: usize,
    pending_most: usize,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Double>>);

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Double) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Warehouse for Shared {
    fn open(&mut self, channel: &Channel) -> Result<Option<i64>, WarehouseError> {
        self.with(|it| {
            it.pending.remove(channel);
            Ok(it.kept.get(channel).and_then(|rows| rows.last()).map(|(offset, _)| *offset))
        })
    }

    fn append(&mut self, channel: &Channel, rows: Vec<Row>, _: (i64, i64)) -> Result<(), WarehouseError> {
        let place = |row: &Row| match (&row.0[2], &row.0[3]) {
            (Cell::Long(offset), Cell::Long(before)) => (*offset, Some(*before)),
            (Cell::Long(offset), _) => (*offset, None),
            other => panic!("{other:?}"),
        };
        self.with(|it| {
            it.pending.entry(channel.clone()).or_default().extend(rows.iter().map(place));
            it.pending_most = it.pending_most.max(it.pending.values().map(Vec::len).sum());
        });
        Ok(())
    }

    fn commit(&mut self, channel: &Channel) -> Result<Option<i64>, WarehouseError> {
        self.with(|it| {
            if it.full > 0 {
                it.full -= 1;
                return Err(WarehouseError::Full { place: "/small".to_owned() });
            }
            it.commits += 1;
            let rows = it.pending.remove(channel).unwrap_or_default();
            it.kept.entry(channel.clone()).or_default().extend(rows);
            Ok(it.kept[channel].last().map(|(offset, _)| *offset))
        })
    }

    fn close(&mut self, channel: &Channel) {
        self.with(|it| it.pending.remove(channel));
    }

    fn replace(&mut self, _: &str, _: Vec<Row>) -> Result<(), WarehouseError> {
        Ok(())
    }

    fn maintain(&mut self) -> Result<Upkeep, WarehouseError> {
        Ok(Upkeep::default())
    }
}

struct World {
    log: Arc<dyn EventLog>,
    warehouse: Shared,
    _dir: tempfile::TempDir,
}

fn feedback(number: usize) -> Feedback {
    Feedback {
        decision_id: None,
        payment_id: format!("p{number}"),
        attempt_id: format!("a{number}"),
        psp_id: PspId::new("alpha"),
        rank_taken: None,
        approved: true,
        final_approved: true,
        status: Status::Approved,
        error_code: None,
        error_category: None,
        hard_soft: None,
        latency_ms: 1,
        amount_minor: None,
        currency: None,
        fee_minor: None,
        reward: 1.0,
        timed_out: false,
        outcome_at: 1_767_614_400_000,
        delay_ms: 0,
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).unwrap();
        log.create_topics(&plan(&declared().unwrap(), &[], &PlanOptions::default()).create).unwrap();
        Self { log: Arc::new(log), warehouse: Shared::default(), _dir: dir }
    }

    fn append(&self, values: impl IntoIterator<Item = Option<Vec<u8>>>) {
        let output = |value: Option<Vec<u8>>| Output {
            topic: topics::ATHIA_FEEDBACK.into(),
            partition: Some(0),
            timestamp_ms: None,
            key: Some(Bytes::from_static(b"key")),
            value: value.map(Bytes::from),
            headers: Vec::new(),
        };
        self.log.appender().unwrap().append(values.into_iter().map(output).collect()).unwrap();
    }

    fn happen(&self, count: usize) {
        let codec = Codec::from_ids().unwrap();
        let encoded = |number| {
            let mut value = Vec::new();
            codec.encode(&feedback(number), &mut value).unwrap();
            Some(value)
        };
        self.append((0..count).map(encoded));
    }

    fn sync(&self, portions: Portions) -> Sync {
        let warehouse = self.warehouse.clone();
        Sync {
            log: self.log.clone(),
            codec: Codec::from_ids().unwrap(),
            names: TopicNames::default(),
            catalogue: Catalogue::shipped().unwrap(),
            portions,
            models_dir: PathBuf::from("/nowhere"),
            group: "g-warehouse-1".to_owned(),
            instance: "1".to_owned(),
            open: Box::new(move |_| Ok(Box::new(warehouse.clone()) as Box<dyn Warehouse>)),
            stop: Stop::default(),
            status: None,
        }
    }

    /// Offsets that are durable, each with the one before it.
    fn kept(&self) -> Vec<(i64, Option<i64>)> {
        self.warehouse.with(|it| it.kept.values().flatten().copied().collect())
    }
}

fn portions() -> Portions {
    Portions { rows_max: 1_000, bytes_max: 1 << 20, memory_bytes_max: 1 << 20, age: Duration::from_secs(60) }
}

fn chain(offsets: &[i64]) -> Vec<(i64, Option<i64>)> {
    offsets.iter().enumerate().map(|(at, offset)| (*offset, at.checked_sub(1).map(|before| offsets[before]))).collect()
}

#[test]
fn every_record_becomes_a_row_once_over_restarts() {
    let world = World::new();
    world.happen(5);
    assert_eq!(world.sync(portions()).once().unwrap().rows, BTreeMap::from([("ATHIA_FEEDBACK".to_owned(), 5)]));
    assert_eq!(world.sync(portions()).once().unwrap().rows, BTreeMap::new(), "nothing new");
    world.happen(3);
    world.sync(portions()).once().unwrap();
    assert_eq!(world.kept(), chain(&[0, 1, 2, 3, 4, 5, 6, 7]));
    let at = TopicPartition::new(topics::ATHIA_FEEDBACK, 0);
    let told = world.log.group_offsets("g-warehouse-1", std::slice::from_ref(&at)).unwrap();
    assert_eq!(told[&at], Some(8), "the group says the same, for people");
}

#[test]
fn what_cannot_be_read_is_counted_and_holds_up_nothing() {
    let world = World::new();
    world.happen(2);
    world.append([Some(b"noise".to_vec()), None]);
    world.happen(1);
    let synced = world.sync(portions()).once().unwrap();
    assert_eq!(synced.unreadable, 1);
    assert_eq!(world.kept(), chain(&[0, 1, 4]), "a row names the row before it, not the offset before it");
}

#[test]
fn rows_are_written_by_count_and_never_more_are_held_than_is_said() {
    let world = World::new();
    world.happen(2_500);
    world.sync(Portions { rows_max: 200, ..portions() }).once().unwrap();
    let (commits, most) = world.warehouse.with(|it| (it.commits, it.pending_most));
    assert!((3..=13).contains(&commits), "{commits}");
    assert!(most <= RECORDS_PER_POLL + 200, "{most}");
    assert_eq!(world.kept().len(), 2_500);

    let world = World::new();
    world.happen(2_500);
    world.sync(Portions { rows_max: 10_000, memory_bytes_max: 50_000, ..portions() }).once().unwrap();
    assert!(world.warehouse.with(|it| it.commits) >= 3);
}

#[test]
fn a_full_disk_stops_the_sync_until_there_is_room_and_loses_nothing() {
    let world = World::new();
    world.happen(50);
    world.warehouse.with(|it| it.full = 2);
    let sync = world.sync(Portions { age: Duration::from_millis(20), ..portions() });
    let stop = sync.stop.clone();
    let thread = sync.start().unwrap();
    let begun = Instant::now();
    while world.kept().len() < 50 && begun.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(20));
    }
    stop.set();
    thread.join().unwrap();
    assert_eq!(world.kept(), chain(&(0..50).collect::<Vec<_>>()));
    assert!(begun.elapsed() >= PAUSE_MIN, "it waited before it tried again");
}

#[test]
fn a_topic_that_was_made_anew_is_not_mixed_with_the_old_one() {
    let world = World::new();
    world.happen(5);
    world.sync(portions()).once().unwrap();
    let anew = World { warehouse: world.warehouse.clone(), ..World::new() };
    anew.happen(2);
    let refused = anew.sync(portions()).once().unwrap_err().to_string();
    assert!(refused.contains("made anew"), "{refused}");
}
