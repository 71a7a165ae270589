//! The path of an event through the whole engine, on the embedded log: in at the topics, out at the topics.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failing step fails the test, and a seeded run says its seed")]

mod damage;
mod features;
mod hostile;
mod models;
mod versions;
mod world;

use bytes::Bytes;
use smartrouter::domain::decision::{DecidedBy, RoutingDecision, SkipReason, StepLatency};
use smartrouter::domain::learning::{Feedback, Prediction};
use smartrouter::domain::payment::{PaymentAttempt, Status};
use smartrouter::domain::psp::{HealthState, PspOutage, PspState, SegmentKind};
use smartrouter::io::store::{Shard, StateBatch, StateStore, StoreName};
use smartrouter::io::topics::TopicNames;
use smartrouter::runtime::check_state;
use std::collections::{BTreeMap, BTreeSet};
use world::{PREFIX, World, outcome, payment};

/// The last published state of each PSP over all its traffic.
fn states(world: &World) -> BTreeMap<String, PspState> {
    let all = world.read::<PspState>().into_iter().filter(|state| state.segment.kind == SegmentKind::All);
    all.map(|state| (state.psp_id.to_string(), state)).collect()
}

/// Every request decided once, with its prediction; every outcome told once; every result counted once.
fn check_all_is_counted(world: &World, payments: usize) {
    let decisions = world.read::<RoutingDecision>();
    let decided: BTreeSet<_> = decisions.iter().map(|decision| decision.request_id.clone()).collect();
    assert_eq!((decisions.len(), decided.len()), (payments, payments), "decisions");
    let predicted: BTreeSet<_> = world.read::<Prediction>().into_iter().map(|prediction| prediction.decision_id).collect();
    assert_eq!(predicted, decisions.iter().map(|decision| decision.decision_id.clone()).collect());
    let feedback = world.read::<Feedback>();
    let told: BTreeSet<_> = feedback.iter().map(|feedback| feedback.attempt_id.clone()).collect();
    assert_eq!((feedback.len(), told.len()), (payments, payments), "feedback");
    let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for entry in &feedback {
        let (attempts, approvals) = expected.entry(entry.psp_id.to_string()).or_default();
        *attempts += 1;
        *approvals += i64::from(entry.approved);
    }
    let counted: BTreeMap<_, _> = states(world)
        .into_iter()
        .map(|(psp, state)| (psp, (state.windows.last_24h.attempts, state.windows.last_24h.approvals)))
        .collect();
    assert_eq!(counted, expected);
}

#[test]
fn every_request_is_decided_and_every_result_counted_once() {
    let mut world = World::new();
    let mut engine = world.engine();
    for _ in 0..10 {
        // Few enough to be taken in one turn: each request is decided before its attempt is seen.
        world.traffic(30);
        engine.drain().unwrap();
    }
    engine.close().unwrap();
    check_all_is_counted(&world, 300);
    for decision in world.read::<RoutingDecision>() {
        let psps: BTreeSet<_> = decision.ranked.iter().map(|ranked| ranked.psp_id.to_string()).collect();
        assert!((1..=3).contains(&psps.len()) && psps.len() == decision.ranked.len(), "{decision:?}");
        assert_eq!(psps.contains("amex"), decision.decided_by == DecidedBy::HardRule, "{decision:?}");
    }
    assert!(world.read::<RoutingDecision>().iter().any(|decision| decision.decided_by == DecidedBy::WindowedRate));
    let linked = world.read::<Feedback>().iter().filter(|feedback| feedback.decision_id.is_some()).count();
    assert_eq!(linked, 300, "each attempt followed the decision on its payment");
    let traced = world
        .records("routing.decisions")
        .iter()
        .filter(|record| record.headers.iter().any(|(name, _)| name == "traceparent"))
        .count();
    assert_eq!(traced, 300);
}

#[test]
fn a_crash_between_any_two_steps_loses_and_doubles_nothing() {
    let mut world = World::new();
    for crash in 0..12 {
        world.traffic(25);
        let mut engine = world.engine();
        for _ in 0..crash {
            engine.step().unwrap();
        }
        // Dropped without a last commit: what was not committed is done again.
    }
    let mut engine = world.engine();
    engine.drain().unwrap();
    engine.close().unwrap();
    check_all_is_counted(&world, 300);
}

#[test]
fn state_that_is_lost_is_rebuilt_from_its_changelog() {
    let mut world = World::new();
    let mut engine = world.engine();
    world.traffic(100);
    engine.drain().unwrap();
    let attempt = {
        let payment = world.payment();
        world.attempt(&payment, "mit")
    };
    engine.drain().unwrap();
    drop(engine);
    std::fs::remove_dir_all(world.dir.path().join("state")).unwrap();
    let mut engine = world.engine();
    // The attempt is known: its outcome joins. All earlier records repeat nothing.
    world.outcome(&attempt, Status::Approved);
    world.traffic(100);
    engine.drain().unwrap();
    engine.close().unwrap();
    let feedback = world.read::<Feedback>();
    assert_eq!(feedback.iter().filter(|it| it.attempt_id == attempt.attempt_id && it.approved).count(), 1);
    assert_eq!(feedback.len(), 201);
    let total: i64 = states(&world).values().map(|state| state.windows.last_24h.attempts).sum();
    assert_eq!(total, 201);
}

#[test]
fn repeated_records_change_nothing() {
    let mut world = World::new();
    let mut engine = world.engine();
    for _ in 0..3 {
        world.now = world::T0;
        let payment = payment("p1");
        world.request(&payment);
        let attempt = world.attempt(&payment, "mit");
        world.outcome(&attempt, Status::Approved);
        engine.drain().unwrap();
    }
    engine.close().unwrap();
    check_all_is_counted(&world, 1);
}

#[test]
fn bad_records_go_to_the_dead_letters_and_the_partition_goes_on() {
    let mut world = World::new();
    let mut engine = world.engine();
    world.traffic(20);
    let payment = world.payment();
    let good = world.encode(&PaymentAttempt { ..sample_attempt(&payment) });
    let mut wrong_currency = sample_attempt(&payment);
    wrong_currency.payment.currency = "pesos!".into();
    let mut no_id = sample_attempt(&payment);
    no_id.payment.payment_id = String::new();
    let mut absurd_time = sample_attempt(&payment);
    absurd_time.attempted_at = 1_700_000_000;
    let bad: Vec<(&str, Option<Bytes>)> = vec![
        ("ends too early", Some(good.slice(..good.len() / 2))),
        ("first byte", Some([b"\x07", &good[1..]].concat().into())),
        ("no schema has the id", Some([b"\x00\x7f\xff\xff\xf0", &good[5..]].concat().into())),
        ("empty", Some(Bytes::new())),
        ("no value", None),
        ("framing", Some(vec![0xa5; 1_000_000].into())),
        ("payment.currency", Some(world.encode(&wrong_currency))),
        ("payment_id", Some(world.encode(&no_id))),
        ("attempted_at", Some(world.encode(&absurd_time))),
    ];
    for (_, value) in &bad {
        world.append("payment.attempts", "c1", value.clone());
    }
    world.traffic(30);
    engine.drain().unwrap();
    engine.close().unwrap();
    check_all_is_counted(&world, 50);
    let letters = world.records("payment.attempts.dlq");
    assert_eq!(letters.len(), bad.len());
    let header = |index: usize, name: &str| {
        let (_, value) = letters[index].headers.iter().find(|(header, _)| header == name).unwrap();
        String::from_utf8(value.clone().unwrap().to_vec()).unwrap()
    };
    for (index, (reason, value)) in bad.iter().enumerate() {
        assert_eq!(&letters[index].value, value, "{reason}: the bytes are kept");
        let short = reason.rsplit('.').next().unwrap();
        assert!(header(index, "dlq-reason").contains(short), "{reason}: {}", header(index, "dlq-reason"));
        assert_eq!(header(index, "dlq-source-topic"), "test.payment.attempts");
        assert_eq!(letters[index].key.as_deref(), Some(&b"c1"[..]));
    }
    let offsets: BTreeSet<_> = (0..bad.len()).map(|index| header(index, "dlq-source-offset")).collect();
    assert_eq!(offsets.len(), bad.len());
}

fn sample_attempt(payment: &smartrouter::domain::payment::Payment) -> PaymentAttempt {
    PaymentAttempt {
        payment: payment.clone(),
        attempt_id: "bad".into(),
        attempt_number: 1,
        psp_id: "mit".into(),
        attempted_at: world::T0,
        deadline_ms: None,
        decision_id: None,
        algorithm: None,
        skip_reasons: Vec::new(),
    }
}

#[test]
fn a_psp_that_times_out_is_down_once_and_avoided() {
    let mut world = World::new();
    let mut engine = world.engine();
    world.traffic(300);
    engine.drain().unwrap();
    for _ in 0..250 {
        let mut payment = world.payment();
        payment.card.brand = "VISA".into();
        payment.card.bin = "411111".into();
        let attempt = world.attempt(&payment, "elavon");
        world.send(payment.key(), &outcome(&attempt, Status::Timeout));
        engine.drain().unwrap();
    }
    let before = world.read::<RoutingDecision>().len();
    for _ in 0..100 {
        let payment = world.payment();
        world.request(&payment);
    }
    engine.drain().unwrap();
    engine.close().unwrap();
    assert_eq!(states(&world)["elavon"].state, HealthState::Down);
    let decisions = world.read::<RoutingDecision>();
    let old: BTreeSet<_> = (1..=before).map(|n| format!("r-p{n}")).collect();
    let after: Vec<_> =
        decisions.iter().filter(|it| !old.contains(&it.request_id) && it.decided_by != DecidedBy::HardRule).collect();
    assert!(after.len() > 50);
    for decision in after {
        assert!(
            decision.ranked[0].psp_id.as_str() != "elavon" || decision.decided_by == DecidedBy::RecoverySample,
            "{decision:?}"
        );
        let skipped = decision.skipped.iter().any(|it| it.psp_id.as_str() == "elavon" && it.reason == SkipReason::Down);
        assert!(skipped || decision.decided_by == DecidedBy::RecoverySample, "{decision:?}");
        assert!(!decision.psp_view.is_empty());
    }
    let downs: Vec<_> = world.read::<PspOutage>().into_iter().filter(|it| it.to == HealthState::Down).collect();
    let all: Vec<_> = downs.iter().filter(|it| it.segment.kind == SegmentKind::All).collect();
    assert_eq!((all.len(), all[0].psp_id.as_str()), (1, "elavon"));
    assert!(downs.iter().all(|it| it.psp_id.as_str() == "elavon"));
}

#[test]
fn silence_counts_when_event_time_has_passed_the_deadline() {
    let mut world = World::new();
    let mut engine = world.engine();
    let payment = world.payment();
    let attempt = world.attempt(&payment, "mit");
    engine.drain().unwrap();
    engine.announce(attempt.attempted_at + 20_000).unwrap();
    // Overdue by now, and no result yet.
    assert!(world.read::<PspState>().iter().all(|state| state.windows.last_24h.attempts == 0));
    engine.announce(attempt.attempted_at + 60_000).unwrap();
    world.outcome(&attempt, Status::Approved);
    engine.drain().unwrap();
    engine.close().unwrap();
    let window = &states(&world)["mit"].windows.last_24h;
    assert_eq!((window.attempts, window.timeouts, window.approvals), (1, 1, 0));
    let feedback = world.read::<Feedback>();
    assert_eq!((feedback.len(), feedback[0].approved, feedback[0].timed_out), (1, true, true));
}

#[test]
fn the_same_events_give_the_same_decisions() {
    let run = || {
        let world = World::after(150);
        let mut decisions = world.read::<RoutingDecision>();
        // How long it took is measured, not decided.
        for decision in &mut decisions {
            decision.latency_us = StepLatency::default();
        }
        decisions
    };
    assert_eq!(run(), run());
}

#[test]
fn state_that_is_not_what_its_changelog_says_is_told() {
    let world = World::after(40);
    let names = TopicNames::new(PREFIX);
    let store = StateStore::open(&world.dir.path().join("state")).unwrap();
    let check = || check_state(&store, &*world.log, &names).unwrap();
    let whole = check();
    assert!(whole.len() >= 3 && whole.iter().all(|report| report.equal), "{whole:?}");
    let shard = Shard::new(StoreName::Payments, whole.iter().find(|report| report.store == "payments").unwrap().partition);
    let mut first = None;
    let keep = |key: &[u8], value: &[u8]| {
        first = Some((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Break(())
    };
    store.scan(shard, b"", keep).unwrap();
    let (key, value) = first.unwrap();
    let id = String::from_utf8(key.clone()).unwrap();
    for ((changed, to), told) in [
        ((&key[..], Some(&b"spoilt"[..])), format!("key {id} has another value")),
        ((&key[..], None), format!("key {id} is in the changelog only")),
        ((&b"!"[..], Some(&value[..])), "key ! is in the store only".to_owned()),
    ] {
        let mut batch = StateBatch::default();
        batch.put(shard, changed, to);
        store.write(batch).unwrap();
        let differing: Vec<_> = check().into_iter().filter(|report| !report.equal).collect();
        assert_eq!(differing.iter().map(|it| it.difference.clone().unwrap()).collect::<Vec<_>>(), [told]);
        let mut back = StateBatch::default();
        back.put(shard, b"!", None);
        back.put(shard, &key, Some(&value));
        store.write(back).unwrap();
    }
    assert_eq!(check(), whole);
}

#[test]
fn state_of_another_system_on_the_same_log_is_void() {
    let world = World::after(10);
    let store = StateStore::open(&world.dir.path().join("state")).unwrap();
    let reports = check_state(&store, &*world.log, &TopicNames::new("other.")).unwrap();
    assert!(
        reports.iter().all(|report| report.difference.as_deref() == Some("it belongs to another log: it is rebuilt")),
        "{reports:?}"
    );
}
