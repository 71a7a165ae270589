//! What operators and gates set at run time: how far a model, a rule set or an experiment is let into the traffic.

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
    /// Settings of the stage, a JSON object.
    pub body_json: String,
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
