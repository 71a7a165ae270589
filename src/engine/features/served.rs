//! History as one decision knows it: the attempts on its payment, and the PSPs' windows as they were published.
//!
//! What is counted over many payments (outcomes, profiles, paces) is not known here: features of it say "missing", or their prior. A
//! model that is to decide learns from what decisions were told (`athia.predictions`), where that is so too.

use super::catalogue::HistorySettings;
use super::history::HistoryView;
use super::key::{Key, Subject, Traits, hash_of, hash_or_absent};
use super::state::{Came, Chain, Outcomes, Pace, Profile, Try};
use crate::domain::payment::PreviousAttempt;
use crate::domain::psp::{PspState, Windows};
use crate::domain::{EpochMs, PspId};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Served<'a> {
    settings: &'a HistorySettings,
    payment: u64,
    chain: Chain,
    /// By hash of the PSP.
    psps: Vec<(u64, Arc<PspState>)>,
}

impl<'a> Served<'a> {
    pub fn new(settings: &'a HistorySettings, payment_id: &str) -> Self {
        Self { settings, payment: hash_of(payment_id), chain: Chain::default(), psps: Vec::new() }
    }

    /// The next attempt on the payment; `came`: None while its result is not known.
    pub fn tried(&mut self, attempt: &PreviousAttempt, came: Option<Came>) {
        let code = attempt.error_code.as_deref();
        self.push(hash_of(&attempt.attempt_id), &attempt.psp_id, attempt.attempted_at, (came, code));
    }

    /// As if the payment had just been declined at `psp`.
    pub fn suppose_declined(&mut self, psp: &PspId, at: EpochMs) {
        self.push(u64::from(self.chain.attempts), psp, at, (Some(Came::SoftDecline), None));
    }

    fn push(&mut self, attempt: u64, psp: &PspId, at: EpochMs, (came, code): (Option<Came>, Option<&str>)) {
        self.chain.push(Try {
            attempt,
            psp: hash_of(psp.as_str()),
            at,
            // For counting outcomes only.
            traits: Traits::default(),
            profiles: [0; 4],
            came,
            code: hash_or_absent(code),
            category: 0,
        });
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
    fn outcomes(&self, _: Key) -> Option<&Outcomes> {
        None
    }
    fn profile(&self, _: Key) -> Option<&Profile> {
        None
    }
    fn chain(&self, key: Key) -> Option<&Chain> {
        let known = key.subject == Subject::Payment && key.hash == self.payment && self.chain.attempts > 0;
        known.then_some(&self.chain)
    }
    fn pace(&self, _: Key) -> Option<&Pace> {
        None
    }
    fn windows(&self, psp: u64) -> Option<&Windows> {
        self.psps.iter().find(|(known, _)| *known == psp).map(|(_, state)| &state.windows)
    }
    fn settings(&self) -> &HistorySettings {
        self.settings
    }
}
