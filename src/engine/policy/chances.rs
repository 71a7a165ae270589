//! What a model says of the PSPs, as decisions ask for it.
//!
//! A port: models stand above the engine. Whoever asks gets the same answer for the same payment, history and model.

use crate::domain::PspId;

/// The chance that a PSP approves, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// As the model has it.
    pub raw: f64,
    pub calibrated: f64,
}

pub trait Chances {
    /// `name@version`.
    fn model(&self) -> &str;

    /// The chance of each of `psps`, had the payment failed at each of `failed` before, one after the other.
    ///
    /// # Errors
    /// Why there is no answer, in words for the decision: it is made without.
    fn after(&self, failed: &[PspId], psps: &[PspId]) -> Result<Vec<Chance>, String>;
}
