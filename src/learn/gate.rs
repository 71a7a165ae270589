//! Whether a model may decide: by bounds on its own figures, and on how it differs from the champion on the same rows.
//!
//! The verdict is a list of rules, each with what was found and what is allowed, so that a rejection says why.

use super::measure::{Measured, difference, groups, measure};
use super::metrics::{self, Scored};
use super::table::Row;
use serde::{Deserialize, Serialize};

/// What is asked of a model. What moving each does stands in `default.toml`, under `models.gate`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    pub rows_min: usize,
    pub auc_min: f64,
    pub log_loss_max: f64,
    pub ece_max: f64,
    pub row_us_max: f64,
    /// Against the champion, as all that follow.
    pub auc_gain_min: f64,
    pub log_loss_rise_max: f64,
    pub ece_rise_max: f64,
    pub slice_auc_loss_max: f64,
    pub slice_rows_min: usize,
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub name: &'a str,
    /// Of each row.
    pub said: &'a [f64],
    /// What the champion says of the same rows.
    pub champion: Option<&'a [f64]>,
    /// Time to score a row, microseconds.
    pub row_us: f64,
}

/// A rule, what was found, and whether it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The name of its bound.
    pub rule: String,
    /// Such as `psp worldpay`; absent when it is about all rows.
    pub slice: Option<String>,
    /// Absent when it is not defined, which passes no rule.
    pub found: Option<f64>,
    pub bound: f64,
    pub holds: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub blessed: bool,
    pub model: Measured,
    /// The model's figures less the champion's.
    pub difference: Option<Measured>,
    pub checks: Vec<Check>,
}

impl Check {
    fn least(rule: &str, found: Option<f64>, bound: f64) -> Self {
        Self { rule: rule.to_owned(), slice: None, found, bound, holds: found.is_some_and(|found| found >= bound) }
    }

    fn most(rule: &str, found: Option<f64>, bound: f64) -> Self {
        Self { rule: rule.to_owned(), slice: None, found, bound, holds: found.is_some_and(|found| found <= bound) }
    }

    /// In words, such as `ece_max: 0.0410, at most 0.03`.
    pub fn text(&self) -> String {
        let of = self.slice.as_deref().map(|slice| format!(" of {slice}")).unwrap_or_default();
        let found = self.found.map_or_else(|| "not defined".to_owned(), short);
        let side = if self.rule.ends_with("_max") { "at most" } else { "at least" };
        format!("{}{of}: {found}, {side} {}", self.rule, self.bound)
    }
}

/// Four digits behind the point; none for counts.
fn short(found: f64) -> String {
    if found.fract() == 0.0 { found.to_string() } else { format!("{found:.4}") }
}

impl Judgement {
    /// The rules that do not hold, in words.
    pub fn reasons(&self) -> impl Iterator<Item = String> + '_ {
        self.checks.iter().filter(|check| !check.holds).map(Check::text)
    }
}

/// `rows`: which neither model has learned from.
pub fn judge(bounds: &Bounds, candidate: Candidate<'_>, rows: &[&Row], seed: u64) -> Judgement {
    let model = measure(candidate.name, candidate.said, rows, seed);
    let value = |of: Option<super::interval::Estimate>| of.map(|it| it.value);
    let mut checks = vec![
        Check::least("rows_min", Some(rows.len() as f64), bounds.rows_min as f64),
        Check::least("auc_min", value(model.auc), bounds.auc_min),
        Check::most("log_loss_max", value(model.log_loss), bounds.log_loss_max),
        Check::most("ece_max", value(model.ece), bounds.ece_max),
        Check::most("row_us_max", Some(candidate.row_us), bounds.row_us_max),
    ];
    let difference = candidate.champion.map(|champion| {
        let difference = difference("difference", [candidate.said, champion], rows, seed);
        checks.push(Check::least("auc_gain_min", value(difference.auc), bounds.auc_gain_min));
        checks.push(Check::most("log_loss_rise_max", value(difference.log_loss), bounds.log_loss_rise_max));
        checks.push(Check::most("ece_rise_max", value(difference.ece), bounds.ece_rise_max));
        checks.extend(slices(bounds, [candidate.said, champion], rows));
        difference
    });
    Judgement { blessed: checks.iter().all(|check| check.holds), model, difference, checks }
}

/// Slices in which nothing or everything was approved have no AUC, and no rule.
fn slices(bounds: &Bounds, said: [&[f64]; 2], rows: &[&Row]) -> Vec<Check> {
    let mut checks = Vec::new();
    for group in groups(rows, bounds.slice_rows_min) {
        let approved: Vec<bool> = group.members.iter().map(|index| rows[*index].approved).collect();
        let auc = |said: &[f64]| {
            let probabilities: Vec<f64> = group.members.iter().map(|index| said[*index]).collect();
            metrics::auc(Scored { probabilities: &probabilities, approved: &approved })
        };
        if let [Some(own), Some(champion)] = said.map(auc) {
            let check = Check::most("slice_auc_loss_max", Some(champion - own), bounds.slice_auc_loss_max);
            checks.push(Check { slice: Some(format!("{} {}", group.slice, group.value)), ..check });
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    const BOUNDS: Bounds = Bounds {
        rows_min: 100,
        auc_min: 0.55,
        log_loss_max: 0.6,
        ece_max: 0.05,
        row_us_max: 100.0,
        auc_gain_min: 0.0,
        log_loss_rise_max: 0.0,
        ece_rise_max: 0.01,
        slice_auc_loss_max: 0.02,
        slice_rows_min: 200,
    };

    /// The chances that the fixture's rows are drawn by.
    fn truth(rows: &[&Row], table: &super::super::table::Table) -> Vec<f64> {
        let chance =
            |(index, row): (usize, &&Row)| match (row.psp_id.as_str(), row.brand.as_str(), table.features(index)[2] > 0.5) {
                ("p1", "b2", _) => 0.6,
                ("p0", _, true) => 0.05,
                _ => 0.2,
            };
        rows.iter().enumerate().map(chance).collect()
    }

    #[test]
    fn a_rejection_says_which_rule_and_by_how_much() {
        let table = fixtures::table(3_000, 5);
        let rows: Vec<&Row> = table.rows.iter().collect();
        let good = truth(&rows, &table);
        let flat = vec![0.22; rows.len()];
        let bold: Vec<f64> = good.iter().map(|p| (p * 1.4).min(1.0)).collect();
        // As good, but of one PSP it knows nothing.
        let blind: Vec<f64> =
            good.iter().zip(&rows).map(|(p, row)| if row.psp_id.as_str() == "p0" { 0.12 } else { *p }).collect();
        let broken = |bounds: &Bounds, said: &[f64], champion: Option<&[f64]>, row_us: f64| {
            let found = judge(bounds, Candidate { name: "m", said, champion, row_us }, &rows, 1);
            assert_eq!(found.blessed, found.reasons().next().is_none());
            assert_eq!(found.difference.is_some(), champion.is_some());
            let named = |check: &&Check| !check.holds;
            let rules: Vec<String> = found.checks.iter().filter(named).map(|it| it.rule.clone()).collect();
            (rules, found)
        };
        let rules = |bounds: &Bounds, said, champion, row_us| broken(bounds, said, champion, row_us).0;
        assert_eq!(rules(&BOUNDS, &good, None, 9.0), [""; 0]);
        assert_eq!(rules(&BOUNDS, &good, Some(&good), 9.0), [""; 0]);
        assert_eq!(rules(&BOUNDS, &good, Some(&flat), 9.0), [""; 0]);
        assert_eq!(rules(&BOUNDS, &good, Some(&flat), 101.0), ["row_us_max"]);
        assert_eq!(rules(&BOUNDS, &flat, None, 9.0), ["auc_min"]);
        assert_eq!(rules(&BOUNDS, &bold, None, 9.0), ["ece_max"]);
        assert_eq!(rules(&Bounds { rows_min: 5_000, ..BOUNDS }, &good, None, 9.0), ["rows_min"]);
        assert_eq!(rules(&Bounds { log_loss_max: 0.3, ..BOUNDS }, &good, None, 9.0), ["log_loss_max"]);
        assert_eq!(rules(&Bounds { ece_max: 1.0, ..BOUNDS }, &bold, Some(&good), 9.0), ["log_loss_rise_max", "ece_rise_max"]);
        assert_eq!(rules(&Bounds { auc_gain_min: 0.001, ..BOUNDS }, &good, Some(&good), 9.0), ["auc_gain_min"]);
        let loose = Bounds { auc_gain_min: -1.0, log_loss_rise_max: 1.0, ece_rise_max: 1.0, slice_rows_min: 900, ..BOUNDS };
        let (rules, found) = broken(&loose, &blind, Some(&good), 9.0);
        assert!(rules.iter().all(|rule| rule == "slice_auc_loss_max"), "{rules:?}");
        let reasons: Vec<String> = found.reasons().collect();
        assert!(reasons.iter().any(|it| it.starts_with("slice_auc_loss_max of psp p0: 0.")), "{reasons:?}");
    }

    #[test]
    fn nothing_passes_on_no_rows() {
        let found = judge(&BOUNDS, Candidate { name: "m", said: &[], champion: Some(&[]), row_us: 1.0 }, &[], 1);
        assert!(!found.blessed);
        assert!(found.reasons().any(|it| it.starts_with("auc_min: not defined")));
    }
}
