//! The state machine of a segment: which transitions exist, and when one is due.

use super::detector::{Level, Reading};
use crate::domain::EpochMs;
use crate::domain::psp::{HealthState, OutageCause};
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
    /// It has been down for `hold_ms`, and without failures for as long.
    HoldOver,
    /// `wins_to_restore` results in a row were no technical failure.
    Won,
    /// A result on probation was a technical failure.
    Failed,
}

/// All legal transitions. A state changes only by a `Step`, and steps are only taken from here: what is not in the table cannot happen.
pub(super) const TRANSITIONS: [(HealthState, Trigger, HealthState); 7] = [
    (Up, Trigger::FailuresRose, Degraded),
    (Up, Trigger::FailuresSoared, Down),
    (Degraded, Trigger::FailuresSoared, Down),
    (Degraded, Trigger::FailuresFell, Up),
    (Down, Trigger::HoldOver, Recovering),
    (Recovering, Trigger::Failed, Down),
    (Recovering, Trigger::Won, Up),
];

/// What is stored of a segment besides its tiles: a change of these fields needs a new `entry::VERSION`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    state: HealthState,
    since: EpochMs,
    version: i64,
    /// Results without technical failure in a row while RECOVERING.
    wins: i64,
    /// The last technical failure while DOWN: somebody else still sends payments there, and they fail.
    failed_at: EpochMs,
    /// Results in tiles that start earlier are no evidence: they belong to an outage that is over.
    evidence_from: EpochMs,
    /// From the first transition away from UP to the return.
    outage: Option<Outage>,
}

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
    to: HealthState,
}

impl Step {
    pub(super) fn from(self) -> HealthState {
        self.from
    }

    pub(super) fn to(self) -> HealthState {
        self.to
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
        Self { state: Up, since, version: 0, wins: 0, failed_at: since, evidence_from: 0, outage: None }
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

    /// Forgets the evidence before this moment.
    pub(super) fn start_evidence(&mut self, from: EpochMs) {
        self.evidence_from = from;
    }

    /// Takes note of results that came while RECOVERING or DOWN. Their order is unknown, so one failure spoils them all: it sends the
    /// segment back (`due`), and a new state begins without wins.
    /// Returns whether it changed anything.
    pub(super) fn count(&mut self, results: Probation, now: EpochMs) -> bool {
        match self.state {
            Recovering if results.wins > 0 => self.wins += results.wins,
            Down if results.failures > 0 => self.failed_at = now,
            HealthState::Unknown | Up | Degraded | Down | Recovering => return false,
        }
        true
    }

    /// The transition that is due at `now`, if any.
    pub(super) fn due(&self, reading: &Reading, results: Probation, now: EpochMs, health: &HealthSettings) -> Option<Step> {
        let waited = |wait_ms: i64| now - self.since >= wait_ms;
        let trigger = match self.state {
            HealthState::Unknown | Up | Degraded => match reading.level {
                Level::Down => Trigger::FailuresSoared,
                Level::Degraded => Trigger::FailuresRose,
                Level::Calm if waited(health.dwell_ms) => Trigger::FailuresFell,
                Level::Calm | Level::Uneasy => return None,
            },
            Down if waited(health.hold_ms) && now - self.failed_at >= health.hold_ms => Trigger::HoldOver,
            Recovering if results.failures > 0 => Trigger::Failed,
            Recovering if self.wins >= health.wins_to_restore.max(1) => Trigger::Won,
            Down | Recovering => return None,
        };
        let row = TRANSITIONS.iter().find(|(from, when, _)| *from == self.state && *when == trigger);
        row.map(|&(from, _, to)| Step { from, to })
    }

    /// Makes a transition at `at` and returns the outage that it belongs to. `seen` is what the evidence of this moment says: it opens the
    /// outage, or names the cause anew when things get worse; a recovery keeps the cause of its outage.
    pub(super) fn enter(&mut self, step: Step, seen: Outage, at: EpochMs) -> Outage {
        let mut outage = self.outage.unwrap_or(seen);
        if matches!(step.to, Degraded | Down) && seen.cause != OutageCause::Unknown {
            outage.cause = seen.cause;
        }
        self.outage = (step.to != Up).then_some(outage);
        self.state = step.to;
        self.since = at;
        self.version += 1;
        self.wins = 0;
        outage
    }
}
