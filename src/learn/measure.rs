//! A model measured on rows: all together and slice by slice, with intervals; and the points of its curves.

use super::interval::{Estimate, Samples};
use super::metrics::{self, Point, ReliabilityBin, Scored};
use super::table::Row;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SAMPLES: usize = 400;
const SAMPLES_OF_SLICE: usize = 200;
const POINTS: usize = 100;
/// A slice of fewer rows is not told: its figures would be noise.
const SLICE_ROWS_LEAST: usize = 100;
/// Attempts from this one on are one slice.
const ATTEMPTS_TOGETHER: i32 = 4;

/// Figures with 95 % intervals, from samples of whole payments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub rows: usize,
    pub positives: usize,
    pub auc: Option<Estimate>,
    pub log_loss: Option<Estimate>,
    pub brier: Option<Estimate>,
    pub ece: Option<Estimate>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// `psp`, `brand`, `issuer_country`, `attempt_number` or `amount_band`.
    pub slice: String,
    #[serde(flatten)]
    pub measured: Measured,
}

/// What is plotted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    pub reliability: Vec<ReliabilityBin>,
    pub points: Vec<Point>,
}

impl Curves {
    pub fn of(scored: Scored<'_>) -> Self {
        Self { reliability: metrics::reliability(scored, metrics::ECE_BINS), points: metrics::curve(scored, POINTS) }
    }
}

/// `probabilities[i]` is said of `rows[i]`.
pub fn measure(name: &str, probabilities: &[f64], rows: &[&Row], seed: u64) -> Measured {
    measure_by(name, probabilities, rows, SAMPLES, seed)
}

/// How much the figures of the first are above those of the second: both on the same rows and the same samples, so that what makes
/// rows hard for both drops out.
pub fn difference(name: &str, [first, second]: [&[f64]; 2], rows: &[&Row], seed: u64) -> Measured {
    figures(name, (first, Some(second)), rows, SAMPLES, seed)
}

fn measure_by(name: &str, probabilities: &[f64], rows: &[&Row], samples: usize, seed: u64) -> Measured {
    figures(name, (probabilities, None), rows, samples, seed)
}

/// Of what is said, less the same figure of what else was said.
fn figures(name: &str, (said, less): (&[f64], Option<&[f64]>), rows: &[&Row], samples: usize, seed: u64) -> Measured {
    let approved: Vec<bool> = rows.iter().map(|row| row.approved).collect();
    let samples = Samples::draw(rows.iter().map(|row| row.payment_id.as_str()), samples, seed);
    let estimate = |figure: fn(Scored<'_>) -> Option<f64>| {
        samples.estimate(rows.len(), |drawn| {
            let approved: Vec<bool> = drawn.iter().map(|row| approved[*row as usize]).collect();
            let of = |said: &[f64]| {
                let probabilities: Vec<f64> = drawn.iter().map(|row| said[*row as usize]).collect();
                figure(Scored { probabilities: &probabilities, approved: &approved })
            };
            Some(of(said)? - less.map_or(Some(0.0), of)?)
        })
    };
    Measured {
        name: name.to_owned(),
        rows: rows.len(),
        positives: approved.iter().filter(|it| **it).count(),
        auc: estimate(metrics::auc),
        log_loss: estimate(metrics::log_loss),
        brier: estimate(metrics::brier),
        ece: estimate(metrics::ece),
    }
}

/// What a row is in a slice.
type Value<'a> = &'a dyn Fn(&Row) -> String;

/// By PSP, brand, issuer country, attempt number and quarter of the amounts.
pub fn slices(probabilities: &[f64], rows: &[&Row], seed: u64) -> Vec<Slice> {
    let mut slices = Vec::new();
    for Group { slice, value, members } in groups(rows, SLICE_ROWS_LEAST) {
        let said: Vec<f64> = members.iter().map(|index| probabilities[*index]).collect();
        let of: Vec<&Row> = members.iter().map(|index| rows[*index]).collect();
        slices.push(Slice { slice: slice.to_owned(), measured: measure_by(&value, &said, &of, SAMPLES_OF_SLICE, seed) });
    }
    slices
}

/// Rows that are alike in something.
pub(super) struct Group {
    pub(super) slice: &'static str,
    pub(super) value: String,
    /// Indexes of rows.
    pub(super) members: Vec<usize>,
}

/// The groups of at least so many rows.
pub(super) fn groups(rows: &[&Row], rows_least: usize) -> Vec<Group> {
    let mut amounts: Vec<i64> = rows.iter().map(|row| row.amount_minor).collect();
    amounts.sort_unstable();
    let quarter = |share: usize| amounts.get(amounts.len() * share / 4).copied().unwrap_or(0);
    let bands = [quarter(1), quarter(2), quarter(3)];
    let band = |row: &Row| match bands.partition_point(|edge| *edge <= row.amount_minor) {
        0 => format!("below {}", bands[0]),
        at => format!("from {}", bands[at - 1]),
    };
    let attempt = |row: &Row| match row.attempt_number {
        number if number < ATTEMPTS_TOGETHER => number.to_string(),
        _ => format!("{ATTEMPTS_TOGETHER} and later"),
    };
    let of: [(&str, Value<'_>); 5] = [
        ("psp", &|row| row.psp_id.as_str().to_owned()),
        ("brand", &|row| row.brand.clone()),
        ("issuer_country", &|row| row.issuer_country.clone()),
        ("attempt_number", &attempt),
        ("amount_band", &band),
    ];
    let mut groups = Vec::new();
    for (slice, value) in of {
        let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            members.entry(value(row)).or_default().push(index);
        }
        let large = members.into_iter().filter(|(_, members)| members.len() >= rows_least);
        groups.extend(large.map(|(value, members)| Group { slice, value, members }));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn slices_hold_all_rows_once_for_each_kind() {
        let mut table = fixtures::table(800, 2);
        for (index, row) in table.rows.iter_mut().enumerate() {
            row.amount_minor = index as i64;
            row.attempt_number = index as i32 % 6 + 1;
        }
        let rows: Vec<&Row> = table.rows.iter().collect();
        let said = vec![0.2; rows.len()];
        let found = slices(&said, &rows, 1);
        let of = |slice: &str| found.iter().filter(|it| it.slice == slice).map(|it| it.measured.rows).sum::<usize>();
        assert_eq!(["psp", "brand", "issuer_country", "attempt_number", "amount_band"].map(of), [800; 5]);
        let bands: Vec<&str> = found.iter().filter(|it| it.slice == "amount_band").map(|it| it.measured.name.as_str()).collect();
        assert_eq!(bands, ["below 200", "from 200", "from 400", "from 600"]);
        assert!(found.iter().all(|it| it.measured.auc.is_none_or(|auc| auc.value == 0.5 && auc.low == 0.5)));
    }

    /// On the same samples: what both miss drops out, and the interval is narrower than either's.
    #[test]
    fn a_difference_is_paired() {
        let table = fixtures::table(800, 2);
        let rows: Vec<&Row> = table.rows.iter().collect();
        let said: Vec<f64> = (0..rows.len()).map(|row| f64::from(table.features(row)[0]) / 4.0 * 0.4 + 0.05).collect();
        let less: Vec<f64> = said.iter().map(|p| p * 0.9).collect();
        let one = measure("one", &said, &rows, 1);
        let found = difference("d", [&said, &less], &rows, 1);
        let other = measure("other", &less, &rows, 1);
        let value = |measured: &Measured| measured.log_loss.unwrap().value;
        assert!((value(&found) - (value(&one) - value(&other))).abs() < 1e-12);
        let width = |measured: &Measured| measured.log_loss.map(|it| it.high - it.low).unwrap();
        assert!(width(&found) < 0.5 * width(&one), "{} {}", width(&found), width(&one));
        assert_eq!(found.auc.map(|it| (it.value, it.low, it.high)), Some((0.0, 0.0, 0.0)), "the order is the same");
        assert_eq!(difference("none", [&[], &[]], &[], 1).auc, None);
    }
}
