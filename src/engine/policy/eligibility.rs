//! Which PSPs may take a payment, which of them are fit to, and why the others are skipped.

use super::view::{Standing, common_trouble, technical_share};
use super::{DecideInput, Router};
use crate::domain::PspId;
use crate::domain::decision::{SkipReason, SkippedPsp};
use crate::domain::payment::{Payment, RoutingRequest};
use crate::domain::psp::{HealthState, Segment};
use crate::engine::settings::{HardRule, Merchant, Psp};

#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) psp: PspId,
    pub(super) standing: Standing,
}

/// The merchant's PSPs, sorted by what they can do for this payment; each list by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    /// UP or DEGRADED.
    pub(super) usable: Vec<Candidate>,
    pub(super) recovering: Vec<Candidate>,
    pub(super) down: Vec<Candidate>,
    /// Those that cannot take the payment, whatever their state.
    pub(super) ineligible: Vec<SkippedPsp>,
    /// The merchant's order of preference.
    pub(super) preference: Vec<PspId>,
    pub(super) merchant_note: Option<String>,
    /// What is in trouble everywhere.
    pub(super) common_note: Option<String>,
}

impl Pool {
    pub(super) fn is_empty(&self) -> bool {
        self.usable.is_empty() && self.recovering.is_empty() && self.down.is_empty()
    }

    pub(super) fn is_usable(&self, psp: &PspId) -> bool {
        self.usable.iter().any(|candidate| candidate.psp == *psp)
    }
}

pub(super) fn pool(router: &Router, input: &DecideInput<'_>, segments: &[Segment]) -> Pool {
    let payment = &input.request.payment;
    let merchant = router.merchants.get(&payment.merchant_id);
    let mut pool = Pool { preference: preference(router, merchant), ..Pool::default() };
    if merchant.is_none() {
        pool.merchant_note = Some(format!("merchant {} is not configured: all PSPs are considered", payment.merchant_id));
    }
    let mut candidates = Vec::new();
    for psp in considered(router, input.request) {
        let refusal = refusal(router, input, merchant, &psp);
        if let Some((reason, detail)) = refusal {
            pool.ineligible.push(SkippedPsp { psp_id: psp, reason, segment: None, detail: Some(detail) });
            continue;
        }
        candidates.push(Candidate { standing: Standing::read(input.view, &psp, segments), psp });
    }
    let common = common_trouble(candidates.iter().map(|candidate| &candidate.standing));
    if !common.is_empty() {
        let names: Vec<String> = common.iter().map(ToString::to_string).collect();
        pool.common_note = Some(format!("{} out at every PSP: held against none", names.join(", ")));
    }
    for mut candidate in candidates {
        candidate.standing.excused.clone_from(&common);
        let list = match candidate.standing.health() {
            HealthState::Down => &mut pool.down,
            HealthState::Recovering => &mut pool.recovering,
            HealthState::Up | HealthState::Degraded | HealthState::Unknown => &mut pool.usable,
        };
        list.push(candidate);
    }
    pool
}

/// The merchant's PSPs and those that the request allows; by id.
pub(super) fn considered(router: &Router, request: &RoutingRequest) -> Vec<PspId> {
    let mut considered = preference(router, router.merchants.get(&request.payment.merchant_id));
    considered.extend(request.allowed_psps.iter().flatten().cloned());
    considered.sort();
    considered.dedup();
    considered
}

/// A merchant that is not configured could go anywhere: all PSPs, by id.
fn preference(router: &Router, merchant: Option<&Merchant>) -> Vec<PspId> {
    merchant.map_or_else(|| router.psps.keys().cloned().collect(), |merchant| merchant.psps.clone())
}

fn refusal(router: &Router, input: &DecideInput<'_>, merchant: Option<&Merchant>, psp: &PspId) -> Option<(SkipReason, String)> {
    let payment = &input.request.payment;
    let not_eligible = |detail: String| Some((SkipReason::NotEligible, detail));
    if input.request.allowed_psps.as_ref().is_some_and(|allowed| !allowed.contains(psp)) {
        return Some((SkipReason::NotAllowed, "not in the request's allowed_psps".into()));
    }
    let Some(configured) = router.psps.get(psp) else {
        return not_eligible("the PSP is not configured".into());
    };
    if let Some(merchant) = merchant {
        if !merchant.psps.contains(psp) {
            return not_eligible(format!("not a PSP of merchant {}", merchant.id));
        }
        if !takes(&merchant.currencies, &payment.currency) {
            return not_eligible(format!("merchant {} does not take currency {}", merchant.id, payment.currency));
        }
    }
    cannot_take(configured, payment).and_then(not_eligible)
}

/// Whether the merchant (one that is not configured could go anywhere) has a contract with the PSP, and that takes payments of this
/// brand, currency and method.
pub fn can_take(psp: &Psp, merchant: Option<&Merchant>, payment: &Payment) -> bool {
    merchant.is_none_or(|merchant| merchant.psps.contains(&psp.id)) && cannot_take(psp, payment).is_none()
}

fn cannot_take(psp: &Psp, payment: &Payment) -> Option<String> {
    if !takes(&psp.brands, &payment.card.brand) {
        return Some(format!("does not take brand {:?}", payment.card.brand));
    }
    if !takes(&psp.currencies, &payment.currency) {
        return Some(format!("does not take currency {}", payment.currency));
    }
    (!takes(&psp.methods, &payment.method)).then(|| format!("does not take method {:?}", payment.method))
}

/// An empty list takes everything.
fn takes(list: &[String], value: &str) -> bool {
    list.is_empty() || list.iter().any(|item| item.eq_ignore_ascii_case(value))
}

/// What ails a PSP, as text for a reason: `DEGRADED (BRAND:VISA): 31.0 % technical failures in 15 min`.
pub(super) fn ailment(standing: &Standing) -> Option<String> {
    let worst = standing.worst().filter(|worst| !matches!(worst.state, HealthState::Up | HealthState::Unknown))?;
    if let Some(manual) = &worst.manual {
        return Some(format!("{} ({}): by order of {}: {}", worst.state, worst.segment, manual.by, manual.reason));
    }
    let share = technical_share(worst) * 100.0;
    Some(format!("{} ({}): {share:.1} % technical failures in 15 min", worst.state, worst.segment))
}

pub(super) fn skipped_by_state(candidate: &Candidate) -> Option<SkippedPsp> {
    let worst = candidate.standing.worst()?;
    let reason = match worst.state {
        HealthState::Down => SkipReason::Down,
        HealthState::Recovering => SkipReason::Recovering,
        HealthState::Degraded => SkipReason::Degraded,
        HealthState::Up | HealthState::Unknown => return None,
    };
    let segment = Some(worst.segment.clone());
    Some(SkippedPsp { psp_id: candidate.psp.clone(), reason, segment, detail: ailment(&candidate.standing) })
}

pub(super) fn skipped_by_hard_rule(router: &Router, payment: &Payment, rule: &HardRule) -> Vec<SkippedPsp> {
    let mut others = preference(router, router.merchants.get(&payment.merchant_id));
    others.sort();
    let others = others.into_iter().filter(|psp| *psp != rule.psp);
    others.map(|psp| skipped_by_rule(psp, &format!("hard rule {}", rule.id))).collect()
}

pub(super) fn skipped_by_rule(psp: PspId, rule: &str) -> SkippedPsp {
    SkippedPsp { psp_id: psp, reason: SkipReason::Rule, segment: None, detail: Some(rule.to_owned()) }
}
