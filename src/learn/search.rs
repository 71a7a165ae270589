//! Hyperparameters: what is tried of each family, and how the best is found by time-ordered validation with a stated budget.
//!
//! Random search with one halving: every trial is fitted on the training range and judged on the validation range; the best third is
//! judged once more, fitted on the first two thirds of the training range and judged on the rest of it.

use super::columns::Choice;
use super::draw::Draw;
use super::forest::ForestOptions;
use super::metrics::{self, Scored};
use super::net::NetOptions;
use super::rates::sigmoid;
use super::spec::{FitError, Ground, Spec};
use super::table::Table;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A kind of member that can be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    Logistic,
    Forest,
    Dnn,
    WideDeep,
}

/// What is asked to be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    One(Family),
    /// All families, blended.
    Auto,
}

impl Kind {
    pub fn families(self) -> Vec<Family> {
        match self {
            Self::One(family) => vec![family],
            Self::Auto => vec![Family::Logistic, Family::Forest, Family::Dnn, Family::WideDeep],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::One(family) => family.name(),
            Self::Auto => "auto",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known =
            [Family::Logistic, Family::Dnn, Family::WideDeep, Family::Forest].map(Self::One).into_iter().chain([Self::Auto]);
        let names: Vec<&str> = known.clone().map(Self::name).collect();
        known.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("one of {}", names.join(", ")))
    }
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::Forest => "forest",
            Self::Dnn => "dnn",
            Self::WideDeep => "wide-deep",
        }
    }

    /// Whether a fit depends on its seed.
    pub(super) fn is_drawn(self) -> bool {
        !matches!(self, Self::Logistic)
    }

    /// The first trial is what has done well before; the others are drawn around it.
    pub(super) fn trials(self, count: usize, seed: u64) -> Vec<Spec> {
        let mut draw = Draw::new(seed, 20 + self as u64);
        (0..count).map(|trial| self.trial(trial, &mut draw)).collect()
    }

    fn trial(self, trial: usize, draw: &mut Draw) -> Spec {
        let mut pick = |choices: &[f64]| if trial == 0 { choices[0] } else { choices[draw.below(choices.len())] };
        let columns = if pick(&[1.0, 1.0, 0.0]) > 0.0 { Choice::Few } else { Choice::All };
        match self {
            Self::Logistic => Spec::Linear { columns, ridge: [10.0, 3.0, 5.0, 20.0, 40.0, 80.0][trial % 6] },
            Self::Forest => Spec::Forest {
                options: ForestOptions {
                    trees: pick(&[200.0, 120.0, 300.0, 450.0]) as usize,
                    leaves: pick(&[12.0, 6.0, 8.0, 16.0, 24.0]) as usize,
                    depth: pick(&[6.0, 4.0, 8.0]) as usize,
                    rate: pick(&[0.03, 0.02, 0.04]),
                    leaf_weight_least: pick(&[12.0, 5.0, 20.0, 40.0]),
                    ridge: pick(&[10.0, 1.0, 30.0, 100.0]),
                    inputs_share: pick(&[0.5, 0.3, 0.7]),
                },
                columns,
            },
            Self::Dnn | Self::WideDeep => Spec::Net {
                options: NetOptions {
                    layers: vec![256, 128, 64],
                    wide: self == Self::WideDeep,
                    rate: pick(&[0.001, 0.0005, 0.002]),
                    decay: pick(&[0.1, 0.01, 0.5]),
                    dropout: pick(&[0.3, 0.2, 0.5]) as f32,
                    epochs: pick(&[6.0, 3.0, 10.0]) as usize,
                    batch: 256,
                },
                columns,
            },
        }
    }
}

/// A trial and the log loss that it had on rows that it had not seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub family: Family,
    pub(super) spec: Spec,
    pub log_loss: f64,
    /// On the second ranges, for those that came so far.
    pub log_loss_again: Option<f64>,
}

/// Rows to fit on with their crosses, and rows to judge on.
pub(super) struct Fold<'a> {
    pub(super) ground: &'a Ground,
    pub(super) judged: &'a [u32],
}

pub(super) fn search(
    table: &Table,
    family: Family,
    count: usize,
    folds: [&Fold<'_>; 2],
    seed: u64,
) -> Result<(Spec, Vec<Trial>), FitError> {
    let mut trials = Vec::new();
    for spec in family.trials(count.max(1), seed) {
        let log_loss = judge(table, &spec, folds[0], seed)?;
        trials.push(Trial { family, spec, log_loss, log_loss_again: None });
    }
    trials.sort_by(|a, b| a.log_loss.total_cmp(&b.log_loss));
    for trial in trials.iter_mut().take(count.div_ceil(3)) {
        trial.log_loss_again = Some(judge(table, &trial.spec, folds[1], seed)?);
    }
    let sum = |trial: &Trial| trial.log_loss_again.map_or(f64::INFINITY, |again| again + trial.log_loss);
    trials.sort_by(|a, b| sum(a).total_cmp(&sum(b)));
    let best = trials.first().map(|trial| trial.spec.clone());
    Ok((best.unwrap_or(Spec::Constant), trials))
}

fn judge(table: &Table, spec: &Spec, fold: &Fold<'_>, seed: u64) -> Result<f64, FitError> {
    let member = spec.fit(table, fold.ground, &[seed])?;
    let mut logits = Vec::new();
    member.logits(&gather(table, fold.judged), table.columns.len(), &mut logits);
    let said: Vec<f64> = logits.into_iter().map(sigmoid).collect();
    let approved: Vec<bool> = fold.judged.iter().map(|row| table.rows[*row as usize].approved).collect();
    Ok(metrics::log_loss(Scored { probabilities: &said, approved: &approved }).unwrap_or(f64::INFINITY))
}

/// The features of these rows, end to end.
pub(super) fn gather(table: &Table, rows: &[u32]) -> Vec<f32> {
    rows.iter().flat_map(|row| table.features(*row as usize)).copied().collect()
}
