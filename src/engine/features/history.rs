//! History as features see it: attempts and results, in the order of their times, become counts by key.
//!
//! Owns what is kept and when it is forgotten. Never reads ahead: what a result says counts from the moment when it is told, and a
//! key that is asked for is answered as it stands.
//!
//! Memory: at most `entities_max` of each kind of value (a profile 96 bytes with its key, outcomes 80, a pace up to 1 KB, a chain
//! 220 for each of at most 16 attempts), and for each PSP its windows (about 200 KB when busy). Beyond that, what is new is not
//! kept until old values are forgotten.

use super::catalogue::HistorySettings;
use super::key::{self, Key, Property, Subject, Traits, hash_of, hash_or_absent};
use super::state::{Chain, HalfLives, Outcomes, Pace, Profile, Try};
use crate::domain::EpochMs;
use crate::domain::learning::Tally;
use crate::domain::payment::{Payment, PaymentAttempt};
use crate::domain::psp::Windows;
use crate::engine::codes::Verdict;
use crate::engine::window::SegmentWindows;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What features may ask of history. `History` is one; tasks that keep the values in their store can be another.
pub trait HistoryView {
    fn outcomes(&self, key: Key) -> Option<&Outcomes>;
    fn profile(&self, key: Key) -> Option<&Profile>;
    fn chain(&self, key: Key) -> Option<&Chain>;
    fn pace(&self, key: Key) -> Option<&Pace>;
    /// The windows of a PSP, all segments together, as of now.
    fn windows(&self, psp: u64) -> Option<&Windows>;
    fn settings(&self) -> &HistorySettings;
}

/// What is told of an attempt's result.
#[derive(Clone, Copy, Debug)]
pub struct AttemptResult<'a> {
    pub payment_id: &'a str,
    pub attempt_id: &'a str,
    /// When it is known.
    pub at: EpochMs,
    pub verdict: Verdict,
    pub latency_ms: Option<i64>,
    pub amount_minor: i64,
    pub code: Option<&'a str>,
    pub category: Option<&'a str>,
}

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}

/// Values by key, of one kind.
#[derive(Clone, Debug)]
struct Kept<T> {
    values: HashMap<Key, T, BuildHasherDefault<KeyHasher>>,
    last_at: fn(&T) -> EpochMs,
    retention_ms: i64,
    swept_at: EpochMs,
}

impl<T: Default> Kept<T> {
    fn new(retention_ms: i64, last_at: fn(&T) -> EpochMs) -> Self {
        Self { values: HashMap::default(), last_at, retention_ms, swept_at: EpochMs::MIN }
    }

    fn get(&self, key: Key) -> Option<&T> {
        self.values.get(&key)
    }

    /// The value to change; a new one where there is room.
    fn entry(&mut self, key: Key, now: EpochMs, most: usize) -> Option<&mut T> {
        if self.values.len() >= most && !self.values.contains_key(&key) {
            self.sweep(now);
            if self.values.len() >= most {
                return None;
            }
        }
        Some(self.values.entry(key).or_default())
    }

    /// Forgets what is old; seldom enough that a full table does not look through itself at every event.
    fn sweep(&mut self, now: EpochMs) {
        if now.saturating_sub(self.swept_at) < self.retention_ms / 16 {
            return;
        }
        self.swept_at = now;
        let (last_at, oldest) = (self.last_at, now.saturating_sub(self.retention_ms));
        self.values.retain(|_, value| last_at(value) >= oldest);
    }
}

#[derive(Clone, Debug)]
struct PspWindows {
    windows: SegmentWindows,
    published: Windows,
}

#[derive(Clone, Debug)]
pub struct History {
    settings: HistorySettings,
    half_lives: HalfLives,
    now: EpochMs,
    outcomes: Kept<Outcomes>,
    profiles: Kept<Profile>,
    chains: Kept<Chain>,
    paces: Kept<Pace>,
    psps: HashMap<u64, PspWindows, BuildHasherDefault<KeyHasher>>,
}

/// PSPs with windows at most.
const PSPS_MAX: usize = 1_000;

impl History {
    pub fn new(settings: HistorySettings) -> Self {
        Self {
            half_lives: settings.half_lives(),
            now: EpochMs::MIN,
            outcomes: Kept::new(settings.retention_ms(), Outcomes::last_at),
            profiles: Kept::new(settings.retention_ms(), |profile| profile.last_at),
            chains: Kept::new(settings.chain_retention_ms(), |chain| chain.last().map_or(0, |attempt| attempt.at)),
            paces: Kept::new(key::HOUR_MS, Pace::last_at),
            psps: HashMap::default(),
            settings,
        }
    }

    /// Time passes: windows move on.
    pub fn advance(&mut self, to: EpochMs) {
        if to <= self.now {
            return;
        }
        self.now = to;
        for psp in self.psps.values_mut() {
            if psp.windows.advance(to) {
                psp.published = psp.windows.published();
            }
        }
    }

    /// An attempt is sent. Call after its features were read.
    pub fn attempt(&mut self, attempt: &PaymentAttempt) {
        let (payment, at) = (&attempt.payment, attempt.attempted_at);
        self.advance(at);
        let most = self.settings.entities_max;
        let psp = hash_of(attempt.psp_id.as_str());
        let chain_key = Key::new(Subject::Payment, hash_of(&payment.payment_id));
        let previous = self.chains.get(chain_key).and_then(Chain::last).map_or(0, |last| last.psp);
        let merchant = Key::new(Subject::Merchant, hash_or_absent(Some(&payment.merchant_id)));
        let usual_amount = self.profiles.get(merchant).and_then(Profile::usual_amount);
        let tried = Try {
            attempt: hash_of(&attempt.attempt_id),
            psp,
            at,
            traits: Traits::of(payment, at, attempt.attempt_number, previous, usual_amount),
            profiles: profiles_of(payment),
            came: None,
            code: 0,
            category: 0,
        };
        let amount_log = key::major_amount(payment).max(0.0).ln_1p();
        for profile_key in profile_keys(&tried) {
            if let Some(profile) = self.profiles.entry(profile_key, at, most) {
                profile.saw_attempt(at, psp, amount_log);
            }
        }
        for pace_key in [Key::new(Subject::Psp, psp), merchant] {
            if let Some(pace) = self.paces.entry(pace_key, at, most) {
                pace.add(at);
            }
        }
        if let Some(chain) = self.chains.entry(chain_key, at, most) {
            chain.push(tried);
        }
    }

    /// What came of an attempt. One that is not remembered, or has a result already, changes nothing.
    pub fn result(&mut self, result: &AttemptResult<'_>) {
        self.advance(result.at);
        let key = Key::new(Subject::Payment, hash_of(result.payment_id));
        let attempt = hash_of(result.attempt_id);
        let chain = self.chains.values.get_mut(&key);
        let found = chain.and_then(|chain| chain.tries.iter_mut().rev().find(|tried| tried.attempt == attempt));
        let Some(tried) = found.filter(|tried| tried.came.is_none()) else { return };
        tried.came = Some(result.verdict.into());
        tried.code = hash_or_absent(result.code);
        tried.category = hash_or_absent(result.category);
        let tried = *tried;
        let approved = result.verdict == Verdict::Approved;
        self.count(&tried, result.at, approved);
        self.count_in_windows(tried.psp, result);
    }

    fn count(&mut self, tried: &Try, at: EpochMs, approved: bool) {
        let (most, moments) = (self.settings.entities_max, self.half_lives.at(at));
        for key in profile_keys(tried) {
            if let Some(profile) = self.profiles.values.get_mut(&key) {
                profile.saw_result(at, tried.psp, approved);
            }
        }
        let of = |property: Property| (property, tried.traits.get(property));
        let at_psp = Property::EVERY.map(of).map(|(property, hash)| (hash, Key::at_psp(property, hash, tried.psp)));
        let alone = Property::ALONE.map(of).map(|(property, hash)| (hash, Key::new(Subject::Property(property), hash)));
        for (_, key) in at_psp.into_iter().chain(alone).filter(|(hash, _)| *hash != 0) {
            if let Some(outcomes) = self.outcomes.entry(key, at, most) {
                outcomes.add(at, moments, approved);
            }
        }
    }

    /// Values of each kind.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        [self.outcomes.values.len(), self.profiles.values.len(), self.chains.values.len(), self.paces.values.len()]
    }

    fn count_in_windows(&mut self, psp: u64, result: &AttemptResult<'_>) {
        if self.psps.len() >= PSPS_MAX && !self.psps.contains_key(&psp) {
            return;
        }
        let now = self.now;
        let new = || PspWindows { windows: SegmentWindows::new(now), published: Windows::default() };
        let psp = self.psps.entry(psp).or_insert_with(new);
        let mut tally = Tally::default();
        tally.count(result.verdict, result.latency_ms, result.amount_minor, None);
        psp.windows.add(result.at, &tally);
        psp.published = psp.windows.published();
    }
}

/// Customer, card, lookalike, order.
fn profiles_of(payment: &Payment) -> [u64; 4] {
    [
        hash_or_absent(payment.customer_id.as_deref()),
        hash_or_absent(payment.card.token.as_deref()),
        key::lookalike_of(payment),
        hash_or_absent(Some(&payment.order_id)),
    ]
}

const PROFILES: [Subject; 4] = [Subject::Customer, Subject::Token, Subject::Lookalike, Subject::Order];

/// Whose profiles an attempt changes.
fn profile_keys(tried: &Try) -> impl Iterator<Item = Key> {
    let own = PROFILES.into_iter().zip(tried.profiles);
    let others = [(Subject::Psp, tried.psp), (Subject::Merchant, tried.traits.get(Property::Merchant))];
    own.chain(others).filter(|(_, hash)| *hash != 0).map(|(subject, hash)| Key::new(subject, hash))
}

impl HistoryView for History {
    fn outcomes(&self, key: Key) -> Option<&Outcomes> {
        self.outcomes.get(key)
    }
    fn profile(&self, key: Key) -> Option<&Profile> {
        self.profiles.get(key)
    }
    fn chain(&self, key: Key) -> Option<&Chain> {
        self.chains.get(key)
    }
    fn pace(&self, key: Key) -> Option<&Pace> {
        self.paces.get(key)
    }
    fn windows(&self, psp: u64) -> Option<&Windows> {
        self.psps.get(&psp).map(|psp| &psp.published)
    }
    fn settings(&self) -> &HistorySettings {
        &self.settings
    }
}
