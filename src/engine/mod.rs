//! The pure core: what happens to state when an event arrives, and where a payment should go.
//!
//! Never does IO, never awaits, never reads a clock, a random number or the environment, never locks, logs or counts a metric.
//! Time is the record's; randomness is a hash of the payment and a salt. All it needs comes as arguments, all it wants
//! comes back as values. Below it: `domain`. Above it: `runtime`, which owns when and where.
//!
//! Reading order: `payment` (an attempt and its outcome become a result) → `window` (results become tiles and windows) →
//! `psp` (windows become health, a state, a transition) → `policy` (health, rules and history become a decision); `features` (payments
//! and history become numbers); `alerts` (transitions become what people are told).

pub mod settings;
pub mod codes;
pub mod segments;
pub mod payment;
pub mod window;
pub mod psp;
pub mod policy;
pub mod features;
pub mod alerts;
pub mod hashing;
