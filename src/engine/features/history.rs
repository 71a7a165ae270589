//! History as features see it: attempts and results, in the order of their times, become counts by key.
//!
//! Owns what is kept of a file's history and when it is forgotten; a running router keeps the same in its stores. Never reads ahead:
//! what a result says counts from the moment when it is told, counts over many payments from their next step on (`counts`), and what
//! is asked for is answered as it stands.
//!
//! Memory: at most `entities_max` of each kind of value (a count 140 bytes with its key, a customer about 500, a chain 80 for each
//! of at most 16 attempts), and for each PSP its windows (about 200 KB when busy). Beyond that, what is new is not kept until old
//! values are forgotten.

use super::catalogue::HistorySettings;
use super::counts::Counts;
use super::customer::{Belongs, CustomerHistory, amount_log};
use super::facts::usual_amount;
use super::key::{Key, KeyHashing, Traits, hash_of, hash_or_absent};
use super::state::{Chain, Standing, Told, Try};
use crate::domain::EpochMs;
use crate::domain::learning::Tally;
use crate::domain::payment::PaymentAttempt;
use crate::domain::psp::Windows;
use crate::engine::codes::Verdict;
use crate::engine::window::SegmentWindows;
use std::collections::HashMap;

/// What features may ask of history. `History` is one; `Served` is what a decision knows.
pub trait HistoryView {
    fn standing(&self, key: Key) -> Option<Standing>;
    /// Hashes of the PSPs that anything was counted at, in order.
    fn psps(&self) -> &[u64];
    fn chain(&self, payment: u64) -> Option<&Chain>;
    fn customer(&self, customer: u64) -> Option<&CustomerHistory>;
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

/// Values by hash, of one kind.
#[derive(Clone, Debug)]
struct Kept<T> {
    values: HashMap<u64, T, KeyHashing>,
    last_at: fn(&T) -> EpochMs,
    retention_ms: i64,
    swept_at: EpochMs,
}

impl<T: Default> Kept<T> {
    fn new(retention_ms: i64, last_at: fn(&T) -> EpochMs) -> Self {
        Self { values: HashMap::default(), last_at, retention_ms, swept_at: EpochMs::MIN }
    }

    /// The value to change; a new one where there is room.
    fn entry(&mut self, hash: u64, now: EpochMs, most: usize) -> Option<&mut T> {
        if self.values.len() >= most && !self.values.contains_key(&hash) {
            self.sweep(now);
            if self.values.len() >= most {
                return None;
            }
        }
        Some(self.values.entry(hash).or_default())
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

/// An attempt whose result is not known.
#[derive(Clone, Copy, Debug, Default)]
struct Untold {
    at: EpochMs,
    customer: u64,
    belongs: Belongs,
    traits: Traits,
    amount_log: f64,
}

#[derive(Clone, Debug)]
pub struct History {
    settings: HistorySettings,
    now: EpochMs,
    counts: Counts,
    /// Those that results were told of, in order.
    psps: Vec<u64>,
    customers: Kept<CustomerHistory>,
    chains: Kept<Chain>,
    /// By hash of the attempt.
    untold: Kept<Untold>,
    windows: HashMap<u64, PspWindows, KeyHashing>,
}

/// PSPs with windows at most.
const PSPS_MAX: usize = 1_000;

impl History {
    pub fn new(settings: HistorySettings) -> Self {
        Self {
            now: EpochMs::MIN,
            counts: Counts::new(&settings),
            psps: Vec::new(),
            customers: Kept::new(settings.retention_ms(), CustomerHistory::last_at),
            chains: Kept::new(settings.chain_retention_ms(), |chain| chain.last().map_or(0, |attempt| attempt.at)),
            untold: Kept::new(settings.chain_retention_ms(), |untold| untold.at),
            windows: HashMap::default(),
            settings,
        }
    }

    /// Time passes: windows and counts move on.
    pub fn advance(&mut self, to: EpochMs) {
        if to <= self.now {
            return;
        }
        self.now = to;
        for psp in self.windows.values_mut() {
            if psp.windows.advance(to) {
                psp.published = psp.windows.published();
            }
        }
        while self.counts.begin(self.settings.counted_to(to)) {
            while !self.counts.count(usize::MAX) {}
            while self.counts.take_changed().is_some() {}
            self.counts.sweep(to);
        }
    }

    /// An attempt is sent. Call after its features were read.
    pub fn attempt(&mut self, attempt: &PaymentAttempt) {
        let (payment, at) = (&attempt.payment, attempt.attempted_at);
        self.advance(at);
        let most = self.settings.entities_max;
        let chain_key = hash_of(&payment.payment_id);
        let previous = self.chains.values.get(&chain_key).and_then(Chain::last).map_or(0, |last| last.psp);
        let usual = usual_amount(payment, &self.psps, |key| self.counts.get(key));
        let (belongs, amount_log) = (Belongs::of(payment), amount_log(payment));
        let customer = hash_or_absent(payment.customer_id.as_deref());
        if let Some(known) = (customer != 0).then(|| self.customers.entry(customer, at, most)).flatten() {
            known.attempted(at, belongs, amount_log);
        }
        let attempt_key = hash_of(&attempt.attempt_id);
        if let Some(untold) = self.untold.entry(attempt_key, at, most) {
            let traits = Traits::of(payment, at, attempt.attempt_number, previous, usual);
            *untold = Untold { at, customer, belongs, traits, amount_log };
        }
        if let Some(chain) = self.chains.entry(chain_key, at, most) {
            let psp = hash_of(attempt.psp_id.as_str());
            chain.push(Try { attempt: attempt_key, psp, at, came: None, code: 0, category: 0 });
        }
    }

    /// The attempts on a payment are these, whatever is remembered of it.
    pub fn suppose_tried(&mut self, payment_id: &str, attempts: impl IntoIterator<Item = Try>) {
        let mut chain = Chain::default();
        attempts.into_iter().for_each(|attempt| chain.push(attempt));
        self.chains.values.insert(hash_of(payment_id), chain);
    }

    /// What came of an attempt. One that is not remembered, or has a result already, changes nothing.
    pub fn result(&mut self, result: &AttemptResult<'_>) {
        self.advance(result.at);
        let attempt = hash_of(result.attempt_id);
        let chain = self.chains.values.get_mut(&hash_of(result.payment_id));
        let found = chain.and_then(|chain| chain.tries.iter_mut().rev().find(|tried| tried.attempt == attempt));
        let Some(tried) = found.filter(|tried| tried.came.is_none()) else { return };
        tried.came = Some(result.verdict.into());
        tried.code = hash_or_absent(result.code);
        tried.category = hash_or_absent(result.category);
        let psp = tried.psp;
        if let Some(untold) = self.untold.values.remove(&attempt) {
            self.count(psp, &untold, result);
        }
        self.count_in_windows(psp, result);
    }

    fn count(&mut self, psp: u64, untold: &Untold, result: &AttemptResult<'_>) {
        let (at, approved) = (result.at, result.verdict == Verdict::Approved);
        if let Some(customer) = self.customers.values.get_mut(&untold.customer) {
            customer.came((at, self.settings.half_lives().at(at)), psp, untold.belongs, approved);
        }
        if let Err(place) = self.psps.binary_search(&psp) {
            self.psps.insert(place, psp);
        }
        self.counts.tell(Told { at, psp, traits: untold.traits, approved, amount_log: untold.amount_log });
    }

    /// Values of each kind.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        [self.counts.len(), self.customers.values.len(), self.chains.values.len(), self.untold.values.len()]
    }

    fn count_in_windows(&mut self, psp: u64, result: &AttemptResult<'_>) {
        if self.windows.len() >= PSPS_MAX && !self.windows.contains_key(&psp) {
            return;
        }
        let now = self.now;
        let new = || PspWindows { windows: SegmentWindows::new(now), published: Windows::default() };
        let psp = self.windows.entry(psp).or_insert_with(new);
        let mut tally = Tally::default();
        tally.count(result.verdict, result.latency_ms, result.amount_minor, None);
        psp.windows.add(result.at, &tally);
        psp.published = psp.windows.published();
    }
}

impl HistoryView for History {
    fn standing(&self, key: Key) -> Option<Standing> {
        self.counts.get(key)
    }
    fn psps(&self) -> &[u64] {
        &self.psps
    }
    fn chain(&self, payment: u64) -> Option<&Chain> {
        self.chains.values.get(&payment)
    }
    fn customer(&self, customer: u64) -> Option<&CustomerHistory> {
        self.customers.values.get(&customer)
    }
    fn windows(&self, psp: u64) -> Option<&Windows> {
        self.windows.get(&psp).map(|psp| &psp.published)
    }
    fn settings(&self) -> &HistorySettings {
        &self.settings
    }
}
