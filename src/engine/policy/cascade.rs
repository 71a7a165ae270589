//! The order by a model: a cascade, not a sort.
//!
//! The second PSP is the best one had the first failed, the third the best had both: what a failure says of the payment (and of PSPs
//! that fail alike) is in the chances of those behind. Best is what is worth most:
//! `worth = p × margin - value_weight × (p × success fee + (1 - p) × failure fee)`. With `value_weight` 0 the likeliest goes first; with 1
//! the order is by expected value; between them lies the frontier of both.

use super::assemble::RANKED_MAX;
use super::chances::Chances;
use super::eligibility::Pool;
use super::lottery::Lottery;
use super::ranking::{Ranked, static_positions};
use super::{DecideInput, Router};
use crate::domain::PspId;
use crate::domain::decision::DecidedBy;
use crate::domain::payment::Payment;

/// What money a payment is about at a PSP, in minor units.
pub(super) struct Money {
    margin: f64,
    success_fee: f64,
    failure_fee: f64,
}

impl Money {
    /// None: the merchant's margin is not stated.
    pub(super) fn of(router: &Router, payment: &Payment, psp: &PspId) -> Option<Self> {
        let margin = router.merchants.get(&payment.merchant_id)?.margin?;
        let fees = router.psps.get(psp).map(|psp| psp.fees.as_slice()).unwrap_or_default();
        let fee = fees.iter().find(|fee| fee.currency == payment.currency);
        Some(Self {
            margin: payment.amount_minor as f64 * margin,
            success_fee: fee.map_or(0.0, |fee| fee.success_minor as f64),
            failure_fee: fee.map_or(0.0, |fee| fee.failure_minor as f64),
        })
    }

    fn cost(&self, chance: f64) -> f64 {
        chance * self.success_fee + (1.0 - chance) * self.failure_fee
    }

    /// What an attempt earns on average.
    pub(super) fn expected_value(&self, chance: f64) -> f64 {
        chance * self.margin - self.cost(chance)
    }

    fn worth(&self, chance: f64, value_weight: f64) -> f64 {
        chance * self.margin - value_weight * self.cost(chance)
    }
}

/// # Errors
/// Why the model cannot rank.
pub(super) fn by_model(router: &Router, input: &DecideInput<'_>, pool: &Pool) -> Result<Ranked, String> {
    let chances = input.chances.ok_or("no model is in use")?;
    let payment = &input.request.payment;
    let position = static_positions(router, input, pool);
    let worth = |psp: &PspId, chance: f64| match Money::of(router, payment, psp) {
        Some(money) if money.margin > 0.0 => money.worth(chance, router.policy.value_weight),
        _ => chance,
    };
    let known: Vec<PspId> = pool.usable.iter().chain(&pool.recovering).map(|candidate| candidate.psp.clone()).collect();
    let said = ask(chances, &[], &known)?;
    let at_first = |psp: &PspId| said.iter().find(|(known, _)| known == psp).map_or(0.0, |(_, chance)| chance.calibrated);
    let mut left: Vec<PspId> = pool.usable.iter().map(|candidate| candidate.psp.clone()).collect();
    // Of equals the first of the static order.
    left.sort_by_key(|psp| (position(psp), psp.clone()));
    let (mut order, mut cascade): (Vec<PspId>, Vec<f64>) = (Vec::new(), Vec::new());
    while !left.is_empty() && order.len() < RANKED_MAX {
        let now: Vec<f64> = if order.is_empty() {
            left.iter().map(at_first).collect()
        } else {
            ask(chances, &order, &left)?.into_iter().map(|(_, chance)| chance.calibrated).collect()
        };
        let worths = left.iter().zip(&now).map(|(psp, chance)| worth(psp, *chance)).enumerate();
        let Some((best, _)) = worths.reduce(|best, next| if next.1 > best.1 { next } else { best }) else { break };
        cascade.push(now[best]);
        order.push(left.remove(best));
    }
    left.sort_by(|a, b| worth(b, at_first(b)).total_cmp(&worth(a, at_first(a))));
    let failed: Vec<String> = order.iter().map(ToString::to_string).collect();
    order.extend(left);
    let mut ranked = Ranked::new(Lottery::certain(order.clone()), DecidedBy::Model);
    for (place, (psp, chance)) in order.iter().zip(&cascade).enumerate() {
        let had = if place == 0 { String::new() } else { format!(" had {} failed", failed[..place].join(" and ")) };
        ranked.note(psp, Some(format!("{}: chance {chance:.4}{had}", chances.model())));
    }
    ranked.estimates = said.iter().map(|(psp, chance)| (psp.clone(), chance.calibrated)).collect();
    ranked.raw = said.into_iter().map(|(psp, chance)| (psp, chance.raw)).collect();
    ranked.cascade = order.into_iter().zip(cascade).collect();
    ranked.model = Some(chances.model().to_owned());
    Ok(ranked)
}

/// A chance that is none is no answer.
fn ask(chances: &dyn Chances, failed: &[PspId], psps: &[PspId]) -> Result<Vec<(PspId, super::Chance)>, String> {
    let said = chances.after(failed, psps)?;
    let is_sound = |chance: &super::Chance| (0.0..=1.0).contains(&chance.calibrated) && (0.0..=1.0).contains(&chance.raw);
    if said.len() != psps.len() || !said.iter().all(is_sound) {
        return Err(format!("{} gives no probabilities", chances.model()));
    }
    Ok(psps.iter().cloned().zip(said).collect())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Case, usual};
    use super::super::{Chance, Decided};
    use super::*;
    use crate::engine::settings::{Fee, Ranking};

    /// Chances by (what failed before, PSP); `why` it does not answer.
    struct Said {
        chances: &'static [(&'static str, &'static str, f64)],
        why: Option<&'static str>,
    }

    impl Chances for Said {
        fn model(&self) -> &'static str {
            "selector@7"
        }
        fn after(&self, failed: &[PspId], psps: &[PspId]) -> Result<Vec<Chance>, String> {
            if let Some(why) = self.why {
                return Err(why.to_owned());
            }
            let failed = failed.iter().map(PspId::as_str).collect::<Vec<_>>().join(",");
            let of = |psp: &PspId| self.chances.iter().find(|said| (said.0, said.1) == (failed.as_str(), psp.as_str()));
            Ok(psps.iter().filter_map(of).map(|said| Chance { raw: said.2 / 2.0, calibrated: said.2 }).collect())
        }
    }

    const CHANCES: &[(&str, &str, f64)] = &[
        ("", "alpha", 0.8),
        ("", "beta", 0.7),
        ("", "gamma", 0.6),
        // Beta fails where alpha does.
        ("alpha", "beta", 0.2),
        ("alpha", "gamma", 0.5),
        ("alpha,gamma", "beta", 0.1),
        ("beta", "alpha", 0.3),
        ("beta", "gamma", 0.5),
        ("beta,gamma", "alpha", 0.25),
        ("gamma", "alpha", 0.75),
        ("gamma", "beta", 0.4),
        ("gamma,alpha", "beta", 0.1),
    ];

    fn by_model() -> Case {
        usual().settings(|settings| settings.policy.ranking = Ranking::Model)
    }

    fn ranked(decided: &Decided) -> Vec<(&str, Option<f64>)> {
        decided.decision.ranked.iter().map(|it| (it.psp_id.as_str(), it.approval_probability)).collect()
    }

    #[test]
    fn the_second_is_the_best_had_the_first_failed() {
        let said = Said { chances: CHANCES, why: None };
        let decided = by_model().decide_by(&said);
        assert_eq!(ranked(&decided), [("alpha", Some(0.8)), ("gamma", Some(0.5)), ("beta", Some(0.1))]);
        let decision = &decided.decision;
        assert_eq!((decision.decided_by, decision.versions.model.as_str()), (DecidedBy::Model, "selector@7"));
        assert_eq!(decision.ranked[2].reasons[0], "selector@7: chance 0.1000 had alpha and gamma failed");
        assert_eq!(decision.fallback_reason, None);
        // The prediction has what was said of each at once.
        let of =
            |it: &crate::domain::learning::CandidatePrediction| (it.raw_probability, it.calibrated_probability, it.propensity);
        let told: Vec<_> = decided.prediction.candidates.iter().map(of).collect();
        assert_eq!(told, [(Some(0.4), Some(0.8), 1.0), (Some(0.3), Some(0.6), 0.0), (Some(0.35), Some(0.7), 0.0)]);
        assert_eq!(decided.prediction.model, "selector@7");
    }

    #[test]
    fn fees_count_as_far_as_they_are_to() {
        let said = Said { chances: CHANCES, why: None };
        let case = |weight: f64| {
            by_model().settings(move |settings| {
                settings.policy.value_weight = weight;
                settings.merchants[0].margin = Some(0.01);
                for psp in &mut settings.psps {
                    let success_minor = if psp.id.as_str() == "alpha" { 50 } else { 0 };
                    psp.fees = ["MXN", "USD"].map(|it| Fee { currency: it.into(), success_minor, failure_minor: 0 }).to_vec();
                }
            })
        };
        let (likeliest, dearest) = (case(0.0).decide_by(&said), case(1.0).decide_by(&said));
        assert_eq!(ranked(&likeliest)[0], ("alpha", Some(0.8)));
        let value = |decided: &Decided| decided.decision.ranked[0].expected_value_minor.unwrap();
        assert!(value(&dearest) > value(&likeliest), "{} {}", value(&dearest), value(&likeliest));
        assert_eq!(ranked(&dearest)[0], ("beta", Some(0.7)));
    }

    #[test]
    fn what_a_model_cannot_say_is_decided_without_it() {
        let wrong: &[(&str, &str, f64)] = &[("", "alpha", f64::NAN), ("", "beta", 0.5), ("", "gamma", 0.5)];
        for (said, why) in [
            (Said { chances: CHANCES, why: Some("selector@7 is late") }, "selector@7 is late"),
            (Said { chances: wrong, why: None }, "gives no probabilities"),
            // It stops answering in the middle of the cascade.
            (Said { chances: &CHANCES[..3], why: None }, "gives no probabilities"),
        ] {
            let decided = by_model().decide_by(&said);
            let reason = decided.decision.fallback_reason.clone().unwrap();
            assert!(reason.contains(why), "{reason}");
            assert_eq!(decided.decision.decided_by, DecidedBy::WindowedRate);
            assert_eq!(decided.decision.versions.model, "");
        }
        let decided = by_model().decide();
        assert!(decided.decision.fallback_reason.unwrap().starts_with("no model is in use"));
        assert_eq!(decided.decision.decided_by, DecidedBy::WindowedRate);
    }

    #[test]
    fn a_psp_that_is_down_is_no_candidate_whatever_the_model_says() {
        let said = Said { chances: CHANCES, why: None };
        let decided = by_model().ailing("alpha", "ALL", crate::domain::psp::HealthState::Down, 90).decide_by(&said);
        assert_eq!(ranked(&decided), [("beta", Some(0.7)), ("gamma", Some(0.5))]);
    }

    /// Over many payments each PSP that is UP goes first as often as its propensity says.
    #[test]
    fn exploration_is_drawn_as_it_is_stated() {
        let said = Said { chances: CHANCES, why: None };
        let share = 0.3;
        let mut firsts = std::collections::BTreeMap::<String, (f64, f64)>::new();
        for number in 0..3_000 {
            let mut case = by_model().settings(move |settings| settings.policy.explore_share = share);
            case.request.payment.payment_id = format!("p{number}");
            let decided = case.decide_by(&said);
            let first = decided.decision.ranked[0].psp_id.to_string();
            assert_eq!(decided.decision.decided_by == DecidedBy::Exploration, first != "alpha");
            firsts.entry(first).or_default().0 += 1.0 / 3_000.0;
            let sum: f64 = decided.prediction.candidates.iter().map(|it| it.propensity).sum();
            assert!((sum - 1.0).abs() < 1e-9);
            for candidate in &decided.prediction.candidates {
                firsts.entry(candidate.psp_id.to_string()).or_default().1 += candidate.propensity / 3_000.0;
            }
        }
        for (psp, (drawn, stated)) in &firsts {
            assert!((drawn - stated).abs() < 0.03, "{psp}: {drawn} {stated}");
            let expected = if psp == "alpha" { 1.0 - share + share / 3.0 } else { share / 3.0 };
            assert!((stated - expected).abs() < 1e-9, "{psp}: {stated}");
        }
    }
}
