//! The records: a draft of what was decided becomes a decision and its prediction.

use super::cascade::Money;
use super::lottery::Lottery;
use super::{DecideInput, Decided, Router, retry};
use crate::domain::PspId;
use crate::domain::decision::{DecidedBy, MessageOption, RankedPsp, RoutingDecision, SkippedPsp, StepLatency, Versions};
use crate::domain::learning::{CandidatePrediction, Prediction};
use crate::engine::hashing::stable_id;
use std::collections::BTreeMap;

/// The contract: the best three.
pub(super) const RANKED_MAX: usize = 3;

/// What was decided, before it is put into words.
pub(super) struct Draft {
    pub(super) lottery: Lottery,
    pub(super) reasons: BTreeMap<PspId, Vec<String>>,
    pub(super) estimates: BTreeMap<PspId, f64>,
    pub(super) raw: BTreeMap<PspId, f64>,
    /// A model's order, each with its chance had all before it failed.
    pub(super) cascade: Vec<(PspId, f64)>,
    pub(super) decided_by: DecidedBy,
    /// What ranked, as `Prediction::model` names it.
    pub(super) model: String,
    pub(super) rule_id: Option<String>,
    pub(super) fallback_reason: Option<String>,
    pub(super) skipped: Vec<SkippedPsp>,
}

pub(super) fn finish(router: &Router, input: &DecideInput<'_>, draft: Draft) -> Decided {
    let request = input.request;
    let decision_id = stable_id("decision", &request.request_id);
    let prediction = prediction(input, &draft, &decision_id);
    let ranked = ranked(router, input, &draft);
    let model = if draft.cascade.is_empty() { String::new() } else { draft.model };
    let decision = RoutingDecision {
        decision_id,
        request_id: request.request_id.clone(),
        payment_id: request.payment.payment_id.clone(),
        decided_at: input.decided_at,
        message_options: message_options(input, &ranked),
        retry: retry::plan(router, input.history(), draft.lottery.drawn(), input.decided_at),
        ranked,
        decided_by: draft.decided_by,
        rule_id: draft.rule_id,
        fallback_reason: draft.fallback_reason,
        skipped: draft.skipped,
        experiment: None,
        versions: Versions {
            model,
            policy: router.policy_version.clone(),
            rules: router.rules_version.clone(),
            ..Versions::default()
        },
        psp_view: input.view_offsets.clone(),
        latency_us: StepLatency::default(),
    };
    Decided { decision, prediction }
}

fn ranked(router: &Router, input: &DecideInput<'_>, draft: &Draft) -> Vec<RankedPsp> {
    let drawn = draft.lottery.drawn();
    let at_rank = |(rank, psp): (usize, &PspId)| {
        let approval_probability = chance_at(draft, &drawn[..=rank], psp);
        let money = Money::of(router, &input.request.payment, psp);
        RankedPsp {
            psp_id: psp.clone(),
            approval_probability,
            expected_value_minor: money
                .zip(approval_probability)
                .map(|(money, chance)| money.expected_value(chance).round() as i64),
            propensity: draft.lottery.propensity(psp, rank),
            message: input.request.payment.message.clone(),
            reasons: draft.reasons.get(psp).cloned().unwrap_or_default(),
        }
    };
    drawn.iter().take(RANKED_MAX).enumerate().map(at_rank).collect()
}

/// The chance had all before it failed, where the model was asked for just that order; else the chance at once.
fn chance_at(draft: &Draft, order: &[PspId], psp: &PspId) -> Option<f64> {
    let is_cascade = order.len() <= draft.cascade.len() && order.iter().zip(&draft.cascade).all(|(psp, (asked, _))| psp == asked);
    let conditional = is_cascade.then(|| draft.cascade.get(order.len() - 1)).flatten().map(|(_, chance)| *chance);
    conditional.or_else(|| draft.estimates.get(psp).copied())
}

/// The request's own configuration: nothing is known yet of any other one.
fn message_options(input: &DecideInput<'_>, ranked: &[RankedPsp]) -> Vec<MessageOption> {
    let approval_probability = ranked.first().and_then(|first| first.approval_probability);
    let message = input.request.payment.message.clone();
    vec![MessageOption { message, approval_probability, reasons: vec!["as requested".into()] }]
}

fn prediction(input: &DecideInput<'_>, draft: &Draft, decision_id: &str) -> Prediction {
    let candidate = |psp: PspId| {
        let probability = draft.estimates.get(&psp).copied();
        let propensity = draft.lottery.propensity(&psp, 0);
        let (raw_probability, calibrated_probability) = (draft.raw.get(&psp).copied().or(probability), probability);
        CandidatePrediction { psp_id: psp, features: Vec::new(), raw_probability, calibrated_probability, propensity }
    };
    Prediction {
        decision_id: decision_id.to_owned(),
        request_id: input.request.request_id.clone(),
        payment_id: input.request.payment.payment_id.clone(),
        model: draft.model.clone(),
        feature_version: String::new(),
        request_features: Vec::new(),
        candidates: draft.lottery.everyone().into_iter().map(candidate).collect(),
        chosen: draft.lottery.drawn().first().cloned().unwrap_or_else(|| PspId::new("")),
        shadow: false,
        scored_at: input.decided_at,
        latency_us: 0,
    }
}
