//! Kinds of members and their hyperparameters: what can be fitted, and the fitting of one on given rows.

use super::calibration::base_logit;
use super::crosses::{self, Coded, Cross};
use super::forest::{Forest, ForestError, ForestOptions};
use super::inputs::Inputs;
use super::linear::Linear;
use super::net::{Net, NetError, NetOptions};
use super::rates::RatedCross;
use super::scorer::Member;
use super::table::Table;
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum FitError {
    #[error(transparent)]
    Forest(#[from] ForestError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("{0}")]
    Data(String),
}

/// One way to fit a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fit")]
pub(super) enum Spec {
    Constant,
    /// Rates of the cells of these columns.
    Rates {
        columns: Vec<usize>,
    },
    Linear {
        ridge: f64,
    },
    Forest {
        options: ForestOptions,
        columns: Choice,
    },
    Net {
        options: NetOptions,
        columns: Choice,
    },
}

/// Which columns a member sees besides the crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Choice {
    /// Those that are part of a cross.
    Crossed,
    All,
}

/// Rows to fit on, with the crosses that were found on them and nowhere else.
pub(super) struct Ground {
    pub(super) rows: Vec<u32>,
    pub(super) crosses: Vec<Cross>,
}

impl Ground {
    pub(super) fn of(table: &Table, rows: Vec<u32>) -> Self {
        let crosses = crosses::find(table, &rows);
        Self { rows, crosses }
    }

    fn columns(&self, table: &Table, choice: Choice) -> Vec<usize> {
        let crossed = |column: &usize| self.crosses.iter().any(|cross| cross.parts.iter().any(|part| part.column == *column));
        let varies = |column: &usize| {
            let mut values = self.rows.iter().map(|row| table.features(*row as usize)[*column]);
            let first = values.next();
            values.any(|value| Some(value) != first)
        };
        let all = 0..table.columns.len();
        match choice {
            Choice::Crossed => all.filter(crossed).collect(),
            Choice::All => all.filter(varies).collect(),
        }
    }

    fn approved(&self, table: &Table) -> Vec<bool> {
        self.rows.iter().map(|row| table.rows[*row as usize].approved).collect()
    }
}

impl Spec {
    pub(super) fn fit(&self, table: &Table, ground: &Ground, seeds: &[u64]) -> Result<Member, FitError> {
        Ok(match self {
            Self::Constant => Member::Constant { logit: base_logit(&ground.approved(table)) },
            Self::Rates { columns } => {
                let parts = columns.iter().map(|column| Coded::levels(table, &ground.rows, *column)).collect();
                Member::Rates(RatedCross::fit(&Cross { parts }, table, &ground.rows))
            }
            Self::Linear { ridge } => Member::Linear(Linear::fit(&ground.crosses, table, &ground.rows, *ridge)),
            Self::Forest { options, columns } => {
                let (inputs, values) = Inputs::fit(&ground.columns(table, *columns), &ground.crosses, table, &ground.rows);
                Member::Forest(Forest::fit(inputs, &values, &ground.approved(table), options, seeds)?)
            }
            Self::Net { options, columns } => {
                let (inputs, values) = Inputs::fit(&ground.columns(table, *columns), &ground.crosses, table, &ground.rows);
                let wide = if options.wide { ground.crosses.clone() } else { Vec::new() };
                let data = super::net::Data { table, rows: &ground.rows, values: &values };
                Member::Net(Net::fit(inputs, wide, &data, options, seeds)?)
            }
        })
    }
}
