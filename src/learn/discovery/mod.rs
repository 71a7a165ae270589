//! What a merchant's history tells before anything is learned from it: how much there is and of what, how each PSP does with it, what retries
//! and declines look like, and whether an experiment would get its samples.
//!
//! Pure: fed with attempts in order of time, it gives counts with intervals. One entry is held per payment that is not approved, one number per
//! attempt that tells its latency, and one per amount, whatever else there is.

mod cuts;
mod figures;
mod retries;
mod sizing;

pub use cuts::{Cut, CutRow};
pub use figures::{Day, Decline, Group, Latency, Skip, Told, Trend};
pub use retries::RetryPatterns;
pub use sizing::{Sizing, SplitSize};

use super::proportion::Proportion;
use crate::domain::EpochMs;
use crate::domain::payment::{PaymentAttempt, PaymentOutcome, Status};
use cuts::Cuts;
use figures::{DeclineKey, Fields};
use retries::Retries;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// Skip reasons are texts from outside: only so many different ones are told apart.
const SKIPS_MAX: usize = 10_000;
const OTHER: &str = "(others)";

/// Where in its payment an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Attempts of the payment so far, this one included.
    pub length: u32,
    /// Whether the payment was not approved before and is now.
    pub is_first_approval: bool,
}

/// History as it is counted.
#[derive(Default)]
pub struct Discovery {
    span: Option<(EpochMs, EpochMs)>,
    attempts: u64,
    no_result: u64,
    approvals: Proportion,
    payments: Proportion,
    days: BTreeMap<EpochMs, (Proportion, Proportion)>,
    /// Attempts by weekday (Monday first) and hour (UTC).
    rhythm: [[u64; 24]; 7],
    psps: Vec<String>,
    by_psp: Vec<Proportion>,
    cuts: Cuts,
    retries: Retries,
    declines: HashMap<DeclineKey, u64>,
    latencies: Vec<Vec<u32>>,
    skips: HashMap<String, u64>,
    fields: Fields,
}

/// What history tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiscoveryReport {
    pub from: EpochMs,
    pub to: EpochMs,
    pub attempts: u64,
    /// Attempts of which no result is known; they are in no rate.
    pub no_result: u64,
    /// Approved, of attempts with a result, and of payments.
    pub approved_attempts: Proportion,
    pub approved_payments: Proportion,
    pub days: Vec<Day>,
    pub trend: Option<Trend>,
    pub rhythm: [[u64; 24]; 7],
    pub psps: Vec<Group>,
    pub cuts: Vec<Cut>,
    /// What is the same in all attempts, and what none tells.
    pub constant: BTreeMap<&'static str, String>,
    pub untold: Vec<&'static str>,
    pub retries: RetryPatterns,
    pub declines: Vec<Decline>,
    pub latency: Vec<Latency>,
    pub skips: Vec<Skip>,
    pub fields: Vec<Told>,
    pub experiment: Option<Sizing>,
}

impl Discovery {
    /// Attempts come in order of time.
    pub fn count(&mut self, attempt: &PaymentAttempt, outcome: Option<&PaymentOutcome>, place: Place) {
        let at = attempt.attempted_at;
        self.attempts += 1;
        self.span = Some(self.span.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
        let (day, hour) = (at.div_euclid(DAY_MS), at.rem_euclid(DAY_MS) / HOUR_MS);
        // The first of January 1970 was a Thursday.
        self.rhythm[(day + 3).rem_euclid(7) as usize][hour as usize] += 1;
        let psp = self.psp(attempt.psp_id.as_str());
        let approved = outcome.map(|outcome| outcome.status == Status::Approved);
        self.count_payment(day, approved, place);
        self.cuts.count(attempt, psp, approved);
        self.retries.count(attempt, outcome, place.length);
        self.fields.count(attempt, outcome);
        for reason in &attempt.skip_reasons {
            let known = self.skips.len() < SKIPS_MAX || self.skips.contains_key(reason.as_str());
            *self.skips.entry(if known { reason.clone() } else { OTHER.to_owned() }).or_default() += 1;
        }
        let Some(outcome) = outcome else {
            self.no_result += 1;
            return;
        };
        self.by_psp[psp].count(approved == Some(true));
        if outcome.latency_ms > 0 {
            self.latencies[psp].push(u32::try_from(outcome.latency_ms).unwrap_or(u32::MAX));
        }
        if outcome.status != Status::Approved {
            *self.declines.entry(DeclineKey::of(psp, outcome)).or_default() += 1;
        }
    }

    fn count_payment(&mut self, day: i64, approved: Option<bool>, place: Place) {
        let (attempts, payments) = self.days.entry(day * DAY_MS).or_default();
        if let Some(approved) = approved {
            attempts.count(approved);
            self.approvals.count(approved);
        }
        // A payment counts on the day of its first attempt, its approval on the day of that one.
        let is_new = u64::from(place.length == 1);
        let counted = Proportion::new(u64::from(place.is_first_approval), is_new);
        payments.add(counted);
        self.payments.add(counted);
    }

    fn psp(&mut self, name: &str) -> usize {
        self.psps.iter().position(|known| known == name).unwrap_or_else(|| {
            self.psps.push(name.to_owned());
            self.by_psp.push(Proportion::default());
            self.latencies.push(Vec::new());
            self.psps.len() - 1
        })
    }

    /// None when nothing was counted.
    pub fn finish(self) -> Option<DiscoveryReport> {
        let (from, to) = self.span?;
        let days: Vec<Day> = self.days.into_iter().map(|(at, (attempts, payments))| Day { at, attempts, payments }).collect();
        let (cuts, constant, untold) = self.cuts.finish(&self.psps);
        let mut psps: Vec<Group> = self.psps.iter().zip(&self.by_psp).map(|(name, counted)| Group::new(name, *counted)).collect();
        psps.sort_by(|a, b| b.attempts.cmp(&a.attempts).then_with(|| a.name.cmp(&b.name)));
        let trend = figures::trend(&days, from, to);
        let experiment = sizing::size(self.payments, figures::days_between(from, to));
        Some(DiscoveryReport {
            from,
            to,
            attempts: self.attempts,
            no_result: self.no_result,
            approved_attempts: self.approvals,
            approved_payments: self.payments,
            trend,
            days,
            rhythm: self.rhythm,
            cuts,
            constant,
            untold,
            retries: self.retries.finish(),
            declines: figures::declines(self.declines, &self.psps, &self.by_psp),
            latency: figures::latency(self.latencies, &self.psps),
            skips: figures::skips(self.skips),
            fields: self.fields.finish(),
            experiment,
            psps,
        })
    }
}

#[cfg(test)]
mod tests;
