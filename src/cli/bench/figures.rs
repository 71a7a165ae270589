//! What was measured: each figure's runs, their median and spread, and how that stands to its goal.

use super::super::screen::Column;
use serde::Serialize;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

struct Figure {
    bench: &'static str,
    what: String,
    unit: &'static str,
    goal: Option<Goal>,
    runs: Vec<f64>,
}

/// Figures in the order in which they were first told.
#[derive(Default)]
pub(super) struct Figures(Vec<Figure>);

/// A figure as it is shown: the median of its runs, the least and the greatest.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) bench: &'static str,
    pub(super) figure: String,
    unit: &'static str,
    pub(super) value: f64,
    low: f64,
    high: f64,
    runs: usize,
    goal: Option<f64>,
    /// Absent without a goal.
    met: Option<bool>,
    /// The goal and what is missing, in words.
    note: String,
}

pub(super) const COLUMNS: &[Column] = &[
    Column::new("BENCH", "/bench"),
    Column::new("WHAT", "/figure"),
    Column::shown("MEASURED", "/value", number),
    Column::shown("LEAST", "/low", number),
    Column::shown("MOST", "/high", number),
    Column::new("UNIT", "/unit"),
    Column::new("RUNS", "/runs"),
    Column::new("NOTE", "/note"),
];

impl Figures {
    /// One run's value of a figure.
    pub(super) fn add(&mut self, bench: &'static str, figure: &str, (unit, goal): (&'static str, Option<Goal>), value: f64) {
        match self.0.iter_mut().find(|it| it.bench == bench && it.what == figure) {
            Some(it) => it.runs.push(value),
            None => self.0.push(Figure { bench, what: figure.to_owned(), unit, goal, runs: vec![value] }),
        }
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        self.0.iter().map(Figure::row).collect()
    }
}

impl Figure {
    fn row(&self) -> Row {
        let mut runs = self.runs.clone();
        runs.sort_by(f64::total_cmp);
        let value = median(&runs);
        let (goal, met, note) = match self.goal {
            None => (None, None, String::new()),
            Some(Goal::AtLeast(goal)) => (Some(goal), Some(value >= goal), against("at least", goal, goal - value)),
            Some(Goal::AtMost(goal)) => (Some(goal), Some(value <= goal), against("at most", goal, value - goal)),
        };
        Row {
            bench: self.bench,
            figure: self.what.clone(),
            unit: self.unit,
            value: rounded(value),
            low: rounded(runs.first().copied().unwrap_or(value)),
            high: rounded(runs.last().copied().unwrap_or(value)),
            runs: runs.len(),
            goal,
            met,
            note,
        }
    }
}

/// `missing`: how far the value is on the wrong side of the goal.
fn against(word: &str, goal: f64, missing: f64) -> String {
    let told = number(&Value::from(goal));
    if missing <= 0.0 {
        format!("goal {word} {told}: met")
    } else {
        format!("goal {word} {told}: missed by {:.0} %", missing / goal * 100.0)
    }
}

/// Of sorted values.
fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The value below which the share `q` of sorted values lies.
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn rounded(value: f64) -> f64 {
    let digits = if value.abs() >= 1_000.0 { 1.0 } else { 1_000.0 };
    (value * digits).round() / digits
}

/// Four digits that count; thousands apart.
fn number(value: &Value) -> String {
    let Some(value) = value.as_f64() else { return "-".to_owned() };
    if value.abs() < 1_000.0 {
        let text = format!("{value:.2}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let head = digits.len() % 3;
    let groups: Vec<&str> = [&digits[..head]]
        .into_iter()
        .filter(|group| !group.is_empty())
        .chain((head..digits.len()).step_by(3).map(|from| &digits[from..from + 3]))
        .collect();
    format!("{}{}", if value < 0.0 { "-" } else { "" }, groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_figure_is_the_median_of_its_runs_against_its_goal() {
        let mut figures = Figures::default();
        for value in [300.0, 100.0, 200.0] {
            figures.add("drain", "events", ("1/s", Some(Goal::AtLeast(400.0))), value);
        }
        figures.add("decide", "p95", ("ms", Some(Goal::AtMost(6.0))), 5.0);
        figures.add("decide", "p50", ("ms", None), 2.0);
        let rows = figures.rows();
        assert_eq!((rows[0].value, rows[0].low, rows[0].high, rows[0].met), (200.0, 100.0, 300.0, Some(false)));
        assert_eq!(rows[0].note, "goal at least 400: missed by 50 %");
        assert_eq!((rows[1].met, rows[1].note.as_str()), (Some(true), "goal at most 6: met"));
        assert_eq!((rows[2].met, rows[2].goal), (None, None));
        let json = serde_json::to_value(&rows[1]).unwrap();
        for key in ["bench", "figure", "unit", "value", "goal"] {
            assert!(!json[key].is_null(), "{key}: {json}");
        }
    }

    #[test]
    fn numbers_and_quantiles_are_read_easily() {
        assert_eq!(number(&json!(1_234_567.8)), "1,234,568");
        assert_eq!(
            (number(&json!(12.5)), number(&json!(3.0)), number(&json!(999_000))),
            ("12.5".into(), "3".into(), "999,000".into())
        );
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.95), quantile(&values, 1.0)), (50.0, 95.0, 100.0));
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(median(&[1.0, 2.0]), 1.5);
    }
}
