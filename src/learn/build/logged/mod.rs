//! From the log of a router to the table that models learn from: each prediction with the feedback on it.
//!
//! Owns which attempts are rows: the first that followed a decision, when its result is due and its features were logged by the catalogue
//! at hand. Features are those that the decision saw, as they were logged, so that training cannot see anything else than serving did;
//! nothing is computed anew. Never reads a log: whoever does hands all feedback over first, then predictions, then attempts, each in
//! any order.
//!
//! Holds the feedback of the range, and the table: a prediction becomes its row as it comes, and is not kept. That is a small part of
//! what the table takes, so nothing is asked of how the topics are partitioned.

use super::{Alternative, Built, Row, Table, empty_table, fee};
use crate::domain::learning::{CandidatePrediction, Feedback, Prediction};
use crate::domain::payment::PaymentAttempt;
use crate::domain::{EpochMs, PspId};
use crate::engine::features::{Encoder, issuer_country};
use crate::engine::settings::{Psp, Settings};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What makes a row positive, in words.
pub const LOGGED_LABEL: &str = "1 when the attempt was approved, whenever its outcome came within engine.outcome_wait_ms; an attempt without \
                                outcome by then was not";
/// How propensities come about, in words.
pub const LOGGED_PROPENSITY: &str =
    "as logged with the decision, where the attempt went to the PSP that the decision ranked first; else absent";

/// Why records of the log are no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    NoDecision,
    LaterOfDecision,
    NoPrediction,
    NoFeatures,
    OtherCatalogue,
    OtherWidth,
    NoCandidate,
    Shadow,
}

impl LeftOut {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoDecision => "no_decision",
            Self::LaterOfDecision => "later_of_decision",
            Self::NoPrediction => "no_prediction",
            Self::NoFeatures => "no_features",
            Self::OtherCatalogue => "other_catalogue",
            Self::OtherWidth => "other_width",
            Self::NoCandidate => "no_candidate",
            Self::Shadow => "shadow",
        }
    }

    /// For people, behind a number.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoDecision => "attempts that followed no decision",
            Self::LaterOfDecision => {
                "attempts on a decision that an earlier attempt had followed: its features do not know what came of that one"
            }
            Self::NoPrediction => "attempts whose prediction is not in the log, or not any more",
            Self::NoFeatures => "attempts whose prediction has no features: no model scored",
            Self::OtherCatalogue => "attempts whose features are of another version of the catalogue",
            Self::OtherWidth => "attempts whose prediction has another number of features than the catalogue says",
            Self::NoCandidate => "attempts at a PSP that was no candidate of their decision",
            Self::Shadow => "predictions of models in shadow: they decided nothing",
        }
    }
}

/// A finished table, and what is worth knowing of it.
#[derive(Clone, Debug, Default)]
pub struct FromLog {
    /// Its attempts are those in the range that have feedback.
    pub built: Built,
    pub left_out: BTreeMap<LeftOut, u64>,
    /// Rows whose attempt is not in the log: without brand and issuer country, and numbered by the feedback on their payment.
    pub without_attempt: u64,
    /// Rows without propensity: the attempt went elsewhere than the decision ranked first.
    pub off_choice: u64,
}

/// Takes feedback, and keeps that on attempts in a range of time.
pub struct LoggedFeedback {
    range: [Option<EpochMs>; 2],
    /// The newest result of all.
    newest_at: EpochMs,
    /// By attempt, so that a repeat counts once.
    told: HashMap<String, Told>,
    /// Decisions that were followed before the range begins.
    followed: HashSet<String>,
}

/// What is kept of one feedback. Of two on one attempt the smaller one stays, in whatever order they come: that is the earlier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    outcome_at: EpochMs,
    attempted_at: EpochMs,
    payment_id: String,
    decision_id: Option<String>,
    psp_id: PspId,
    is_first_choice: bool,
    approved: bool,
    amount_minor: i64,
    currency: String,
}

/// Takes predictions on that feedback, and the attempts.
pub struct LoggedRows {
    encoder: Encoder,
    psps: BTreeMap<PspId, Psp>,
    table: Table,
    attempts: u64,
    immature: u64,
    left_out: BTreeMap<LeftOut, u64>,
    /// By decision: what waits for its prediction.
    waiting: HashMap<String, Waiting>,
    rows: Vec<LoggedRow>,
    /// By attempt: its place in `rows`.
    places: HashMap<String, usize>,
}

struct Waiting {
    attempt_id: String,
    /// Its place among the attempts of its payment that have feedback, from 1.
    number: i32,
    told: Told,
}

struct LoggedRow {
    row: Row,
    values: Vec<f32>,
    others: Vec<Alternative>,
    delay_ms: i64,
    has_attempt: bool,
}

impl LoggedFeedback {
    /// Rows are the attempts from `range[0]`, inclusive, to `range[1]`, exclusive.
    pub fn new(range: [Option<EpochMs>; 2]) -> Self {
        Self { range, newest_at: EpochMs::MIN, told: HashMap::new(), followed: HashSet::new() }
    }

    pub fn accept(&mut self, feedback: Feedback) {
        self.newest_at = self.newest_at.max(feedback.outcome_at);
        let attempted_at = feedback.outcome_at.saturating_sub(feedback.delay_ms);
        let [from, to] = self.range;
        if from.is_some_and(|from| attempted_at < from) {
            self.followed.extend(feedback.decision_id);
            return;
        }
        if to.is_some_and(|to| attempted_at >= to) {
            return;
        }
        let told = Told {
            outcome_at: feedback.outcome_at,
            attempted_at,
            payment_id: feedback.payment_id,
            decision_id: feedback.decision_id,
            psp_id: feedback.psp_id,
            is_first_choice: feedback.rank_taken == Some(1),
            approved: feedback.approved,
            // Absent only where the attempt never came, and with it no decision that it followed.
            amount_minor: feedback.amount_minor.unwrap_or_default(),
            currency: feedback.currency.unwrap_or_default(),
        };
        match self.told.entry(feedback.attempt_id) {
            Entry::Occupied(mut kept) if told < *kept.get() => {
                kept.insert(told);
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => {
                free.insert(told);
            }
        }
    }

    /// All feedback is there.
    ///
    /// An attempt younger than the wait for outcomes is immature: approvals are told at once and lost outcomes when the wait is over, so
    /// the newest attempts with feedback are approved more often than all newest attempts.
    pub fn into_rows(self, encoder: Encoder, settings: &Settings) -> LoggedRows {
        let due_by = self.newest_at.saturating_sub(settings.engine.outcome_wait_ms);
        let mut rows = LoggedRows {
            table: empty_table(&encoder),
            encoder,
            psps: settings.psps.iter().map(|psp| (psp.id.clone(), psp.clone())).collect(),
            attempts: self.told.len() as u64,
            immature: 0,
            left_out: BTreeMap::new(),
            waiting: HashMap::new(),
            rows: Vec::new(),
            places: HashMap::new(),
        };
        let mut told: Vec<(String, Told)> = self.told.into_iter().collect();
        told.sort_unstable_by(|(a, one), (b, other)| (one.attempted_at, a).cmp(&(other.attempted_at, b)));
        let (mut numbers, mut followed) = (HashMap::<String, i32>::new(), self.followed);
        for (attempt_id, told) in told {
            let number = numbers.entry(told.payment_id.clone()).or_default();
            *number += 1;
            if told.attempted_at > due_by {
                rows.immature += 1;
            } else if let Some(decision) = told.decision_id.clone() {
                if followed.insert(decision.clone()) {
                    rows.waiting.insert(decision, Waiting { attempt_id, number: *number, told });
                } else {
                    rows.leave_out(LeftOut::LaterOfDecision, 1);
                }
            } else {
                rows.leave_out(LeftOut::NoDecision, 1);
            }
        }
        rows
    }
}

impl LoggedRows {
    fn leave_out(&mut self, why: LeftOut, count: u64) {
        if count > 0 {
            *self.left_out.entry(why).or_default() += count;
        }
    }

    /// A repeat finds nobody waiting.
    pub fn prediction(&mut self, prediction: &Prediction) {
        if prediction.shadow {
            self.leave_out(LeftOut::Shadow, 1);
            return;
        }
        let Some(waiting) = self.waiting.remove(&prediction.decision_id) else { return };
        match self.row(waiting, prediction) {
            Ok(row) => {
                self.places.insert(row.row.attempt_id.clone(), self.rows.len());
                self.rows.push(row);
            }
            Err(why) => self.leave_out(why, 1),
        }
    }

    fn row(&self, waiting: Waiting, prediction: &Prediction) -> Result<LoggedRow, LeftOut> {
        let Waiting { attempt_id, number, told } = waiting;
        let request = &prediction.request_features;
        if prediction.feature_version.is_empty() || request.is_empty() {
            return Err(LeftOut::NoFeatures);
        }
        if prediction.feature_version != self.table.catalogue {
            return Err(LeftOut::OtherCatalogue);
        }
        let request_width = self.encoder.request_width();
        let fits = |it: &CandidatePrediction| it.features.len() == self.encoder.width() - request_width;
        if request.len() != request_width || !prediction.candidates.iter().all(fits) {
            return Err(LeftOut::OtherWidth);
        }
        let values = |it: &CandidatePrediction| [request.as_slice(), &it.features].concat();
        let propensity = |it: &CandidatePrediction| told.is_first_choice.then_some(it.propensity);
        let fee = |psp: &PspId| fee(self.psps.get(psp), &told.currency);
        let (taken, others): (Vec<_>, Vec<_>) = prediction.candidates.iter().partition(|it| it.psp_id == told.psp_id);
        let taken = taken.first().ok_or(LeftOut::NoCandidate)?;
        let others = others.into_iter().map(|it| Alternative {
            // Known when all rows are.
            row: 0,
            psp_id: it.psp_id.clone(),
            fee_minor: fee(&it.psp_id),
            propensity: propensity(it),
            values: values(it),
        });
        Ok(LoggedRow {
            others: others.collect(),
            values: values(taken),
            delay_ms: told.outcome_at.saturating_sub(told.attempted_at),
            has_attempt: false,
            row: Row {
                attempt_id,
                payment_id: told.payment_id,
                attempt_number: number,
                attempted_at: told.attempted_at,
                approved: told.approved,
                amount_minor: told.amount_minor,
                brand: String::new(),
                issuer_country: String::new(),
                propensity: propensity(taken),
                fee_minor: fee(&told.psp_id),
                psp_id: told.psp_id,
                currency: told.currency,
            },
        })
    }

    /// What feedback and prediction do not tell of an attempt.
    pub fn attempt(&mut self, attempt: &PaymentAttempt) {
        let Some(known) = self.places.get(&attempt.attempt_id).and_then(|place| self.rows.get_mut(*place)) else { return };
        known.has_attempt = true;
        known.row.attempt_number = attempt.attempt_number.max(1);
        known.row.brand.clone_from(&attempt.payment.card.brand);
        issuer_country(&attempt.payment).unwrap_or_default().clone_into(&mut known.row.issuer_country);
    }

    /// The log has ended.
    pub fn finish(mut self) -> FromLog {
        self.leave_out(LeftOut::NoPrediction, self.waiting.len() as u64);
        self.rows.sort_unstable_by(|a, b| (a.row.attempted_at, &a.row.attempt_id).cmp(&(b.row.attempted_at, &b.row.attempt_id)));
        let without_attempt = self.rows.iter().filter(|row| !row.has_attempt).count() as u64;
        let off_choice = self.rows.iter().filter(|row| row.row.propensity.is_none()).count() as u64;
        let mut delays_ms = Vec::with_capacity(self.rows.len());
        for (index, logged) in self.rows.into_iter().enumerate() {
            let numbered = logged.others.into_iter().map(|other| Alternative { row: index as u32, ..other });
            self.table.alternatives.extend(numbered);
            self.table.values.extend(logged.values);
            self.table.rows.push(logged.row);
            delays_ms.push(logged.delay_ms);
        }
        let built = Built {
            attempts: self.attempts,
            immature: self.immature,
            ..Built::of(self.table, delays_ms, &self.encoder, &self.psps)
        };
        FromLog { built, left_out: self.left_out, without_attempt, off_choice }
    }
}

#[cfg(test)]
mod tests;
