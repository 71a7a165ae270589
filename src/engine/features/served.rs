//! History as one decision knows it: the attempts on its payment, its customer, the PSPs' windows as they were published, and counts
//! over many payments as of their last step.

use super::catalogue::HistorySettings;
use super::customer::CustomerHistory;
use super::history::HistoryView;
use super::key::{Key, hash_of, hash_or_absent};
use super::state::{Came, Chain, Standing, Try};
use crate::domain::payment::Payment;
use crate::domain::psp::{PspState, Windows};
use crate::domain::{EpochMs, PspId};
use std::sync::Arc;

/// Counts over many payments, as they were published.
pub trait Standings {
    /// With the results before `counted_to`, where that is still known; else the oldest that is.
    fn standing(&self, key: Key, counted_to: EpochMs) -> Option<Standing>;
    /// Hashes of the PSPs that anything was counted at, in order.
    fn psps(&self) -> Arc<[u64]>;
}

#[derive(Clone)]
pub struct Served<'a> {
    settings: &'a HistorySettings,
    standings: &'a dyn Standings,
    counted_to: EpochMs,
    counted_at: Arc<[u64]>,
    payment: u64,
    chain: Chain,
    customer: u64,
    known: Option<&'a CustomerHistory>,
    /// By hash of the PSP.
    psps: Vec<(u64, Arc<PspState>)>,
}

impl<'a> Served<'a> {
    pub fn new(settings: &'a HistorySettings, standings: &'a dyn Standings, payment: &Payment, at: EpochMs) -> Self {
        Self {
            settings,
            standings,
            counted_to: settings.counted_to(at),
            counted_at: standings.psps(),
            payment: hash_of(&payment.payment_id),
            chain: Chain::default(),
            customer: hash_or_absent(payment.customer_id.as_deref()),
            known: None,
            psps: Vec::new(),
        }
    }

    /// What is remembered of the payment's customer.
    pub fn customer(&mut self, known: &'a CustomerHistory) {
        self.known = Some(known);
    }

    /// The next attempt on the payment.
    pub fn tried(&mut self, attempt: Try) {
        self.chain.push(attempt);
    }

    /// As if the payment had just been declined at `psp`.
    pub fn suppose_declined(&mut self, psp: &PspId, at: EpochMs) {
        let (attempt, psp) = (u64::from(self.chain.attempts), hash_of(psp.as_str()));
        self.tried(Try { attempt, psp, at, came: Some(Came::SoftDecline), code: 0, category: 0 });
    }

    /// A PSP as it was published last, all segments together.
    pub fn psp(&mut self, state: Arc<PspState>) {
        self.psps.push((hash_of(state.psp_id.as_str()), state));
    }

    /// Attempts on the payment.
    pub fn attempts(&self) -> u32 {
        self.chain.attempts
    }
}

impl HistoryView for Served<'_> {
    fn standing(&self, key: Key) -> Option<Standing> {
        self.standings.standing(key, self.counted_to)
    }
    fn psps(&self) -> &[u64] {
        &self.counted_at
    }
    fn chain(&self, payment: u64) -> Option<&Chain> {
        (payment == self.payment && self.chain.attempts > 0).then_some(&self.chain)
    }
    fn customer(&self, customer: u64) -> Option<&CustomerHistory> {
        self.known.filter(|_| customer == self.customer)
    }
    fn windows(&self, psp: u64) -> Option<&Windows> {
        self.psps.iter().find(|(known, _)| *known == psp).map(|(_, state)| &state.windows)
    }
    fn settings(&self) -> &HistorySettings {
        self.settings
    }
}
