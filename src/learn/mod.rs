//! Learning from outcomes: tables of features with labels, models fitted to them, and how good they are.
//!
//! Owns no files and no clock: what it needs is passed in, what it makes is returned. Random numbers come from a seed.

mod table;
mod build;
mod head;
mod draw;
mod split;
mod metrics;
mod interval;
mod proportion;
mod crosses;
mod columns;
mod rates;
mod linear;
mod inputs;
mod forest;
mod net;
mod calibration;
mod scorer;
mod spec;
mod search;
mod measure;
mod importance;
mod effects;
mod fit;
mod artifact;
mod validate;
mod policy_value;
mod gate;
mod discovery;
#[cfg(test)]
mod fixtures;

pub use artifact::{Files, LoadError, SaveError, about, golden_rows, load, save};
pub use build::{
    Built, FromLog, LABEL, LOGGED_LABEL, LOGGED_PROPENSITY, LeftOut, LoggedFeedback, LoggedRows, PROPENSITY, TableBuilder,
};
pub use calibration::{Blend, Calibration};
pub use discovery::{
    Cut, CutRow, Day, Decline, Discovery, DiscoveryReport, Group, Latency, Place, RetryPatterns, Sizing, Skip, SplitSize, Told,
    Trend,
};
pub use effects::effects;
pub use fit::{Options, PolicyTold, Progress, Report, Trained, bare_net, steps, train};
pub use gate::{Bounds, Candidate, Check, Judgement, judge};
pub use head::{Head, Unasked, forget_forbidden};
pub use interval::{Estimate, Samples};
pub use measure::{Curves, Gain, Measured, Miss, Slice, Versus, difference, measure, slices};
pub use metrics::{ECE_BINS, Metrics, Point, ReliabilityBin, Scored, auc, brier, curve, ece, log_loss, reliability};
pub use policy_value::{Logged, Policy, PolicyError, PolicyValue, dr, ips, snips, value as policy_value};
pub use proportion::Proportion;
pub use scorer::{ColumnName, Model, Scorer};
pub use search::{Family, Kind, Trial};
pub use spec::FitError;
pub use split::{Shares, Split, split};
pub use table::{Alternative, Column, ColumnKind, Row, Table};
pub use validate::{Finding, Limits, Validation, Weight, validate};
