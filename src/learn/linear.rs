//! Logistic regression over crosses: one weight for each cell of each cross and of its prefixes, held back by a ridge.
//!
//! The problem is convex and its columns are sparse, so it is solved exactly, cell by cell (Newton on one coordinate), instead of being
//! approached by gradient steps: the same data gives the same weights, without a rate, a seed or an early stop to choose.

use super::crosses::Cross;
use super::rates::{logit, sigmoid};
use super::table::Table;
use serde::{Deserialize, Serialize};

const PASSES_MOST: usize = 60;
/// A pass that moves no weight by more than this is the last.
const STILL: f64 = 1e-4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Linear {
    pub(super) crosses: Vec<Cross>,
    pub(super) bias: f64,
    /// Of the cells of all crosses, one cross after the other.
    #[serde(skip)]
    pub(super) weights: Vec<f32>,
}

impl Linear {
    pub(super) fn logit(&self, values: &[f32]) -> f64 {
        let mut from = 0;
        let mut sum = self.bias;
        for cross in &self.crosses {
            sum += f64::from(self.weights.get(from + cross.cell(values)).copied().unwrap_or(0.0));
            from += cross.cells();
        }
        sum
    }

    pub(super) fn is_sound(&self, width: usize) -> bool {
        self.crosses.iter().all(|cross| cross.is_sound(width))
            && self.weights.len() == self.crosses.iter().map(Cross::cells).sum::<usize>()
    }

    pub(super) fn fit(found: &[Cross], table: &Table, rows: &[u32], ridge: f64) -> Self {
        let crosses = with_prefixes(found);
        let mut problem = Problem::of(&crosses, table, rows);
        for _ in 0..PASSES_MOST {
            if problem.pass(ridge) < STILL {
                break;
            }
        }
        Self { crosses, bias: problem.bias, weights: problem.weights.iter().map(|it| *it as f32).collect() }
    }
}

/// The crosses and their prefixes, each once.
fn with_prefixes(found: &[Cross]) -> Vec<Cross> {
    let mut crosses: Vec<Cross> = Vec::new();
    for cross in found.iter().flat_map(Cross::prefixes) {
        if !crosses.contains(&cross) {
            crosses.push(cross);
        }
    }
    crosses
}

struct Problem {
    /// Rows of each cell, and where the cell's begin.
    members: Vec<u32>,
    starts: Vec<usize>,
    approved: Vec<f64>,
    logits: Vec<f64>,
    weights: Vec<f64>,
    bias: f64,
}

impl Problem {
    fn of(crosses: &[Cross], table: &Table, rows: &[u32]) -> Self {
        let cells: usize = crosses.iter().map(Cross::cells).sum();
        let mut by_cell: Vec<Vec<u32>> = vec![Vec::new(); cells];
        let mut from = 0;
        for cross in crosses {
            for (index, row) in rows.iter().enumerate() {
                by_cell[from + cross.cell(table.features(*row as usize))].push(index as u32);
            }
            from += cross.cells();
        }
        let mut starts = vec![0];
        starts.extend(by_cell.iter().scan(0, |end, members| {
            *end += members.len();
            Some(*end)
        }));
        let approved: Vec<f64> = rows.iter().map(|row| f64::from(u8::from(table.rows[*row as usize].approved))).collect();
        let bias = logit((approved.iter().sum::<f64>() + 0.2) / (approved.len() as f64 + 1.0));
        let logits = vec![bias; rows.len()];
        Self { members: by_cell.concat(), starts, approved, logits, weights: vec![0.0; cells], bias }
    }

    /// One step on every weight and on the bias; the largest of them.
    fn pass(&mut self, ridge: f64) -> f64 {
        let mut largest = 0.0_f64;
        for cell in 0..self.weights.len() {
            let members = &self.members[self.starts[cell]..self.starts[cell + 1]];
            if members.is_empty() {
                continue;
            }
            let (slope, curvature) = slope(members.iter().map(|row| *row as usize), &self.logits, &self.approved);
            let step = (slope - ridge * self.weights[cell]) / (curvature + ridge);
            self.weights[cell] += step;
            for row in members {
                self.logits[*row as usize] += step;
            }
            largest = largest.max(step.abs());
        }
        let (slope, curvature) = slope(0..self.logits.len(), &self.logits, &self.approved);
        let step = slope / curvature.max(1e-9);
        self.bias += step;
        self.logits.iter_mut().for_each(|logit| *logit += step);
        largest.max(step.abs())
    }
}

/// Of the log likelihood along the sum of these rows' logits.
fn slope(rows: impl Iterator<Item = usize>, logits: &[f64], approved: &[f64]) -> (f64, f64) {
    rows.fold((0.0, 0.0), |(slope, curvature), row| {
        let p = sigmoid(logits[row]);
        (slope + approved[row] - p, curvature + p * (1.0 - p))
    })
}

#[cfg(test)]
mod tests {
    use super::super::crosses::{By, Coded};
    use super::super::fixtures;
    use super::*;

    fn cross(columns: &[usize]) -> Cross {
        Cross { parts: columns.iter().map(|column| Coded { column: *column, by: By::Levels(vec![1.0, 2.0, 3.0]) }).collect() }
    }

    #[test]
    fn without_a_ridge_it_is_the_share_of_each_cell() {
        let table = fixtures::table(3_000, 5);
        let rows: Vec<u32> = (0..3_000).collect();
        let fitted = Linear::fit(&[cross(&[0, 1])], &table, &rows, 1e-6);
        let cell = |row: &u32| table.features(*row as usize)[..2] == [2.0, 3.0];
        let of: Vec<&u32> = rows.iter().filter(|row| cell(row)).collect();
        let share = of.iter().filter(|row| table.rows[***row as usize].approved).count() as f64 / of.len() as f64;
        assert!((sigmoid(fitted.logit(&[2.0, 3.0, 0.0, 0.0])) - share).abs() < 0.002, "{share}");
    }

    #[test]
    fn the_gradient_is_nil_at_the_solution() {
        let table = fixtures::table(2_000, 6);
        let rows: Vec<u32> = (0..2_000).collect();
        let ridge = 4.0;
        let fitted = Linear::fit(&[cross(&[0, 1]), cross(&[1])], &table, &rows, ridge);
        let mut residuals = vec![0.0; fitted.weights.len()];
        for row in &rows {
            let values = table.features(*row as usize);
            let residual = f64::from(u8::from(table.rows[*row as usize].approved)) - sigmoid(fitted.logit(values));
            let mut from = 0;
            for cross in &fitted.crosses {
                residuals[from + cross.cell(values)] += residual;
                from += cross.cells();
            }
        }
        for (residual, weight) in residuals.iter().zip(&fitted.weights) {
            assert!((residual - ridge * f64::from(*weight)).abs() < 0.1, "{residual} {weight}");
        }
    }
}
