//! The values that are kept by key: small, of bounded size, each storable by itself.

use super::key::Traits;
use crate::domain::EpochMs;
use crate::engine::codes::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Attempts that a payment's chain keeps; of older ones only their number is known.
pub(super) const TRIES_MAX: usize = 16;
/// How far back a pace looks.
const PACE_MS: i64 = 60_000;
const SECOND_MS: i64 = 1_000;

/// Approved ones and all, each counting less the older it is: half as much after the half-life.
///
/// Weights are those at the beginning of `period`, a half-life by number: a result weighs more the later in its period it comes, and
/// everything halves from period to period. So a value fades without being touched, by a factor that is the same for all values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Decayed {
    period: i64,
    approved: f64,
    all: f64,
}

/// A time on the scale of a half-life.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    period: i64,
    /// 2 to the power of the position in the period: 1 to 2.
    weight: f64,
}

impl Moment {
    fn of(at: EpochMs, half_life_ms: f64) -> Self {
        let half_lives = at as f64 / half_life_ms;
        let period = half_lives.floor();
        Self { period: period as i64, weight: (half_lives - period).exp2() }
    }
}

/// Exactly 2 to the power of `-periods`; nothing is left after a thousand.
fn halved(periods: i64) -> f64 {
    if (0..1_000).contains(&periods) { f64::from_bits(((1_023 - periods) as u64) << 52) } else { 0.0 }
}

impl Decayed {
    fn add(&mut self, moment: Moment, approved: bool) {
        let mut weight = moment.weight;
        if moment.period >= self.period {
            let faded = halved(moment.period - self.period);
            self.all *= faded;
            self.approved *= faded;
            self.period = moment.period;
        } else {
            weight *= halved(self.period - moment.period);
        }
        self.all += weight;
        if approved {
            self.approved += weight;
        }
    }

    /// Approved ones and all.
    fn read(&self, now: Moment) -> (f64, f64) {
        let faded = halved((now.period - self.period).max(0)) / now.weight;
        (self.approved * faded, self.all * faded)
    }
}

/// Results with something in common, over a short and a long half-life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    last_at: EpochMs,
    fast: Decayed,
    slow: Decayed,
}

/// How fast counts fade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HalfLives {
    pub(super) fast_ms: f64,
    pub(super) slow_ms: f64,
}

/// A time on the scales of both half-lives: worked out once, for all that is read or counted then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moments {
    fast: Moment,
    slow: Moment,
}

impl HalfLives {
    pub(super) fn at(self, at: EpochMs) -> Moments {
        Moments { fast: Moment::of(at, self.fast_ms), slow: Moment::of(at, self.slow_ms) }
    }
}

impl Outcomes {
    pub(super) fn last_at(&self) -> EpochMs {
        self.last_at
    }

    /// A result that is told late counts as much less as it is older.
    pub(super) fn add(&mut self, at: EpochMs, moments: Moments, approved: bool) {
        self.last_at = self.last_at.max(at);
        self.fast.add(moments.fast, approved);
        self.slow.add(moments.slow, approved);
    }

    /// Approved ones and all.
    pub(super) fn slow(&self, now: Moments) -> (f64, f64) {
        self.slow.read(now.slow)
    }

    pub(super) fn fast(&self, now: Moments) -> (f64, f64) {
        self.fast.read(now.fast)
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Came {
    Approved,
    SoftDecline,
    HardDecline,
    Timeout,
    Error,
}

impl Came {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "APPROVED",
            Self::SoftDecline => "SOFT_DECLINE",
            Self::HardDecline => "HARD_DECLINE",
            Self::Timeout => "TIMEOUT",
            Self::Error => "ERROR",
        }
    }

    pub(super) fn is_technical(self) -> bool {
        matches!(self, Self::Timeout | Self::Error)
    }
}

impl From<Verdict> for Came {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Approved => Self::Approved,
            Verdict::SoftDecline => Self::SoftDecline,
            Verdict::HardDecline => Self::HardDecline,
            Verdict::Timeout { .. } => Self::Timeout,
            Verdict::TechnicalError { .. } => Self::Error,
        }
    }
}

/// What was seen of a customer, a card, a merchant, an order, or a PSP. Undecayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub first_at: EpochMs,
    pub last_at: EpochMs,
    pub attempts: u32,
    pub results: u32,
    pub approvals: u32,
    /// Results since the last approval.
    pub failures_in_a_row: u32,
    pub last_psp: u64,
    pub approved_at: Option<EpochMs>,
    /// The PSP of the last approval; 0: none.
    pub approved_by: u64,
    /// Sum of ln(1 + amount in major units) over the attempts.
    pub amounts_log: f64,
}

impl Profile {
    pub(super) fn saw_attempt(&mut self, at: EpochMs, psp: u64, amount_log: f64) {
        if self.attempts == 0 {
            self.first_at = at;
        }
        self.last_at = self.last_at.max(at);
        self.attempts = self.attempts.saturating_add(1);
        self.last_psp = psp;
        self.amounts_log += amount_log;
    }

    /// The mean of the amounts on the scale of their logarithms, in major units.
    pub(super) fn usual_amount(&self) -> Option<f64> {
        (self.attempts > 0).then(|| (self.amounts_log / f64::from(self.attempts)).exp_m1())
    }

    pub(super) fn saw_result(&mut self, at: EpochMs, psp: u64, approved: bool) {
        self.results = self.results.saturating_add(1);
        if approved {
            self.approvals = self.approvals.saturating_add(1);
            self.failures_in_a_row = 0;
            self.approved_at = self.approved_at.max(Some(at));
            self.approved_by = psp;
        } else {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        }
    }
}

/// An attempt on a payment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Try {
    /// Hash of the attempt's id.
    pub attempt: u64,
    pub psp: u64,
    pub at: EpochMs,
    pub traits: Traits,
    /// Hashes of whose attempt it is: customer, card, lookalike, order; 0 where there is none.
    pub profiles: [u64; 4],
    /// Absent: no result is known.
    pub came: Option<Came>,
    /// Hashes of the error code and its category; 0: none.
    pub code: u64,
    pub category: u64,
}

/// The attempts on one payment, in order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    pub tries: VecDeque<Try>,
    /// All there were.
    pub attempts: u32,
    pub first_at: EpochMs,
}

impl Chain {
    pub(super) fn push(&mut self, attempt: Try) {
        if self.attempts == 0 {
            self.first_at = attempt.at;
        }
        self.attempts = self.attempts.saturating_add(1);
        if self.tries.len() == TRIES_MAX {
            self.tries.pop_front();
        }
        self.tries.push_back(attempt);
    }

    pub fn last(&self) -> Option<&Try> {
        self.tries.back()
    }
}

/// Attempts by second, of the last minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// (second since 1970, attempts), in order of time; at most 61.
    seconds: VecDeque<(i64, u32)>,
}

impl Pace {
    pub(super) fn add(&mut self, at: EpochMs) {
        let second = at.div_euclid(SECOND_MS);
        let oldest = second - PACE_MS / SECOND_MS;
        while self.seconds.front().is_some_and(|(first, _)| *first < oldest) {
            self.seconds.pop_front();
        }
        match self.seconds.back_mut() {
            Some((last, count)) if *last >= second => *count = count.saturating_add(1),
            _ => self.seconds.push_back((second, 1)),
        }
    }

    pub(super) fn last_at(&self) -> EpochMs {
        self.seconds.back().map_or(EpochMs::MIN, |(second, _)| second * SECOND_MS)
    }

    /// Attempts in the second of `now`, and in the minute up to it.
    pub(super) fn read(&self, now: EpochMs) -> (u32, u32) {
        let second = now.div_euclid(SECOND_MS);
        let since = second - PACE_MS / SECOND_MS;
        let recent = self.seconds.iter().rev().take_while(|(at, _)| *at > since);
        recent.fold((0, 0), |(same, minute), (at, count)| {
            (if *at == second { count.saturating_add(same) } else { same }, count.saturating_add(minute))
        })
    }
}
