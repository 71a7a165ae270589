//! What features look like at serving: the last rows that decisions were made from, and figures of each feature over them.
//!
//! Owns nothing durable. Rows are kept as they are: what is asked of them (missing, range, quantiles) is worked out when it is told.

use crate::engine::features::Encoder;
use crate::telemetry;
use metrics::gauge;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Rows that figures are over: a share of 5 % is told to 1 % either way.
const ROWS: usize = 1_000;

/// Rows of candidates, newest last.
#[derive(Debug, Default)]
pub struct FeatureStats {
    rows: Mutex<VecDeque<Vec<f32>>>,
}

/// A feature over the last rows, after its transform.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    /// Share of rows in which it is missing; of a category, unknown.
    missing: f64,
    min: f64,
    p10: f64,
    median: f64,
    p90: f64,
    max: f64,
    mean: f64,
}

impl FeatureStats {
    /// Takes the rows of one decision.
    pub(super) fn saw(&self, rows: &[f32], width: usize) {
        let mut kept = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows.chunks_exact(width.max(1)) {
            let mut place = if kept.len() >= ROWS { kept.pop_front().unwrap_or_default() } else { Vec::new() };
            place.clear();
            place.extend_from_slice(row);
            kept.push_back(place);
        }
    }

    /// Tells the figures of every feature to dashboards.
    pub(super) fn tell(&self, encoder: &Encoder) {
        let rows: Vec<Vec<f32>> = self.rows.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        if rows.is_empty() {
            return;
        }
        for (index, feature) in encoder.catalogue().features.iter().enumerate() {
            let Some(Figures { missing, min, p10, median, p90, max, mean }) = figures(encoder, index, &rows) else { continue };
            for (figure, value) in
                [("missing", missing), ("min", min), ("p10", p10), ("p50", median), ("p90", p90), ("max", max), ("mean", mean)]
            {
                gauge!(telemetry::FEATURE, "feature" => feature.name.clone(), "figure" => figure).set(value);
            }
        }
    }
}

/// Of the feature's first column; its indicator says where it is missing, or the code 0 of a category.
fn figures(encoder: &Encoder, feature: usize, rows: &[Vec<f32>]) -> Option<Figures> {
    let columns = encoder.columns();
    let mut places = encoder.columns_of(feature);
    let first = places.next()?;
    let indicator = places.last().filter(|place| columns[*place].name.ends_with("_missing"));
    let is_category = columns[first].category_size.is_some();
    let is_missing = |row: &&Vec<f32>| indicator.map_or(is_category && row[first] == 0.0, |column| row[column] > 0.5);
    let mut values: Vec<f64> = rows.iter().map(|row| f64::from(row[first])).collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values.get(((values.len() - 1) as f64 * share).round() as usize).copied();
    Some(Figures {
        missing: rows.iter().filter(is_missing).count() as f64 / rows.len() as f64,
        min: at(0.0)?,
        p10: at(0.1)?,
        median: at(0.5)?,
        p90: at(0.9)?,
        max: at(1.0)?,
        mean: values.iter().sum::<f64>() / values.len() as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::features::Catalogue;

    #[test]
    fn figures_are_over_the_last_rows() {
        let encoder = Encoder::new(Catalogue::shipped().unwrap());
        let at = |name: &str| encoder.columns().iter().position(|column| column.name == name).unwrap();
        let (amount, bank, age, unknown) =
            (at("amount"), at("card_bank"), at("seconds_since_tried"), at("seconds_since_tried_missing"));
        let stats = FeatureStats::default();
        for number in 0..(ROWS + 500) {
            let mut row = vec![0.0; encoder.width()];
            (row[amount], row[bank]) = (number as f32, (number % 4) as f32);
            (row[age], row[unknown]) = (1.0, f32::from(u8::from(number % 10 == 0)));
            stats.saw(&row, encoder.width());
        }
        let rows: Vec<Vec<f32>> = stats.rows.lock().unwrap().iter().cloned().collect();
        assert_eq!(rows.len(), ROWS);
        let of = |name: &str| {
            let feature = encoder.catalogue().features.iter().position(|feature| feature.name == name).unwrap();
            figures(&encoder, feature, &rows).unwrap()
        };
        let amount = of("amount");
        assert_eq!((amount.min, amount.median, amount.max, amount.missing), (500.0, 1_000.0, 1_499.0, 0.0));
        assert_eq!((of("card_bank").missing, of("seconds_since_tried").missing), (0.25, 0.1));
        stats.tell(&encoder);
    }
}
