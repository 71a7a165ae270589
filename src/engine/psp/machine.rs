//! The state machine of a segment: which transitions exist, and when one is due.

use super::detector::Level;
use crate::domain::EpochMs;
use crate::domain::PspId;
use crate::domain::psp::{Diverted, HealthState, Manual, OutageCause, Override, OverrideTo};
use crate::engine::settings::HealthSettings;
use HealthState::{Degraded, Down, Recovering, Up};
use serde::{Deserialize, Serialize};

/// Why a segment changes its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// The detector finds it degraded.
    FailuresRose,
    /// The detector finds it down.
    FailuresSoared,
    /// The detector is calm, and the segment has been in its state for `dwell_ms`.
    FailuresFell,
    /// It has been down for its hold, and without failures for as long.
    HoldOver,
    /// It has won on every step of its way back.
    Won,
    /// It has failed on its way back.
    Failed,
    /// An operator wants it out.
    OrderedDown,
    /// An operator wants it back.
    OrderedUp,
}

/// All legal transitions. A state changes only by a `Step`, and steps are only taken from here: what is not in the table cannot happen.
pub(super) const TRANSITIONS: [(HealthState, Trigger, HealthState); 13] = [
    (Up, Trigger::FailuresRose, Degraded),
    (Up, Trigger::FailuresSoared, Down),
    (Degraded, Trigger::FailuresSoared, Down),
    (Degraded, Trigger::FailuresFell, Up),
    (Down, Trigger::HoldOver, Recovering),
    (Recovering, Trigger::Failed, Down),
    (Recovering, Trigger::Won, Up),
    (Up, Trigger::OrderedDown, Down),
    (Degraded, Trigger::OrderedDown, Down),
    (Recovering, Trigger::OrderedDown, Down),
    (Degraded, Trigger::OrderedUp, Up),
    (Down, Trigger::OrderedUp, Up),
    (Recovering, Trigger::OrderedUp, Up),
];

/// What is stored of a segment besides its tiles: a change of these fields needs a new `entry::VERSION`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    state: HealthState,
    since: EpochMs,
    version: i64,
    /// While RECOVERING: results without technical failure in a row; on the ramp less `FAILURE_COST` for each failure.
    wins: i64,
    /// The last technical failure while DOWN: somebody else still sends payments there, and they fail.
    failed_at: EpochMs,
    /// Results in tiles that start earlier are no evidence: they belong to an outage that is over.
    evidence_from: EpochMs,
    /// From the first transition away from UP to the return.
    outage: Option<Outage>,
    /// While RECOVERING: 0 is sampling, then the steps of the ramp.
    step: u32,
    /// Times it went back to DOWN, or out again soon after it had come back: each doubles the hold.
    relapses: u32,
    /// While it holds, the detectors are not heeded.
    manual: Option<Manual>,
    /// Payments that went elsewhere since the outage began, by PSP; at most `DIVERTED_MAX` entries.
    diverted: Vec<Diverted>,
}

/// PSPs that payments went to which are told apart; the rest is one entry without name.
const DIVERTED_MAX: usize = 8;

/// Wins that a failure on the ramp takes away. A win speaks for a PSP that fails as it should (2 %) against one that fails half the
/// time with ln(0.98/0.5), a failure against it with ln(0.5/0.02): as much as five wins.
const FAILURE_COST: i64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outage {
    /// Its first transition.
    pub(super) started_at: EpochMs,
    /// Start of the first tile with failures that led to it.
    pub(super) first_evidence_at: EpochMs,
    pub(super) cause: OutageCause,
}

/// A transition that is due: a row of the table, made by `Machine::due` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    from: HealthState,
    trigger: Trigger,
    to: HealthState,
}

impl Step {
    pub(super) fn from(self) -> HealthState {
        self.from
    }

    pub(super) fn to(self) -> HealthState {
        self.to
    }

    /// Whether an operator wants it, whatever the detectors see.
    pub(super) fn is_ordered(self) -> bool {
        matches!(self.trigger, Trigger::OrderedDown | Trigger::OrderedUp)
    }
}

/// New results of a segment that came after it was put on probation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Probation {
    /// Results without any technical failure. One whose code is not persistent counts neither way.
    pub(super) wins: i64,
    /// Persistent technical failures.
    pub(super) failures: i64,
}

impl Machine {
    pub(super) fn new(since: EpochMs) -> Self {
        Self {
            state: Up,
            since,
            version: 0,
            wins: 0,
            failed_at: since,
            evidence_from: 0,
            outage: None,
            step: 0,
            relapses: 0,
            manual: None,
            diverted: Vec::new(),
        }
    }

    pub(super) fn state(&self) -> HealthState {
        self.state
    }

    pub(super) fn since(&self) -> EpochMs {
        self.since
    }

    pub(super) fn version(&self) -> i64 {
        self.version
    }

    pub(super) fn wins(&self) -> i64 {
        self.wins
    }

    pub(super) fn evidence_from(&self) -> EpochMs {
        self.evidence_from
    }

    pub(super) fn manual(&self) -> Option<&Manual> {
        self.manual.as_ref()
    }

    pub(super) fn diverted(&self) -> &[Diverted] {
        &self.diverted
    }

    /// Takes an operator's order; one that says nothing known is none.
    pub(super) fn order(&mut self, order: &Override, now: EpochMs) {
        let to = match order.to {
            OverrideTo::Unknown => return,
            OverrideTo::Auto => {
                self.manual = None;
                return;
            }
            OverrideTo::Up => Up,
            OverrideTo::Down => Down,
        };
        let lapses_at = order.for_ms.map(|for_ms| now.saturating_add(for_ms));
        self.manual = Some(Manual { to, reason: order.reason.clone(), by: order.by.clone(), lapses_at });
    }

    /// Ends an order whose time is over; true when there was one.
    pub(super) fn lapse(&mut self, now: EpochMs) -> bool {
        self.manual.take_if(|manual| manual.lapses_at.is_some_and(|until| until <= now)).is_some()
    }

    /// Takes note of payments that went elsewhere; true when there is an outage that they belong to.
    pub(super) fn divert(&mut self, to: &PspId, payments: i64, amount_minor: i64) -> bool {
        if self.outage.is_none() {
            return false;
        }
        let full = self.diverted.len() >= DIVERTED_MAX && self.diverted.iter().all(|entry| entry.psp_id != *to);
        let psp_id = if full { PspId::new("") } else { to.clone() };
        match self.diverted.iter_mut().find(|entry| entry.psp_id == psp_id) {
            Some(entry) => {
                entry.payments = entry.payments.saturating_add(payments);
                entry.amount_minor = entry.amount_minor.saturating_add(amount_minor);
            }
            None => self.diverted.push(Diverted { psp_id, payments, amount_minor }),
        }
        true
    }

    /// How far on its way back: 0 is sampling, then the steps of the ramp.
    pub(super) fn ramp_step(&self) -> usize {
        self.step as usize
    }

    /// How long it stays DOWN before it is tried again.
    fn hold_ms(&self, health: &HealthSettings) -> i64 {
        let doubled = health.hold_ms.saturating_mul(1_i64 << self.relapses.min(32));
        doubled.min(health.hold_ms_max).max(health.hold_ms)
    }

    /// Wins that the present step needs, and those that it began with.
    fn stake(&self, health: &HealthSettings) -> (i64, i64) {
        let each = health.wins_to_restore.max(1);
        let before = each.saturating_mul(i64::from(self.step));
        (before.saturating_add(each), before)
    }

    /// Forgets the evidence before this moment.
    pub(super) fn start_evidence(&mut self, from: EpochMs) {
        self.evidence_from = from;
    }

    /// Takes note of results that came while RECOVERING or DOWN, and goes up the ramp, one step at most. The order of the results is
    /// unknown: while sampling, one failure spoils them all (`due`); on the ramp they are taken together.
    /// Returns whether it changed anything.
    pub(super) fn count(&mut self, results: Probation, now: EpochMs, health: &HealthSettings) -> bool {
        match self.state {
            Recovering if results.wins > 0 || results.failures > 0 => {
                let cost = if self.step == 0 { 0 } else { results.failures.saturating_mul(FAILURE_COST) };
                self.wins = self.wins.saturating_add(results.wins).saturating_sub(cost);
                let (needed, _) = self.stake(health);
                let clean = self.step > 0 || results.failures == 0;
                if clean && self.wins >= needed && self.ramp_step() < health.ramp.len() {
                    // What was won beyond the need is not carried up: the next step is another load.
                    (self.wins, self.step) = (needed, self.step + 1);
                }
            }
            Down if results.failures > 0 => self.failed_at = now,
            HealthState::Unknown | Up | Degraded | Down | Recovering => return false,
        }
        true
    }

    /// Whether the way back has failed: by any failure while sampling, on the ramp when a whole step's wins are lost.
    fn failed(&self, results: Probation, health: &HealthSettings) -> bool {
        let (needed, before) = self.stake(health);
        if self.step == 0 { results.failures > 0 } else { self.wins <= before - (needed - before) }
    }

    /// The transition that is due at `now`, if any.
    pub(super) fn due(&self, level: Level, results: Probation, now: EpochMs, health: &HealthSettings) -> Option<Step> {
        let waited = |wait_ms: i64| now - self.since >= wait_ms;
        let trigger = match self.state {
            _ if self.manual.as_ref().is_some_and(|manual| manual.to == Up) => Trigger::OrderedUp,
            _ if self.manual.is_some() => Trigger::OrderedDown,
            HealthState::Unknown | Up | Degraded => match level {
                Level::Down => Trigger::FailuresSoared,
                Level::Degraded => Trigger::FailuresRose,
                Level::Calm if waited(health.dwell_ms) => Trigger::FailuresFell,
                Level::Calm | Level::Uneasy => return None,
            },
            Down if waited(self.hold_ms(health)) && now - self.failed_at >= self.hold_ms(health) => Trigger::HoldOver,
            Recovering if self.failed(results, health) => Trigger::Failed,
            Recovering if self.wins >= self.stake(health).0 => Trigger::Won,
            Down | Recovering => return None,
        };
        let row = TRANSITIONS.iter().find(|(from, when, _)| *from == self.state && *when == trigger);
        row.map(|&(from, trigger, to)| Step { from, trigger, to })
    }

    /// Makes a transition at `at` and returns the outage that it belongs to. `seen` is what the evidence of this moment says: it opens the
    /// outage, or names the cause anew when things get worse; a recovery keeps the cause of its outage.
    pub(super) fn enter(&mut self, step: Step, seen: Outage, at: EpochMs, health: &HealthSettings) -> Outage {
        let mut outage = self.outage.unwrap_or(seen);
        if matches!(step.to, Degraded | Down) && seen.cause != OutageCause::Unknown {
            outage.cause = seen.cause;
        }
        self.outage = (step.to != Up).then_some(outage);
        if step.to == Up {
            self.diverted.clear();
        }
        match (step.from, step.to) {
            // What somebody ordered says nothing about the PSP.
            _ if step.is_ordered() => {}
            (Recovering, Down) => self.relapses = self.relapses.saturating_add(1),
            // Before its first transition there is nothing to relapse into.
            (Up, _) if self.version > 0 && at - self.since < health.relapse_ms => self.relapses = self.relapses.saturating_add(1),
            (Up, _) => self.relapses = 0,
            _ => {}
        }
        self.state = step.to;
        self.since = at;
        self.version += 1;
        (self.wins, self.step) = (0, 0);
        outage
    }
}
