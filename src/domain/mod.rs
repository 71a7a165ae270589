//! The words of payments and routing, and what makes a record of them valid.
//!
//! Owns the record types that travel on the topics (field for field the schemas under `schemas/`) and their checks.
//! Never holds policy, never does IO, never reads a clock: a record carries its own times.
//! Read by every layer above; knows none of them.

pub mod payment;
pub mod decision;
pub mod psp;
pub mod alert;
pub mod learning;
pub mod control;
pub mod money;
mod validate;

pub use validate::{InvalidRecord, Validate, written_at};

use chrono::DateTime;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::sync::Arc;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type EpochMs = i64;

/// Two lower-case hex digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// `2026-01-05 19:00:20 UTC`: a time for people; the bare number where it is none.
pub fn utc_text(at: EpochMs) -> String {
    DateTime::from_timestamp_millis(at).map_or_else(|| at.to_string(), |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// The id of a PSP as the merchant's configuration spells it, such as `worldpay`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PspId(Arc<str>);

/// From where the text lies, without a copy between.
impl<'de> Deserialize<'de> for PspId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = PspId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the id of a PSP")
            }

            fn visit_str<E>(self, id: &str) -> Result<PspId, E> {
                Ok(PspId::new(id))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl PspId {
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PspId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl fmt::Display for PspId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PspId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}
