//! Payments for PSPs that come back or are seldom asked, and the limits of what a PSP inherits meanwhile.
//!
//! Owns who is a sample or an exploration, how often, and how much more than its usual share a PSP may be put first. Chance is a hash of the payment;
//! the lottery keeps the odds exact. Never changes a state: results do that, in `engine::psp`.

use super::eligibility::{Candidate, Pool};
use super::ranking::Ranked;
use super::{DecideInput, Router};
use crate::domain::PspId;
use crate::domain::decision::DecidedBy;
use crate::domain::psp::{HealthState, PspState};
use crate::engine::codes::Verdict;

const MINUTES: f64 = 15.0;

/// With some probability (`rate`) the payment tries a RECOVERING PSP first. Not a PSP it has been to, nor one that the deciding rule
/// leaves out; and not as a sample where the payment is not fit to be one.
pub(super) fn sample(router: &Router, input: &DecideInput<'_>, pool: &Pool, ranked: &mut Ranked) -> Option<PspId> {
    let been = |psp: &PspId| input.history().iter().any(|attempt| attempt.psp_id == *psp);
    let open = pool.recovering.iter().filter(|candidate| !been(&candidate.psp) && ranked.may_sample(&candidate.psp));
    let recovering: Vec<(PspId, f64)> =
        open.filter_map(|candidate| Some((candidate.psp.clone(), rate(router, input, pool, candidate)?))).collect();
    let salt = format!("{}/recovery", router.policy.salt);
    let chosen = ranked.lottery.sample(&recovering, (&salt, &input.request.payment.payment_id))?;
    let rate = recovering.iter().find(|(psp, _)| *psp == chosen).map_or(router.sample_rate, |(_, rate)| *rate);
    ranked.note(&chosen, Some(format!("{}: sample at rate {rate}", HealthState::Recovering)));
    Some(chosen)
}

/// With the probability `policy.explore_share`, shared out evenly, a PSP that is UP goes first though it is not the best, so that what
/// is learned of the others stays true. Only first attempts: after a failure each further one has its price. Not where a rule decides.
pub(super) fn explore(router: &Router, input: &DecideInput<'_>, pool: &Pool, ranked: &mut Ranked) -> Option<PspId> {
    let share = router.policy.explore_share;
    if share <= 0.0 || ranked.decided_by == DecidedBy::StaticRule || !input.history().is_empty() {
        return None;
    }
    let is_up = |candidate: &&Candidate| matches!(candidate.standing.health(), HealthState::Up | HealthState::Unknown);
    let open: Vec<&Candidate> = pool.usable.iter().filter(is_up).collect();
    let each = share / open.len().max(1) as f64;
    // Each is asked in turn: of what those before have left, so much that it has as much in the end.
    let asked = |(turn, candidate): (usize, &Candidate)| (candidate.psp.clone(), each / (1.0 - each * turn as f64));
    let rates: Vec<(PspId, f64)> = open.into_iter().enumerate().map(asked).collect();
    let best = ranked.lottery.drawn().first().cloned();
    let salt = format!("{}/exploration", router.policy.salt);
    let chosen =
        ranked.lottery.sample(&rates, (&salt, &input.request.payment.payment_id)).filter(|it| Some(it) != best.as_ref())?;
    ranked.note(&chosen, Some(format!("exploration: each PSP that is UP goes first for {:.2} % of the payments", each * 100.0)));
    Some(chosen)
}

/// On the ramp a PSP gets its share of the day's traffic, among those that could take the payment, times the share of it that it has
/// won back; before, `health.sample_rate` of the payments that are fit to be samples.
fn rate(router: &Router, input: &DecideInput<'_>, pool: &Pool, candidate: &Candidate) -> Option<f64> {
    let worst = candidate.standing.worst();
    let ramp = worst.and_then(|worst| worst.recovery.as_ref()).filter(|recovery| recovery.ramp_share > recovery.sample_rate);
    match (ramp, worst) {
        (Some(ramp), _) => Some((ramp.ramp_share.clamp(0.0, 1.0) * day_share(pool, candidate)).max(router.sample_rate)),
        (None, Some(worst)) if !is_fit(router, input, worst) => None,
        (None, worst) => Some(router.sample_rate.min(budget(router, pool, worst))),
    }
}

/// Whether a payment may be risked on a PSP of which nothing is certain yet.
fn is_fit(router: &Router, input: &DecideInput<'_>, worst: &PspState) -> bool {
    let (samples, payment) = (&router.policy.samples, &input.request.payment);
    let declined = |verdict: Verdict| matches!(verdict, Verdict::SoftDecline | Verdict::HardDecline);
    let was_declined = input.history().iter().any(|attempt| router.judge(attempt).is_some_and(declined));
    let is_early = input.decided_at.saturating_sub(worst.since) < samples.low_value_ms;
    let limit = samples.amounts_max.iter().find(|limit| limit.currency == payment.currency);
    let is_low = limit.is_none_or(|limit| payment.amount_minor <= limit.amount_minor);
    (samples.declined_before || !was_declined) && (is_low || !is_early)
}

/// The rate at which a PSP gets `per_minute_max` samples a minute: payments of the segment in trouble come as they did in the last
/// quarter of an hour, at all PSPs that could take this one.
fn budget(router: &Router, pool: &Pool, worst: Option<&PspState>) -> f64 {
    let Some(worst) = worst else { return 1.0 };
    let results = |candidate: &Candidate| {
        let state = candidate.standing.known.iter().find(|state| state.segment == worst.segment);
        state.map_or(0, |state| state.windows.last_15m.attempts).max(0) as f64
    };
    let per_minute = everyone(pool).map(results).sum::<f64>() / MINUTES;
    if per_minute > 0.0 { router.policy.samples.per_minute_max / per_minute } else { 1.0 }
}

/// A PSP that inherits the traffic of one that is out is put first for no more than its share: the rest goes to the next best.
pub(super) fn spare(router: &Router, input: &DecideInput<'_>, pool: &Pool, ranked: &mut Ranked) {
    let nobody_is_out = pool.down.is_empty() && pool.recovering.is_empty();
    if nobody_is_out || router.policy.inherited_share_max >= 1.0 || pool.usable.len() < 2 {
        return;
    }
    let limit = |psp: &PspId| {
        let candidate = pool.usable.iter().find(|candidate| candidate.psp == *psp);
        candidate.map_or(1.0, |candidate| day_share(pool, candidate).max(router.policy.inherited_share_max))
    };
    let salt = format!("{}/inherited", router.policy.salt);
    if let Some(spared) = ranked.lottery.spare(limit, (&salt, &input.request.payment.payment_id)) {
        let share = limit(&spared);
        ranked.note(&spared, Some(format!("spared: first for {:.0} % of the payments while another PSP is out", share * 100.0)));
    }
}

/// A PSP's share of the day's results, among those that could take the payment.
fn day_share(pool: &Pool, candidate: &Candidate) -> f64 {
    let attempts = |it: &Candidate| it.standing.all().map_or(0, |all| all.windows.last_24h.attempts).max(0) as f64;
    let day: f64 = everyone(pool).map(attempts).sum();
    if day > 0.0 { attempts(candidate) / day } else { 0.0 }
}

fn everyone(pool: &Pool) -> impl Iterator<Item = &Candidate> {
    pool.usable.iter().chain(&pool.recovering).chain(&pool.down)
}
