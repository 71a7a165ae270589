//! The figures of a report as rows of a table and of JSON.

use crate::cli::screen::{Column, text};
use serde::Serialize;
use serde_json::Value;
use smartrouter::sim::arena::{OURS, Report, Row, SCENARIOS, Verdict, policy_names};

/// Medians with 95 % intervals; what is not a median says so.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) scenario: &'static str,
    pub(super) policy: &'static str,
    pub(super) seed_count: usize,
    pub(super) payments: Option<f64>,
    payments_lost_vs_oracle: Option<f64>,
    payments_lost_vs_oracle_low: Option<f64>,
    payments_lost_vs_oracle_high: Option<f64>,
    payments_lost_vs_oracle_mean: Option<f64>,
    payments_lost_vs_oracle_mean_low: Option<f64>,
    payments_lost_vs_oracle_mean_high: Option<f64>,
    payments_to_detect: Option<f64>,
    payments_to_detect_low: Option<f64>,
    payments_to_detect_high: Option<f64>,
    seconds_to_detect: Option<f64>,
    seconds_to_detect_low: Option<f64>,
    seconds_to_detect_high: Option<f64>,
    /// Of all seeds together.
    false_alarms_per_100k: Option<f64>,
    false_alarms_per_100k_low: Option<f64>,
    false_alarms_per_100k_high: Option<f64>,
    probes: Option<f64>,
    probes_low: Option<f64>,
    probes_high: Option<f64>,
    seconds_down_after_recovery: Option<f64>,
    seconds_down_after_recovery_low: Option<f64>,
    seconds_down_after_recovery_high: Option<f64>,
    moved_without_need: Option<f64>,
    moved_without_need_low: Option<f64>,
    moved_without_need_high: Option<f64>,
    /// On the row of this router only: how it stands beside the best rival of the scenario.
    verdict: Option<&'static str>,
    best_rival: Option<&'static str>,
    lost_more_than_best_rival: Option<f64>,
    lost_more_than_best_rival_low: Option<f64>,
    lost_more_than_best_rival_high: Option<f64>,
}

impl Line {
    pub(super) fn of(row: &Row, report: &Report) -> Self {
        let ours = row.policy == OURS;
        let verdict = report.verdicts.iter().find(|verdict| ours && verdict.scenario == row.scenario);
        let difference = verdict.map(|verdict| verdict.difference).unwrap_or_default();
        Self {
            scenario: row.scenario,
            policy: row.policy,
            seed_count: row.seeds,
            payments: row.payments.value,
            payments_lost_vs_oracle: row.lost.value,
            payments_lost_vs_oracle_low: row.lost.low,
            payments_lost_vs_oracle_high: row.lost.high,
            payments_lost_vs_oracle_mean: row.lost_mean.value,
            payments_lost_vs_oracle_mean_low: row.lost_mean.low,
            payments_lost_vs_oracle_mean_high: row.lost_mean.high,
            payments_to_detect: row.payments_to_detect.value,
            payments_to_detect_low: row.payments_to_detect.low,
            payments_to_detect_high: row.payments_to_detect.high,
            seconds_to_detect: row.seconds_to_detect.value,
            seconds_to_detect_low: row.seconds_to_detect.low,
            seconds_to_detect_high: row.seconds_to_detect.high,
            false_alarms_per_100k: row.false_alarms_per_100k.value,
            false_alarms_per_100k_low: row.false_alarms_per_100k.low,
            false_alarms_per_100k_high: row.false_alarms_per_100k.high,
            probes: row.probes.value,
            probes_low: row.probes.low,
            probes_high: row.probes.high,
            seconds_down_after_recovery: row.seconds_down.value,
            seconds_down_after_recovery_low: row.seconds_down.low,
            seconds_down_after_recovery_high: row.seconds_down.high,
            moved_without_need: row.moved_share.value,
            moved_without_need_low: row.moved_share.low,
            moved_without_need_high: row.moved_share.high,
            verdict: verdict.map(|verdict| verdict.standing.as_str()),
            best_rival: verdict.map(|verdict| verdict.best_rival),
            lost_more_than_best_rival: difference.value,
            lost_more_than_best_rival_low: difference.low,
            lost_more_than_best_rival_high: difference.high,
        }
    }
}

pub(super) const COLUMNS: &[Column] = &[
    Column::shown("POLICY", "/policy", text),
    Column::shown("LOST", "/payments_lost_vs_oracle_mean", tenths),
    Column::shown("FROM", "/payments_lost_vs_oracle_mean_low", tenths),
    Column::shown("TO", "/payments_lost_vs_oracle_mean_high", tenths),
    Column::shown("MEDIAN", "/payments_lost_vs_oracle", whole),
    Column::shown("PAYMENTS TO DETECT", "/payments_to_detect", whole),
    Column::shown("SECONDS", "/seconds_to_detect", tenths),
    Column::shown("FALSE ALARMS/100K", "/false_alarms_per_100k", tenths),
    Column::shown("PROBES", "/probes", whole),
    Column::shown("SECONDS DOWN AFTER", "/seconds_down_after_recovery", whole),
    Column::shown("MOVED", "/moved_without_need", percent),
];

fn whole(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |figure| format!("{figure:.0}"))
}

fn tenths(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |figure| format!("{figure:.1}"))
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// Who is first, in one line.
pub(super) fn sentence(verdict: &Verdict) -> String {
    format!("{OURS} is {}", short(verdict))
}

/// Mean losses of every policy in every scenario, and the verdicts, as a table in Markdown.
pub(super) fn summary(report: &Report) -> String {
    let policies: Vec<&str> = policy_names().filter(|name| report.rows.iter().any(|row| row.policy == *name)).collect();
    let of = |scenario: &str, policy: &str| report.rows.iter().find(|row| row.scenario == scenario && row.policy == policy);
    let mut lines = vec![cells("scenario", policies.iter().map(|name| (*name).to_owned()), &format!("{OURS} is"))];
    lines.push(cells("---", policies.iter().map(|_| "---:".to_owned()), "---"));
    for script in SCENARIOS.iter().filter(|script| report.rows.iter().any(|row| row.scenario == script.name)) {
        let verdict = report.verdicts.iter().find(|verdict| verdict.scenario == script.name);
        let lost = |policy: &&str| of(script.name, policy).and_then(|row| row.lost_mean.value);
        let losses = policies.iter().map(|policy| lost(policy).map_or_else(|| "-".to_owned(), |lost| format!("{lost:.1}")));
        lines.push(cells(script.name, losses, &verdict.map(short).unwrap_or_default()));
    }
    lines.join("\n")
}

fn cells(first: &str, middle: impl Iterator<Item = String>, last: &str) -> String {
    let middle: Vec<String> = middle.collect();
    format!("| {first} | {} | {last} |", middle.join(" | "))
}

fn short(verdict: &Verdict) -> String {
    let of = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:+.1}"));
    let difference = verdict.difference;
    let interval = format!("{} [{}, {}]", of(difference.value), of(difference.low), of(difference.high));
    format!("{}: {interval} payments beside {}", verdict.standing.as_str(), verdict.best_rival)
}
