//! Events as nobody should send them: late, repeated, out of order, with clocks astray, with absurd amounts and ids.
//!
//! What is claimed, of any order and through crashes: a bad record is one dead letter; a request is decided once; an attempt, known by
//! itself or by its outcome, is counted once and told once; and every window is the sum of what was counted in its tiles.

use crate::world::{PREFIX, T0, World, outcome, payment};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smartrouter::domain::decision::RoutingDecision;
use smartrouter::domain::learning::{Feedback, StatsDelta};
use smartrouter::domain::payment::{PaymentAttempt, PaymentOutcome, RoutingRequest, Status};
use smartrouter::domain::psp::{PspState, Segment, WindowStats};
use smartrouter::engine::window::RINGS;
use smartrouter::io::log::{EventLog, partition_of};
use std::collections::{BTreeMap, BTreeSet};

const PAYMENTS: usize = 60;
const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;
/// Far more than any wait; far less than what is remembered.
const OVERRIDES: [(&str, &str); 1] = [("engine.payment_retention_ms", "316224000000")];

#[derive(Clone)]
enum Event {
    Attempt(PaymentAttempt),
    Outcome(PaymentOutcome),
    Request(RoutingRequest),
}

#[derive(Clone)]
struct Sent {
    event: Event,
    /// When it is written, by the record's own timestamp.
    written_at: i64,
    is_good: bool,
}

struct Plan<'a> {
    rng: &'a mut ChaCha8Rng,
    sent: Vec<Sent>,
}

impl Plan<'_> {
    /// An event time near `at`, or astray as a broken clock leads it, yet possible.
    fn skewed(&mut self, at: i64) -> i64 {
        match self.rng.random_range(0..12) {
            0 => at + 24 * HOUR_MS,
            1 => 4_102_444_800_000,
            2 => at - 5 * YEAR_MS,
            3 => at - 23 * HOUR_MS,
            4 => at - 20 * 60_000,
            _ => at + self.rng.random_range(-5_000..5_000),
        }
    }

    fn impossible_time(&mut self) -> i64 {
        let times = [0, -1, 1_700_000_000, i64::MIN, i64::MAX, i64::MIN + 1, 253_402_300_799_999, 4_102_444_800_001];
        times[self.rng.random_range(0..times.len())]
    }

    fn impossible_id(&mut self) -> String {
        let ids = [String::new(), " ".into(), "x".repeat(10_240), "a\0b".into(), "4111111111111111".into(), "é".repeat(129)];
        ids[self.rng.random_range(0..ids.len())].clone()
    }

    /// The event, perhaps again, and perhaps spoilt besides; never in order.
    fn send(&mut self, event: &Event, at: i64) {
        for _ in 0..[1, 1, 1, 2, 3][self.rng.random_range(0..5)] {
            let mut event = event.clone();
            *event.time() = self.skewed(at);
            let written_at = at + self.rng.random_range(0..10 * 60_000);
            self.sent.push(Sent { event, written_at, is_good: true });
        }
        if self.rng.random_ratio(1, 4) {
            let spoilt = self.spoilt(event.clone(), at);
            self.sent.push(spoilt);
        }
    }

    fn spoilt(&mut self, mut event: Event, at: i64) -> Sent {
        let mut written_at = at;
        let amounts = [-1, i64::MIN, i64::MAX, 1_000_000_000_000_001];
        match (self.rng.random_range(0..5), &mut event) {
            (0, event) => *event.time() = self.impossible_time(),
            (1, _) => written_at = self.impossible_time(),
            (2, Event::Attempt(PaymentAttempt { payment, .. }) | Event::Request(RoutingRequest { payment, .. })) => {
                payment.amount_minor = amounts[self.rng.random_range(0..amounts.len())];
            }
            (3, Event::Attempt(attempt)) => attempt.deadline_ms = Some(i64::MAX),
            (2 | 3, Event::Outcome(outcome)) => outcome.latency_ms = [i64::MIN, -1, i64::MAX][self.rng.random_range(0..3)],
            (_, Event::Attempt(attempt)) => attempt.attempt_id = self.impossible_id(),
            (_, Event::Outcome(outcome)) => outcome.payment_id = self.impossible_id(),
            (_, Event::Request(request)) => request.request_id = self.impossible_id(),
        }
        Sent { event, written_at, is_good: false }
    }
}

impl Event {
    fn time(&mut self) -> &mut i64 {
        match self {
            Self::Attempt(attempt) => &mut attempt.attempted_at,
            Self::Outcome(outcome) => &mut outcome.occurred_at,
            Self::Request(request) => &mut request.requested_at,
        }
    }
}

fn plan(rng: &mut ChaCha8Rng) -> Vec<Sent> {
    let mut plan = Plan { rng, sent: Vec::new() };
    for number in 0..PAYMENTS {
        let at = T0 + number as i64 * 60_000;
        let ids =
            [format!("p{number}"), format!("pago ñ漢🦀 {number}"), format!("{number:0>256}"), format!("\u{202e}{number}'\"<%")];
        let mut payment = payment(&ids[plan.rng.random_range(0..ids.len())]);
        payment.order_id = format!("o{number}");
        payment.amount_minor = [0, 1, 123_400, 1_000_000_000_000_000][plan.rng.random_range(0..4)];
        if plan.rng.random_ratio(2, 3) {
            let request = RoutingRequest {
                payment: payment.clone(),
                request_id: format!("r {number}"),
                requested_at: at,
                deadline_ms: None,
                allowed_psps: None,
                previous_attempts: None,
                dry_run: false,
            };
            plan.send(&Event::Request(request), at);
        }
        for attempt_number in 1..=plan.rng.random_range(1..4) {
            let attempt = PaymentAttempt {
                payment: payment.clone(),
                attempt_id: format!("a{attempt_number}"),
                attempt_number,
                psp_id: ["worldpay", "mit", "elavon"][plan.rng.random_range(0..3)].into(),
                attempted_at: at,
                deadline_ms: None,
                decision_id: None,
                algorithm: None,
                skip_reasons: Vec::new(),
            };
            let status = [Status::Approved, Status::Declined, Status::Error, Status::Timeout][plan.rng.random_range(0..4)];
            // Either may be missing, not both: nobody would know of the attempt.
            let known_by = plan.rng.random_range(0..8);
            if known_by != 0 {
                plan.send(&Event::Attempt(attempt.clone()), at);
            }
            if known_by != 1 {
                plan.send(&Event::Outcome(outcome(&attempt, status)), at + 500);
            }
        }
    }
    // Out of order by a few records mostly, some by as many as there are.
    plan.sent.sort_by_key(|sent| sent.written_at);
    for from in (0..plan.sent.len()).step_by(7) {
        let to = (from + 12).min(plan.sent.len());
        plan.sent[from..to].shuffle(plan.rng);
    }
    for _ in 0..plan.sent.len() / 10 {
        let (a, b) = (plan.rng.random_range(0..plan.sent.len()), plan.rng.random_range(0..plan.sent.len()));
        plan.sent.swap(a, b);
    }
    plan.sent
}

fn send(world: &mut World, sent: &Sent) {
    world.now = sent.written_at;
    match &sent.event {
        Event::Attempt(attempt) => world.send(attempt.payment.key(), attempt),
        Event::Outcome(outcome) => world.send(outcome.key(), outcome),
        Event::Request(request) => world.send(request.payment.key(), request),
    }
}

#[test]
fn whatever_comes_is_counted_once_or_refused_once() {
    let seed = std::env::var("HOSTILE_SEED").ok().map(|text| text.parse::<u64>().unwrap());
    for seed in seed.map_or(1..5, |seed| seed..seed + 1) {
        eprintln!("HOSTILE_SEED={seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let sent = plan(&mut rng);
        let mut world = World::new();
        let mut engine = world.engine_with(&OVERRIDES);
        for (index, it) in sent.iter().enumerate() {
            send(&mut world, it);
            if rng.random_ratio(1, 20) {
                engine.step().unwrap();
            }
            if index % 150 == 149 {
                // A crash: what was not committed is done again.
                drop(engine);
                engine = world.engine_with(&OVERRIDES);
            }
        }
        engine.drain().unwrap();
        engine.announce(T0 + 6 * HOUR_MS).unwrap();
        engine.close().unwrap();
        check_windows(&world);
        let mut engine = world.engine_with(&OVERRIDES);
        engine.announce(T0 + YEAR_MS).unwrap();
        engine.close().unwrap();
        check_counts(&world, &sent);
    }
}

fn check_counts(world: &World, sent: &[Sent]) {
    let good = || sent.iter().filter(|it| it.is_good).map(|it| &it.event);
    let letters = |topic: &str| world.records(&format!("{topic}.dlq")).len();
    let found: usize = ["payment.attempts", "payment.outcomes", "routing.requests"].map(letters).iter().sum();
    assert_eq!(found, sent.iter().filter(|it| !it.is_good).count(), "dead letters");

    let asked: BTreeSet<&str> =
        good().filter_map(|it| if let Event::Request(it) = it { Some(it.request_id.as_str()) } else { None }).collect();
    let decisions = world.read::<RoutingDecision>();
    let decided: BTreeSet<&str> = decisions.iter().map(|it| it.request_id.as_str()).collect();
    assert_eq!((decided.len(), &decided), (decisions.len(), &asked), "decisions");

    let known = |event: &Event| match event {
        Event::Attempt(it) => Some((it.payment.payment_id.clone(), it.attempt_id.clone())),
        Event::Outcome(it) => Some((it.payment_id.clone(), it.attempt_id.clone())),
        Event::Request(_) => None,
    };
    let attempts: BTreeSet<_> = good().filter_map(known).collect();
    let feedback = world.read::<Feedback>();
    let told: BTreeSet<_> = feedback.iter().map(|it| (it.payment_id.clone(), it.attempt_id.clone())).collect();
    assert_eq!((told.len(), &told), (feedback.len(), &attempts), "feedback");
    let counted: i64 = totals(world).values().map(|(attempts, _)| attempts).sum();
    assert_eq!(counted, attempts.len() as i64, "results counted");
}

/// Attempts and approvals that were counted over all of a PSP's traffic, by tile.
fn totals(world: &World) -> BTreeMap<(String, i64), (i64, i64)> {
    let mut totals: BTreeMap<(String, i64), (i64, i64)> = BTreeMap::new();
    for delta in world.read::<StatsDelta>() {
        for entry in delta.tallies.iter().filter(|entry| entry.segment == Segment::all()) {
            let total = totals.entry((delta.psp_id.to_string(), entry.tile_start)).or_default();
            *total = (total.0 + entry.tally.attempts, total.1 + entry.tally.approvals);
        }
    }
    totals
}

/// The last published windows against the sum of what was counted in their tiles.
fn check_windows(world: &World) {
    let totals = totals(world);
    let mut last: BTreeMap<String, PspState> = BTreeMap::new();
    for state in world.read::<PspState>() {
        let windows = [&state.windows.last_15m, &state.windows.last_1h, &state.windows.last_24h];
        for window in windows {
            let WindowStats { attempts, approvals, soft_declines, hard_declines, timeouts, errors, .. } = *window;
            let parts = [approvals, soft_declines, hard_declines, timeouts, errors];
            assert!(parts.iter().all(|&part| part >= 0) && parts.iter().sum::<i64>() == attempts, "{window:?}");
        }
        if state.segment == Segment::all() {
            last.insert(state.psp_id.to_string(), state);
        }
    }
    assert_eq!(last.len(), 3, "{PREFIX}psp.states");
    for (psp, state) in last {
        let windows = [&state.windows.last_15m, &state.windows.last_1h, &state.windows.last_24h];
        for (ring, window) in RINGS.iter().zip(windows) {
            let head = ring.index_of(state.updated_at);
            let inside = |tile: i64| ring.index_of(tile) <= head && ring.index_of(tile) > head - ring.tiles as i64;
            let in_tiles = totals.iter().filter(|((of, tile), _)| *of == psp && inside(*tile));
            let expected = in_tiles.fold((0, 0), |sum, (_, (attempts, approvals))| (sum.0 + attempts, sum.1 + approvals));
            assert_eq!((window.attempts, window.approvals), expected, "{psp} at {}", state.updated_at);
        }
    }
}

#[test]
fn psps_that_somebody_invents_are_told_and_have_no_windows_beyond_the_bound() {
    const PSPS_MAX: usize = 2;
    let overrides = [("engine.psps_max", "2")];
    let mut world = World::new();
    let listed = ["worldpay", "mit", "elavon", "amex"];
    let ids: Vec<String> = (0..24).map(|n| if n % 6 == 5 { listed[n / 6].to_owned() } else { format!("ghost-{n}") }).collect();
    let partitions = world.log.topics(&[]).unwrap().into_iter().find(|it| it.name.ends_with("stats.deltas")).unwrap().partitions;
    // Whoever comes first in its partition, and whoever is listed.
    let mut expected: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
    for id in &ids {
        let windows = expected.entry(partition_of(id.as_bytes(), partitions)).or_default();
        if windows.len() < PSPS_MAX || listed.contains(&id.as_str()) {
            windows.insert(id.clone());
        }
    }
    let expected: BTreeSet<String> = expected.into_values().flatten().collect();
    assert!(expected.len() < ids.len() && expected.iter().any(|id| id.starts_with("ghost")), "{expected:?}");
    // Twice, with crashes between: who is out stays out, who is in stays in.
    for round in 1..=2 {
        for half in ids.chunks(ids.len() / 2) {
            let mut engine = world.engine_with(&overrides);
            for id in half {
                let payment = world.payment();
                let attempt = world.attempt(&payment, id);
                world.outcome(&attempt, Status::Approved);
                engine.drain().unwrap();
            }
        }
        world.engine_with(&overrides).close().unwrap();
        let states = crate::states(&world);
        assert_eq!(states.keys().cloned().collect::<BTreeSet<_>>(), expected);
        assert!(states.values().all(|state| state.windows.last_24h.attempts == round), "{states:?}");
        let told = world.read::<Feedback>();
        assert_eq!(told.len() as i64, round * ids.len() as i64, "each is joined and told");
        assert_eq!(told.iter().map(|it| it.psp_id.to_string()).collect::<BTreeSet<_>>(), ids.iter().cloned().collect());
    }
}
