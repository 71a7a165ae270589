//! The error-code table: what a PSP's code means, and whether a result counts against the PSP.

use super::settings::{Blame, ErrorCode};
use crate::domain::PspId;
use crate::domain::payment::{HardSoft, PaymentOutcome, Status};
use std::collections::HashMap;

/// Stands for the code of an attempt that nothing was ever heard of.
pub const NO_OUTCOME: &str = "no_outcome";

/// Looks codes up: a PSP's own entry first, then the one for all PSPs.
#[derive(Clone, Debug, Default)]
pub struct CodeTable {
    own: HashMap<(PspId, String), ErrorCode>,
    any: HashMap<String, ErrorCode>,
}

/// How a result counts: exactly one of these per attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Approved,
    SoftDecline,
    HardDecline,
    /// No answer in time.
    Timeout {
        persistent: bool,
    },
    /// The PSP or the network failed.
    TechnicalError {
        persistent: bool,
    },
}

impl CodeTable {
    pub fn new(codes: &[ErrorCode]) -> Self {
        let mut table = Self::default();
        for code in codes {
            let name = code.code.to_ascii_lowercase();
            match &code.psp {
                Some(psp) => table.own.insert((psp.clone(), name), code.clone()),
                None => table.any.insert(name, code.clone()),
            };
        }
        table
    }

    pub fn find(&self, psp: &PspId, code: &str) -> Option<&ErrorCode> {
        let name = code.to_ascii_lowercase();
        // Most tables have no entry per PSP: the clone of the key is then saved.
        let own = if self.own.is_empty() { None } else { self.own.get(&(psp.clone(), name.clone())) };
        own.or_else(|| self.any.get(&name))
    }

    /// How an outcome counts. A declined payment counts against the PSP only when the table blames its code on the PSP or
    /// the network; a code that the table does not know leaves the PSP's word (`hard_soft`, `status`) standing, and an
    /// unknown technical error counts as persistent, because it is more often than not.
    pub fn verdict(&self, outcome: &PaymentOutcome) -> Verdict {
        self.judge(&outcome.psp_id, outcome.status, outcome.error_code.as_deref(), outcome.hard_soft)
    }

    /// As `verdict`, for whoever holds the parts of a result and not the whole outcome.
    pub fn judge(&self, psp: &PspId, status: Status, code: Option<&str>, said: Option<HardSoft>) -> Verdict {
        let known = code.and_then(|code| self.find(psp, code));
        let persistent = known.is_none_or(|code| code.persistent);
        let blamed = known.is_some_and(|code| matches!(code.blame, Blame::Psp | Blame::Network));
        let hard = known.and_then(|code| code.hard_soft).or(said) == Some(HardSoft::Hard);
        match status {
            Status::Approved => Verdict::Approved,
            Status::Timeout => Verdict::Timeout { persistent },
            Status::Error | Status::Unknown => Verdict::TechnicalError { persistent },
            Status::Declined if blamed => Verdict::TechnicalError { persistent },
            Status::Declined if hard => Verdict::HardDecline,
            Status::Declined => Verdict::SoftDecline,
        }
    }
}
