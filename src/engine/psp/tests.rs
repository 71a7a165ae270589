//! The state machine minute by minute, its records, its entries, its bounds.

use super::detector::Level;
use super::entry::{self, CorruptState, Entry};
use super::machine::{Machine, Outage, Probation, TRANSITIONS, Trigger};
use super::{PspBook, PspOutage, StatsEffects, admit, psp_of_key};
use crate::domain::PspId;
use crate::domain::learning::{DivertedFrom, SegmentTally, StatsDelta, Tally};
use crate::domain::psp::HealthState::{self, Degraded, Down, Recovering, Up};
use crate::domain::psp::{OutageCause, Override, OverrideTo, Segment, SegmentKind, Severity};
use crate::engine::codes::{NO_OUTCOME, Verdict};
use crate::engine::settings::{DetectorKind, EngineSettings, HealthSettings, Psp, SequentialSettings};
use crate::engine::window::StoredTile;
use std::collections::{BTreeMap, BTreeSet};

const START: i64 = 1_546_300_800_000;
const MINUTE_MS: i64 = 60_000;

pub(super) fn health() -> HealthSettings {
    HealthSettings {
        detectors: vec![DetectorKind::FailureRate],
        window_ms: 5 * MINUTE_MS,
        volume_min: 20,
        degraded_rate: 0.2,
        down_rate: 0.5,
        recovered_rate: 0.1,
        dwell_ms: 2 * MINUTE_MS,
        hold_ms: 3 * MINUTE_MS,
        hold_ms_max: 3 * MINUTE_MS,
        relapse_ms: 0,
        sample_rate: 0.02,
        wins_to_restore: 10,
        ramp: Vec::new(),
        publish_interval_ms: 1000,
        sequential: sequential(),
    }
}

pub(in crate::engine) fn sequential() -> SequentialSettings {
    SequentialSettings {
        results_per_false_alarm: 100_000.0,
        false_alarms_per_day: 0.03,
        failures_min: 5,
        failure_prior: 0.02,
        decline_prior: 0.2,
        prior_results: 100.0,
        results_min: 300.0,
        margin: 2.0,
        failure_floor: 0.01,
        decline_floor: 0.05,
        slow_floor: 0.05,
        slow_factor: 1.5,
        busy_factor: 1.5,
        busy_run_length: 0.1,
        declines_take_down: false,
        slow_takes_down: false,
    }
}

pub(super) fn engine() -> EngineSettings {
    EngineSettings {
        attempt_overdue_ms: 0,
        attempt_deadline_ms: 30_000,
        lateness_ms: 5_000,
        future_tolerance_ms: 60_000,
        orphan_wait_ms: 60_000,
        outcome_wait_ms: 600_000,
        payment_retention_ms: 86_400_000,
        customer_retention_ms: 86_400_000,
        payment_entries_max: 32,
        segments: vec![SegmentKind::Brand.into()],
        pair_results_min: 0,
        segments_per_psp_max: 4,
        psps_max: 2,
    }
}

fn book() -> PspBook {
    PspBook::new(PspId::new("mit"))
}

/// Approvals, declines (half of them hard), persistent time-outs.
fn tally(approved: i64, declined: i64, failed: i64) -> Tally {
    let mut tally = Tally::default();
    (0..approved).for_each(|_| tally.count(Verdict::Approved, Some(350), 1_000, None));
    (0..declined).for_each(|n| {
        let verdict = if n % 2 == 0 { Verdict::SoftDecline } else { Verdict::HardDecline };
        tally.count(verdict, Some(350), 1_000, Some("51"));
    });
    (0..failed).for_each(|_| tally.count(Verdict::Timeout { persistent: true }, None, 1_000, Some("T0")));
    tally
}

fn brand(value: &str) -> Segment {
    Segment { kind: SegmentKind::Brand, value: value.to_owned() }
}

fn delta(tallies: Vec<(Segment, i64, Tally)>) -> StatsDelta {
    let tallies = tallies.into_iter().map(|(segment, tile_start, tally)| SegmentTally { segment, tile_start, tally }).collect();
    StatsDelta::of_tallies(PspId::new("mit"), 0, tallies)
}

fn merge(book: &mut PspBook, tallies: Vec<(Segment, i64, Tally)>) -> StatsEffects {
    book.merge(&delta(tallies), &engine(), &health())
}

/// One minute: its results in its first tile, then a tick in its last second.
fn minute(
    book: &mut PspBook,
    minute: i64,
    (approved, declined, failed): (i64, i64, i64),
    health: &HealthSettings,
) -> StatsEffects {
    let at = START + minute * MINUTE_MS;
    let mut effects = book.merge(&delta(vec![(Segment::all(), at, tally(approved, declined, failed))]), &engine(), health);
    effects.transitions.extend(book.tick(at + 59_000, health).transitions);
    effects
}

/// Rows of (approved, declined, failed) in one minute and the state at its end.
fn check(name: &str, rows: &[(i64, i64, i64, HealthState)]) {
    let mut book = book();
    for (number, &(approved, declined, failed, expected)) in rows.iter().enumerate() {
        minute(&mut book, number as i64, (approved, declined, failed), &health());
        let state = book.state(&Segment::all(), START, &health()).expect("ALL is there");
        assert_eq!(state.state, expected, "{name}, minute {number}: {state:?}");
    }
}

#[test]
fn states_follow_the_minutes() {
    check("all well", &[(50, 10, 0, Up), (50, 10, 1, Up), (0, 0, 0, Up)]);
    check("declines are the issuers' business", &[(50, 5, 0, Up), (0, 100, 0, Up), (0, 100, 0, Up)]);
    check("too few results", &[(0, 0, 10, Up), (0, 0, 9, Up), (0, 0, 1, Down)]);
    check("degraded at 20 %", &[(81, 0, 19, Up), (79, 0, 21, Degraded)]);
    check("down at 50 %", &[(100, 0, 0, Up), (0, 0, 99, Degraded), (0, 0, 1, Down)]);
    check("straight down", &[(10, 0, 10, Down)]);
    check(
        "hysteresis: 20 % alarms, only below 10 % is calm again",
        &[(80, 0, 20, Degraded), (0, 0, 0, Degraded), (100, 0, 0, Degraded), (0, 0, 0, Degraded), (1, 0, 0, Up)],
    );
    check(
        "dwell: the failures have left the window, two minutes have not passed",
        &[(80, 0, 20, Degraded), (900, 0, 0, Degraded), (0, 0, 0, Up)],
    );
    check(
        "an alarm without further traffic is called off when its failures leave the window",
        &[
            (15, 0, 5, Degraded),
            (0, 0, 0, Degraded),
            (0, 0, 0, Degraded),
            (0, 0, 0, Degraded),
            (0, 0, 0, Degraded),
            (0, 0, 0, Up),
        ],
    );
    check("hold", &[(0, 0, 20, Down), (50, 0, 0, Down), (50, 0, 0, Down), (50, 0, 0, Recovering)]);
    check(
        "a hold begins anew with each failure",
        &[(0, 0, 20, Down), (50, 0, 0, Down), (0, 0, 1, Down), (50, 0, 0, Down), (50, 0, 0, Down), (50, 0, 0, Recovering)],
    );
    check(
        "recovery: ten wins in a row, old failures no longer count",
        &[
            (0, 0, 99, Down),
            (0, 0, 0, Down),
            (0, 0, 0, Down),
            (0, 0, 0, Recovering),
            (4, 5, 0, Recovering),
            (0, 1, 0, Up),
            (9, 0, 1, Up),
        ],
    );
    check(
        "relapse: one failure on probation, and the hold starts anew",
        &[
            (0, 0, 99, Down),
            (0, 0, 0, Down),
            (0, 0, 0, Down),
            (0, 0, 0, Recovering),
            (9, 0, 1, Down),
            (9, 0, 0, Down),
            (9, 0, 0, Down),
            (0, 0, 0, Recovering),
        ],
    );
    check(
        "a new outage after a recovery",
        &[
            (0, 0, 99, Down),
            (0, 0, 0, Down),
            (0, 0, 0, Down),
            (0, 0, 0, Recovering),
            (10, 0, 0, Up),
            (0, 0, 19, Up),
            (0, 0, 1, Down),
        ],
    );
}

#[test]
fn failures_that_pass_are_no_evidence() {
    let mut book = book();
    let mut passing = Tally::default();
    (0..100).for_each(|_| passing.count(Verdict::TechnicalError { persistent: false }, Some(10), 1, Some("98")));
    merge(&mut book, vec![(Segment::all(), START, passing)]);
    let state = book.state(&Segment::all(), START, &health()).unwrap();
    assert_eq!((state.state, state.windows.last_15m.errors, state.health_score), (Up, 100, 1.0));
}

#[test]
fn silence_is_what_nothing_was_heard_of() {
    let mut book = book();
    let mut silent = tally(0, 0, 9);
    (0..11).for_each(|_| silent.count(Verdict::Timeout { persistent: true }, None, 1_000, Some(NO_OUTCOME)));
    let effects = merge(&mut book, vec![(Segment::all(), START, silent)]);
    assert_eq!((effects.transitions[0].to, effects.transitions[0].cause), (Down, OutageCause::Silence));
}

#[test]
fn probation_starts_with_a_clean_slate() {
    let check = |tile_start: i64, expected: HealthState| {
        let mut book = book();
        minute(&mut book, 0, (0, 0, 20), &health());
        book.tick(START + 3 * MINUTE_MS, &health());
        merge(&mut book, vec![(Segment::all(), tile_start, tally(0, 0, 1))]);
        assert_eq!(book.state(&Segment::all(), START, &health()).unwrap().state, expected, "failure in tile {tile_start}");
    };
    check(START + 3 * MINUTE_MS - 10_000, Recovering);
    check(START + 3 * MINUTE_MS, Down);
}

#[test]
fn a_segment_can_be_down_alone() {
    let mut book = book();
    let effects = merge(&mut book, vec![(Segment::all(), START, tally(900, 0, 25)), (brand("VISA"), START, tally(0, 0, 25))]);
    assert_eq!(effects.transitions.len(), 1);
    assert_eq!(effects.transitions[0].segment, brand("VISA"));
    let states: Vec<_> = book.states(START, &health()).map(|state| (state.segment, state.state)).collect();
    assert_eq!(states, [(Segment::all(), Up), (brand("VISA"), Down)]);
}

#[test]
fn few_failures_of_a_small_segment_are_not_held_against_all_traffic() {
    let mut book = book();
    let tallies = [(Segment::all(), tally(36, 0, 4)), (brand("MASTERCARD"), tally(20, 0, 0)), (brand("VISA"), tally(16, 0, 4))];
    let effects = merge(&mut book, tallies.map(|(segment, tally)| (segment, START, tally)).to_vec());
    let [transition] = &effects.transitions[..] else { panic!("{effects:?}") };
    assert_eq!((&transition.segment, transition.to), (&brand("VISA"), Degraded));
    assert!(transition.summary.contains("4 of 20 payments"), "{}", transition.summary);
    assert!(transition.summary.contains("That is 20 %, the limit is 20 %"), "{}", transition.summary);
}

#[test]
fn a_transition_tells_its_story() {
    let mut book = book();
    minute(&mut book, 0, (50, 0, 0), &health());
    let mut bad = tally(0, 0, 10);
    (0..15).for_each(|_| bad.count(Verdict::TechnicalError { persistent: true }, Some(20), 1_000, Some("96")));
    let effects = merge(&mut book, vec![(Segment::all(), START + MINUTE_MS, bad)]);
    let [outage] = &effects.transitions[..] else { panic!("one transition, not {effects:?}") };
    assert_eq!((outage.from, outage.to, outage.at), (Up, Degraded, START + MINUTE_MS));
    assert_eq!((outage.severity, outage.cause), (Severity::Warning, OutageCause::Errors));
    assert_eq!(outage.first_evidence_at, START + MINUTE_MS);
    assert_eq!((outage.evidence.n, outage.evidence.failures, outage.evidence.statistic), (75, 25, 25.0 / 75.0));
    assert_eq!(outage.evidence.top_codes, ["96", "T0"]);
    assert_eq!(outage.evidence.threshold, 0.2);
    // Nothing has passed since the first evidence but what has failed.
    assert_eq!((outage.payments_at_risk, outage.amount_at_risk_minor), (25, 25_000));
    assert_eq!(
        outage.summary,
        "mit is DEGRADED for all traffic since 2019-01-01 00:01:00 UTC: 25 of 75 payments since 2019-01-01 00:01:00 UTC failed (96, T0). \
         That is 33 %, the limit is 20 %. At risk: 25 payments."
    );

    let mut story = vec![outage.clone()];
    for (number, counts) in
        [(2, (0, 0, 100)), (3, (0, 0, 0)), (4, (0, 0, 0)), (5, (0, 0, 0)), (6, (0, 0, 1)), (9, (0, 0, 0)), (10, (10, 0, 0))]
    {
        story.extend(minute(&mut book, number, counts, &health()).transitions);
    }
    let steps: Vec<_> = story.iter().map(|outage| (outage.to, outage.severity, outage.cause)).collect();
    assert_eq!(
        steps,
        [
            (Degraded, Severity::Warning, OutageCause::Errors),
            (Down, Severity::Critical, OutageCause::Timeouts),
            (Recovering, Severity::Info, OutageCause::Timeouts),
            (Down, Severity::Critical, OutageCause::Timeouts),
            (Recovering, Severity::Info, OutageCause::Timeouts),
            (Up, Severity::Info, OutageCause::Timeouts),
        ]
    );
    assert!(story.iter().all(|step| step.outage_id == outage.outage_id), "one id from the first alarm to the recovery");
    assert!(story.iter().all(|step| step.first_evidence_at == outage.first_evidence_at));
    assert_eq!(book.state(&Segment::all(), START, &health()).unwrap().version, 6);

    let next = minute(&mut book, 11, (0, 0, 30), &health());
    assert_eq!(next.transitions.len(), 1);
    assert_ne!(next.transitions[0].outage_id, outage.outage_id, "the next outage has an id of its own");
    assert_eq!(next.transitions[0].first_evidence_at, START + 11 * MINUTE_MS);
}

#[test]
fn published_state() {
    let mut book = book();
    let check = |book: &PspBook, score: f64, threshold: f64, recovery: Option<(f64, i64)>| {
        let state = book.state(&Segment::all(), START + 7, &health()).unwrap();
        assert_eq!(state.health_score, score, "{state:?}");
        assert_eq!((state.detector.name.as_str(), state.detector.threshold), ("failure_rate", threshold), "{state:?}");
        assert_eq!(state.recovery.map(|it| (it.sample_rate, it.consecutive_wins)), recovery);
        assert_eq!(state.updated_at, START + 7);
    };
    minute(&mut book, 0, (60, 20, 0), &health());
    check(&book, 1.0, 0.2, None);
    minute(&mut book, 1, (0, 0, 20), &health());
    check(&book, (1.0 - 20.0 / 120.0) * 0.75, 0.5, None);
    minute(&mut book, 2, (0, 0, 100), &health());
    check(&book, 0.0, 0.5, Some((0.0, 0)));
    (3..6).for_each(|number| drop(minute(&mut book, number, (0, 0, 0), &health())));
    minute(&mut book, 6, (4, 1, 0), &health());
    check(&book, (1.0 - 100.0 / 125.0) * 0.5, 0.5, Some((0.02, 5)));
    let state = book.state(&Segment::all(), START, &health()).unwrap();
    assert_eq!((state.since, state.version), (START + 5 * MINUTE_MS, 3));
    assert_eq!((state.windows.last_15m.attempts, state.windows.last_15m.approvals), (205, 64));
    assert_eq!((state.detector.statistic, state.detector.baseline), (100.0 / 105.0, 120.0 / 205.0));
}

#[test]
fn nothing_is_published_without_reason() {
    let mut book = book();
    let publish = |book: &mut PspBook| {
        let changed: Vec<Segment> = book.changed().cloned().collect();
        let published = changed.iter().map(|segment| book.publish(segment, &health()).unwrap().segment.to_string());
        published.collect::<Vec<_>>()
    };
    merge(&mut book, vec![(brand("VISA"), START, tally(1, 0, 0)), (Segment::all(), START, tally(2, 0, 0))]);
    assert_eq!(publish(&mut book), ["ALL", "BRAND:VISA"]);
    assert_eq!(publish(&mut book), [""; 0], "published");
    merge(&mut book, vec![(Segment::all(), START, tally(1, 0, 0))]);
    assert_eq!(publish(&mut book), ["ALL"]);
    let mut tick = |at: i64| {
        book.tick(at, &health());
        publish(&mut book)
    };
    assert_eq!(tick(START + 1_000), [""; 0]);
    assert_eq!(tick(START + 4 * MINUTE_MS), [""; 0]);
    assert_eq!(tick(START + 5 * MINUTE_MS), ["ALL", "BRAND:VISA"], "left the detector's window");
    assert_eq!(tick(START + 15 * MINUTE_MS), ["ALL", "BRAND:VISA"], "left the 15 min window");
    let late = merge(
        &mut book,
        vec![(brand("VISA"), START - 90_000_000, tally(3, 0, 0)), (Segment::all(), START - 90_000_000, tally(3, 0, 0))],
    );
    assert_eq!((publish(&mut book), late.late_results), (vec![], 3));
}

#[test]
fn segments_are_bounded() {
    let mut book = book();
    for name in ["A", "B", "C", "D", "E"] {
        merge(&mut book, vec![(brand(name), START, tally(1, 0, 0)), (Segment::all(), START, tally(1, 0, 0))]);
    }
    let kept: Vec<_> =
        book.states(START, &health()).map(|state| (state.segment.to_string(), state.windows.last_15m.attempts)).collect();
    assert_eq!(kept, [("ALL".to_owned(), 5), ("BRAND:A".to_owned(), 1), ("BRAND:B".to_owned(), 1), ("BRAND:C".to_owned(), 1)]);
}

#[test]
fn invented_psps_open_no_windows_beyond_the_bound() {
    let listed: Vec<Psp> = vec![serde_json::from_str(r#"{"id": "mit"}"#).expect("a PSP")];
    let mut books = BTreeMap::new();
    // Whoever comes first, and who is listed whenever it comes; one that is in stays in.
    let rows = [("x1", true), ("x2", true), ("x3", false), ("mit", true), ("x3", false), ("x1", true), ("x4", false)];
    for (id, expected) in rows {
        assert_eq!(admit(&mut books, &PspId::new(id), engine().psps_max, &listed).is_some(), expected, "{id}");
    }
    let kept: Vec<_> = books.keys().map(PspId::as_str).collect();
    assert_eq!(kept, ["mit", "x1", "x2"]);
    // A smaller bound shuts nobody out who is in; none at all is a bound too.
    assert!(admit(&mut books, &PspId::new("x2"), 0, &listed).is_some());
    assert!(admit(&mut BTreeMap::new(), &PspId::new("x1"), 0, &listed).is_none());
}

/// Drives a machine through every combination of what it can meet and compares its steps with the table.
#[test]
fn no_step_but_those_in_the_table() {
    let at = 10 * MINUTE_MS;
    let seen = Outage { started_at: 0, first_evidence_at: 0, cause: OutageCause::Timeouts };
    let mut taken = BTreeSet::new();
    let mut machines = vec![Machine::new(0)];
    while let Some(machine) = machines.pop() {
        for (level, order) in [
            (Level::Calm, OverrideTo::Auto),
            (Level::Uneasy, OverrideTo::Auto),
            (Level::Degraded, OverrideTo::Auto),
            (Level::Down, OverrideTo::Auto),
            (Level::Calm, OverrideTo::Down),
            (Level::Down, OverrideTo::Up),
        ] {
            for (wins, failures) in [(0, 0), (50, 0), (50, 1)] {
                let mut next = machine.clone();
                next.order(&ordered(order, None).overrides[0], next.since());
                let results = Probation { wins, failures };
                let now = next.since();
                next.count(results, now, &health());
                let Some(step) = next.due(level, results, next.since() + at, &health()) else { continue };
                assert_eq!(step.from(), machine.state());
                next.enter(step, seen, machine.since() + at, &health());
                assert_eq!((next.state(), next.version()), (step.to(), machine.version() + 1));
                if taken.insert((step.from(), step.to())) {
                    machines.push(next);
                }
            }
        }
    }
    let table: BTreeSet<_> = TRANSITIONS.iter().map(|&(from, _, to)| (from, to)).collect();
    assert_eq!(taken, table);
    let rows: Vec<(HealthState, Trigger)> = TRANSITIONS.iter().map(|row| (row.0, row.1)).collect();
    assert!(rows.iter().enumerate().all(|(at, row)| !rows[..at].contains(row)), "a state goes one way for one reason: {rows:?}");
}

/// Keys and values as they lie on disks: a change here needs a new `entry::VERSION`.
#[test]
fn entries_are_a_format() {
    let mut book = book();
    let mut kept = tally(1, 0, 0);
    kept.count(Verdict::Timeout { persistent: true }, None, 5, Some("T0"));
    merge(&mut book, vec![(brand("VISA"), 20_000, kept)]);
    let mut entries = Vec::new();
    book.drain_dirty(&mut |key, value| {
        assert_eq!(psp_of_key(&key), Some(PspId::new("mit")));
        entries.push(format!("{key:?} {value:?}"));
    });
    assert_eq!(
        entries,
        [
            "[3, 109, 105, 116, 0] [4, 192, 184, 2]",
            "[3, 109, 105, 116, 1, 2, 4, 86, 73, 83, 65] [4, 1, 192, 184, 2, 0, 0, 192, 184, 2, 0, 0, 0, 0, 0, 0]",
            "[3, 109, 105, 116, 2, 2, 4, 86, 73, 83, 65, 0, 2] [4, 192, 184, 2, 4, 2, 0, 0, 2, 0, 2, 218, 15, 1, 104, 2, 1, 2, 84, 48, 2, 0, 0]",
        ]
    );
    book.drain_dirty(&mut |key, _| panic!("{key:?} was drained before"));
    // Before version 4 a machine ended before orders and what was diverted, before version 3 also before the ramp and the relapses;
    // tests and tiles knew no silence.
    let mit = PspId::new("mit");
    let check = |(key, now): (Vec<u8>, Vec<u8>), version: u8, missing: usize| {
        let before = [&[version], &now[1..now.len() - missing]].concat();
        assert_eq!(entry::decode(&mit, &key, &before), entry::decode(&mit, &key, &now), "{missing} bytes less");
    };
    for (version, missing) in [(1, 4), (2, 4), (3, 2)] {
        check(entry::machine(&mit, &brand("VISA"), &Machine::new(20_000)), version, missing);
    }
    let (key, _) = entry::tests(&mit, &brand("VISA"), &Default::default());
    assert_eq!(
        entry::decode(&mit, &key, &[3, 9, 9]),
        Ok(Entry::Tests(brand("VISA"), Box::default())),
        "what is of another form is left"
    );
    let tile = StoredTile { ring: 0, slot: 0, start: 0, tally: &tally(1, 0, 1) };
    check(entry::tile(&mit, &brand("VISA"), &tile), 3, 2);
}

/// An order on `ALL`, as it comes.
fn ordered(to: OverrideTo, for_ms: Option<i64>) -> StatsDelta {
    let order = Override { segment: Segment::all(), to, reason: "maintenance".into(), by: "ana".into(), for_ms };
    StatsDelta { overrides: vec![order], ..StatsDelta::of_tallies(PspId::new("mit"), START, Vec::new()) }
}

#[test]
fn an_operator_is_obeyed_whatever_is_seen() {
    let mut book = book();
    let steps = |effects: &StatsEffects| effects.transitions.iter().map(|it| (it.from, it.to, it.cause)).collect::<Vec<_>>();
    // Of a PSP that nothing is known of yet: its time begins with the order.
    let effects = book.merge(&ordered(OverrideTo::Down, None), &engine(), &health());
    assert_eq!(steps(&effects), [(Up, Down, OutageCause::Manual)]);
    assert_eq!(effects.transitions[0].severity, Severity::Warning);
    assert_eq!(
        effects.transitions[0].summary,
        "mit is DOWN for all traffic since 2019-01-01 00:00:00 UTC, by order of ana until that is taken back: maintenance."
    );
    for at in 0..30 {
        assert!(minute(&mut book, at, (50, 0, 0), &health()).transitions.is_empty(), "not even after its hold");
    }
    let state = book.state(&Segment::all(), START, &health()).unwrap();
    assert_eq!((state.state, state.manual.unwrap().by.as_str()), (Down, "ana"));
    // Stored and read back, the order still holds.
    let mut entries = Vec::new();
    book.entries(&mut |key, value| entries.push((key, value)));
    let mut book = PspBook::restore(PspId::new("mit"), entries).unwrap();

    // UP for ten minutes, in which everything fails; then what is seen decides again.
    let effects = book.merge(&ordered(OverrideTo::Up, Some(10 * MINUTE_MS)), &engine(), &health());
    assert_eq!(steps(&effects), [(Down, Up, OutageCause::Manual)]);
    for at in 30..39 {
        assert!(minute(&mut book, at, (0, 0, 50), &health()).transitions.is_empty(), "minute {at}");
    }
    let effects = minute(&mut book, 40, (0, 0, 50), &health());
    assert_eq!(steps(&effects), [(Up, Down, OutageCause::Timeouts)]);
    assert_eq!(book.state(&Segment::all(), START, &health()).unwrap().manual, None);
    // AUTO where no order is in force changes nothing.
    assert!(book.merge(&ordered(OverrideTo::Auto, None), &engine(), &health()).transitions.is_empty());
}

#[test]
fn where_payments_went_is_told_with_the_recovery() {
    let mut book = book();
    let went = |to: &str, payments| {
        let (segment, to) = (Segment::all(), PspId::new(to));
        let diverted = vec![DivertedFrom { segment, to, payments, amount_minor: payments * 100 }];
        StatsDelta { diverted, ..StatsDelta::of_tallies(PspId::new("mit"), START, Vec::new()) }
    };
    // While it is UP nothing is diverted from it.
    minute(&mut book, 0, (50, 0, 0), &health());
    book.merge(&went("amex", 1), &engine(), &health());
    minute(&mut book, 1, (0, 0, 60), &health());
    for (to, payments) in [("elavon", 3), ("worldpay", 5), ("elavon", 4)] {
        book.merge(&went(to, payments), &engine(), &health());
    }
    for number in 0..10 {
        book.merge(&went(&format!("other{number}"), 1), &engine(), &health());
    }
    let steps: Vec<PspOutage> = (2..9).flat_map(|at| minute(&mut book, at, (10, 0, 0), &health()).transitions).collect();
    let up = steps.iter().find(|step| step.to == Up).expect("it comes back");
    let told: Vec<(&str, i64, i64)> = up.diverted.iter().map(|it| (it.psp_id.as_str(), it.payments, it.amount_minor)).collect();
    assert_eq!(told[..3], [("elavon", 7, 700), ("worldpay", 5, 500), ("", 4, 400)], "{told:?}");
    assert!(up.summary.contains("Payments went elsewhere: 7 to elavon, 5 to worldpay, 4 to others"), "{}", up.summary);
    minute(&mut book, 20, (0, 0, 600), &health());
    let again: Vec<PspOutage> = (21..40).flat_map(|at| minute(&mut book, at, (10, 0, 0), &health()).transitions).collect();
    assert!(again.iter().all(|step| step.diverted.is_empty()), "another outage begins at nothing");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let mit = PspId::new("mit");
    let (key, value) = entry::clock(&mit, START);
    let check = |key: &[u8], value: &[u8], expected: &str| {
        let error = PspBook::restore(mit.clone(), [(key.to_vec(), value.to_vec())]).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    };
    assert_eq!(PspBook::restore(mit.clone(), [(key.clone(), value.clone())]).unwrap().now(), START);
    check(&[9, 1], &value, "unreadable key [09, 01]");
    check(&key, &[], "unreadable value");
    check(&key, &value[..1], "unreadable value");
    check(&key, &[&value[..], &[0]].concat(), "unreadable value");
    check(&key, &[&[7], &value[1..]].concat(), "has format 7");
    check(&entry::clock(&PspId::new("amex"), START).0, &value, "of amex was handed in for mit");
    assert_eq!(psp_of_key(&[9, 1]), None);

    let mut book = PspBook::new(mit.clone());
    merge(&mut book, vec![(Segment::all(), START, tally(1, 0, 0))]);
    let mut tiles = Vec::new();
    book.drain_dirty(&mut |key, value| tiles.push((key, value)));
    let (mut key, value) = tiles.pop().unwrap();
    *key.last_mut().unwrap() += 1;
    assert!(matches!(PspBook::restore(mit, [(key, value)]), Err(CorruptState::Value { .. })), "a tile in the wrong slot");
}
