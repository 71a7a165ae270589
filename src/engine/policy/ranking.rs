//! The order of the usable PSPs: by a model (`cascade`), by windowed approval rate, else by static rule, else as the merchant prefers.
//!
//! A PSP's chance is that it answers at all, times that the issuer then approves: `p = (1 - share) × rate`.
//! `rate` is a chain of shrunken rates over what was answered (time-outs and technical errors aside), each starting from the one
//! before: `rate = (approvals + prior_weight × rate_before) / (answered + prior_weight)`. It starts at `prior_rate` and goes through the
//! segments of the payment from the one with most results in 24 h (`ALL`) to the one with fewest, in each through the last 24
//! hours, then the last hour: a narrow or fresh window speaks up only as far as it has seen something.
//! `share` is that of technical failures in the last 15 minutes, the highest over the segments: failing shows at once, and an
//! outage that is over does not drag the PSP down for the rest of the hour.

use super::cascade::by_model;
use super::eligibility::{Candidate, Pool, ailment, skipped_by_rule};
use super::lottery::Lottery;
use super::rules::{draw, lottery_of, plain_order};
use super::view::Standing;
use super::{DecideInput, Router};
use crate::domain::PspId;
use crate::domain::decision::{DecidedBy, SkippedPsp};
use crate::domain::psp::{HealthState, PspState, Segment, WindowStats};
use crate::engine::settings::{Ranking, StaticRule};
use std::cmp::Reverse;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Ranked {
    pub(super) lottery: Lottery,
    pub(super) reasons: BTreeMap<PspId, Vec<String>>,
    /// Chance of approval; empty when there is too little to go by.
    pub(super) estimates: BTreeMap<PspId, f64>,
    /// What a model said before its calibration.
    pub(super) raw: BTreeMap<PspId, f64>,
    /// The order that a model gave, each with its chance had all before it failed.
    pub(super) cascade: Vec<(PspId, f64)>,
    /// The model that ranked.
    pub(super) model: Option<String>,
    pub(super) decided_by: DecidedBy,
    pub(super) rule_id: Option<String>,
    pub(super) fallback_reason: Option<String>,
    /// Usable PSPs that the deciding rule leaves out.
    pub(super) left_out: Vec<SkippedPsp>,
    /// The only PSPs that may be sampled, when a static rule decides.
    samples_only: Option<Vec<PspId>>,
}

impl Ranked {
    pub(super) fn note(&mut self, psp: &PspId, reason: Option<String>) {
        if let Some(reason) = reason {
            self.reasons.entry(psp.clone()).or_default().push(reason);
        }
    }

    pub(super) fn may_sample(&self, psp: &PspId) -> bool {
        self.samples_only.as_ref().is_none_or(|only| only.contains(psp))
    }

    pub(super) fn new(lottery: Lottery, decided_by: DecidedBy) -> Self {
        Self {
            lottery,
            reasons: BTreeMap::new(),
            estimates: BTreeMap::new(),
            raw: BTreeMap::new(),
            cascade: Vec::new(),
            model: None,
            decided_by,
            rule_id: None,
            fallback_reason: None,
            left_out: Vec::new(),
            samples_only: None,
        }
    }
}

pub(super) fn rank(router: &Router, input: &DecideInput<'_>, pool: &Pool) -> Ranked {
    let by_model = (router.policy.ranking == Ranking::Model).then(|| by_model(router, input, pool));
    let mut ranked = match by_model {
        Some(Ok(ranked)) => ranked,
        Some(Err(why)) => {
            let mut ranked = without_model(router, input, pool);
            let reasons: Vec<String> = [Some(why), ranked.fallback_reason.take()].into_iter().flatten().collect();
            ranked.fallback_reason = joined(&reasons);
            ranked
        }
        None => without_model(router, input, pool),
    };
    for candidate in &pool.usable {
        ranked.note(&candidate.psp, ailment(&candidate.standing));
    }
    ranked
}

fn without_model(router: &Router, input: &DecideInput<'_>, pool: &Pool) -> Ranked {
    let results = results_24h(pool.usable.iter().map(|candidate| &candidate.standing));
    let enough = results >= router.policy.results_min;
    let judged = pool.usable.iter().chain(&pool.recovering);
    let estimates: BTreeMap<PspId, f64> = if enough {
        judged.map(|candidate| (candidate.psp.clone(), estimate(router, &candidate.standing))).collect()
    } else {
        BTreeMap::new()
    };
    let mut ranked = match router.policy.ranking {
        Ranking::Model | Ranking::WindowedRate if enough => by_rate(router, input, pool, &estimates),
        Ranking::Model | Ranking::WindowedRate => {
            let few = format!("{results} results in 24 h are fewer than policy.results_min = {}", router.policy.results_min);
            by_rule(router, input, pool, Some(few))
        }
        Ranking::StaticRule => by_rule(router, input, pool, None),
    };
    ranked.estimates = estimates;
    ranked
}

/// For when every eligible PSP is DOWN or RECOVERING: RECOVERING ones first, then by technical failures, then by the static order.
pub(super) fn least_bad(router: &Router, input: &DecideInput<'_>, pool: &Pool) -> Ranked {
    let position = static_positions(router, input, pool);
    let mut candidates: Vec<&Candidate> = pool.recovering.iter().chain(&pool.down).collect();
    candidates.sort_by(|a, b| {
        let is_down = |candidate: &Candidate| candidate.standing.health() == HealthState::Down;
        let by_state = is_down(a).cmp(&is_down(b));
        let share = |candidate: &Candidate| candidate.standing.technical_share(router.policy.prior_weight);
        let by_failures = || share(a).total_cmp(&share(b));
        let by_position = || position(&a.psp).cmp(&position(&b.psp));
        by_state.then_with(by_failures).then_with(by_position).then_with(|| a.psp.cmp(&b.psp))
    });
    let order: Vec<PspId> = candidates.iter().map(|candidate| candidate.psp.clone()).collect();
    let mut ranked = Ranked::new(Lottery::certain(order), DecidedBy::WindowedRate);
    ranked.fallback_reason = Some("no eligible PSP is UP or DEGRADED: the least bad first".into());
    ranked.estimates = estimates(router, candidates.iter().map(|candidate| (&candidate.psp, &candidate.standing)));
    for candidate in candidates {
        ranked.note(&candidate.psp, ailment(&candidate.standing));
    }
    ranked
}

fn by_rate(router: &Router, input: &DecideInput<'_>, pool: &Pool, estimates: &BTreeMap<PspId, f64>) -> Ranked {
    let position = static_positions(router, input, pool);
    let rate = |candidate: &Candidate| estimates.get(&candidate.psp).copied().unwrap_or(0.0);
    let mut candidates: Vec<&Candidate> = pool.usable.iter().collect();
    candidates.sort_by(|a, b| {
        let by_position = || position(&a.psp).cmp(&position(&b.psp));
        rate(b).total_cmp(&rate(a)).then_with(by_position).then_with(|| a.psp.cmp(&b.psp))
    });
    let mut stays = None;
    if let Some(home) = candidates.iter().copied().min_by_key(|candidate| position(&candidate.psp)) {
        let better = candidates.iter().copied().find(|it| is_better(router, (it, rate(it)), (home, rate(home))));
        let first = better.unwrap_or(home);
        stays = (better.is_none() && candidates.iter().any(|it| rate(it) > rate(home))).then_some(&home.psp);
        candidates.sort_by_key(|it| it.psp != first.psp);
    }
    let order: Vec<PspId> = candidates.iter().map(|candidate| candidate.psp.clone()).collect();
    let mut ranked = Ranked::new(Lottery::certain(order), DecidedBy::WindowedRate);
    for candidate in &candidates {
        ranked.note(&candidate.psp, Some(evidence(rate(candidate), candidate.standing.all())));
    }
    if let Some(home) = stays {
        let errors = router.policy.better_by_errors;
        ranked.note(home, Some(format!("first of the static order: no other's rate is higher by {errors} standard errors")));
    }
    ranked
}

/// Whether a rate is higher than that of the static order's first PSP beyond what chance does: most differences between PSPs that are well
/// are chance, and following them moves traffic for nothing. One that is DEGRADED has no such advantage over one that is not.
fn is_better(router: &Router, (candidate, rate): (&Candidate, f64), (home, home_rate): (&Candidate, f64)) -> bool {
    let is_degraded = |it: &Candidate| it.standing.health() == HealthState::Degraded;
    let errors = if is_degraded(home) && !is_degraded(candidate) { 0.0 } else { router.policy.better_by_errors };
    let error = |candidate: &Candidate, rate: f64| {
        let narrowest = narrowing(&candidate.standing).last().map_or(0, |state| state.windows.last_1h.attempts);
        let results = narrowest.max(0) as f64 + router.policy.prior_weight;
        let rate = rate.clamp(RATE_BOUNDS.0, RATE_BOUNDS.1);
        (rate * (1.0 - rate) / results.max(1.0)).sqrt()
    };
    // Most are not even higher: what chance does is not worked out for these.
    rate > home_rate && rate - errors * error(candidate, rate).hypot(error(home, home_rate)) > home_rate
}

/// Few results all alike tell less than their spread says.
const RATE_BOUNDS: (f64, f64) = (0.02, 0.98);

fn evidence(rate: f64, all: Option<&PspState>) -> String {
    let Some(windows) = all.map(|state| &state.windows) else {
        return format!("windowed rate {rate:.4} (no results yet)");
    };
    let (day, hour) = (&windows.last_24h, &windows.last_1h);
    format!("windowed rate {rate:.4} (24 h {}/{}, 1 h {}/{})", day.approvals, day.attempts, hour.approvals, hour.attempts)
}

/// The first matching rule with a usable PSP decides; without one, the merchant's order. `why` a lower authority has to decide.
fn by_rule(router: &Router, input: &DecideInput<'_>, pool: &Pool, why: Option<String>) -> Ranked {
    let payment = &input.request.payment;
    let mut fallbacks: Vec<String> = why.into_iter().collect();
    let mut samples_only = None;
    for rule in router.rules.live(payment) {
        samples_only = samples_only.or_else(|| Some(named_by(rule)));
        let outcomes = lottery_of(rule, |psp| pool.is_usable(psp));
        if outcomes.is_empty() {
            fallbacks.push(format!("rule {}: none of its PSPs is usable", rule.id));
            continue;
        }
        let drawn = draw(&outcomes, rule, &router.policy.salt, &payment.payment_id);
        let share = outcomes.get(drawn).map_or(1.0, |(share, _)| *share);
        let mut ranked = Ranked::new(Lottery::new(outcomes, drawn), DecidedBy::StaticRule);
        for (rank, psp) in ranked.lottery.drawn().to_vec().iter().enumerate() {
            let drawn_first = !rule.split.is_empty() && rank == 0;
            let how = if drawn_first { format!(": drawn with share {share:.3}") } else { format!(", place {}", rank + 1) };
            ranked.note(psp, Some(format!("rule {}{how}", rule.id)));
        }
        let outside = pool.usable.iter().filter(|candidate| !ranked.lottery.drawn().contains(&candidate.psp));
        ranked.left_out =
            outside.map(|candidate| skipped_by_rule(candidate.psp.clone(), &format!("not in rule {}", rule.id))).collect();
        ranked.rule_id = Some(rule.id.clone());
        ranked.fallback_reason = joined(&fallbacks);
        ranked.samples_only = samples_only;
        return ranked;
    }
    let mut order: Vec<PspId> = Vec::new();
    for psp in pool.preference.iter().filter(|psp| pool.is_usable(psp)) {
        if !order.contains(psp) {
            order.push(psp.clone());
        }
    }
    fallbacks.push(
        if samples_only.is_some() {
            "no other rule matches: the merchant's order"
        } else {
            "no rule matches: the merchant's order"
        }
        .into(),
    );
    let mut ranked = Ranked::new(Lottery::certain(order.clone()), DecidedBy::StaticRule);
    order.iter().enumerate().for_each(|(rank, psp)| ranked.note(psp, Some(format!("merchant's order, place {}", rank + 1))));
    ranked.fallback_reason = joined(&fallbacks);
    ranked.samples_only = samples_only;
    ranked
}

fn named_by(rule: &StaticRule) -> Vec<PspId> {
    rule.psps.iter().chain(rule.split.iter().map(|part| &part.psp)).cloned().collect()
}

fn joined(reasons: &[String]) -> Option<String> {
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// What the rules in shadow would have put first, one reason each.
pub(super) fn shadow_choices(router: &Router, input: &DecideInput<'_>, pool: &Pool) -> Vec<String> {
    let payment = &input.request.payment;
    let choice = |rule: &StaticRule| {
        let outcomes = lottery_of(rule, |psp| pool.is_usable(psp));
        let drawn = draw(&outcomes, rule, &router.policy.salt, &payment.payment_id);
        let first = outcomes.get(drawn).and_then(|(_, order)| order.first());
        match first {
            Some(psp) => format!("shadow rule {} would have chosen {psp}", rule.id),
            None => format!("shadow rule {} would have found none of its PSPs usable", rule.id),
        }
    };
    router.rules.shadow(payment).map(choice).collect()
}

/// For ties: place in the first matching rule, then in the merchant's order.
pub(super) fn static_positions(router: &Router, input: &DecideInput<'_>, pool: &Pool) -> impl Fn(&PspId) -> usize {
    let mut order = router.rules.live(&input.request.payment).next().map(plain_order).unwrap_or_default();
    order.extend(pool.preference.iter().cloned());
    move |psp| order.iter().position(|other| other == psp).unwrap_or(usize::MAX)
}

/// The chances of these PSPs; none when they have fewer than `results_min` results between them.
pub(super) fn estimates<'a>(
    router: &Router,
    candidates: impl IntoIterator<Item = (&'a PspId, &'a Standing)> + Clone,
) -> BTreeMap<PspId, f64> {
    if results_24h(candidates.clone().into_iter().map(|(_, standing)| standing)) < router.policy.results_min {
        return BTreeMap::new();
    }
    candidates.into_iter().map(|(psp, standing)| (psp.clone(), estimate(router, standing))).collect()
}

fn results_24h<'a>(standings: impl Iterator<Item = &'a Standing>) -> i64 {
    standings.filter_map(Standing::all).map(|state| state.windows.last_24h.attempts).fold(0, i64::saturating_add)
}

fn estimate(router: &Router, standing: &Standing) -> f64 {
    let weight = router.policy.prior_weight;
    let shrink = |before: f64, window: &WindowStats| {
        let results = window.attempts.saturating_sub(window.timeouts).saturating_sub(window.errors).max(0) as f64;
        if results + weight <= 0.0 { before } else { (window.approvals as f64 + weight * before) / (results + weight) }
    };
    let rate = narrowing(standing)
        .iter()
        .fold(router.policy.prior_rate, |before, state| shrink(shrink(before, &state.windows.last_24h), &state.windows.last_1h));
    (rate * (1.0 - standing.technical_share(weight))).clamp(0.0, 1.0)
}

/// What is known of a PSP for a payment: all traffic first, then segment by segment, the one with the fewest results last.
fn narrowing(standing: &Standing) -> Vec<&PspState> {
    let mut states: Vec<&PspState> = standing.known.iter().map(AsRef::as_ref).collect();
    states
        .sort_by_key(|state| (state.segment != Segment::all(), Reverse(state.windows.last_24h.attempts), state.segment.clone()));
    states
}
