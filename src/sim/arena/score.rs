//! What one run of one policy comes to, beside the truth.
//!
//! # What is counted, and how
//! - **lost**: approvals that the oracle has and the policy has not, over all payments of the run.
//! - **to detect**: from the first payment that an outage spoilt to the first decision that avoids the PSP, as `sim::failover` has it: left
//!   out for its state, or a run of decisions without it that its usual share makes a matter of less than one in a million. Of
//!   several outages the slowest; infinite when one is never avoided while it lasts.
//! - **false alarms**: times a policy says that a PSP, or a part of its traffic, is not well (ejected, circuit open, DOWN, and DEGRADED
//!   too) while no outage of that PSP is on, nor was in the last minute. What is wrong at every PSP at once is no outage of any.
//!   Policies without states say nothing, and have none.
//! - **probes**: payments sent to a PSP that was left out, to see whether it is back.
//! - **down after recovery**: seconds from the end of an outage until the PSP has half of its usual share again, over twenty payments;
//!   until the end of the run when it never has. Only where the outage was noticed, and ended.
//! - **moved**: payments that went elsewhere than the merchant's first choice while no outage of that one was on, probes aside.

use super::policy::{Alarm, Pick};
use super::scenarios::MINUTE_MS;
use super::world::{PSP_NAMES, Round, START_AT, overlaps, psp_ids};
use crate::domain::PspId;
use crate::domain::psp::SegmentKind;
use crate::sim::failover::{Choice, FailoverWatch};
use crate::sim::reality::Answer;
use crate::sim::scenario::Outage;
use std::collections::VecDeque;

/// Points of the curve of losses over a run.
pub const CURVE_POINTS: usize = 60;
/// So long after an outage its last results may still raise an alarm.
const AFTERMATH_MS: i64 = MINUTE_MS;
/// Payments over which a share is taken.
const RETURN_PAYMENTS: usize = 20;

/// One run. None: not defined there.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub scenario: &'static str,
    pub policy: &'static str,
    pub seed: u64,
    pub payments: u64,
    pub lost: i64,
    pub payments_to_detect: Option<f64>,
    pub seconds_to_detect: Option<f64>,
    pub false_alarms: u64,
    pub probes: u64,
    pub seconds_down: Option<f64>,
    pub moved: u64,
    /// Losses so far, at equal steps of time.
    pub curve: Vec<i64>,
}

pub(super) struct Scorer<'a> {
    round: &'a Round,
    ids: [PspId; PSP_NAMES.len()],
    failover: FailoverWatch,
    returns: Vec<Return>,
    score: Score,
}

impl<'a> Scorer<'a> {
    pub(super) fn new(round: &'a Round) -> Self {
        let length_ms = round.script.length_ms();
        let last = |outage: &Outage| {
            outage.to_ms < length_ms && round.outages.iter().all(|it| it.psp != outage.psp || it.from_ms <= outage.from_ms)
        };
        Self {
            round,
            ids: psp_ids(),
            failover: FailoverWatch::new(&round.outages, START_AT),
            returns: round.outages.iter().enumerate().filter(|(_, it)| last(it)).map(|(at, _)| Return::of(at)).collect(),
            score: Score {
                scenario: round.script.name,
                policy: "",
                seed: round.seed,
                payments: 0,
                lost: 0,
                payments_to_detect: None,
                seconds_to_detect: None,
                false_alarms: 0,
                probes: 0,
                seconds_down: None,
                moved: 0,
                curve: vec![0; CURVE_POINTS],
            },
        }
    }

    pub(super) fn alarm(&mut self, alarm: &Alarm) {
        let at = alarm.at - START_AT;
        let about = (alarm.segment.kind, alarm.segment.value.as_str());
        let explains = |outage: &&Outage| {
            outage.psp.as_str() == PSP_NAMES[alarm.seat]
                && (outage.from_ms..outage.to_ms + AFTERMATH_MS).contains(&at)
                && (alarm.segment.kind == SegmentKind::All || overlaps(about, outage))
        };
        self.score.false_alarms += u64::from(!self.round.outages.iter().any(|outage| explains(&outage)));
    }

    pub(super) fn picked(&mut self, index: usize, pick: Pick) {
        let (round, offer) = (self.round, &self.round.offers[index]);
        let (payment, at) = (&offer.request.payment, offer.at);
        self.score.payments += 1;
        self.score.probes += u64::from(pick.probe);
        let home = offer.order[0];
        self.score.moved += u64::from(pick.seat != home && !pick.probe && !round.is_hit(index, home));
        let lost = i64::from(round.approved(index, round.best(index))) - i64::from(round.approved(index, pick.seat));
        self.score.lost += lost;
        let point = ((at - START_AT) as usize * CURVE_POINTS) / round.script.length_ms() as usize;
        if let Some(point) = self.score.curve.get_mut(point) {
            *point += lost;
        }
        if round.outages.is_empty() {
            return;
        }
        let avoided: Vec<PspId> =
            self.ids.iter().enumerate().filter(|(seat, _)| pick.avoided & (1 << seat) != 0).map(|(_, id)| id.clone()).collect();
        let chosen = &self.ids[pick.seat];
        self.failover.decided(payment, Choice { decided_at: at, chosen: Some(chosen), avoided: &avoided });
        let spoilt = round.fates[index][pick.seat].as_ref().is_some_and(|answer: &Answer| answer.by_outage);
        self.failover.attempted(payment, chosen, at, spoilt);
        for back in &mut self.returns {
            let outage = &round.outages[back.outage];
            if outage.concerns(payment) {
                back.decided(outage, at - START_AT, outage.psp == *chosen);
            }
        }
    }

    pub(super) fn finish(mut self, policy: &'static str) -> Score {
        let report = self.failover.report();
        let slowest = |values: &mut dyn Iterator<Item = f64>| {
            values.fold(None, |most: Option<f64>, it| Some(most.map_or(it, |most| most.max(it))))
        };
        let spoilt = || report.iter().filter(|failover| failover.first_bad_at.is_some());
        self.score.payments_to_detect =
            slowest(&mut spoilt().map(|it| it.payments_to_detect.map_or(f64::INFINITY, |payments| payments as f64)));
        self.score.seconds_to_detect =
            slowest(&mut spoilt().map(|it| it.ms_to_avoid.map_or(f64::INFINITY, |ms| ms as f64 / 1_000.0)));
        let noticed = self.returns.iter().filter(|back| report[back.outage].payments_to_detect.is_some());
        let length_ms = self.round.script.length_ms();
        self.score.seconds_down =
            slowest(&mut noticed.filter_map(|back| back.seconds(&self.round.outages[back.outage], length_ms)));
        let mut so_far = 0;
        for point in &mut self.score.curve {
            so_far += *point;
            *point = so_far;
        }
        Score { policy, ..self.score }
    }
}

/// The way back of one PSP after an outage.
struct Return {
    outage: usize,
    /// Decisions before the outage, and those for the PSP.
    decisions: u64,
    chosen: u64,
    /// The last decisions after it.
    recent: VecDeque<(i64, bool)>,
    back_ms: Option<i64>,
}

impl Return {
    fn of(outage: usize) -> Self {
        Self { outage, decisions: 0, chosen: 0, recent: VecDeque::new(), back_ms: None }
    }

    fn decided(&mut self, outage: &Outage, since_ms: i64, chosen: bool) {
        if since_ms < outage.from_ms {
            self.decisions += 1;
            self.chosen += u64::from(chosen);
        } else if since_ms >= outage.to_ms && self.back_ms.is_none() {
            self.recent.push_back((since_ms, chosen));
            if self.recent.len() < RETURN_PAYMENTS {
                return;
            }
            let recent = self.recent.iter().filter(|(_, chosen)| *chosen).count() as f64 / RETURN_PAYMENTS as f64;
            let began = self.recent.pop_front();
            if recent >= self.chosen as f64 / self.decisions.max(1) as f64 / 2.0 {
                self.back_ms = began.map(|(began_ms, _)| began_ms);
            }
        }
    }

    /// None when the PSP had no share to get back.
    fn seconds(&self, outage: &Outage, length_ms: i64) -> Option<f64> {
        (self.chosen > 0).then(|| (self.back_ms.unwrap_or(length_ms) - outage.to_ms) as f64 / 1_000.0)
    }
}
