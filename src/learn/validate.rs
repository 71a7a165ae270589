//! A table examined before anything is learned from it: each finding with its reason, and refusal by rule.

use super::metrics::{self, Scored};
use super::split::Split;
use super::table::{ColumnKind, Table};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// From when on something is told, and from when on the training is refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// AUC of one column by itself: above it the column is taken to know the outcome.
    pub leak_auc_most: f64,
    /// Share of approved rows, and of others.
    pub class_share_least: f64,
    pub rows_least: usize,
    /// Population stability index between training and test range: above .25 a column is said to have moved.
    pub psi_told: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { leak_auc_most: 0.95, class_share_least: 0.005, rows_least: 1_000, psi_told: 0.25 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Worth knowing.
    Told,
    /// The training is refused.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub weight: Weight,
    /// `rows`, `classes`, `duplicates`, `order`, `not_finite`, `out_of_range`, `constant`, `outliers`, `leak` or `shift`.
    pub check: String,
    pub column: Option<String>,
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    pub findings: Vec<Finding>,
    /// AUC of the strongest columns by themselves, strongest first.
    pub strongest: Vec<(String, f64)>,
}

impl Validation {
    /// Why the training is refused; empty when it is not.
    pub fn refusals(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.weight == Weight::Refused)
    }

    fn find(&mut self, weight: Weight, check: &str, column: Option<&str>, reason: String) {
        self.findings.push(Finding { weight, check: check.to_owned(), column: column.map(str::to_owned), reason });
    }
}

pub fn validate(table: &Table, split: &Split, limits: Limits) -> Validation {
    let mut found = Validation::default();
    if table.values.len() != table.rows.len() * table.columns.len() {
        found.find(Weight::Refused, "rows", None, "there are not as many values as rows times columns".to_owned());
        return found;
    }
    rows(table, limits, &mut found);
    let approved: Vec<bool> = table.rows.iter().map(|row| row.approved).collect();
    for column in 0..table.columns.len() {
        examine(table, column, (split, &approved), limits, &mut found);
    }
    found.strongest.sort_by(|a, b| b.1.total_cmp(&a.1));
    found.strongest.truncate(10);
    found
}

fn rows(table: &Table, limits: Limits, found: &mut Validation) {
    let count = table.rows.len();
    if count < limits.rows_least {
        found.find(
            Weight::Refused,
            "rows",
            None,
            format!("{count} rows; fewer than {} teach nothing that lasts", limits.rows_least),
        );
    }
    let share = table.rows.iter().filter(|row| row.approved).count() as f64 / count.max(1) as f64;
    if share < limits.class_share_least || share > 1.0 - limits.class_share_least {
        found.find(
            Weight::Refused,
            "classes",
            None,
            format!("{:.2} % are approved; one class alone cannot be told apart", share * 100.0),
        );
    }
    let mut seen = HashSet::new();
    let repeats = table.rows.iter().filter(|row| !seen.insert(row.attempt_id.as_str())).count();
    if repeats > 0 {
        found.find(
            Weight::Refused,
            "duplicates",
            None,
            format!("{repeats} rows repeat an attempt; a row in training and test is a leak"),
        );
    }
    if table.rows.windows(2).any(|two| two[0].attempted_at > two[1].attempted_at) {
        found.find(Weight::Refused, "order", None, "rows are not in order of time; a split by time needs it".to_owned());
    }
}

fn examine(table: &Table, column: usize, (split, approved): (&Split, &[bool]), limits: Limits, found: &mut Validation) {
    let declared = &table.columns[column];
    let name = declared.name.as_str();
    let values: Vec<f64> = table.values.iter().skip(column).step_by(table.columns.len()).map(|value| f64::from(*value)).collect();
    let bad = values.iter().filter(|value| !value.is_finite()).count();
    if bad > 0 {
        found.find(
            Weight::Refused,
            "not_finite",
            Some(name),
            format!("{bad} values are no numbers; the encoder must give a default"),
        );
        return;
    }
    if values.iter().all(|value| Some(value) == values.first()) {
        found.find(Weight::Told, "constant", Some(name), "has one value only, and is not used".to_owned());
        return;
    }
    if let ColumnKind::Category { size } = declared.kind {
        let outside = values.iter().filter(|value| **value < 0.0 || **value >= f64::from(size) || value.fract() != 0.0).count();
        if outside > 0 {
            found.find(Weight::Refused, "out_of_range", Some(name), format!("{outside} values are not among its {size}"));
            return;
        }
    } else {
        outliers(name, &values, found);
    }
    let area = strength(declared.kind, &values, approved);
    if area > limits.leak_auc_most {
        let reason = format!("tells the outcome by itself (AUC {area:.3}): it must know something from after the attempt");
        found.find(Weight::Refused, "leak", Some(name), reason);
    }
    found.strongest.push((name.to_owned(), area));
    let of = |rows: &[u32]| rows.iter().map(|row| values[*row as usize]).collect::<Vec<f64>>();
    let shift = psi(&of(&split.train), &of(&split.test));
    if shift > limits.psi_told {
        found.find(Weight::Told, "shift", Some(name), format!("is distributed otherwise in the test range (PSI {shift:.2})"));
    }
}

/// Values further than 20 interquartile ranges from the middle half.
fn outliers(name: &str, values: &[f64], found: &mut Validation) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[sorted.len() / 4], sorted[sorted.len() * 3 / 4]);
    let far = 20.0 * (high - low);
    let count = values.iter().filter(|value| **value < low - far || **value > high + far).count();
    if far > 0.0 && count > 0 {
        let ends = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        found.find(Weight::Told, "outliers", Some(name), format!("{count} values lie far out ({} to {})", ends.0, ends.1));
    }
}

/// AUC of a column by itself, whichever way it points; a category is told by the rates that the other half of the rows has.
fn strength(kind: ColumnKind, values: &[f64], approved: &[bool]) -> f64 {
    let told: Vec<f64> = match kind {
        ColumnKind::Number | ColumnKind::Rate => values.to_vec(),
        ColumnKind::Category { size } => {
            let mut rates = vec![[(1.0, 2.0); 2]; size as usize];
            for (row, value) in values.iter().enumerate() {
                let rate = &mut rates[*value as usize][row % 2];
                *rate = (rate.0 + f64::from(u8::from(approved[row])), rate.1 + 1.0);
            }
            let told = |(row, value): (usize, &f64)| {
                let (hits, rows) = rates[*value as usize][1 - row % 2];
                hits / rows
            };
            values.iter().enumerate().map(told).collect()
        }
    };
    let area = metrics::auc(Scored { probabilities: &told, approved }).unwrap_or(0.5);
    area.max(1.0 - area)
}

/// Population stability index over the tenths of the first.
pub(super) fn psi(before: &[f64], after: &[f64]) -> f64 {
    let mut sorted = before.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> = (1..10).filter_map(|tenth| sorted.get(sorted.len() * tenth / 10).copied()).collect();
    edges.dedup();
    let shares = |values: &[f64]| {
        let mut counts = vec![0.5; edges.len() + 1];
        for value in values {
            counts[edges.partition_point(|edge| edge < value)] += 1.0;
        }
        let sum: f64 = counts.iter().sum();
        counts.into_iter().map(move |count| count / sum).collect::<Vec<f64>>()
    };
    shares(before).iter().zip(shares(after)).map(|(a, b)| (b - a) * (b / a).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::super::split::{Shares, split};
    use super::super::table::Table;
    use super::*;

    /// What is found in a good table after a change: (check, column, refused).
    fn found(change: impl Fn(&mut Table)) -> Vec<(String, Option<String>, bool)> {
        let mut table = fixtures::table(2_000, 8);
        change(&mut table);
        let found = validate(&table, &split(&table.rows, Shares::default()), Limits::default());
        found.findings.into_iter().map(|it| (it.check, it.column, it.weight == Weight::Refused)).collect()
    }

    type Change<'a> = Box<dyn Fn(&mut Table) + 'a>;

    #[test]
    fn each_fault_is_found_and_a_good_table_has_none() {
        let put = |table: &mut Table, column: usize, value: &dyn Fn(usize, bool) -> f32| {
            for row in 0..table.rows.len() {
                table.values[row * 4 + column] = value(row, table.rows[row].approved);
            }
        };
        // change, check, column, refused
        let cases: [(Change<'_>, &str, Option<&str>, bool); 9] = [
            (Box::new(|it| drop(it.rows.pop())), "rows", None, true),
            (Box::new(|it| it.rows.iter_mut().for_each(|row| row.approved = false)), "classes", None, true),
            (Box::new(|it| it.rows[1].attempt_id = it.rows[0].attempt_id.clone()), "duplicates", None, true),
            (Box::new(|it| it.rows[1].attempted_at = -1), "order", None, true),
            (Box::new(|it| it.values[3] = f32::NAN), "not_finite", Some("noise"), true),
            (Box::new(|it| it.values[0] = 9.0), "out_of_range", Some("candidate_psp"), true),
            (Box::new(|it| put(it, 3, &|_, _| 1.0)), "constant", Some("noise"), false),
            (
                Box::new(|it| put(it, 3, &|row, approved| if approved { 1.0 } else { (row % 3) as f32 * 0.1 })),
                "leak",
                Some("noise"),
                true,
            ),
            (Box::new(|it| put(it, 3, &|row, _| row as f32)), "shift", Some("noise"), false),
        ];
        assert_eq!(found(|_| ()), []);
        for (change, check, column, refused) in cases {
            let found = found(change);
            let expected = (check.to_owned(), column.map(str::to_owned), refused);
            assert!(found.contains(&expected), "{check}: {found:?}");
        }
    }
}
