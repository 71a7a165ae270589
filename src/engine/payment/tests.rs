use super::*;
use crate::domain::decision::{DecidedBy, RankedPsp, RetryPlan, StepLatency, Versions};
use crate::domain::payment::{Card, CardType, Initiator, MessageConfig, Payment};
use crate::domain::psp::{Segment, SegmentKind};
use crate::engine::settings::{Blame, ErrorCode};
use std::collections::BTreeMap;

const T0: EpochMs = 1_700_000_000_000;
const DEADLINE: i64 = 30_000;
const ORPHAN: i64 = 300_000;
const GIVE_UP: i64 = 3_600_000;

fn settings() -> EngineSettings {
    EngineSettings {
        attempt_overdue_ms: 0,
        attempt_deadline_ms: DEADLINE,
        lateness_ms: 0,
        future_tolerance_ms: 60_000,
        orphan_wait_ms: ORPHAN,
        outcome_wait_ms: GIVE_UP,
        payment_retention_ms: 86_400_000,
        customer_retention_ms: 86_400_000,
        payment_entries_max: 4,
        segments: vec![SegmentKind::Brand.into()],
        pair_results_min: 0,
        segments_per_psp_max: 10,
        psps_max: 10,
    }
}

fn message() -> MessageConfig {
    MessageConfig {
        initiator: Initiator::Customer,
        merchant_reason: None,
        avs_sent: false,
        mcc: "4511".into(),
        three_ds: false,
        network_token: false,
        cvv_sent: false,
    }
}

fn payment() -> Payment {
    Payment {
        payment_id: "p1".into(),
        order_id: "o1".into(),
        merchant_id: "volaris".into(),
        customer_id: None,
        amount_minor: 1_000,
        currency: "MXN".into(),
        card: Card {
            bin: "411111".into(),
            brand: "VISA".into(),
            card_type: CardType::Credit,
            bank: None,
            issuer_country: None,
            token: None,
        },
        method: "card".into(),
        sub_method: None,
        message: message(),
        installments: None,
        airline: None,
        customer: None,
        geo: None,
        subscription: None,
    }
}

fn attempt(id: &str, at: i64) -> PaymentAttempt {
    PaymentAttempt {
        payment: payment(),
        attempt_id: id.into(),
        attempt_number: 1,
        psp_id: "mit".into(),
        attempted_at: T0 + at,
        deadline_ms: None,
        decision_id: None,
        algorithm: None,
        skip_reasons: Vec::new(),
    }
}

fn outcome(id: &str, at: i64, status: Status) -> PaymentOutcome {
    PaymentOutcome {
        attempt_id: id.into(),
        payment_id: "p1".into(),
        customer_id: None,
        psp_id: "mit".into(),
        status,
        error_code: None,
        error_category: None,
        hard_soft: None,
        network_response_code: None,
        merchant_advice_code: None,
        latency_ms: 350,
        occurred_at: T0 + at,
        fee_minor: None,
    }
}

/// One step of a story.
#[derive(Clone)]
enum Step {
    A(&'static str, i64),
    O(&'static str, i64, Status),
    T(i64),
}
use Status::{Approved, Declined};
use Step::{A, O, T};

/// Tells the story, and compares it with what is expected of it as a whole: the results that were counted as
/// `(ms after T0, approvals, time-outs, segments)`, the feedback as `(attempt, approved, timed out)`, and the repeats.
#[track_caller]
fn check(story: &[Step], counted: &[(i64, i64, i64, usize)], said: &[(&str, bool, bool)], repeats: usize) {
    let (settings, codes) = (settings(), CodeTable::default());
    let rules = Rules { settings: &settings, codes: &codes, usual_amount: None };
    let mut state = PaymentState::default();
    let (mut results, mut feedback, mut duplicates) = (Vec::new(), Vec::new(), 0);
    for step in story {
        let effects = match step {
            A(id, at) => observe(rules, &mut state, Event::Attempt(&attempt(id, *at))),
            O(id, at, status) => observe(rules, &mut state, Event::Outcome(&outcome(id, *at, *status))),
            T(at) => observe(rules, &mut state, Event::Tick { payment_id: "p1", at: T0 + at }),
        };
        results
            .extend(effects.results.iter().map(|r| (r.at - T0, r.tally.approvals, r.tally.timeouts, r.segments.iter().count())));
        feedback.extend(effects.feedback.iter().map(|f| (f.attempt_id.clone(), f.approved, f.timed_out)));
        assert!(effects.feedback.iter().all(|f| f.payment_id == "p1"));
        duplicates += usize::from(effects.duplicate);
    }
    let feedback: Vec<_> = feedback.iter().map(|(id, approved, timed_out)| (id.as_str(), *approved, *timed_out)).collect();
    assert_eq!((&results[..], &feedback[..], duplicates), (counted, said, repeats));
}

#[test]
fn an_attempt_and_its_outcome_count_once() {
    check(&[A("a", 0), O("a", 400, Approved)], &[(400, 1, 0, 2)], &[("a", true, false)], 0);
    // The outcome came first.
    check(&[O("a", 400, Approved), A("a", 0)], &[(400, 1, 0, 2)], &[("a", true, false)], 0);
    // Both are repeated, before and after they met.
    check(
        &[A("a", 0), A("a", 0), O("a", 400, Declined), O("a", 400, Declined), A("a", 0)],
        &[(400, 0, 0, 2)],
        &[("a", false, false)],
        3,
    );
    check(&[O("a", 400, Declined), O("a", 500, Approved), A("a", 0)], &[(400, 0, 0, 2)], &[("a", false, false)], 1);
    // Two attempts of one chain.
    check(
        &[A("a", 0), O("a", 300, Declined), A("b", 9_000), O("b", 9_200, Approved)],
        &[(300, 0, 0, 2), (9_200, 1, 0, 2)],
        &[("a", false, false), ("b", true, false)],
        0,
    );
}

#[test]
fn silence_is_a_time_out_at_the_deadline() {
    check(&[A("a", 0), T(DEADLINE - 1)], &[], &[], 0);
    check(&[A("a", 0), T(DEADLINE + 5_000)], &[(DEADLINE, 0, 1, 2)], &[], 0);
    // The real outcome comes late: it is told, and not counted again.
    check(&[A("a", 0), T(DEADLINE), O("a", 40_000, Approved), T(GIVE_UP * 2)], &[(DEADLINE, 0, 1, 2)], &[("a", true, true)], 0);
    // It never comes: in the end the time-out is the feedback, and a later outcome is a repeat.
    check(
        &[A("a", 0), T(DEADLINE), T(GIVE_UP - 1), T(GIVE_UP), O("a", GIVE_UP + 1, Approved)],
        &[(DEADLINE, 0, 1, 2)],
        &[("a", false, true)],
        1,
    );
}

#[test]
fn an_outcome_without_attempt_counts_in_the_total() {
    check(&[O("a", 400, Approved), T(400 + ORPHAN - 1)], &[], &[], 0);
    check(&[O("a", 400, Approved), T(400 + ORPHAN)], &[(400, 1, 0, 1)], &[("a", true, false)], 0);
    // The attempt comes after all: too late to count again.
    check(&[O("a", 400, Approved), T(400 + ORPHAN), A("a", 0), T(GIVE_UP * 2)], &[(400, 1, 0, 1)], &[("a", true, false)], 1);
}

#[test]
fn timers_are_what_is_due_next() {
    let (settings, codes) = (settings(), CodeTable::default());
    let rules = Rules { settings: &settings, codes: &codes, usual_amount: None };
    let mut state = PaymentState::default();
    assert_eq!(state.timer_at(&settings), None);
    observe(rules, &mut state, Event::Attempt(&attempt("a", 0)));
    observe(rules, &mut state, Event::Attempt(&PaymentAttempt { deadline_ms: Some(5_000), ..attempt("b", 1_000) }));
    assert_eq!(state.timer_at(&settings), Some(T0 + 6_000));
    observe(rules, &mut state, Event::Tick { payment_id: "p1", at: T0 + 6_000 });
    assert_eq!(state.timer_at(&settings), Some(T0 + DEADLINE));
    observe(rules, &mut state, Event::Outcome(&outcome("a", 10_000, Declined)));
    assert_eq!(state.timer_at(&settings), Some(T0 + 1_000 + GIVE_UP));
    observe(rules, &mut state, Event::Outcome(&outcome("c", 20_000, Declined)));
    assert_eq!(state.timer_at(&settings), Some(T0 + 20_000 + ORPHAN));
}

#[test]
fn feedback_names_the_decision_and_the_rank_that_was_taken() {
    let (settings, codes) = (settings(), CodeTable::default());
    let rules = Rules { settings: &settings, codes: &codes, usual_amount: None };
    let mut state = PaymentState::default();
    for (id, at, dry_run, ranked) in
        [("r1", 0, false, ["elavon", "mit"]), ("r2", 10, true, ["mit", "elavon"]), ("r3", 5_000, false, ["mit", "elavon"])]
    {
        observe(rules, &mut state, Event::Decided { request: &request(id, at, dry_run), decision: &decision(id, &ranked) });
    }
    assert!(state.was_decided("r2") && !state.was_decided("r4"));
    let rows = [
        // (attempted at, decision it names, decision it followed, rank)
        (100, None, Some("d-r1"), Some(2)),
        (6_000, None, Some("d-r3"), Some(1)),
        (6_000, Some("d-r1"), Some("d-r1"), Some(2)),
        (6_000, Some("elsewhere"), Some("elsewhere"), None),
        (-1, None, None, None),
    ];
    for (index, (at, named, followed, rank)) in rows.into_iter().enumerate() {
        let mut state = state.clone();
        observe(rules, &mut state, Event::Attempt(&PaymentAttempt { decision_id: named.map(str::to_owned), ..attempt("a", at) }));
        let effects = observe(rules, &mut state, Event::Outcome(&outcome("a", at + 300, Approved)));
        let feedback = &effects.feedback[0];
        assert_eq!((feedback.decision_id.as_deref(), feedback.rank_taken), (followed, rank), "row {index}");
    }
}

#[test]
fn the_code_table_says_whom_a_result_counts_against() {
    let code = |code: &str, psp: Option<&str>, blame, persistent| ErrorCode {
        code: code.into(),
        psp: psp.map(PspId::new),
        category: "x".into(),
        blame,
        persistent,
        hard_soft: None,
        retry_after_ms: None,
    };
    let codes = CodeTable::new(&[
        code("91", None, Blame::Psp, true),
        code("51", None, Blame::Issuer, false),
        code("91", Some("mit"), Blame::Issuer, false),
        code("slow", None, Blame::Network, false),
    ]);
    let rows = [
        ("worldpay", Status::Declined, Some("91"), Verdict::TechnicalError { persistent: true }),
        ("mit", Status::Declined, Some("91"), Verdict::SoftDecline),
        ("mit", Status::Declined, Some("51"), Verdict::SoftDecline),
        ("mit", Status::Declined, None, Verdict::SoftDecline),
        ("mit", Status::Timeout, None, Verdict::Timeout { persistent: true }),
        ("mit", Status::Timeout, Some("SLOW"), Verdict::Timeout { persistent: false }),
        ("mit", Status::Error, Some("never seen"), Verdict::TechnicalError { persistent: true }),
    ];
    for (psp, status, error_code, expected) in rows {
        let outcome = PaymentOutcome { psp_id: psp.into(), error_code: error_code.map(str::to_owned), ..outcome("a", 0, status) };
        assert_eq!(codes.verdict(&outcome), expected, "{psp} {status:?} {error_code:?}");
    }
}

#[test]
fn a_chain_forgets_its_oldest_settled_attempts_only() {
    let (settings, codes) = (settings(), CodeTable::default());
    let rules = Rules { settings: &settings, codes: &codes, usual_amount: None };
    let mut state = PaymentState::default();
    observe(rules, &mut state, Event::Attempt(&attempt("open", 0)));
    for index in 0..10 {
        let id = format!("a{index}");
        observe(rules, &mut state, Event::Attempt(&attempt(&id, index)));
        observe(rules, &mut state, Event::Outcome(&outcome(&id, index, Declined)));
    }
    let ids: Vec<_> = state.attempts.iter().map(|attempt| attempt.attempt_id.as_str()).collect();
    assert_eq!(ids, ["open", "a7", "a8", "a9"]);
}

fn request(id: &str, at: i64, dry_run: bool) -> RoutingRequest {
    RoutingRequest {
        payment: payment(),
        request_id: id.into(),
        requested_at: T0 + at,
        deadline_ms: None,
        allowed_psps: None,
        previous_attempts: None,
        dry_run,
    }
}

fn decision(request_id: &str, ranked: &[&str]) -> RoutingDecision {
    let rank = |psp: &&str| RankedPsp {
        psp_id: PspId::new(psp),
        approval_probability: None,
        expected_value_minor: None,
        propensity: 1.0,
        message: message(),
        reasons: Vec::new(),
    };
    RoutingDecision {
        decision_id: format!("d-{request_id}"),
        request_id: request_id.into(),
        payment_id: "p1".into(),
        decided_at: T0,
        ranked: ranked.iter().map(rank).collect(),
        message_options: Vec::new(),
        retry: RetryPlan::default(),
        decided_by: DecidedBy::StaticRule,
        rule_id: None,
        fallback_reason: None,
        skipped: Vec::new(),
        experiment: None,
        versions: Versions::default(),
        psp_view: BTreeMap::new(),
        latency_us: StepLatency::default(),
    }
}

#[test]
fn an_attempt_is_overdue_once_and_its_result_says_so() {
    let settings = EngineSettings { attempt_overdue_ms: 10_000, ..settings() };
    let codes = CodeTable::default();
    let rules = Rules { settings: &settings, codes: &codes, usual_amount: None };
    let check = |ending: Event<'_>, deadline_ms: Option<i64>, expected: &[(i64, i64, i64, i64)]| {
        let mut state = PaymentState::default();
        let sent = PaymentAttempt { deadline_ms, ..attempt("a", 0) };
        let ticks = [9_999, 10_000, 12_000].map(|at| Event::Tick { payment_id: "p1", at: T0 + at });
        let mut seen = Vec::new();
        for event in [&[Event::Attempt(&sent)], &ticks[..], &[ending]].concat() {
            let due = state.timer_at(&settings);
            let effects = observe(rules, &mut state, event);
            assert!(effects.results.is_empty() || !matches!(event, Event::Tick { at, .. } if due.is_none_or(|due| due > at)));
            assert!(effects.results.iter().all(|result| result.segments.iter().count() == 2), "all know their segments");
            seen.extend(effects.results.iter().map(|r| (r.at - T0, r.tally.attempts, r.tally.overdue, r.tally.late)));
        }
        assert_eq!(seen, expected);
    };
    let late = outcome("a", 15_000, Approved);
    check(Event::Outcome(&late), None, &[(10_000, 0, 1, 0), (15_000, 1, 0, 1)]);
    check(Event::Tick { payment_id: "p1", at: T0 + DEADLINE }, None, &[(10_000, 0, 1, 0), (DEADLINE, 1, 0, 1)]);
    // A deadline that comes first: a time-out, and never overdue.
    check(Event::Tick { payment_id: "p1", at: T0 + DEADLINE }, Some(10_000), &[(10_000, 1, 0, 0)]);
}

#[test]
fn what_was_kept_from_a_psp_is_told_by_the_attempt_that_went_elsewhere() {
    let (settings, codes) = (settings(), CodeTable::default());
    let rules = Rules { settings: &settings, codes: &codes, usual_amount: None };
    let skip = |psp: &str, reason| SkippedPsp { psp_id: psp.into(), reason, segment: Some(Segment::all()), detail: None };
    let skipped =
        vec![skip("amex", SkipReason::NotEligible), skip("elavon", SkipReason::Down), skip("mit", SkipReason::Recovering)];
    // `early` attempts are read before their request.
    let told_of = |dry_run: bool, attempts: &[PaymentAttempt], early: usize| {
        let mut state = PaymentState::default();
        let request = request("r1", 0, dry_run);
        let decision = RoutingDecision { skipped: skipped.clone(), ..decision("r1", &["mit"]) };
        let mut events: Vec<Event<'_>> = attempts.iter().map(Event::Attempt).collect();
        events.insert(early, Event::Decided { request: &request, decision: &decision });
        let diverted = events.into_iter().flat_map(|event| observe(rules, &mut state, event).diverted);
        let told: Vec<String> =
            diverted.map(|(from, it)| format!("{from} {} to {} {}", it.segment, it.to, it.amount_minor)).collect();
        assert!(attempts.is_empty() || state.kept_from.is_empty() || dry_run);
        told
    };
    let told = |dry_run, attempts: &[PaymentAttempt]| {
        let told = told_of(dry_run, attempts, 0);
        assert!((1..=attempts.len()).all(|early| told_of(dry_run, attempts, early) == told), "in any order the same");
        told
    };
    let sent = PaymentAttempt { decision_id: Some("d-r1".into()), ..attempt("a", 10) };
    let retried = PaymentAttempt { psp_id: "worldpay".into(), decision_id: Some("d-r1".into()), ..attempt("b", 20) };
    // The sample went to the PSP that is recovering: only one was avoided; a retry does not count again.
    assert_eq!(told(false, &[sent.clone(), retried.clone()]), ["elavon ALL to mit 1000"]);
    assert_eq!(told(false, std::slice::from_ref(&retried)), ["elavon ALL to worldpay 1000", "mit ALL to worldpay 1000"]);
    assert_eq!(told(true, std::slice::from_ref(&sent)), [""; 0]);
    // One that names no decision follows the newest before it.
    let unnamed = PaymentAttempt { decision_id: None, ..sent };
    assert_eq!(told(false, &[unnamed]), ["elavon ALL to mit 1000"]);
}

/// Features count each attempt once, at the time when the windows do, with what its payment had when it was sent.
#[test]
fn features_are_told_of_each_attempt_once() {
    let (settings, codes) = (settings(), CodeTable::new(&[]));
    let rules = Rules { settings: &settings, codes: &codes, usual_amount: Some(10.0) };
    let told = |state: &mut PaymentState, event: Event<'_>| {
        let told = observe(rules, state, event).for_features;
        told.into_iter().map(|it| (it.psp_id.to_string(), it.told.at, it.told.approved)).collect::<Vec<_>>()
    };
    let mut state = PaymentState::default();
    let late = settings.attempt_deadline_ms;
    let (first, second, third) = (attempt("a", 0), attempt("b", 1_000), attempt("c", 2_000));
    assert_eq!(told(&mut state, Event::Attempt(&first)), []);
    assert_eq!(told(&mut state, Event::Attempt(&first)), [], "a repeat");
    assert_eq!(state.untold.len(), 1);
    let came = outcome("a", 500, Status::Approved);
    assert_eq!(told(&mut state, Event::Outcome(&came)), [(first.psp_id.to_string(), came.occurred_at, true)]);
    assert_eq!(told(&mut state, Event::Outcome(&came)), [], "a repeat");
    // The outcome before its attempt.
    assert_eq!(told(&mut state, Event::Outcome(&outcome("b", 1_500, Status::Declined))), []);
    assert_eq!(told(&mut state, Event::Attempt(&second)).len(), 1);
    // Silence, and an outcome after that.
    assert_eq!(told(&mut state, Event::Attempt(&third)), []);
    let tick = Event::Tick { payment_id: "p", at: third.attempted_at + late };
    assert_eq!(told(&mut state, tick), [(third.psp_id.to_string(), third.attempted_at + late, false)]);
    assert_eq!(told(&mut state, Event::Outcome(&outcome("c", 2_000 + late + 5, Status::Approved))), []);
    assert!(state.untold.is_empty());
}
