//! Where a payment should go: the request, the PSPs' states and the rules become one decision.
//!
//! Order of authority: hard rules → eligibility (merchant, brand, currency, method, the request's own list) → state of the PSP in
//! every segment the payment belongs to → ranking (a model's chances, else windowed approval rates, else static rules, else the merchant's
//! order) → what a PSP may inherit, exploration, and recovery samples → message options → retry plan. Each step leaves its reason in the decision.
//! A request is taken as valid: `domain::Validate` has seen it on entry.
//!
//! Never empty-handed while any PSP could take the payment, never dependent on the order of the configuration file, and the same
//! for the same request, view and settings. Chance is a hash of the payment, and `Lottery` knows its exact odds.
//! Neighbours: `engine::psp` publishes the states that `PspView` shows; the payment task fills in latencies.

mod view;
mod rules;
mod eligibility;
mod ranking;
mod chances;
mod cascade;
mod lottery;
mod recovery;
mod retry;
mod assemble;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod properties;

pub use chances::{Chance, Chances};
pub use eligibility::can_take;
pub use view::{PspView, StaticView};

use crate::domain::decision::{DecidedBy, RoutingDecision};
use crate::domain::learning::Prediction;
use crate::domain::payment::{PreviousAttempt, RoutingRequest, Status};
use crate::domain::{EpochMs, PspId};
use crate::engine::codes::{CodeTable, Verdict};
use crate::engine::hashing::fingerprint;
use crate::engine::segments::{Cut, segments_of};
use crate::engine::settings::{ErrorCode, HardRule, Merchant, PolicySettings, Psp, RetrySettings, Settings};
use assemble::Draft;
use eligibility::Pool;
use lottery::Lottery;
use ranking::Ranked;
use rules::RuleBook;
use std::collections::{BTreeMap, HashMap};
use view::Standing;

/// Settings made ready for deciding. Immutable; one per set of settings, shared by all tasks.
#[derive(Clone, Debug)]
pub struct Router {
    policy: PolicySettings,
    retry: RetrySettings,
    sample_rate: f64,
    segments: Vec<Cut>,
    merchants: HashMap<String, Merchant>,
    psps: BTreeMap<PspId, Psp>,
    rules: RuleBook,
    codes: CodeTable,
    policy_version: String,
    rules_version: String,
}

impl Router {
    pub fn new(settings: &Settings) -> Self {
        let rules = RuleBook::new(&settings.hard_rules, &settings.rules);
        let sample_rate = settings.health.sample_rate;
        let segments = settings.engine.segments.clone();
        let merchants: BTreeMap<&str, &Merchant> = settings.merchants.iter().map(|m| (m.id.as_str(), m)).collect();
        let psps: BTreeMap<PspId, Psp> = settings.psps.iter().map(|psp| (psp.id.clone(), psp.clone())).collect();
        let mut codes: Vec<&ErrorCode> = settings.error_codes.iter().collect();
        codes.sort_by(|a, b| (&a.code, &a.psp).cmp(&(&b.code, &b.psp)));
        let policy_version = version(&(&settings.policy, &settings.retry, sample_rate, &segments));
        let rules_version = version(&(&merchants, psps.values().collect::<Vec<_>>(), rules.hard(), rules.all(), &codes));
        Self {
            policy: settings.policy.clone(),
            retry: settings.retry.clone(),
            sample_rate,
            segments,
            merchants: settings.merchants.iter().map(|merchant| (merchant.id.clone(), merchant.clone())).collect(),
            psps,
            rules,
            codes: CodeTable::new(&settings.error_codes),
            policy_version,
            rules_version,
        }
    }

    /// Fingerprint of what decides besides the rules: `versions.policy` of every decision.
    pub fn policy_version(&self) -> &str {
        &self.policy_version
    }

    /// Fingerprint of merchants, PSPs, rules and error codes: `versions.rules` of every decision.
    pub fn rules_version(&self) -> &str {
        &self.rules_version
    }

    /// The PSPs that a decision may look at.
    pub fn considered(&self, request: &RoutingRequest) -> Vec<PspId> {
        eligibility::considered(self, request)
    }

    /// Whether an earlier attempt on the payment failed at the PSP, and not at the issuer or the cardholder.
    fn failed_technically(&self, attempt: &PreviousAttempt) -> bool {
        matches!(self.judge(attempt), Some(Verdict::Timeout { .. } | Verdict::TechnicalError { .. }))
    }

    /// None: the attempt has no result yet.
    fn judge(&self, attempt: &PreviousAttempt) -> Option<Verdict> {
        let code = attempt.error_code.as_deref();
        (attempt.status != Status::Unknown).then(|| self.codes.judge(&attempt.psp_id, attempt.status, code, attempt.hard_soft))
    }
}

/// Serializing settings to text cannot fail; were it to, the error would stand in for them and differ as they differ.
fn version(settings: &impl serde::Serialize) -> String {
    fingerprint(&serde_json::to_string(settings).unwrap_or_else(|error| error.to_string()))
}

/// All that one decision reads besides the router.
#[derive(Clone, Copy)]
pub struct DecideInput<'a> {
    pub request: &'a RoutingRequest,
    /// Earlier attempts on the payment as the log has them; the request's own list wins when it has one.
    pub previous: &'a [PreviousAttempt],
    pub view: &'a dyn PspView,
    /// What the model in use says; None: there is none.
    pub chances: Option<&'a dyn Chances>,
    /// Offset of `psp.states` up to which `view` is applied, by partition.
    pub view_offsets: &'a BTreeMap<String, i64>,
    pub decided_at: EpochMs,
}

impl DecideInput<'_> {
    /// Earlier attempts on the payment.
    pub fn history(&self) -> &[PreviousAttempt] {
        self.request.previous_attempts.as_deref().unwrap_or(self.previous)
    }
}

/// A decision and the prediction behind it: published together or not at all. Latencies are zero: the task measures them.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    pub decision: RoutingDecision,
    pub prediction: Prediction,
}

impl Decided {
    /// The payment was drawn for this policy with the probability `share`, else `other` would have been decided: odds of who goes first become
    /// those of both together. Odds of later ranks stay those of this policy.
    pub fn mix(&mut self, other: &Self, share: f64) {
        for candidate in &mut self.prediction.candidates {
            let others = other.prediction.candidates.iter().find(|it| it.psp_id == candidate.psp_id);
            candidate.propensity = share * candidate.propensity + (1.0 - share) * others.map_or(0.0, |it| it.propensity);
        }
        let first = self.decision.ranked.first_mut();
        let chosen = self.prediction.candidates.iter().find(|it| it.psp_id == self.prediction.chosen);
        if let Some((first, chosen)) = first.zip(chosen) {
            first.propensity = chosen.propensity;
        }
    }
}

pub fn decide(router: &Router, input: &DecideInput<'_>) -> Decided {
    let draft = match router.rules.hard_rule(&input.request.payment) {
        Some(rule) => by_hard_rule(router, input, rule),
        None => by_ranking(router, input),
    };
    assemble::finish(router, input, draft)
}

/// A hard rule bypasses everything behind it, the state of its PSP included; the decision says what it bypassed.
fn by_hard_rule(router: &Router, input: &DecideInput<'_>, rule: &HardRule) -> Draft {
    let payment = &input.request.payment;
    let standing = Standing::read(input.view, &rule.psp, &segments_of(payment, &router.segments));
    let mut reasons = vec![format!("hard rule {}", rule.id)];
    reasons.extend(eligibility::ailment(&standing).map(|ailment| format!("{ailment}: the hard rule stands")));
    if input.request.allowed_psps.as_ref().is_some_and(|allowed| !allowed.contains(&rule.psp)) {
        reasons.push("not in the request's allowed_psps: the hard rule stands".into());
    }
    let estimates = ranking::estimates(router, [(&rule.psp, &standing)]);
    Draft {
        lottery: Lottery::certain(vec![rule.psp.clone()]),
        reasons: BTreeMap::from([(rule.psp.clone(), reasons)]),
        estimates,
        decided_by: DecidedBy::HardRule,
        raw: BTreeMap::new(),
        cascade: Vec::new(),
        model: "hard_rule".to_owned(),
        rule_id: Some(rule.id.clone()),
        fallback_reason: None,
        skipped: eligibility::skipped_by_hard_rule(router, payment, rule),
    }
}

fn by_ranking(router: &Router, input: &DecideInput<'_>) -> Draft {
    let segments = segments_of(&input.request.payment, &router.segments);
    let pool = eligibility::pool(router, input, &segments);
    if pool.is_empty() {
        return nobody(pool);
    }
    let last_resort = pool.usable.is_empty();
    let mut ranked = if last_resort { ranking::least_bad(router, input, &pool) } else { ranking::rank(router, input, &pool) };
    recovery::spare(router, input, &pool, &mut ranked);
    demote_failed(router, input, &mut ranked);
    let explored = if last_resort { None } else { recovery::explore(router, input, &pool, &mut ranked) };
    let sampled = if last_resort { None } else { recovery::sample(router, input, &pool, &mut ranked) };
    let first = ranked.lottery.drawn().first().cloned();
    if let Some(first) = &first {
        ranked.note(first, pool.merchant_note.clone());
        ranked.note(first, pool.common_note.clone());
        for choice in ranking::shadow_choices(router, input, &pool) {
            ranked.note(first, Some(choice));
        }
    }
    let used = ranked.lottery.drawn().to_vec();
    let mut skipped = pool.ineligible;
    skipped.extend(ranked.left_out);
    let unused = pool.recovering.iter().chain(&pool.down).filter(|candidate| !used.contains(&candidate.psp));
    skipped.extend(unused.filter_map(eligibility::skipped_by_state));
    skipped.sort_by(|a, b| a.psp_id.cmp(&b.psp_id));
    Draft {
        lottery: ranked.lottery,
        reasons: ranked.reasons,
        estimates: ranked.estimates,
        decided_by: match (sampled, explored) {
            (Some(_), _) => DecidedBy::RecoverySample,
            (None, Some(_)) => DecidedBy::Exploration,
            (None, None) => ranked.decided_by,
        },
        raw: ranked.raw,
        cascade: ranked.cascade,
        model: ranked.model.unwrap_or_else(|| {
            if ranked.decided_by == DecidedBy::WindowedRate { "windowed_rate" } else { "static_rule" }.to_owned()
        }),
        rule_id: ranked.rule_id,
        fallback_reason: ranked.fallback_reason,
        skipped,
    }
}

/// No PSP can take the payment at all: the only decision without a ranking.
fn nobody(pool: Pool) -> Draft {
    let mut why = if pool.ineligible.is_empty() {
        "no PSP is configured for this payment".to_owned()
    } else {
        let each: Vec<String> =
            pool.ineligible.iter().map(|skip| format!("{}: {}", skip.psp_id, skip.detail.as_deref().unwrap_or(""))).collect();
        format!("no PSP can take the payment ({})", each.join(", "))
    };
    if let Some(note) = pool.merchant_note {
        why = format!("{why}; {note}");
    }
    Draft {
        lottery: Lottery::certain(Vec::new()),
        reasons: BTreeMap::new(),
        estimates: BTreeMap::new(),
        decided_by: DecidedBy::Unknown,
        raw: BTreeMap::new(),
        cascade: Vec::new(),
        model: "none".to_owned(),
        rule_id: None,
        fallback_reason: Some(why),
        skipped: pool.ineligible,
    }
}

/// A PSP that just failed on this payment comes after those that did not.
fn demote_failed(router: &Router, input: &DecideInput<'_>, ranked: &mut Ranked) {
    let failed: Vec<&PspId> =
        input.history().iter().filter(|attempt| router.failed_technically(attempt)).map(|attempt| &attempt.psp_id).collect();
    if failed.is_empty() {
        return;
    }
    ranked.lottery.reorder(|order| order.sort_by_key(|psp| failed.contains(&psp)));
    for psp in ranked.lottery.drawn().to_vec() {
        if failed.contains(&&psp) {
            ranked.note(&psp, Some("failed technically on this payment: after the others".into()));
        }
    }
}
