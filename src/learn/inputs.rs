//! What trees and nets are given: chosen columns as they are, small categories one by one, and the rates of crosses.

use super::artifact::Array;
use super::crosses::{Coded, Cross};
use super::rates::{RatedCross, from_other_parts};
use super::split;
use super::table::{ColumnKind, Row, Table};
use serde::{Deserialize, Serialize};

/// A category of at most this many values in the rows is spread over as many inputs; one of more is seen through its crosses alone.
const SPREAD_MOST: usize = 12;
/// Parts of the training range: the rates of the rows in one are those of the rows in all others.
const PARTS: usize = 10;

/// How the inputs are made from a row of features: in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Inputs {
    pub(super) numbers: Vec<usize>,
    /// Categories, one input for each value.
    pub(super) spread: Vec<Coded>,
    pub(super) rates: Vec<RatedCross>,
}

impl Inputs {
    pub(super) fn width(&self) -> usize {
        self.numbers.len() + self.spread.iter().map(Coded::size).sum::<usize>() + self.rates.len()
    }

    pub(super) fn is_sound(&self, width: usize) -> bool {
        let columns = self.numbers.iter().chain(self.spread.iter().map(|coded| &coded.column));
        columns.into_iter().all(|column| *column < width) && self.rates.iter().all(|rated| rated.is_sound(width))
    }

    /// The arrays of the rates, by name.
    pub(super) fn arrays(&mut self) -> Vec<(String, Array<'_>)> {
        let rates = self.rates.iter_mut().enumerate();
        rates.map(|(at, rated)| (format!("inputs.rates.{at}"), Array::F32(&mut rated.logits))).collect()
    }

    pub(super) fn append(&self, values: &[f32], out: &mut Vec<f32>) {
        self.append_columns(values, out);
        out.extend(self.rates.iter().map(|rated| rated.value(values)));
    }

    fn append_columns(&self, values: &[f32], out: &mut Vec<f32>) {
        out.extend(self.numbers.iter().map(|column| values[*column]));
        for coded in &self.spread {
            let code = coded.code(values) as usize;
            out.extend((0..coded.size()).map(|it| f32::from(u8::from(it == code))));
        }
    }

    /// The inputs, and their values for the training rows (row-major, in the order of `rows`).
    pub(super) fn fit(columns: &[usize], crosses: &[Cross], table: &Table, rows: &[u32]) -> (Self, Vec<f32>) {
        let mut inputs = Self::default();
        for column in columns {
            match table.columns[*column].kind {
                ColumnKind::Category { .. } => inputs.spread.push(Coded::levels(table, rows, *column)),
                ColumnKind::Number | ColumnKind::Rate => inputs.numbers.push(*column),
            }
        }
        inputs.spread.retain(|coded| coded.size() <= SPREAD_MOST + 1);
        inputs.rates = crosses.iter().map(|cross| RatedCross::fit(cross, table, rows)).collect();
        let own: Vec<Row> = rows.iter().map(|row| table.rows[*row as usize].clone()).collect();
        let parts: Vec<Vec<u32>> = split::blocks(&own, PARTS);
        let in_table: Vec<Vec<u32>> = parts.iter().map(|part| part.iter().map(|index| rows[*index as usize]).collect()).collect();
        let mut rates = vec![vec![0.0; crosses.len()]; rows.len()];
        for (at, cross) in crosses.iter().enumerate() {
            let told = from_other_parts(cross, table, &in_table);
            for (index, rate) in parts.iter().flatten().zip(told.iter().flatten()) {
                rates[*index as usize][at] = *rate;
            }
        }
        let mut values = Vec::with_capacity(rows.len() * inputs.width());
        for (row, rates) in rows.iter().zip(&rates) {
            inputs.append_columns(table.features(*row as usize), &mut values);
            values.extend(rates);
        }
        (inputs, values)
    }
}
