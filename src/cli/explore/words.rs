//! The data report as text.

use super::Told;
use crate::cli::report::percent;
use crate::cli::screen::{Column, Screen, percent as share, text};
use anyhow::Result;
use serde_json::{Map, Value, json};
use smartrouter::domain::utc_text;
use smartrouter::learn::{Cut, DiscoveryReport, Group, Sizing};

/// Declines and skip reasons are shown up to this many.
const ROWS_SHOWN_MAX: usize = 15;

const GROUPS: &[Column] = &[
    Column::new("", "/name"),
    Column::new("ATTEMPTS", "/attempts"),
    Column::new("APPROVED", "/approvals"),
    Column::shown("RATE", "/approval_rate", crate::cli::report::column::percent),
];

const DECLINES: &[Column] = &[
    Column::new("PSP", "/psp_id"),
    Column::new("STATUS", "/status"),
    Column::new("CODE", "/error_code"),
    Column::new("CATEGORY", "/error_category"),
    Column::new("KIND", "/hard_soft"),
    Column::new("ATTEMPTS", "/attempts"),
    Column::shown("OF THE PSP'S", "/share", share),
];

const LATENCY: &[Column] = &[
    Column::new("PSP", "/psp_id"),
    Column::new("ATTEMPTS", "/attempts"),
    Column::new("MEDIAN, MS", "/p50_ms"),
    Column::new("95 %", "/p95_ms"),
    Column::new("99 %", "/p99_ms"),
];

const SKIPS: &[Column] = &[Column::new("SKIPPED", "/reason"), Column::new("ATTEMPTS", "/attempts")];

const FIELDS: &[Column] = &[Column::new("FIELD", "/field"), Column::shown("TOLD", "/share", share)];

/// What every reader of the report has to know, in sentences.
pub(super) fn summary(told: &Told) -> Vec<String> {
    let report = &told.report;
    let mut lines = vec![
        format!(
            "{} attempts in {} payments from {} to {}; {} rows rejected, {} attempts without a result.",
            report.attempts,
            report.approved_payments.trials,
            utc_text(report.from),
            utc_text(report.to),
            told.rejected,
            report.no_result
        ),
        format!(
            "Approved: {} of attempts, {} of payments (95 % intervals, Wilson).",
            percent(report.approved_attempts.interval()),
            percent(report.approved_payments.interval())
        ),
    ];
    lines.push(report.trend.map_or_else(
        || "Too few whole days to speak of a trend.".to_owned(),
        |it| {
            let change = it.change_per_week;
            let verdict = if change.low > 0.0 {
                "growing"
            } else if change.high < 0.0 {
                "shrinking"
            } else {
                "no trend beyond chance"
            };
            format!(
                "{:.0} payments a day over {} whole days, changing by {:+.1} % a week [{:+.1}, {:+.1}]: {verdict}.",
                it.payments_per_day,
                it.whole_days,
                change.value * 100.0,
                change.low * 100.0,
                change.high * 100.0
            )
        },
    ));
    lines
}

/// What is the same everywhere, and what the files do not tell.
pub(super) fn silences(report: &DiscoveryReport) -> Vec<String> {
    let constant: Vec<String> = report.constant.iter().map(|(by, value)| format!("{by} {value}")).collect();
    let absent: Vec<&str> = report.fields.iter().filter(|it| it.share == 0.0).map(|it| it.field).collect();
    let mut lines = Vec::new();
    if !constant.is_empty() {
        lines.push(format!("The same in all attempts: {}.", constant.join("; ")));
    }
    if !absent.is_empty() {
        lines.push(format!("Not told by the files: {}.", absent.join(", ")));
    }
    lines
}

/// Whether an A/B test would have its samples.
pub(super) fn experiment(sizing: &Sizing) -> Vec<String> {
    let line = |split: &smartrouter::learn::SplitSize| {
        format!(
            "With {:.0} % in treatment, 7 days bring {:.0} payments to it and {:.0} to control: {} of 1,000 each. They would show a lift of {:.1} \
             points; for one of 1 point it takes {:.0} days.",
            split.treatment_share * 100.0,
            split.treatment_payments,
            split.control_payments,
            if split.has_samples { "the samples" } else { "short" },
            split.lift_seen * 100.0,
            split.days_for_a_point
        )
    };
    let opening = format!(
        "At {:.0} payments a day, {:.1} % of them approved; two-sided at 5 %, with a power of 80 %.",
        sizing.payments_per_day,
        sizing.approval_rate * 100.0
    );
    std::iter::once(opening).chain(sizing.splits.iter().map(line)).collect()
}

/// A table of a cut: a row for each value, a column for all PSPs and for each.
pub(super) fn pivot(cut: &Cut, report: &DiscoveryReport, cell: fn(&smartrouter::learn::CutRow) -> String) -> Vec<Vec<String>> {
    let columns: Vec<Option<&str>> = std::iter::once(None).chain(report.psps.iter().map(|psp| Some(psp.name.as_str()))).collect();
    let values = cut.rows.iter().filter(|row| row.psp_id.is_none()).map(|row| row.value.as_str());
    let row = |value: &str| {
        let of = |psp: Option<&str>| cut.rows.iter().find(|row| row.value == value && row.psp_id.as_deref() == psp);
        let cells = columns.iter().map(|psp| of(*psp).map_or_else(|| "–".to_owned(), cell));
        std::iter::once(value.to_owned()).chain(cells).collect()
    };
    values.map(row).collect()
}

pub(super) fn say(screen: &Screen, told: &Told) -> Result<()> {
    let report = &told.report;
    summary(told).into_iter().chain(silences(report)).try_for_each(|line| screen.say(line))?;
    groups(screen, "By PSP", &report.psps)?;
    for cut in &report.cuts {
        screen.say(format!("\nApproved by {}, of how many attempts", cut.by))?;
        let cell = |row: &smartrouter::learn::CutRow| {
            let rate = row.approval_rate.map_or_else(|| "–".to_owned(), |it| format!("{:.1} %", it.value * 100.0));
            format!("{rate} of {}", row.attempts)
        };
        let heads = ["", "all PSPs"].into_iter().chain(report.psps.iter().map(|psp| psp.name.as_str()));
        let heads: Vec<String> = heads.map(str::to_owned).collect();
        let record = |row: Vec<String>| heads.iter().cloned().zip(row.into_iter().map(Value::String)).collect::<Map<_, _>>();
        screen.records(&pivot(cut, report, cell).into_iter().map(record).collect::<Vec<_>>())?;
    }
    retries(screen, report)?;
    screen.say("\nWhat PSPs answered instead of approving")?;
    let shown = |count: usize| count.min(ROWS_SHOWN_MAX);
    screen.rows(DECLINES, &report.declines[..shown(report.declines.len())], "nothing: all was approved")?;
    screen.say("\nLatency")?;
    screen.rows(LATENCY, &report.latency, "the files tell none")?;
    screen.say("\nSkips of the routing log")?;
    screen.rows(SKIPS, &report.skips[..shown(report.skips.len())], "the files tell none")?;
    screen.say("\nAn A/B test on these payments")?;
    report.experiment.iter().flat_map(experiment).try_for_each(|line| screen.say(line))?;
    screen.say("\nHow often a field is told")?;
    screen.rows(FIELDS, &report.fields, "no fields")?;
    keys(screen, told)
}

fn groups(screen: &Screen, title: &str, groups: &[Group]) -> Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    screen.say(format!("\n{title}"))?;
    screen.rows(GROUPS, groups, "none")
}

fn retries(screen: &Screen, report: &DiscoveryReport) -> Result<()> {
    let lengths: Vec<String> =
        report.retries.lengths.iter().map(|(length, payments)| format!("{payments} with {length}")).collect();
    screen.say(format!("\nPayments by their attempts: {}", lengths.join(", ")))?;
    let retries = &report.retries;
    groups(screen, "By attempt of a payment", &retries.by_number)?;
    groups(screen, "Retries by PSP", &retries.by_psp)?;
    groups(screen, "Retries by wait", &retries.by_wait)?;
    groups(screen, "Retries by category of the decline before", &retries.by_category)?;
    groups(screen, "Retries by kind of the decline before", &retries.by_decline)
}

const KEYS: &[Column] =
    &[Column::new("KEY", "/key"), Column::new("ATTEMPTS", "/attempts"), Column::shown("SUCH AS", "/example", text)];

fn keys(screen: &Screen, told: &Told) -> Result<()> {
    if told.json_keys.is_empty() {
        return Ok(());
    }
    screen.say("\nKeys in columns of JSON that no field reads (`replay --unread FILE` keeps them)")?;
    let row = |(key, it): (&String, &super::JsonKey)| json!({"key": key, "attempts": it.attempts, "example": it.example});
    screen.rows(KEYS, &told.json_keys.iter().map(row).collect::<Vec<_>>(), "none")
}
