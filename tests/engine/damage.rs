//! State that goes bad under a running router, and changelogs that are not what they were.
//!
//! What is claimed: an entry that cannot be read costs its shard one rebuild, and nothing is lost or doubled; where the changelog holds
//! the same, or the files themselves are damaged, or the changelog is another one, the router ends and says what a person is to do.

use crate::world::{PREFIX, World, limits};
use crate::{check_all_is_counted, states};
use bytes::Bytes;
use smartrouter::domain::learning::Feedback;
use smartrouter::domain::payment::{PaymentAttempt, Status as Outcome};
use smartrouter::io::log::{EventLog, Output};
use smartrouter::io::store::{LastRecord, Shard, ShardPosition, StateBatch, StateStore, StoreName};
use smartrouter::io::topics::TopicNames;
use smartrouter::runtime::status::Status;
use smartrouter::runtime::{Engine, Live, Shared, Stop, TaskError, check_state};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What stands before an entity's own bytes in its entry.
const HEADER_BYTES: usize = 16;

/// A router in a thread of its own, on the embedded log.
struct Running {
    shared: Arc<Shared>,
    stop: Stop,
    thread: JoinHandle<Result<(), TaskError>>,
}

impl Running {
    fn start(world: &World, shared: Arc<Shared>) -> Self {
        let (stop, status) = (Stop::default(), Arc::new(Status::new(Duration::MAX)));
        let (log, of) = (world.log.clone(), shared.clone());
        let live = Live { log, shared: of, status: status.clone(), limits: limits(), threads: 1, stop: stop.clone() };
        let thread = thread::spawn(move || live.run());
        let running = Self { shared, stop, thread };
        wait("it is ready", || status.report().ready || running.thread.is_finished());
        running
    }

    /// How it ended, by itself or because it was told to.
    fn end(self, told: bool) -> Result<(), TaskError> {
        if told {
            self.stop.set();
        }
        wait("it ends", || self.thread.is_finished());
        self.thread.join().unwrap()
    }
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not reached: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Some payments that are done with, and one whose outcome is still to come.
fn world_with_an_open_attempt() -> (World, PaymentAttempt) {
    let mut world = World::new();
    let mut engine = world.engine();
    world.traffic(60);
    let payment = world.payment();
    world.request(&payment);
    engine.drain().unwrap();
    let attempt = world.attempt(&payment, "mit");
    engine.drain().unwrap();
    (world, attempt)
}

/// The payment's shard, and its entry with all but the header spoilt.
fn spoilt(store: &StateStore, attempt: &PaymentAttempt) -> (Shard, Vec<u8>) {
    let key = attempt.payment.payment_id.as_bytes();
    let shards = store.partitions(StoreName::Payments).unwrap().into_iter().map(|at| Shard::new(StoreName::Payments, at));
    let found = shards.filter_map(|shard| store.get(shard, key, <[u8]>::to_vec).unwrap().map(|entry| (shard, entry)));
    let (shard, mut entry) = found.last().unwrap();
    entry.truncate(HEADER_BYTES);
    entry.extend([0xff; 12]);
    (shard, entry)
}

fn check_equal(world: &World) {
    let store = StateStore::open(&world.state_dir()).unwrap();
    let reports = check_state(&store, &*world.log, &TopicNames::new(PREFIX)).unwrap();
    assert!(reports.len() >= 3 && reports.iter().all(|report| report.equal), "{reports:?}");
}

#[test]
fn an_entry_that_goes_bad_under_a_running_task_costs_one_rebuild() {
    let (mut world, attempt) = world_with_an_open_attempt();
    let running = Running::start(&world, world.shared(&[]));
    let (shard, entry) = spoilt(&running.shared.store, &attempt);
    let mut batch = StateBatch::default();
    batch.put(shard, attempt.payment.payment_id.as_bytes(), Some(&entry));
    running.shared.store.write(batch).unwrap();
    world.outcome(&attempt, Outcome::Approved);
    wait("the outcome is told", || world.read::<Feedback>().iter().any(|it| it.attempt_id == attempt.attempt_id));
    running.end(true).unwrap();
    world.engine().close().unwrap();
    check_all_is_counted(&world, 61);
    let told = world.read::<Feedback>().into_iter().find(|it| it.attempt_id == attempt.attempt_id).unwrap();
    assert!(told.approved && told.decision_id.is_some() && told.amount_minor.is_some(), "joined with what is known: {told:?}");
    check_equal(&world);
}

#[test]
fn an_entry_that_the_changelog_holds_as_bad_ends_the_router() {
    let (mut world, attempt) = world_with_an_open_attempt();
    let shared = world.shared(&[]);
    let (shard, entry) = spoilt(&shared.store, &attempt);
    let output = Output {
        topic: format!("{PREFIX}smartrouter.payments.changelog").into(),
        partition: Some(shard.partition),
        timestamp_ms: Some(world.now),
        key: Some(Bytes::copy_from_slice(attempt.payment.payment_id.as_bytes())),
        value: Some(entry.into()),
        headers: Vec::new(),
    };
    world.log.appender().unwrap().append(vec![output]).unwrap();
    let running = Running::start(&world, shared);
    world.outcome(&attempt, Outcome::Approved);
    let error = running.end(false).unwrap_err();
    assert!(error.is_final(), "{error}");
    let text = error.to_string();
    assert!(text.contains("payments") && text.contains("damaged again") && text.contains("changelog holds the same"), "{text}");
    assert!(!world.read::<Feedback>().iter().any(|it| it.attempt_id == attempt.attempt_id), "nothing is made of it");
}

#[test]
fn files_that_go_bad_under_a_running_router_end_it_with_the_remedy() {
    let (mut world, attempt) = world_with_an_open_attempt();
    // Opened again, the store writes what was in its log into a file.
    drop(StateStore::open(&world.state_dir()).unwrap());
    let shared = world.shared(&[]);
    let entries = fs::read_dir(world.state_dir().join("store")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "sst")).collect();
    assert!(!files.is_empty());
    for path in files {
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(16)).unwrap();
        file.write_all(&[0xa5; 64]).unwrap();
    }
    let running = Running::start(&world, shared);
    let error = running.end(false).unwrap_err();
    let text = error.to_string();
    assert!(error.is_final() && text.contains("smartrouter reset --execute"), "{text}");
    assert!(text.contains(&*world.state_dir().to_string_lossy()), "{text}");
    // The remedy.
    fs::remove_dir_all(world.state_dir()).unwrap();
    world.outcome(&attempt, Outcome::Approved);
    let mut engine = world.engine();
    engine.drain().unwrap();
    engine.close().unwrap();
    check_all_is_counted(&world, 61);
    check_equal(&world);
}

#[test]
fn a_changelog_that_is_another_than_it_was_is_not_built_on() {
    let mut world = World::after(40);
    let open = || StateStore::open(&world.state_dir()).unwrap();
    let known = |store: &StateStore| {
        let shards = StoreName::ALL.into_iter().flat_map(|name| {
            let partitions = store.partitions(name).unwrap();
            partitions.into_iter().map(move |partition| Shard::new(name, partition))
        });
        let positions = shards.map(|shard| (shard, store.position(shard).unwrap().unwrap()));
        positions.filter(|(_, position)| position.last.is_some()).collect::<Vec<_>>()
    };
    let positions = known(&open());
    assert_eq!(positions.iter().map(|(shard, _)| shard.store.as_str()).collect::<BTreeSet<_>>().len(), 4, "{positions:?}");
    let set = |shard: Shard, last: LastRecord, position: &ShardPosition| {
        let mut batch = StateBatch::default();
        batch.set_position(shard, &ShardPosition { last: Some(last), ..position.clone() }).unwrap();
        open().write(batch).unwrap();
    };
    for (shard, position) in &positions {
        // Another record where the last one was.
        set(*shard, LastRecord::new(position.last.unwrap().offset, [7; 16]), position);
        let error = Engine::open(world.log.clone(), world.shared(&[]), limits()).err().unwrap();
        let text = error.to_string();
        assert!(error.is_final() && text.contains("made anew") && text.contains("smartrouter reset --execute"), "{text}");
        let reports = check_state(&open(), &*world.log, &TopicNames::new(PREFIX)).unwrap();
        let differing: Vec<_> = reports.into_iter().filter_map(|report| report.difference).collect();
        assert!(differing.len() == 1 && differing[0].contains("is another than"), "{differing:?}");
        // None there any more: compaction may have done that.
        set(*shard, LastRecord::new(position.changelog_offset, [7; 16]), position);
        Engine::open(world.log.clone(), world.shared(&[]), limits()).unwrap().close().unwrap();
        let rebuilt = open().position(*shard).unwrap().unwrap();
        assert!(rebuilt.last.is_some_and(|last| last.offset < rebuilt.changelog_offset), "{rebuilt:?}");
        check_equal(&world);
    }
    // A position of an older version knows no last record; one that is rolled forward does.
    let (shard, position) = &positions[0];
    let mut batch = StateBatch::default();
    batch.set_position(*shard, &ShardPosition { last: None, ..position.clone() }).unwrap();
    open().write(batch).unwrap();
    world.traffic(40);
    let mut engine = world.engine();
    engine.drain().unwrap();
    engine.close().unwrap();
    check_all_is_counted(&world, 80);
    assert!(states(&world).len() >= 3);
    check_equal(&world);
}
