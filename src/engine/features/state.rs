//! The values that are kept by key: small, of bounded size, each storable by itself.

use super::key::{Key, Property, Traits, hash_of, hash_or_absent};
use crate::domain::learning::{StatsProfile, ToldResult};
use crate::domain::payment::{PreviousAttempt, Status};
use crate::domain::{EpochMs, PspId};
use crate::engine::codes::{CodeTable, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Attempts that a payment's chain keeps; of older ones only their number is known.
pub(super) const TRIES_MAX: usize = 16;
pub(super) const MINUTE_MS: i64 = 60_000;

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
pub struct HalfLives {
    pub(super) fast_ms: f64,
    pub(super) slow_ms: f64,
}

/// A time on the scales of both half-lives: worked out once, for all that is read or counted then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    fast: Moment,
    slow: Moment,
}

impl HalfLives {
    pub fn at(self, at: EpochMs) -> Moments {
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

/// A result, with all that it counts by.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Told {
    /// When it was known.
    pub at: EpochMs,
    /// Hash of the PSP's id.
    pub psp: u64,
    pub traits: Traits,
    pub approved: bool,
    /// ln(1 + amount in major units).
    pub amount_log: f64,
}

impl Told {
    pub fn to_record(&self) -> ToldResult {
        let Self { at, approved, amount_log, traits, .. } = *self;
        ToldResult { at, approved, amount_log, traits: traits.to_numbers() }
    }

    /// Absent where the record tells less than is counted here: an older program wrote it.
    pub fn of_record(psp: &PspId, record: &ToldResult) -> Option<Self> {
        let ToldResult { at, approved, amount_log, .. } = *record;
        Some(Self { at, psp: hash_of(psp.as_str()), traits: Traits::of_numbers(&record.traits)?, approved, amount_log })
    }
}

/// What came of payments with something in common, at one PSP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    pub(super) outcomes: Outcomes,
    pub results: u32,
    pub approvals: u32,
    /// Results since the last approval.
    pub failures_in_a_row: u32,
    pub approved_at: Option<EpochMs>,
    /// Sum of ln(1 + amount in major units) over the results.
    pub amounts_log: f64,
    /// The last minute that had results, by number since 1970, and how many.
    pub minute: i64,
    pub in_minute: u32,
}

impl Standing {
    pub fn last_at(&self) -> EpochMs {
        self.outcomes.last_at
    }

    pub(super) fn add(&mut self, told: &Told, moments: Moments) {
        self.outcomes.add(told.at, moments, told.approved);
        self.results = self.results.saturating_add(1);
        self.amounts_log += told.amount_log;
        if told.approved {
            self.approvals = self.approvals.saturating_add(1);
            self.failures_in_a_row = 0;
            self.approved_at = self.approved_at.max(Some(told.at));
        } else {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        }
        let minute = told.at.div_euclid(MINUTE_MS);
        if minute > self.minute {
            (self.minute, self.in_minute) = (minute, 0);
        }
        self.in_minute += u32::from(minute == self.minute);
    }

    /// As published of `key`, whose PSP this is.
    pub fn to_record(&self, key: Key, psp_id: &PspId, as_of: EpochMs) -> StatsProfile {
        let Decayed { period: fast_period, approved: fast_approvals, all: fast_results } = self.outcomes.fast;
        let Decayed { period: slow_period, approved: slow_approvals, all: slow_results } = self.outcomes.slow;
        StatsProfile {
            subject: subject_of(key),
            psp_id: psp_id.clone(),
            attempts: self.results.into(),
            approvals: self.approvals.into(),
            updated_at: as_of,
            property: key.property.as_str().to_owned(),
            hash: key.hash.cast_signed(),
            last_at: self.outcomes.last_at,
            fast_period,
            fast_approvals,
            fast_results,
            slow_period,
            slow_approvals,
            slow_results,
            failures_in_a_row: self.failures_in_a_row.into(),
            approved_at: self.approved_at,
            amounts_log: self.amounts_log,
            minute: self.minute,
            in_minute: self.in_minute.into(),
        }
    }

    /// Absent where the property is none that is known here.
    pub fn of_record(record: &StatsProfile) -> Option<(Key, Self)> {
        let property = Property::EVERY.into_iter().find(|property| property.as_str() == record.property)?;
        let key = Key { property, psp: hash_of(record.psp_id.as_str()), hash: record.hash.cast_unsigned() };
        let count = |count: i64| u32::try_from(count).unwrap_or_default();
        let fast = Decayed { period: record.fast_period, approved: record.fast_approvals, all: record.fast_results };
        let slow = Decayed { period: record.slow_period, approved: record.slow_approvals, all: record.slow_results };
        let standing = Self {
            outcomes: Outcomes { last_at: record.last_at, fast, slow },
            results: count(record.attempts),
            approvals: count(record.approvals),
            failures_in_a_row: count(record.failures_in_a_row),
            approved_at: record.approved_at,
            amounts_log: record.amounts_log,
            minute: record.minute,
            in_minute: count(record.in_minute),
        };
        Some((key, standing))
    }
}

/// The key of a record on `stats.profiles`.
pub fn subject_of(key: Key) -> String {
    format!("{}:{:016x}/psp:{:016x}", key.property.as_str(), key.hash, key.psp)
}

/// What `subject_of` made.
pub fn key_of_subject(subject: &str) -> Option<Key> {
    let (value, psp) = subject.split_once("/psp:")?;
    let (name, hash) = value.split_once(':')?;
    let property = Property::EVERY.into_iter().find(|property| property.as_str() == name)?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Key { property, psp: number(psp)?, hash: number(hash)? })
}

/// What was seen of a customer or a card. Undecayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub first_at: EpochMs,
    pub last_at: EpochMs,
    pub attempts: u32,
    pub results: u32,
    pub approvals: u32,
    /// Results since the last approval.
    pub failures_in_a_row: u32,
    pub approved_at: Option<EpochMs>,
    /// The PSP of the last approval; 0: none.
    pub approved_by: u64,
    /// Sum of ln(1 + amount in major units) over the attempts.
    pub amounts_log: f64,
}

impl Profile {
    pub(super) fn saw_attempt(&mut self, at: EpochMs, amount_log: f64) {
        if self.attempts == 0 {
            self.first_at = at;
        }
        self.last_at = self.last_at.max(at);
        self.attempts = self.attempts.saturating_add(1);
        self.amounts_log += amount_log;
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
    /// Absent: no result is known.
    pub came: Option<Came>,
    /// Hashes of the error code and its category; 0: none.
    pub code: u64,
    pub category: u64,
}

impl Try {
    /// An attempt as whoever asks tells of it.
    pub fn told(attempt: &PreviousAttempt, codes: &CodeTable) -> Self {
        let (psp, code) = (&attempt.psp_id, attempt.error_code.as_deref());
        let verdict = || codes.judge(psp, attempt.status, code, attempt.hard_soft);
        let category = code.and_then(|code| codes.find(psp, code)).map(|code| code.category.as_str());
        Self {
            attempt: hash_of(&attempt.attempt_id),
            psp: hash_of(psp.as_str()),
            at: attempt.attempted_at,
            came: (attempt.status != Status::Unknown).then(|| verdict().into()),
            code: hash_or_absent(code),
            category: hash_or_absent(category),
        }
    }
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
