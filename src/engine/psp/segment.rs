//! One segment of a PSP: its windows and its state machine, and what of both is published.

use super::detector::{Detector, FailureRate, Reading};
use super::machine::{Machine, Outage, Probation, Step};
use crate::domain::learning::{SegmentTally, Tally};
use crate::domain::psp::{self, Evidence, HealthState, OutageCause, PspOutage, PspState, Recovery, Segment, Severity};
use crate::domain::{EpochMs, PspId};
use crate::engine::hashing;
use crate::engine::settings::HealthSettings;
use crate::engine::window::tally::OTHER_CODE;
use crate::engine::window::{Added, SegmentWindows, TILE_MS};

const DETECTOR: FailureRate = FailureRate;
const TOP_CODES_MAX: usize = 5;

#[derive(Clone, Debug)]
pub(super) struct SegmentBook {
    pub(super) windows: SegmentWindows,
    pub(super) machine: Machine,
    /// Whether the machine differs from what was drained last.
    pub(super) machine_dirty: bool,
    /// Whether the published state differs from what was published last.
    pub(super) changed: bool,
    /// What the delta that is being merged said of this segment, if anything.
    merging: Option<Probation>,
}

impl SegmentBook {
    pub(super) fn new(now: EpochMs) -> Self {
        let (windows, machine) = (SegmentWindows::new(now), Machine::new(now));
        Self { windows, machine, machine_dirty: true, changed: false, merging: None }
    }

    /// What was stored, at `now`: nothing of it needs storing; whether it was published is not known.
    pub(super) fn stored(now: EpochMs) -> Self {
        Self { machine_dirty: false, changed: true, ..Self::new(now) }
    }

    /// Moves time forward.
    pub(super) fn advance(&mut self, to: EpochMs, health: &HealthSettings) {
        self.windows.watch(health.window_ms, self.machine.evidence_from());
        self.changed |= self.windows.advance(to);
    }

    /// Counts one tally of the delta that is being merged.
    pub(super) fn add(&mut self, tally: &SegmentTally) -> Added {
        let added = self.windows.add(tally.tile_start, &tally.tally);
        self.changed |= added == Added::Counted;
        let results = self.merging.get_or_insert_default();
        // A tile that ended before the probation began holds results of attempts from before: they neither redeem nor convict.
        if added == Added::Counted && tally.tile_start + TILE_MS > self.machine.since() {
            let Tally { attempts, timeouts, errors, persistent, .. } = &tally.tally;
            results.wins += attempts - timeouts - errors;
            results.failures += persistent;
        }
        added
    }

    /// Judges the segment at `now` and makes the transition that is due, if any. `always`: also when the delta did not concern it.
    pub(super) fn evaluate(
        &mut self,
        name: (&PspId, &Segment),
        always: bool,
        now: EpochMs,
        health: &HealthSettings,
    ) -> Option<PspOutage> {
        let results = self.merging.take().or(always.then(Probation::default))?;
        self.machine_dirty |= self.machine.count(results, now);
        let reading = DETECTOR.read(self.windows.watched(), health);
        let step = self.machine.due(&reading, results, now, health)?;
        let first_evidence_at = self.windows.first_failure_at().unwrap_or(now);
        let seen = Outage { started_at: now, first_evidence_at, cause: cause_of(self.windows.watched()) };
        let outage = self.machine.enter(step, seen, now);
        self.machine_dirty = true;
        self.changed = true;
        let transition = self.transition(name, step, outage, &reading);
        if step.from() == HealthState::Recovering && step.to() == HealthState::Up {
            // The tile of this moment may still hold failures of the outage: the next alarm counts from the one after it.
            self.machine.start_evidence((now.div_euclid(TILE_MS) + 1) * TILE_MS);
            self.windows.watch(health.window_ms, self.machine.evidence_from());
        }
        Some(transition)
    }

    /// The record of a step that the machine has just made.
    fn transition(&self, (psp_id, segment): (&PspId, &Segment), step: Step, outage: Outage, reading: &Reading) -> PspOutage {
        let at_risk = self.windows.last_15m();
        PspOutage {
            outage_id: hashing::stable_id("psp_outage", &format!("{psp_id}/{segment}@{}", outage.started_at)),
            psp_id: psp_id.clone(),
            segment: segment.clone(),
            from: step.from(),
            to: step.to(),
            at: self.machine.since(),
            first_evidence_at: outage.first_evidence_at,
            severity: match step.to() {
                HealthState::Down => Severity::Critical,
                HealthState::Degraded => Severity::Warning,
                HealthState::Up | HealthState::Recovering | HealthState::Unknown => Severity::Info,
            },
            cause: outage.cause,
            evidence: Evidence {
                n: reading.n,
                failures: reading.failures,
                top_codes: top_codes(self.windows.watched()),
                statistic: reading.statistic,
                threshold: threshold(reading, step.to()),
            },
            payments_at_risk: at_risk.attempts,
            amount_at_risk_minor: at_risk.amount_minor,
        }
    }

    pub(super) fn published(&self, (psp_id, segment): (&PspId, &Segment), at: EpochMs, health: &HealthSettings) -> PspState {
        let evidence = self.windows.recent(health.window_ms, self.machine.evidence_from());
        let reading = DETECTOR.read(&evidence, health);
        let state = self.machine.state();
        // What it takes to leave the state for a worse one.
        let next_worse = if state == HealthState::Up { HealthState::Degraded } else { HealthState::Down };
        PspState {
            psp_id: psp_id.clone(),
            segment: segment.clone(),
            state,
            since: self.machine.since(),
            version: self.machine.version(),
            windows: self.windows.published(),
            health_score: health_score(&reading, state, health),
            detector: psp::Detector {
                name: reading.detector.to_owned(),
                statistic: reading.statistic,
                threshold: threshold(&reading, next_worse),
                baseline: failure_rate(self.windows.last_24h()),
            },
            recovery: recovery(&self.machine, health),
            updated_at: at,
        }
    }
}

/// (1 − failures / (n + `volume_min`)) × factor of the state: `volume_min` results without failure are assumed on top of what was seen, so
/// that few results move the score little. UP counts whole, DEGRADED three quarters, RECOVERING half, DOWN nothing.
fn health_score(reading: &Reading, state: HealthState, health: &HealthSettings) -> f64 {
    let weight = (reading.n + health.volume_min.max(0)).max(1) as f64;
    let factor = match state {
        HealthState::Up | HealthState::Unknown => 1.0,
        HealthState::Degraded => 0.75,
        HealthState::Recovering => 0.5,
        HealthState::Down => 0.0,
    };
    (1.0 - reading.failures as f64 / weight).clamp(0.0, 1.0) * factor
}

/// The threshold that stands before a state.
fn threshold(reading: &Reading, state: HealthState) -> f64 {
    match state {
        HealthState::Degraded => reading.degraded_threshold,
        HealthState::Unknown | HealthState::Up | HealthState::Down | HealthState::Recovering => reading.down_threshold,
    }
}

fn recovery(machine: &Machine, health: &HealthSettings) -> Option<Recovery> {
    let share = match machine.state() {
        HealthState::Down => 0.0,
        HealthState::Recovering => health.sample_rate,
        HealthState::Unknown | HealthState::Up | HealthState::Degraded => return None,
    };
    Some(Recovery { sample_rate: share, consecutive_wins: machine.wins(), ramp_share: share })
}

fn failure_rate(tally: &Tally) -> f64 {
    if tally.attempts > 0 { tally.persistent as f64 / tally.attempts as f64 } else { 0.0 }
}

/// The more frequent kind of failure; unknown without failures.
fn cause_of(evidence: &Tally) -> OutageCause {
    match evidence {
        Tally { persistent: ..=0, .. } => OutageCause::Unknown,
        Tally { timeouts, errors, .. } if timeouts >= errors => OutageCause::Timeouts,
        _ => OutageCause::Errors,
    }
}

fn top_codes(evidence: &Tally) -> Vec<String> {
    let mut codes: Vec<_> = evidence.codes.iter().filter(|entry| &*entry.code != OTHER_CODE).collect();
    codes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.code.cmp(&b.code)));
    codes.into_iter().take(TOP_CODES_MAX).map(|entry| entry.code.to_string()).collect()
}
