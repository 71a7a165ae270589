//! Features that decisions log: of the past only, and the same that a file of the same events gives.

use crate::world::{World, outcome, payment, settings};
use smartrouter::domain::learning::{Prediction, StatsProfile};
use smartrouter::domain::payment::{HardSoft, Payment, PaymentAttempt, PaymentOutcome, Status};
use smartrouter::engine::features::{Catalogue, Encoder};
use smartrouter::engine::hashing::unit_interval;
use smartrouter::learn::TableBuilder;
use smartrouter::runtime::Engine;
use std::collections::{BTreeMap, BinaryHeap};

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

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// Try number so many on payment number so many.
    Ask(usize, i32),
    Come(usize, i32),
    /// Nothing, but deadlines pass.
    Time,
}

/// Weeks of payments by thirty customers and by nobody in particular: retried, silent, with cards and orders, one event after the other.
struct Weeks {
    world: World,
    engine: Option<Engine>,
    agenda: BinaryHeap<std::cmp::Reverse<(i64, Next)>>,
    attempts: BTreeMap<(usize, i32), PaymentAttempt>,
    outcomes: BTreeMap<(usize, i32), PaymentOutcome>,
    /// The same in the order in which it was sent.
    sent: Vec<(usize, i32)>,
}

fn draw(what: &str, number: usize, attempt: i32) -> f64 {
    unit_interval(what, &format!("{number}/{attempt}"))
}

/// No result comes in the millisecond of a request, and between any two there is time to publish.
fn in_twenties(ms: f64) -> i64 {
    (ms / 20.0) as i64 * 20 + 20
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

impl Weeks {
    fn new(payments: usize, spacing_ms: f64) -> Self {
        let world = World::new();
        let mut agenda = BinaryHeap::new();
        let mut at = world.now;
        for number in 0..payments {
            at += in_twenties(draw("pause", number, 0) * 2.0 * spacing_ms);
            agenda.push(std::cmp::Reverse((at, Next::Ask(number, 1))));
        }
        Self { world, engine: None, agenda, attempts: BTreeMap::new(), outcomes: BTreeMap::new(), sent: Vec::new() }
    }

    fn engine(&mut self) -> &mut Engine {
        // Windows are published at every change: files know them as they are.
        self.engine.get_or_insert_with(|| self.world.engine_with(&[("health.publish_interval_ms", "10")]))
    }

    /// Tells whether there is more.
    fn step(&mut self) -> bool {
        let Some(std::cmp::Reverse((at, next))) = self.agenda.pop() else { return false };
        self.world.now = at;
        self.engine().announce(at).unwrap();
        match next {
            Next::Ask(number, try_number) => self.ask(number, try_number),
            Next::Come(number, try_number) => {
                let outcome = &self.outcomes[&(number, try_number)];
                self.world.send(outcome.key(), outcome);
            }
            Next::Time => {}
        }
        self.engine().drain().unwrap();
        true
    }

    fn ask(&mut self, number: usize, attempt_number: i32) {
        let (at, payment) = (self.world.now, of_number(number));
        let mut later = |at: i64, next: Next| self.agenda.push(std::cmp::Reverse((at, next)));
        let request =
            serde_json::json!({"payment": payment, "request_id": format!("{number}/{attempt_number}"), "requested_at": at});
        let request: smartrouter::domain::payment::RoutingRequest = serde_json::from_value(request).unwrap();
        self.world.send(payment.key(), &request);
        let psps = if payment.card.brand == "AMEX" { vec!["amex"] } else { vec!["worldpay", "mit", "elavon"] };
        let attempt = PaymentAttempt {
            attempt_id: format!("a{number}-{attempt_number}"),
            attempt_number,
            psp_id: psps[(draw("psp", number, attempt_number) * psps.len() as f64) as usize].into(),
            attempted_at: at,
            deadline_ms: Some(30_000),
            decision_id: None,
            algorithm: None,
            skip_reasons: Vec::new(),
            payment,
        };
        self.world.send(attempt.payment.key(), &attempt);
        let luck = draw("luck", number, attempt_number);
        if luck < 0.05 {
            later(at + 30_000 + 5_000, Next::Time);
        } else {
            let approved = luck < 0.6;
            let mut came = outcome(&attempt, if approved { Status::Approved } else { Status::Declined });
            came.occurred_at = at + 310 + in_twenties(draw("delay", number, attempt_number) * 20_000.0);
            came.hard_soft = (!approved).then_some(if luck < 0.7 { HardSoft::Hard } else { HardSoft::Soft });
            later(came.occurred_at, Next::Come(number, attempt_number));
            self.outcomes.insert((number, attempt_number), came);
        }
        if luck >= 0.6 && attempt_number < 4 {
            later(
                at + 40_000 + in_twenties(draw("again", number, attempt_number) * 100_000.0),
                Next::Ask(number, attempt_number + 1),
            );
        }
        self.sent.push((number, attempt_number));
        self.attempts.insert((number, attempt_number), attempt);
    }
}

/// Decisions one by one, and the same events from a file: all 140 features of each are the same, to the last bit.
#[test]
fn what_decisions_log_is_what_a_file_of_the_same_events_gives() {
    let mut weeks = Weeks::new(500, 3_600_000.0);
    while weeks.step() {}
    let encoder = Encoder::new(Catalogue::shipped().unwrap());
    let settings = settings(&[]);
    let mut builder = TableBuilder::new(Encoder::new(Catalogue::shipped().unwrap()), &settings, [None, None]);
    for place in &weeks.sent {
        builder.accept(&weeks.attempts[place], weeks.outcomes.get(place));
    }
    let table = builder.finish().table;
    let predictions: BTreeMap<String, Prediction> =
        weeks.world.read::<Prediction>().into_iter().map(|it| (it.request_id.clone(), it)).collect();
    let mut compared = 0;
    let mut moved = vec![false; encoder.width()];
    for (row, known) in table.rows.iter().enumerate() {
        let place = weeks.sent.iter().find(|place| weeks.attempts[*place].attempt_id == known.attempt_id).unwrap();
        let prediction = &predictions[&format!("{}/{}", place.0, place.1)];
        let candidate = prediction.candidates.iter().find(|it| it.psp_id == known.psp_id).unwrap();
        let logged = [prediction.request_features.as_slice(), &candidate.features].concat();
        let from_file = table.features(row);
        for (column, (a, b)) in logged.iter().zip(from_file).enumerate() {
            let name = &encoder.columns()[column].name;
            assert!(a.to_bits() == b.to_bits(), "{name} of {place:?}: {a} was logged, {b} from the file");
            moved[column] |= *a != table.features(0)[column];
            compared += 1;
        }
    }
    assert!(compared > 600 * encoder.width(), "{compared}");
    let is_told = |name: &str| moved[encoder.columns().iter().position(|column| column.name == name).unwrap()];
    for name in [
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
    ] {
        assert!(is_told(name), "{name} was the same all the time: nothing was compared");
    }
}

/// Counts are those of an engine that never ended, however often it does.
#[test]
fn counts_survive_crashes() {
    let run = |crash_every: usize| {
        let mut weeks = Weeks::new(150, 60_000.0);
        let mut steps = 0;
        while weeks.step() {
            steps += 1;
            if steps % crash_every == 0 {
                weeks.engine = None;
            }
        }
        let end = weeks.world.now + 600_000;
        weeks.engine().announce(end).unwrap();
        weeks.engine = None;
        let all = weeks.world.read::<StatsProfile>().into_iter();
        all.map(|it| (it.subject.clone(), StatsProfile { updated_at: 0, ..it })).collect::<BTreeMap<_, _>>()
    };
    let (whole, in_pieces) = (run(usize::MAX), run(7));
    assert!(whole.len() > 100, "{}", whole.len());
    assert_eq!(whole, in_pieces);
}
