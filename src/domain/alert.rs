//! What is told to people: one alert, as every sink gets it. Its form as JSON is what the generic webhook sends.

use super::psp::{PspOutage, Severity};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same however often this alert is sent: who has seen it may drop it.
    pub key: String,
    /// That of its loudest change.
    pub severity: Severity,
    pub title: String,
    /// Said when the changes have a cause that is no single PSP's.
    #[serde(default)]
    pub common_cause: Option<String>,
    /// Whether it may have been sent before: nobody knows if it arrived.
    #[serde(default)]
    pub perhaps_repeated: bool,
    /// One at least.
    pub changes: Vec<Change>,
}

/// One segment of a PSP in an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub kind: ChangeKind,
    /// Transitions of the segment that this stands for: more than one when they were folded.
    pub transitions: u32,
    /// In plain words, without markup.
    pub text: String,
    /// The newest transition.
    pub outage: PspOutage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Transition,
    /// Still down, told again.
    Reminder,
    /// It went back and forth, told once.
    Flapping,
    /// Out since a time in which nothing was told of it: a maintenance, or so long ago that its transitions are no news.
    StillOut,
}
