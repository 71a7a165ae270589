//! Kinds of members and their hyperparameters: what can be fitted, and the fitting of one on given rows.

use super::calibration::base_logit;
use super::columns::Choice;
use super::crosses::{self, Coded, Cross};
use super::forest::{Forest, ForestError, ForestOptions};
use super::inputs::Inputs;
use super::linear::Linear;
use super::net::{Net, NetError, NetOptions};
use super::rates::RatedCross;
use super::scorer::Member;
use super::table::Table;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
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
        columns: Choice,
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

/// Rows to fit on, with what was found on them and nowhere else.
pub(super) struct Ground {
    pub(super) rows: Vec<u32>,
    few: OnceCell<Seen>,
    all: OnceCell<Seen>,
}

/// Columns of a choice, and their crosses.
pub(super) struct Seen {
    pub(super) columns: Vec<usize>,
    pub(super) crosses: Vec<Cross>,
}

impl Ground {
    pub(super) fn of(rows: Vec<u32>) -> Self {
        Self { rows, few: OnceCell::new(), all: OnceCell::new() }
    }

    /// Looked for when it is first asked for: it takes a second or two.
    pub(super) fn seen(&self, table: &Table, choice: Choice) -> &Seen {
        let seen = match choice {
            Choice::Few => &self.few,
            Choice::All => &self.all,
        };
        seen.get_or_init(|| {
            let columns = choice.columns(table, &self.rows);
            let crosses = crosses::find(table, &self.rows, &columns);
            Seen { columns, crosses }
        })
    }

    fn approved(&self, table: &Table) -> Vec<bool> {
        self.rows.iter().map(|row| table.rows[*row as usize].approved).collect()
    }
}

impl Spec {
    /// Which columns it is fitted on; few, where it names its own.
    pub(super) fn columns(&self) -> Choice {
        match self {
            Self::Linear { columns, .. } | Self::Forest { columns, .. } | Self::Net { columns, .. } => *columns,
            Self::Constant | Self::Rates { .. } => Choice::Few,
        }
    }

    pub(super) fn fit(&self, table: &Table, ground: &Ground, seeds: &[u64]) -> Result<Member, FitError> {
        Ok(match self {
            Self::Constant => Member::Constant { logit: base_logit(&ground.approved(table)) },
            Self::Rates { columns } => {
                let parts = columns.iter().map(|column| Coded::levels(table, &ground.rows, *column)).collect();
                Member::Rates(RatedCross::fit(&Cross { parts }, table, &ground.rows))
            }
            Self::Linear { ridge, columns } => {
                Member::Linear(Linear::fit(&ground.seen(table, *columns).crosses, table, &ground.rows, *ridge))
            }
            Self::Forest { options, columns } => {
                let seen = ground.seen(table, *columns);
                let (inputs, values) = Inputs::fit(&seen.columns, &seen.crosses, table, &ground.rows);
                Member::Forest(Forest::fit(inputs, &values, &ground.approved(table), options, seeds)?)
            }
            Self::Net { options, columns } => {
                let seen = ground.seen(table, *columns);
                let (inputs, values) = Inputs::fit(&seen.columns, &seen.crosses, table, &ground.rows);
                let wide = if options.wide { seen.crosses.clone() } else { Vec::new() };
                let data = super::net::Data { table, rows: &ground.rows, values: &values };
                Member::Net(Net::fit(inputs, wide, &data, options, seeds)?)
            }
        })
    }
}
