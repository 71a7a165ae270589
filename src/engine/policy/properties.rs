//! What holds for every decision, whatever the settings, states and payment.

use super::StaticView;
use super::fixtures::{Case, psp, psps, request, rule, segment_of, settings, split, state, usual};
use crate::domain::decision::DecidedBy;
use crate::domain::payment::Status;
use crate::domain::psp::HealthState;
use crate::engine::settings::{Ranking, Settings};
use proptest::prelude::*;
use std::collections::BTreeSet;

const IDS: [&str; 5] = ["alpha", "beta", "gamma", "delta", "amex"];
const SEGMENTS: [&str; 5] = ["ALL", "BRAND:VISA", "BRAND:AMEX", "CURRENCY:MXN", "CURRENCY:USD"];
const HEALTH: [HealthState; 4] = [HealthState::Up, HealthState::Degraded, HealthState::Down, HealthState::Recovering];

/// Five PSPs, so that three of them are a choice.
fn wide_settings() -> Settings {
    let mut settings = settings();
    settings.psps.push(psp("delta", &["VISA", "MASTERCARD"]));
    settings.merchants[0].psps = psps(&["delta", "gamma", "alpha", "beta", "amex"]);
    settings
}

prop_compose! {
    fn any_state()(psp in 0..IDS.len(), segment in 0..SEGMENTS.len(), health in 0..HEALTH.len(),
                   attempts in 0_i64..400, share in 0.0..1.0_f64, failed in 0_i64..=100) -> crate::domain::psp::PspState {
        let day = (attempts, (attempts as f64 * share) as i64);
        let mut state = state(IDS[psp], segment_of(SEGMENTS[segment]), HEALTH[health], day);
        state.windows.last_15m.attempts = 100;
        state.windows.last_15m.timeouts = failed;
        state
    }
}

prop_compose! {
    fn any_case()(states in prop::collection::vec(any_state(), 0..16), payment in 0..500_u32, amex in any::<bool>(), usd in any::<bool>(),
                  by_rule in any::<bool>(), kind in 0..3_u8, allowed in prop::option::of(prop::collection::vec(0..IDS.len(), 0..4)),
                  tried in prop::collection::vec((0..IDS.len(), any::<bool>()), 0..3)) -> Case {
        let mut case = Case { settings: wide_settings(), request: request(&format!("p{payment}")), previous: Vec::new(), view: StaticView::from_iter(states) };
        case.request.payment.card.brand = if amex { "AMEX" } else { "VISA" }.into();
        case.request.payment.currency = if usd { "USD" } else { "MXN" }.into();
        case.request.allowed_psps = allowed.map(|list| list.into_iter().map(|index| IDS[index].into()).collect());
        case.settings.policy.ranking = if by_rule { Ranking::StaticRule } else { Ranking::WindowedRate };
        let mut own = rule("own");
        match kind {
            0 => own.psps = psps(&["beta", "alpha"]),
            1 => own.split = split(&[("alpha", 20), ("beta", 30), ("delta", 50)]),
            _ => (own.shadow, own.psps) = (true, psps(&["gamma"])),
        }
        case.settings.rules = vec![own];
        for (psp, timeout) in tried {
            case = case.tried(IDS[psp], if timeout { Status::Timeout } else { Status::Declined }, "");
        }
        case
    }
}

/// The worst state of a PSP over the segments of the payment, as the states were given.
fn is(case: &Case, psp: &str, health: HealthState) -> bool {
    use super::view::{PspView, Standing};
    let segments = crate::engine::segments::segments_of(&case.request.payment, &case.settings.engine.segments);
    let view: &dyn PspView = &case.view;
    Standing::read(view, &psp.into(), &segments).known.iter().any(|state| state.state == health)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_keeps_the_rules(case in any_case()) {
        let decision = case.decide().decision;
        let amex_card = case.request.payment.card.brand == "AMEX";
        let ranked: Vec<&str> = decision.ranked.iter().map(|ranked| ranked.psp_id.as_str()).collect();
        let skipped: BTreeSet<&str> = decision.skipped.iter().map(|skip| skip.psp_id.as_str()).collect();
        prop_assert_eq!(amex_card, decision.decided_by == DecidedBy::HardRule);
        prop_assert_eq!(amex_card, ranked.contains(&"amex"));
        prop_assert!(ranked.len() <= 3);
        prop_assert_eq!(ranked.iter().collect::<BTreeSet<_>>().len(), ranked.len());
        prop_assert!(ranked.iter().all(|psp| !skipped.contains(psp)), "both ranked and skipped: {:?}", decision);
        prop_assert!(decision.ranked.iter().all(|ranked| !ranked.reasons.is_empty()));
        prop_assert_eq!(skipped.len(), decision.skipped.len());

        let allowed = |psp: &&&str| case.request.allowed_psps.as_ref().is_none_or(|list| list.contains(&(**psp).into()));
        let eligible: Vec<&&str> = IDS.iter().filter(|psp| **psp != "amex").filter(allowed).collect();
        if !amex_card {
            prop_assert_eq!(ranked.is_empty(), eligible.is_empty());
            prop_assert!(!ranked.is_empty() || decision.fallback_reason.is_some());
            let fit = |psp: &&str| !is(&case, psp, HealthState::Down) && !is(&case, psp, HealthState::Recovering);
            if eligible.iter().any(|psp| fit(psp)) {
                prop_assert!(ranked.iter().all(|psp| !is(&case, psp, HealthState::Down)), "a PSP that is down is ranked: {:?}", decision);
                let recovering = ranked.iter().filter(|psp| is(&case, psp, HealthState::Recovering)).count();
                prop_assert_eq!(recovering, usize::from(decision.decided_by == DecidedBy::RecoverySample));
            }
        }
    }

    #[test]
    fn odds_add_up(case in any_case()) {
        let decided = case.decide();
        prop_assert!(decided.decision.ranked.iter().all(|ranked| ranked.propensity > 0.0 && ranked.propensity <= 1.0));
        let candidates = &decided.prediction.candidates;
        prop_assert!(candidates.iter().all(|candidate| (0.0..=1.0).contains(&candidate.propensity)));
        if let Some(first) = decided.decision.ranked.first() {
            let total: f64 = candidates.iter().map(|candidate| candidate.propensity).sum();
            prop_assert!((total - 1.0).abs() < 1e-9, "{}", total);
            prop_assert_eq!(&decided.prediction.chosen, &first.psp_id);
            let chosen = candidates.iter().find(|candidate| candidate.psp_id == first.psp_id).unwrap();
            prop_assert_eq!(chosen.propensity, first.propensity);
        }
    }

    #[test]
    fn the_order_of_the_configuration_does_not_matter(case in any_case(), shift in 0..5_usize) {
        let before = case.decide();
        prop_assert_eq!(&case.decide(), &before);
        let moved = case.settings(|settings| {
            settings.psps.rotate_left(shift);
            settings.rules.reverse();
            settings.error_codes.reverse();
        });
        prop_assert_eq!(moved.decide(), before);
    }
}

/// The stated odds are those that happen: over many payments, each PSP is first as often as its propensities say.
#[test]
fn propensities_are_true_frequencies() {
    let case = |number: u32| {
        usual()
            .by_rules()
            .ailing("gamma", "ALL", HealthState::Recovering, 10)
            .rule("s", |rule| rule.split = split(&[("alpha", 1), ("beta", 3), ("gamma", 4)]))
            .request(|r| *r = request(&format!("q{number}")))
    };
    let (mut first, mut stated) = ([0.0; 3], [0.0; 3]);
    for number in 0..4_000 {
        let prediction = case(number).decide().prediction;
        for candidate in prediction.candidates {
            let index = IDS.iter().position(|id| *id == candidate.psp_id.as_str()).unwrap();
            stated[index] += candidate.propensity;
            first[index] += f64::from(u8::from(candidate.psp_id == prediction.chosen));
        }
    }
    for index in 0..3 {
        // Standard deviation at most 32.
        assert!((first[index] - stated[index]).abs() < 150.0, "{}: {} against {}", IDS[index], first[index], stated[index]);
    }
    assert_eq!(stated.map(|count: f64| count.round() as i64), [750, 2_250, 1_000]);
}
