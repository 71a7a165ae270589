//! What time it is for the runtime: the wall's for a live system, the events' for replay and simulation.
//!
//! The only reader of the system clock behind the engine. Event times never come from here: in a live system it measures how
//! long an input has been silent, and stamps decisions.

use crate::domain::EpochMs;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Silence lasts as long as the wall says.
    Wall,
    /// Time passes by events alone: an input that was read to its end holds nothing back.
    Event,
}

impl Clock {
    /// When something that follows from an event of this time happens.
    pub fn happened_at(self, event_at: EpochMs) -> EpochMs {
        match self {
            Self::Wall => wall_ms(),
            Self::Event => event_at,
        }
    }
}

/// Milliseconds since 1970 by the system clock; 0 before that.
pub(super) fn wall_ms() -> EpochMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
