//! Stories of transitions, and what a sink is told of them: one `check` for all.

use super::*;
use crate::domain::PspId;
use crate::domain::psp::{Detector, Evidence, OutageCause, Segment, SegmentKind, WindowStats, Windows};
use HealthState::{Degraded, Down, Recovering, Up};

const MINUTE: i64 = 60_000;
const START: EpochMs = 1_790_000_000_000;

fn outage(psp: &str, (from, to): (HealthState, HealthState), minute: i64) -> PspOutage {
    PspOutage {
        outage_id: format!("o-{psp}"),
        psp_id: PspId::new(psp),
        segment: Segment::all(),
        from,
        to,
        at: START + minute * MINUTE,
        first_evidence_at: START + minute * MINUTE - 5_000,
        severity: match to {
            Down => Severity::Critical,
            Degraded => Severity::Warning,
            _ => Severity::Info,
        },
        cause: OutageCause::Timeouts,
        evidence: Evidence { n: 29, failures: 11, top_codes: vec!["timeout".into()], statistic: 12.0, threshold: 11.0 },
        payments_at_risk: 40,
        amount_at_risk_minor: 1_234,
        diverted: Vec::new(),
        summary: String::new(),
    }
}

pub(crate) fn rules() -> AlertRules {
    AlertRules {
        style: Style::Grouped,
        severity_min: Severity::Warning,
        psps: Vec::new(),
        segments: Vec::new(),
        quiet_ms: 10 * MINUTE,
        remind_ms: 30 * MINUTE,
        age_max_ms: 60 * MINUTE,
        maintenance: Vec::new(),
        names: BTreeMap::from([(PspId::new("mit"), "MIT".to_owned())]),
    }
}

fn moment(minute: i64) -> Moment<'static> {
    Moment { now: START + minute * MINUTE, states: &[] }
}

/// Each transition is read in its minute, unless `read_at` says otherwise; then time goes on to minute `end`. The titles that were told,
/// with the minute.
fn told(story: &[PspOutage], rules: &AlertRules, (read_at, end): (Option<i64>, i64)) -> Vec<String> {
    let mut book = Book::default();
    let mut titles = Vec::new();
    for minute in 0..=end {
        let now = |outage: &&PspOutage| read_at.unwrap_or((outage.at - START) / MINUTE) == minute;
        for outage in story.iter().filter(now) {
            let plan = book.tell(std::slice::from_ref(outage), moment(minute), rules);
            titles.extend(plan.alert.map(|alert| format!("{minute}: {}", alert.title)));
            book = plan.book;
        }
        while let Some(plan) = book.due(moment(minute), rules) {
            titles.extend(plan.alert.map(|alert| format!("{minute}: {}", alert.title)));
            book = plan.book;
        }
        // What is stored is what goes on.
        let stored = Book::default();
        book = Book::restore(book.changes_since(&stored).filter_map(|(_, watched)| watched.cloned()));
    }
    titles
}

#[track_caller]
fn check(name: &str, story: &[PspOutage], rules: &AlertRules, expected: &[&str]) {
    assert_eq!(told(story, rules, (None, 100)), expected, "{name}");
}

#[test]
fn an_outage_is_told_from_its_first_loud_transition_to_its_end() {
    let story = [
        outage("mit", (Up, Degraded), 1),
        outage("mit", (Degraded, Down), 2),
        outage("mit", (Down, Recovering), 4),
        outage("mit", (Recovering, Up), 6),
    ];
    let all = ["1: MIT is DEGRADED", "2: MIT is DOWN", "4: MIT is RECOVERING", "6: MIT is back UP"];
    check("all of it", &story, &rules(), &all);
    check("machines hear the same", &story, &AlertRules { style: Style::Each, ..rules() }, &all);
    check("from DOWN on", &story, &AlertRules { severity_min: Severity::Critical, ..rules() }, &all[1..]);
    check("another PSP's", &story, &AlertRules { psps: vec![PspId::new("amex")], ..rules() }, &[]);
    let parts = |text: &str| AlertRules { segments: vec![SegmentFilter::try_from(text.to_owned()).unwrap()], ..rules() };
    check("of all traffic", &story, &parts("ALL"), &all);
    check("of brands", &story, &parts("BRAND"), &[]);
    check("never loud", &story[2..], &rules(), &[]);
}

#[test]
fn segments_are_named_and_filtered() {
    let mut visa = outage("mit", (Up, Down), 1);
    visa.segment = Segment { kind: SegmentKind::Brand, value: "VISA".into() };
    let parts =
        |text: &str| AlertRules { segments: vec![SegmentFilter::try_from(text.to_owned()).unwrap()], remind_ms: 0, ..rules() };
    for (filter, expected) in [("BRAND:VISA", 1), ("BRAND", 1), ("BRAND:AMEX", 0), ("ALL", 0)] {
        assert_eq!(told(std::slice::from_ref(&visa), &parts(filter), (None, 5)).len(), expected, "{filter}");
    }
    check("named", &[visa], &parts("BRAND"), &["1: MIT BRAND:VISA is DOWN"]);
    assert!(SegmentFilter::try_from("COLOUR:RED".to_owned()).unwrap_err().contains("known are ALL, BRAND"));
}

#[test]
fn what_lasts_is_told_again() {
    let story = [outage("mit", (Up, Down), 1), outage("mit", (Down, Recovering), 70), outage("mit", (Recovering, Up), 75)];
    let rest = ["70: MIT is RECOVERING", "75: MIT is back UP"];
    check(
        "twice",
        &story,
        &rules(),
        &[&["1: MIT is DOWN", "31: MIT is still DOWN", "61: MIT is still DOWN"], &rest[..]].concat(),
    );
    check("never", &story, &AlertRules { remind_ms: 0, ..rules() }, &[&["1: MIT is DOWN"], &rest[..]].concat());
    let each = AlertRules { style: Style::Each, ..rules() };
    check("machines remember", &story, &each, &[&["1: MIT is DOWN"], &rest[..]].concat());
}

#[test]
fn what_goes_back_and_forth_is_told_once() {
    let story = [
        outage("mit", (Up, Down), 1),
        outage("mit", (Down, Recovering), 3),
        outage("mit", (Recovering, Down), 4),
        outage("mit", (Down, Recovering), 6),
        outage("mit", (Recovering, Down), 7),
        outage("mit", (Down, Recovering), 9),
        outage("mit", (Recovering, Up), 11),
    ];
    check("folded", &story, &rules(), &["1: MIT is DOWN", "3: MIT is RECOVERING", "14: MIT is flapping, now UP"]);
    check(
        "left as it is",
        &story[..3],
        &rules(),
        &[
            "1: MIT is DOWN",
            "3: MIT is RECOVERING",
            "14: MIT is flapping, now DOWN",
            "44: MIT is still DOWN",
            "74: MIT is still DOWN",
        ],
    );
    let loud = told(&story, &AlertRules { quiet_ms: 0, ..rules() }, (None, 40));
    assert_eq!(loud.len(), 7, "{loud:?}");
    let machines = told(&story, &AlertRules { style: Style::Each, ..rules() }, (None, 40));
    assert_eq!(machines.len(), 7, "{machines:?}");
    let worse = [outage("mit", (Up, Degraded), 1), outage("mit", (Degraded, Up), 3), outage("mit", (Up, Down), 5)];
    let quick = AlertRules { remind_ms: 0, ..rules() };
    check("never what is worse", &worse, &quick, &["1: MIT is DEGRADED", "3: MIT is back UP", "5: MIT is DOWN"]);
    let later = [outage("mit", (Up, Down), 1), outage("mit", (Recovering, Up), 3), outage("mit", (Up, Down), 12)];
    check("nor what comes later", &later, &quick, &["1: MIT is DOWN", "3: MIT is back UP", "12: MIT is DOWN"]);
}

#[test]
fn a_maintenance_is_quiet_until_it_ends() {
    let window =
        |from: i64, to: i64| Maintenance { psp: PspId::new("mit"), from: START + from * MINUTE, to: START + to * MINUTE };
    let during = |style| AlertRules { style, maintenance: vec![window(1, 20)], remind_ms: 0, ..rules() };
    let over = [outage("mit", (Up, Down), 2), outage("mit", (Down, Recovering), 5), outage("mit", (Recovering, Up), 8)];
    let mut other = outage("elavon", (Up, Down), 3);
    other.outage_id = "o-2".into();
    for style in [Style::Grouped, Style::Each] {
        check("over before its end", &over, &during(style), &[]);
        check("still out", &over[..1], &during(style), &["20: MIT is still DOWN"]);
        check("on its way back", &over[..2], &during(style), &["20: MIT is still RECOVERING"]);
        check("others", std::slice::from_ref(&other), &during(style), &["3: elavon is DOWN"]);
        let before = [outage("mit", (Up, Down), 0), outage("mit", (Down, Recovering), 5), outage("mit", (Recovering, Up), 8)];
        check("an end that people wait for", &before, &during(style), &["0: MIT is DOWN", "8: MIT is back UP"]);
        let after = [outage("mit", (Up, Down), 2), outage("mit", (Down, Recovering), 25), outage("mit", (Recovering, Up), 30)];
        check(
            "afterwards all is told",
            &after,
            &during(style),
            &["20: MIT is still DOWN", "25: MIT is RECOVERING", "30: MIT is back UP"],
        );
    }
}

#[test]
fn what_is_old_is_told_only_if_it_lasts() {
    let story = [outage("mit", (Up, Down), 1), outage("mit", (Down, Recovering), 4), outage("mit", (Recovering, Up), 6)];
    let quick = AlertRules { remind_ms: 0, ..rules() };
    let late = |story: &[PspOutage]| told(story, &quick, (Some(90), 90));
    assert_eq!(late(&story), Vec::<String>::new());
    assert_eq!(late(&story[..1]), ["90: MIT is still DOWN"]);
    assert_eq!(late(&story[..2]), ["90: MIT is still RECOVERING"]);
    // Its beginning was told: its end is told, however late.
    let mut book = Book::default().tell(&story[..1], moment(1), &quick).book;
    book = book.tell(&story[1..2], moment(300), &quick).book;
    let end = book.tell(&story[2..], moment(300), &quick);
    assert_eq!(end.alert.unwrap().title, "MIT is back UP");
    assert!(end.book.due(moment(301), &quick).is_none());
}

#[test]
fn transitions_of_one_moment_are_one_alert_as_loud_as_its_loudest() {
    let story = [outage("mit", (Up, Degraded), 1), outage("elavon", (Up, Down), 1)];
    let plan = Book::default().tell(&story, moment(1), &rules());
    let alert = plan.alert.unwrap();
    assert_eq!((alert.title.as_str(), alert.severity), ("MIT is DEGRADED; elavon is DOWN", Severity::Critical));
    assert_eq!(alert.changes.len(), 2);
    let text = &alert.changes[1].text;
    for part in ["elavon: UP to DOWN at 2026-09-21 14:14:20 UTC. Time-outs since", "11 of 29 failed (timeout)", "40 payments"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let spoken = PspOutage { summary: "mit is DEGRADED, says the record.".into(), ..story[0].clone() };
    let told = Book::default().tell(&[spoken], moment(1), &rules()).alert.unwrap();
    assert_eq!(told.changes[0].text, "mit is DEGRADED, says the record.");
    let again = Book::default().tell(&story, moment(50), &rules()).alert.unwrap();
    assert_eq!(alert.key, again.key, "the key says what is told, not when");
    assert_ne!(alert.key, Book::default().tell(&story[1..], moment(1), &rules()).alert.unwrap().key);
}

#[test]
fn reminders_have_keys_of_their_own_that_a_second_try_keeps() {
    let quick = AlertRules { remind_ms: MINUTE, ..rules() };
    let book = Book::default().tell(&[outage("mit", (Up, Down), 1)], moment(1), &quick).book;
    let first = book.due(moment(2), &quick).unwrap();
    assert_eq!(first.alert.clone().unwrap().key, book.due(moment(3), &quick).unwrap().alert.unwrap().key);
    let second = first.book.due(moment(3), &quick).unwrap();
    assert_ne!(first.alert.unwrap().key, second.alert.unwrap().key);
}

/// States of `psps` in one segment: each with attempts in the last hour.
fn states(psps: &[(&str, HealthState, i64)], segment: &Segment) -> Vec<Arc<PspState>> {
    let state = |&(psp, state, attempts): &(&str, HealthState, i64)| {
        let last_1h = WindowStats { attempts, ..WindowStats::default() };
        let windows = Windows { last_1h, ..Windows::default() };
        Arc::new(PspState {
            psp_id: PspId::new(psp),
            segment: segment.clone(),
            state,
            since: 0,
            version: 1,
            windows,
            health_score: 0.0,
            detector: Detector::default(),
            recovery: None,
            manual: None,
            updated_at: 0,
        })
    };
    psps.iter().map(state).collect()
}

#[test]
fn what_all_have_at_once_is_a_common_cause() {
    let merchant = Segment { kind: SegmentKind::Merchant, value: "volaris".into() };
    let all = Segment::all();
    for (name, segment, psps, expected) in [
        ("all of them", &all, &[("mit", Up, 5), ("elavon", Down, 9)][..], Some("our side")),
        ("the merchant's own", &merchant, &[("mit", Up, 5), ("elavon", Degraded, 9)][..], Some("the merchant's (volaris)")),
        ("one without traffic is well", &all, &[("mit", Up, 5), ("elavon", Down, 9), ("amex", Up, 0)][..], Some("elavon, mit")),
        ("one is well", &all, &[("mit", Up, 5), ("elavon", Down, 9), ("amex", Up, 1)][..], None),
        ("there is only one", &all, &[("mit", Up, 5)][..], None),
    ] {
        let mut mit = outage("mit", (Up, Down), 1);
        mit.segment = segment.clone();
        let states = states(psps, segment);
        let moment = Moment { now: START + MINUTE, states: &states };
        let alert = Book::default().tell(&[mit], moment, &rules()).alert.unwrap();
        assert_eq!(alert.title.starts_with("Common cause: "), expected.is_some(), "{name}");
        let told = alert.common_cause.unwrap_or_default();
        assert!(expected.is_none_or(|part| told.contains(part)) && told.is_empty() == expected.is_none(), "{name}: {told}");
    }
    let mut back = outage("mit", (Recovering, Up), 2);
    back.severity = Severity::Critical;
    let both = states(&[("mit", Down, 1), ("elavon", Down, 1)], &all);
    let alert = Book::default().tell(&[back], Moment { now: START + 2 * MINUTE, states: &both }, &rules()).alert.unwrap();
    assert_eq!(alert.common_cause, None, "who is back has no cause in common");
}

#[test]
fn a_record_cannot_forge_lines() {
    let mut forged = outage("mit", (Up, Down), 1);
    forged.evidence.top_codes = vec!["x\n\u{1b}[2Jalert: all is well".into(), "y".repeat(5_000)];
    let alert = Book::default().tell(&[forged], moment(1), &rules()).alert.unwrap();
    assert!(!alert.changes[0].text.contains(char::is_control) && alert.changes[0].text.chars().count() <= 601, "{alert:?}");
}
