//! Whole runs of the world: the same twice, true to its own odds, and hit by outages as scripted.

use super::fixtures::{START, settings};
use super::*;
use crate::domain::payment::{HardSoft, Initiator, Payment, PaymentAttempt, PaymentOutcome, RoutingRequest, Status};
use crate::domain::psp::{Segment, SegmentKind};
use crate::domain::{EpochMs, PspId, Validate};
use std::collections::{BTreeMap, HashMap, HashSet};

const HOUR_MS: i64 = 3_600_000;

fn open(seed: u64, hours: i64, per_hour: f64) -> WorldSettings {
    WorldSettings {
        routing: Routing::Open,
        payments_per_hour: per_hour,
        arrivals_until: Some(START + hours * HOUR_MS),
        ..settings(seed)
    }
}

/// Plays a world to its end, answering requests by `choose`, in steps of `step_ms`.
fn play(
    settings: WorldSettings,
    step_ms: i64,
    mut choose: impl FnMut(&Reality, &RoutingRequest) -> Route,
) -> (Vec<SimEvent>, World) {
    let mut world = World::new(settings).unwrap();
    let mut told = Vec::new();
    while let Some(at) = world.next_event_at() {
        let events = world.step_until(at + step_ms);
        for event in &events {
            if let SimEvent::Request(request) = event {
                let route = choose(world.reality(), request);
                world.route(&route);
            }
        }
        told.extend(events);
    }
    assert!(world.is_over());
    (told, world)
}

fn play_open(settings: WorldSettings) -> (Vec<SimEvent>, World) {
    play(settings, 0, |_, _| Route::default())
}

fn to(request: &RoutingRequest, psp: &PspId) -> Route {
    Route { request_id: request.request_id.clone(), order: vec![psp.clone()], ..Route::default() }
}

fn bytes(events: &[SimEvent]) -> String {
    format!("{events:?}")
}

fn joined(events: &[SimEvent]) -> Vec<(&PaymentAttempt, Option<&PaymentOutcome>)> {
    let outcomes: HashMap<&str, &PaymentOutcome> = events
        .iter()
        .filter_map(
            |event| if let SimEvent::Outcome(outcome) = event { Some((outcome.attempt_id.as_str(), &**outcome)) } else { None },
        )
        .collect();
    let attempts = events.iter().filter_map(|event| if let SimEvent::Attempt(attempt) = event { Some(&**attempt) } else { None });
    attempts.map(|a| (a, outcomes.get(a.attempt_id.as_str()).copied())).collect()
}

fn requests(events: &[SimEvent]) -> Vec<&RoutingRequest> {
    events.iter().filter_map(|event| if let SimEvent::Request(request) = event { Some(&**request) } else { None }).collect()
}

/// Within four standard deviations of a share.
fn assert_share(what: &str, seen: usize, of: usize, expected: f64) {
    let (n, share) = (of as f64, seen as f64 / of as f64);
    let tolerance = 4.0 * (expected * (1.0 - expected) / n).sqrt() + 1e-9;
    assert!(
        of > 50 && (share - expected).abs() <= tolerance,
        "{what}: {seen} of {of} = {share:.4}, expected {expected:.4} ± {tolerance:.4}"
    );
}

#[test]
fn one_seed_is_one_world() {
    let run = |seed| bytes(&play_open(open(seed, 2, 500.0)).0);
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
    let later = WorldSettings { start_at: START + HOUR_MS, ..open(5, 3, 500.0) };
    let (first, _) = play_open(open(5, 2, 500.0));
    let (second, _) = play_open(later);
    let ids = |events: &[SimEvent]| requests(events).iter().map(|r| r.payment.payment_id.clone()).collect::<HashSet<_>>();
    assert!(ids(&first).is_disjoint(&ids(&second)), "a run that starts later has payments of its own");
    let customers = |events: &[SimEvent]| {
        requests(events).iter().map(|r| (r.payment.customer_id.clone(), r.payment.card.bin.clone())).collect::<HashSet<_>>()
    };
    assert!(customers(&first).intersection(&customers(&second)).count() > 20, "by the same customers");
}

#[test]
fn payments_do_not_depend_on_the_router() {
    let firsts = |psp: &'static str| {
        let closed = WorldSettings { routing: Routing::Closed, ..open(8, 1, 500.0) };
        let (events, _) = play(closed, 0, |_, request| to(request, &psp.into()));
        requests(&events).into_iter().filter(|r| r.request_id.ends_with("-r1")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(firsts("worldpay"), firsts("mit"));
}

#[test]
fn records_are_valid_ordered_and_hold_no_card_number() {
    let (events, _) = play_open(WorldSettings {
        scenario: Scenario::demo(&["worldpay", "mit", "elavon"].map(PspId::from)),
        ..open(1, 3, 800.0)
    });
    assert!(events.is_sorted_by_key(SimEvent::at));
    let mut ids = HashSet::new();
    for event in &events {
        let (checked, id) = match event {
            SimEvent::Request(r) => (r.validate(), &r.request_id),
            SimEvent::Attempt(a) => (a.validate(), &a.attempt_id),
            SimEvent::Outcome(o) => (o.validate(), &o.attempt_id),
        };
        checked.unwrap();
        assert!(ids.insert((std::mem::discriminant(event), id.clone())), "{id} twice");
        let json = match event {
            SimEvent::Request(r) => serde_json::to_string(r),
            SimEvent::Attempt(a) => serde_json::to_string(a),
            SimEvent::Outcome(o) => serde_json::to_string(o),
        };
        let json = json.unwrap();
        // The only long digit runs are times: 13 digits from 1.7e12.
        let runs = json
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| word.len() >= 13 && word.bytes().all(|b| b.is_ascii_digit()));
        for run in runs {
            assert!(run.len() == 13 && (run.starts_with("17") || run.starts_with("18")), "{run} in {json}");
        }
    }
}

#[test]
fn the_merchant_is_a_mexican_airline() {
    let (events, _) = play_open(open(2, 8, 3_000.0));
    let payments: Vec<&Payment> =
        requests(&events).into_iter().filter(|r| r.request_id.ends_with("-r1")).map(|r| &r.payment).collect();
    let n = payments.len() as f64;
    let share = |holds: fn(&Payment) -> bool| payments.iter().filter(|p| holds(p)).count() as f64 / n;
    let check = |what: &str, holds: fn(&Payment) -> bool, low: f64, high: f64| {
        let seen = share(holds);
        assert!((low..high).contains(&seen), "{what}: {seen}");
    };
    check("Amex", |p| p.card.brand == "AMEX", 0.07, 0.11);
    check("pesos", |p| p.currency == "MXN", 0.70, 0.82);
    check("other than pesos and dollars", |p| p.currency != "MXN" && p.currency != "USD", -0.1, 1e-9);
    check("merchant-initiated", |p| p.message.initiator == Initiator::Merchant, 0.01, 0.05);
    check("instalments", |p| p.installments.is_some(), 0.06, 0.16);
    check("foreign issuers", |p| p.card.issuer_country.as_deref() != Some("MX"), 0.15, 0.30);
    check("travel alone", |p| p.airline.as_ref().is_some_and(|a| a.passengers == Some(1)), 0.48, 0.60);
    check(
        "has all of a customer",
        |p| p.customer.as_ref().is_some_and(|c| c.rfm_recency >= Some(0.0) && c.browser.is_some()),
        0.999,
        1.1,
    );
    let counts: BTreeMap<i32, usize> =
        payments.iter().filter_map(|p| p.installments.as_ref()).fold(BTreeMap::new(), |mut counts, plan| {
            *counts.entry(plan.count).or_default() += 1;
            counts
        });
    assert!(counts.keys().all(|count| [3, 6, 9, 12, 18, 24].contains(count)) && counts[&3] > counts[&12], "{counts:?}");
    let mut pesos: Vec<i64> = payments.iter().filter(|p| p.currency == "MXN").map(|p| p.amount_minor).collect();
    pesos.sort_unstable();
    let median = pesos[pesos.len() / 2];
    assert!((120_000..350_000).contains(&median), "median of {median} centavos");
}

#[test]
fn customers_remember_their_orders() {
    let (events, _) = play_open(WorldSettings { customers: 50, ..open(16, 4, 500.0) });
    let mut last: HashMap<String, (EpochMs, f64)> = HashMap::new();
    let mut seen_again = 0;
    for request in requests(&events).into_iter().filter(|r| r.request_id.ends_with("-r1")) {
        let customer = request.payment.customer.as_ref().unwrap();
        let (recency, frequency) = (customer.rfm_recency.unwrap(), customer.rfm_frequency.unwrap());
        if let Some((before, orders)) =
            last.insert(request.payment.customer_id.clone().unwrap(), (request.requested_at, frequency))
        {
            assert_eq!(frequency, orders + 1.0);
            assert!((recency - (request.requested_at - before) as f64 / 86_400_000.0).abs() <= 0.05, "{recency} days");
            seen_again += 1;
        }
    }
    assert!(seen_again > 500, "{seen_again}");
}

#[test]
fn results_follow_the_odds() {
    let (events, world) = play_open(open(3, 6, 4_000.0));
    for psp in world.reality().psps() {
        let (mut n, mut approve, mut fail, mut approved, mut failed) = (0, 0.0, 0.0, 0, 0);
        for (attempt, outcome) in joined(&events).into_iter().filter(|(a, _)| a.psp_id == psp.id && a.attempt_number == 1) {
            let odds = world.reality().odds(&attempt.payment, &psp.id, attempt.attempted_at).unwrap();
            assert!((odds.approve + odds.decline + odds.fail - 1.0).abs() < 1e-9 && odds.approve > 0.0 && odds.decline > 0.0);
            let outcome = outcome.unwrap();
            n += 1;
            approve += odds.approve;
            fail += odds.fail;
            approved += usize::from(outcome.status == Status::Approved);
            failed += usize::from(
                matches!(outcome.status, Status::Error | Status::Timeout) || outcome.error_code.as_deref() == Some("91"),
            );
        }
        assert_share(&format!("{} approvals", psp.id), approved, n, approve / n as f64);
        assert_share(&format!("{} failures", psp.id), failed, n, fail / n as f64);
        assert!((0.70..0.95).contains(&(approve / n as f64)), "{} approves {}", psp.id, approve / n as f64);
    }
}

#[test]
fn codes_and_latencies_are_those_of_the_world() {
    let (events, world) = play_open(open(4, 6, 3_000.0));
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for (attempt, outcome) in joined(&events) {
        let outcome = outcome.unwrap();
        let psp = world.reality().psps().iter().find(|psp| psp.id == attempt.psp_id).unwrap();
        assert_eq!(outcome.occurred_at, attempt.attempted_at + outcome.latency_ms);
        assert_eq!(outcome.status == Status::Timeout, outcome.latency_ms == psp.client_timeout_ms);
        assert_eq!(outcome.status == Status::Approved, outcome.error_code.is_none());
        assert_eq!(attempt.deadline_ms, Some(psp.client_timeout_ms + 1_000));
        *codes.entry(outcome.error_code.clone().unwrap_or_default()).or_default() += 1;
    }
    let expected = ["", "05", "14", "51", "54", "91", "96", "connection_error", "timeout"];
    assert_eq!(codes.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{codes:?}");
    assert!(codes["51"] > codes["05"] && codes["05"] > codes["54"]);
    for psp in world.reality().psps() {
        let mut latencies: Vec<i64> = joined(&events)
            .into_iter()
            .filter(|(a, _)| a.psp_id == psp.id)
            .filter_map(|(_, o)| o)
            .map(|o| o.latency_ms)
            .collect();
        latencies.sort_unstable();
        let median = latencies[latencies.len() / 2] as f64;
        assert!((median / psp.latency.median_ms - 1.0).abs() < 0.08, "{}: median {median} ms", psp.id);
    }
}

#[test]
fn retry_chains_are_well_formed() {
    let (events, _) = play_open(open(6, 5, 3_000.0));
    let mut chains: BTreeMap<&str, Vec<(&PaymentAttempt, &PaymentOutcome)>> = BTreeMap::new();
    for (attempt, outcome) in joined(&events) {
        chains.entry(&attempt.payment.payment_id).or_default().push((attempt, outcome.unwrap()));
    }
    let by_request: HashMap<&str, EpochMs> = requests(&events).iter().map(|r| (r.request_id.as_str(), r.requested_at)).collect();
    for (payment_id, chain) in &chains {
        assert!(chain.len() <= 4, "{payment_id}");
        for (index, (attempt, outcome)) in chain.iter().enumerate() {
            assert_eq!(attempt.attempt_number as usize, index + 1);
            assert_eq!(attempt.payment, chain[0].0.payment, "the payment stays the same");
            let asked_at = by_request[format!("{payment_id}-r{}", index + 1).as_str()];
            assert!((20..=80).contains(&(attempt.attempted_at - asked_at)));
            if let Some((next, _)) = chain.get(index + 1) {
                assert!(
                    outcome.status != Status::Approved && outcome.hard_soft != Some(HardSoft::Hard),
                    "{payment_id} goes on after {outcome:?}"
                );
                assert!(next.attempted_at >= outcome.occurred_at + 500);
            }
        }
    }
    let soft: Vec<_> =
        chains.values().filter(|c| c[0].1.status == Status::Declined && c[0].1.hard_soft == Some(HardSoft::Soft)).collect();
    let issuer: Vec<_> = soft.iter().filter(|c| c[0].1.error_code.as_deref() != Some("91")).collect();
    assert_share("retries after soft declines", issuer.iter().filter(|c| c.len() > 1).count(), issuer.len(), 0.40);
    assert!(chains.values().any(|c| c.len() == 3));
}

#[test]
fn reality_is_the_counterfactual_come_true() {
    let closed = WorldSettings { routing: Routing::Closed, scenario: Scenario::demo(&["worldpay".into()]), ..open(9, 2, 600.0) };
    for psp in ["worldpay", "mit", "elavon"].map(PspId::from) {
        let (events, world) = play(closed.clone(), 0, |_, request| to(request, &psp));
        for (attempt, outcome) in joined(&events) {
            let told = world.reality().answer(&attempt.payment, attempt.attempt_number, &psp, attempt.attempted_at).unwrap();
            let outcome = outcome.unwrap();
            assert_eq!(
                (told.status, told.error_code, told.latency_ms),
                (outcome.status, outcome.error_code.clone(), outcome.latency_ms)
            );
        }
    }
    // Routing as the static route or the oracle does, one gets what the truth says they would get.
    let (_, world) = play_open(WorldSettings { routing: Routing::Open, ..closed.clone() });
    let truth = world.truth();
    assert_eq!(truth.first_attempts.approved, truth.first_attempts.approved_static);
    assert_eq!(truth.payments.approved, truth.payments.approved_static);
    let (_, world) = play(closed, 0, |reality, request| {
        let psp = reality.oracle(&request.payment, request.requested_at).unwrap().clone();
        to(request, &psp)
    });
    let truth = world.truth();
    // At the edge of an outage the oracle sees the moment of the attempt, the answer that of the request: a few payments at most.
    assert!(truth.first_attempts.approved.abs_diff(truth.first_attempts.approved_oracle) <= 2, "{truth:?}");
    assert_eq!(truth.first_attempts.n, truth.payments.n);
}

#[test]
fn nobody_beats_the_oracle_and_the_best_psp_differs() {
    let (events, world) = play_open(open(10, 4, 3_000.0));
    let truth = world.truth();
    assert!(truth.first_attempts.rate_oracle() > truth.first_attempts.rate_static() + 0.01, "{truth:?}");
    let mut best: BTreeMap<PspId, usize> = BTreeMap::new();
    for (attempt, outcome) in joined(&events).into_iter().filter(|(a, _)| a.attempt_number == 1) {
        let oracle = world.reality().oracle(&attempt.payment, attempt.attempted_at).unwrap();
        let by_oracle = world.reality().answer(&attempt.payment, 1, oracle, attempt.attempted_at).unwrap();
        assert!(by_oracle.approved() || outcome.unwrap().status != Status::Approved, "{}", attempt.attempt_id);
        *best.entry(oracle.clone()).or_default() += 1;
    }
    let total: usize = best.values().sum();
    assert!(best.len() == 4 && best.values().all(|count| *count * 20 > total), "each is best for at least 5 %: {best:?}");
}

/// Banks that change their minds stay as choosy as they are, change little in an hour, and like others best after the time that is stated.
#[test]
fn banks_change_their_minds_where_that_is_scripted() {
    let scenario = Scenario { drift_days: Some(1.0), ..Scenario::none() };
    let (events, calm) = play_open(open(21, 2, 500.0));
    let (_, drifting) = play_open(WorldSettings { scenario, ..open(21, 2, 500.0) });
    let payments: Vec<&Payment> = requests(&events).iter().map(|request| &request.payment).collect();
    let best = |world: &World, payment: &Payment, at| world.reality().oracle(payment, at).cloned();
    let changed = |world: &World, at| {
        let changed = payments.iter().filter(|payment| best(world, payment, at) != best(&calm, payment, START)).count();
        changed as f64 / payments.len() as f64
    };
    let chance = |world: &World, at| {
        let odds = payments.iter().filter_map(|payment| world.reality().odds(payment, &best(world, payment, at)?, at));
        odds.map(|odds| odds.approve).sum::<f64>() / payments.len() as f64
    };
    assert_eq!((changed(&drifting, START), changed(&calm, START + 24 * HOUR_MS)), (0.0, 0.0));
    let (hour, day) = (changed(&drifting, START + HOUR_MS), changed(&drifting, START + 24 * HOUR_MS));
    assert!(hour < 0.1 && day > 0.25, "{hour} after an hour, {day} after a day");
    for hours in [12, 24, 36] {
        let (now, before) = (chance(&drifting, START + hours * HOUR_MS), chance(&calm, START));
        assert!((now - before).abs() < 0.04, "the oracle approves {now} after {hours} hours, {before} at the start");
    }
}

fn outage(fault: Fault, segment: Option<Segment>) -> WorldSettings {
    let outage = Outage { psp: "worldpay".into(), from_ms: HOUR_MS, to_ms: 2 * HOUR_MS, segment, fault };
    WorldSettings { scenario: Scenario { outages: vec![outage], ..Scenario::none() }, ..open(12, 3, 3_000.0) }
}

/// Attempts at the PSP that the test outages hit, during the outage (`true`) or not.
fn at_worldpay(events: &[SimEvent], during: bool) -> Vec<(&PaymentAttempt, Option<&PaymentOutcome>)> {
    let hit = |at: EpochMs| (HOUR_MS..2 * HOUR_MS).contains(&(at - START));
    joined(events).into_iter().filter(|(a, _)| a.psp_id.as_str() == "worldpay" && hit(a.attempted_at) == during).collect()
}

fn share(attempts: &[(&PaymentAttempt, Option<&PaymentOutcome>)], holds: impl Fn(&PaymentOutcome) -> bool) -> f64 {
    assert!(attempts.len() > 200);
    attempts.iter().filter(|(_, outcome)| outcome.is_some_and(&holds)).count() as f64 / attempts.len() as f64
}

fn technical(outcome: &PaymentOutcome) -> bool {
    matches!(outcome.status, Status::Error | Status::Timeout)
}

#[test]
fn outages_do_what_they_say() {
    let run = |fault| play_open(outage(fault, None)).0;
    let total = run(Fault::Total);
    assert_eq!(share(&at_worldpay(&total, true), technical), 1.0);
    assert!(share(&at_worldpay(&total, false), technical) < 0.02);

    let silent = run(Fault::Silent);
    assert!(at_worldpay(&silent, true).iter().all(|(_, outcome)| outcome.is_none()));
    assert!(at_worldpay(&silent, false).iter().all(|(_, outcome)| outcome.is_some()));

    let slow = run(Fault::Slow { factor: 16.0 });
    let timeouts = share(&at_worldpay(&slow, true), |o| o.status == Status::Timeout);
    assert!((0.25..0.50).contains(&timeouts), "a median of 8.3 s against 10 s of patience: {timeouts}");
    assert!(
        at_worldpay(&slow, true)
            .iter()
            .filter_map(|(_, o)| *o)
            .filter(|o| o.status == Status::Approved)
            .all(|o| o.latency_ms > 1_000)
    );

    let burst = run(Fault::ErrorBurst { rate: 0.4, code: "96".into() });
    let with_code = share(&at_worldpay(&burst, true), |o| o.error_code.as_deref() == Some("96") && o.status == Status::Error);
    assert!((0.36..0.44).contains(&with_code), "{with_code}");

    let decay = run(Fault::Decay { floor: 0.2 });
    let approved = |attempts: &[_]| share(attempts, |o| o.status == Status::Approved);
    let (before, during) = (approved(&at_worldpay(&decay, false)), approved(&at_worldpay(&decay, true)));
    assert!((0.5..0.7).contains(&(during / before)), "on average 0.6 of it: {during} against {before}");
    assert!(share(&at_worldpay(&decay, true), technical) < 0.02, "without technical errors");
}

#[test]
fn flapping_alternates_and_segments_limit() {
    let period_ms = 10 * 60_000;
    let flapping = play_open(outage(Fault::Flapping { period_ms }, None)).0;
    let (down, up): (Vec<_>, Vec<_>) = at_worldpay(&flapping, true)
        .into_iter()
        .partition(|(a, _)| (a.attempted_at - START - HOUR_MS) % period_ms < period_ms / 2);
    assert_eq!(share(&down, technical), 1.0);
    assert!(share(&up, technical) < 0.03);

    let dollars = Segment { kind: SegmentKind::Currency, value: "USD".into() };
    let partial = play_open(outage(Fault::Total, Some(dollars))).0;
    let (usd, others): (Vec<_>, Vec<_>) = at_worldpay(&partial, true).into_iter().partition(|(a, _)| a.payment.currency == "USD");
    assert_eq!(share(&usd, technical), 1.0);
    assert!(share(&others, technical) < 0.02);
}

#[test]
fn failover_is_measured_from_routes() {
    let closed = WorldSettings { routing: Routing::Closed, ..outage(Fault::Total, None) };
    let (worldpay, mit) = (PspId::new("worldpay"), PspId::new("mit"));
    let leave_at = START + HOUR_MS + 30_000;
    let (events, world) = play(closed.clone(), 0, |_, request| {
        let leaves = request.requested_at >= leave_at;
        let avoided = if leaves { vec![worldpay.clone()] } else { Vec::new() };
        Route { avoided, ..to(request, if leaves { &mit } else { &worldpay }) }
    });
    let failover = &world.failovers()[0];
    let bad = at_worldpay(&events, true);
    assert_eq!(failover.first_bad_at, bad.first().map(|(a, _)| a.attempted_at));
    let sent = bad.iter().filter(|(a, _)| a.attempted_at < leave_at + 80).count() as u64;
    assert!(failover.payments_to_detect.is_some_and(|payments| payments.abs_diff(sent) <= 2), "{failover:?}, sent {sent}");
    assert!(failover.ms_to_avoid.is_some_and(|ms| (20_000..35_000).contains(&ms)), "{failover:?}");
    let (_, world) = play(closed, 0, |_, request| to(request, &worldpay));
    assert_eq!(world.failovers()[0].payments_to_detect, None, "never left");
}

#[test]
fn unanswered_requests_take_the_static_route() {
    let closed = WorldSettings { routing: Routing::Closed, ..open(13, 1, 500.0) };
    let (events, world) = play(closed.clone(), 0, |_, _| Route::default());
    assert_eq!(world.truth().unanswered as usize, requests(&events).len());
    assert!(joined(&events).iter().all(|(attempt, _)| attempt.decision_id.is_none()));
    assert_eq!(joined(&events).len(), requests(&events).len());
    // Long steps leave the caller its chance all the same.
    let (events, world) = play(closed.clone(), 60_000, |_, request| to(request, &"mit".into()));
    assert_eq!(world.truth().unanswered, 0);
    assert!(events.is_sorted_by_key(SimEvent::at));
    // A PSP that the world does not have is no route.
    let (_, world) = play(closed, 0, |_, request| to(request, &"nobody".into()));
    assert_eq!((world.truth().unrouted, world.truth().payments.approved), (world.truth().payments.n, 0));
}

#[test]
fn a_late_or_unknown_answer_changes_nothing() {
    let mut world = World::new(WorldSettings { routing: Routing::Closed, ..open(14, 1, 500.0) }).unwrap();
    let at = world.next_arrival().unwrap();
    let events = world.step_until(at);
    let request = requests(&events)[0].clone();
    assert!(!world.route(&Route { request_id: "other".into(), ..to(&request, &"mit".into()) }));
    assert!(world.route(&to(&request, &"mit".into())));
    assert!(!world.route(&to(&request, &"worldpay".into())));
    let events = world.step_until(at + 100);
    assert_eq!(joined(&events)[0].0.psp_id.as_str(), "mit");
}

#[test]
fn what_a_psp_does_not_take_it_declines() {
    let mut amex_only = open(15, 1, 1_000.0);
    amex_only.routing = Routing::Closed;
    let (events, _) = play(amex_only.clone(), 0, |_, request| to(request, &"amex".into()));
    let (amex, others): (Vec<_>, Vec<_>) = joined(&events).into_iter().partition(|(a, _)| a.payment.card.brand == "AMEX");
    assert!(share(&others, |o| o.error_code.as_deref() == Some("57") && o.hard_soft == Some(HardSoft::Hard)) > 0.999);
    assert!(amex.iter().filter(|(_, o)| o.is_some_and(|o| o.status == Status::Approved)).count() * 10 > amex.len() * 8);
    amex_only.psps.retain(|psp| psp.id.as_str() != "amex");
    let (_, world) = play_open(WorldSettings { routing: Routing::Open, ..amex_only });
    assert!(world.truth().unrouted as usize >= amex.len() / 2, "nobody takes Amex then");
}

#[test]
fn built_in_scenarios_hit_the_psps_with_most_traffic() {
    let mut settings = settings(1);
    assert_eq!(settings.psps_by_traffic(), ["worldpay", "mit", "elavon"].map(PspId::from));
    settings.static_split[2].weight = 90;
    assert_eq!(settings.psps_by_traffic()[0].as_str(), "elavon");
}

#[test]
fn a_scenario_of_other_psps_is_refused() {
    let scenario = Scenario::demo(&["stripe".into()]);
    let Err(error) = World::new(WorldSettings { scenario, ..settings(1) }) else { panic!("accepted") };
    assert!(error.to_string().contains("stripe"), "{error}");
}
