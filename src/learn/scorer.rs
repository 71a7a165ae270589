//! The port that everything asks for probabilities, and the model behind it: members, a blend of their logits, a calibration.

use super::calibration::{Blend, Calibration};
use super::forest::Forest;
use super::linear::Linear;
use super::net::Net;
use super::rates::{RatedCross, sigmoid};
use super::table::Column;
use serde::{Deserialize, Serialize};

/// Approval probabilities for rows of features.
pub trait Scorer {
    /// Columns of a row.
    fn width(&self) -> usize;
    /// `rows`: row-major, in catalogue order. Appends one probability for each row.
    fn score(&self, rows: &[f32], out: &mut Vec<f64>);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "member")]
pub(super) enum Member {
    Constant {
        logit: f64,
    },
    /// The rate of a cell: PSP mean, or a table of several columns.
    Rates(RatedCross),
    Linear(Linear),
    Forest(Forest),
    Net(Net),
}

impl Member {
    /// Appends the logit of each row.
    pub(super) fn logits(&self, rows: &[f32], width: usize, out: &mut Vec<f64>) {
        let each = rows.chunks_exact(width.max(1));
        match self {
            Self::Constant { logit } => out.extend(each.map(|_| *logit)),
            Self::Rates(rated) => out.extend(each.map(|values| f64::from(rated.value(values)))),
            Self::Linear(linear) => out.extend(each.map(|values| linear.logit(values))),
            Self::Forest(forest) => {
                let mut inputs = Vec::with_capacity(forest.inputs.width());
                out.extend(each.map(|values| {
                    inputs.clear();
                    forest.inputs.append(values, &mut inputs);
                    forest.logit(&inputs)
                }));
            }
            Self::Net(net) => net.logits(rows, width, out),
        }
    }
}

/// A trained model. Its weights are arrays beside the rest, see `artifact`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// `logistic`, `forest`, `dnn`, `wide-deep`, or `blend`.
    pub kind: String,
    /// The catalogue that rows must be encoded by.
    pub catalogue: String,
    pub columns: Vec<ColumnName>,
    pub(super) members: Vec<Member>,
    pub blend: Blend,
    pub calibration: Calibration,
}

/// A column as the model knows it: rows of other columns are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnName(pub String);

impl From<&Column> for ColumnName {
    fn from(column: &Column) -> Self {
        Self(column.name.clone())
    }
}

impl Model {
    /// Appends the logit of each row before the calibration.
    pub(super) fn raw(&self, rows: &[f32], out: &mut Vec<f64>) {
        let width = self.columns.len();
        let from = out.len();
        if let [member] = self.members.as_slice() {
            member.logits(rows, width, out);
            out[from..].iter_mut().for_each(|logit| *logit = self.blend.logit(std::iter::once(*logit)));
            return;
        }
        let logits = |member: &Member| {
            let mut logits = Vec::with_capacity(rows.len() / width.max(1));
            member.logits(rows, width, &mut logits);
            logits
        };
        let said: Vec<Vec<f64>> = self.members.iter().map(logits).collect();
        out.extend((0..rows.len() / width.max(1)).map(|row| self.blend.logit(said.iter().map(|of| of[row]))));
    }

    /// For each row what the model says before its calibration, and after it.
    pub fn chances(&self, rows: &[f32]) -> Vec<(f64, f64)> {
        let mut logits = Vec::with_capacity(rows.len() / self.columns.len().max(1));
        self.raw(rows, &mut logits);
        logits.into_iter().map(|logit| (sigmoid(logit), self.calibration.apply(logit))).collect()
    }

    /// The same port over one member alone.
    pub(super) fn of_one(&self, member: Member) -> Self {
        Self {
            kind: self.kind.clone(),
            catalogue: self.catalogue.clone(),
            columns: self.columns.clone(),
            members: vec![member],
            blend: Blend::even(1),
            calibration: Calibration::None,
        }
    }

    /// What each member says by itself, with its weight: for the card.
    pub fn members(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        let name = |member: &Member| match member {
            Member::Constant { .. } => "constant",
            Member::Rates(_) => "rates",
            Member::Linear(_) => "logistic",
            Member::Forest(_) => "forest",
            Member::Net(net) => net.name(),
        };
        self.members.iter().map(name).zip(self.blend.weights.iter().copied())
    }
}

impl Scorer for Model {
    fn width(&self) -> usize {
        self.columns.len()
    }

    fn score(&self, rows: &[f32], out: &mut Vec<f64>) {
        let from = out.len();
        self.raw(rows, out);
        out[from..].iter_mut().for_each(|it| *it = self.calibration.apply(*it));
    }
}
