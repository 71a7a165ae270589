//! One payment: attempts and outcomes become results, each counted once; silence becomes a time-out.
//!
//! `observe` is one of the two doors of the engine. It owns the join of an attempt with its outcome, whichever comes first, the
//! recognition of repeats, and the deadlines. It never looks anything up: the payment's state comes in, effects come out.
//! The results go on to `window` by way of `stats.deltas`; the state's keeper is `runtime::payment_task`.

mod state;

pub use state::{AttemptResult, AttemptState, Counted, DecidedRequest, KeptFrom, PaymentState, Untold};

use super::codes::{CodeTable, NO_OUTCOME, Verdict};
use super::features::{Belongs, Told, Traits, amount_log, hash_of};
use super::segments::SegmentSet;
use super::settings::EngineSettings;
use crate::domain::decision::{RoutingDecision, SkipReason, SkippedPsp};
use crate::domain::learning::{DivertedFrom, Feedback, Tally};
use crate::domain::payment::{PaymentAttempt, PaymentOutcome, RoutingRequest, Status};
use crate::domain::{EpochMs, PspId};

/// Something that happened to a payment.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Attempt(&'a PaymentAttempt),
    Outcome(&'a PaymentOutcome),
    Decided {
        request: &'a RoutingRequest,
        decision: &'a RoutingDecision,
    },
    /// The watermark has reached `at`: whatever is due until then is due now.
    Tick {
        payment_id: &'a str,
        at: EpochMs,
    },
}

/// One attempt's result, to be counted in the windows of its PSP.
#[derive(Clone, Debug, PartialEq)]
pub struct CountedResult {
    pub psp_id: PspId,
    /// The outcome's own time, or the deadline of a time-out.
    pub at: EpochMs,
    pub segments: SegmentSet,
    pub tally: Tally,
}

/// The same result for what features count: of its customer, and over many payments.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultForFeatures {
    pub psp_id: PspId,
    pub customer_id: Option<String>,
    pub belongs: Belongs,
    pub told: Told,
}

/// What an event asks of the world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    pub results: Vec<CountedResult>,
    pub for_features: Vec<ResultForFeatures>,
    /// PSPs that the attempt was kept from, and what went elsewhere.
    pub diverted: Vec<(PspId, DivertedFrom)>,
    pub feedback: Vec<Feedback>,
    /// The event repeated one that is already known; nothing changed.
    pub duplicate: bool,
}

/// What `observe` reads besides the state.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub settings: &'a EngineSettings,
    pub codes: &'a CodeTable,
    /// The merchant's usual amount in major units, as of an attempt; absent while there is none. See `features::usual_amount`.
    pub usual_amount: Option<f64>,
}

pub fn observe(rules: Rules<'_>, state: &mut PaymentState, event: Event<'_>) -> Effects {
    let mut effects = Effects::default();
    let is_silence = matches!(event, Event::Tick { .. });
    match event {
        Event::Attempt(attempt) => on_attempt(rules, state, attempt, &mut effects),
        Event::Outcome(outcome) => on_outcome(rules, state, outcome, &mut effects),
        Event::Decided { request, decision } => on_decided(rules, state, request, decision, &mut effects),
        Event::Tick { payment_id, at } => on_tick(rules, state, payment_id, at, &mut effects),
    }
    if !effects.results.is_empty() {
        tell(state, is_silence, &mut effects);
    }
    effects
}

/// Says of attempts that are counted now what features count. `is_silence`: they have no outcome.
fn tell(state: &mut PaymentState, is_silence: bool, effects: &mut Effects) {
    let attempts = &state.attempts;
    let counted = |untold: &Untold| attempts.iter().find(|a| a.attempt_id == untold.attempt_id && a.counted == Counted::Yes);
    let is_told = |untold: &mut Untold| counted(untold).is_some();
    for untold in state.untold.extract_if(.., is_told) {
        let Some(attempt) = counted(&untold) else { continue };
        let silent = (attempt.deadline_at, false);
        let result = attempt.result.as_ref().filter(|_| !is_silence);
        let (at, approved) = result.map_or(silent, |result| (result.occurred_at, result.status == Status::Approved));
        let Untold { customer_id, belongs, traits, amount_log, .. } = untold;
        let psp = hash_of(attempt.psp_id.as_str());
        let told = Told { at, psp, traits, approved, amount_log };
        effects.for_features.push(ResultForFeatures { psp_id: attempt.psp_id.clone(), customer_id, belongs, told });
    }
}

fn on_attempt(rules: Rules<'_>, state: &mut PaymentState, attempt: &PaymentAttempt, effects: &mut Effects) {
    if state.attempts.iter().any(|known| known.attempt_id == attempt.attempt_id) {
        effects.duplicate = true;
        return;
    }
    let (decision_id, rank_taken) = state.followed(attempt.decision_id.as_deref(), &attempt.psp_id, attempt.attempted_at);
    let mut known = AttemptState {
        attempt_id: attempt.attempt_id.clone(),
        attempt_number: attempt.attempt_number,
        psp_id: attempt.psp_id.clone(),
        attempted_at: attempt.attempted_at,
        deadline_at: attempt.attempted_at + attempt.deadline_ms.unwrap_or(rules.settings.attempt_deadline_ms),
        decision_id,
        rank_taken,
        amount_minor: attempt.payment.amount_minor,
        currency: attempt.payment.currency.clone(),
        counted: Counted::No,
        segments: SegmentSet::of(&attempt.payment, &rules.settings.segments),
        result: None,
    };
    state.last_event_at = state.last_event_at.max(attempt.attempted_at);
    let payment = &attempt.payment;
    let previous = state.last_psp().map_or(0, |psp| hash_of(psp.as_str()));
    state.untold.push(Untold {
        attempt_id: attempt.attempt_id.clone(),
        customer_id: payment.customer_id.clone(),
        belongs: Belongs::of(payment),
        traits: Traits::of(payment, attempt.attempted_at, attempt.attempt_number, previous, rules.usual_amount),
        amount_log: amount_log(payment),
    });
    if let Some(decision_id) = &known.decision_id {
        divert(&mut state.kept_from, decision_id, &known, effects);
    }
    if let Some(index) = state.waiting.iter().position(|outcome| outcome.attempt_id == attempt.attempt_id) {
        let outcome = state.waiting.remove(index);
        state.approved |= outcome.status == Status::Approved;
        settle(rules, &mut known, &outcome, state.approved, effects);
    }
    state.attempts.push(known);
    bound(&mut state.attempts, rules.settings.payment_entries_max, |attempt| attempt.result.is_some());
}

/// The first attempt that follows a decision says where its payment went, instead of to a PSP that was out.
fn divert(kept_from: &mut Vec<KeptFrom>, decision_id: &str, attempt: &AttemptState, effects: &mut Effects) {
    let follows = |kept: &mut KeptFrom| kept.decision_id == decision_id;
    for kept in kept_from.extract_if(.., follows).filter(|kept| kept.psp_id != attempt.psp_id) {
        let (to, amount_minor) = (attempt.psp_id.clone(), attempt.amount_minor);
        effects.diverted.push((kept.psp_id, DivertedFrom { segment: kept.segment, to, payments: 1, amount_minor }));
    }
}

fn on_outcome(rules: Rules<'_>, state: &mut PaymentState, outcome: &PaymentOutcome, effects: &mut Effects) {
    let known = state.attempts.iter().position(|attempt| attempt.attempt_id == outcome.attempt_id);
    let repeated = match known {
        Some(index) => state.attempts[index].result.is_some(),
        None => state.waiting.iter().any(|waiting| waiting.attempt_id == outcome.attempt_id),
    };
    if repeated {
        effects.duplicate = true;
        return;
    }
    state.last_event_at = state.last_event_at.max(outcome.occurred_at);
    let Some(index) = known else {
        state.waiting.push(outcome.clone());
        return;
    };
    state.approved |= outcome.status == Status::Approved;
    let attempt = &state.attempts[index];
    if attempt.decision_id.is_none() {
        // The request may have been read after the attempt: they come by different topics.
        let followed = state.followed(None, &attempt.psp_id, attempt.attempted_at);
        (state.attempts[index].decision_id, state.attempts[index].rank_taken) = followed;
    }
    settle(rules, &mut state.attempts[index], outcome, state.approved, effects);
}

fn on_decided(
    rules: Rules<'_>,
    state: &mut PaymentState,
    request: &RoutingRequest,
    decision: &RoutingDecision,
    effects: &mut Effects,
) {
    state.last_event_at = state.last_event_at.max(request.requested_at);
    state.decided.push(DecidedRequest {
        request_id: request.request_id.clone(),
        decision_id: decision.decision_id.clone(),
        requested_at: request.requested_at,
        ranked: decision.ranked.iter().map(|ranked| ranked.psp_id.clone()).collect(),
        dry_run: request.dry_run,
    });
    let is_out = |skipped: &&SkippedPsp| matches!(skipped.reason, SkipReason::Down | SkipReason::Recovering) && !request.dry_run;
    state.kept_from.extend(decision.skipped.iter().filter(is_out).filter_map(|skipped| {
        let segment = skipped.segment.clone()?;
        Some(KeptFrom { decision_id: decision.decision_id.clone(), psp_id: skipped.psp_id.clone(), segment })
    }));
    // The attempt may have been read before its request: they come by different topics.
    let follows = |attempt: &&AttemptState| {
        let (followed, _) = state.followed(attempt.decision_id.as_deref(), &attempt.psp_id, attempt.attempted_at);
        followed.as_deref() == Some(decision.decision_id.as_str())
    };
    if let Some(attempt) = state.attempts.iter().find(follows) {
        divert(&mut state.kept_from, &decision.decision_id, attempt, effects);
    }
    bound(&mut state.kept_from, rules.settings.payment_entries_max, |_| true);
    bound(&mut state.decided, rules.settings.payment_entries_max, |_| true);
}

/// Counts what is silent past its deadline, and gives up waiting for what never came.
fn on_tick(rules: Rules<'_>, state: &mut PaymentState, payment_id: &str, at: EpochMs, effects: &mut Effects) {
    for attempt in state.attempts.iter_mut().filter(|attempt| attempt.result.is_none()) {
        if let (Counted::No, Some(overdue_at)) = (attempt.counted, attempt.overdue_at(rules.settings))
            && overdue_at <= at
        {
            attempt.counted = Counted::Overdue;
            effects.results.push(CountedResult {
                psp_id: attempt.psp_id.clone(),
                at: overdue_at,
                segments: attempt.segments.clone(),
                tally: Tally { overdue: 1, ..Tally::default() },
            });
        }
        if attempt.counted != Counted::Yes && attempt.deadline_at <= at {
            let (at, tally) = (attempt.deadline_at, silence_tally(attempt));
            effects.results.push(count(attempt, at, tally));
        }
        if attempt.counted == Counted::Yes && attempt.gives_up_at(rules.settings) <= at {
            let occurred_at = attempt.gives_up_at(rules.settings);
            attempt.result = Some(AttemptResult { status: Status::Timeout, error_code: None, hard_soft: None, occurred_at });
            effects.feedback.push(silence_feedback(attempt, payment_id, state.approved, occurred_at));
        }
    }
    let mut index = 0;
    while index < state.waiting.len() {
        if state.waiting[index].occurred_at + rules.settings.orphan_wait_ms > at {
            index += 1;
            continue;
        }
        let outcome = state.waiting.remove(index);
        state.approved |= outcome.status == Status::Approved;
        count_orphan(rules, state, &outcome, effects);
    }
}

/// An outcome whose attempt never came counts in its PSP's total: its segments are unknown.
fn count_orphan(rules: Rules<'_>, state: &mut PaymentState, outcome: &PaymentOutcome, effects: &mut Effects) {
    let mut attempt = AttemptState {
        attempt_id: outcome.attempt_id.clone(),
        attempt_number: 0,
        psp_id: outcome.psp_id.clone(),
        attempted_at: outcome.occurred_at,
        deadline_at: outcome.occurred_at,
        decision_id: None,
        rank_taken: None,
        amount_minor: 0,
        currency: String::new(),
        counted: Counted::No,
        segments: SegmentSet::all(),
        result: None,
    };
    settle(rules, &mut attempt, outcome, state.approved, effects);
    if let Some(feedback) = effects.feedback.last_mut() {
        feedback.amount_minor = None;
        feedback.currency = None;
    }
    state.attempts.push(attempt);
    bound(&mut state.attempts, rules.settings.payment_entries_max, |attempt| attempt.result.is_some());
}

/// Attempt and outcome have met: count the result unless its time-out was counted before, and say what happened.
fn settle(rules: Rules<'_>, attempt: &mut AttemptState, outcome: &PaymentOutcome, approved: bool, effects: &mut Effects) {
    let timed_out = attempt.counted == Counted::Yes;
    if !timed_out {
        let tally = outcome_tally(rules.codes.verdict(outcome), attempt.amount_minor, outcome);
        effects.results.push(count(attempt, outcome.occurred_at, tally));
    }
    attempt.result = Some(AttemptResult {
        status: outcome.status,
        error_code: outcome.error_code.clone(),
        hard_soft: outcome.hard_soft,
        occurred_at: outcome.occurred_at,
    });
    effects.feedback.push(Feedback {
        decision_id: attempt.decision_id.clone(),
        payment_id: outcome.payment_id.clone(),
        attempt_id: attempt.attempt_id.clone(),
        psp_id: attempt.psp_id.clone(),
        rank_taken: attempt.rank_taken,
        approved: outcome.status == Status::Approved,
        final_approved: approved,
        status: outcome.status,
        error_code: outcome.error_code.clone(),
        error_category: outcome.error_category.clone(),
        hard_soft: outcome.hard_soft,
        latency_ms: outcome.latency_ms,
        amount_minor: Some(attempt.amount_minor),
        currency: Some(attempt.currency.clone()),
        fee_minor: outcome.fee_minor,
        reward: f64::from(u8::from(outcome.status == Status::Approved)),
        timed_out,
        outcome_at: outcome.occurred_at,
        delay_ms: outcome.occurred_at - attempt.attempted_at,
    });
}

fn silence_feedback(attempt: &AttemptState, payment_id: &str, approved: bool, at: EpochMs) -> Feedback {
    Feedback {
        decision_id: attempt.decision_id.clone(),
        payment_id: payment_id.to_owned(),
        attempt_id: attempt.attempt_id.clone(),
        psp_id: attempt.psp_id.clone(),
        rank_taken: attempt.rank_taken,
        approved: false,
        final_approved: approved,
        status: Status::Timeout,
        error_code: None,
        error_category: None,
        hard_soft: None,
        latency_ms: attempt.deadline_at - attempt.attempted_at,
        amount_minor: Some(attempt.amount_minor),
        currency: Some(attempt.currency.clone()),
        fee_minor: None,
        reward: 0.0,
        timed_out: true,
        outcome_at: at,
        delay_ms: at - attempt.attempted_at,
    }
}

fn outcome_tally(verdict: Verdict, amount_minor: i64, outcome: &PaymentOutcome) -> Tally {
    let mut tally = Tally::default();
    tally.count(verdict, Some(outcome.latency_ms), amount_minor, outcome.error_code.as_deref());
    tally
}

/// Counts an attempt's result; it tells whether the attempt was overdue before.
fn count(attempt: &mut AttemptState, at: EpochMs, tally: Tally) -> CountedResult {
    let was = std::mem::replace(&mut attempt.counted, Counted::Yes);
    CountedResult {
        psp_id: attempt.psp_id.clone(),
        at,
        segments: std::mem::take(&mut attempt.segments),
        tally: Tally { late: i64::from(was == Counted::Overdue), ..tally },
    }
}

/// Silence has no latency of its own: it would only say what the deadline is.
fn silence_tally(attempt: &AttemptState) -> Tally {
    let mut tally = Tally::default();
    tally.count(Verdict::Timeout { persistent: true }, None, attempt.amount_minor, Some(NO_OUTCOME));
    tally
}

/// Drops the oldest entries that are done with, until at most `max` are left. What is still open is never dropped.
fn bound<T>(entries: &mut Vec<T>, max: usize, is_done: impl Fn(&T) -> bool) {
    while entries.len() > max {
        let Some(index) = entries.iter().position(&is_done) else { return };
        entries.remove(index);
    }
}

#[cfg(test)]
mod tests;
