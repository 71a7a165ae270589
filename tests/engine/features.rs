//! Features that decisions log: of the past only, and the same that a file of the same events gives.

use crate::world::{T0, World, outcome, payment, settings};
use serde_json::json;
use smartrouter::domain::learning::{Prediction, StatsProfile};
use smartrouter::domain::payment::{HardSoft, Payment, PaymentAttempt, PaymentOutcome, RoutingRequest, Status};
use smartrouter::engine::features::{Catalogue, Encoder};
use smartrouter::engine::hashing::unit_interval;
use smartrouter::io::history::{HistoryReader, HistoryRow, Mapping, Requests};
use smartrouter::learn::TableBuilder;
use smartrouter::runtime::Engine;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// However many events have come since, what was logged stays as it was.
#[test]
fn features_know_nothing_of_what_comes_later() {
    let logged = |payments: usize| {
        let mut world = World::new();
        let mut engine = world.engine();
        for _ in 0..payments / 20 {
            world.traffic(20);
            engine.drain().unwrap();
        }
        drop(engine);
        let of = |it: Prediction| {
            let candidates: Vec<Vec<u32>> =
                it.candidates.iter().map(|candidate| candidate.features.iter().map(|value| value.to_bits()).collect()).collect();
            (it.request_id, (it.request_features.iter().map(|value| value.to_bits()).collect::<Vec<u32>>(), candidates))
        };
        world.read::<Prediction>().into_iter().map(of).collect::<BTreeMap<_, _>>()
    };
    let (early, all) = (logged(200), logged(400));
    assert_eq!((early.len(), all.len()), (200, 400));
    assert!(early.iter().all(|(request, features)| all[request] == *features));
}

type Event = (PaymentAttempt, Option<PaymentOutcome>);

/// Weeks of payments by thirty customers and by nobody in particular: retried, silent, with cards and orders.
fn weeks(payments: usize, spacing_ms: f64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut started_at = T0;
    for number in 0..payments {
        started_at += (draw("pause", number, 0) * 2.0 * spacing_ms) as i64;
        let mut at = started_at;
        for attempt_number in 1..=4 {
            let luck = draw("luck", number, attempt_number);
            events.push(event(number, attempt_number, at, luck));
            if luck < 0.6 {
                break;
            }
            at += 40_000 + (draw("again", number, attempt_number) * 100_000.0) as i64;
        }
    }
    events
}

fn draw(what: &str, number: usize, attempt: i32) -> f64 {
    unit_interval(what, &format!("{number}/{attempt}"))
}

/// `luck`: silent, approved, hard or soft decline, from 0 to 1.
fn event(number: usize, attempt_number: i32, at: i64, luck: f64) -> Event {
    let payment = of_number(number);
    let psps = if payment.card.brand == "AMEX" { vec!["amex"] } else { vec!["worldpay", "mit", "elavon"] };
    let attempt = PaymentAttempt {
        attempt_id: format!("a{number}-{attempt_number}"),
        attempt_number,
        psp_id: psps[(draw("psp", number, attempt_number) * psps.len() as f64) as usize].into(),
        attempted_at: at,
        deadline_ms: None,
        decision_id: None,
        algorithm: None,
        skip_reasons: Vec::new(),
        payment,
    };
    let approved = luck < 0.6;
    let mut came = outcome(&attempt, if approved { Status::Approved } else { Status::Declined });
    came.occurred_at = at + 300 + (draw("delay", number, attempt_number) * 20_000.0) as i64;
    came.hard_soft = (!approved).then_some(if luck < 0.7 { HardSoft::Hard } else { HardSoft::Soft });
    (attempt, (luck >= 0.05).then_some(came))
}

fn of_number(number: usize) -> Payment {
    let mut payment = payment(&format!("p{number}"));
    let pick = |what: &str, many: f64| (draw(what, number, 0) * many) as usize;
    payment.card.bin = format!("{}", 411_100 + pick("bin", 6.0));
    payment.card.brand = ["VISA", "MASTERCARD", "AMEX"][pick("brand", 2.2)].into();
    payment.message.three_ds = draw("3ds", number, 0) < 0.4;
    payment.amount_minor = 50_000 + pick("amount", 40.0) as i64 * 10_000;
    if draw("known", number, 0) < 0.7 {
        let customer = pick("customer", 30.0);
        payment.customer_id = Some(format!("c{customer}"));
        payment.order_id = format!("o{customer}-{}", number / 40);
        payment.card.token = (draw("token", number, 0) < 0.8).then(|| format!("t{customer}-{}", pick("card", 2.0)));
    } else {
        payment.amount_minor = 100_000;
    }
    payment
}

/// What happens next, and to which event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Come(usize),
    /// Nothing, but silence is over its deadline.
    Time(usize),
    Ask(usize),
}

/// Events sent one after the other to an engine, each with a request before it.
struct Driven {
    world: World,
    config: &'static str,
    engine: Option<Engine>,
    events: Vec<Event>,
    agenda: Vec<(i64, Next)>,
}

impl Driven {
    fn new(mut events: Vec<Event>, config: &'static str) -> Self {
        let settings = settings(config, &[]).engine;
        events.sort_by_key(|(attempt, _)| attempt.attempted_at);
        spread(&mut events);
        let mut agenda = Vec::new();
        for (place, (attempt, outcome)) in events.iter().enumerate() {
            agenda.push((attempt.attempted_at, Next::Ask(place)));
            agenda.push(match outcome {
                Some(outcome) => (outcome.occurred_at, Next::Come(place)),
                None => (attempt.attempted_at + settings.attempt_deadline_ms + settings.lateness_ms, Next::Time(place)),
            });
        }
        agenda.sort();
        agenda.reverse();
        Self { world: World::new(), config, engine: None, events, agenda }
    }

    fn engine(&mut self) -> &mut Engine {
        // Windows are published at every change: a file knows them as they are.
        let often = [("health.publish_interval_ms", "10")];
        self.engine.get_or_insert_with(|| self.world.engine_of(self.config, &often))
    }

    /// Tells whether there is more.
    fn step(&mut self) -> bool {
        let Some((at, next)) = self.agenda.pop() else { return false };
        self.world.now = at;
        self.engine().announce(at).unwrap();
        match next {
            Next::Ask(place) => {
                let attempt = &self.events[place].0;
                let request = json!({"payment": attempt.payment, "request_id": attempt.attempt_id, "requested_at": at});
                self.world.send(attempt.payment.key(), &serde_json::from_value::<RoutingRequest>(request).unwrap());
                self.world.send(attempt.payment.key(), attempt);
            }
            Next::Come(place) => {
                let outcome = self.events[place].1.as_ref().unwrap();
                self.world.send(outcome.key(), outcome);
            }
            Next::Time(_) => {}
        }
        self.engine().drain().unwrap();
        true
    }
}

/// No two things happen at once, and between any two there is time to publish.
fn spread(events: &mut [Event]) {
    let mut last = 0;
    for (attempt, outcome) in events {
        let latency = outcome.as_ref().map_or(0, |outcome| outcome.occurred_at - attempt.attempted_at);
        last = (attempt.attempted_at / 40 * 40).max(last + 40);
        attempt.attempted_at = last;
        if let Some(outcome) = outcome {
            outcome.occurred_at = last + latency / 40 * 40 + 20;
        }
    }
}

/// Decisions one by one, and the same events from a file: all 140 features of each are the same, to the last bit. Gives the names of
/// those that were not the same all the time.
fn check_equal_to_a_file(events: Vec<Event>, config: &'static str) -> BTreeSet<String> {
    let mut driven = Driven::new(events, config);
    while driven.step() {}
    let encoder = || Encoder::new(Catalogue::shipped().unwrap());
    let mut builder = TableBuilder::new(encoder(), &settings(config, &[]), [None, None]);
    for (attempt, outcome) in &driven.events {
        builder.accept(attempt, outcome.as_ref());
    }
    let (table, columns) = (builder.finish().table, encoder().columns().to_vec());
    let predictions: BTreeMap<String, Prediction> =
        driven.world.read::<Prediction>().into_iter().map(|it| (it.request_id.clone(), it)).collect();
    let (mut first, mut moved) = (BTreeMap::new(), BTreeSet::new());
    for (row, known) in table.rows.iter().enumerate() {
        let prediction = &predictions[&known.attempt_id];
        let candidate = prediction.candidates.iter().find(|it| it.psp_id == known.psp_id).unwrap();
        let logged = [prediction.request_features.as_slice(), &candidate.features].concat();
        assert_eq!(logged.len(), columns.len());
        for (column, (logged, from_file)) in columns.iter().zip(logged.iter().zip(table.features(row))) {
            let (name, id) = (&column.name, &known.attempt_id);
            assert!(logged.to_bits() == from_file.to_bits(), "{name} of {id}: {logged} was logged, {from_file} is the file's");
            let first = first.entry(name.clone()).or_insert(*logged);
            if first != logged {
                moved.insert(name.clone());
            }
        }
    }
    assert!(table.rows.len() + 100 > driven.events.len(), "{} rows", table.rows.len());
    moved
}

#[track_caller]
fn check_moved(moved: &BTreeSet<String>, names: &[&str]) {
    for name in names {
        assert!(moved.contains(*name), "{name} was the same all the time: nothing was compared");
    }
}

#[test]
fn what_decisions_log_is_what_a_file_of_the_same_events_gives() {
    let moved = check_equal_to_a_file(weeks(500, 3_600_000.0), "deploy/volaris.toml");
    check_moved(
        &moved,
        &[
            "bin_psp_rate",
            "brand_three_ds_first_size_psp_rate",
            "customer_psp_rate",
            "token_psp_rate",
            "lookalike_last_psp",
            "order_attempts",
            "previous_category",
            "traffic_minute",
            "psp_failures_in_a_row",
            "psp_approval_rate_24h",
        ],
    );
}

/// The first days of the routing log of January 2019, which names neither customers nor cards.
#[test]
fn so_it_is_with_the_routing_log() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/psp_2019_january/attempts.csv");
    if !file.exists() {
        println!("skipped: {} is not there", file.display());
        return;
    }
    let mapping = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/mappings/psp_routing_log.toml");
    let reader = HistoryReader::open(&[file], Mapping::load(&mapping).unwrap(), Requests::None).unwrap();
    let events = reader.take(2_500).filter_map(|row| match row.unwrap() {
        HistoryRow::Events(events) => Some((events.attempt, events.outcome)),
        HistoryRow::Reject(_) => None,
    });
    let moved = check_equal_to_a_file(events.collect(), "deploy/january.toml");
    check_moved(&moved, &["size_day_part_psp_rate", "hour_psp_rate", "lookalike_rate", "previous_psp_rate", "psp_results_15m"]);
}

/// Counts are those of an engine that never ended, however often it does.
#[test]
fn counts_survive_crashes() {
    let run = |crash_every: usize| {
        let mut driven = Driven::new(weeks(150, 60_000.0), "deploy/volaris.toml");
        let mut steps = 0;
        while driven.step() {
            steps += 1;
            if steps % crash_every == 0 {
                driven.engine = None;
            }
        }
        let end = driven.world.now + 600_000;
        driven.engine().announce(end).unwrap();
        driven.engine = None;
        let all = driven.world.read::<StatsProfile>().into_iter();
        all.map(|it| (it.subject.clone(), StatsProfile { updated_at: 0, ..it })).collect::<BTreeMap<_, _>>()
    };
    let (whole, in_pieces) = (run(usize::MAX), run(7));
    assert!(whole.len() > 100, "{}", whole.len());
    assert_eq!(whole, in_pieces);
}
