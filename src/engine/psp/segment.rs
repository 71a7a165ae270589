//! One segment of a PSP: its windows, its tests and its state machine, and what of them is published.

use super::attribution::Part;
use super::baseline::{QUARTER_MS, Signal, Surroundings};
use super::detector::{self, Level, Reading, Sight};
use super::machine::{Machine, Outage, Probation, Step};
use super::watch::{self, Watch};
use crate::domain::learning::{DivertedFrom, SegmentTally, Tally};
use crate::domain::psp::{self, Evidence, HealthState, OutageCause, Override, PspOutage, PspState, Recovery, Segment, Severity};
use crate::domain::{EpochMs, PspId};
use crate::engine::codes::NO_OUTCOME;
use crate::engine::hashing;
use crate::engine::settings::{HealthSettings, SequentialSettings};
use crate::engine::window::tally::OTHER_CODE;
use crate::engine::window::{Added, RINGS, SegmentWindows, TILE_MS, latency};

const TOP_CODES_MAX: usize = 5;
const DAY_MS: i64 = 86_400_000;
const QUARTERS_PER_DAY: f64 = 96.0;

#[derive(Clone, Debug)]
pub(super) struct SegmentBook {
    pub(super) windows: SegmentWindows,
    pub(super) watch: Watch,
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
        Self { windows, watch: Watch::default(), machine, machine_dirty: true, changed: false, merging: None }
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

    /// Whether it has clearly more traffic than on its day: it may have inherited some, and be near its limit.
    pub(super) fn is_busy(&self, settings: &SequentialSettings) -> bool {
        let (quarter, day) = (self.windows.last_15m().attempts as f64, self.windows.last_24h().attempts as f64);
        day >= settings.results_min && quarter > settings.busy_factor * day / QUARTERS_PER_DAY
    }

    /// Lets the quarters of an hour that have ended teach what is to be expected.
    pub(super) fn learn(&mut self, now: EpochMs, around: Surroundings<'_>) {
        let Self { windows, watch, machine, .. } = self;
        let up = machine.state() == HealthState::Up;
        let lasting = now - machine.since() >= DAY_MS;
        watch.learn(now, |quarter| {
            let teaches = if up { machine.since() <= quarter * QUARTER_MS } else { lasting };
            if teaches { windows.quarter(quarter) } else { None }
        });
        if up || lasting {
            let day = windows.published().last_24h;
            if day.attempts as f64 >= around.settings.results_min && day.latency_p95_ms > 0 {
                watch.set_slow(latency::bucket_of((day.latency_p95_ms as f64 * around.settings.slow_factor) as i64));
            }
        }
        watch.expect(now, around);
    }

    /// Counts one tally of the delta that is being merged.
    pub(super) fn add(&mut self, tally: &SegmentTally, health: &HealthSettings) -> Added {
        let added = self.windows.add(tally.tile_start, &tally.tally);
        self.changed |= added == Added::Counted;
        if added == Added::Counted && self.is_evidence(tally.tile_start, health) {
            self.watch.count(&tally.tally, tally.tile_start);
        }
        let results = self.merging.get_or_insert_default();
        // A tile that ended before the probation began holds results of attempts from before: they neither redeem nor convict.
        if added == Added::Counted && tally.tile_start + TILE_MS > self.machine.since() {
            let Tally { attempts, timeouts, errors, persistent, .. } = &tally.tally;
            results.wins += attempts - timeouts - errors;
            results.failures += persistent;
        }
        added
    }

    /// Takes an operator's order: it is judged with what is being merged.
    pub(super) fn order(&mut self, order: &Override, now: EpochMs) {
        self.machine.order(order, now);
        (self.machine_dirty, self.changed) = (true, true);
        self.merging.get_or_insert_default();
    }

    /// Takes note of payments that went elsewhere.
    pub(super) fn divert(&mut self, diverted: &DivertedFrom) {
        self.machine_dirty |= self.machine.divert(&diverted.to, diverted.payments, diverted.amount_minor);
    }

    /// The tests take what is recent and of no outage that is known: they are to find the next change, not to follow this one.
    fn is_evidence(&self, tile_start: EpochMs, health: &HealthSettings) -> bool {
        let open = matches!(self.machine.state(), HealthState::Up | HealthState::Degraded);
        open && watch::is_needed(health)
            && tile_start >= self.machine.evidence_from()
            && tile_start > self.windows.now() - health.window_ms
    }

    /// Judges the segment at `now`: the transition that is due, if any, and what it rests on. `always`: also when the delta did not
    /// concern it.
    pub(super) fn due(&mut self, always: bool, now: EpochMs, health: &HealthSettings) -> Option<(Step, Reading)> {
        let results = self.merging.take().or(always.then(Probation::default))?;
        self.machine_dirty |= self.machine.count(results, now, health);
        if self.machine.lapse(now) {
            (self.machine_dirty, self.changed) = (true, true);
        }
        let sight = self.sight(self.windows.watched());
        let step = self.machine.due(detector::level(sight, health), results, now, health)?;
        Some((step, detector::read(sight, health)))
    }

    /// As `due`, for a segment that an alarm raised elsewhere is about.
    pub(super) fn due_for(
        &self,
        alarm: &Reading,
        part: &Part<'_>,
        now: EpochMs,
        health: &HealthSettings,
    ) -> Option<(Step, Reading)> {
        let reading = alarm.of_part(part.n, part.failures, health)?;
        let open = matches!(self.machine.state(), HealthState::Up | HealthState::Degraded) && self.machine.manual().is_none();
        let step = open.then(|| self.machine.due(reading.level, Probation::default(), now, health)).flatten()?;
        Some((step, reading))
    }

    /// What the segment saw of a signal since `since`; of slow answers, since its own test has gathered evidence.
    pub(super) fn part<'a>(&self, segment: &'a Segment, signal: Signal, since: EpochMs, health: &HealthSettings) -> Part<'a> {
        let longest_ms = RINGS[0].tile_ms * RINGS[0].tiles as i64;
        let (n, failures) = match signal {
            Signal::Slow => self.watch.finding(signal, health).map_or((0, 0), |finding| (finding.n, finding.failures)),
            _ => signal.counts(&self.windows.recent(longest_ms, since.max(self.machine.evidence_from())), None),
        };
        Part { segment, n, failures, expected: self.watch.expected(signal).max(health.sequential.failure_floor) }
    }

    /// When the evidence of a reading began.
    pub(super) fn evidence_since(&self, reading: &Reading, now: EpochMs) -> EpochMs {
        reading.since.or_else(|| self.windows.first_failure_at()).unwrap_or(now)
    }

    /// Makes a transition that is due.
    pub(super) fn take(
        &mut self,
        name: (&PspId, &Segment),
        (step, reading): (Step, &Reading),
        now: EpochMs,
        health: &HealthSettings,
    ) -> PspOutage {
        let cause = match reading.signal {
            _ if step.is_ordered() => OutageCause::Manual,
            _ if reading.level < Level::Degraded => OutageCause::Unknown,
            Signal::Failures => match cause_of(self.windows.watched()) {
                OutageCause::Unknown => cause_of(self.windows.last_15m()),
                cause => cause,
            },
            Signal::Declines => OutageCause::ApprovalDrop,
            // What comes late is on its way to not coming in time.
            Signal::Slow => OutageCause::Timeouts,
            Signal::Silence => OutageCause::Silence,
        };
        let seen = Outage { started_at: now, first_evidence_at: self.evidence_since(reading, now), cause };
        let mut diverted = self.machine.diverted().to_vec();
        diverted.sort_by(|a, b| b.payments.cmp(&a.payments).then_with(|| a.psp_id.cmp(&b.psp_id)));
        let outage = self.machine.enter(step, seen, now, health);
        self.machine_dirty = true;
        self.changed = true;
        PspOutage { diverted, ..self.transition(name, step, outage, reading) }
    }

    /// Lets evidence start afresh: an outage is over that what was seen until now belongs to. The tile of this moment may still hold
    /// failures of it, so the next alarm counts from the one after it.
    pub(super) fn forget(&mut self, now: EpochMs, health: &HealthSettings) {
        self.machine.start_evidence((now.div_euclid(TILE_MS) + 1) * TILE_MS);
        self.machine_dirty = true;
        self.changed = true;
        self.windows.watch(health.window_ms, self.machine.evidence_from());
        self.watch.forget();
    }

    pub(super) fn sight<'a>(&'a self, recent: &'a Tally) -> Sight<'a> {
        Sight { recent, day: self.windows.last_24h(), watch: &self.watch }
    }

    /// The record of a step that the machine has just made.
    fn transition(&self, (psp_id, segment): (&PspId, &Segment), step: Step, outage: Outage, reading: &Reading) -> PspOutage {
        let at_risk = self.at_risk(self.machine.since() - outage.first_evidence_at, reading.failures);
        PspOutage {
            outage_id: hashing::stable_id("psp_outage", &format!("{psp_id}/{segment}@{}", outage.started_at)),
            psp_id: psp_id.clone(),
            segment: segment.clone(),
            from: step.from(),
            to: step.to(),
            at: self.machine.since(),
            first_evidence_at: outage.first_evidence_at,
            severity: match step.to() {
                HealthState::Down if step.is_ordered() => Severity::Warning,
                HealthState::Down => Severity::Critical,
                HealthState::Degraded => Severity::Warning,
                HealthState::Up | HealthState::Recovering | HealthState::Unknown => Severity::Info,
            },
            cause: if step.is_ordered() { OutageCause::Manual } else { outage.cause },
            evidence: Evidence {
                n: reading.n,
                failures: reading.failures,
                top_codes: top_codes(self.windows.watched()),
                statistic: reading.statistic,
                threshold: threshold(reading, step.to()),
            },
            payments_at_risk: at_risk.0,
            amount_at_risk_minor: at_risk.1,
            diverted: Vec::new(),
            summary: String::new(),
        }
    }

    /// (payments, amount) that the segment takes in `elapsed_ms` at its usual pace: that of the day, or of the last quarter of an hour
    /// where that is busier; at least those that `failed`.
    fn at_risk(&self, elapsed_ms: i64, failed: i64) -> (i64, i64) {
        let (quarter, day) = (self.windows.last_15m(), self.windows.last_24h());
        let per_quarter = (quarter.attempts as f64).max(day.attempts as f64 / QUARTERS_PER_DAY);
        let payments = ((per_quarter * elapsed_ms.max(0) as f64 / QUARTER_MS as f64).round() as i64).max(failed);
        let amount_each = day.amount_minor as f64 / day.attempts.max(1) as f64;
        (payments, (amount_each * payments as f64).round() as i64)
    }

    pub(super) fn published(&self, (psp_id, segment): (&PspId, &Segment), at: EpochMs, health: &HealthSettings) -> PspState {
        let evidence = self.windows.recent(health.window_ms, self.machine.evidence_from());
        let reading = detector::read(self.sight(&evidence), health);
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
            health_score: health_score(&evidence, state, health),
            detector: psp::Detector {
                name: reading.detector.to_owned(),
                statistic: reading.statistic,
                threshold: threshold(&reading, next_worse),
                baseline: reading.baseline,
            },
            recovery: recovery(&self.machine, health),
            manual: self.machine.manual().cloned(),
            updated_at: at,
        }
    }
}

/// (1 − failures / (n + `volume_min`)) × factor of the state: `volume_min` results without failure are assumed on top of what was seen, so
/// that few results move the score little. UP counts whole, DEGRADED three quarters, RECOVERING half, DOWN nothing.
fn health_score(recent: &Tally, state: HealthState, health: &HealthSettings) -> f64 {
    let weight = (recent.attempts + health.volume_min.max(0)).max(1) as f64;
    let factor = match state {
        HealthState::Up | HealthState::Unknown => 1.0,
        HealthState::Degraded => 0.75,
        HealthState::Recovering => 0.5,
        HealthState::Down => 0.0,
    };
    (1.0 - recent.persistent as f64 / weight).clamp(0.0, 1.0) * factor
}

/// The threshold that stands before a state.
fn threshold(reading: &Reading, state: HealthState) -> f64 {
    match state {
        HealthState::Degraded => reading.degraded_threshold,
        HealthState::Unknown | HealthState::Up | HealthState::Down | HealthState::Recovering => reading.down_threshold,
    }
}

fn recovery(machine: &Machine, health: &HealthSettings) -> Option<Recovery> {
    let (sample_rate, ramp_share) = match (machine.state(), machine.ramp_step().checked_sub(1)) {
        (HealthState::Down, _) => (0.0, 0.0),
        (HealthState::Recovering, None) => (health.sample_rate, health.sample_rate),
        // Of a ramp that was made shorter since, its last step.
        (HealthState::Recovering, Some(step)) => {
            (health.sample_rate, health.ramp.get(step).or(health.ramp.last()).copied().unwrap_or(health.sample_rate))
        }
        (HealthState::Unknown | HealthState::Up | HealthState::Degraded, _) => return None,
    };
    Some(Recovery { sample_rate, consecutive_wins: machine.wins(), ramp_share })
}

/// The more frequent kind of failure; unknown without failures. Silence is where most were never heard of again.
fn cause_of(evidence: &Tally) -> OutageCause {
    let silent = evidence.codes.iter().find(|entry| &*entry.code == NO_OUTCOME).map_or(0, |entry| entry.count);
    match evidence {
        Tally { persistent, .. } if silent.saturating_mul(2) > *persistent => OutageCause::Silence,
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
