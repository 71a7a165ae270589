//! 95 % intervals by bootstrap over whole payments: attempts of one payment are not independent of each other.

use super::draw::Draw;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A figure with the interval that holds it in 95 samples of 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// Samples of whole payments, drawn once: each is the rows that it holds, with repeats.
pub struct Samples(Vec<Vec<u32>>);

impl Samples {
    /// `payments`: of each row.
    pub fn draw<'a>(payments: impl Iterator<Item = &'a str>, samples: usize, seed: u64) -> Self {
        let mut blocks: Vec<Vec<u32>> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (row, payment) in payments.enumerate() {
            let block = *known.entry(payment).or_insert_with(|| {
                blocks.push(Vec::new());
                blocks.len() - 1
            });
            blocks[block].push(row as u32);
        }
        let mut draw = Draw::new(seed, 1);
        let one = |_| (0..blocks.len()).flat_map(|_| blocks[draw.below(blocks.len())].clone()).collect();
        Self((0..samples).map(one).collect())
    }

    /// The figure of all rows with its interval from the samples; `None` where the figure is not defined on all rows.
    pub fn estimate(&self, rows: usize, figure: impl Fn(&[u32]) -> Option<f64>) -> Option<Estimate> {
        let all: Vec<u32> = (0..rows as u32).collect();
        let value = figure(&all)?;
        let mut found: Vec<f64> = self.0.iter().filter_map(|sample| figure(sample)).collect();
        found.sort_by(f64::total_cmp);
        let at = |share: f64| found.get(((found.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(value);
        Some(Estimate { value, low: at(0.025), high: at(0.975) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(values: &[f64]) -> impl Fn(&[u32]) -> Option<f64> {
        |rows| (!rows.is_empty()).then(|| rows.iter().map(|row| values[*row as usize]).sum::<f64>() / rows.len() as f64)
    }

    #[test]
    fn the_interval_is_that_of_the_mean() {
        // 400 payments of one row, half of them 1: the mean has a standard error of .025.
        let names: Vec<String> = (0..400).map(|row| row.to_string()).collect();
        let values: Vec<f64> = (0..400).map(|row| f64::from(row % 2)).collect();
        let samples = Samples::draw(names.iter().map(String::as_str), 2_000, 7);
        let found = samples.estimate(400, mean_of(&values)).unwrap();
        assert_eq!(found.value, 0.5);
        assert!((found.low - 0.451).abs() < 0.006 && (found.high - 0.549).abs() < 0.006, "{found:?}");
    }

    #[test]
    fn rows_of_one_payment_come_together() {
        // 100 payments of four equal rows: as uncertain as 100 rows, not as 400.
        let names: Vec<String> = (0..400).map(|row| (row / 4).to_string()).collect();
        let values: Vec<f64> = (0..400).map(|row| f64::from(row / 4 % 2)).collect();
        let samples = Samples::draw(names.iter().map(String::as_str), 2_000, 7);
        let found = samples.estimate(400, mean_of(&values)).unwrap();
        assert!((found.high - found.low - 0.196).abs() < 0.02, "{found:?}");
    }

    #[test]
    fn of_nothing_there_is_no_estimate() {
        assert_eq!(Samples::draw(std::iter::empty(), 10, 1).estimate(0, mean_of(&[])), None);
    }
}
