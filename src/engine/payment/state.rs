//! What is remembered of one payment, and when it has to be looked at again.

use crate::domain::payment::{HardSoft, PaymentOutcome, PreviousAttempt, Status};
use crate::domain::psp::Segment;
use crate::domain::{EpochMs, PspId};
use crate::engine::features::{Belongs, Traits};
use crate::engine::segments::SegmentSet;
use crate::engine::settings::EngineSettings;
use serde::{Deserialize, Serialize};

/// The chain of one payment: its attempts with their results, the outcomes that wait for their attempt, and what was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PaymentState {
    /// In order of arrival, at most `payment_entries_max`.
    pub attempts: Vec<AttemptState>,
    /// Outcomes that came before their attempt.
    pub waiting: Vec<PaymentOutcome>,
    /// Requests that were decided, oldest first: a repeated request is recognised by its id.
    pub decided: Vec<DecidedRequest>,
    pub approved: bool,
    /// Highest event time seen for this payment: when it is forgotten counts from here.
    pub last_event_at: EpochMs,
    /// Of decisions that no attempt has followed yet.
    pub kept_from: Vec<KeptFrom>,
    /// Of attempts that are not counted yet.
    pub untold: Vec<Untold>,
}

/// What features count an attempt by, until its result is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Untold {
    pub attempt_id: String,
    pub customer_id: Option<String>,
    pub belongs: Belongs,
    pub traits: Traits,
    /// ln(1 + amount in major units).
    pub amount_log: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptState {
    pub attempt_id: String,
    pub attempt_number: i32,
    pub psp_id: PspId,
    pub attempted_at: EpochMs,
    /// When silence counts as a time-out.
    pub deadline_at: EpochMs,
    pub decision_id: Option<String>,
    pub rank_taken: Option<i32>,
    pub amount_minor: i64,
    pub currency: String,
    pub counted: Counted,
    /// Emptied when the attempt is counted: nothing needs them after that.
    pub segments: SegmentSet,
    pub result: Option<AttemptResult>,
}

/// How the windows have counted an attempt so far. Stored by its place in this list: the first two were once false and true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counted {
    #[default]
    No,
    /// Its result, or its time-out.
    Yes,
    /// That it is overdue; its result comes on top.
    Overdue,
}

/// A PSP that a decision kept a payment from, because a segment of it was out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptFrom {
    pub decision_id: String,
    pub psp_id: PspId,
    pub segment: Segment,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptResult {
    pub status: Status,
    pub error_code: Option<String>,
    pub hard_soft: Option<HardSoft>,
    pub occurred_at: EpochMs,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecidedRequest {
    pub request_id: String,
    pub decision_id: String,
    pub requested_at: EpochMs,
    pub ranked: Vec<PspId>,
    /// A dry run is answered, but no attempt follows it.
    pub dry_run: bool,
}

impl PaymentState {
    /// When the next time-out or give-up of this payment is due, if any.
    pub fn timer_at(&self, settings: &EngineSettings) -> Option<EpochMs> {
        let attempts = self.attempts.iter().filter_map(|attempt| match (&attempt.result, attempt.counted) {
            (Some(_), _) => None,
            (None, Counted::No) => Some(attempt.overdue_at(settings).unwrap_or(attempt.deadline_at)),
            (None, Counted::Overdue) => Some(attempt.deadline_at),
            (None, Counted::Yes) => Some(attempt.gives_up_at(settings)),
        });
        let waiting = self.waiting.iter().map(|outcome| outcome.occurred_at + settings.orphan_wait_ms);
        attempts.chain(waiting).min()
    }

    /// The chain as a decision sees it.
    pub fn previous_attempts(&self) -> Vec<PreviousAttempt> {
        let known = |attempt: &AttemptState| PreviousAttempt {
            attempt_id: attempt.attempt_id.clone(),
            psp_id: attempt.psp_id.clone(),
            attempted_at: attempt.attempted_at,
            status: match &attempt.result {
                Some(result) => result.status,
                None if attempt.counted == Counted::Yes => Status::Timeout,
                None => Status::Unknown,
            },
            error_code: attempt.result.as_ref().and_then(|r| r.error_code.clone()),
            hard_soft: attempt.result.as_ref().and_then(|r| r.hard_soft),
        };
        self.attempts.iter().map(known).collect()
    }

    /// The PSP of the last attempt.
    pub fn last_psp(&self) -> Option<&PspId> {
        self.attempts.last().map(|attempt| &attempt.psp_id)
    }

    pub fn was_decided(&self, request_id: &str) -> bool {
        self.decided.iter().any(|request| request.request_id == request_id)
    }

    /// The decision that an attempt followed, and the rank it took: the one that it names, else the last one for this payment
    /// that was asked for at or before the attempt.
    pub(super) fn followed(&self, named: Option<&str>, psp: &PspId, attempted_at: EpochMs) -> (Option<String>, Option<i32>) {
        let found = match named {
            Some(id) => self.decided.iter().find(|request| request.decision_id == id),
            None => self.decided.iter().rev().find(|request| !request.dry_run && request.requested_at <= attempted_at),
        };
        let rank = found.and_then(|request| request.ranked.iter().position(|ranked| ranked == psp)).map(|index| index as i32 + 1);
        (named.map(str::to_owned).or_else(|| found.map(|request| request.decision_id.clone())), rank)
    }
}

impl AttemptState {
    pub(super) fn gives_up_at(&self, settings: &EngineSettings) -> EpochMs {
        self.deadline_at.max(self.attempted_at + settings.outcome_wait_ms)
    }

    /// When it is overdue; never, where that would be no sooner than its deadline.
    pub(super) fn overdue_at(&self, settings: &EngineSettings) -> Option<EpochMs> {
        let overdue_at = self.attempted_at + settings.attempt_overdue_ms;
        (settings.attempt_overdue_ms > 0 && overdue_at < self.deadline_at).then_some(overdue_at)
    }
}
