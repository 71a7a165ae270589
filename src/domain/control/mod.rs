//! What operators and gates set at run time: how far a model, a rule set or an experiment is let into the traffic.
//!
//! Owns the records, and for models what they add up to: `Stages`, and the orders that change them. Writes and sends nothing.

mod stages;
mod order;

pub use order::{Order, OrderError, Wish};
pub use stages::{Held, Stages};

use super::EpochMs;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Stage {
    #[default]
    Unknown,
    Draft,
    /// Computed beside what is active, never acted on.
    Shadow,
    /// Acted on for a small share of the traffic.
    Canary,
    Active,
    Retired,
}

/// The stage of a model on `control.models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlModel {
    /// Name of the model.
    pub id: String,
    pub version: String,
    pub stage: Stage,
    pub at: EpochMs,
    /// Who set the stage: a person or a gate.
    #[serde(default)]
    pub by: Option<String>,
    /// Settings of the stage, a JSON object: see `StageBody`.
    pub body_json: String,
}

impl ControlModel {
    /// The key of its record: each version has its own, so that compaction keeps the newest stage of every version.
    pub fn key(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }

    /// Name and version, from the key of a record that has no value.
    pub fn parse_key(key: &str) -> Option<(&str, &str)> {
        key.rsplit_once('@')
    }
}

/// What `ControlModel::body_json` may hold. What is not there is not said; what is unknown is left alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageBody {
    /// Of a canary: its share of the traffic, above 0 and below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Set against the verdict of the gate, or without one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// Of what is or was a champion: the version that was it before. Rolling back goes there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The stage of a rule set on `control.rules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlRule {
    pub id: String,
    pub version: String,
    pub stage: Stage,
    pub at: EpochMs,
    #[serde(default)]
    pub by: Option<String>,
    /// The rules, a JSON object.
    pub body_json: String,
}

/// The stage of an experiment on `control.experiments`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlExperiment {
    pub id: String,
    pub version: String,
    pub stage: Stage,
    pub at: EpochMs,
    #[serde(default)]
    pub by: Option<String>,
    /// Variants, traffic split, merchants and guardrails, a JSON object.
    pub body_json: String,
}
