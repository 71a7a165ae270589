//! What models learn from: one row for each attempt, with its features in catalogue order and what came of it.

use crate::domain::{EpochMs, PspId};

/// How a feature's number is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A share that was counted on results before the row: what it says is made of outcomes already.
    Rate,
    /// A quantity; missing is the catalogue's default, with an indicator column of its own where that matters. Never NaN.
    Number,
    /// A whole number from 0 (unknown) to `size - 1`, without order.
    Category { size: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As in the catalogue.
    pub name: String,
    pub kind: ColumnKind,
    /// Whether its value depends on the candidate PSP; the others are the request's.
    pub of_candidate: bool,
}

/// Rows are in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Identifies the encoder: a model fits only tables of the same catalogue.
    pub catalogue: String,
    pub columns: Vec<Column>,
    /// Row-major, rows × columns: the features of the PSP that the attempt went to.
    pub values: Vec<f32>,
    pub rows: Vec<Row>,
    /// The other PSPs that could have taken an attempt, in order of `row`: for judging policies, not for fitting.
    pub alternatives: Vec<Alternative>,
}

impl Table {
    /// Takes what a column says away: with one value only it is of no use to any model.
    pub fn blank(&mut self, column: usize) {
        let width = self.columns.len().max(1);
        self.values.iter_mut().skip(column).step_by(width).for_each(|value| *value = 0.0);
    }

    /// Leaves rows out with all that belongs to them, and counts them.
    pub fn retain(&mut self, keep: impl Fn(usize, &Row) -> bool) -> usize {
        let kept: Vec<bool> = self.rows.iter().enumerate().map(|(row, it)| keep(row, it)).collect();
        let is_kept = |row: usize| kept.get(row).is_some_and(|kept| *kept);
        let mut places = Vec::with_capacity(kept.len());
        let mut next = 0;
        for kept in &kept {
            places.push(next);
            next += u32::from(*kept);
        }
        let all = self.rows.len();
        if next as usize == all {
            return 0;
        }
        let width = self.columns.len().max(1);
        let values = self.values.chunks(width).enumerate().filter(|(row, _)| is_kept(*row));
        self.values = values.flat_map(|(_, values)| values.iter().copied()).collect();
        self.alternatives.retain(|alternative| is_kept(alternative.row as usize));
        for alternative in &mut self.alternatives {
            alternative.row = places[alternative.row as usize];
        }
        let mut row = 0;
        self.rows.retain(|_| {
            row += 1;
            is_kept(row - 1)
        });
        all - self.rows.len()
    }

    /// The features of an attempt; nothing where there is no such row.
    pub fn features(&self, row: usize) -> &[f32] {
        let width = self.columns.len();
        self.values.get(row * width..(row + 1) * width).unwrap_or_default()
    }
}

/// An attempt and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub attempt_id: String,
    pub payment_id: String,
    /// From 1.
    pub attempt_number: i32,
    pub attempted_at: EpochMs,
    pub psp_id: PspId,
    pub approved: bool,
    pub amount_minor: i64,
    pub currency: String,
    pub brand: String,
    pub issuer_country: String,
    /// Probability with which the attempt went to its PSP, where it is known or estimated.
    pub propensity: Option<f64>,
    /// What the PSP charges for an attempt: when it is approved, and when it is not, minor units.
    pub fee_minor: [i64; 2],
}

/// Another PSP that an attempt could have gone to.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// Index of the attempt in `rows`.
    pub row: u32,
    pub psp_id: PspId,
    pub fee_minor: [i64; 2],
    pub propensity: Option<f64>,
    /// All columns, catalogue order.
    pub values: Vec<f32>,
}
