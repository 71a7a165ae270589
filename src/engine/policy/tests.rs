//! Decisions as a table: what is asked, and the answer in one line.

use super::fixtures::{Case, NOW, psps, request, segment_of, settings, split, state, texts, usual};
use super::rules::matches;
use super::{DecideInput, Decided, Router, decide};
use crate::domain::PspId;
use crate::domain::decision::{RoutingDecision, SkipReason};
use crate::domain::payment::{CardType, Initiator, InstallmentKind, Installments, Payment, Status};
use crate::domain::psp::HealthState::{Degraded, Down, Recovering, Up};
use crate::domain::psp::{Recovery, Segment, WindowStats};
use crate::engine::settings::{AmountMax, BinRange, Conditions};
use serde_json::Value;
use std::collections::BTreeMap;

/// `WINDOWED_RATE beta gamma | amex NOT_ELIGIBLE | fallback reason`; a rule follows what decided as `:id`.
fn line(decision: &RoutingDecision) -> String {
    let name = |value: Value| value.as_str().unwrap().to_owned();
    let mut words = vec![name(serde_json::to_value(decision.decided_by).unwrap())];
    if let Some(rule) = &decision.rule_id {
        words[0] = format!("{}:{rule}", words[0]);
    }
    words.extend(decision.ranked.iter().map(|ranked| ranked.psp_id.to_string()));
    let skipped: Vec<String> = decision
        .skipped
        .iter()
        .map(|skip| {
            let segment = skip.segment.as_ref().map(|segment| format!("({segment})")).unwrap_or_default();
            format!("{} {}{segment}", skip.psp_id, name(serde_json::to_value(skip.reason).unwrap()))
        })
        .collect();
    let fallback = decision.fallback_reason.as_ref().map(|reason| format!(" | {reason}")).unwrap_or_default();
    format!("{} | {}{fallback}", words.join(" "), skipped.join(", "))
}

fn check(case: &Case, expected: &str) {
    assert_eq!(line(&case.decide().decision), expected);
}

/// The reasons of the PSP at `rank` hold each of the needles.
fn check_reasons(case: &Case, rank: usize, needles: &[&str]) {
    let decision = case.decide().decision;
    let reasons = decision.ranked[rank].reasons.join(" / ");
    for needle in needles {
        assert!(reasons.contains(needle), "{needle:?} is not in {reasons:?}");
    }
}

const OTHERS: &str = "| amex NOT_ELIGIBLE";

#[test]
fn hard_rules_bypass_everything() {
    let amex = || usual().request(|r| r.payment.card.brand = "AMEX".into());
    let skipped = "alpha RULE, beta RULE, gamma RULE";
    check(&amex(), &format!("HARD_RULE:amex-cards amex | {skipped}"));
    check(&amex().ailing("amex", "ALL", Down, 100), &format!("HARD_RULE:amex-cards amex | {skipped}"));
    check_reasons(&amex().ailing("amex", "BRAND:AMEX", Down, 100), 0, &["hard rule amex-cards", "DOWN (BRAND:AMEX)", "stands"]);
    check(&amex().request(|r| r.allowed_psps = Some(psps(&["beta"]))), &format!("HARD_RULE:amex-cards amex | {skipped}"));
    check(&amex().request(|r| r.payment.merchant_id = "else".into()), &format!("HARD_RULE:amex-cards amex | {skipped}"));
}

#[test]
fn eligibility_says_why_not() {
    check(&usual(), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    check(
        &usual().request(|r| r.allowed_psps = Some(psps(&["alpha", "gamma", "unknown"]))).settings(|s| s.policy.results_min = 0),
        "WINDOWED_RATE gamma alpha | amex NOT_ALLOWED, beta NOT_ALLOWED, unknown NOT_ELIGIBLE",
    );
    check(
        &usual().settings(|s| s.psps[1].currencies = texts(&["USD"])).settings(|s| s.psps[2].methods = texts(&["cash"])),
        "STATIC_RULE alpha | amex NOT_ELIGIBLE, beta NOT_ELIGIBLE, gamma NOT_ELIGIBLE \
         | 100 results in 24 h are fewer than policy.results_min = 200; no rule matches: the merchant's order",
    );
    check(
        &usual()
            .settings(|s| s.merchants[0].psps = psps(&["alpha", "beta"]))
            .request(|r| r.allowed_psps = Some(psps(&["beta", "gamma"]))),
        "STATIC_RULE beta | alpha NOT_ALLOWED, gamma NOT_ELIGIBLE \
         | 100 results in 24 h are fewer than policy.results_min = 200; no rule matches: the merchant's order",
    );
    check(&usual().request(|r| r.payment.card.brand = "visa".into()), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
}

#[test]
fn an_unknown_merchant_may_go_anywhere() {
    let stranger = usual().request(|r| r.payment.merchant_id = "else".into());
    check(&stranger, &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    check_reasons(&stranger, 0, &["merchant else is not configured"]);
    check(&stranger.by_rules(), &format!("STATIC_RULE alpha beta gamma {OTHERS} | no rule matches: the merchant's order"));
}

#[test]
fn nobody_means_an_empty_answer_that_says_why() {
    let foreign = usual().request(|r| r.payment.currency = "EUR".into());
    let reason = "merchant shop does not take currency EUR";
    let skipped = "alpha NOT_ELIGIBLE, amex NOT_ELIGIBLE, beta NOT_ELIGIBLE, gamma NOT_ELIGIBLE";
    check(
        &foreign,
        &format!(
            "UNKNOWN | {skipped} | no PSP can take the payment (alpha: {reason}, amex: {reason}, beta: {reason}, gamma: {reason})"
        ),
    );
    let decided = foreign.decide();
    assert!(!decided.decision.retry.should_retry);
    assert_eq!((decided.prediction.model.as_str(), decided.prediction.candidates.len()), ("none", 0));
    check(
        &usual().settings(|s| (s.psps, s.merchants) = (Vec::new(), Vec::new())),
        "UNKNOWN |  | no PSP is configured for this payment; merchant shop is not configured: all PSPs are considered",
    );
}

#[test]
fn the_state_of_every_segment_of_the_payment_counts() {
    check(&usual().ailing("beta", "ALL", Down, 90), "WINDOWED_RATE gamma alpha | amex NOT_ELIGIBLE, beta DOWN(ALL)");
    check(
        &usual().ailing("beta", "BRAND:VISA", Down, 90),
        "WINDOWED_RATE gamma alpha | amex NOT_ELIGIBLE, beta DOWN(BRAND:VISA)",
    );
    check(&usual().ailing("beta", "BRAND:MASTERCARD", Down, 90), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    check(
        &usual().ailing("beta", "ALL", Recovering, 5).ailing("beta", "CURRENCY:MXN", Down, 90),
        "WINDOWED_RATE gamma alpha | amex NOT_ELIGIBLE, beta DOWN(CURRENCY:MXN)",
    );
    // METHOD is not among the configured kinds.
    check(&usual().ailing("beta", "METHOD:card", Down, 90), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
}

#[test]
fn degraded_psps_stay_and_rank_by_their_measured_chance() {
    check(&usual().ailing("beta", "ALL", Degraded, 5), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    check(&usual().ailing("beta", "ALL", Degraded, 30), &format!("WINDOWED_RATE gamma alpha beta {OTHERS}"));
    check_reasons(&usual().ailing("beta", "ALL", Degraded, 30), 2, &["DEGRADED (ALL): 30.0 % technical failures in 15 min"]);
    // What failed in the last 15 minutes lowers the chance before the state says so.
    check(&usual().ailing("beta", "ALL", Up, 30), &format!("WINDOWED_RATE gamma alpha beta {OTHERS}"));
}

#[test]
fn when_all_are_down_the_least_bad_is_used_and_the_decision_says_so() {
    let all = usual().ailing("alpha", "ALL", Down, 60).ailing("beta", "ALL", Down, 90).ailing("gamma", "ALL", Down, 70);
    let why = "no eligible PSP is UP or DEGRADED: the least bad first";
    check(&all, &format!("WINDOWED_RATE alpha gamma beta {OTHERS} | {why}"));
    check_reasons(&all, 0, &["DOWN (ALL): 60.0 %"]);
    let one_recovers = all.ailing("beta", "ALL", Recovering, 90);
    check(&one_recovers, &format!("WINDOWED_RATE beta alpha gamma {OTHERS} | {why}"));
    let equal = usual().ailing("alpha", "ALL", Down, 60).ailing("beta", "ALL", Down, 60).ailing("gamma", "ALL", Down, 60);
    check(&equal, &format!("WINDOWED_RATE gamma alpha beta {OTHERS} | {why}"));
}

#[test]
fn what_fails_at_every_psp_is_held_against_none() {
    let visa = ["alpha", "beta", "gamma"].iter().fold(usual(), |case, psp| case.ailing(psp, "BRAND:VISA", Down, 60));
    check(&visa, &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    check_reasons(&visa, 0, &["BRAND:VISA out at every PSP: held against none"]);
    // One that is fine is the way around it.
    let one_is_well = visa.ailing("gamma", "BRAND:VISA", Up, 0);
    let skipped: Vec<_> = one_is_well.decide().decision.skipped.into_iter().filter(|it| it.reason == SkipReason::Down).collect();
    assert_eq!(skipped.iter().map(|it| it.psp_id.as_str()).collect::<Vec<_>>(), ["alpha", "beta"]);
}

#[test]
fn a_psp_on_the_ramp_gets_its_share() {
    let mut beta = state("beta", Segment::all(), Recovering, (300, 270));
    beta.recovery = Some(Recovery { sample_rate: 0.25, consecutive_wins: 20, ramp_share: 0.9 });
    let first = |case: &Case| {
        let candidates = case.decide().prediction.candidates;
        candidates.iter().find(|it| it.psp_id.as_str() == "beta").map_or(0.0, |it| it.propensity)
    };
    // Its 300 of the 500 attempts of the day, times the share that it has won back.
    assert!((first(&usual().state(beta.clone())) - 0.54).abs() < 1e-12);
    // Before the ramp it is sampled.
    beta.recovery = Some(Recovery { sample_rate: 0.25, consecutive_wins: 2, ramp_share: 0.25 });
    assert!((first(&usual().state(beta)) - 0.25).abs() < 1e-12);
}

#[test]
fn windowed_rates_shrink_towards_what_is_known_more_broadly() {
    let close = |case: &Case, psp: &str, expected: f64| {
        let decision = case.decide().decision;
        let got = decision.ranked.iter().find(|ranked| ranked.psp_id.as_str() == psp).unwrap().approval_probability.unwrap();
        assert!((got - expected).abs() < 1e-12, "{psp}: {got}, expected {expected}");
    };
    // prior 0.8 with weight 100: (90 + 80) / 200.
    close(&usual(), "beta", 0.85);
    let hour = |attempts, approvals| WindowStats { attempts, approvals, ..WindowStats::default() };
    let mut fresh = state("beta", Segment::all(), Up, (100, 90));
    fresh.windows.last_1h = hour(300, 0);
    close(&usual().state(fresh), "beta", 0.85 * 100.0 / 400.0);
    // The broadest segment first, whatever their order: MXN (50 results), then VISA (20).
    let narrow = usual().state(state("beta", segment_of("BRAND:VISA"), Up, (20, 0))).state(state(
        "beta",
        segment_of("CURRENCY:MXN"),
        Up,
        (50, 50),
    ));
    close(&narrow, "beta", ((50.0 + 85.0) / 150.0) * 100.0 / 120.0);
    // No results at all: the prior.
    let newcomer = usual().state(state("beta", Segment::all(), Up, (0, 0)));
    close(&newcomer, "beta", 0.8);
    let mut degraded = state("beta", Segment::all(), Degraded, (100, 90));
    degraded.windows.last_15m = WindowStats { attempts: 10, timeouts: 2, errors: 3, ..WindowStats::default() };
    close(&usual().state(degraded), "beta", 0.85 * (1.0 - 5.0 / 110.0));
    // An outage that is over: its failures are still in the hour and the day, and say nothing about the issuers.
    let mut restored = state("beta", Segment::all(), Up, (150, 90));
    restored.windows.last_24h.timeouts = 50;
    restored.windows.last_1h = WindowStats { attempts: 40, timeouts: 40, ..WindowStats::default() };
    close(&usual().state(restored), "beta", 0.85);
}

#[test]
fn the_static_order_is_left_for_what_is_no_chance() {
    // gamma is first of the merchant's order; 100 results of the last hour each, weight 100: standard errors of 2.5 % to 2.8 %.
    let rated = |psp: &str, approvals, health| {
        let mut state = state(psp, Segment::all(), health, (100, 80));
        state.windows.last_1h = WindowStats { attempts: 100, approvals, ..WindowStats::default() };
        state
    };
    let case = |gamma, beta, health| {
        usual()
            .settings(|s| s.policy.better_by_errors = 2.0)
            .state(rated("gamma", gamma, health))
            .state(rated("beta", beta, Up))
            .state(rated("alpha", 70, Up))
    };
    check(&case(80, 88, Up), &format!("WINDOWED_RATE gamma beta alpha {OTHERS}"));
    check_reasons(&case(80, 88, Up), 0, &["first of the static order: no other's rate is higher by 2 standard errors"]);
    check(&case(70, 99, Up), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    check(&case(80, 88, Degraded), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    // Nobody is better: there is nothing to tell.
    let decision = case(90, 80, Up).decide().decision;
    assert!(decision.ranked[0].reasons.iter().all(|reason| !reason.contains("static order")), "{decision:?}");
}

#[test]
fn static_rules_rank_when_told_to_or_when_rates_know_too_little() {
    let few = |case: Case| case.settings(|s| s.policy.results_min = 301);
    let why = "300 results in 24 h are fewer than policy.results_min = 301";
    check(&few(usual()), &format!("STATIC_RULE gamma alpha beta {OTHERS} | {why}; no rule matches: the merchant's order"));
    let order = |case: Case| case.rule("r", |rule| rule.psps = psps(&["alpha", "gamma"]));
    check(&few(order(usual())), &format!("STATIC_RULE:r alpha gamma | amex NOT_ELIGIBLE, beta RULE | {why}"));
    check(&order(usual()).by_rules(), "STATIC_RULE:r alpha gamma | amex NOT_ELIGIBLE, beta RULE");
    check_reasons(&order(usual()).by_rules(), 1, &["rule r, place 2"]);
    assert_eq!(few(usual()).decide().decision.ranked[0].approval_probability, None);
    assert_eq!(few(usual()).decide().prediction.model, "static_rule");
}

#[test]
fn of_the_matching_rules_the_highest_priority_with_a_usable_psp_decides() {
    let three = || {
        usual()
            .by_rules()
            .rule("low", |rule| (rule.priority, rule.psps) = (1, psps(&["beta"])))
            .rule("b", |rule| (rule.priority, rule.psps) = (5, psps(&["gamma"])))
            .rule("a", |rule| (rule.priority, rule.psps) = (5, psps(&["alpha"])))
            .rule("top", |rule| {
                (rule.priority, rule.psps) = (9, psps(&["beta"]));
                rule.when.brands = Some(texts(&["MASTERCARD"]));
            })
    };
    check(&three(), "STATIC_RULE:a alpha | amex NOT_ELIGIBLE, beta RULE, gamma RULE");
    check(
        &three().ailing("alpha", "ALL", Down, 90),
        "STATIC_RULE:b gamma | alpha DOWN(ALL), amex NOT_ELIGIBLE, beta RULE | rule a: none of its PSPs is usable",
    );
    let lonely = usual().by_rules().rule("r", |rule| rule.psps = psps(&["beta"])).ailing("beta", "ALL", Down, 90);
    check(
        &lonely,
        "STATIC_RULE gamma alpha | amex NOT_ELIGIBLE, beta DOWN(ALL) | rule r: none of its PSPs is usable; no other rule matches: the merchant's order",
    );
}

#[test]
fn shadow_rules_are_reported_without_effect() {
    let watched = || usual().rule("try", |rule| (rule.shadow, rule.psps) = (true, psps(&["alpha"])));
    check(&watched(), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    check_reasons(&watched(), 0, &["shadow rule try would have chosen alpha"]);
    check_reasons(&watched().ailing("alpha", "ALL", Down, 90), 0, &["shadow rule try would have found none of its PSPs usable"]);
    check(&watched().by_rules(), &format!("STATIC_RULE gamma alpha beta {OTHERS} | no rule matches: the merchant's order"));
}

#[test]
fn ties_go_to_the_static_order_then_the_id() {
    let equal = || usual().up("alpha", 80).up("beta", 80).up("gamma", 80);
    check(&equal(), &format!("WINDOWED_RATE gamma alpha beta {OTHERS}"));
    check(&equal().rule("r", |rule| rule.psps = psps(&["beta"])), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    check(
        &equal().rule("r", |rule| rule.split = split(&[("alpha", 1), ("beta", 2)])),
        &format!("WINDOWED_RATE beta alpha gamma {OTHERS}"),
    );
}

#[test]
fn a_split_draws_the_first_psp_by_weight_and_states_its_odds() {
    let mut first: BTreeMap<String, u32> = BTreeMap::new();
    for number in 0..4_000 {
        let case = usual().by_rules().rule("s", |rule| rule.split = split(&[("alpha", 1), ("beta", 3)]));
        let decided = case.request(|r| *r = request(&format!("p{number}"))).decide();
        let ranked = &decided.decision.ranked;
        let odds = if ranked[0].psp_id.as_str() == "beta" { 0.75 } else { 0.25 };
        // Of two PSPs, the other is second exactly when the first is first.
        assert_eq!((ranked.len(), ranked[0].propensity, ranked[1].propensity), (2, odds, odds));
        *first.entry(ranked[0].psp_id.to_string()).or_default() += 1;
    }
    // 3,000 expected, standard deviation 27.
    assert!((2_850..=3_150).contains(&first["beta"]), "{first:?}");
}

#[test]
fn recovering_psps_get_samples_at_their_rate() {
    let case = |number: u32| usual().ailing("beta", "ALL", Recovering, 10).request(|r| *r = request(&format!("p{number}")));
    let mut samples = 0;
    for number in 0..4_000 {
        let decision = case(number).decide().decision;
        if decision.ranked[0].psp_id.as_str() == "beta" {
            samples += 1;
            assert_eq!(line(&decision), format!("RECOVERY_SAMPLE beta gamma alpha {OTHERS}"));
            assert_eq!(decision.ranked[0].propensity, 0.25);
        } else {
            assert_eq!(line(&decision), "WINDOWED_RATE gamma alpha | amex NOT_ELIGIBLE, beta RECOVERING(ALL)");
            assert_eq!(decision.ranked[0].propensity, 0.75);
        }
    }
    // 1,000 expected, standard deviation 27.
    assert!((850..=1_150).contains(&samples), "{samples}");
    let hit = (0..100).map(case).find(|case| case.decide().decision.ranked[0].psp_id.as_str() == "beta").unwrap();
    check_reasons(&hit, 0, &["sample at rate 0.25", "RECOVERING"]);
    let tried = hit.tried("beta", Status::Declined, "05");
    check(&tried, "WINDOWED_RATE gamma alpha | amex NOT_ELIGIBLE, beta RECOVERING(ALL)");
}

/// The odds with which `beta` is put first while it recovers.
fn odds_of_beta(case: &Case) -> f64 {
    let candidates = case.decide().prediction.candidates;
    candidates.iter().find(|it| it.psp_id.as_str() == "beta").map_or(0.0, |it| it.propensity)
}

#[test]
fn samples_are_payments_that_may_be_risked() {
    let recovering = || usual().ailing("beta", "ALL", Recovering, 10);
    let check = |case: Case, expected: f64, why: &str| {
        let odds = odds_of_beta(&case);
        assert!((odds - expected).abs() < 1e-12, "{why}: {odds}");
    };
    check(recovering(), 0.25, "any payment");
    check(
        recovering().tried("alpha", Status::Declined, "05"),
        0.0,
        "an issuer has declined it: one more try counts for the scheme",
    );
    check(recovering().tried("alpha", Status::Timeout, ""), 0.25, "no issuer has seen it");
    let allowed = recovering().tried("alpha", Status::Declined, "05").settings(|s| s.policy.samples.declined_before = true);
    check(allowed, 0.25, "where that is allowed");
    // Small amounts first: the payment has 10,000 minor units, the state is NOW ms old.
    let early = |amount_minor, low_value_ms| {
        recovering().settings(|s| {
            s.policy.samples.low_value_ms = low_value_ms;
            s.policy.samples.amounts_max = vec![AmountMax { currency: "MXN".into(), amount_minor }];
        })
    };
    check(early(9_999, NOW + 1), 0.0, "too much for the beginning");
    check(early(10_000, NOW + 1), 0.25, "little enough");
    check(early(9_999, NOW), 0.25, "later");
    check(early(9_999, NOW + 1).request(|r| r.payment.currency = "USD".into()), 0.25, "no limit for this currency");
}

#[test]
fn samples_have_a_budget_where_traffic_is_heavy() {
    // 100 + 50 payments of this kind a minute, at those PSPs that could take them.
    let busy = |psp: &str, attempts, health| {
        let mut state = state(psp, Segment::all(), health, (100, 90));
        state.windows.last_15m = WindowStats { attempts, ..WindowStats::default() };
        state
    };
    let case = || usual().state(busy("beta", 1_500, Recovering)).state(busy("alpha", 750, Up)).state(busy("amex", 9_000, Up));
    let odds = |per_minute_max| odds_of_beta(&case().settings(|s| s.policy.samples.per_minute_max = per_minute_max));
    assert!((odds(15.0) - 0.1).abs() < 1e-12, "{}", odds(15.0));
    assert!((odds(1_000.0) - 0.25).abs() < 1e-12, "{}", odds(1_000.0));
}

#[test]
fn a_payment_that_was_drawn_for_its_policy_states_the_odds_of_both() {
    let odds = |decided: &Decided| -> Vec<(String, f64)> {
        let mut odds: Vec<_> = decided.prediction.candidates.iter().map(|it| (it.psp_id.to_string(), it.propensity)).collect();
        odds.sort_by(|a, b| a.0.cmp(&b.0));
        odds
    };
    let named =
        |odds: [f64; 3]| -> Vec<(String, f64)> { ["alpha", "beta", "gamma"].map(str::to_owned).into_iter().zip(odds).collect() };
    let own = usual().decide();
    let other = usual().ailing("beta", "ALL", Down, 10).decide();
    assert_eq!((odds(&own), other.decision.ranked[0].psp_id.as_str()), (named([0.0, 1.0, 0.0]), "gamma"));
    let mut mixed = own.clone();
    mixed.mix(&other, 0.75);
    assert_eq!(odds(&mixed), named([0.0, 0.75, 0.25]));
    assert_eq!(
        (mixed.decision.ranked[0].propensity, mixed.decision.ranked[1].propensity),
        (0.75, own.decision.ranked[1].propensity)
    );
    let mut alike = own.clone();
    alike.mix(&own, 0.3);
    assert_eq!(odds(&alike), odds(&own));
}

#[test]
fn a_psp_that_inherits_traffic_is_spared() {
    let case = |number: u32| {
        usual()
            .ailing("gamma", "ALL", Down, 10)
            .settings(|s| s.policy.inherited_share_max = 0.6)
            .request(|r| *r = request(&format!("p{number}")))
    };
    let mut first = 0;
    for number in 0..4_000 {
        let decision = case(number).decide().decision;
        let (psp, propensity) = (decision.ranked[0].psp_id.as_str(), decision.ranked[0].propensity);
        assert!((propensity - if psp == "beta" { 0.6 } else { 0.4 }).abs() < 1e-12, "{psp}: {propensity}");
        assert_eq!(decision.ranked.len(), 2, "nobody is left out");
        first += u32::from(psp == "beta");
    }
    // 2,400 expected, standard deviation 31.
    assert!((2_250..=2_550).contains(&first), "{first}");
    let spared = (0..100).map(case).find(|case| case.decide().decision.ranked[0].psp_id.as_str() != "beta").unwrap();
    check_reasons(&spared, 1, &["spared: first for 60 %"]);
    // Nobody is out, nobody inherits.
    let calm = usual().settings(|s| s.policy.inherited_share_max = 0.6);
    assert_eq!(calm.decide().decision.ranked[0].propensity, 1.0);
}

#[test]
fn a_rule_keeps_samples_from_psps_that_it_leaves_out() {
    for number in 0..200 {
        let case = usual().by_rules().ailing("beta", "ALL", Recovering, 10).request(|r| *r = request(&format!("p{number}")));
        check(
            &case.rule("r", |rule| rule.psps = psps(&["alpha", "gamma"])),
            "STATIC_RULE:r alpha gamma | amex NOT_ELIGIBLE, beta RECOVERING(ALL)",
        );
    }
}

#[test]
fn a_psp_that_failed_on_the_payment_comes_last() {
    check(&usual().tried("beta", Status::Timeout, ""), &format!("WINDOWED_RATE gamma alpha beta {OTHERS}"));
    check_reasons(&usual().tried("beta", Status::Timeout, ""), 2, &["failed technically on this payment"]);
    check(&usual().tried("beta", Status::Declined, "96"), &format!("WINDOWED_RATE gamma alpha beta {OTHERS}"));
    check(&usual().tried("beta", Status::Declined, "05"), &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"));
    // The request's own list wins over the log's, even when it is empty.
    check(
        &usual().tried("beta", Status::Timeout, "").request(|r| r.previous_attempts = Some(Vec::new())),
        &format!("WINDOWED_RATE beta gamma alpha {OTHERS}"),
    );
}

#[test]
fn the_retry_plan_follows_what_happened() {
    let soft = || usual().tried("beta", Status::Declined, "05");
    for (case, should_retry, wait_ms, order, needle) in [
        (usual(), true, None, "gamma alpha beta", "no attempt yet"),
        (soft(), true, Some(50_000), "beta gamma alpha", "soft decline 05 at beta: retry 60000 ms after it"),
        (usual().tried("beta", Status::Declined, "51"), true, Some(86_390_000), "beta gamma alpha", "soft decline 51"),
        (usual().tried("beta", Status::Timeout, ""), true, Some(0), "gamma alpha beta", "technical failure at beta"),
        (usual().tried("beta", Status::Declined, "96"), true, Some(0), "gamma alpha beta", "technical failure 96"),
        (usual().tried("beta", Status::Declined, "54"), false, None, "", "hard decline 54 by attempt t0"),
        (soft().tried("beta", Status::Approved, ""), false, None, "", "attempt t1 is approved"),
        (soft().tried("alpha", Status::Unknown, ""), false, None, "", "t1 at alpha has no outcome yet"),
        (
            soft().tried("alpha", Status::Declined, "").tried("alpha", Status::Declined, ""),
            false,
            None,
            "",
            "retry.attempts_max is 3",
        ),
        (usual().settings(|s| s.retry.attempts_max = 1), false, None, "", "retry.attempts_max is 1"),
    ] {
        let plan = case.decide().decision.retry;
        let psps: Vec<&str> = plan.psp_order.iter().map(PspId::as_str).collect();
        let waits = plan.not_before.map(|at| at - NOW);
        assert_eq!((plan.should_retry, waits, psps.join(" ").as_str()), (should_retry, wait_ms, order), "{}", plan.reason);
        assert!(plan.reason.contains(needle), "{needle:?} is not in {:?}", plan.reason);
    }
}

/// Sets conditions.
type Change<'a> = &'a dyn Fn(&mut Conditions);

#[test]
fn conditions_hold_when_all_of_them_do() {
    let holds = |change: &dyn Fn(&mut Conditions)| {
        let mut when = Conditions::default();
        change(&mut when);
        let mut payment: Payment = request("p").payment;
        payment.sub_method = Some("wallet".into());
        payment.installments = Some(Installments { count: 6, kind: InstallmentKind::Msi });
        matches(&when, &payment)
    };
    let range = |from: &str, to: &str| Some(vec![BinRange { from: from.into(), to: to.into() }]);
    let cases: &[(bool, Change<'_>)] = &[
        (true, &|_| ()),
        (true, &|c| c.brands = Some(texts(&["MASTERCARD", "VISA"]))),
        (false, &|c| c.brands = Some(Vec::new())),
        (false, &|c| c.merchants = Some(texts(&["other"]))),
        (true, &|c| c.card_types = Some(vec![CardType::Credit])),
        (false, &|c| c.card_types = Some(vec![CardType::Debit])),
        (true, &|c| c.issuer_countries = Some(texts(&["mx"]))),
        (false, &|c| c.currencies = Some(texts(&["USD"]))),
        (true, &|c| c.sub_methods = Some(texts(&["wallet"]))),
        (false, &|c| c.methods = Some(texts(&["cash"]))),
        (true, &|c| c.initiators = Some(vec![Initiator::Customer])),
        (false, &|c| c.initiators = Some(vec![Initiator::Merchant])),
        (true, &|c| c.installment_kinds = Some(vec![InstallmentKind::Msi])),
        (false, &|c| c.installment_kinds = Some(vec![InstallmentKind::Mci])),
        (true, &|c| (c.amount_minor_min, c.amount_minor_max) = (Some(10_000), Some(10_000))),
        (false, &|c| c.amount_minor_min = Some(10_001)),
        (false, &|c| c.amount_minor_max = Some(9_999)),
        (false, &|c| c.three_ds = Some(true)),
        // The BIN is 455673.
        (true, &|c| c.bin_ranges = range("45", "45")),
        (true, &|c| c.bin_ranges = range("455673", "455673")),
        (true, &|c| c.bin_ranges = range("45567300", "45567399")),
        (true, &|c| c.bin_ranges = range("4", "5")),
        (false, &|c| c.bin_ranges = range("455674", "455699")),
        (false, &|c| c.bin_ranges = range("40000000", "45567299")),
        (false, &|c| (c.brands, c.three_ds) = (Some(texts(&["VISA"])), Some(true))),
    ];
    for (index, (expected, change)) in cases.iter().enumerate() {
        assert_eq!(holds(change), *expected, "case {index}");
    }
    let mut no_bin = request("p").payment;
    no_bin.card.bin = String::new();
    assert!(!matches(&Conditions { bin_ranges: range("0", "9"), ..Conditions::default() }, &no_bin));
}

#[test]
fn the_records_carry_what_was_used() {
    let decided = usual().decide();
    let (decision, prediction) = (&decided.decision, &decided.prediction);
    assert_eq!(decision.decision_id, usual().decide().decision.decision_id);
    assert_ne!(decision.decision_id, usual().request(|r| r.request_id = "other".into()).decide().decision.decision_id);
    assert_eq!((decision.psp_view["0"], decision.decided_at), (7, NOW));
    assert_eq!(decision.message_options.len(), 1);
    assert_eq!(decision.message_options[0].message, request("p1").payment.message);
    assert_eq!((&prediction.decision_id, prediction.chosen.as_str()), (&decision.decision_id, "beta"));
    assert_eq!((prediction.model.as_str(), prediction.shadow), ("windowed_rate", false));
    let candidates: Vec<(&str, f64)> = prediction.candidates.iter().map(|c| (c.psp_id.as_str(), c.propensity)).collect();
    assert_eq!(candidates, [("beta", 1.0), ("gamma", 0.0), ("alpha", 0.0)]);
    assert_eq!(prediction.candidates[0].raw_probability, decision.ranked[0].approval_probability);
}

#[test]
fn versions_change_with_what_decides_and_with_nothing_else() {
    let versions = |change: &dyn Fn(&mut crate::engine::settings::Settings)| {
        let mut settings = settings();
        change(&mut settings);
        let router = Router::new(&settings);
        (router.policy_version().to_owned(), router.rules_version().to_owned())
    };
    let base = versions(&|_| ());
    assert_eq!(versions(&|s| s.psps.reverse()), base);
    assert_eq!(versions(&|s| s.error_codes.reverse()), base);
    assert_eq!(versions(&|s| s.health.volume_min = 99), base);
    let policy = versions(&|s| s.policy.salt = "else".into());
    assert!(policy.0 != base.0 && policy.1 == base.1);
    let rules = versions(&|s| s.merchants[0].psps.reverse());
    assert!(rules.0 == base.0 && rules.1 != base.1);
}

#[test]
fn the_log_history_is_used_when_the_request_has_none() {
    let case = usual().tried("beta", Status::Timeout, "");
    let offsets = BTreeMap::new();
    let router = Router::new(&case.settings);
    let own = case.request.clone();
    let with = |previous| {
        let input =
            DecideInput { request: &own, previous, view: &case.view, chances: None, view_offsets: &offsets, decided_at: NOW };
        decide(&router, &input).decision.ranked[0].psp_id.to_string()
    };
    assert_eq!((with(&case.previous), with(&[])), ("gamma".into(), "beta".into()));
}
