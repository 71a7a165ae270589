//! A model measured on rows: all together and slice by slice, with intervals; and the points of its curves.

use super::interval::{Estimate, Samples};
use super::metrics::{self, Point, ReliabilityBin, Scored};
use super::table::Row;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SAMPLES: usize = 400;
const SAMPLES_OF_SLICE: usize = 200;
const POINTS: usize = 100;
const TENTHS: usize = 10;
/// Rows that are told one by one.
const MISSES: usize = 20;
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

/// A tenth of the rows, likeliest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    pub rows: usize,
    /// Mean of what was said, and what came of it.
    pub probability: f64,
    pub share: f64,
    /// How many times the share of all rows.
    pub lift: f64,
    /// Approvals up to here, as a share of all.
    pub recall: f64,
}

/// By how much a model is better than another on the same rows, with intervals of the difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    pub name: String,
    pub auc_more: Option<Estimate>,
    pub log_loss_less: Option<Estimate>,
}

/// A row that came out otherwise than was said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    pub attempt_id: String,
    pub psp_id: String,
    pub brand: String,
    pub issuer_country: String,
    pub attempt_number: i32,
    pub amount_minor: i64,
    pub currency: String,
    pub probability: f64,
    pub approved: bool,
}

pub(super) fn gains(scored: Scored<'_>) -> Vec<Gain> {
    let mut order: Vec<usize> = (0..scored.approved.len()).collect();
    order.sort_by(|a, b| scored.probabilities[*b].total_cmp(&scored.probabilities[*a]));
    let hits = |rows: &[usize]| rows.iter().filter(|row| scored.approved[**row]).count() as f64;
    let all = hits(&order).max(1.0);
    let tenth = |at: usize| {
        let (from, to) = (order.len() * at / TENTHS, order.len() * (at + 1) / TENTHS);
        let rows = &order[from..to];
        let count = rows.len().max(1) as f64;
        let share = hits(rows) / count;
        Gain {
            rows: rows.len(),
            probability: rows.iter().map(|row| scored.probabilities[*row]).sum::<f64>() / count,
            share,
            lift: share * order.len() as f64 / all,
            recall: hits(&order[..to]) / all,
        }
    };
    (0..TENTHS).map(tenth).collect()
}

/// `said` by the model, and by the other that is named, of `rows`.
pub(super) fn versus(name: &str, [said, other]: [&[f64]; 2], rows: &[&Row], seed: u64) -> Versus {
    let samples = Samples::draw(rows.iter().map(|row| row.payment_id.as_str()), SAMPLES, seed);
    let more = |figure: fn(Scored<'_>) -> Option<f64>, sign: f64| {
        samples.estimate(rows.len(), |drawn| {
            let approved: Vec<bool> = drawn.iter().map(|row| rows[*row as usize].approved).collect();
            let of = |said: &[f64]| {
                let probabilities: Vec<f64> = drawn.iter().map(|row| said[*row as usize]).collect();
                figure(Scored { probabilities: &probabilities, approved: &approved })
            };
            Some(sign * (of(said)? - of(other)?))
        })
    };
    Versus { name: name.to_owned(), auc_more: more(metrics::auc, 1.0), log_loss_less: more(metrics::log_loss, -1.0) }
}

/// Those that the model was surest of, and wrong.
pub(super) fn misses(probabilities: &[f64], rows: &[&Row]) -> Vec<Miss> {
    let off = |row: usize| (probabilities[row] - f64::from(u8::from(rows[row].approved))).abs();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| off(*b).total_cmp(&off(*a)));
    let miss = |row: &usize| {
        let it = rows[*row];
        Miss {
            attempt_id: it.attempt_id.clone(),
            psp_id: it.psp_id.as_str().to_owned(),
            brand: it.brand.clone(),
            issuer_country: it.issuer_country.clone(),
            attempt_number: it.attempt_number,
            amount_minor: it.amount_minor,
            currency: it.currency.clone(),
            probability: probabilities[*row],
            approved: it.approved,
        }
    };
    order.iter().take(MISSES).map(miss).collect()
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
    fn a_model_that_knows_is_ahead_and_its_misses_are_told() {
        let table = fixtures::table(1_000, 2);
        let rows: Vec<&Row> = table.rows.iter().collect();
        let approved: Vec<bool> = rows.iter().map(|row| row.approved).collect();
        let mut said: Vec<f64> = approved.iter().map(|approved| if *approved { 0.9 } else { 0.1 }).collect();
        said[7] = if approved[7] { 0.01 } else { 0.99 };
        let ahead = versus("constant", [&said, &vec![0.2; 1_000]], &rows, 1);
        assert!(ahead.auc_more.is_some_and(|it| it.low > 0.4) && ahead.log_loss_less.is_some_and(|it| it.low > 0.1));
        assert_eq!(misses(&said, &rows)[0].attempt_id, rows[7].attempt_id);
        let gains = gains(Scored { probabilities: &said, approved: &approved });
        assert_eq!(gains.iter().map(|gain| gain.rows).sum::<usize>(), 1_000);
        assert!(gains[0].lift > 2.0 && gains[9].share < 0.05 && gains[9].recall == 1.0, "{gains:?}");
    }

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
